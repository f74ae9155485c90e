//! `images`, `images/latest`, `images/aliases` and `images/{urn}`.

use super::parameters::{InPath, LATEST, LIST, Query, asked, in_path};
use super::token::{Token, next_link, origin};
use super::{Lookups, live, reply};
use crate::catalog::{Catalog, LatestQuestion, Page, aliases};
use crate::error::{Error, Result};
use crate::image::Urn;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use std::sync::Arc;

/// Room for a row that is in sixty locations.
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
        snapshot.catalog.prepare(web.app.store.as_ref(), &query.filter).await?;
        let origin = origin(&headers);
        let body = snapshot.answer(format!("{origin}{}", asked(&uri)), |catalog| {
            page(catalog, &query, from, |token| next_link(&uri, &origin, &token.write(&uri)))
        })?;
        Ok(reply::cached(&snapshot.validators, &headers, body))
    };
    answer.await.unwrap_or_else(|error| reply::error(&error))
}

/// A page of a list, as JSON.
fn page(
    catalog: &Catalog,
    query: &Query,
    from: u32,
    link: impl FnOnce(Token) -> String,
) -> Result<Vec<u8>> {
    let page = match &query.id {
        None => catalog.list(&query.filter, from, query.top),
        Some(id) => one(catalog, query, id)?,
    };
    let mut body = Vec::with_capacity(64 + (page.rows.len() + page.others.len()) * 1024);
    body.extend_from_slice(b"{\"value\":[");
    catalog.write_page(&page, &mut body);
    body.push(b']');
    if let Some(at) = page.next {
        let link = link(Token { run: catalog.manifest.run, at });
        let link = serde_json::to_string(&link).map_err(|e| Error::bug(e.to_string()))?;
        body.extend_from_slice(b",\"nextLink\":");
        body.extend_from_slice(link.as_bytes());
    }
    body.push(b'}');
    Ok(body)
}

/// A list of the one image of this name, if the rest of the query wants it too.
fn one(catalog: &Catalog, query: &Query, id: &str) -> Result<Page> {
    let Some(mut page) = catalog.find_id(id) else { return Ok(Page::default()) };
    if let Some(found) = page.rows.first()
        && !query.filter.accepts(&catalog.read(*found)?)
    {
        page.rows.clear();
    }
    page.others.retain(|row| catalog.accepts_other(&query.filter, *row));
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
        let snapshot = web.served.current().await?;
        let catalog = &snapshot.catalog;
        if urn.contains('/') {
            let table = catalog.others(web.app.store.as_ref()).await?;
            let (locations, until) = (&query.filter.locations, query.not_deprecated_before);
            let row = table.latest(urn, locations, until)?;
            let body = serde_json::to_vec(&row).map_err(|e| Error::bug(e.to_string()))?;
            return Ok(reply::cached(&snapshot.validators, &headers, body.into()));
        }
        let question =
            LatestQuestion::parse(urn, &query.filter.locations, query.not_deprecated_before)
                .map_err(|error| error.with_target("urn"))?;
        let body = snapshot.answer(asked(&uri), |catalog| {
            let row = question.answer(&catalog.index)?;
            let mut body = Vec::with_capacity(LONG_ROW);
            catalog.write_json(catalog.at(row), &mut body);
            Ok(body)
        })?;
        Ok(reply::cached(&snapshot.validators, &headers, body))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn aliases(State(lookups): State<Arc<Lookups>>, request: Request) -> Response {
    let (Parts { uri, headers, .. }, _) = request.into_parts();
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let snapshot = web.served.current().await?;
        let body = snapshot.answer(asked(&uri), |catalog| {
            serde_json::to_vec(&aliases::document(catalog)?).map_err(|e| Error::bug(e.to_string()))
        })?;
        Ok(reply::cached(&snapshot.validators, &headers, body))
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
        Query::parse(&uri, &[])?;
        let id = in_path(id)?;
        let snapshot = web.served.current().await?;
        // A URN, or the id of an image of a gallery.
        if id.contains('/') {
            snapshot.catalog.others(web.app.store.as_ref()).await?;
        } else {
            id.parse::<Urn>()?;
        }
        let found = snapshot.catalog.find_id(&id);
        let found = found.ok_or_else(|| Error::not_found(format!("{id} is not in the catalog")))?;
        let mut body = Vec::with_capacity(LONG_ROW);
        snapshot.catalog.write_page(&found, &mut body);
        Ok(reply::cached(&snapshot.validators, &headers, body.into()))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
