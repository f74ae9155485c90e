//! Quota as a budget: how many requests may be sent, and when.
//!
//! Azure counts a request against a bucket of its subscription and principal (Resource Manager) and
//! against sliding windows of its subscription, location and operation (the compute provider), and
//! reports in every response what remains. The model starts from recorded limits, or from none
//! where they are unknown, and responses override it. The scarce operation has priority. A short
//! wait is waited for here; for a longer one the caller gets an error, since it has other work.

mod bucket;
mod window;

use bucket::Bucket;
use reqwest::header::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use window::{Blocked, OFFERS, Operation};

/// Waiting requests that occupy half of a process's workers: the other half is kept free for
/// listings of offers while these are scarce.
const MOST_WAITING: usize = 128;
/// A bucket closed for longer than this is not worth a worker's time.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What remains of everything that this process draws on.
#[derive(Debug)]
pub struct Quota {
    /// Whether recorded limits apply before any response has reported one.
    assume: bool,
    /// Number of principals; each has its own buckets.
    principals: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<String, Account>,
    operations: HashMap<String, Operation>,
}

/// What the reads of one subscription are counted against.
#[derive(Debug)]
struct Account {
    /// One bucket per principal.
    buckets: Vec<Bucket>,
    /// The holder of this lock is the next to draw.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Number of tasks that hold or wait for the lock.
    waiting: u32,
}

/// Whether a request may be sent.
#[derive(Debug)]
pub(super) enum Grant {
    /// It may be sent.
    Go(Permit),
    /// Ask again after this time, and stay at the head of the queue.
    Soon(Duration),
    /// Ask again after this time.
    Wait(Duration),
    /// Ask again when this wakes: as many requests are under way as what remains allows.
    Full(Arc<Notify>),
    /// Not for this long; do other work.
    Later(Duration),
}

/// The right to send one request. It is returned on drop, however the request ended: answered,
/// failed, or abandoned by its caller.
#[derive(Debug)]
pub(super) struct Permit {
    quota: Arc<Quota>,
    account: String,
    operation: String,
    /// Index of the principal whose token to send.
    pub(super) principal: usize,
}

/// The account, the operation and the depth that a request on `path` is counted by: its
/// subscription's bucket; subscription, location and operation in the compute provider. Listings of
/// marketplace images are distinguished by the depth of their path, all others by the types in it:
/// operations that share no policy must not share a window.
fn names(path: &str) -> (String, String, usize) {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let at = |name: &str| parts.iter().position(|part| part.eq_ignore_ascii_case(name));
    let after = |name: &str| at(name).and_then(|at| parts.get(at + 1)).copied();
    let subscription = after("subscriptions").unwrap_or("tenant").to_owned();
    let location = after("locations").unwrap_or("-");
    if let Some(at) = at("publishers") {
        let depth = parts.len() - at - 1;
        return (subscription.clone(), format!("{subscription}/{location}/{depth}"), depth);
    }
    let types: Vec<&str> = parts.iter().step_by(2).copied().collect();
    let operation = format!("{subscription}/{location}/{}/{}", parts.len(), types.join("/"));
    let is_graph = at("microsoft.resourcegraph").is_some();
    (subscription, operation, if is_graph { window::GRAPH } else { 0 })
}

