//! Metrics: events that count something, and never reach the log.

use tracing::Metadata;

/// The target of metric events.
pub const COUNTS: &str = "azimg::counts";

/// Records a metric: `count!(monotonic_counter.azimg.rows = 12_u64, source)`.
macro_rules! count {
    ($($fields:tt)*) => {
        tracing::event!(target: $crate::telemetry::COUNTS, tracing::Level::TRACE, $($fields)*)
    };
}
pub(crate) use count;

/// Whether an event is a metric.
pub(super) fn is_count(metadata: &Metadata<'_>) -> bool {
    metadata.target() == COUNTS
}
