//! Tells the user what a command is waiting for, and since when. On a terminal the line is
//! transient; otherwise it is a line of output.

use super::progress;
use crate::sink::{self, say};
use crate::telemetry::awaited;
use std::time::Duration;
use tokio::time::Instant;

/// Longer waits are shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// The interval of checks and updates.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The minimum interval between two lines about the same wait, where lines are not transient.
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
                // A progress display reports waits itself.
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
