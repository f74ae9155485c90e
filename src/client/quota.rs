//! Quota as a budget: how many requests may be sent, and when.
//!
//! Azure counts a request against a bucket of its subscription (Resource Manager) and against
//! sliding windows of its subscription, location and operation (the compute provider), and says
//! in every answer what remains. The model starts from recorded limits, or from nothing where none
//! are known, and believes the answers over itself. A wait of a few seconds is waited for here; a
//! longer one is given back to the caller, who has other work.

mod bucket;
mod window;

use bucket::Bucket;
use reqwest::header::HeaderMap;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use window::Operation;

/// A wait that is longer than this is not worth a worker's time.
const WORTH_WAITING: Duration = Duration::from_secs(20);

/// What remains of everything that this process draws on.
#[derive(Debug)]
pub struct Quota {
    /// Whether recorded limits hold before any answer has said so.
    assume: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<String, Bucket>,
    operations: HashMap<String, Operation>,
}

/// Whether a request may be sent.
#[derive(Debug)]
pub(super) enum Grant {
    /// It may, after so long.
    Go(Permit, Duration),
    /// Not for so long.
    Later(Duration),
}

/// The right to send one request; given back with its answer.
#[derive(Debug)]
pub(super) struct Permit {
    bucket: String,
    operation: String,
}

/// What a request on `path` draws on: its subscription's bucket; subscription, location and
/// operation in the compute provider. The operation is told by the depth of the path.
fn names(path: &str) -> (String, String, usize) {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let at = |name: &str| parts.iter().position(|part| part.eq_ignore_ascii_case(name));
    let after = |name: &str| at(name).and_then(|at| parts.get(at + 1)).copied();
    let subscription = after("subscriptions").unwrap_or("tenant").to_owned();
    let depth = at("publishers").map_or(0, |at| parts.len() - at - 1);
    let operation = match after("locations") {
        Some(location) => format!("{subscription}/{location}/{depth}"),
        None => format!("{subscription}/-/{}", parts.len()),
    };
    (subscription, operation, depth)
}

