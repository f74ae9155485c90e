//! The declarations in `host.json` and the `function.json` files, embedded at build time, and
//! checks against the assumptions of the code.

use super::{FUNCTIONS, PUBLISH, WORK};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The text of `host.json`.
pub const HOST_JSON: &str = include_str!("../../host.json");

/// A binding of a `function.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// `timerTrigger`, `queueTrigger`, `httpTrigger`, `queue` or `http`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `in` or `out`.
    pub direction: String,
    /// The binding's name in envelopes.
    pub name: String,
    /// The queue's name.
    #[serde(default)]
    pub queue_name: Option<String>,
    /// The schedule: six fields, or the name of a setting between percent signs.
    #[serde(default)]
    pub schedule: Option<String>,
    /// The HTTP route, below the route prefix.
    #[serde(default)]
    pub route: Option<String>,
}

/// A `function.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Declaration {
    /// Its bindings.
    pub bindings: Vec<Binding>,
    /// The function's retry policy, if it overrides that of `host.json`.
    #[serde(default)]
    retry: Option<Retry>,
}

/// A retry policy for failed invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "strategy", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Retry {
    /// Waits the same time before each retry.
    FixedDelay {
        /// Maximum number of retries; -1 is unlimited.
        max_retry_count: i64,
        /// Delay before each retry.
        #[serde(deserialize_with = "span")]
        delay_interval: Duration,
    },
    /// Waits longer before each retry.
    ExponentialBackoff {
        /// Maximum number of retries; -1 is unlimited.
        max_retry_count: i64,
        /// Delay before the first retry.
        #[serde(deserialize_with = "span")]
        minimum_interval: Duration,
        /// Maximum delay.
        #[serde(deserialize_with = "span")]
        maximum_interval: Duration,
    },
}

impl Retry {
    /// Maximum number of retries; -1 is unlimited.
    pub fn most(&self) -> i64 {
        match self {
            Self::FixedDelay { max_retry_count, .. }
            | Self::ExponentialBackoff { max_retry_count, .. } => *max_retry_count,
        }
    }

    /// Returns the delay after `failed` failed attempts, or `None` when there is no further
    /// attempt. Exponential delays are those of the host (`RandomizedExponentialBackoffStrategy` in
    /// its source): the minimum after the first failure, and then the minimum plus 1, 2, 4, 8 …
    /// times the minimum, varied by up to 20 % by `chance`, which is between 0 and 1.
    pub fn wait(&self, failed: u32, chance: f64) -> Option<Duration> {
        if self.most() >= 0 && i64::from(failed) > self.most() {
            return None;
        }
        match *self {
            Self::FixedDelay { delay_interval, .. } => Some(delay_interval),
            Self::ExponentialBackoff { minimum_interval, maximum_interval, .. } => {
                let Some(doublings) = failed.checked_sub(2) else { return Some(minimum_interval) };
                let growth = f64::from(2_u32.pow(doublings.min(30))) * (0.8 + 0.4 * chance);
                let grown = minimum_interval.as_secs_f64() * (1.0 + growth);
                Some(
                    maximum_interval
                        .min(Duration::try_from_secs_f64(grown).unwrap_or(maximum_interval)),
                )
            }
        }
    }
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_span(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not a duration")))
}

impl Declaration {
    /// Parses the declaration of an azimg function.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| Error::bug(format!("function.json: {e}")))
    }

    /// Returns the binding that triggers the function. Fails unless there is exactly one.
    pub fn trigger(&self) -> Result<&Binding> {
        let mut triggers = self.bindings.iter().filter(|b| b.kind.ends_with("Trigger"));
        match (triggers.next(), triggers.next()) {
            (Some(trigger), None) => Ok(trigger),
            _ => Err(Error::bug("function.json must have exactly one trigger")),
        }
    }

    /// Returns the retry policy of the function under a host with the policy of `host`. Only timers
    /// have one: queues and HTTP callers retry failures themselves, and the host accepts no policy
    /// for them (`Utility.ValidateRetryOptions` in its source).
    pub fn retry(&self, host: &HostSettings) -> Result<Option<Retry>> {
        let takes_one = self.trigger()?.kind == "timerTrigger";
        Ok(self.retry.or(host.retry).filter(|_| takes_one))
    }

    /// Returns the output binding that sends to `queue`.
    pub fn output(&self, queue: &str) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.kind == "queue" && b.queue_name.as_deref() == Some(queue))
    }
}

