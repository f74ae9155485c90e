//! Resolution of image references: a URN or id of an image, or a reference to the latest of a SKU,
//! alias, definition or name pattern.

use super::gallery::without_latest;
use super::{Catalog, Filter, LatestQuestion, Page, alias};
use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use time::OffsetDateTime;

/// Whether a reference is to an image of a gallery or registry, or is a name pattern of managed
/// images. References to marketplace images contain neither `/` nor `*`.
pub fn is_of_others(text: &str) -> bool {
    text.contains(['/', '*'])
}

/// Whether a reference means the latest of several images rather than one image.
fn is_latest(text: &str) -> bool {
    let says_so = text.rsplit(['/', ':']).next().is_some_and(|l| l.eq_ignore_ascii_case("latest"));
    (says_so && text.contains(['/', ':'])) || text.contains('*') || alias::find(text).is_some()
}

impl Catalog {
    /// Returns the image that a reference names: by URN or id; or the latest at `now` if it ends in
    /// `latest`, is an alias or is a pattern. Rows of the other tables are found only after the
    /// tables have been [read](Self::others).
    pub fn named(&self, text: &str, now: OffsetDateTime) -> Result<Page> {
        if is_latest(text) {
            return self.newest(text, &Filter::default(), None, now);
        }
        let not_found = || Error::not_found(format!("{text} is not in the catalog"));
        self.find_id(text).ok_or_else(not_found)
    }

    /// Returns the newest image of `text` (a SKU, an alias, a gallery's definition, or a name
    /// pattern of managed images) that `filter` accepts at `now` and whose life does not end before
    /// `until`.
    pub fn newest(
        &self,
        text: &str,
        filter: &Filter,
        until: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<Page> {
        if is_of_others(text) {
            let table = self.others.get().ok_or_else(|| Error::bug("the table was not loaded"))?;
            let id = table.latest(text, filter, until, now)?.id;
            let row = table.find(&id).ok_or_else(|| Error::bug(format!("{id} has no row")))?;
            return Ok(Page { others: vec![row], ..Page::default() });
        }
        let question = LatestQuestion::parse(text, &filter.locations, until)?;
        let plain = Filter { locations: filter.locations.clone(), ..Filter::default() };
        if *filter != plain {
            for row in question.fitting(&self.index, now) {
                if filter.accepts(&self.read(self.at(row), now)?) {
                    return Ok(Page { rows: vec![self.at(row)], ..Page::default() });
                }
            }
            let newest = self.at(question.answer(&self.index, now)?);
            let newest: MarketplaceImage = self.read(newest, now)?;
            return Err(Error::not_found(format!(
                "no version of {} matches the filters; without them, the latest is {}",
                without_latest(text),
                newest.id
            )));
        }
        let row = self.at(question.answer(&self.index, now)?);
        Ok(Page { rows: vec![row], ..Page::default() })
    }
}
