//! The filter of catalog images.

use super::alias;
use super::rows::KINDS;
use crate::error::{Error, Result};
use crate::image::marketplace::{KIND, MarketplaceImage};
use crate::image::name::short_name;
use crate::image::names::folded;
use crate::image::registry;
use crate::image::{SECURITY_TYPE, Status};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Maximum number of words in a search. Each word is compared with every name.
const MOST_WORDS: usize = 16;
/// Maximum length of a search, in bytes. An id is one word.
pub const LONGEST_SEARCH: usize = 1 << 10;

/// A filter of images. Comparisons ignore case. A text matches as part of a name unless `exact` is
/// set; a value of a closed set (`image::names`) always matches as a whole.
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
    /// Locations that the image must all be in, as whole names.
    pub locations: Vec<String>,
    /// Locations that the image must not be in, as whole names.
    pub not_locations: Vec<String>,
    /// Hyper-V generation, as a whole.
    pub generation: Option<String>,
    /// Features that the image must all have, as `NAME` or `NAME=VALUE`.
    pub features: Vec<String>,
    /// Value of the feature `SecurityType`, as a whole.
    pub security_type: Option<String>,
    /// Whether the image has a purchase plan.
    pub plan: Option<bool>,
    /// The image's life ends, or ended, before this time.
    pub ends_before: Option<OffsetDateTime>,
    /// The first run that saw the image began after this time.
    pub first_seen_after: Option<OffsetDateTime>,
    /// Architecture, as a whole.
    pub architecture: Option<String>,
    /// Operating system, as a whole.
    pub os: Option<String>,
    /// Accepted statuses. Empty accepts all.
    pub statuses: Vec<String>,
    /// Accepted kinds of image. Empty accepts all.
    pub kinds: Vec<String>,
    /// Only the latest of each SKU, definition or repository.
    pub latest: bool,
    /// Words that must each occur in one of the image's names, or be the alias of its SKU.
    pub search: Option<String>,
    /// Part of a gallery's name.
    pub gallery: Option<String>,
    /// Part of an image definition's name.
    pub definition: Option<String>,
    /// Part of a subscription's id.
    pub subscription: Option<String>,
    /// Part of the login server of a registry.
    pub registry: Option<String>,
    /// Part of a repository's name.
    pub repository: Option<String>,
    /// Part of a container image's tag; or, for the tags of a resource, `NAME` or `NAME=VALUE`,
    /// each as a whole.
    pub tag: Option<String>,
    /// Match whole names only.
    pub exact: bool,
}

impl Filter {
    /// Whether the filter can accept marketplace images.
    pub fn wants_marketplace(&self) -> bool {
        let galleries = [&self.gallery, &self.definition, &self.subscription];
        let registries = [&self.registry, &self.repository, &self.tag];
        galleries.iter().chain(&registries).all(|wanted| wanted.is_none()) && self.has_kind(KIND)
    }

    /// Whether the filter accepts images of `kind`.
    pub fn has_kind(&self, kind: &str) -> bool {
        is_one(kind, &self.kinds)
    }

    /// Whether the filter accepts images with `status`.
    pub fn has_status(&self, status: Status) -> bool {
        is_one(status.as_str(), &self.statuses)
    }

    /// Whether the filter can accept gallery images, managed images or container images.
    pub fn accepts_other_kinds(&self) -> bool {
        KINDS.iter().any(|kind| self.has_kind(kind))
    }

    /// Whether the filter accepts container images only.
    pub fn wants_containers_only(&self) -> bool {
        if !self.kinds.is_empty() {
            return self.kinds.iter().all(|kind| kind.eq_ignore_ascii_case(registry::KIND));
        }
        let is_of_container = self.tag.as_ref().is_some_and(|tag| !tag.contains('='));
        self.registry.is_some() || self.repository.is_some() || is_of_container
    }

