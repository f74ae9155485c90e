//! Names as Azure compares and writes them: without case, and locations without spaces.

use std::cmp::Ordering;

/// Compares two names as Azure does: without ASCII case.
pub fn caseless(left: &str, right: &str) -> Ordering {
    left.bytes().map(|b| b.to_ascii_lowercase()).cmp(right.bytes().map(|b| b.to_ascii_lowercase()))
}

/// The short name of a location: "East US 2" becomes `eastus2`.
pub fn short_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase()
}
