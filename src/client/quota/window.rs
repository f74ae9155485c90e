//! The sliding windows of one operation in one location.
//!
//! Each request counts until it is as old as the window. What this process has used becomes
//! available again request by request; what others use is known from responses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Depth of the path below `publishers` of the only scarce operation: listing offers.
pub(super) const OFFERS: usize = 4;

/// Recorded limits by the depth of the path below `publishers`: policy, and requests per 3 and 30
/// minutes.
const RECORDED: &[(usize, &str, [i64; 2])] = &[
    (OFFERS, "ListVMImageOffersFromLocation", [200, 1_000]),
    (6, "ListVMImageSkusFromLocation", [10_000, 30_000]),
    (8, "ListVMImagesVersionsFromLocation", [16_000, 44_000]),
    (9, "GetVMImageFromLocation", [13_000, 74_000]),
];

/// Stands in for the depth of a Resource Graph query, and the policy that counts queries.
pub(super) const GRAPH: usize = usize::MAX;
pub(super) const QUERIES: &str = "ResourceGraph5Sec";
/// Queries that a principal may send within that window.
const MOST_QUERIES: i64 = 15;

/// A wait longer than this, or than this fraction (1/n) of a window, is not worth a worker's time.
const WORTH_WAITING: Duration = Duration::from_secs(20);
const WORTH_OF_WINDOW: u32 = 9;
/// A process has at most this fraction (1/n) of what remains under way: eight processes together
/// never exceed it.
const IN_FLIGHT_DIVISOR: i64 = 8;
/// Requests under way, at most, before the first response reports limits.
const MOST_BEFORE_LIMITS: u32 = 2;

/// All windows of an operation.
#[derive(Debug)]
pub(super) struct Operation {
    windows: Vec<Window>,
    closed_until: Option<Instant>,
    /// Permits that are held: requests about to be sent or under way.
    open: u32,
    /// Whether limits are known, or a response has shown that there are none.
    limits_known: bool,
    /// Wakes tasks that wait for another request to complete.
    pub(super) freed: Arc<Notify>,
}

#[derive(Debug)]
struct Window {
    policy: String,
    length: Duration,
    /// The most requests that were ever seen to fit into the window.
    limit: i64,
    remaining: i64,
    /// This process's requests that still count, by the time of their response.
    counted: VecDeque<Instant>,
    probe_at: Option<Instant>,
}

/// Why a request may not be sent now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Not for this long.
    For(Duration),
    /// Not until another request has completed.
    Full,
}

impl Operation {
    /// Creates an operation with the limits recorded for `depth` if `assume`, else with no known
    /// limits.
    pub(super) fn new(depth: usize, assume: bool) -> Self {
        let recorded = RECORDED.iter().find(|(at, ..)| assume && *at == depth);
        let windows = recorded.into_iter().flat_map(|(_, name, limits)| {
            [("3Min", limits[0]), ("30Min", limits[1])].map(|(suffix, limit)| {
                Window::new(&format!("Microsoft.Compute/{name}{suffix}"), limit)
            })
        });
        let queries = (assume && depth == GRAPH).then(|| Window::new(QUERIES, MOST_QUERIES));
        let windows: Vec<Window> = windows.chain(queries).flatten().collect();
        Self {
            limits_known: !windows.is_empty(),
            windows,
            closed_until: None,
            open: 0,
            freed: Arc::default(),
        }
    }

