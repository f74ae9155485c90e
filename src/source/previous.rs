//! What the snapshot before tells a crawl: whose offers were listed when, and which versions were
//! asked for their details. A plain value, small beside the table that it is gathered from.

use crate::image::gallery::GalleryImage;
use crate::work::KnownOffers;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use time::OffsetDateTime;

/// What is known already. Names are compared without case.
#[derive(Debug, Default)]
pub struct PreviousFindings {
    /// Digests of the versions whose details are known. Two with the same digest cost one of them
    /// a GET later than it could have been; nothing is lost.
    detailed: HashSet<u64>,
    /// Digests of versions of galleries that were replicated to the target regions they have.
    replicated: HashSet<u64>,
    /// Digests of the ids of manifests whose content was read.
    contents: HashSet<u64>,
    names: HashSet<Arc<str>>,
    /// By publisher and location.
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

    /// A publisher's offers in a location were listed at `at`.
    pub fn listed(&mut self, location: &str, publisher: &str, at: OffsetDateTime) {
        let location = self.name(location);
        let listings = self.listings.entry(publisher.to_ascii_lowercase()).or_default();
        listings.insert(location, Listing { at, offers: Vec::new() });
    }

    /// A publisher has an offer in a location; counts if its offers were [`PreviousFindings::listed`].
    pub fn has_offer(&mut self, location: &str, publisher: &str, offer: &str) {
        let name = self.name(offer);
        let listings = self.listings.get_mut(&publisher.to_ascii_lowercase());
        let Some(listing) = listings.and_then(|listings| listings.get_mut(location)) else {
            return;
        };
        // Rows come sorted: an offer's follow one another, in any casing.
        if !listing.offers.iter().rev().any(|known| known.eq_ignore_ascii_case(offer)) {
            listing.offers.push(name);
        }
    }

    /// A version's details are known.
    pub fn detailed(&mut self, image: [&str; 4]) {
        self.detailed.insert(digest(image));
    }

    /// A version was replicated to all its target regions.
    pub fn replicated(&mut self, row: &GalleryImage) {
        self.replicated.insert(replication_digest(row));
    }

    /// Whether a version was replicated to all the target regions that it has.
    pub fn is_replicated(&self, row: &GalleryImage) -> bool {
        self.replicated.contains(&replication_digest(row))
    }

    /// A manifest's content was read.
    pub fn read(&mut self, id: &str) {
        self.contents.insert(digest([id, "", "", ""]));
    }

    /// Whether the content of the manifest of that id was read.
    pub fn has_content(&self, id: &str) -> bool {
        self.contents.contains(&digest([id, "", "", ""]))
    }

    /// Whether the details of `[publisher, offer, sku, version]` are known.
    pub fn has_details(&self, image: [&str; 4]) -> bool {
        self.detailed.contains(&digest(image))
    }

    /// When a publisher's offers in a location were listed, and how many there are.
    pub fn listing(&self, location: &str, publisher: &str) -> Option<(OffsetDateTime, usize)> {
        let listing = self.listings.get(&publisher.to_ascii_lowercase())?.get(location)?;
        Some((listing.at, listing.offers.len()))
    }

    /// A publisher's offers in a location.
    pub fn offers(&self, location: &str, publisher: &str) -> Option<KnownOffers> {
        let listing = self.listings.get(&publisher.to_ascii_lowercase())?.get(location)?;
        let offers = listing.offers.iter().map(ToString::to_string).collect();
        Some(KnownOffers { offers, listed_at: Some(listing.at) })
    }
}
