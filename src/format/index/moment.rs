//! The status of rows at a given time. Dates that were in the future when the run began may have
//! passed since.
//!
//! Times are in nanoseconds since 1970, as returned by [`crate::image::nanoseconds`].

use super::layout::{DATE, NONE, Section, long};
use super::{Index, Level, Row};
use crate::image::Status;
use std::collections::BTreeSet;

impl Index {
    /// A row's status at `now`, if known.
    pub fn status(&self, row: Row<'_>, now: i64) -> Option<Status> {
        match row.status() {
            // Equivalent to `Status::at`, without constructing a date.
            Some(status) if status.is_deployable() && self.has_ended(row, now) => {
                Some(Status::Deprecated)
            }
            status => status,
        }
    }

    /// Whether a row is the newest deployable version of its SKU at `now`. `sku` is the row's
    /// group.
    pub fn is_latest(&self, at: u32, sku: u32, now: i64) -> bool {
        let is_deployable =
            |at: u32| self.status(self.row(at), now).is_some_and(Status::is_deployable);
        if !is_deployable(at) {
            return false;
        }
        // Rows never become deployable over time, so the latest row stays the latest until it ends.
        if self.row(at).is_latest() {
            return true;
        }
        let end = self.members(Level::Sku, sku).end;
        if (at + 1..end).any(is_deployable) {
            return false;
        }
        // Names that differ only in case are neighbors and the same SKU.
        let mut next = sku + 1;
        while next < self.groups(Level::Sku) && self.is_same_sku(sku, next) {
            next += 1;
        }
        !(end..self.members(Level::Sku, next - 1).end).any(is_deployable)
    }

    /// The times at which a row stops being deployable. Between two of them, every answer stays the
    /// same.
    pub fn ends(&self) -> BTreeSet<i64> {
        let dates = self.sections.of(Section::Dates).chunks_exact(DATE);
        dates.map(|date| long(date, 0).cast_signed()).collect()
    }

    fn has_ended(&self, row: Row<'_>, now: i64) -> bool {
        self.ends_at(row).is_some_and(|end| end <= now)
    }

    /// When a row stops being deployable, past or future. Clamped to the range of `i64`
    /// nanoseconds.
    fn ends_at(&self, row: Row<'_>) -> Option<i64> {
        let date = row.deprecation();
        let at = || long(self.sections.of(Section::Dates), date as usize * DATE).cast_signed();
        (date != NONE).then(at)
    }

    fn is_same_sku(&self, one: u32, other: u32) -> bool {
        let same = |level: Level, one: u32, other: u32| {
            let name = |group| self.names(level).get(self.group_name(level, group));
            one == other || name(one).eq_ignore_ascii_case(name(other))
        };
        let above = |level, member| self.parent(level, 0, member);
        let (offer, other_offer) = (above(Level::Offer, one), above(Level::Offer, other));
        same(Level::Sku, one, other)
            && same(Level::Offer, offer, other_offer)
            && (offer == other_offer
                || same(
                    Level::Publisher,
                    above(Level::Publisher, offer),
                    above(Level::Publisher, other_offer),
                ))
    }
}
