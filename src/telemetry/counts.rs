//! Counts: events that say how much there is of something, and never reach the log.

use tracing::Metadata;

/// The target of events that count something.
pub const COUNTS: &str = "azimg::counts";

/// Counts something: `count!(monotonic_counter.azimg.rows = 12_u64, source)`.
macro_rules! count {
    ($($fields:tt)*) => {
        tracing::event!(target: $crate::telemetry::COUNTS, tracing::Level::TRACE, $($fields)*)
    };
}
pub(crate) use count;

/// Whether an event counts something.
pub(super) fn is_count(metadata: &Metadata<'_>) -> bool {
    metadata.target() == COUNTS
}
