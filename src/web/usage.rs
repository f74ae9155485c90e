//! `images/usage`: machines and scale sets, and the state of their images.
//!
//! Azure is asked for the machines at most once per [`FRESH`]. All pages of a list come from the
//! same answer. When that is no longer kept, the list must be begun again.

use super::parameters::USAGE;
use super::query::Query;
use super::snapshot_cache::Snapshot;
use super::token::{Token, next_link, origin};
use super::{Lookups, Web, reply};
use crate::catalog::short_name;
use crate::catalog::usage::{Finding, Usage, machines, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::App;
use crate::work::RunId;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use futures::future::{BoxFuture, WeakShared};
use futures::{FutureExt, TryFutureExt};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;
use ulid::Ulid;

/// How long an answer of Azure is reused.
const FRESH: Duration = Duration::from_mins(1);
/// Timeout of the query. The platform closes a caller's connection after 230 s.
const WITHIN: Duration = Duration::from_secs(200);
/// Lists kept so that their later pages can be served.
const KEPT: usize = 3;

/// The machines at one time, joined with one snapshot.
pub(super) struct UsageList {
    name: RunId,
    at: Instant,
    run: RunId,
    rows: Vec<Usage>,
}

/// The kept lists, the newest last, and the query under way. Concurrent callers share that query,
/// which is cancelled when none of them waits for it any more.
#[derive(Default)]
pub(super) struct UsageLists(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    lists: Vec<Arc<UsageList>>,
    under_way: Option<(RunId, WeakShared<Asking>)>,
}

type Asking = BoxFuture<'static, Result<Arc<UsageList>, Arc<Error>>>;

impl UsageLists {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: RunId) -> Option<Arc<UsageList>> {
        self.lists().lists.iter().find(|list| list.name == name).cloned()
    }

    fn keep(&self, list: &Arc<UsageList>) {
        let mut kept = self.lists();
        kept.lists.push(Arc::clone(list));
        if kept.lists.len() > KEPT {
            kept.lists.remove(0);
        }
    }
}

async fn joined(web: &Web, token: Option<Token>) -> Result<Arc<UsageList>> {
    if let Some(token) = token {
        let gone = || {
            let text = "the list is no longer kept, because the machines were listed again: start \
                        the list again";
            Error::new(ErrorKind::Gone, text)
        };
        return web.usage.find(token.run).ok_or_else(gone);
    }
    let snapshot = web.served.current().await?;
    let run = snapshot.catalog.manifest.run;
    let asking = {
        let mut kept = web.usage.lists();
        let is_fresh = |list: &&Arc<UsageList>| list.run == run && list.at.elapsed() < FRESH;
        if let Some(list) = kept.lists.last().filter(is_fresh) {
            return Ok(Arc::clone(list));
        }
        let same = kept.under_way.as_ref().filter(|(of, _)| *of == run);
        let same = same.and_then(|(_, asking)| asking.upgrade());
        if let Some(asking) = same.filter(|asking| asking.peek().is_none()) {
            asking
        } else {
            let (app, usage) = (Arc::clone(&web.app), Arc::clone(&web.usage));
            let asking = ask(app, usage, snapshot).map_err(Arc::new).boxed().shared();
            kept.under_way = asking.downgrade().map(|asking| (run, asking));
            asking
        }
    };
    asking.await.map_err(|error| error.again())
}

/// Asks Azure for the machines, joins them with the snapshot, and keeps the list.
async fn ask(
    app: Arc<App>,
    kept: Arc<UsageLists>,
    snapshot: Arc<Snapshot>,
) -> Result<Arc<UsageList>> {
    let lookup = async {
        let machines = machines(&app.sources, &app.settings.request).await?;
        let now = OffsetDateTime::now_utc();
        usage(&snapshot.catalog, app.store.as_ref(), machines, now).await
    };
    let late = |_| {
        let text = "listing the machines takes too long for a request: limit the subscriptions \
                    with AZIMG_SUBSCRIPTIONS, or use 'azimg images usage'";
        Error::transient(text)
    };
    let mut rows = tokio::time::timeout(WITHIN, lookup).await.map_err(late)??;
    // The worst first; those of one finding stay in the order of their ids.
    rows.sort_by_key(|row| row.finding);
    let name = RunId(Ulid::generate());
    let run = snapshot.catalog.manifest.run;
    let list = Arc::new(UsageList { name, at: Instant::now(), run, rows });
    kept.keep(&list);
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
        let places: Vec<String> =
            query.filter.locations.iter().map(|name| short_name(name)).collect();
        let list = joined(web, token).await?;
        let is_unknown =
            |location: &&String| list.rows.iter().all(|row| row.location != **location);
        let unknown: Vec<String> = places.iter().filter(is_unknown).cloned().collect();
        if !unknown.is_empty() {
            web.served.with_others().await?.catalog.check_locations(&unknown, true)?;
        }
        let fits = |row: &&Usage| {
            let subscription = query.filter.subscription.as_ref();
            let ends = |before| row.ends_at.is_some_and(|ends_at| ends_at < before);
            (wanted.is_empty() || wanted.contains(&row.finding))
                && query.ends_before.is_none_or(ends)
                && (places.is_empty() || places.contains(&row.location))
                && subscription.is_none_or(|id| query.filter.fits(id, &row.subscription_id))
        };
        let from = token.map_or(0, |token| token.at as usize);
        let mut rows = list.rows.iter().enumerate().skip(from).filter(|(_, row)| fits(row));
        let page: Vec<&Usage> = rows.by_ref().take(query.top).map(|(_, row)| row).collect();
        let mut value = json!({ "value": page });
        if let Some((at, _)) = rows.next() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let token = Token { run: list.name, at, moment: 0 };
            value["nextLink"] = next_link(&uri, &origin(&headers), &token.write(&uri)).into();
        }
        Ok(reply::json(StatusCode::OK, &value))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}
