//! Which images are wanted.

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

/// Words of a search, each of which is looked for in every name.
const MOST_WORDS: usize = 16;
/// The longest search, in bytes. An id is one word.
pub const LONGEST_SEARCH: usize = 1 << 10;

/// Which images are wanted. Texts are compared without case, as parts of names unless `exact`; what is one of a
/// closed set ([`crate::image::names`]) as a whole.
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
    /// Locations of which none may have it, as whole names.
    pub not_locations: Vec<String>,
    /// Generation of Hyper-V, as a whole.
    pub generation: Option<String>,
    /// Features that it must all have: a name, or `NAME=VALUE`.
    pub features: Vec<String>,
    /// Value of the feature `SecurityType`, as a whole.
    pub security_type: Option<String>,
    /// Whether it has a purchase plan.
    pub plan: Option<bool>,
    /// Its life ends, or has ended, before this moment.
    pub ends_before: Option<OffsetDateTime>,
    /// The first run that saw it began after this moment.
    pub first_seen_after: Option<OffsetDateTime>,
    /// Architecture.
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Statuses, of which any is wanted; all if none is named.
    pub statuses: Vec<String>,
    /// Kinds of images, in the same way.
    pub kinds: Vec<String>,
    /// Only the latest of each SKU, definition or repository.
    pub latest: bool,
    /// Words that must all occur somewhere in the names, or name the SKU in short.
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
    /// Part of a tag of a container image; `NAME` or `NAME=VALUE`, both whole, of the tags of a resource.
    pub tag: Option<String>,
    /// Compare whole names.
    pub exact: bool,
}

impl Filter {
    /// Whether marketplace images may be wanted at all.
    pub fn wants_marketplace(&self) -> bool {
        let galleries = [&self.gallery, &self.definition, &self.subscription];
        let registries = [&self.registry, &self.repository, &self.tag];
        galleries.iter().chain(&registries).all(|wanted| wanted.is_none()) && self.has_kind(KIND)
    }

    /// Whether a kind of image is wanted.
    pub fn has_kind(&self, kind: &str) -> bool {
        is_one(kind, &self.kinds)
    }

    /// Whether a status is wanted.
    pub fn has_status(&self, status: Status) -> bool {
        is_one(status.as_str(), &self.statuses)
    }

    /// Whether images of galleries or registries may be wanted.
    pub fn wants_others(&self) -> bool {
        KINDS.iter().any(|kind| self.has_kind(kind))
    }

    /// Whether nothing but container images is wanted.
    pub fn wants_containers_only(&self) -> bool {
        if !self.kinds.is_empty() {
            return self.kinds.iter().all(|kind| kind.eq_ignore_ascii_case(registry::KIND));
        }
        let is_of_container = self.tag.as_ref().is_some_and(|tag| !tag.contains('='));
        self.registry.is_some() || self.repository.is_some() || is_of_container
    }

    /// Whether a marketplace row is wanted.
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
        // A status that is not known is no answer to a question for one.
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

    /// Whether what is known of a marketplace row's details is what is wanted.
    fn accepts_details(&self, row: &MarketplaceImage) -> bool {
        let plan = [&row.plan_publisher, &row.plan_product, &row.plan_name];
        let has_plan = plan.iter().any(|part| part.is_some());
        let generation = row.hyper_v_generation.as_deref();
        fits_whole(self.generation.as_ref(), generation)
            && self.plan.is_none_or(|wanted| row.is_detailed() && has_plan == wanted)
            && self.fits_features(&row.features)
    }

    /// Whether an image ends in time that ends then. What has ended and does not say when ended before anybody asked.
    pub(super) fn ends_in_time(
        &self,
        status: Option<Status>,
        ends_at: Option<OffsetDateTime>,
    ) -> bool {
        let has_ended = status.is_some_and(|status| !status.is_deployable());
        self.ends_before.is_none_or(|before| ends_at.map_or(has_ended, |end| end < before))
    }

    /// Whether features are those that are wanted, names and values compared as wholes without case.
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

    /// Whether features are asked for.
    pub(super) fn wants_features(&self) -> bool {
        !self.features.is_empty() || self.security_type.is_some()
    }

    /// Whether it asks for what is told of single images alone, so that of some it is not known.
    pub fn wants_details(&self) -> bool {
        self.os.is_some() || self.plan.is_some() || self.wants_features()
    }

    /// Refuses a feature without a name: every image has it, or none.
    pub fn check_features(&self) -> Result<()> {
        let is_nameless =
            |wanted: &&String| wanted.split('=').next().is_none_or(|name| name.trim().is_empty());
        match self.features.iter().find(is_nameless) {
            Some(wanted) => Err(Error::invalid(format!(
                "'{wanted}' names no feature: give NAME or NAME=VALUE, such as SecurityType=TrustedLaunch"
            ))),
            None => Ok(()),
        }
    }

    /// Whether `name` is what `wanted` asks for.
    pub fn fits(&self, wanted: &str, name: &str) -> bool {
        if self.exact {
            name.eq_ignore_ascii_case(wanted)
        } else {
            name.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
        }
    }

    /// Whether a tag is what `wanted` asks for: one of a container image, in which no `=` can be, or one of a resource
    /// as `NAME=VALUE`. Names of a resource's tags have no case (learn.microsoft.com/azure/azure-resource-manager/
    /// management/tag-resources), and are compared as a whole with their value.
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

    /// Refuses a search that asks for more than anybody looks for: it is compared with every name.
    pub fn check_search(&self) -> Result<()> {
        if self.words().len() > MOST_WORDS {
            return Err(Error::invalid(format!("at most {MOST_WORDS} words are searched for")));
        }
        if self.search.as_ref().is_some_and(|text| text.len() > LONGEST_SEARCH) {
            return Err(Error::invalid(format!("it is longer than {LONGEST_SEARCH} bytes")));
        }
        Ok(())
    }

    /// The words that are searched for, folded.
    pub fn words(&self) -> Vec<String> {
        let text = self.search.as_deref().unwrap_or_default();
        text.split(|c: char| c.is_whitespace() || c == ':')
            .filter(|word| !word.is_empty())
            .map(folded)
            .collect()
    }
}

/// Whether a name of a closed set is one of those that are wanted; all are if none is named.
fn is_one(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted))
}

/// Whether a name of a closed set is the wanted one, if one is.
pub(super) fn fits_whole(wanted: Option<&String>, name: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
}
