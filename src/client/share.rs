//! A small share of the quota, for lookups that somebody waits for while crawls go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So many requests at once, as one publisher of the long tail takes.
const BURST: u32 = 60;
/// One request in this time after that: two fifths of the reads that one subscription gets back.
const EACH: Duration = Duration::from_millis(100);

/// Requests that share one budget: a burst, and a steady rate behind it. All clones draw on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Share(Arc<Mutex<Option<Instant>>>);

impl Share {
    /// Waits for the turn of one request.
    pub(super) async fn turn(&self) {
        let turn = self.next(Instant::now());
        tokio::time::sleep_until(turn).await;
    }

    /// The moment of the next request's turn, when it is `now`: the virtual schedule runs at the
    /// steady rate, and may be a burst ahead of the clock.
    fn next(&self, now: Instant) -> Instant {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scheduled = state.map_or(now, |last| (last + EACH).max(now));
        *state = Some(scheduled);
        scheduled.checked_sub(EACH * BURST).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_steady_rate() {
        let share = Share::default();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..80).map(|_| share.next(now) - now).collect();
        assert!(waits[..=BURST as usize].iter().all(Duration::is_zero));
        assert_eq!(waits[70], EACH * 10);
        let later = now + Duration::from_mins(1);
        assert_eq!(share.next(later), later, "what is not used comes back");
    }
}
