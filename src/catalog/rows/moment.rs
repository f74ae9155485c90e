//! The state of gallery rows at a given time. An end of life that was in the future when the run
//! began may have passed since.

use super::entry::Entry;
use super::table::RowTable;
use crate::error::Result;
use crate::image::gallery::GalleryImage;
use crate::image::{Status, registry};
use memchr::memmem;
use time::OffsetDateTime;

impl Entry {
    /// The status at `now`.
    pub(super) fn status_at(&self, now: OffsetDateTime) -> Status {
        self.status.at(now, self.ends_at, Status::EndOfLife)
    }
}

impl RowTable {
    /// The end-of-life times of all rows. Between two consecutive ones every answer stays the same.
    pub(in crate::catalog) fn ends(&self) -> impl Iterator<Item = OffsetDateTime> {
        self.entries.iter().filter_map(|entry| entry.ends_at)
    }

    /// Whether a row is the newest version of its definition that may be the latest at `now`; or
    /// the latest manifest of its repository, which only a push changes.
    pub(super) fn is_latest(&self, row: u32, now: OffsetDateTime) -> bool {
        let rows = self.entries.get(row as usize..).unwrap_or_default();
        let Some(own) = rows.first() else { return false };
        if own.kind() == registry::KIND {
            return own.is_latest;
        }
        let may_be = |entry: &Entry| entry.is_eligible && entry.status_at(now).is_deployable();
        let newer = rows[1..].iter().take_while(|entry| entry.definition == own.definition);
        may_be(own) && !newer.into_iter().any(may_be)
    }

    /// Appends a row's JSON as in the table, with the status and `isLatest` as of `now`.
    pub(in crate::catalog) fn write_json(&self, row: u32, now: OffsetDateTime, out: &mut Vec<u8>) {
        let text = self.json(row);
        let Some(entry) = self.entries.get(row as usize) else { return };
        if entry.kind() == registry::KIND {
            out.extend_from_slice(text);
            return;
        }
        let (status, is_latest) = (entry.status_at(now), self.is_latest(row, now));
        match patched(text, status, is_latest) {
            Some(parts) => out.extend_from_slice(&parts.concat()),
            None => self.write_reencoded(row, (status, is_latest), out),
        }
    }

    /// Like [`write_json`](Self::write_json), for a row whose text has another layout than this
    /// version writes.
    fn write_reencoded(&self, row: u32, (status, is_latest): (Status, bool), out: &mut Vec<u8>) {
        match self.row::<GalleryImage>(row) {
            Ok(image) => {
                let image = GalleryImage { status, is_latest, ..image };
                // Writing to memory does not fail.
                let _ = serde_json::to_writer(out, &image);
            }
            Err(_) => out.extend_from_slice(self.json(row)),
        }
    }

    /// Returns a gallery image as of `now`.
    pub(in crate::catalog) fn image(&self, row: u32, now: OffsetDateTime) -> Result<GalleryImage> {
        let image: GalleryImage = self.row(row)?;
        let status = image.status.at(now, image.end_of_life_at, Status::EndOfLife);
        let is_latest = self.is_latest(row, now);
        Ok(GalleryImage { status, is_latest, ..image })
    }
}

/// Replaces `status` and `isLatest` in a row's text. The first occurrence is the member itself,
/// because only names precede it, and in these quotation marks are escaped.
fn patched(text: &[u8], status: Status, is_latest: bool) -> Option<[&[u8]; 5]> {
    const STATUS: &[u8] = br#","status":""#;
    const LATEST: &[u8] = br#"","isLatest":"#;
    let from = memmem::find(text, STATUS)? + STATUS.len();
    let to = from + memmem::find(&text[from..], LATEST)?;
    let end = to + LATEST.len() + memmem::find(&text[to + LATEST.len()..], b",")?;
    let latest: &[u8] = if is_latest { b"true" } else { b"false" };
    Some([&text[..from], status.as_str().as_bytes(), LATEST, latest, &text[end..]])
}
