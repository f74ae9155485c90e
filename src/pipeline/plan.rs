//! The beginning of a run: what is to be done is written down before the first message is sent.

use super::{snapshot, to_json};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::store::{Key, Store};
use crate::work::{Plan, Request, RunId, WORK_VERSION, WorkItem};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

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
    let previous = snapshot::current(store).await?.map(|current| current.run);
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
    let plan = Plan {
        schema_version: WORK_VERSION,
        run,
        started_at: now,
        deadline_at: now + deadline,
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
