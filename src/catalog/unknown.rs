//! Messages about names that are not in the catalog, with suggestions of similar names.
//!
//! An empty list in response to a typo would suggest that there are no such images.

use super::list::Page;
use super::rows::{DEFINITION, GALLERY, OFFER, PUBLISHER, REGISTRY, REPOSITORY, RowTable, SKU};
use super::wrong_name::{near, wrong_name};
use super::{Catalog, Filter, LatestQuestion, alias, short_name};
use crate::error::{Error, Result};
use crate::format::index::{Level, Pool};
use crate::image::Urn;
use crate::image::names::quoted;
use time::OffsetDateTime;

/// Maximum number of known names to list when none is similar.
const FEW: usize = 12;

fn texts(pool: &Pool) -> impl Iterator<Item = &str> {
    let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
    (0..count).map(|id| pool.get(id))
}

impl Catalog {
    /// Rejects locations in which the catalog has no images, suggesting similar ones. Considers
    /// marketplace images and, if `with_others`, the other tables if they have been
    /// [read](Self::others). A catalog without any location rejects none.
    pub fn check_locations(&self, wanted: &[String], with_others: bool) -> Result<()> {
        let others = self.others.get().filter(|_| with_others);
        self.check_locations_and(wanted, || others.into_iter().flat_map(RowTable::locations))
    }

    /// Like [`check_locations`](Self::check_locations), for the required and the excluded locations
    /// of `filter`.
    pub fn check_places(&self, filter: &Filter, with_others: bool) -> Result<()> {
        let others = self.others.get().filter(|_| with_others);
        self.check_places_and(filter, || others.into_iter().flat_map(RowTable::locations))
    }

    /// Like [`check_places`](Self::check_places), with the locations of the other tables given as
    /// `others`.
    pub(super) fn check_places_and<'a, I: Iterator<Item = &'a str>>(
        &'a self,
        filter: &Filter,
        others: impl Fn() -> I,
    ) -> Result<()> {
        self.check_locations_and(&filter.locations, &others)?;
        let refused = self.check_locations_and(&filter.not_locations, &others);
        refused.map_err(|error| error.with_target("notIn"))
    }

    fn check_locations_and<'a, I: Iterator<Item = &'a str>>(
        &'a self,
        wanted: &[String],
        others: impl Fn() -> I,
    ) -> Result<()> {
        for given in wanted {
            let name = short_name(given);
            let mut known = texts(self.index.locations()).chain(others());
            if known.any(|known| known == name) {
                continue;
            }
            let mut known: Vec<&str> = texts(self.index.locations()).chain(others()).collect();
            known.sort_unstable();
            known.dedup();
            if known.is_empty() {
                return Ok(());
            }
            let near = match near(&name, known.iter().copied()) {
                near if near.is_empty() && known.len() <= FEW => {
                    format!("; it has {}", known.join(", "))
                }
                near => near,
            };
            let text = format!("the catalog has no location {}{near}", quoted(given));
            return Err(Error::invalid(text).with_target("location"));
        }
        Ok(())
    }

    /// Returns a sentence for each name in `filter` that matches nothing in the tables read so far.
    pub fn unknown_names(&self, filter: &Filter) -> Vec<String> {
        let selections = [
            ("publisher", &filter.publisher, Some(Level::Publisher), PUBLISHER),
            ("offer", &filter.offer, Some(Level::Offer), OFFER),
            ("SKU", &filter.sku, Some(Level::Sku), SKU),
            ("gallery", &filter.gallery, None, GALLERY),
            ("image definition", &filter.definition, None, DEFINITION),
            ("registry", &filter.registry, None, REGISTRY),
            ("repository", &filter.repository, None, REPOSITORY),
        ];
        let mut sentences = Vec::new();
        for (what, wanted, level, column) in selections {
            let Some(wanted) = wanted else { continue };
            let level = level.filter(|_| filter.wants_marketplace());
            let marketplace = level.into_iter().flat_map(|level| texts(self.index.names(level)));
            let others = self.others.get().map(|table| table.names_in(column)).unwrap_or_default();
            let known: Vec<&str> = marketplace.chain(others).collect();
            if known.iter().any(|name| filter.fits(wanted, name)) {
                continue;
            }
            let (given, near) = (quoted(wanted), near(wanted, known));
            sentences.push(if filter.exact {
                format!("The catalog has no {what} {given}{near}.")
            } else {
                format!("The catalog has no {what} with {given} in its name{near}.")
            });
        }
        sentences
    }

    /// The error for a missing image. Names the latest version of its SKU at `now`, or the part of
    /// the URN that is wrong.
    fn missing_image_error(&self, urn: &Urn, now: OffsetDateTime) -> Error {
        let names = [urn.publisher.as_str(), &urn.offer, &urn.sku];
        let sku = names.join(":");
        let latest = LatestQuestion::parse(&sku, &[], None)
            .and_then(|question| question.answer(&self.index, now));
        let known = match latest {
            Ok(row) => {
                let version = self.index.row(row).version();
                format!("; the latest of this SKU is {}", self.index.versions().get(version))
            }
            Err(_) => wrong_name(&self.index, names).unwrap_or_default(),
        };
        Error::not_found(format!("{urn} is not in the catalog{known}"))
    }

    /// Returns the marketplace image that `text` names: a URN; or, for an alias such as
    /// `Ubuntu2404` or for `latest` in place of a version, the newest image deployable at `now`.
    pub fn show(&self, text: &str, now: OffsetDateTime) -> Result<Page> {
        let is_newest = alias::find(text).is_some()
            || text.parse::<Urn>().is_ok_and(|urn| urn.version.eq_ignore_ascii_case("latest"));
        let found = if is_newest {
            let sku = text.rsplit_once(':').map_or(text, |(sku, _)| sku);
            self.at(LatestQuestion::parse(sku, &[], None)?.answer(&self.index, now)?)
        } else {
            let urn: Urn = text.parse()?;
            self.find(&urn).ok_or_else(|| self.missing_image_error(&urn, now))?
        };
        Ok(Page { rows: vec![found], ..Page::default() })
    }
}