    /// Whether the filter accepts a marketplace row.
    pub fn accepts(&self, row: &MarketplaceImage) -> bool {
        let names = [
            (&self.publisher, Some(row.publisher.as_str())),
            (&self.offer, Some(row.offer.as_str())),
            (&self.sku, Some(row.sku.as_str())),
            (&self.version, Some(row.version.as_str())),
        ];
        let names_fit = names.into_iter().all(|(wanted, name)| {
            wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| self.fits(wanted, name)))
        });
        let sku = [row.publisher.as_str(), &row.offer, &row.sku];
        let found = |word: &String| {
            let is_short = alias::find(word).is_some_and(|alias| alias.is_of(sku));
            is_short || sku.iter().chain([&&*row.version]).any(|name| folded(name).contains(word))
        };
        // An unknown status matches only if every status is accepted.
        let all = || Status::ALL.iter().all(|status| self.has_status(*status));
        names_fit
            && fits_whole(self.os.as_ref(), row.os.as_deref())
            && fits_whole(self.architecture.as_ref(), row.architecture.as_deref())
            && row.status.map_or_else(all, |status| self.has_status(status))
            && (row.is_latest || !self.latest)
            && self.wants_marketplace()
            && self.locations.iter().all(|wanted| row.locations.contains(&short_name(wanted)))
            && !self.not_locations.iter().any(|other| row.locations.contains(&short_name(other)))
            && self.accepts_details(row)
            && self.ends_in_time(row.status, row.scheduled_deprecation_at)
            && self.first_seen_after.is_none_or(|after| row.first_seen_at > after)
            && self.words().iter().all(found)
    }

    /// Whether the known details of a marketplace row match.
    fn accepts_details(&self, row: &MarketplaceImage) -> bool {
        let plan = [&row.plan_publisher, &row.plan_product, &row.plan_name];
        let has_plan = plan.iter().any(|part| part.is_some());
        let generation = row.hyper_v_generation.as_deref();
        fits_whole(self.generation.as_ref(), generation)
            && self.plan.is_none_or(|wanted| row.is_detailed() && has_plan == wanted)
            && self.fits_features(&row.features)
    }

    /// Whether an image with this status and end matches `ends_before`. An image that has ended
    /// without a known end had ended before it was first crawled.
    pub(super) fn ends_in_time(
        &self,
        status: Option<Status>,
        ends_at: Option<OffsetDateTime>,
    ) -> bool {
        let has_ended = status.is_some_and(|status| !status.is_deployable());
        self.ends_before.is_none_or(|before| ends_at.map_or(has_ended, |end| end < before))
    }

    /// Whether `features` match. Names and values are compared as wholes, ignoring case.
    pub(super) fn fits_features(&self, features: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str, value: Option<&str>| {
            features.iter().any(|(name, own)| {
                name.eq_ignore_ascii_case(wanted)
                    && value.is_none_or(|value| own.eq_ignore_ascii_case(value))
            })
        };
        let fits = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => has(name.trim(), Some(value.trim())),
            None => has(wanted.trim(), None),
        };
        self.features.iter().all(fits)
            && self.security_type.as_deref().is_none_or(|wanted| has(SECURITY_TYPE, Some(wanted)))
    }

    /// Whether the filter has a condition on features.
    pub(super) fn wants_features(&self) -> bool {
        !self.features.is_empty() || self.security_type.is_some()
    }

    /// Whether the filter has a condition on details that Azure returns only for a single image, so
    /// that they are unknown for some rows.
    pub fn wants_details(&self) -> bool {
        self.os.is_some() || self.plan.is_some() || self.wants_features()
    }

    /// Rejects a feature without a name, which would match every image or none.
    pub fn check_features(&self) -> Result<()> {
        let is_nameless =
            |wanted: &&String| wanted.split('=').next().is_none_or(|name| name.trim().is_empty());
        match self.features.iter().find(is_nameless) {
            Some(wanted) => Err(Error::invalid(format!(
                "'{wanted}' is not a feature: use NAME or NAME=VALUE, such as \
                 SecurityType=TrustedLaunch"
            ))),
            None => Ok(()),
        }
    }

    /// Whether `name` matches `wanted`, as a whole if `exact` is set.
    pub fn fits(&self, wanted: &str, name: &str) -> bool {
        if self.exact {
            name.eq_ignore_ascii_case(wanted)
        } else {
            name.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
        }
    }

    /// Whether a tag matches `wanted`: a tag of a container image, which cannot contain `=`, or a
    /// tag of a resource as `NAME=VALUE`. Tag names of resources are case-insensitive
    /// (learn.microsoft.com/azure/azure-resource-manager/management/tag-resources), and are
    /// compared as wholes, as are the values.
    pub fn fits_tag(&self, wanted: &str, tag: &str) -> bool {
        match (wanted.split_once('='), tag.split_once('=')) {
            (None, None) => self.fits(wanted, tag),
            (Some((name, value)), Some((known, its))) => {
                name.eq_ignore_ascii_case(known) && value.eq_ignore_ascii_case(its)
            }
            (None, Some((known, _))) => wanted.eq_ignore_ascii_case(known),
            (Some(_), None) => false,
        }
    }

    /// Rejects a search with more than `MOST_WORDS` words or longer than `LONGEST_SEARCH`
    /// bytes, because each word is compared with every name.
    pub fn check_search(&self) -> Result<()> {
        if self.words().len() > MOST_WORDS {
            return Err(Error::invalid(format!("it has more than {MOST_WORDS} words")));
        }
        if self.search.as_ref().is_some_and(|text| text.len() > LONGEST_SEARCH) {
            return Err(Error::invalid(format!("it is longer than {LONGEST_SEARCH} bytes")));
        }
        Ok(())
    }

    /// The words of the search, folded.
    pub fn words(&self) -> Vec<String> {
        let text = self.search.as_deref().unwrap_or_default();
        text.split(|c: char| c.is_whitespace() || c == ':')
            .filter(|word| !word.is_empty())
            .map(folded)
            .collect()
    }
}

/// Whether `name`, of a closed set, is one of `wanted`. An empty `wanted` accepts all.
fn is_one(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted))
}

/// Whether `name`, of a closed set, is `wanted`. No `wanted` accepts all.
pub(super) fn fits_whole(wanted: Option<&String>, name: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
}
