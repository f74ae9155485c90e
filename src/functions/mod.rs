//! The function table: message in, messages out. A function never touches a queue, the clock or
//! the environment; what it wants sent it returns.

mod admission;
mod app;
mod beginning;
mod declared;
mod failing;
mod telling;

pub use app::{App, Memory, Progress, RunProgress, Settings};
pub use declared::{Binding, Declaration, HOST_JSON, HostSettings, Retry, check};

use beginning::{plan_run, planned, start};

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::publish::{Closing, publish};
pub use crate::pipeline::retain::Keep;
use crate::pipeline::retain::retain;
use crate::pipeline::sweep::sweep;
use crate::pipeline::{crawl, read_plan};
use crate::source::Effort;
use crate::telemetry::count;
use crate::work::{LARGEST_MESSAGE, MOST_MESSAGES, Outcome, RunId, WorkItem, is_zero};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// The queue of work items.
pub const WORK: &str = "azimg-work";
/// The queue of runs that may be closed.
pub const PUBLISH: &str = "azimg-publish";
/// How often a run that is not closed yet is looked at again.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// A run that waits for another one's turn to be published looks again after this.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// How long an item whose shard was thrown away waits before it is done again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// An identity that was refused may be well again after so long, and an item is tried again;
const SIGNED_OUT_WAIT: Duration = Duration::from_secs(10);
/// one that is refused for longer than this needs somebody,
const SIGNED_OUT_FOR: Duration = Duration::from_mins(1);
/// and is looked at so often.
const SIGNED_OUT_LONG_WAIT: Duration = Duration::from_mins(5);

/// What makes a function run.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub now: OffsetDateTime,
    /// The host's name for this invocation.
    pub invocation: String,
    /// What happened.
    pub trigger: Trigger,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A schedule came due.
    Timer,
    /// A message arrived.
    Queue {
        /// Its text.
        text: String,
        /// Which delivery of it this is, from 1.
        delivery: u32,
    },
    /// A request with a body that may be empty.
    Http {
        /// The body.
        body: String,
    },
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue.
    pub queue: &'static str,
    /// The text: a JSON object.
    pub text: String,
    /// Not before this has passed.
    pub delay: Duration,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: String,
}

/// What a function wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to be sent.
    pub messages: Vec<Message>,
    /// The answer to an HTTP request.
    pub reply: Option<Reply>,
    /// Lines for the invocation's log.
    pub logs: Vec<String>,
}

/// A message on [`PUBLISH`].
#[derive(Debug, Serialize, Deserialize)]
struct Close {
    v: u32,
    run: RunId,
    /// Whether to look again later; one message of a run goes round like this.
    #[serde(default)]
    watch: bool,
    /// The planned items from the one with this number on are not sent yet; zero means that they are.
    #[serde(default, skip_serializing_if = "is_zero")]
    from: u32,
}

type Run = for<'a> fn(&'a App, Event) -> BoxFuture<'a, Result<Effects>>;

/// A function: its name, its `function.json`, and what it does.
pub struct Function {
    /// The folder's name.
    pub name: &'static str,
    /// The text of its `function.json`.
    pub json: &'static str,
    declared: OnceLock<Declaration>,
    /// What it does; `None` for the function whose requests are forwarded as they are.
    pub run: Option<Run>,
}

impl Function {
    /// The function of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    /// What its `function.json` declares.
    pub fn declared(&self) -> Result<&Declaration> {
        if let Some(declared) = self.declared.get() {
            return Ok(declared);
        }
        let declared = Declaration::parse(self.json)?;
        Ok(self.declared.get_or_init(|| declared))
    }
}

macro_rules! function {
    ($name:literal, $run:expr) => {
        Function {
            name: $name,
            json: include_str!(concat!("../../functions/", $name, "/function.json")),
            declared: OnceLock::new(),
            run: $run,
        }
    };
}

/// Every function.
pub static FUNCTIONS: [Function; 8] = [
    function!("plan", Some(|app, event| Box::pin(plan_run(app, event)))),
    function!("start", Some(|app, event| Box::pin(start(app, event)))),
    function!("crawl", Some(|app, event| Box::pin(crawl_item(app, event)))),
    function!("poison", Some(|app, event| Box::pin(poison(app, event)))),
    function!("sweep", Some(|app, event| Box::pin(sweep_runs(app, event)))),
    function!("publish", Some(|app, event| Box::pin(failing::publish(app, event)))),
    function!("fail", Some(|app, event| Box::pin(failing::fail(app, event)))),
    function!("web", None),
];

/// The one place where messages are written: none is longer than a queue takes.
fn message(queue: &'static str, value: &impl Serialize, delay: Duration) -> Result<Message> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::bug("writing a message").with_source(e))?;
    if text.len() > LARGEST_MESSAGE {
        let (bytes, most) = (text.len(), LARGEST_MESSAGE >> 10);
        return Err(Error::bug(format!("a message of {bytes} bytes; a queue takes {most} KiB")));
    }
    Ok(Message { queue, text, delay })
}

