//! The start of a run: the plan is stored before the first message is sent.

use super::survey::survey;
use super::{failed, is_permanent, read_plan, snapshot, to_json, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::span::Span;
use crate::store::{Key, Store};
use crate::work::{LARGEST_MESSAGE, Plan, Request, RunId, WORK_VERSION, WorkItem};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Space to leave in a message, in bytes. A postponed or continued item is slightly longer than the
/// planned one.
const ROOM: usize = 2 << 10;

/// Maximum number of runs to check for one that is under way.
const LOOKS_AT: usize = 20;
/// A run with no ended item after this time was planned by a process that died before it sent the
/// messages.
const BEGINS_WITHIN: time::Duration = time::Duration::minutes(2);

/// A run that is under way.
pub struct ActiveRun {
    /// The plan.
    pub plan: Plan,
    /// Whether its messages were apparently never sent.
    pub is_unsent: bool,
}

/// The plan of a run without a snapshot. `None` if the run has a snapshot or its plan is
/// permanently unreadable.
async fn unpublished(store: &dyn Store, run: RunId) -> Result<Option<Plan>> {
    let plan = match snapshot::manifest(store, run).await {
        Ok(None) => read_plan(store, run).await.map(Some),
        Ok(Some(_)) => Ok(None),
        Err(error) => Err(error),
    };
    match plan {
        Err(error) if is_permanent(&error) => Ok(None),
        plan => plan,
    }
}

/// The newest run under way at `now` with a request equivalent to `request`, if any. `invocation`
/// is the host's name of the invocation that would start another run.
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
        // A damaged run, or one of another version, cannot take the place of a new one. A run that
        // is temporarily unreadable may, so the error is returned.
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

/// Plans a run that starts at `now` and gives up missing items `deadline` later. `invocation` is
/// the host's name of the invocation that starts it.
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
    // Whole seconds, the precision that tables, manifests and the host's envelopes all support.
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
        return Err(Error::invalid("nothing to crawl: no source and location match"));
    }
    // Checked before anything is stored: an item that cannot be sent would be lost on every
    // attempt.
    for item in &items {
        let bytes = to_json(item)?.len();
        if bytes > LARGEST_MESSAGE - ROOM {
            let (scope, most) = (&item.item, (LARGEST_MESSAGE - ROOM) >> 10);
            let text = format!(
                "subscriptions and publishers: the message of {scope} has {bytes} bytes, and the \
                 limit is {most} KiB; specify fewer"
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
        return Err(Error::new(ErrorKind::Conflict, format!("run {run} is already planned")));
    }
    tracing::info!(run = %run, items = plan.items.len(), "planned");
    Ok(plan)
}