    /// Whether a request may be sent.
    pub(super) fn is_open(&mut self, now: Instant) -> Result<(), Blocked> {
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Err(Blocked::For(until - now));
        }
        let shut = self.windows.iter_mut().filter_map(|window| window.is_open(now).err()).max();
        if let Some(wait) = shut {
            // The server's numbers may include the requests under way already; their responses
            // report the actual level.
            let is_guess = self.windows.iter().all(|w| w.remaining + i64::from(self.open) > 0);
            return Err(if is_guess && self.open > 0 { Blocked::Full } else { Blocked::For(wait) });
        }
        let remaining = self.windows.iter().map(|window| window.remaining).min();
        let open = i64::from(self.open);
        let full = match remaining {
            _ if !self.limits_known => self.open >= MOST_BEFORE_LIMITS,
            Some(remaining) => open >= ((remaining + open) / IN_FLIGHT_DIVISOR).max(1),
            None => false,
        };
        if full { Err(Blocked::Full) } else { Ok(()) }
    }

    /// Whether less than half of a window remains: then its rate may decide how long a run takes.
    pub(super) fn is_scarce(&self) -> bool {
        self.windows.iter().any(|window| window.remaining < window.limit / 2)
    }

    /// Whether a worker should wait that long rather than do other work.
    pub(super) fn is_worth_waiting(&self, wait: Duration) -> bool {
        let shortest = self.windows.iter().map(|window| window.length / WORTH_OF_WINDOW).min();
        wait <= shortest.map_or(WORTH_WAITING, |shortest| shortest.min(WORTH_WAITING))
    }

    /// The earliest time at which the request with `before` others ahead of it can be sent, counted
    /// from when the first one was sent.
    pub(super) fn turn(&self, before: u32) -> Duration {
        let mut windows: Vec<&Window> = self.windows.iter().collect();
        windows.sort_by_key(|window| std::cmp::Reverse(window.length));
        let mut before = before;
        let mut turn = Duration::ZERO;
        for window in windows {
            let limit = u32::try_from(window.limit).unwrap_or(u32::MAX).max(1);
            turn += window.length * (before / limit);
            before %= limit;
        }
        turn
    }

    /// Counts a request that is about to be sent.
    pub(super) fn take(&mut self) {
        for window in &mut self.windows {
            window.remaining -= 1;
        }
        self.open += 1;
    }

    /// Records that a request is over, answered or not.
    pub(super) fn done(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.freed.notify_one();
    }

    /// Learns from a response what remains of some policies.
    pub(super) fn answered<'a>(
        &mut self,
        policies: impl Iterator<Item = (&'a str, i64)>,
        now: Instant,
    ) {
        if !self.limits_known {
            self.limits_known = true;
            self.freed.notify_waiters();
        }
        // Requests still open may not be in the server's numbers yet.
        let others = i64::from(self.open.saturating_sub(1));
        for (policy, remaining) in policies {
            let known = self.windows.iter().position(|window| window.policy == policy);
            let at = known.or_else(|| {
                self.windows.push(Window::new(policy, remaining + 1)?);
                Some(self.windows.len() - 1)
            });
            if let Some(at) = at {
                self.windows[at].answered(remaining, others, now);
            }
        }
    }

    /// Closes the operation until `until`.
    pub(super) fn pause(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
    }
}

impl Window {
    /// Creates a window from its policy's name, which ends in its length: `…3Min`, `…30Min`.
    fn new(policy: &str, limit: i64) -> Option<Self> {
        let unit = policy.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let count = unit.trim_start_matches(|c: char| !c.is_ascii_digit());
        let count = count.rsplit(|c: char| !c.is_ascii_digit()).next()?;
        let count: u32 = count.parse().ok()?;
        let seconds = match &policy[unit.len()..] {
            "Min" => 60,
            "Sec" => 1,
            "Hour" => 3_600,
            _ => return None,
        };
        Some(Self {
            policy: policy.to_owned(),
            length: Duration::from_secs(seconds) * count,
            limit,
            remaining: limit,
            counted: VecDeque::new(),
            probe_at: None,
        })
    }

    fn is_open(&mut self, now: Instant) -> Result<(), Duration> {
        while self.counted.front().is_some_and(|at| *at + self.length <= now) {
            self.counted.pop_front();
            self.remaining += 1;
        }
        if self.remaining > 0 {
            self.probe_at = None;
            return Ok(());
        }
        let own = self.counted.front().map(|oldest| *oldest + self.length - now);
        let used = i64::try_from(self.counted.len()).unwrap_or(i64::MAX);
        if let Some(wait) = own.filter(|_| used >= self.limit) {
            return Err(wait);
        }
        // Other processes use part of the window, and only they know when it becomes available
        // again: a single request probes for that.
        let probe_at = *self.probe_at.get_or_insert(now + self.length / 30);
        if probe_at > now {
            let wait = probe_at - now;
            return Err(own.map_or(wait, |own| own.min(wait)));
        }
        self.probe_at = None;
        self.remaining = 1;
        Ok(())
    }

    fn answered(&mut self, remaining: i64, others: i64, now: Instant) {
        self.counted.push_back(now);
        let used = i64::try_from(self.counted.len()).unwrap_or(i64::MAX);
        self.limit = self.limit.max(remaining.saturating_add(used));
        self.remaining = remaining - others;
    }
}
