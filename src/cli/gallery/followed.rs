//! Reports the progress of a change on the command line, and how to follow it after an
//! interruption.

use crate::cli::stop;
use crate::error::Result;
use crate::gallery::ChangeStep;
use crate::sink::say;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// A change under way.
#[derive(Debug)]
pub(super) struct Followed {
    quiet: bool,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    /// The resource being changed.
    what: String,
    /// The URL of the operation under way. It is signed: it is printed only where it is needed, and
    /// never logged.
    operation: Option<Url>,
}

impl Followed {
    /// A change of `what`.
    pub(super) fn new(what: impl Into<String>, quiet: bool) -> Self {
        Self { quiet, now: Mutex::new(Now { what: what.into(), operation: None }) }
    }

    /// The same, already under way as `operation`.
    pub(super) fn at(self, operation: Url) -> Self {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).operation = Some(operation);
        self
    }

    /// Continues with a change of another resource.
    pub(super) fn begin(&self, what: String) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Now { what, operation: None };
    }

    /// Reports a step on stderr.
    pub(super) fn step(&self, step: ChangeStep) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let what = &now.what;
        let line = match &step {
            ChangeStep::Accepted(_) => format!("{what}: accepted"),
            ChangeStep::UnderWay(since, percent) => {
                let share = percent.map(|percent| format!(", {percent} %")).unwrap_or_default();
                let since = humantime::format_duration(Duration::from_secs(since.as_secs()));
                format!("{what}: under way for {since}{share}")
            }
            ChangeStep::Lost(why) => format!("{what}: {why}; checking whether the change was made"),
            ChangeStep::Overtaken(why) => {
                format!("{what}: {why}; sending the change again on top of the current state")
            }
            ChangeStep::Silent(why) => format!("{what}: {why}; querying the operation again"),
            ChangeStep::Over => String::new(),
        };
        if !self.quiet && !line.is_empty() {
            say!("{line}");
        }
        match step {
            ChangeStep::Accepted(operation) => now.operation = Some(operation),
            ChangeStep::Over | ChangeStep::Overtaken(_) => now.operation = None,
            ChangeStep::UnderWay(..) | ChangeStep::Lost(_) | ChangeStep::Silent(_) => {}
        }
    }

    /// Waits for a change, or until the command is requested to stop. An operation still under way
    /// then continues in Azure; prints how to follow it.
    pub(super) async fn to_end<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = stop::unless_stopped(change, || self.interrupted()).await;
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_err()
            && let Some(operation) = &now.operation
        {
            // The URL comes from Azure and is printed in single quotes, which it must not close.
            let address = operation.as_str().replace('\'', "%27");
            say!(
                "The operation continues in Azure. Follow it with: azimg gallery wait '{address}'"
            );
        }
        drop(now);
        ended
    }

    fn interrupted(&self) -> String {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match now.operation {
            Some(_) => "",
            None => "; the change may have started: check the resource before you repeat it",
        };
        format!("{}: interrupted{begun}", now.what)
    }
}