impl Quota {
    /// Creates an unused quota for `principals` principals. With `assume`, recorded limits apply
    /// from the first request on.
    pub fn new(assume: bool, principals: usize) -> Self {
        Self { assume, principals, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a permit to send a request on `path` at `now`.
    pub(super) fn ask(self: &Arc<Self>, path: &str, now: Instant) -> Grant {
        let (account, operation_name, depth) = names(path);
        let mut state = self.state();
        let State { accounts, operations } = &mut *state;
        let operation = operations
            .entry(operation_name.clone())
            .or_insert_with(|| Operation::new(depth, self.assume));
        match operation.is_open(now) {
            Ok(()) => {}
            Err(Blocked::Full) => return Grant::Full(Arc::clone(&operation.freed)),
            Err(Blocked::For(wait)) if operation.is_worth_waiting(wait) => {
                return Grant::Wait(wait);
            }
            Err(Blocked::For(wait)) => return Grant::Later(wait),
        }
        let Account { buckets, .. } =
            accounts.entry(account.clone()).or_insert_with(|| self.account(now));
        let waits = buckets.iter_mut().map(|bucket| bucket.wait(now)).enumerate();
        let (principal, _) = waits.min_by_key(|(_, wait)| *wait).unwrap_or_default();
        let closed = buckets[principal].closed(now);
        if closed > LONGEST_PAUSE {
            return Grant::Later(closed);
        }
        if let Err(wait) = buckets[principal].take(now, depth == OFFERS) {
            return Grant::Soon(wait);
        }
        operation.take();
        let quota = Arc::clone(self);
        Grant::Go(Permit { quota, account, operation: operation_name, principal })
    }

    fn account(&self, now: Instant) -> Account {
        let buckets = (0..self.principals.max(1)).map(|_| Bucket::new(self.assume, now)).collect();
        Account { buckets, turn: Arc::default(), waiting: 0 }
    }

    /// Queues for the account that `path` draws on, in order of arrival. Listings of offers do not
    /// queue.
    pub(super) async fn queue(&self, path: &str) -> Option<QueueSlot<'_>> {
        let (account, _, depth) = names(path);
        if depth == OFFERS {
            return None;
        }
        let turn = {
            let mut state = self.state();
            let entry = state.accounts.entry(account.clone());
            let entry = entry.or_insert_with(|| self.account(Instant::now()));
            entry.waiting += 1;
            Arc::clone(&entry.turn)
        };
        let mut place = QueueSlot { quota: self, account, turn: None };
        place.turn = Some(turn.lock_owned().await);
        Some(place)
    }

    /// Learns from response headers.
    pub(super) fn answered(&self, permit: &Permit, headers: &HeaderMap, now: Instant) {
        let mut state = self.state();
        let reads = headers.get("x-ms-ratelimit-remaining-subscription-reads");
        let reads = reads.and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
        if let (Some(reads), Some(bucket)) = (reads, state.bucket(permit)) {
            bucket.answered(reads.max(0.0), now);
        }
        if let Some(operation) = state.operations.get_mut(&permit.operation) {
            // Resource Graph counts the queries of a principal: 15 in 5 seconds (azure-quotas §3).
            let queries = headers.get("x-ms-user-quota-remaining");
            let queries = queries.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            if let Some(queries) = queries {
                operation.answered([(window::QUERIES, queries)].into_iter(), now);
            }
            let all = headers.get_all("x-ms-ratelimit-remaining-resource");
            let policies = all.iter().filter_map(|value| value.to_str().ok());
            let policies = policies.flat_map(|value| value.split(',')).filter_map(|policy| {
                let (name, remaining) = policy.trim().rsplit_once(';')?;
                Some((name, remaining.trim().parse().ok()?))
            });
            operation.answered(policies, now);
        }
    }

    /// Closes what a throttled request drew on for `wait`, for everyone in the process.
    /// `whole_bucket` closes the principal's bucket, not just the operation. Returns whether the
    /// wait is worth a worker's time.
    pub(super) fn pause(
        &self,
        permit: &Permit,
        whole_bucket: bool,
        wait: Duration,
        now: Instant,
    ) -> bool {
        let mut state = self.state();
        if whole_bucket {
            if let Some(bucket) = state.bucket(permit) {
                bucket.pause(now + wait, now);
            }
            return wait <= LONGEST_PAUSE;
        }
        let Some(operation) = state.operations.get_mut(&permit.operation) else { return true };
        operation.pause(now + wait);
        operation.is_worth_waiting(wait)
    }

    /// The earliest time at which a listing of offers with `before` others ahead of it can be sent,
    /// counted from the first one.
    pub(super) fn turn(&self, subscription: &str, location: &str, before: u32) -> Duration {
        let name = format!("{subscription}/{location}/{OFFERS}");
        let mut state = self.state();
        let operations = &mut state.operations;
        let operation =
            operations.entry(name).or_insert_with(|| Operation::new(OFFERS, self.assume));
        operation.turn(before)
    }

    /// After offers were listed: how long to delay the `reads` reads that follow, so that they do
    /// not hold up further listings of offers; `None` when they do not compete.
    pub(super) fn deferral(
        &self,
        subscription: &str,
        location: &str,
        reads: f64,
        now: Instant,
    ) -> Option<Duration> {
        let mut state = self.state();
        let State { accounts, operations } = &mut *state;
        let operation = operations.get(&format!("{subscription}/{location}/{OFFERS}"))?;
        let busy = accounts.values().filter(|account| account.waiting > 0).count();
        let Account { buckets, waiting, .. } = accounts.get_mut(subscription)?;
        // All accounts share the workers of this process.
        let crowded = usize::try_from(*waiting).unwrap_or(0) * busy > MOST_WAITING;
        let share = u32::try_from(buckets.len()).unwrap_or(1);
        let wait = buckets.iter_mut().map(|b| b.wait(now) + b.time_for(*waiting / share)).min()?;
        if !operation.is_scarce() || (operation.is_worth_waiting(wait * 4) && !crowded) {
            return None;
        }
        buckets.first_mut().map(|bucket| bucket.deferral(reads / f64::from(share), now))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(operation) = self.quota.state().operations.get_mut(&self.operation) {
            operation.done();
        }
    }
}

impl State {
    fn bucket(&mut self, permit: &Permit) -> Option<&mut Bucket> {
        self.accounts.get_mut(&permit.account)?.buckets.get_mut(permit.principal)
    }
}

/// A slot at the head of the queue for an account; released on drop.
pub(super) struct QueueSlot<'a> {
    quota: &'a Quota,
    account: String,
    turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.turn = None;
        if let Some(account) = self.quota.state().accounts.get_mut(&self.account) {
            account.waiting = account.waiting.saturating_sub(1);
        }
    }
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

    fn reads(remaining: f64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let text = HeaderValue::try_from(remaining.floor().to_string()).unwrap();
        headers.insert("x-ms-ratelimit-remaining-subscription-reads", text);
        headers
    }

    /// A server with the recorded windows, counted exactly: never more than they allow, and all
    /// that they allow.
    #[test]
    fn window_is_spent_completely_and_never_exceeded() {
        let quota = Arc::new(Quota::new(true, 1));
        let start = Instant::now();
        let mut now = start;
        let mut sent: Vec<Instant> = Vec::new();
        while sent.len() < 1_500 {
            match quota.ask(OFFERS, now) {
                Grant::Go(permit) => {
                    let within = |length: u64| {
                        let since = now.checked_sub(Duration::from_secs(length));
                        let young = |at: &&Instant| since.is_none_or(|since| **at > since);
                        u32::try_from(sent.iter().filter(young).count()).unwrap()
                    };
                    let (short, long) = (within(180), within(1_800));
                    assert!(short < 200 && long < 1_000, "after {} requests", sent.len());
                    sent.push(now);
                    quota.answered(&permit, &headers(199 - short, 999 - long), now);
                }
                Grant::Later(wait) | Grant::Wait(wait) | Grant::Soon(wait) => {
                    now += wait.min(Duration::from_secs(5));
                }
                Grant::Full(_) => panic!("nothing is under way"),
            }
        }
        // 1,000 in the first half hour, at 200 every three minutes; then the oldest expire.
        let shortest = quota.turn("s", "eastus", 1_499);
        let took = now - start;
        assert_eq!(shortest, Duration::from_mins(30 + 2 * 3));
        assert!(took >= shortest && took <= shortest.mul_f64(1.05), "{took:?}");
    }

    #[test]
    fn operations_with_own_policies_have_own_windows() {
        let of = |path: &str| names(path).1;
        let place = "/subscriptions/s/providers/Microsoft.Compute";
        let all = [
            format!("{place}/galleries"),
            format!("{place}/images"),
            format!("{place}/locations/l/sharedGalleries"),
            format!("{place}/locations/l/sharedGalleries/g/images"),
            format!("{place}/locations/l/sharedGalleries/g/images/i/versions"),
            format!("{place}/locations/l/communityGalleries/g/images"),
            format!("{place}/locations/m/sharedGalleries/g/images"),
            "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/galleries/g".to_owned(),
            OFFERS.to_owned(),
        ];
        let different: std::collections::HashSet<String> = all.iter().map(|p| of(p)).collect();
        assert_eq!(different.len(), all.len());
        let other = format!("{place}/locations/l/sharedGalleries/h/images");
        assert_eq!(of(&other), of(&all[3]));
    }

    #[test]
    fn remaining_quota_reflects_other_processes() {
        let quota = Arc::new(Quota::new(false, 1));
        let now = Instant::now();
        let Grant::Go(permit) = quota.ask(OFFERS, now) else { panic!("refused") };
        quota.answered(&permit, &headers(3, 500), now);
        drop(permit);
        for _ in 0..3 {
            // One at a time: seven other processes may see the same three.
            let Grant::Go(permit) = quota.ask(OFFERS, now) else { panic!("refused") };
            assert!(matches!(quota.ask(OFFERS, now), Grant::Full(_) | Grant::Later(_)));
            drop(permit);
        }
        // What others used becomes available at an unknown time: one request probes for it, a
        // thirtieth of the window later.
        let Grant::Wait(wait) = quota.ask(OFFERS, now) else { panic!("not spent") };
        assert_eq!(wait, Duration::from_secs(6));
        let later = now + wait;
        let Grant::Go(permit) = quota.ask(OFFERS, later) else { panic!("nobody finds out") };
        assert!(!quota.pause(&permit, false, Duration::from_secs(100), later));
        assert!(matches!(quota.ask(OFFERS, later), Grant::Later(_)));
    }

    /// A response counts the requests under way, too: subtracted a second time, nothing would be
    /// left until this process's own oldest request expires.
    #[test]
    fn counted_requests_in_flight_do_not_close_a_window() {
        let quota = Arc::new(Quota::new(true, 1));
        let now = Instant::now();
        let ask = |at: Instant| match quota.ask(OFFERS, at) {
            Grant::Go(permit) => Some(permit),
            Grant::Full(_) => None,
            other => panic!("{other:?}"),
        };
        let first = ask(now).unwrap();
        let under_way: Vec<Permit> = std::iter::from_fn(|| ask(now)).collect();
        assert!(under_way.len() > 10);
        quota.answered(&first, &headers(5, 805), now);
        drop(first);
        assert!(ask(now).is_none(), "the others tell how it stands");
        for permit in under_way {
            quota.answered(&permit, &headers(5, 805), now);
            drop(permit);
        }
        assert!(ask(now).is_some());
    }

    /// A bucket of 250 with a refill of 25 per second, drawn on by `processes` that only see what
    /// remains.
    fn draw(processes: usize, seconds: u32) -> (u32, u32) {
        let all: Vec<Arc<Quota>> = (0..processes).map(|_| Arc::new(Quota::new(true, 1))).collect();
        let path = "/subscriptions/s/locations";
        let start = Instant::now();
        let (mut level, mut sent, mut refused) = (250.0_f64, 0, 0);
        let mut due: Vec<(Instant, usize, Permit)> = Vec::new();
        for tick in 0..seconds * 100 {
            let now = start + Duration::from_millis(10) * tick;
            level = (level + 0.25).min(250.0);
            for (who, quota) in all.iter().enumerate() {
                // Each has work for ten requests in parallel; a response takes 100 ms.
                while due.iter().filter(|(_, other, _)| *other == who).count() < 10 {
                    let Grant::Go(permit) = quota.ask(path, now) else { break };
                    due.push((now + Duration::from_millis(100), who, permit));
                }
            }
            let (over, open): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, ..)| *at <= now);
            due = open;
            for (at, who, permit) in over {
                if level >= 1.0 {
                    level -= 1.0;
                    sent += 1;
                    all[who].answered(&permit, &reads(level), at);
                } else {
                    refused += 1;
                    all[who].pause(&permit, true, Duration::from_secs(1), at);
                }
            }
        }
        (sent, refused)
    }

    #[test]
    fn bucket_is_spent_by_one_or_many_callers_without_refusals() {
        for processes in [1, 2, 8, 16] {
            let (sent, refused) = draw(processes, 600);
            let refilled = 25 * 600;
            assert!(sent >= refilled, "{processes}: {sent} of {refilled}");
            assert!(refused * 100 <= sent, "{processes}: {refused} refused of {sent}");
        }
    }

    #[test]
    fn each_principal_has_its_own_bucket() {
        let quota = Arc::new(Quota::new(true, 3));
        let now = Instant::now();
        let mut served = [0; 3];
        while let Grant::Go(permit) = quota.ask("/subscriptions/s/locations", now) {
            served[permit.principal] += 1;
        }
        assert_eq!(served, [15, 15, 15]);
    }

    #[test]
    fn pause_applies_to_all_callers() {
        let quota = Arc::new(Quota::new(false, 1));
        let now = Instant::now();
        let Grant::Go(permit) = quota.ask(OFFERS, now) else { panic!("refused") };
        assert!(!quota.pause(&permit, false, Duration::from_secs(90), now));
        let Grant::Later(wait) = quota.ask(OFFERS, now) else { panic!("not paused") };
        assert_eq!(wait, Duration::from_secs(90));
        let other = OFFERS.replace("eastus", "westus");
        assert!(matches!(quota.ask(&other, now), Grant::Go(..)));
        assert!(quota.pause(&permit, true, Duration::from_secs(5), now));
        let Grant::Soon(wait) = quota.ask(&other, now) else { panic!("not paused") };
        assert!(wait >= Duration::from_secs(5));
    }
}
