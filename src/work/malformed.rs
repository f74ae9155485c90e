//! Counts of malformed members in answers, which are treated as absent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of distinct kinds; further ones are counted together.
const MOST_KINDS: usize = 64;
/// The name under which further kinds are counted.
const OTHERS: &str = "others";

/// Members of responses that had an unexpected type: a count for each description.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Malformed(BTreeMap<String, u64>);

impl Malformed {
    /// Whether nothing was malformed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds of malformed members, with their counts.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, times)| (what.as_str(), *times))
    }

    /// Adds the counts of another answer.
    pub fn join(&mut self, more: &Self) {
        for (what, times) in &more.0 {
            let is_kept = self.0.len() < MOST_KINDS || self.0.contains_key(what);
            let what = if is_kept { what.as_str() } else { OTHERS };
            *self.0.entry(what.to_owned()).or_default() += times;
        }
    }
}

impl From<BTreeMap<String, u64>> for Malformed {
    fn from(all: BTreeMap<String, u64>) -> Self {
        let mut malformed = Self::default();
        malformed.join(&Self(all));
        malformed
    }
}
