//! `images/usage`: machines and scale sets, and how the images that they stand on stand.
//!
//! Azure is asked which machines there are, at most once in a while; a list that was begun is ended in
//! the same answer of Azure's, or begun anew.

use super::parameters::{Query, USAGE};
use super::token::{Token, next_link, origin};
use super::{Lookups, Web, reply};
use crate::catalog::usage::{Finding, Usage, machines, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::work::RunId;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// What Azure answered counts for so long.
const FRESH: Duration = Duration::from_mins(1);
/// Lists that are kept so that those who began them can end them.
const KEPT: usize = 3;

/// The machines as they were at one moment, joined with one snapshot.
pub(super) struct Joined {
    name: RunId,
    at: Instant,
    run: RunId,
    rows: Vec<Usage>,
}

/// The lists that are kept, the newest last.
pub(super) type Kept = tokio::sync::Mutex<Vec<Arc<Joined>>>;

async fn joined(web: &Web, token: Option<Token>) -> Result<Arc<Joined>> {
    let snapshot = web.served.current().await?;
    let run = snapshot.catalog.manifest.run;
    let mut kept = web.usage.lock().await;
    if let Some(token) = token {
        let gone = || {
            let text =
                "the list is no longer kept, since the machines were listed anew: begin it anew";
            Error::new(ErrorKind::Gone, text)
        };
        return kept.iter().find(|list| list.name == token.run).cloned().ok_or_else(gone);
    }
    if let Some(list) = kept.last().filter(|list| list.run == run && list.at.elapsed() < FRESH) {
        return Ok(Arc::clone(list));
    }
    let machines = machines(&web.app.sources, &web.app.settings.request).await?;
    let rows = usage(&snapshot.catalog, web.app.store.as_ref(), &machines).await?;
    let name = RunId(Ulid::generate());
    let list = Arc::new(Joined { name, at: Instant::now(), run, rows });
    kept.push(Arc::clone(&list));
    if kept.len() > KEPT {
        kept.remove(0);
    }
    Ok(list)
}

pub(super) async fn list(
    State(lookups): State<Arc<Lookups>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        let query = Query::parse(&uri, USAGE)?;
        let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
        let wanted = query.findings.iter().map(|f| f.parse()).collect::<Result<Vec<Finding>>>()?;
        let list = joined(web, token).await?;
        let fits = |row: &&Usage| {
            let subscription = query.filter.subscription.as_ref();
            (wanted.is_empty() || wanted.contains(&row.finding))
                && subscription.is_none_or(|id| query.filter.fits(id, &row.subscription_id))
        };
        let from = token.map_or(0, |token| token.at as usize);
        let mut rows = list.rows.iter().enumerate().skip(from).filter(|(_, row)| fits(row));
        let page: Vec<&Usage> = rows.by_ref().take(query.top).map(|(_, row)| row).collect();
        let mut value = json!({ "value": page });
        if let Some((at, _)) = rows.next() {
            let token = Token { run: list.name, at: u32::try_from(at).unwrap_or(u32::MAX) };
            value["nextLink"] = next_link(&uri, &origin(&headers), &token.write(&uri)).into();
        }
        Ok(reply::json(StatusCode::OK, &value))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
