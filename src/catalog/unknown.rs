//! What is said of names that the catalog does not have: that it has none of that name, and which are near.
//!
//! A list that is empty for a typo would say that there are no such images.

use super::list::Page;
use super::rows::{DEFINITION, GALLERY, OFFER, PUBLISHER, REGISTRY, REPOSITORY, RowTable, SKU};
use super::wrong_name::{near, wrong_name};
use super::{Catalog, Filter, LatestQuestion, alias, short_name};
use crate::error::{Error, Result};
use crate::format::index::{Level, Pool};
use crate::image::Urn;
use crate::image::names::quoted;
use time::OffsetDateTime;

/// So many names are told where none is near.
const FEW: usize = 12;

fn texts(pool: &Pool) -> impl Iterator<Item = &str> {
    let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
    (0..count).map(|id| pool.get(id))
}

impl Catalog {
    /// Refuses locations that the catalog has no images in, with the nearest that it has: of marketplace images, and
    /// `with_others` of the other tables too, as far as these were [read](Self::others). A catalog that knows no
    /// location refuses none.
    pub fn check_locations(&self, wanted: &[String], with_others: bool) -> Result<()> {
        let others = self.others.get().filter(|_| with_others);
        self.check_locations_and(wanted, || others.into_iter().flat_map(RowTable::locations))
    }

    /// The same of where an image is to be and where it is not.
    pub fn check_places(&self, filter: &Filter, with_others: bool) -> Result<()> {
        let others = self.others.get().filter(|_| with_others);
        self.check_places_and(filter, || others.into_iter().flat_map(RowTable::locations))
    }

    /// The same, where `others` are the locations of the other tables.
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

    /// A sentence for each name in `filter` that is that of nothing in the catalog, as far as it was read.
    pub fn unknown_names(&self, filter: &Filter) -> Vec<String> {
        let asked = [
            ("publisher", &filter.publisher, Some(Level::Publisher), PUBLISHER),
            ("offer", &filter.offer, Some(Level::Offer), OFFER),
            ("SKU", &filter.sku, Some(Level::Sku), SKU),
            ("gallery", &filter.gallery, None, GALLERY),
            ("image definition", &filter.definition, None, DEFINITION),
            ("registry", &filter.registry, None, REGISTRY),
            ("repository", &filter.repository, None, REPOSITORY),
        ];
        let mut said = Vec::new();
        for (what, wanted, level, column) in asked {
            let Some(wanted) = wanted else { continue };
            let level = level.filter(|_| filter.wants_marketplace());
            let marketplace = level.into_iter().flat_map(|level| texts(self.index.names(level)));
            let others = self.others.get().map(|table| table.names_in(column)).unwrap_or_default();
            let known: Vec<&str> = marketplace.chain(others).collect();
            if known.iter().any(|name| filter.fits(wanted, name)) {
                continue;
            }
            let (given, near) = (quoted(wanted), near(wanted, known));
            said.push(if filter.exact {
                format!("The catalog has no {what} {given}{near}.")
            } else {
                format!("The catalog has no {what} with {given} in its name{near}.")
            });
        }
        said
    }

    /// That an image is not there: the latest of its SKU at `now`, or which of its names is wrong.
    fn not_there(&self, urn: &Urn, now: OffsetDateTime) -> Error {
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

    /// The marketplace image that `text` names: a URN; or the newest that can be deployed at `now`, by a short name such
    /// as `Ubuntu2404`, or with `latest` in the place of a version.
    pub fn show(&self, text: &str, now: OffsetDateTime) -> Result<Page> {
        let is_newest = alias::find(text).is_some()
            || text.parse::<Urn>().is_ok_and(|urn| urn.version.eq_ignore_ascii_case("latest"));
        let found = if is_newest {
            let sku = text.rsplit_once(':').map_or(text, |(sku, _)| sku);
            self.at(LatestQuestion::parse(sku, &[], None)?.answer(&self.index, now)?)
        } else {
            let urn: Urn = text.parse()?;
            self.find(&urn).ok_or_else(|| self.not_there(&urn, now))?
        };
        Ok(Page { rows: vec![found], ..Page::default() })
    }
}
