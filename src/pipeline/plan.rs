//! The beginning of a run: what is to be done is written down before the first message is sent.

use super::survey::survey;
use super::{failed, is_for_good, read_plan, snapshot, to_json, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::span::Span;
use crate::store::{Key, Store};
use crate::work::{LARGEST_MESSAGE, Plan, Request, RunId, WORK_VERSION, WorkItem};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// An item that is put off or goes on says a little more than it said at first.
const ROOM: usize = 2 << 10;

/// Runs that are looked at for one that is under way.
const LOOKS_AT: usize = 20;
/// A run of which nothing has ended for so long was planned by somebody who died before it was sent.
const BEGINS_WITHIN: time::Duration = time::Duration::minutes(2);

/// A run that is under way.
pub struct ActiveRun {
    /// Its plan.
    pub plan: Plan,
    /// Whether its messages seem never to have been sent.
    pub is_unsent: bool,
}

/// The plan of a run without a snapshot; none for one that has one, or whose plan can never be read.
async fn unpublished(store: &dyn Store, run: RunId) -> Result<Option<Plan>> {
    let plan = match snapshot::manifest(store, run).await {
        Ok(None) => read_plan(store, run).await.map(Some),
        Ok(Some(_)) => Ok(None),
        Err(error) => Err(error),
    };
    match plan {
        Err(error) if is_for_good(&error) => Ok(None),
        plan => plan,
    }
}

/// The newest run under way that was asked for the same as `request`, seen from `now`, if there is one.
/// `invocation` is the host's name for what would start another.
pub async fn under_way(
    store: &dyn Store,
    request: &Request,
    now: OffsetDateTime,
    invocation: &str,
) -> Result<Option<ActiveRun>> {
    let mut runs: Vec<RunId> =
        store.list_level("runs/").await?.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    for run in runs.into_iter().take(LOOKS_AT) {
        // What is damaged or of another version is no run that could answer for another; what cannot be read just now
        // may be one.
        let Some(plan) = unpublished(store, run).await? else { continue };
        if !plan.request.is_like(request) || now >= plan.deadline_at {
            continue;
        }
        if failed::of(store, run).await?.is_some() {
            continue;
        }
        let is_old = now - plan.started_at >= BEGINS_WITHIN;
        let is_again = run == RunId::after(None, run.planned_at(), invocation);
        let is_unsent = (is_old || is_again) && survey(store, &plan).await?.ended.is_empty();
        return Ok(Some(ActiveRun { plan, is_unsent }));
    }
    Ok(None)
}

/// Plans a run that starts at `now` and gives up what is missing `deadline` later; `invocation` is
/// the host's name for what starts it.
pub async fn plan(
    store: &dyn Store,
    sources: &[Arc<dyn Source>],
    request: Request,
    now: OffsetDateTime,
    deadline: Duration,
    invocation: &str,
) -> Result<Plan> {
    store.prepare().await?;
    let previous = verify::current_or_newest(store).await?.map(|manifest| manifest.run);
    let run = RunId::after(previous, now, invocation);
    // Whole seconds: what tables, manifests and the host's envelopes can all carry.
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let mut items = Vec::new();
    for source in sources {
        if !request.sources.is_empty() && !request.sources.contains(&source.name()) {
            continue;
        }
        let scopes = source.plan(&request).await?;
        items.extend(scopes.into_iter().map(|scope| {
            let item = WorkItem::new(run, source.name(), scope);
            WorkItem { previous, ..item }
        }));
    }
    if items.is_empty() {
        return Err(Error::invalid("there is nothing to crawl: no source and location fits"));
    }
    // Before anything is written down: what cannot be sent would be lost again and again.
    for item in &items {
        let bytes = to_json(item)?.len();
        if bytes > LARGEST_MESSAGE - ROOM {
            let (scope, most) = (&item.item, (LARGEST_MESSAGE - ROOM) >> 10);
            let text = format!(
                "subscriptions and publishers: {scope} is a message of {bytes} bytes, and one may have \
                 {most} KiB; name fewer of them"
            );
            return Err(Error::invalid(text).with_target("subscriptions"));
        }
    }
    let request = Request { force: false, ..request };
    let plan = Plan {
        schema_version: WORK_VERSION,
        run,
        started_at: now,
        deadline_at: Span::new(deadline).after(now),
        previous,
        request,
        items,
    };
    if !store.create(&Key::Plan(run), to_json(&plan)?.into()).await? {
        return Err(Error::new(ErrorKind::Conflict, format!("run {run} is planned already")));
    }
    tracing::info!(run = %run, items = plan.items.len(), "planned");
    Ok(plan)
}
