//! What somebody sees who waits for a command: for what, and since when. A line that passes on a terminal, elsewhere
//! one that stays.

use super::progress;
use crate::sink::{self, say};
use crate::telemetry::awaited;
use std::time::Duration;
use tokio::time::Instant;

/// A wait that takes longer shows itself.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// It is looked for, and shown anew, this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Where lines stay, one wait has so long between two of them.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows waits until it is dropped.
pub(super) struct Watch(tokio::task::JoinHandle<()>);

impl Watch {
    pub(super) fn begin() -> Self {
        let is_terminal = sink::stderr_is_terminal();
        Self(tokio::spawn(async move {
            let mut said: Option<(String, Instant)> = None;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // Progress shows what is done, and tells of waits itself.
                let wait = awaited::longest().filter(|(_, since)| *since >= SHOWN_AFTER);
                match wait.filter(|_| !progress::is_shown()) {
                    Some((what, since)) if is_terminal => {
                        sink::show_passing(&format!("waiting for {what} ({} s)", since.as_secs()));
                    }
                    Some((what, since)) => {
                        let is_said = said.as_ref().is_some_and(|(before, at)| {
                            *before == what && at.elapsed() < LINE_EVERY
                        });
                        if !is_said {
                            say!("azimg: waiting for {what} ({} s)", since.as_secs());
                            said = Some((what, Instant::now()));
                        }
                    }
                    None => sink::end_passing(),
                }
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
        sink::end_passing();
    }
}
