//! The Resource Manager's token bucket for reads, of one subscription and principal.
//!
//! The number of other processes that draw on it is unknown, but every response reports what
//! remains. So each process adapts its speed to the remaining level: immediately in proportion, and
//! slowly through its pace, until the level settles at a third. All processes see the same level,
//! so together they use up the refill and leave a reserve, whatever their number, without
//! coordination.

use std::time::Duration;
use tokio::time::Instant;

/// Capacity of a bucket in reads, and its refill in reads per second (learn: "Understand how Azure
/// Resource Manager throttles requests").
const FULL: f64 = 250.0;
const PER_SECOND: f64 = 25.0;

/// The target level, as a fraction of a full bucket: enough reserve for other processes to start
/// and be noticed.
const HELD: f64 = 1.0 / 3.0;
/// Burst of a process as a fraction of what remains, and as much again for urgent reads: eight
/// processes together never exceed what remains.
const BURST_FRACTION: f64 = 1.0 / 16.0;
/// Speed at an empty bucket and at a full one, as multiples of the pace.
const SLOWEST: f64 = 0.1;
const FASTEST: f64 = 3.0;
/// How fast the pace follows the level: critically damped together with the speed.
const GAIN: f64 = 2.25;
/// Factor applied to the pace by a refusal, and the minimum pace in reads per second.
const BACK_OFF: f64 = 0.7;
const LEAST_PACE: f64 = 0.5;
/// The refill is measured over this many responses, or over two seconds.
const MEASURED_OVER: u32 = 25;

/// What remains in a bucket, and how fast to draw on it.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Whether a limit is known: assumed, or read from a response.
    known: bool,
    /// Remaining reads according to the last response.
    level: f64,
    /// The highest level seen.
    full: f64,
    /// Estimate of the reads per second that keep the level constant.
    pace: f64,
    /// Reads that may be sent now; negative when urgent ones were sent ahead.
    credit: f64,
    filled_at: Instant,
    learned_at: Instant,
    closed_until: Option<Instant>,
    /// Whether a read had to wait since the last response: only then is the pace too slow.
    pressed: bool,
    /// When the refill was last measured, the responses since then, and the level at that time.
    measured: (Instant, u32, f64),
    /// When all deferred work will have been done.
    put_off_until: Instant,
}

impl Bucket {
    pub(super) fn new(known: bool, now: Instant) -> Self {
        Self {
            known,
            level: FULL,
            full: FULL,
            pace: PER_SECOND,
            credit: FULL * BURST_FRACTION,
            filled_at: now,
            learned_at: now,
            closed_until: None,
            pressed: false,
            measured: (now, 0, FULL),
            put_off_until: now,
        }
    }

    fn speed(&self) -> f64 {
        self.pace * (self.level / (self.full * HELD)).clamp(SLOWEST, FASTEST)
    }

    /// How long the bucket is closed, from `now` on.
    pub(super) fn closed(&self, now: Instant) -> Duration {
        self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// How long a request that arrives at `now` would wait.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let closed = self.closed(now);
        if !self.known {
            return closed;
        }
        let speed = self.speed();
        let since = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.credit = (self.credit + since * speed).min((self.level * BURST_FRACTION).max(1.0));
        self.filled_at = self.filled_at.max(now);
        closed + Duration::from_secs_f64((1.0 - self.credit).max(0.0) / speed)
    }

    /// Takes one read, or returns how long to wait for it. An `urgent` read goes ahead of waiting
    /// ones while the reserve lasts.
    pub(super) fn take(&mut self, now: Instant, urgent: bool) -> Result<(), Duration> {
        let mut wait = self.wait(now);
        self.pressed |= !wait.is_zero();
        if urgent && self.credit > -self.level * BURST_FRACTION {
            wait = self.closed(now);
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        self.credit -= 1.0;
        Ok(())
    }

    /// How long `reads` more reads would take.
    pub(super) fn time_for(&self, reads: u32) -> Duration {
        if self.known {
            Duration::from_secs_f64(f64::from(reads) / self.speed())
        } else {
            Duration::ZERO
        }
    }

    /// Defers work of `reads` reads: returns for how long, after everything that was deferred
    /// before.
    pub(super) fn deferral(&mut self, reads: f64, now: Instant) -> Duration {
        let begin = self.put_off_until.max(now);
        self.put_off_until = begin + Duration::from_secs_f64(reads / self.pace);
        begin - now
    }

    /// Learns from a response that `remaining` reads remain.
    pub(super) fn answered(&mut self, remaining: f64, now: Instant) {
        if !self.known {
            self.known = true;
            self.full = remaining + 1.0;
            self.credit = remaining * BURST_FRACTION;
            self.filled_at = now;
            self.measured = (now, 0, remaining);
        }
        self.full = self.full.max(remaining + 1.0);
        self.level = remaining;
        let held = self.full * HELD;
        let since = now.saturating_duration_since(self.learned_at).as_secs_f64().min(1.0);
        self.learned_at = self.learned_at.max(now);
        let off = (self.level - held) / self.full;
        if off < 0.0 || self.pressed {
            self.pace *= (GAIN * self.pace / self.full * off * since).clamp(-0.5, 0.5).exp();
        }
        self.pressed = false;
        self.measure(now);
        self.pace = self.pace.clamp(LEAST_PACE, 1e6);
    }

    /// Estimates the refill between two responses: the reads sent plus the rise of the level. While
    /// the level is above the target, the pace is at least that.
    fn measure(&mut self, now: Instant) {
        let (from, responses, had) = self.measured;
        let seconds = now.saturating_duration_since(from).as_secs_f64();
        let responses = responses + 1;
        self.measured.1 = responses;
        if responses < MEASURED_OVER && seconds < 2.0 || seconds <= 0.0 {
            return;
        }
        self.measured = (now, 0, self.level);
        let rate = (f64::from(responses) + self.level - had) / seconds;
        if self.level > self.full * HELD {
            self.pace = self.pace.max(rate);
        }
    }

    /// Closes the bucket until `until`.
    pub(super) fn pause(&mut self, until: Instant, now: Instant) {
        // All processes together were too fast, or too many. A burst gets many refusals, but counts
        // as one fault.
        if self.closed(now).is_zero() {
            self.pace = (self.pace * BACK_OFF).max(LEAST_PACE);
        }
        if self.closed_until.is_none_or(|closed| closed < until) {
            self.closed_until = Some(until);
        }
        self.level = 0.0;
        self.credit = self.credit.min(0.0);
        self.filled_at = self.filled_at.max(until);
    }
}
