//! The beginning of a run: what is to be done is written down before the first message is sent.

use super::{snapshot, to_json};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::store::{Key, Store};
use crate::work::{LARGEST_MESSAGE, Plan, Request, RunId, WORK_VERSION, WorkItem};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// An item that is put off or goes on says a little more than it said at first.
const ROOM: usize = 2 << 10;

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
