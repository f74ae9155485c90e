//! Lookup of the newest image of a SKU.

use super::alias;
use super::wrong_name::wrong_name;
use crate::error::{Error, Result};
use crate::format::index::{Index, Level};
use crate::image::name::short_name;
use crate::image::{Status, nanoseconds};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// A query for the newest image of a SKU: `publisher:offer:sku`, with or without `:latest`, or an
/// alias.
#[derive(Debug, Clone)]
pub struct LatestQuestion {
    /// Publisher.
    pub publisher: String,
    /// Offer.
    pub offer: String,
    /// SKU.
    pub sku: String,
    /// Locations that the image must all be in.
    pub locations: Vec<String>,
    /// The image must still be deployable at this time.
    pub not_deprecated_before: Option<OffsetDateTime>,
}

impl LatestQuestion {
    /// Parses `publisher:offer:sku[:latest]`, or an alias such as `Ubuntu2404`.
    pub fn parse(
        urn: &str,
        locations: &[String],
        not_deprecated_before: Option<OffsetDateTime>,
    ) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{urn}' is not the name of a SKU: use publisher:offer:sku, such as \
                 Canonical:ubuntu-24_04-lts:server, or an alias, such as Ubuntu2404"
            ))
        };
        let parts: Vec<&str> = urn.split(':').map(str::trim).collect();
        let [publisher, offer, sku] = match parts[..] {
            [publisher, offer, sku] if ![publisher, offer, sku].contains(&"") => {
                [publisher, offer, sku]
            }
            [publisher, offer, sku, last]
                if last.eq_ignore_ascii_case("latest")
                    && ![publisher, offer, sku].contains(&"") =>
            {
                [publisher, offer, sku]
            }
            [alias] => alias::find(alias).ok_or_else(bad)?.sku,
            _ => return Err(bad()),
        };
        Ok(Self {
            publisher: publisher.to_owned(),
            offer: offer.to_owned(),
            sku: sku.to_owned(),
            locations: locations.iter().map(|name| short_name(name)).collect(),
            not_deprecated_before,
        })
    }

    /// The rows of the SKU, in table order.
    fn rows(&self, index: &Index) -> Vec<u32> {
        let places = index.skus([&self.publisher, &self.offer, &self.sku]);
        places.into_iter().flat_map(|[.., sku]| index.members(Level::Sku, sku)).collect()
    }

    /// The rows that are deployable at `now` and meet the other conditions, newest first.
    pub fn fitting<'a>(
        &'a self,
        index: &'a Index,
        now: OffsetDateTime,
    ) -> impl Iterator<Item = u32> + 'a {
        let now = nanoseconds(now);
        let fits = move |at: &u32| {
            let row = index.row(*at);
            index.status(row, now).is_some_and(Status::is_deployable)
                && self.not_deprecated_before.is_none_or(|until| {
                    index.deprecated_at(row).is_none_or(|deprecated| deprecated >= until)
                })
        };
        self.present(index).filter(fits)
    }

    /// The rows of the SKU that are in all requested locations, deployable or not, newest first.
    pub fn present<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = u32> + 'a {
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let id = |name: &String| (0..count).find(|id| index.locations().get(*id) == name);
        let wanted: Option<Vec<u32>> = self.locations.iter().map(id).collect();
        let is_there = move |at: &u32| {
            wanted.as_ref().is_some_and(|wanted| index.is_in(index.row(*at).locations(), wanted))
        };
        self.rows(index).into_iter().rev().filter(is_there)
    }

    /// Returns the newest matching row at `now`, or an error that says why there is none.
    pub fn answer(&self, index: &Index, now: OffsetDateTime) -> Result<u32> {
        if let Some(row) = self.fitting(index, now).next() {
            return Ok(row);
        }
        let name = format!("{}:{}:{}", self.publisher, self.offer, self.sku);
        let rows = self.rows(index);
        if rows.is_empty() {
            let names = [self.publisher.as_str(), &self.offer, &self.sku];
            let wrong = wrong_name(index, names).unwrap_or_default();
            return Err(Error::not_found(format!("no image of {name} is in the catalog{wrong}")));
        }
        Err(Error::not_found(self.nothing(index, &rows, &name, now)))
    }

    /// States that the newest row in the requested locations has ended, and on which day. `None`
    /// when it has not ended.
    fn ended_version(&self, index: &Index, now: OffsetDateTime) -> Option<String> {
        let row = index.row(self.present(index).next()?);
        let status = index.status(row, nanoseconds(now))?;
        let version = index.versions().get(row.version());
        let end = index.deprecated_at(row).filter(|end| *end <= now);
        let day = end.map(|end| format!(" on {}", end.date())).unwrap_or_default();
        (!status.is_deployable())
            .then(|| format!("; the newest there, {version}, was deprecated{day}"))
    }

    /// Describes why no row matches.
    fn nothing(&self, index: &Index, rows: &[u32], name: &str, now: OffsetDateTime) -> String {
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let has = |location: u32| {
            rows.iter().any(|row| index.is_in(index.row(*row).locations(), &[location]))
        };
        let known: BTreeSet<&str> =
            (0..count).filter(|id| has(*id)).map(|id| index.locations().get(id)).collect();
        let lacking: Vec<_> =
            self.locations.iter().filter(|l| !known.contains(l.as_str())).cloned().collect();
        if lacking.is_empty() {
            let none = format!("no version of {name} is deployable in all requested locations");
            none + &self.ended_version(index, now).unwrap_or_default()
        } else {
            format!("no version of {name} is in {}", lacking.join(", "))
        }
    }
}
