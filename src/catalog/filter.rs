//! Which images are wanted.

use super::rows::KINDS;
use crate::image::marketplace::{KIND, MarketplaceImage};
use crate::image::registry;
use crate::source::locations::short_name;

/// Which images are wanted. Texts are compared without case, as parts of names unless `exact`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of the publisher's name.
    pub publisher: Option<String>,
    /// Part of the offer's name.
    pub offer: Option<String>,
    /// Part of the SKU's name.
    pub sku: Option<String>,
    /// Part of the version.
    pub version: Option<String>,
    /// Locations that must all have it, as whole names.
    pub locations: Vec<String>,
    /// Architecture.
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Status.
    pub status: Option<String>,
    /// Kind of image.
    pub kind: Option<String>,
    /// Words that must all occur somewhere in the names.
    pub search: Option<String>,
    /// Part of a gallery's name.
    pub gallery: Option<String>,
    /// Part of an image definition's name.
    pub definition: Option<String>,
    /// Part of a subscription's id.
    pub subscription: Option<String>,
    /// Part of a registry's login server.
    pub registry: Option<String>,
    /// Part of a repository's name.
    pub repository: Option<String>,
    /// Part of a tag of a container image.
    pub tag: Option<String>,
    /// Compare whole names.
    pub exact: bool,
}

impl Filter {
    /// Whether marketplace images may be wanted at all.
    pub fn wants_marketplace(&self) -> bool {
        let galleries = [&self.gallery, &self.definition, &self.subscription];
        let registries = [&self.registry, &self.repository, &self.tag];
        galleries.iter().chain(&registries).all(|wanted| wanted.is_none())
            && self.kind.as_ref().is_none_or(|kind| self.fits(kind, KIND))
    }

    /// Whether images of galleries or registries may be wanted.
    pub fn wants_others(&self) -> bool {
        let fits = |kind: &&str| self.kind.as_ref().is_none_or(|wanted| self.fits(wanted, kind));
        KINDS.iter().any(fits)
    }

    /// Whether nothing but container images is wanted.
    pub fn wants_containers_only(&self) -> bool {
        let asked = [&self.registry, &self.repository, &self.tag].iter().any(|part| part.is_some());
        let kind = self.kind.as_ref().is_some_and(|wanted| {
            KINDS.iter().all(|kind| self.fits(wanted, kind) == (*kind == registry::KIND))
        });
        asked || kind
    }

    /// Whether a marketplace row is wanted.
    pub fn accepts(&self, row: &MarketplaceImage) -> bool {
        let names = [
            (&self.publisher, Some(row.publisher.as_str())),
            (&self.offer, Some(row.offer.as_str())),
            (&self.sku, Some(row.sku.as_str())),
            (&self.version, Some(row.version.as_str())),
            (&self.architecture, row.architecture.as_deref()),
            (&self.os, row.os.as_deref()),
            (&self.status, Some(row.status.as_str())),
            (&self.kind, Some(row.kind.as_str())),
        ];
        let names_fit = names.into_iter().all(|(wanted, name)| {
            wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| self.fits(wanted, name)))
        });
        let found = |word: &String| {
            [&row.publisher, &row.offer, &row.sku, &row.version]
                .into_iter()
                .any(|name| name.to_ascii_lowercase().contains(word))
        };
        names_fit
            && self.wants_marketplace()
            && self.locations.iter().all(|wanted| row.locations.contains(&short_name(wanted)))
            && self.words().iter().all(found)
    }

    /// Whether `name` is what `wanted` asks for.
    pub fn fits(&self, wanted: &str, name: &str) -> bool {
        if self.exact {
            name.eq_ignore_ascii_case(wanted)
        } else {
            name.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
        }
    }

    /// The words that are searched for, in lower case.
    pub(super) fn words(&self) -> Vec<String> {
        let text = self.search.as_deref().unwrap_or_default();
        text.split(|c: char| c.is_whitespace() || c == ':')
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect()
    }
}
