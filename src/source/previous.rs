//! What the previous snapshot contributes to a crawl: when each publisher's offers were listed, and
//! which details are known. A plain value, small compared to the table it is collected from.

use crate::image::gallery::GalleryImage;
use crate::work::KnownOffers;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use time::OffsetDateTime;

/// What the previous snapshot already contains. Names are compared without case.
#[derive(Debug, Default)]
pub struct PreviousFindings {
    /// Hashes of the marketplace versions whose details are known. A collision only delays the GET
    /// of one version; nothing is lost.
    detailed: HashSet<u64>,
    /// Hashes of gallery versions (id and target regions) whose replication is complete.
    replicated: HashSet<u64>,
    /// Hashes of the ids of manifests whose content has been read.
    contents: HashSet<u64>,
    names: HashSet<Arc<str>>,
    /// Listings by publisher, then by location.
    listings: HashMap<String, HashMap<Arc<str>, Listing>>,
}

#[derive(Debug)]
struct Listing {
    at: OffsetDateTime,
    offers: Vec<Arc<str>>,
}

fn digest(image: [&str; 4]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in image {
        name.to_ascii_lowercase().hash(&mut hasher);
    }
    hasher.finish()
}

fn replication_digest(row: &GalleryImage) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.id.to_ascii_lowercase().hash(&mut hasher);
    row.locations.hash(&mut hasher);
    hasher.finish()
}

impl PreviousFindings {
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// Records that a publisher's offers in a location were listed at `at`.
    pub fn listed(&mut self, location: &str, publisher: &str, at: OffsetDateTime) {
        let location = self.name(location);
        let listings = self.listings.entry(publisher.to_ascii_lowercase()).or_default();
        listings.insert(location, Listing { at, offers: Vec::new() });
    }

    /// Records an offer of a publisher in a location; ignored unless [`PreviousFindings::listed`]
    /// was called for both.
    pub fn has_offer(&mut self, location: &str, publisher: &str, offer: &str) {
        let name = self.name(offer);
        let listings = self.listings.get_mut(&publisher.to_ascii_lowercase());
        let Some(listing) = listings.and_then(|listings| listings.get_mut(location)) else {
            return;
        };
        // Rows are sorted, so the rows of one offer are adjacent, whatever their casing.
        if !listing.offers.iter().rev().any(|known| known.eq_ignore_ascii_case(offer)) {
            listing.offers.push(name);
        }
    }

    /// Records that the details of a version are known.
    pub fn detailed(&mut self, image: [&str; 4]) {
        self.detailed.insert(digest(image));
    }

    /// Records that a version's replication to all its target regions is complete.
    pub fn replicated(&mut self, row: &GalleryImage) {
        self.replicated.insert(replication_digest(row));
    }

    /// Whether replication of a version to its current target regions is complete.
    pub fn is_replicated(&self, row: &GalleryImage) -> bool {
        self.replicated.contains(&replication_digest(row))
    }

    /// Records that the content of the manifest with this id has been read.
    pub fn read(&mut self, id: &str) {
        self.contents.insert(digest([id, "", "", ""]));
    }

    /// Whether the content of the manifest with this id has been read.
    pub fn has_content(&self, id: &str) -> bool {
        self.contents.contains(&digest([id, "", "", ""]))
    }

    /// Whether the details of `[publisher, offer, sku, version]` are known.
    pub fn has_details(&self, image: [&str; 4]) -> bool {
        self.detailed.contains(&digest(image))
    }

    /// When a publisher's offers in a location were listed, and their number.
    pub fn listing(&self, location: &str, publisher: &str) -> Option<(OffsetDateTime, usize)> {
        let listing = self.listings.get(&publisher.to_ascii_lowercase())?.get(location)?;
        Some((listing.at, listing.offers.len()))
    }

    /// The known offers of a publisher in a location.
    pub fn offers(&self, location: &str, publisher: &str) -> Option<KnownOffers> {
        let listing = self.listings.get(&publisher.to_ascii_lowercase())?.get(location)?;
        let offers = listing.offers.iter().map(ToString::to_string).collect();
        Some(KnownOffers { offers, listed_at: Some(listing.at) })
    }
}
