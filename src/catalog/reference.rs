//! What a reference names that people paste: an image by its URN or id, or the latest of something.

use super::gallery::without_latest;
use super::{Catalog, Filter, LatestQuestion, Page, alias};
use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use time::OffsetDateTime;

/// Whether a reference is one to an image of a gallery or registry, or a pattern of managed images' names; those of the
/// marketplace have neither sign.
pub fn is_of_others(text: &str) -> bool {
    text.contains(['/', '*'])
}

/// Whether a reference means the latest of something, rather than naming one image.
fn is_latest(text: &str) -> bool {
    let says_so = text.rsplit(['/', ':']).next().is_some_and(|l| l.eq_ignore_ascii_case("latest"));
    (says_so && text.contains(['/', ':'])) || text.contains('*') || alias::find(text).is_some()
}

impl Catalog {
    /// The image that a reference names: by URN or id, or the latest at `now` where it says `latest`, is an alias or
    /// a pattern. Images of galleries are found once the other tables were [read](Self::others).
    pub fn named(&self, text: &str, now: OffsetDateTime) -> Result<Page> {
        if is_latest(text) {
            return self.newest(text, &Filter::default(), None, now);
        }
        let not_found = || Error::not_found(format!("{text} is not in the catalog"));
        self.find_id(text).ok_or_else(not_found)
    }

    /// The newest image of what `text` names (a SKU or an alias, a definition of a gallery, a pattern of names of
    /// managed images) that `filter` accepts at `now`, and whose life does not end before `until`.
    pub fn newest(
        &self,
        text: &str,
        filter: &Filter,
        until: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<Page> {
        if is_of_others(text) {
            let table = self.others.get().ok_or_else(|| Error::bug("a table that nobody read"))?;
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
                "no version of {} is what the filters want; without them it is {}",
                without_latest(text),
                newest.id
            )));
        }
        let row = self.at(question.answer(&self.index, now)?);
        Ok(Page { rows: vec![row], ..Page::default() })
    }
}
