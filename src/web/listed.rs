//! Lists from a snapshot that are answered page by page.

use super::parameters::{Parameter, path_and_query};
use super::query::Query;
use super::token::{Token, next_link, origin};
use super::{Lookups, reply};
use crate::catalog::Catalog;
use crate::catalog::distinct::Facets;
use crate::error::{Error, Result};
use crate::image::nanoseconds;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use time::OffsetDateTime;

/// A page of a list, and what is returned with it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<T> {
    value: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) images: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) facets: Option<Facets>,
    /// Whether there are rows after the page.
    #[serde(skip)]
    has_more: bool,
}

impl<T> Answer<T> {
    /// The page that begins after `from` rows.
    pub(super) fn of(mut rows: impl Iterator<Item = T>, from: usize, top: usize) -> Self {
        let mut value = Vec::new();
        value.extend(rows.by_ref().skip(from).take(top));
        let has_more = rows.next().is_some();
        Self {
            value,
            has_more,
            next_link: None,
            unknown: None,
            total: None,
            images: None,
            facets: None,
        }
    }
}

/// What is read for a list besides the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Nothing; or the gallery and registry tables, if facets are asked for.
    Index,
    /// The gallery and registry tables.
    Tables,
    /// These tables, and how each location was listed.
    Places,
}

/// Produces a page, which begins after a number of rows, from a catalog at a given time.
pub(super) type Make<T> = fn(&Catalog, &Query, OffsetDateTime, usize) -> Result<Answer<T>>;

/// Answers a lookup of a list of `parameters` with a page that `make` produces.
pub(super) async fn answer<T: Serialize + 'static>(
    State(lookups): State<Arc<Lookups>>,
    request: Request,
    (parameters, reads): (&[Parameter], Reads),
    make: Make<T>,
) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    page(&lookups, uri, &headers, (parameters, reads), make)
        .await
        .unwrap_or_else(|error| reply::error(&error))
}

/// Answers with a page that `make` produces. The next page's position is the number of rows before
/// it.
async fn page<T: Serialize + 'static>(
    lookups: &Lookups,
    uri: Uri,
    headers: &HeaderMap,
    (parameters, reads): (&[Parameter], Reads),
    make: Make<T>,
) -> Result<Response> {
    let web = lookups.ready().await?;
    let query = Query::parse(&uri, parameters)?;
    let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
    let is_of_locations = reads == Reads::Places;
    let with_row_tables = reads != Reads::Index || query.skus.facets;
    let snapshot = match token {
        Some(token) => web.served.of(token.run).await?,
        None if with_row_tables => web.served.with_others().await?,
        None => web.served.current().await?,
    };
    if with_row_tables {
        snapshot.catalog.others(web.app.store.as_ref()).await?;
    }
    if is_of_locations {
        snapshot.catalog.listed(web.app.store.as_ref()).await?;
    }
    // Later pages use the time of the first page, so that an end of life in between does not change
    // the list.
    let view = snapshot.at(token.and_then(Token::begun).unwrap_or_else(OffsetDateTime::now_utc));
    let origin = origin(headers);
    let path_and_query = format!("{origin}{}", path_and_query(&uri));
    let written = move |catalog: &Catalog, moment| {
        catalog.check_places(&query.filter, false)?;
        let from = token.map_or(0, |token| token.at as usize);
        let mut answer = make(catalog, &query, moment, from)?;
        if answer.has_more {
            let at = u32::try_from(from + answer.value.len()).unwrap_or(u32::MAX);
            let token = Token { run: catalog.manifest.run, at, moment: nanoseconds(moment) };
            answer.next_link = Some(next_link(&uri, &origin, &token.write(&uri)));
        }
        let mut counted = query.filter;
        if is_of_locations {
            // The search of `locations` applies to location names, not to images.
            counted.search = None;
        }
        let unknown = catalog.unknown(&counted, moment);
        answer.unknown = (unknown > 0).then_some(unknown);
        serde_json::to_vec(&answer).map_err(|e| Error::bug(e.to_string()))
    };
    let body = view.answer_on_blocking_thread(&path_and_query, written).await?;
    Ok(reply::cached(&view.validators(), headers, body))
}
