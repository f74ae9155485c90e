//! What rows of an index share that filters look at: details, dates, features.

use super::layout::{NONE, Section, TRAIT, number};
use super::{Index, Row};
use serde::Deserialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Properties that many rows share.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// Operating system.
    pub os: Option<&'a str>,
    /// Architecture.
    pub architecture: Option<&'a str>,
    /// Generation of Hyper-V.
    pub hyper_v_generation: Option<&'a str>,
    /// Whether the rows' details are known, be they their own or their SKU's.
    pub is_detailed: bool,
    /// Whether they have a purchase plan, as far as details are known.
    pub has_plan: bool,
}

/// The last members of traits that have no plan, as they are written.
const NO_PLAN: &str = r#""planPublisher":null,"planProduct":null,"planName":null"#;
/// How traits begin whose details are known, be they their own or their SKU's.
const DETAILED: &str = r#""detailsFrom":""#;

#[derive(Deserialize)]
struct Features {
    features: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstSeen {
    #[serde(with = "time::serde::rfc3339")]
    first_seen_at: OffsetDateTime,
}

impl Index {
    /// How many different traits rows have.
    pub fn traits(&self) -> u32 {
        let records = self.sections.of(Section::Traits).len() / TRAIT;
        u32::try_from(records).unwrap_or(u32::MAX)
    }

    /// Traits by their number.
    pub fn traits_of(&self, traits: u32) -> Traits<'_> {
        let start = traits as usize * TRAIT;
        let text = |at: usize| {
            let id = number(self.sections.of(Section::Traits), start + at);
            (id != NONE).then(|| self.json.get(id))
        };
        let (all, os) = (text(0).unwrap_or_default(), text(4));
        Traits {
            os,
            architecture: text(8),
            hyper_v_generation: text(12),
            // Indexes that were written before there was a mark have the operating system alone.
            is_detailed: os.is_some() || all.starts_with(DETAILED),
            has_plan: !all.ends_with(NO_PLAN),
        }
    }

    /// The features of a row.
    pub fn features(&self, row: Row<'_>) -> BTreeMap<String, String> {
        let read = serde_json::from_str(&format!("{{{}}}", self.json.get(row.extras())));
        read.map(|Features { features }| features).unwrap_or_default()
    }

    /// When a row was first seen.
    pub fn first_seen(&self, row: Row<'_>) -> Option<OffsetDateTime> {
        let read = serde_json::from_str(&format!("{{{}}}", self.json.get(row.first_seen())));
        read.map(|FirstSeen { first_seen_at: at }| at).ok()
    }
}
