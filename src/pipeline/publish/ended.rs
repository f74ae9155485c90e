//! How an attempt to close a run ended.

use crate::pipeline::snapshot::Manifest;
use crate::work::{RunId, WorkItem};

/// How an attempt to close a run ended.
#[derive(Debug)]
pub enum CloseAttempt {
    /// Its snapshot is there.
    Published(Box<Manifest>),
    /// Another run is being published, and this one comes after it.
    Busy {
        /// The other run.
        other: RunId,
    },
    /// Every listing is in; these items ask for details.
    Details(Vec<WorkItem>),
    /// These items have not ended, of so many that are expected.
    Open {
        /// The items.
        missing: Vec<WorkItem>,
        /// How many are expected.
        expected: usize,
    },
}
