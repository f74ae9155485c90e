//! Members of answers that were of another form, and were taken for absent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many different ones are kept apart.
const MOST_KINDS: usize = 64;
/// What the others are counted under.
const OTHERS: &str = "others";

/// How often a member of an answer was of another form, by what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Malformed(BTreeMap<String, u64>);

impl Malformed {
    /// Whether everything could be read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong, and how often.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, times)| (what.as_str(), *times))
    }

    /// Adds those of another answer.
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
