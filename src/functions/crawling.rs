//! Functions that do work items, and that record items whose deliveries all failed.

use super::app::App;
use super::event::{Effects, Event, Trigger};
use super::message::{WORK, close, message, work};
use super::traffic_report;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::crawl;
use crate::source::Invocation;
use crate::telemetry::count;
use crate::work::{Outcome, WorkItem};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Delay before an item is retried after the identity was refused, which may be temporary.
const SIGNED_OUT_WAIT: Duration = Duration::from_secs(10);
/// Time after which a refused identity is assumed to need an operator.
const SIGNED_OUT_FOR: Duration = Duration::from_mins(1);
/// Delay before an item is retried from then on.
const SIGNED_OUT_LONG_WAIT: Duration = Duration::from_mins(5);

/// `crawl`: does a work item.
pub(super) async fn crawl_item(app: &App, event: Event) -> Result<Effects> {
    let done = crawl_message(app, event).await;
    // Reported however the item ended: refused and postponed items also sent requests.
    traffic_report::log_traffic(app);
    done
}

async fn crawl_message(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, delivery } = event.trigger else {
        return Err(Error::bug("crawl is a queue function"));
    };
    let item = match WorkItem::parse(&text) {
        Ok(item) => item,
        // Redelivery cannot help, and there is no item whose outcome could be recorded.
        Err(error) => return Ok(Effects::dropped(&error)),
    };
    traffic_report::about(item.run, &item.item);
    if app.is_over(item.run).await? {
        tracing::debug!("item skipped: its run is already published");
        return Ok(Effects::default());
    }
    if let Some(refusal) = app.refusal(&item).await? {
        return Ok(Effects::dropped(&refusal));
    }
    let source = app.source(item.source)?;
    let effort = Invocation {
        until: Instant::now() + app.settings.item_budget,
        last: delivery >= app.settings.most_deliveries,
        delivery,
        now: event.now,
    };
    let known = app.known(&item).await?;
    match crawl::crawl(app.store.as_ref(), source, &item, &effort, &known).await {
        Ok(crawl::ItemResult::Ended(outcome)) => finish_item(app, &item, &outcome, event.now),
        Ok(crawl::ItemResult::Later(mut item, wait)) => {
            item.put_off = item.put_off.saturating_add(1);
            // Waiting must use up neither a worker's time nor a delivery of the message.
            let wait = wait.max(app.turn(&item, event.now));
            tracing::debug!(wait_s = wait.as_secs(), "item deferred until its quota allows it");
            count!(monotonic_counter.azimg.put_off = 1_u64, source = item.source.as_str());
            let again = message(WORK, &item, wait)?;
            Ok(Effects { messages: vec![again], ..Effects::default() })
        }
        Err(error) if error.kind() == ErrorKind::SignedOut => signed_out(app, item, &error),
        Err(error) => {
            // A refusal by Azure is an outcome. This error comes from the store, and affects all
            // other items too.
            if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::BadAnswer)
            {
                app.progress.fail(item.run, &error);
            }
            Err(error)
        }
    }
}

/// Postpones an item because the identity was refused. No delivery is used up. If this persists,
/// the run is reported as failed to whatever waits for it.
fn signed_out(app: &App, mut item: WorkItem, error: &Error) -> Result<Effects> {
    let (lasted, should_log) = app.progress.signed_out();
    let wait = if lasted < SIGNED_OUT_FOR { SIGNED_OUT_WAIT } else { SIGNED_OUT_LONG_WAIT };
    if lasted >= SIGNED_OUT_FOR {
        app.progress.fail(item.run, error);
    }
    if should_log {
        tracing::error!(
            %error, lasted_s = lasted.as_secs(),
            "the identity was refused; items are deferred"
        );
    }
    item.put_off = item.put_off.saturating_add(1);
    let again = message(WORK, &item, wait)?;
    Ok(Effects { messages: vec![again], ..Effects::default() })
}

/// `poison`: records an item whose deliveries all failed.
pub(super) async fn poison(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, .. } = event.trigger else {
        return Err(Error::bug("poison is a queue function"));
    };
    let item = match WorkItem::parse(&text) {
        Ok(item) => item,
        Err(error) => return Ok(Effects::dropped(&error)),
    };
    traffic_report::about(item.run, &item.item);
    if let Some(refusal) = app.refusal(&item).await? {
        return Ok(Effects::dropped(&refusal));
    }
    let tries = app.settings.most_deliveries;
    let reason = format!("given up after {tries} deliveries, none of which completed");
    let outcome = crawl::fail(app.store.as_ref(), &item, &reason, tries).await?;
    finish_item(app, &item, &outcome, event.now)
}

fn finish_item(
    app: &App,
    item: &WorkItem,
    outcome: &Outcome,
    now: OffsetDateTime,
) -> Result<Effects> {
    let mut messages = work(app, &outcome.children, now)?;
    traffic_report::count_outcome(item, outcome);
    if app.progress.end(item, outcome) {
        messages.push(close(item.run, false, Duration::ZERO)?);
    }
    let logs = if outcome.state.is_complete() {
        Vec::new()
    } else {
        vec![format!("{}: {:?}: {}", item.item, outcome.state, outcome.reason)]
    };
    Ok(Effects { messages, logs, reply: None })
}
