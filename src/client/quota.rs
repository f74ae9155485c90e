//! Pauses that hold for everyone in the process: when one request is told to wait, all that draw on
//! the same quota wait with it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The windows that are closed right now.
#[derive(Debug, Default)]
pub struct Quota {
    closed_until: Mutex<HashMap<String, Instant>>,
}

impl Quota {
    /// The quota that a request on `path` draws on: subscription, location and operation in the
    /// compute provider, the subscription otherwise (azure-quotas §7).
    pub fn bucket(path: &str) -> String {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let after = |name: &str| {
            let at = parts.iter().position(|part| part.eq_ignore_ascii_case(name))?;
            parts.get(at + 1).copied()
        };
        let subscription = after("subscriptions").unwrap_or("tenant");
        match after("locations") {
            // The operation is told by the depth: publishers, offers, SKUs, versions, one version.
            Some(location) => format!("{subscription}/{location}/{}", parts.len()),
            None => subscription.to_owned(),
        }
    }

    /// Waits until `bucket` is open; how long that took.
    pub async fn wait(&self, bucket: &str) -> Duration {
        let started = Instant::now();
        loop {
            let until = self.closed().get(bucket).copied();
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                Some(_) => {
                    self.closed().remove(bucket);
                }
                None => return started.elapsed(),
            }
        }
    }

    /// Closes `bucket` for `wait`, or longer if it is closed for longer already.
    pub fn pause(&self, bucket: &str, wait: Duration) {
        let until = Instant::now() + wait;
        let mut closed = self.closed();
        let entry = closed.entry(bucket.to_owned()).or_insert(until);
        *entry = (*entry).max(until);
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.closed_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
