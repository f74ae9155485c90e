//! When the body of an answer counts as cut off.

use std::time::Duration;

/// In bytes. A body that brings less than this within [`WINDOW`] is cut off.
pub(super) const SLOWEST: u64 = 16 << 10;
/// The time over which [`SLOWEST`] is measured.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
