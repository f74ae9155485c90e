//! How long a process has waited for quota, in wall-clock time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Total time in which at least one request was waiting, here or in a queue.
#[derive(Debug, Default)]
pub struct QuotaWait(Mutex<(Option<Instant>, Duration)>);

impl QuotaWait {
    /// Records a wait of `wait` that begins at `now`. Overlapping waits count once.
    pub(crate) fn add(&self, now: Instant, wait: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, total) = &mut *state;
        let (begin, end) = (until.map_or(now, |until| until.max(now)), now + wait);
        if end > begin {
            *total += end - begin;
            *until = Some(end);
        }
    }

    /// Total time waited by `now`.
    pub fn until(&self, now: Instant) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, total) = *state;
        // The part after `now` has not been waited for yet.
        let ahead = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        total.saturating_sub(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_waits_count_once_and_only_after_they_end() {
        let waits = QuotaWait::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        waits.add(at(0), Duration::from_secs(10));
        waits.add(at(5), Duration::from_secs(10));
        waits.add(at(6), Duration::from_secs(2));
        assert_eq!(waits.until(at(6)), Duration::from_secs(6));
        assert_eq!(waits.until(at(20)), Duration::from_secs(15));
        waits.add(at(30), Duration::from_secs(5));
        assert_eq!(waits.until(at(40)), Duration::from_secs(20));
    }
}
