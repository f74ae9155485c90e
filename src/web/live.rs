//! `images?live=true`: images as Azure lists them now, in pages.
//!
//! The first page queries Azure. The whole answer is cached for [`KEPT_FOR`], so that later pages
//! can be served from it. If the answer is no longer cached, or the request reaches another
//! instance, Azure is queried again and the page continues after the last image of the previous
//! page. Because images are in table order, an image that existed throughout is neither omitted nor
//! repeated.

use super::query::Query;
use super::token::{LiveToken, next_link, origin};
use super::{Web, reply};
use crate::catalog::live;
use crate::error::{Error, ErrorKind, Result};
use crate::image::marketplace::MarketplaceImage;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use std::cmp::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use ulid::Ulid;

/// Concurrent live lookups per process. Each may consume a minute's worth of the rate limit.
const CONCURRENCY: usize = 2;
/// Timeout of a live lookup. The platform closes a caller's connection after 230 s.
const WITHIN: Duration = Duration::from_secs(200);
/// Limits of the cache of Azure's answers: number of answers, age, and rows of all answers
/// together.
const KEPT: usize = 4;
const KEPT_FOR: Duration = Duration::from_mins(5);
const KEPT_ROWS: usize = 20_000;

/// Azure's answer to one query, in table order.
struct LiveAnswer {
    name: Ulid,
    at: Instant,
    rows: Vec<MarketplaceImage>,
}

/// The live lookups of a process.
pub(super) struct Live {
    turns: Semaphore,
    /// Cached answers, the newest last.
    kept: Mutex<Vec<Arc<LiveAnswer>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { turns: Semaphore::new(CONCURRENCY), kept: Mutex::default() }
    }
}

impl Live {
    fn kept(&self) -> MutexGuard<'_, Vec<Arc<LiveAnswer>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|answer| answer.at.elapsed() < KEPT_FOR);
        kept
    }

    fn find(&self, name: Ulid) -> Option<Arc<LiveAnswer>> {
        self.kept().iter().find(|answer| answer.name == name).cloned()
    }

    /// Caches an answer that has further pages. An answer with more than [`KEPT_ROWS`] rows is not
    /// cached.
    fn keep(&self, answer: &Arc<LiveAnswer>) {
        let mut kept = self.kept();
        kept.retain(|other| other.name != answer.name);
        kept.push(Arc::clone(answer));
        let is_much = |kept: &[Arc<LiveAnswer>]| {
            let rows: usize = kept.iter().map(|answer| answer.rows.len()).sum();
            kept.len() > KEPT || rows > KEPT_ROWS
        };
        while is_much(kept.as_slice()) {
            kept.remove(0);
        }
    }

    fn forget(&self, name: Ulid) {
        self.kept().retain(|answer| answer.name != name);
    }

    async fn ask(&self, web: &Web, query: &Query) -> Result<Arc<LiveAnswer>> {
        let busy = || {
            Error::new(ErrorKind::Throttled, "another live lookup is in progress")
                .with_retry_after(Some(Duration::from_secs(10)))
        };
        let _turn = self.turns.try_acquire().map_err(|_| busy())?;
        let now = OffsetDateTime::now_utc();
        let live_images =
            live::images(&web.app.sources, &web.app.settings.request, &query.filter, now);
        let late = |_| {
            Error::transient(
                "the lookup takes too long for a request: specify a location or an offer",
            )
        };
        let mut rows = tokio::time::timeout(WITHIN, live_images).await.map_err(late)??;
        if let Some(id) = &query.id {
            rows.retain(|row| row.id.eq_ignore_ascii_case(id));
        }
        rows.sort_by(MarketplaceImage::compare);
        Ok(Arc::new(LiveAnswer { name: Ulid::generate(), at: Instant::now(), rows }))
    }
}

pub(super) async fn list(
    web: &Web,
    query: &Query,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response> {
    let token = query.skip.as_ref().map(|text| LiveToken::read(text, uri)).transpose()?;
    let answer = match token.as_ref().and_then(|token| web.live.find(token.list)) {
        Some(answer) => answer,
        None => web.live.ask(web, query).await?,
    };
    let from = token.map_or(0, |token| {
        let was_given = |row: &MarketplaceImage| row.compare_id(&token.id) != Ordering::Greater;
        answer.rows.partition_point(was_given)
    });
    let rest = answer.rows.get(from..).unwrap_or_default();
    let page = rest.get(..query.top).unwrap_or(rest);
    let mut value = json!({ "value": page });
    match page.last() {
        Some(last) if page.len() < rest.len() => {
            let token = LiveToken { list: answer.name, id: last.id.clone() };
            value["nextLink"] = next_link(uri, &origin(headers), &token.write(uri)).into();
            web.live.keep(&answer);
        }
        _ => web.live.forget(answer.name),
    }
    Ok(reply::json(StatusCode::OK, &value))
}
