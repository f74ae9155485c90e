//! A subscription's bucket of reads in the Resource Manager: a burst, then a steady refill.

use std::time::{Duration, Instant};

/// Reads that may be sent at once, and per second, of one subscription and principal (learn:
/// "Understand how Azure Resource Manager throttles requests": 250 and 25); a little less burst,
/// since others may have drawn on it.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 25.0;

/// The refill is measured over at least this many seconds.
const MEASURED_OVER: f64 = 0.5;
/// However much others draw, a process sends one read a second.
const SLOWEST: f64 = 1.0;

/// What remains in a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Whether a limit is known: assumed, or read from an answer.
    known: bool,
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled_at: Instant,
    closed_until: Option<Instant>,
    /// Requests that may be sent, are waiting for it, or are under way.
    open: u32,
    /// Requests that were answered.
    answered: u32,
    /// When the refill was last looked at, after how many answers, and what remained.
    measured_from: Option<(Instant, u32, f64)>,
}

impl Bucket {
    pub(super) fn new(known: bool, now: Instant) -> Self {
        Self {
            known,
            tokens: BURST,
            burst: BURST,
            per_second: PER_SECOND,
            filled_at: now,
            closed_until: None,
            open: 0,
            answered: 0,
            measured_from: None,
        }
    }

    /// Takes one token, and says how long to wait before it may be used; none when that is longer
    /// than `most`.
    pub(super) fn take(&mut self, now: Instant, most: Duration) -> Result<Duration, Duration> {
        let closed = self.closed_until.map_or(Duration::ZERO, |until| until - now.min(until));
        let mut wait = closed;
        if self.known {
            let refilled = now.saturating_duration_since(self.filled_at).as_secs_f64();
            self.tokens = (self.tokens + refilled * self.per_second).min(self.burst);
            self.filled_at = now.max(self.filled_at);
            // Tokens below zero are promised already: whoever comes now waits behind them.
            let lacking = (1.0 - self.tokens).max(0.0) / self.per_second;
            wait = wait.max(Duration::from_secs_f64(lacking));
        }
        if wait > most {
            return Err(wait);
        }
        self.tokens -= 1.0;
        self.open += 1;
        Ok(wait)
    }

    /// A request is over, answered or not.
    pub(super) fn done(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// An answer said that `remaining` reads remain.
    pub(super) fn answered(&mut self, remaining: Option<f64>, now: Instant) {
        let Some(remaining) = remaining else { return };
        self.answered = self.answered.wrapping_add(1);
        if !self.known {
            self.known = true;
            self.filled_at = now;
        }
        self.burst = self.burst.max(remaining + 1.0);
        self.measure(remaining, now);
        // What is still open may not be in the server's number yet.
        self.tokens = remaining - f64::from(self.open.saturating_sub(1));
        self.filled_at = self.filled_at.max(now);
    }

    /// Learns the rate of refill from two answers some time apart: what was sent in between and
    /// what remains more than before must have come in. What other processes draw is seen as a
    /// slower refill, so that each takes its share.
    fn measure(&mut self, remaining: f64, now: Instant) {
        let Some((at, first, had)) = self.measured_from else {
            self.measured_from = Some((now, self.answered, remaining));
            return;
        };
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        if seconds < MEASURED_OVER {
            return;
        }
        let spent = f64::from(self.answered.wrapping_sub(first));
        let rate = (spent + remaining - had) / seconds;
        // A full bucket hides its refill: the rate is at least what was seen.
        let full = self.burst * 0.9;
        if remaining < full && had < full {
            self.per_second = f64::midpoint(self.per_second, rate.max(SLOWEST));
        } else {
            self.per_second = self.per_second.max(rate);
        }
        self.measured_from = Some((now, self.answered, remaining));
    }

    /// Nothing is sent before `until`.
    pub(super) fn pause(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
        self.tokens = self.tokens.min(0.0);
        self.filled_at = self.filled_at.max(until);
    }
}
