//! Request rate for one registry. Its limits are counted by class and identity, and the answers to
//! listings do not state them (azure-quotas §4). So the rate adapts: a refusal slows all callers
//! down, successes speed them up again.

use crate::client::{RetryPolicy, Traffic, within};
use crate::error::{Error, ErrorKind, Result};
use backon::ExponentialBackoff;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// The initial rate, in requests per second: below what any tier allows one identity.
const FIRST: f64 = 50.0;
/// The rate is multiplied by `GROWTH` at most once a second while nothing is refused, and by
/// `SHRINKING` on a refusal.
const GROWTH: f64 = 1.05;
const SHRINKING: f64 = 0.7;
/// The highest rate, in requests per second: thirty times what the highest tier is documented with.
/// No registry accepts more from one identity.
const FASTEST: f64 = 5_000.0;
/// The shortest time over which a burst is measured, in seconds.
const SHORTEST_BURST: f64 = 0.1;
const SECOND: Duration = Duration::from_secs(1);

/// The rate limit shared by all callers of one registry.
#[derive(Debug)]
pub(super) struct RegistryRate(Mutex<RateState>);

#[derive(Debug)]
struct RateState {
    /// Nothing is sent before this time.
    closed: Option<Instant>,
    /// Requests per second. `None` until the first refusal if no limit is known.
    rate: Option<f64>,
    /// The earliest time of the next request.
    next: Option<Instant>,
    /// When the rate was last changed.
    changed: Option<Instant>,
    /// The number of requests and since when they were counted, while there is no rate.
    sent: (u32, Option<Instant>),
    /// Whether a caller had to wait since the rate was last changed. Only then is the rate too low.
    pressed: bool,
}

impl RegistryRate {
    /// Creates the rate limit of a registry. A registry on this machine has no limit until it
    /// refuses a request.
    pub(super) fn new(local: bool) -> Self {
        let rate = (!local).then_some(FIRST);
        Self(Mutex::new(RateState {
            closed: None,
            rate,
            next: None,
            changed: None,
            sent: (0, None),
            pressed: false,
        }))
    }

    fn state(&self) -> MutexGuard<'_, RateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may be sent.
    pub(crate) async fn pass(&self) {
        loop {
            let now = Instant::now();
            let until = {
                let mut state = self.state();
                match state.closed.filter(|until| *until > now) {
                    Some(until) => until,
                    None => match state.turn(now) {
                        Some(turn) => turn,
                        None => return,
                    },
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Records a successful request.
    pub(super) fn record_success(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let is_time = state.changed.is_none_or(|at| now.saturating_duration_since(at) >= SECOND);
        if state.pressed && is_time {
            state.rate = state.rate.map(|rate| (rate * GROWTH).min(FASTEST));
            (state.changed, state.pressed) = (Some(now), false);
        }
    }

    /// Records a refused request: nothing is sent for `wait`, and the rate is lower afterwards.
    fn close(&self, wait: Duration) {
        let now = Instant::now();
        let mut state = self.state();
        // Requests that were under way together are refused together, and count once. The newest
        // answer is the right one: a wait counts down.
        if state.closed.is_none_or(|until| until <= now) {
            let (sent, since) = state.sent;
            let took = since.map_or(1.0, |since| (now - since).as_secs_f64().max(SHORTEST_BURST));
            let measured = (f64::from(sent) / took).clamp(2.0, FASTEST);
            state.rate = Some((state.rate.unwrap_or(measured) * SHRINKING).max(0.5));
            (state.changed, state.pressed) = (Some(now + wait), false);
        }
        state.closed = Some(now + wait);
        state.next = None;
    }
}

impl RateState {
    /// Takes the next turn if it is due; otherwise returns when it is.
    fn turn(&mut self, now: Instant) -> Option<Instant> {
        let Some(rate) = self.rate else {
            if self.sent.1.is_none_or(|since| now - since >= SECOND) {
                self.sent = (0, Some(now));
            }
            self.sent.0 += 1;
            return None;
        };
        let later = self.next.filter(|next| *next > now);
        self.pressed |= later.is_some();
        if later.is_none() {
            // A pause does not accumulate turns for a burst.
            self.next = Some(now + SECOND.div_f64(rate));
        }
        later
    }
}

/// The attempts of one request.
pub(crate) struct Attempts<'a> {
    pace: &'a RegistryRate,
    traffic: &'a Traffic,
    policy: RetryPolicy,
    delays: ExponentialBackoff,
    path: String,
    waited: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(pace: &'a RegistryRate, traffic: &'a Traffic, url: &Url) -> Self {
        let policy = RetryPolicy::default();
        let (delays, path) = (policy.delays(url), url.path().to_owned());
        Self { pace, traffic, policy, delays, path, waited: Duration::ZERO }
    }

    /// Waits until the next attempt may be sent, within the time that the caller has left.
    pub(crate) async fn pass(&self) -> Result<()> {
        within(&self.path, self.pace.pass()).await
    }

    /// Waits as a failure requires. Returns the failure if there is to be no further attempt.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        let wait = match error.kind() {
            // Bytes that do not match their digest may have been cut off or altered in transit.
            ErrorKind::Corrupt => self.delays.next(),
            _ => self.policy.wait(&error, &mut self.delays, self.waited),
        };
        let Some(wait) = wait else { return Err(error) };
        self.waited += wait;
        self.traffic.retried.fetch_add(1, Ordering::Relaxed);
        if error.retry_after().is_some() {
            self.traffic.wait(&self.path, Instant::now(), wait);
        }
        if error.retry_after().is_some() {
            self.pace.close(wait);
        } else {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_grows_only_while_callers_wait_for_it() {
        let pace = RegistryRate::new(false);
        for _ in 0..3_600 {
            pace.pass().await;
            tokio::time::advance(SECOND).await;
            pace.record_success();
        }
        assert_eq!(pace.state().rate, Some(FIRST), "one a second is not kept waiting by fifty");
        while pace.state().rate < Some(FASTEST) {
            pace.state().pressed = true;
            tokio::time::advance(SECOND).await;
            pace.record_success();
        }
        pace.state().pressed = true;
        tokio::time::advance(SECOND).await;
        pace.record_success();
        assert_eq!(pace.state().rate, Some(FASTEST));
        pace.close(SECOND);
        assert_eq!(pace.state().rate, Some(FASTEST * SHRINKING));
    }

    #[tokio::test(start_paused = true)]
    async fn immediately_refused_burst_sets_a_rate() {
        let pace = RegistryRate::new(true);
        for _ in 0..20 {
            pace.pass().await;
        }
        pace.close(SECOND);
        assert_eq!(pace.state().rate, Some(20.0 / SHORTEST_BURST * SHRINKING));
        let unused = RegistryRate::new(true);
        unused.close(SECOND);
        assert_eq!(unused.state().rate, Some(2.0 * SHRINKING));
    }
}
