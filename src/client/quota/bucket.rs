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
    sent: u64,
    seen: u64,
    /// When the refill was last looked at, after which request, and what remained.
    measured_from: Option<(Instant, u64, f64)>,
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
            sent: 0,
            seen: 0,
            measured_from: None,
        }
    }

    /// Takes one token, and says how long to wait before it may be used; none when that is longer
    /// than `most`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        most: Duration,
    ) -> Result<(u64, Duration), Duration> {
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
        self.sent += 1;
        Ok((self.sent, wait))
    }

    /// An answer to the `sequence`-th request said that `remaining` reads remain.
    pub(super) fn answered(&mut self, sequence: u64, remaining: Option<f64>, now: Instant) {
        let Some(remaining) = remaining else { return };
        if sequence <= self.seen {
            return;
        }
        self.seen = sequence;
        if !self.known {
            self.known = true;
            self.filled_at = now;
        }
        self.burst = self.burst.max(remaining + 1.0);
        self.measure(sequence, remaining, now);
        // What was sent behind this request is not in the server's number yet.
        let behind = (self.sent - sequence) as f64;
        self.tokens = remaining - behind;
        self.filled_at = self.filled_at.max(now);
    }

    /// Learns the rate of refill from two answers some time apart: what was sent in between and
    /// what remains more than before must have come in. What other processes draw is seen as a
    /// slower refill, so that each takes its share.
    fn measure(&mut self, sequence: u64, remaining: f64, now: Instant) {
        let Some((at, first, had)) = self.measured_from else {
            self.measured_from = Some((now, sequence, remaining));
            return;
        };
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        if seconds < MEASURED_OVER {
            return;
        }
        let rate = ((sequence - first) as f64 + remaining - had) / seconds;
        // A full bucket hides its refill: the rate is at least what was seen.
        let full = self.burst * 0.9;
        if remaining < full && had < full {
            self.per_second = f64::midpoint(self.per_second, rate.max(SLOWEST));
        } else {
            self.per_second = self.per_second.max(rate);
        }
        self.measured_from = Some((now, sequence, remaining));
    }

    /// Nothing is sent before `until`.
    pub(super) fn pause(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
        self.tokens = self.tokens.min(0.0);
        self.filled_at = self.filled_at.max(until);
    }
}
