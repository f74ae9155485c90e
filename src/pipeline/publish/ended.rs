//! The result of an attempt to close a run.

use crate::pipeline::snapshot::Manifest;
use crate::work::{RunId, WorkItem};

/// The result of an attempt to close a run.
#[derive(Debug)]
pub enum CloseAttempt {
    /// The run has a snapshot.
    Published(Box<Manifest>),
    /// Another run is being published, and this one must wait for it.
    Busy {
        /// The other run.
        other: RunId,
    },
    /// All listings are complete. These items fetch details.
    Details(Vec<WorkItem>),
    /// Some items have not ended.
    Open {
        /// The items that have not ended.
        missing: Vec<WorkItem>,
        /// Number of expected items.
        expected: usize,
    },
}
