//! `changes`: what changed between a snapshot and the previous one.

use super::parameters::CHANGES;
use super::query::Query;
use super::token::{Token, next_link, origin};
use super::{Lookups, reply};
use crate::catalog::feed::ChangeFilter;
use crate::error::Error;
use crate::work::RunId;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

pub(super) async fn list(
    State(lookups): State<Arc<Lookups>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        let query = Query::parse(&uri, CHANGES)?;
        let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
        let named = query.run.as_ref().map(|run| run.parse::<RunId>()).transpose();
        let named = named.map_err(|error| error.with_target("run"))?;
        let run = token.map(|token| token.run).or(named);
        let changes = query
            .changes
            .iter()
            .map(|name| ChangeFilter::change(name))
            .collect::<Result<_, _>>()?;
        let wanted = ChangeFilter { search: query.filter.search, changes };
        let from = token.map_or(0, |token| token.at);
        let feed = web.feeds.changes(web.app.store.as_ref(), run, &wanted, from, query.top).await?;
        let mut value = json!({ "value": feed.rows });
        if let Some(at) = feed.next {
            let token = Token { run: feed.manifest.run, at, moment: 0 };
            value["nextLink"] = next_link(&uri, &origin(&headers), &token.write(&uri)).into();
        }
        let body = serde_json::to_vec(&value).map_err(|e| Error::bug(e.to_string()))?;
        Ok(reply::cached(&reply::Validators::new(&feed.manifest, None), &headers, body.into()))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
