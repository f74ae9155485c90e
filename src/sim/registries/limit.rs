//! The limit of the bytes that simulated registries keep of pushed blobs.

use crate::error::{Error, Result};
use std::fmt;

/// A number of bytes, written with a unit such as `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobsLimit(u64);

/// Units by name; a longer name is before one that it ends with.
const UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl BlobsLimit {
    /// A limit of `bytes`.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Its number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for BlobsLimit {
    fn default() -> Self {
        Self(1 << 30)
    }
}

impl fmt::Display for BlobsLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known_unit =
            UNITS[..3].iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (name, unit) = known_unit.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl std::str::FromStr for BlobsLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::invalid(format!("'{text}' is no size: give one such as 512MiB or 1GiB"));
        let text = text.trim();
        let unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
        let (number, unit) = unit.unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| bad())?;
        number.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_units() {
        for (text, bytes, shown) in [
            ("1GiB", 1 << 30, "1GiB"),
            ("512 MiB", 512 << 20, "512MiB"),
            ("64kB", 64_000, "64000B"),
            ("2048", 2_048, "2KiB"),
            ("0", 0, "0B"),
        ] {
            let size: BlobsLimit = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for wrong in ["", "much", "-1", "1.5GiB", "99999999999GiB", "GiB"] {
            assert!(wrong.parse::<BlobsLimit>().is_err(), "{wrong}");
        }
    }
}
