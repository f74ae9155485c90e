//! Properties that rows of an index share and that filters use: details, dates, features.

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
    /// Hyper-V generation.
    pub hyper_v_generation: Option<&'a str>,
    /// Whether the rows' details are known, from the version itself or from its SKU.
    pub is_detailed: bool,
    /// Whether they have a purchase plan. False if details are unknown.
    pub has_plan: bool,
}

/// The end of the JSON of traits without a plan.
const NO_PLAN: &str = r#""planPublisher":null,"planProduct":null,"planName":null"#;
/// The start of the JSON of traits with known details, from the version itself or from its SKU.
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
    /// The number of distinct traits.
    pub fn traits(&self) -> u32 {
        let records = self.sections.of(Section::Traits).len() / TRAIT;
        u32::try_from(records).unwrap_or(u32::MAX)
    }

    /// The traits with this number.
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
            // Indexes written before `detailsFrom` existed have only the operating system.
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