/// Messages of items, each to be seen when its turn comes.
fn work(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Result<Vec<Message>> {
    items.iter().map(|item| message(WORK, item, app.turn(item, now))).collect()
}

/// Messages of items that were planned earlier, and that may have ended or be under way: whoever gets one looks
/// first. One that no queue takes does not keep the others waiting,
/// and is given up at its run's deadline.
fn again(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Vec<Message> {
    let sent = items.iter().filter_map(|item| {
        let item = &WorkItem { put_off: item.put_off.max(crawl::PUT_OFF_UNSEEN), ..item.clone() };
        message(WORK, item, app.turn(item, now))
            .inspect_err(|error| {
                tracing::error!(%error, run = %item.run, item = %item.item, "it cannot be sent");
            })
            .ok()
    });
    sent.collect()
}

fn close(run: RunId, watch: bool, delay: Duration) -> Result<Message> {
    message(PUBLISH, &Close { v: 1, run, watch, from: 0 }, delay)
}

async fn crawl_item(app: &App, event: Event) -> Result<Effects> {
    let done = crawl_message(app, event).await;
    // However it ended: what was refused and put off was asked, too.
    telling::asked(app);
    done
}

async fn crawl_message(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, delivery } = event.trigger else {
        return Err(Error::bug("crawl is a queue function"));
    };
    let item = match WorkItem::parse(&text) {
        Ok(item) => item,
        // No redelivery can heal it, and there is no item whose outcome could be recorded.
        Err(error) => return Ok(dropped(&error)),
    };
    telling::about(item.run, &item.item);
    if app.is_over(item.run).await? {
        tracing::debug!("its run is published without it");
        return Ok(Effects::default());
    }
    if let Some(refusal) = admission::refusal(app, &item).await? {
        return Ok(dropped(&refusal));
    }
    let source = app.source(item.source)?;
    let effort = Effort {
        until: Instant::now() + app.settings.item_budget,
        last: delivery >= app.settings.most_deliveries,
        delivery,
        now: event.now,
    };
    let known = app.known(&item).await?;
    match crawl::crawl(app.store.as_ref(), source, &item, &effort, &known).await {
        Ok(crawl::Done::Ended(outcome)) => ended(app, &item, &outcome, event.now),
        Ok(crawl::Done::Later(mut item, wait)) => {
            item.put_off = item.put_off.saturating_add(1);
            // Waiting must not burn a worker's time, nor one of the message's deliveries.
            let wait = wait.max(app.turn(&item, event.now));
            tracing::debug!(wait_s = wait.as_secs(), "waits for its quota");
            count!(monotonic_counter.azimg.put_off = 1_u64, source = item.source.as_str());
            let again = message(WORK, &item, wait)?;
            Ok(Effects { messages: vec![again], ..Effects::default() })
        }
        Err(error) if error.kind() == ErrorKind::SignedOut => signed_out(app, item, &error),
        Err(error) => {
            // What Azure refuses is an outcome; this is the store, and it will refuse the rest.
            if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::BadAnswer)
            {
                app.progress.fail(item.run, &error);
            }
            Err(error)
        }
    }
}

/// An item that nobody may ask for: it waits until the identity is mended, and no delivery is used up. Whoever
/// waits for the run is told when that has lasted.
fn signed_out(app: &App, mut item: WorkItem, error: &Error) -> Result<Effects> {
    let (lasted, is_news) = app.progress.signed_out();
    let wait = if lasted < SIGNED_OUT_FOR { SIGNED_OUT_WAIT } else { SIGNED_OUT_LONG_WAIT };
    if lasted >= SIGNED_OUT_FOR {
        app.progress.fail(item.run, error);
    }
    if is_news {
        tracing::error!(%error, lasted_s = lasted.as_secs(), "the identity is refused: items wait");
    }
    item.put_off = item.put_off.saturating_add(1);
    let again = message(WORK, &item, wait)?;
    Ok(Effects { messages: vec![again], ..Effects::default() })
}

async fn poison(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, .. } = event.trigger else {
        return Err(Error::bug("poison is a queue function"));
    };
    let item = match WorkItem::parse(&text) {
        Ok(item) => item,
        Err(error) => return Ok(dropped(&error)),
    };
    telling::about(item.run, &item.item);
    if let Some(refusal) = admission::refusal(app, &item).await? {
        return Ok(dropped(&refusal));
    }
    let tries = app.settings.most_deliveries;
    let reason = format!("given up after {tries} deliveries, none of which ended");
    let outcome = crawl::fail(app.store.as_ref(), &item, &reason, tries).await?;
    ended(app, &item, &outcome, event.now)
}