impl Quota {
    /// Nothing used yet. With `assume`, recorded limits hold from the first request on.
    pub fn new(assume: bool) -> Self {
        Self { assume, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to send a request on `path` at `now`.
    pub(super) fn ask(&self, path: &str, now: Instant) -> Grant {
        let (bucket_name, operation_name, depth) = names(path);
        let mut state = self.state();
        let State { buckets, operations } = &mut *state;
        let operation = operations
            .entry(operation_name.clone())
            .or_insert_with(|| Operation::new(if self.assume { depth } else { usize::MAX }));
        if let Err(wait) = operation.is_open(now) {
            return Grant::Later(wait);
        }
        let bucket =
            buckets.entry(bucket_name.clone()).or_insert_with(|| Bucket::new(self.assume, now));
        match bucket.take(now, WORTH_WAITING) {
            Err(wait) => Grant::Later(wait),
            Ok(wait) => {
                operation.take();
                Grant::Go(Permit { bucket: bucket_name, operation: operation_name }, wait)
            }
        }
    }

    /// Learns from the headers of an answer.
    pub(super) fn answered(&self, permit: &Permit, headers: &HeaderMap, now: Instant) {
        let mut state = self.state();
        if let Some(bucket) = state.buckets.get_mut(&permit.bucket) {
            let reads = headers.get("x-ms-ratelimit-remaining-subscription-reads");
            let reads = reads.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            bucket.answered(reads, now);
        }
        if let Some(operation) = state.operations.get_mut(&permit.operation) {
            let all = headers.get_all("x-ms-ratelimit-remaining-resource");
            let policies = all.iter().filter_map(|value| value.to_str().ok());
            let policies = policies.flat_map(|value| value.split(',')).filter_map(|policy| {
                let (name, remaining) = policy.trim().rsplit_once(';')?;
                Some((name, remaining.trim().parse().ok()?))
            });
            operation.answered(policies, now);
        }
    }

    /// Takes a permit back, whether its request was answered or not.
    pub(super) fn done(&self, permit: &Permit) {
        let mut state = self.state();
        if let Some(bucket) = state.buckets.get_mut(&permit.bucket) {
            bucket.done();
        }
        if let Some(operation) = state.operations.get_mut(&permit.operation) {
            operation.done();
        }
    }

    /// Closes what a refused request drew on for `wait`: everyone in the process keeps to it.
    /// `whole` means the subscription's bucket, not just the operation.
    pub(super) fn pause(&self, permit: &Permit, whole: bool, wait: Duration, now: Instant) {
        let mut state = self.state();
        if whole {
            if let Some(bucket) = state.buckets.get_mut(&permit.bucket) {
                bucket.pause(now + wait);
            }
        } else if let Some(operation) = state.operations.get_mut(&permit.operation) {
            operation.pause(now + wait);
        }
    }
}

/// Whether a wait is short enough to be waited for.
pub(super) fn is_short(wait: Duration) -> bool {
    wait <= WORTH_WAITING
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    const OFFERS: &str = "/subscriptions/s/providers/Microsoft.Compute/locations/eastus/publishers\
                          /p/artifacttypes/vmimage/offers";

    fn headers(short: u32, long: u32) -> HeaderMap {
        let text = format!(
            "Microsoft.Compute/ListVMImageOffersFromLocation3Min;{short},\
             Microsoft.Compute/ListVMImageOffersFromLocation30Min;{long}"
        );
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-ratelimit-remaining-resource", HeaderValue::try_from(text).unwrap());
        headers
    }

    /// A server with the recorded windows, counted exactly: never more than they allow, and all
    /// that they allow.
    #[test]
    fn a_window_is_spent_to_the_last_request_and_never_beyond() {
        let quota = Quota::new(true);
        let start = Instant::now();
        let mut now = start;
        let mut sent: Vec<Instant> = Vec::new();
        while sent.len() < 1_500 {
            match quota.ask(OFFERS, now) {
                Grant::Go(permit, wait) => {
                    now += wait;
                    let within = |length: u64| {
                        let since = now.checked_sub(Duration::from_secs(length));
                        let young = |at: &&Instant| since.is_none_or(|since| **at > since);
                        u32::try_from(sent.iter().filter(young).count()).unwrap()
                    };
                    let (short, long) = (within(180), within(1_800));
                    assert!(short < 200 && long < 1_000, "after {} requests", sent.len());
                    sent.push(now);
                    quota.answered(&permit, &headers(199 - short, 999 - long), now);
                    quota.done(&permit);
                }
                Grant::Later(wait) => now += wait.min(Duration::from_secs(5)),
            }
        }
        // 1,000 in the first half hour, at 200 every three minutes; then the oldest lapse.
        let shortest = Duration::from_mins(30 + 2 * 3);
        let took = now - start;
        assert!(took >= shortest && took <= shortest.mul_f64(1.05), "{took:?}");
    }

    #[test]
    fn other_processes_are_seen_in_what_remains() {
        let quota = Quota::new(false);
        let now = Instant::now();
        let Grant::Go(permit, _) = quota.ask(OFFERS, now) else { panic!("refused") };
        quota.answered(&permit, &headers(3, 500), now);
        quota.done(&permit);
        for _ in 0..3 {
            assert!(matches!(quota.ask(OFFERS, now), Grant::Go(..)));
        }
        assert!(matches!(quota.ask(OFFERS, now), Grant::Later(_)));
    }

    #[test]
    fn a_subscription_bucket_refills_at_its_rate() {
        let quota = Quota::new(true);
        let start = Instant::now();
        let path = "/subscriptions/s/locations";
        let mut now = start;
        for _ in 0..1_000 {
            match quota.ask(path, now) {
                Grant::Go(permit, wait) => {
                    now += wait;
                    quota.done(&permit);
                }
                Grant::Later(wait) => panic!("later by {wait:?}"),
            }
        }
        let took = (now - start).as_secs_f64();
        // A burst of 200, then 25 a second.
        assert!((31.0..=33.0).contains(&took), "{took}");
    }

    #[test]
    fn a_pause_holds_for_everyone() {
        let quota = Quota::new(false);
        let now = Instant::now();
        let Grant::Go(permit, _) = quota.ask(OFFERS, now) else { panic!("refused") };
        quota.pause(&permit, false, Duration::from_secs(90), now);
        let Grant::Later(wait) = quota.ask(OFFERS, now) else { panic!("not paused") };
        assert_eq!(wait, Duration::from_secs(90));
        let other = OFFERS.replace("eastus", "westus");
        assert!(matches!(quota.ask(&other, now), Grant::Go(..)));
        quota.pause(&permit, true, Duration::from_secs(5), now);
        assert!(!matches!(quota.ask(&other, now), Grant::Go(_, Duration::ZERO)));
    }
}
