//! What `host.json` and the `function.json` files declare, read once, and checked against what the
//! code relies on.

use super::{FUNCTIONS, PUBLISH, WORK};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The text of `host.json`.
pub const HOST_JSON: &str = include_str!("../../host.json");

/// One binding of a `function.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// `timerTrigger`, `queueTrigger`, `httpTrigger`, `queue` or `http`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `in` or `out`.
    pub direction: String,
    /// Its name in envelopes.
    pub name: String,
    /// The queue.
    #[serde(default)]
    pub queue_name: Option<String>,
    /// The schedule: six fields, or the name of a setting between percent signs.
    #[serde(default)]
    pub schedule: Option<String>,
    /// The HTTP route below the prefix.
    #[serde(default)]
    pub route: Option<String>,
}

/// A `function.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Declaration {
    /// Its bindings.
    pub bindings: Vec<Binding>,
}

impl Declaration {
    /// Reads the declaration of a function of ours.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| Error::bug(format!("a function.json: {e}")))
    }

    /// The one binding that starts the function.
    pub fn trigger(&self) -> Result<&Binding> {
        let mut triggers = self.bindings.iter().filter(|b| b.kind.ends_with("Trigger"));
        match (triggers.next(), triggers.next()) {
            (Some(trigger), None) => Ok(trigger),
            _ => Err(Error::bug("a function.json must have exactly one trigger")),
        }
    }

    /// The output binding that sends to `queue`.
    pub fn output(&self, queue: &str) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.kind == "queue" && b.queue_name.as_deref() == Some(queue))
    }
}

/// What `host.json` says that both hosts and the functions need to know.
#[derive(Debug, Clone, Copy)]
pub struct HostSettings {
    /// A function that runs longer is killed, and the handler with it.
    pub function_timeout: Duration,
    /// Deliveries of a message before it goes to the poison queue.
    pub most_deliveries: u32,
    /// How long a failed message stays invisible.
    pub redelivery_delay: Duration,
    /// Messages of one queue that one instance works on at once.
    pub at_once: usize,
}

impl HostSettings {
    /// Reads `host.json`.
    pub fn load() -> Result<Self> {
        let bad = |what: &str| Error::bug(format!("host.json: {what}"));
        let host: Value =
            serde_json::from_str(HOST_JSON).map_err(|e| bad(&format!("no JSON: {e}")))?;
        let queues = &host["extensions"]["queues"];
        let number = |name: &str| {
            queues[name].as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| bad(name))
        };
        let span = |value: &Value, name: &str| {
            value.as_str().and_then(parse_span).ok_or_else(|| bad(name))
        };
        let at_once = number("batchSize")? + number("newBatchThreshold")?;
        Ok(Self {
            function_timeout: span(&host["functionTimeout"], "functionTimeout")?,
            most_deliveries: number("maxDequeueCount")?,
            redelivery_delay: span(&queues["visibilityTimeout"], "visibilityTimeout")?,
            at_once: usize::try_from(at_once).unwrap_or(1),
        })
    }
}

/// `hh:mm:ss`, or `d.hh:mm:ss`, as .NET writes a span of time.
fn parse_span(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('.').unwrap_or(("0", text));
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let days: u64 = days.parse().ok()?;
    Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

/// Checks at start-up what would otherwise fail in silence later.
pub fn check(item_budget: Duration) -> Result<HostSettings> {
    let host = HostSettings::load()?;
    if item_budget * 3 > host.function_timeout {
        return Err(Error::bug(format!(
            "an item may take {item_budget:?}, which is not well under functionTimeout \
             ({:?}): the host would kill it",
            host.function_timeout
        )));
    }
    if host.redelivery_delay.is_zero() {
        return Err(Error::bug("host.json: a visibilityTimeout of zero redelivers at once, hot"));
    }
    for function in &FUNCTIONS {
        let declared = function.declared()?;
        declared.trigger()?;
        for binding in &declared.bindings {
            let known = [WORK, PUBLISH, "azimg-work-poison"];
            if let Some(queue) = &binding.queue_name
                && !known.contains(&queue.as_str())
            {
                return Err(Error::bug(format!(
                    "functions/{}/function.json names the queue {queue}, which nobody serves",
                    function.name
                )));
            }
        }
    }
    Ok(host)
}