fn ended(app: &App, item: &WorkItem, outcome: &Outcome, now: OffsetDateTime) -> Result<Effects> {
    let mut messages = work(app, &outcome.children, now)?;
    telling::ended(item, outcome);
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

fn dropped(error: &Error) -> Effects {
    tracing::error!(%error, "a message was thrown away");
    Effects { logs: vec![format!("a message was thrown away: {error}")], ..Effects::default() }
}

async fn sweep_runs(app: &App, event: Event) -> Result<Effects> {
    let swept = sweep(app.store.as_ref(), event.now, false).await?;
    forget(app, event.now).await;
    telling::how_it_stands(app, event.now).await;
    let mut messages = again(app, &swept.lost, event.now);
    for run in &swept.close {
        messages.push(close(*run, false, Duration::ZERO)?);
    }
    let logs = vec![format!(
        "{} items sent again, {} runs to close, {} blobs removed",
        swept.lost.len(),
        swept.close.len(),
        swept.removed
    )];
    Ok(Effects { messages, logs, reply: None })
}

/// Removes the snapshots that are not to be kept; what cannot be removed now is removed later.
async fn forget(app: &App, now: OffsetDateTime) {
    if let Err(error) = retain(app.store.as_ref(), app.settings.keep, now).await {
        tracing::warn!(%error, "old snapshots could not be removed");
    }
}

async fn publish_run(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, delivery } = event.trigger else {
        return Err(Error::bug("publish is a queue function"));
    };
    let Ok(Close { run, watch, from, .. }) = serde_json::from_str(&text) else {
        return Ok(dropped(&Error::invalid("a message that names no run")));
    };
    telling::about(run, "");
    if from > 0 {
        return send_rest(app, run, from, event.now).await;
    }
    let closing = match publish(&app.store, run, event.now, false).await {
        Ok(closing) => closing,
        Err(error) if error.is_transient() || error.kind() == ErrorKind::Bug => return Err(error),
        Err(error) => {
            failing::give_up(app, run, &error, event.now).await;
            return Ok(Effects { logs: vec![error.to_string()], ..Effects::default() });
        }
    };
    let mut messages = Vec::new();
    match closing {
        Closing::Published(manifest) => {
            forget(app, event.now).await;
            // Whoever waits for the run ends the process when it is published.
            telling::published(&manifest);
            app.progress.publish(run);
            let logs = vec![format!("run {run} is published: {:?}", manifest.state)];
            return Ok(Effects { logs, ..Effects::default() });
        }
        Closing::Details(items) => {
            app.progress.begin(run, &items);
            messages = work(app, &items, event.now)?;
        }
        Closing::Busy { other } => {
            tracing::debug!(%other, "another run is being published");
            messages.push(close(run, watch, BUSY_FOR)?);
            return Ok(Effects { messages, ..Effects::default() });
        }
        Closing::Open { mut missing, expected } => {
            // Too early, or a shard was thrown away and its item has to be done again.
            tracing::debug!(missing = missing.len(), expected, "not closed yet");
            let ours = app.progress.reopen(run, &missing);
            if !ours {
                // A worker that died may have planned details and not sent them; all else was sent.
                missing.retain(|item| delivery > 1 && item.scope.adds_details());
            }
            if !missing.is_empty() {
                missing.truncate(MOST_MESSAGES);
                messages = again(app, &missing, event.now);
                // What is damaged again and again must not become a hot loop.
                for message in &mut messages {
                    message.delay = message.delay.max(REOPEN_AFTER);
                }
            }
        }
    }
    if watch {
        messages.push(close(run, true, WATCH_EVERY)?);
    }
    Ok(Effects { messages, ..Effects::default() })
}

/// Goes on sending what a run begins with.
async fn send_rest(app: &App, run: RunId, from: u32, now: OffsetDateTime) -> Result<Effects> {
    let plan = match read_plan(app.store.as_ref(), run).await {
        Ok(plan) => plan,
        // It is over, or of another version: there is nothing to send.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {
            return Ok(dropped(&error));
        }
        Err(error) => return Err(error),
    };
    Ok(Effects { messages: planned(app, &plan, from, now)?, ..Effects::default() })
}

/// What a run that was interrupted still has to do, for a host that begins with empty queues.
pub async fn resume(app: &App, run: RunId) -> Result<Effects> {
    let store = app.store.as_ref();
    store.prepare().await?;
    let plan = read_plan(store, run).await?;
    let survey = crate::pipeline::survey::survey(store, &plan).await?;
    app.progress.begin(run, &survey.ended);
    app.progress.settle(run, &survey.ended);
    app.progress.begin(run, &survey.missing);
    let mut messages = again(app, &survey.missing, OffsetDateTime::now_utc());
    let watch = if survey.missing.is_empty() { Duration::ZERO } else { WATCH_EVERY };
    messages.push(close(run, true, watch)?);
    Ok(Effects { messages, ..Effects::default() })
}
