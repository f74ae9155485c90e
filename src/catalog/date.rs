//! Dates as people write them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A date, with or without a time.
pub(crate) fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339))
        .ok()
}
