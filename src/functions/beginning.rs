//! Functions that start a run, on a schedule or on request; and resumption of an interrupted run.

use super::app::App;
use super::event::{Effects, Event, Message, Reply, Trigger};
use super::message::{PUBLISH, PublishMessage, WATCH_EVERY, again, close, message, work};
use super::traffic_report;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::survey::survey;
use crate::pipeline::{plan, read_plan};
use crate::work::{MOST_MESSAGES, Plan, Request, RunId};
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

/// How long planning a run waits for its rate limit. An HTTP caller is cut off after 230 s.
const WAIT_LIMIT: Duration = Duration::from_mins(3);

/// Maximum size of a request for a run, in bytes. It contains only names.
const LARGEST_REQUEST: usize = 256 << 10;

/// Returns the messages for a plan's items, starting at item number `from`: as many as one
/// invocation may send, and a message to `publish`, which sends the rest.
pub(super) fn planned(
    app: &App,
    plan: &Plan,
    from: u32,
    now: OffsetDateTime,
) -> Result<Vec<Message>> {
    let begin = usize::try_from(from).unwrap_or(usize::MAX);
    let items = plan.items.get(begin..).unwrap_or_default();
    let sent = &items[..items.len().min(MOST_MESSAGES)];
    let mut messages = work(app, sent, now)?;
    if sent.len() < items.len() {
        let from = from.saturating_add(u32::try_from(sent.len()).unwrap_or(u32::MAX));
        let rest = PublishMessage { v: 1, run: plan.run, watch: false, from };
        messages.push(message(PUBLISH, &rest, Duration::ZERO)?);
    }
    Ok(messages)
}

async fn begin(app: &App, request: Request, event: &Event) -> Result<(Plan, Effects)> {
    let request = app.complete(request);
    // The values filled in from the configuration are subject to the same limits.
    request.check()?;
    let deadline = app.settings.run_deadline;
    let (store, sources) = (app.store.as_ref(), &app.sources);
    let mut remaining = WAIT_LIMIT;
    let plan = loop {
        let request = request.clone();
        match plan::plan(store, sources, request, event.now, deadline, &event.invocation).await {
            // Wait here, because planning has no message that could be delivered again later.
            Err(error) if error.kind() == ErrorKind::Throttled => {
                let wait = error.retry_after().unwrap_or(WATCH_EVERY);
                remaining = remaining.checked_sub(wait).ok_or(error)?;
                tokio::time::sleep(wait).await;
            }
            planned => break planned?,
        }
    };
    traffic_report::about(plan.run, "");
    tracing::info!(items = plan.items.len(), "run started");
    app.progress.begin(plan.run, &plan.items);
    let mut messages = planned(app, &plan, 0, event.now)?;
    messages.push(close(plan.run, true, WATCH_EVERY)?);
    let logs = vec![format!("run {} started with {} items", plan.run, plan.items.len())];
    Ok((plan, Effects { messages, logs, reply: None }))
}

/// Returns a run under way with the same request, and the effects that continue it. `None` if there
/// is none, or if the request forces a new run.
async fn joined(app: &App, request: &Request, event: &Event) -> Result<Option<(Plan, Effects)>> {
    if request.force {
        return Ok(None);
    }
    // The container may not exist yet.
    app.store.prepare().await?;
    let wanted = app.complete(request.clone());
    let found = plan::under_way(app.store.as_ref(), &wanted, event.now, &event.invocation).await?;
    let Some(plan::ActiveRun { plan, is_unsent }) = found else { return Ok(None) };
    let run = plan.run;
    // All items may have ended, so that the run only needs to be closed.
    let mut messages = vec![close(run, false, Duration::ZERO)?];
    if is_unsent {
        app.progress.begin(run, &plan.items);
        messages = planned(app, &plan, 0, event.now)?;
        messages.push(close(run, true, WATCH_EVERY)?);
    }
    let logs = vec![format!("run {run} is in progress with the same request")];
    Ok(Some((plan, Effects { messages, logs, reply: None })))
}

/// `plan`: starts a run when the timer fires.
pub(super) async fn plan_run(app: &App, event: Event) -> Result<Effects> {
    let request = Request::default();
    if let Some((plan, effects)) = joined(app, &request, &event).await? {
        tracing::warn!(run = %plan.run, "no run started: a run with the same request is in \
                                         progress");
        return Ok(effects);
    }
    begin(app, request, &event).await.map(|(_, effects)| effects)
}

/// `start`: handles `POST /api/runs`.
pub(super) async fn start(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Http { body } = &event.trigger else {
        return Err(Error::bug("start is an HTTP function"));
    };
    if body.len() > LARGEST_REQUEST {
        let text = format!("the body is longer than {} KiB", LARGEST_REQUEST >> 10);
        return Err(Error::invalid(text));
    }
    let request = match body.trim() {
        "" => Request::default(),
        body => Request::parse(body)?,
    };
    // Checked before any call to the store or to Azure.
    request.check()?;
    let joined = joined(app, &request, &event).await?;
    let status = if joined.is_some() { 200 } else { 202 };
    let (plan, mut effects) = match joined {
        Some(joined) => joined,
        None => begin(app, request, &event).await?,
    };
    let body = json!({"run": plan.run, "state": "running", "items": plan.items.len()});
    let location = ("Location".to_owned(), format!("/api/runs/{}", plan.run));
    effects.reply = Some(Reply { status, headers: vec![location], body: body.to_string() });
    Ok(effects)
}

/// Returns the messages for the remaining work of an interrupted run, for a host that starts with
/// empty queues.
pub async fn resume(app: &App, run: RunId) -> Result<Effects> {
    let store = app.store.as_ref();
    store.prepare().await?;
    let plan = read_plan(store, run).await?;
    let survey = survey(store, &plan).await?;
    app.progress.begin(run, &survey.ended);
    app.progress.settle(run, &survey.ended);
    app.progress.begin(run, &survey.missing);
    let mut messages = again(app, &survey.missing, OffsetDateTime::now_utc());
    let watch = if survey.missing.is_empty() { Duration::ZERO } else { WATCH_EVERY };
    messages.push(close(run, true, watch)?);
    Ok(Effects { messages, ..Effects::default() })
}
