//! Folds the listings of a publisher together, one location after the other.
//!
//! Each version is kept once. A publisher in sixty locations takes the memory of one location, plus
//! a number per version and location.

use crate::image::marketplace::{KIND, ListedVersion, MarketplaceImage, VersionDetail};
use crate::work::RunId;
use time::OffsetDateTime;

/// The versions of a publisher, in the table's order.
#[derive(Debug, Default)]
pub struct FoldedListings {
    locations: Vec<String>,
    versions: Vec<FoldedVersion>,
}

/// A version, merged over the locations so far.
#[derive(Debug)]
struct FoldedVersion {
    /// The version as the first location writes it. Each property is taken from the first location
    /// that has it.
    listed: ListedVersion,
    /// The numbers of the locations, ascending.
    locations: Vec<u16>,
}

impl FoldedListings {
    /// Adds the listing of `location`. Locations must be added in alphabetical order, each once.
    pub fn add(&mut self, location: &str, mut rows: Vec<ListedVersion>) {
        let Ok(number) = u16::try_from(self.locations.len()) else { return };
        self.locations.push(location.to_owned());
        if !rows.is_sorted_by(|one, other| one.compare(other).is_le()) {
            rows.sort_by(ListedVersion::compare);
        }
        let mut new = Vec::new();
        let mut at = 0;
        for listed in rows {
            while self.versions.get(at).is_some_and(|v| v.listed.compare(&listed).is_lt()) {
                at += 1;
            }
            match self.versions.get_mut(at) {
                Some(version) if version.listed.compare(&listed).is_eq() => {
                    version.add(number, listed);
                }
                _ => new.push(FoldedVersion { listed, locations: vec![number] }),
            }
        }
        if new.is_empty() {
            return;
        }
        // A version that one location lists twice is one version.
        new.dedup_by(|second, first| first.listed.compare(&second.listed).is_eq());
        self.versions.append(&mut new);
        // Two sorted sequences: a stable sort merges them in one pass.
        self.versions.sort_by(|one, other| one.listed.compare(&other.listed));
    }

    /// The rows, each with the details that were fetched with its listing.
    pub fn rows(
        self,
        publisher: &str,
        (run, at): (RunId, OffsetDateTime),
    ) -> Vec<(MarketplaceImage, Option<Box<VersionDetail>>)> {
        let Self { locations, versions } = self;
        let run = run.to_string();
        let row = |FoldedVersion { mut listed, locations: numbers }| {
            let detail = listed.detail.take();
            let names = numbers.iter().map(|number: &u16| locations[usize::from(*number)].clone());
            let mut row = blank(publisher, listed, &run, at);
            row.locations = names.collect();
            (row, detail)
        };
        versions.into_iter().map(row).collect()
    }
}

impl FoldedVersion {
    /// Adds the version as listed by the location with this number, which must follow all earlier
    /// ones.
    fn add(&mut self, number: u16, other: ListedVersion) {
        if self.locations.last() == Some(&number) {
            return;
        }
        self.locations.push(number);
        let own = &mut self.listed;
        own.status = own.status.max(other.status);
        own.is_status_unread |= other.is_status_unread;
        own.scheduled_deprecation_at =
            match (own.scheduled_deprecation_at, other.scheduled_deprecation_at) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        let fill = |own: &mut Option<String>, other: Option<String>| {
            if own.is_none() {
                *own = other;
            }
        };
        fill(&mut own.architecture, other.architecture);
        fill(&mut own.hyper_v_generation, other.hyper_v_generation);
        fill(&mut own.alternative, other.alternative);
        if other.detail.is_some() {
            own.detail = other.detail;
        }
    }
}

fn blank(
    publisher: &str,
    listed: ListedVersion,
    run: &str,
    at: OffsetDateTime,
) -> MarketplaceImage {
    let ListedVersion { offer, sku, version, .. } = &listed;
    MarketplaceImage {
        kind: KIND.to_owned(),
        id: format!("{publisher}:{offer}:{sku}:{version}"),
        status: listed.known_status(),
        is_latest: false,
        observed_at: at,
        observed_run: run.to_owned(),
        stale: false,
        publisher: publisher.to_owned(),
        offer: listed.offer,
        sku: listed.sku,
        version: listed.version,
        locations: Vec::new(),
        details_from: None,
        os: None,
        architecture: listed.architecture,
        hyper_v_generation: listed.hyper_v_generation,
        plan_publisher: None,
        plan_product: None,
        plan_name: None,
        scheduled_deprecation_at: listed.scheduled_deprecation_at,
        alternative: listed.alternative,
        features: std::collections::BTreeMap::new(),
        first_seen_at: at,
    }
}
