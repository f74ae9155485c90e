//! Names as Azure compares and writes them: without case, and locations without spaces.

use std::cmp::Ordering;
use std::collections::HashSet;

/// Compares two names as Azure does: without ASCII case.
pub fn caseless(left: &str, right: &str) -> Ordering {
    left.bytes().map(|b| b.to_ascii_lowercase()).cmp(right.bytes().map(|b| b.to_ascii_lowercase()))
}

/// The names in their order, each once. (`Vec::dedup` removes only neighbors.)
pub fn without_repeats(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// The short name of a location: "East US 2" becomes `eastus2`.
pub fn short_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_that_are_no_neighbors_are_removed() {
        let names = ["b", "a", "b", "a", "c"].map(str::to_owned);
        assert_eq!(without_repeats(names), ["b", "a", "c"]);
    }
}
