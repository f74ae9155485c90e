//! A small share of the quota, for lookups that somebody waits for while crawls go on.

use reqwest::header::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// So many requests at once, as one publisher of the long tail takes.
const BURST: u32 = 60;
/// One request in this time after that: two fifths of the reads that one subscription gets back.
const EACH: Duration = Duration::from_millis(100);

/// Requests that share one budget: a burst, and a steady rate behind it. All clones draw on it, one after the other;
/// who leaves before its turn has taken nothing.
#[derive(Debug, Clone)]
pub(super) struct RateLimit {
    /// Whether there is a quota to take a share of.
    limited: Arc<AtomicBool>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl RateLimit {
    /// A share of a quota; a stand-in has none until an answer tells of one.
    pub(super) fn new(limited: bool) -> Self {
        Self { limited: Arc::new(limited.into()), last: Arc::default() }
    }

    /// Learns from the headers of an answer whether there is a quota.
    pub(super) fn answered(&self, headers: &HeaderMap) {
        if headers.contains_key("x-ms-ratelimit-remaining-subscription-reads") {
            self.limited.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for the turn of one request.
    pub(super) async fn turn(&self) {
        if !self.limited.load(Ordering::Relaxed) {
            return;
        }
        let mut last = self.last.lock().await;
        // The virtual schedule runs at the steady rate, and may be a burst ahead of the clock.
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
    async fn a_burst_goes_at_once_and_the_rest_at_the_steady_rate() {
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
    async fn who_leaves_before_its_turn_has_taken_nothing() {
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
