//! A rate limit for interactive lookups, so that they use only a small part of the quota while
//! crawls run.

use reqwest::header::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Requests that may be sent without delay: what one publisher of the long tail takes.
const BURST: u32 = 60;
/// Interval between requests after the burst: 10 per second, two fifths of the reads that one
/// subscription is refilled with.
const EACH: Duration = Duration::from_millis(100);

/// A burst followed by a steady rate. All clones draw on one budget, one after the other; a caller
/// that is cancelled before its turn has used nothing.
#[derive(Debug, Clone)]
pub(super) struct RateLimit {
    /// Whether there is a quota to limit against.
    limited: Arc<AtomicBool>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl RateLimit {
    /// Creates a rate limit. A simulator is not limited until a response reports a quota.
    pub(super) fn new(limited: bool) -> Self {
        Self { limited: Arc::new(limited.into()), last: Arc::default() }
    }

    /// Learns from response headers whether there is a quota.
    pub(super) fn answered(&self, headers: &HeaderMap) {
        if headers.contains_key("x-ms-ratelimit-remaining-subscription-reads") {
            self.limited.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until one request may be sent.
    pub(super) async fn turn(&self) {
        if !self.limited.load(Ordering::Relaxed) {
            return;
        }
        let mut last = self.last.lock().await;
        // The virtual schedule runs at the steady rate and may be a burst ahead of the clock.
        let now = Instant::now();
        let scheduled = last.map_or(now, |last| (last + EACH).max(now));
        tokio::time::sleep_until(scheduled.checked_sub(EACH * BURST).unwrap_or(now)).await;
        *last = Some(scheduled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn burst_is_immediate_and_the_rest_follows_the_steady_rate() {
        let share = RateLimit::new(true);
        let began = Instant::now();
        for _ in 0..=BURST {
            share.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            share.turn().await;
        }
        assert!(began.elapsed() >= EACH * 10 && began.elapsed() < EACH * 11);
        tokio::time::advance(Duration::from_mins(1)).await;
        let later = Instant::now();
        share.turn().await;
        assert_eq!(later.elapsed(), Duration::ZERO, "what is not used comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_caller_consumes_no_permit() {
        let share = RateLimit::new(true);
        for _ in 0..=BURST {
            share.turn().await;
        }
        for _ in 0..1_000 {
            assert!(share.turn().now_or_never().is_none());
        }
        let began = Instant::now();
        share.turn().await;
        assert!(began.elapsed() <= EACH * 2, "{:?}", began.elapsed());
    }
}