/// The settings of `host.json` that both hosts and the functions use.
#[derive(Debug, Clone, Copy)]
pub struct HostSettings {
    /// The host kills a function that runs longer than this, and the handler with it.
    pub function_timeout: Duration,
    /// Number of deliveries of a message before it is moved to the poison queue.
    pub most_deliveries: u32,
    /// How long a message stays invisible after a failed delivery.
    pub redelivery_delay: Duration,
    /// Number of messages of one queue that one instance processes concurrently.
    pub concurrency: usize,
    /// The retry policy of functions that do not declare one.
    pub retry: Option<Retry>,
}

impl HostSettings {
    /// Parses the embedded `host.json`.
    pub fn load() -> Result<Self> {
        let bad = |what: &str| Error::bug(format!("host.json: {what}"));
        let host: Value =
            serde_json::from_str(HOST_JSON).map_err(|e| bad(&format!("not JSON: {e}")))?;
        let queues = &host["extensions"]["queues"];
        let number = |name: &str| {
            queues[name].as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| bad(name))
        };
        let span = |value: &Value, name: &str| {
            value.as_str().and_then(parse_span).ok_or_else(|| bad(name))
        };
        let concurrency = number("batchSize")? + number("newBatchThreshold")?;
        Ok(Self {
            function_timeout: span(&host["functionTimeout"], "functionTimeout")?,
            most_deliveries: number("maxDequeueCount")?,
            redelivery_delay: span(&queues["visibilityTimeout"], "visibilityTimeout")?,
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            retry: Option::deserialize(&host["retry"]).map_err(|e| bad(&format!("retry: {e}")))?,
        })
    }
}

/// Parses `hh:mm:ss` or `d.hh:mm:ss`, the format of .NET's `TimeSpan`.
fn parse_span(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('.').unwrap_or(("0", text));
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let days: u64 = days.parse().ok()?;
    Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

/// Checks at start-up the assumptions whose violation would otherwise cause silent failures later.
pub fn check(item_budget: Duration) -> Result<HostSettings> {
    let host = HostSettings::load()?;
    if item_budget * 3 > host.function_timeout {
        return Err(Error::bug(format!(
            "the budget of an item, {item_budget:?}, exceeds a third of functionTimeout ({:?}): \
             the host could kill it",
            host.function_timeout
        )));
    }
    if host.redelivery_delay.is_zero() {
        return Err(Error::bug(
            "host.json: a visibilityTimeout of zero redelivers failed messages without delay",
        ));
    }
    for function in &FUNCTIONS {
        let declared = function.declared()?;
        declared.trigger()?;
        for binding in &declared.bindings {
            let known = [WORK, PUBLISH, "azimg-work-poison", "azimg-publish-poison"];
            if let Some(queue) = &binding.queue_name
                && !known.contains(&queue.as_str())
            {
                return Err(Error::bug(format!(
                    "functions/{}/function.json names the queue {queue}, which no function uses",
                    function.name
                )));
            }
        }
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_waits_follow_the_declared_strategy() {
        let read = |text: &str| serde_json::from_str::<Retry>(text);
        let fixed = r#"{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:02:00"}"#;
        let fixed = read(fixed).unwrap();
        let waits: Vec<_> = (1..=3).map(|failed| fixed.wait(failed, 0.5)).collect();
        let two = Some(Duration::from_mins(2));
        assert_eq!(waits, [two, two, None]);
        let growing = r#"{"strategy":"exponentialBackoff","maxRetryCount":-1,
            "minimumInterval":"00:00:10","maximumInterval":"00:15:00"}"#;
        let growing = read(growing).unwrap();
        let seconds = |failed| growing.wait(failed, 0.5).unwrap().as_secs();
        assert_eq!([1, 2, 3, 4, 5].map(seconds), [10, 20, 30, 50, 90]);
        assert_eq!((seconds(20), seconds(u32::MAX)), (900, 900));
        for (chance, least) in [(0.0, 18), (1.0, 22)] {
            assert_eq!(growing.wait(2, chance).unwrap().as_secs(), least);
        }
        for bad in [
            r#"{"strategy":"linear","maxRetryCount":1}"#,
            r#"{"strategy":"fixedDelay","maxRetryCount":1,"delayInterval":"soon"}"#,
            r#"{"strategy":"fixedDelay","maxRetryCount":1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
