//! `images`, `images/latest`, `images/aliases` and `images/{urn}`.

use super::parameters::{LATEST, LIST, path_and_query};
use super::query::{InPath, Query, in_path};
use super::token::{Token, next_link, origin};
use super::{Lookups, live, named, reply, snippets};
use crate::catalog::{Catalog, LatestQuestion, Page, aliases, is_of_others};
use crate::error::{Error, ErrorKind, Result};
use crate::image::nanoseconds;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use std::sync::Arc;
use time::OffsetDateTime;

/// Initial capacity for one row, in bytes: enough for an image in sixty locations.
const LONG_ROW: usize = 2 << 10;

pub(super) async fn list(State(lookups): State<Arc<Lookups>>, request: Request) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    let answer = async {
        let web = lookups.ready().await?;
        let query = Query::parse(&uri, LIST)?;
        if query.live {
            return live::list(web, &query, &uri, &headers).await;
        }
        let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
        let (snapshot, from) = match token {
            Some(token) => (web.served.of(token.run).await?, token.at),
            None => (web.served.current().await?, 0),
        };
        let snapshot = match token {
            _ if !snapshot.catalog.needs_row_tables(&query.filter) => snapshot,
            None => web.served.with_others().await?,
            Some(_) => {
                snapshot.catalog.others(web.app.store.as_ref()).await?;
                snapshot
            }
        };
        // Later pages use the time of the first page, so that an end of life in between does not
        // change the list.
        let begun = token.and_then(Token::begun);
        let view = snapshot.at(begun.unwrap_or_else(OffsetDateTime::now_utc));
        let origin = origin(&headers);
        let path_and_query = format!("{origin}{}", path_and_query(&uri));
        let made = move |catalog: &Catalog, moment| {
            let link = |token: Token| next_link(&uri, &origin, &token.write(&uri));
            page((catalog, moment), &query, from, link)
        };
        let body = view.answer_on_blocking_thread(&path_and_query, made).await?;
        Ok(reply::cached(&view.validators(), &headers, body))
    };
    answer.await.unwrap_or_else(|error| reply::error(&error))
}

/// A page of a list as JSON.
fn page(
    (catalog, moment): (&Catalog, OffsetDateTime),
    query: &Query,
    from: u32,
    link: impl FnOnce(Token) -> String,
) -> Result<Vec<u8>> {
    let others = catalog.needs_row_tables(&query.filter);
    catalog.check_places(&query.filter, others)?;
    let page = match &query.id {
        None => catalog.list(&query.filter, from, query.top, moment),
        Some(id) => one(catalog, query, id, moment)?,
    };
    let mut body = Vec::with_capacity(64 + (page.rows.len() + page.others.len()) * 1024);
    body.extend_from_slice(b"{\"value\":[");
    catalog.write_page(&page, moment, &mut body);
    body.push(b']');
    if let Some(at) = page.next {
        let token = Token { run: catalog.manifest.run, at, moment: nanoseconds(moment) };
        let link = serde_json::to_string(&link(token)).map_err(|e| Error::bug(e.to_string()))?;
        body.extend_from_slice(b",\"nextLink\":");
        body.extend_from_slice(link.as_bytes());
    }
    let unknown = if query.id.is_none() { catalog.unknown(&query.filter, moment) } else { 0 };
    if unknown > 0 {
        body.extend_from_slice(format!(",\"unknown\":{unknown}").as_bytes());
    }
    body.push(b'}');
    Ok(body)
}

/// Returns a page with the image named `id`, or an empty page if the rest of the query excludes it.
fn one(catalog: &Catalog, query: &Query, id: &str, moment: OffsetDateTime) -> Result<Page> {
    let mut page = match catalog.named(id, moment) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Page::default()),
        page => page?,
    };
    if let Some(found) = page.rows.first()
        && !query.filter.accepts(&catalog.read(*found, moment)?)
    {
        page.rows.clear();
    }
    page.others.retain(|row| catalog.accepts_other(&query.filter, *row, moment));
    Ok(page)
}

pub(super) async fn latest(State(lookups): State<Arc<Lookups>>, request: Request) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    let answer = async {
        let web = lookups.ready().await?;
        let query = Query::parse(&uri, LATEST)?;
        let urn = query
            .urn
            .as_deref()
            .ok_or_else(|| Error::invalid("parameter 'urn' is missing").with_target("urn"))?;
        let (until, now) = (query.not_deprecated_before, OffsetDateTime::now_utc());
        if is_of_others(urn) {
            let view = web.served.with_others().await?.at(now);
            let catalog = &view.snapshot.catalog;
            catalog.check_places(&query.filter, true)?;
            let found = catalog.newest(urn, &query.filter, until, view.moment)?;
            let mut body = Vec::with_capacity(LONG_ROW);
            catalog.write_page(&found, view.moment, &mut body);
            return Ok(reply::cached(&view.validators(), &headers, body.into()));
        }
        LatestQuestion::parse(urn, &query.filter.locations, until)
            .map_err(|error| error.with_target("urn"))?;
        let view = web.served.current().await?.at(now);
        let body = view.answer(&path_and_query(&uri), |catalog, moment| {
            catalog.check_places(&query.filter, false)?;
            let found = catalog.newest(urn, &query.filter, until, moment)?;
            let mut body = Vec::with_capacity(LONG_ROW);
            catalog.write_page(&found, moment, &mut body);
            Ok(body)
        })?;
        Ok(reply::cached(&view.validators(), &headers, body))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn aliases(State(lookups): State<Arc<Lookups>>, request: Request) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let view = web.served.current().await?.at(OffsetDateTime::now_utc());
        let made = |catalog: &Catalog, moment| {
            let document = aliases::document(catalog, moment)?;
            serde_json::to_vec(&document).map_err(|e| Error::bug(e.to_string()))
        };
        let body = view.answer_on_blocking_thread(&path_and_query(&uri), made).await?;
        Ok(reply::cached(&view.validators(), &headers, body))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn show(
    State(lookups): State<Arc<Lookups>>,
    id: InPath,
    request: Request,
) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    let answer = async {
        let web = lookups.ready().await?;
        let id = in_path(id)?;
        if let Some(id) = snippets::image_of(&id) {
            return snippets::show(web, id, &uri, &headers).await;
        }
        Query::parse(&uri, &[])?;
        let (view, found) = named::find(web, &id).await?;
        let mut body = Vec::with_capacity(LONG_ROW);
        view.snapshot.catalog.write_page(&found, view.moment, &mut body);
        Ok(reply::cached(&view.validators(), &headers, body.into()))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
