//! `publishers`, `offers`, `skus` and `locations`: distinct names of the images that a filter
//! accepts, with counts.

use super::parameters::{DISTINCT, LOCATIONS, Parameter, path_and_query};
use super::query::Query;
use super::token::{Token, next_link, origin};
use super::{Lookups, reply};
use crate::catalog::{Catalog, Filter, distinct};
use crate::error::{Error, Result};
use crate::image::nanoseconds;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use time::OffsetDateTime;

pub(super) async fn publishers(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, DISTINCT, |catalog, filter, now| {
        Box::new(distinct::publishers(&catalog.index, filter, now))
    })
    .await
}

pub(super) async fn offers(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, DISTINCT, |catalog, filter, now| {
        Box::new(distinct::offers(&catalog.index, filter, now))
    })
    .await
}

pub(super) async fn skus(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, DISTINCT, |catalog, filter, now| {
        Box::new(distinct::skus(&catalog.index, filter, now))
    })
    .await
}

pub(super) async fn locations(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, LOCATIONS, |catalog, filter, now| {
        Box::new(distinct::locations(catalog, filter, now).into_iter())
    })
    .await
}

/// Produces the rows of a list from the images that a filter accepts at a given time.
type Rows<T> = for<'a> fn(&'a Catalog, &Filter, OffsetDateTime) -> Box<dyn Iterator<Item = T> + 'a>;

async fn answer<T: Serialize + 'static>(
    State(lookups): State<Arc<Lookups>>,
    request: Request,
    parameters: &[Parameter],
    rows: Rows<T>,
) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    page(&lookups, uri, &headers, parameters, rows)
        .await
        .unwrap_or_else(|error| reply::error(&error))
}

/// Answers with a page of the rows that `rows` produces. The next page's position is the number of
/// rows before it.
async fn page<T: Serialize + 'static>(
    lookups: &Lookups,
    uri: Uri,
    headers: &HeaderMap,
    parameters: &[Parameter],
    rows: Rows<T>,
) -> Result<Response> {
    let web = lookups.ready().await?;
    let query = Query::parse(&uri, parameters)?;
    let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
    // Gallery and registry images count towards locations too.
    let with_row_tables = parameters == LOCATIONS;
    let snapshot = match token {
        Some(token) => web.served.of(token.run).await?,
        None if with_row_tables => web.served.with_others().await?,
        None => web.served.current().await?,
    };
    if with_row_tables {
        snapshot.catalog.others(web.app.store.as_ref()).await?;
    }
    // Later pages use the time of the first page, so that an end of life in between does not change
    // the list.
    let view = snapshot.at(token.and_then(Token::begun).unwrap_or_else(OffsetDateTime::now_utc));
    let origin = origin(headers);
    let path_and_query = format!("{origin}{}", path_and_query(&uri));
    let made = move |catalog: &Catalog, moment| {
        catalog.check_places(&query.filter, false)?;
        let from = token.map_or(0, |token| token.at as usize);
        let mut rest = rows(catalog, &query.filter, moment).skip(from);
        let page: Vec<T> = rest.by_ref().take(query.top).collect();
        let mut value = json!({ "value": page });
        if rest.next().is_some() {
            let at = u32::try_from(from + page.len()).unwrap_or(u32::MAX);
            let token = Token { run: catalog.manifest.run, at, moment: nanoseconds(moment) };
            value["nextLink"] = next_link(&uri, &origin, &token.write(&uri)).into();
        }
        let mut counted = query.filter;
        if with_row_tables {
            // The search of `locations` applies to location names, not to images.
            counted.search = None;
        }
        match catalog.unknown(&counted, moment) {
            0 => {}
            unknown => value["unknown"] = unknown.into(),
        }
        serde_json::to_vec(&value).map_err(|e| Error::bug(e.to_string()))
    };
    let body = view.answer_on_blocking_thread(&path_and_query, made).await?;
    Ok(reply::cached(&view.validators(), headers, body))
}
