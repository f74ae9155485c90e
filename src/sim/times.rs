//! Times as Azure writes them: with seven digits of a second.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as the compute provider writes it. For times of whole seconds.
pub(super) fn of_compute(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default().replace('Z', ".1234567+00:00")
}

/// A time as a registry writes it. For times of whole seconds.
pub(super) fn of_registry(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default().replace('Z', ".1234567Z")
}
