//! The options that select images, shared by all lists.

use super::choice::OneOf;
use crate::catalog::Filter;
use crate::error::{Error, Result};
use crate::image::names::{
    ARCHITECTURES, GENERATIONS, SECURITY_TYPES, STATUSES, SYSTEMS, YES_OR_NO,
};
use time::OffsetDateTime;

/// Filters on properties that every image has.
#[derive(clap::Args, Clone)]
pub(super) struct ImageArgs {
    /// Part of the publisher's name
    #[arg(short, long)]
    publisher: Option<String>,
    /// Part of the offer's name
    #[arg(short = 'f', long)]
    offer: Option<String>,
    /// Part of the SKU's name
    #[arg(short, long)]
    sku: Option<String>,
    /// Part of the version
    #[arg(long)]
    version: Option<String>,
    /// x64 or Arm64, or the architecture that a container image declares
    #[arg(long, value_parser = OneOf(ARCHITECTURES), hide_possible_values = true)]
    architecture: Option<String>,
    /// Linux or Windows, or the operating system that a container image declares
    #[arg(long, value_parser = OneOf(SYSTEMS), hide_possible_values = true)]
    os: Option<String>,
    /// Hyper-V generation
    #[arg(long, value_parser = OneOf(GENERATIONS))]
    generation: Option<String>,
    /// Feature of the image, such as `IsHibernateSupported=True`; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    feature: Vec<String>,
    /// Value of the feature `SecurityType`
    #[arg(long, value_name = "TYPE", value_parser = OneOf(SECURITY_TYPES))]
    security_type: Option<String>,
    /// Whether the image has a purchase plan
    #[arg(long, value_name = "yes|no", value_parser = OneOf(YES_OR_NO), hide_possible_values = true)]
    plan: Option<String>,
    /// Only images that end before this date, or have ended: deprecation or end of life
    #[arg(long, value_name = "DATE")]
    ends_before: Option<String>,
    /// Only images that were first seen by a run after the start of this day (UTC)
    #[arg(long, value_name = "DATE")]
    first_seen_after: Option<String>,
    /// Statuses, comma-separated: active, scheduled, deprecated, end-of-life or gone
    #[arg(long, value_delimiter = ',', value_parser = OneOf(STATUSES), hide_possible_values = true)]
    status: Vec<String>,
    /// Match whole names instead of parts of names
    #[arg(long)]
    exact: bool,
}

/// Filters on the locations of an image.
#[derive(clap::Args, Clone)]
pub(super) struct PlaceArgs {
    /// Full name of a location in which the image is available; several: in all of them
    #[arg(short, long, visible_alias = "in", value_delimiter = ',')]
    location: Vec<String>,
    /// Full name of a location in which the image is not available; several: in none of them
    #[arg(long, value_name = "LOCATION", value_delimiter = ',')]
    not_in: Vec<String>,
}

#[derive(clap::Args, Clone)]
pub(super) struct FilterArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Part of a gallery's name
    #[arg(long)]
    gallery: Option<String>,
    /// Part of an image definition's name
    #[arg(long)]
    definition: Option<String>,
    /// Part of the id of the subscription that owns the image
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Part of a registry's login server
    #[arg(long)]
    registry: Option<String>,
    /// Part of a repository's name
    #[arg(long)]
    repository: Option<String>,
    /// Part of a container image's tag, or a resource tag as NAME or NAME=VALUE
    #[arg(long)]
    tag: Option<String>,
    /// Words that must all occur in the image's names, or aliases such as Ubuntu2404
    ///
    /// The characters '-', '_' and '.' are equivalent. The best match comes first.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

impl ImageArgs {
    /// The conditions on properties that every image has.
    pub(super) fn filter(self) -> Result<Filter> {
        Ok(Filter {
            publisher: self.publisher,
            offer: self.offer,
            sku: self.sku,
            version: self.version,
            architecture: self.architecture,
            os: self.os,
            generation: self.generation,
            features: self.feature,
            security_type: self.security_type,
            plan: self.plan.map(|plan| plan == "yes"),
            ends_before: self.ends_before.as_deref().map(date).transpose()?,
            first_seen_after: self.first_seen_after.as_deref().map(date).transpose()?,
            statuses: self.status,
            exact: self.exact,
            ..Filter::default()
        })
    }
}

impl PlaceArgs {
    /// Adds the conditions on locations to `filter`.
    pub(super) fn filter(self, filter: Filter) -> Filter {
        Filter { locations: self.location, not_locations: self.not_in, ..filter }
    }
}

impl FilterArgs {
    /// The filter of all options. With `kinds`, restricted to these.
    pub(super) fn of_kinds(self, kinds: &[&str]) -> Result<Filter> {
        checked(Filter {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            search: self.search,
            gallery: self.gallery,
            definition: self.definition,
            subscription: self.subscription,
            registry: self.registry,
            repository: self.repository,
            tag: self.tag,
            ..self.place.filter(self.image.filter()?)
        })
    }
}

/// Returns the filter if its search text and features are valid.
pub(super) fn checked(filter: Filter) -> Result<Filter> {
    filter.check_search().map_err(|error: Error| error.context("--search"))?;
    filter.check_features().map_err(|error: Error| error.context("--feature"))?;
    Ok(filter)
}

/// Parses a date or a timestamp.
pub(super) fn date(text: &str) -> Result<OffsetDateTime> {
    crate::catalog::date(text).ok_or_else(|| {
        Error::invalid(format!("'{text}' is not a date: give one such as 2027-01-01"))
    })
}
