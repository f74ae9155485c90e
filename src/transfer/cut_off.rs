//! When an answer that brings bytes is taken for cut off.

use std::time::Duration;

/// An answer that brings less than this in that time is cut off.
pub(super) const SLOWEST: u64 = 16 << 10;
/// That time.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
