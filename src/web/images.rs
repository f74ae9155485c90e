//! `images`, `images/latest` and `images/{urn}`.

use super::{Web, reply};
use crate::catalog::{Filter, LatestQuestion, live};
use crate::error::{Error, Result};
use crate::image::Urn;
use crate::image::marketplace::MarketplaceImage;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A page has so many images unless told otherwise, and never more than [`LARGEST_PAGE`].
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// The parameters of a lookup, each checked by name.
struct Query {
    filter: Filter,
    id: Option<String>,
    urn: Option<String>,
    top: usize,
    skip: Option<(String, usize)>,
    live: bool,
    not_deprecated_before: Option<OffsetDateTime>,
}

impl Query {
    fn parse(text: Option<&str>, allowed: &[&str]) -> Result<Self> {
        let mut query = Self {
            filter: Filter::default(),
            id: None,
            urn: None,
            top: PAGE,
            skip: None,
            live: false,
            not_deprecated_before: None,
        };
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            let bad = |why: &str| Error::invalid(format!("parameter '{name}': {why}"));
            if !allowed.contains(&name.as_ref()) {
                return Err(Error::invalid(format!(
                    "there is no parameter '{name}' here; there are {}",
                    allowed.join(", ")
                )));
            }
            let filter = &mut query.filter;
            match name.as_ref() {
                "publisher" => filter.publisher = Some(value),
                "offer" => filter.offer = Some(value),
                "sku" => filter.sku = Some(value),
                "version" => filter.version = Some(value),
                "location" => filter.locations.push(value),
                "architecture" => filter.architecture = Some(value),
                "os" => filter.os = Some(value),
                "status" => filter.status = Some(value),
                "kind" => filter.kind = Some(value),
                "search" => filter.search = Some(value),
                "exact" => filter.exact = flag(&value).ok_or_else(|| bad("true or false"))?,
                "live" => query.live = flag(&value).ok_or_else(|| bad("true or false"))?,
                "id" => query.id = Some(value),
                "urn" => query.urn = Some(value),
                "top" => {
                    query.top = value
                        .parse()
                        .ok()
                        .filter(|top| (1..=LARGEST_PAGE).contains(top))
                        .ok_or_else(|| bad("a number from 1 to 1000"))?;
                }
                "skipToken" => {
                    let token = value
                        .split_once('.')
                        .and_then(|(run, at)| Some((run.to_owned(), at.parse().ok()?)));
                    query.skip = Some(token.ok_or_else(|| bad("no token of a nextLink"))?);
                }
                "notDeprecatedBefore" => {
                    query.not_deprecated_before =
                        Some(date(&value).ok_or_else(|| bad("a date, such as 2027-01-01"))?);
                }
                _ => return Err(bad("not served")),
            }
        }
        Ok(query)
    }
}

fn flag(value: &str) -> Option<bool> {
    value.parse().ok()
}

/// A date, with or without a time.
pub(crate) fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339))
        .ok()
}

const LIST: &[&str] = &[
    "publisher",
    "offer",
    "sku",
    "version",
    "location",
    "architecture",
    "os",
    "status",
    "kind",
    "search",
    "exact",
    "id",
    "top",
    "skipToken",
    "live",
];

pub(super) async fn list(
    State(web): State<Arc<Web>>,
    RawQuery(text): RawQuery,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let query = Query::parse(text.as_deref(), LIST)?;
        if query.live {
            return live_list(&web, &query).await;
        }
        let catalog = web.catalog().await?;
        let manifest = &catalog.manifest;
        let run = manifest.run.to_string();
        let from = match &query.skip {
            Some((of, at)) if *of == run => *at,
            Some(_) => {
                return Err(Error::invalid(
                    "parameter 'skipToken': a newer snapshot is served now; begin the list anew",
                ));
            }
            None => 0,
        };
        let wanted = |row: &&MarketplaceImage| {
            query.filter.accepts(row)
                && query.id.as_ref().is_none_or(|id| row.id.eq_ignore_ascii_case(id))
        };
        let mut rows = catalog.rows.iter().enumerate().skip(from).filter(|(_, row)| wanted(row));
        let page: Vec<&MarketplaceImage> =
            rows.by_ref().take(query.top).map(|(_, row)| row).collect();
        let mut value = json!({ "value": page });
        if let Some((next, _)) = rows.next() {
            let token = format!("{run}.{next}");
            value["nextLink"] = next_link(&uri, &headers, &token).into();
        }
        Ok(reply::cached(manifest.run, manifest.published_at, &headers, &value))
    };
    answer.await.unwrap_or_else(|error| reply::error(&error))
}

async fn live_list(web: &Web, query: &Query) -> Result<Response> {
    let now = OffsetDateTime::now_utc();
    let rows =
        live::images(&web.app.sources, &web.app.settings.request, &query.filter, now).await?;
    let rows: Vec<_> = rows.into_iter().take(query.top).collect();
    Ok(reply::json(StatusCode::OK, &json!({ "value": rows })))
}

/// The address of the next page as the caller sees this host.
fn next_link(uri: &Uri, headers: &HeaderMap, token: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("x-forwarded-host").or_else(|| text(HOST.as_str())).unwrap_or("localhost");
    let local = host.starts_with("127.0.0.1") || host.starts_with("localhost");
    let scheme = text("x-forwarded-proto").unwrap_or(if local { "http" } else { "https" });
    let kept = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name != "skipToken");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("skipToken", token)
        .finish();
    format!("{scheme}://{host}{}?{query}", uri.path())
}

pub(super) async fn latest(
    State(web): State<Arc<Web>>,
    RawQuery(text): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let query = Query::parse(text.as_deref(), &["urn", "location", "notDeprecatedBefore"])?;
        let urn =
            query.urn.as_deref().ok_or_else(|| Error::invalid("parameter 'urn' is missing"))?;
        let question =
            LatestQuestion::parse(urn, &query.filter.locations, query.not_deprecated_before)?;
        let catalog = web.catalog().await?;
        let row = question.answer(&catalog.rows)?;
        let manifest = &catalog.manifest;
        Ok(reply::cached(manifest.run, manifest.published_at, &headers, row))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn show(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let urn: Urn = id.parse()?;
        let catalog = web.catalog().await?;
        let id = urn.to_string();
        let row = catalog.rows.iter().find(|row| row.id.eq_ignore_ascii_case(&id));
        let row = row.ok_or_else(|| Error::not_found(format!("{id} is not in the catalog")))?;
        let manifest = &catalog.manifest;
        let value: Value = json!(row);
        Ok(reply::cached(manifest.run, manifest.published_at, &headers, &value))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
