//! Time spans as users write them, with a bound checked on parsing.
//!
//! Invariant: no span is longer than [`LONGEST`], so that adding one to a date of azimg's yields a
//! valid date.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use time::OffsetDateTime;

/// The longest span: 100 years. A setting that allows an unlimited span has a keyword for it.
pub const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// A time span, written as `30d` or `12h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// Creates a span, at most `LONGEST`.
    pub const fn new(length: Duration) -> Self {
        if length.as_secs() > LONGEST.as_secs() { Self(LONGEST) } else { Self(length) }
    }

    /// The length of the span.
    pub const fn length(self) -> Duration {
        self.0
    }

    /// The time that is this long before `at`, or the earliest one that can be represented.
    pub fn before(self, at: OffsetDateTime) -> OffsetDateTime {
        let first = time::PrimitiveDateTime::MIN.assume_utc();
        self.signed().and_then(|span| at.checked_sub(span)).unwrap_or(first)
    }

    /// The time that is this long after `at`, or the latest one that can be represented.
    pub fn after(self, at: OffsetDateTime) -> OffsetDateTime {
        let last = time::PrimitiveDateTime::MAX.assume_utc();
        self.signed().and_then(|span| at.checked_add(span)).unwrap_or(last)
    }

    fn signed(self) -> Option<time::Duration> {
        self.0.try_into().ok()
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("'{text}' is not a duration, such as 30d or 12h"));
        let length = match humantime::parse_duration(text.trim()) {
            Ok(length) => length,
            Err(humantime::DurationError::NumberOverflow) => Duration::MAX,
            Err(_) => return Err(bad()),
        };
        if length > LONGEST {
            let text = format!("'{text}' is out of range: the limit is 100 years (36500d)");
            return Err(Error::invalid(text));
        }
        Ok(Self(length))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % 86_400, seconds % 3_600) {
            (0, _) => write!(f, "{}d", seconds / 86_400),
            (_, 0) => write!(f, "{}h", seconds / 3_600),
            _ => write!(f, "{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_bounded_so_that_every_date_can_subtract_it() {
        let read = |text: &str| text.parse::<Span>();
        assert_eq!(read("30d").unwrap().to_string(), "30d");
        assert_eq!(read("36500d").unwrap().length(), LONGEST);
        for text in ["101y", "20000y", "99999999999999999999y", "18446744073709551615s"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("100 years") && error.contains(text), "{error}");
        }
        for text in ["", "30", "-1d", "d", "a while"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("not a duration"), "{error}");
        }
        let longest = Span::new(Duration::MAX);
        assert_eq!(longest.length(), LONGEST);
        let (first, last) = (time::PrimitiveDateTime::MIN, time::PrimitiveDateTime::MAX);
        for at in [first.assume_utc(), OffsetDateTime::UNIX_EPOCH, last.assume_utc()] {
            assert!(longest.before(at) <= at && longest.after(at) >= at);
        }
    }
}
