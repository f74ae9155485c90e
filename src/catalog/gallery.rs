//! Which version of an image definition is the latest.

use super::rows::{DEFINITION, Entry, GALLERY, RowTable};
use crate::error::{Error, Result};
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::version;
use crate::source::locations::short_name;
use time::OffsetDateTime;

impl RowTable {
    /// The versions of an image definition: by `gallery/definition`, or by the definition's id. An
    /// error when it is not there, or when several galleries have that name.
    fn versions(&self, name: &str) -> Result<Vec<GalleryImage>> {
        let by_name = name.split_once('/').filter(|(gallery, _)| !gallery.is_empty());
        let is_wanted = |entry: &Entry| match by_name {
            Some((gallery, definition)) => {
                let same = |column, wanted: &str| {
                    self.name(entry, column).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                };
                entry.kind() != Kind::ManagedImage.as_str()
                    && same(GALLERY, gallery)
                    && same(DEFINITION, definition)
            }
            None => false,
        };
        let found: Vec<GalleryImage> = if by_name.is_some() {
            let numbered = self.entries().iter().enumerate();
            let wanted = numbered.filter(|(_, entry)| is_wanted(entry));
            wanted
                .map(|(at, _)| self.row::<GalleryImage>(u32::try_from(at).unwrap_or(u32::MAX)))
                .collect::<Result<_>>()?
        } else {
            self.below(name)?
        };
        let ids: Vec<&str> = found
            .iter()
            .filter(|row| row.kind == Kind::GalleryDefinition)
            .map(|row| row.id.as_str())
            .collect();
        match ids[..] {
            [] => Err(Error::not_found(format!(
                "no image definition {name} is in the catalog: give GALLERY/DEFINITION, or its id"
            ))),
            [_] => Ok(found),
            _ => Err(Error::invalid(format!(
                "'{name}' is the name of {} image definitions: give the id of one of {}",
                ids.len(),
                ids.join(", ")
            ))),
        }
    }

    /// A definition and its versions, by the definition's id.
    fn below(&self, id: &str) -> Result<Vec<GalleryImage>> {
        let Some(first) = self.find(id) else { return Ok(Vec::new()) };
        let mut rows: Vec<GalleryImage> = vec![self.row(first)?];
        for at in first + 1.. {
            if at as usize >= self.len() {
                break;
            }
            let row: GalleryImage = self.row(at)?;
            let head = row.id.get(..id.len());
            if row.kind != Kind::GalleryVersion || !head.is_some_and(|h| h.eq_ignore_ascii_case(id))
            {
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The version that Azure takes for the latest of a definition, in all of `locations`, of those
    /// whose life does not end before `until`.
    pub fn latest(
        &self,
        name: &str,
        locations: &[String],
        until: Option<OffsetDateTime>,
    ) -> Result<GalleryImage> {
        let rows = self.versions(name)?;
        let locations: Vec<String> = locations.iter().map(|name| short_name(name)).collect();
        let lives = |row: &GalleryImage| {
            until.is_none_or(|until| row.end_of_life_at.is_none_or(|end| end >= until))
        };
        let fits = |row: &&GalleryImage| {
            row.may_be_latest()
                && lives(row)
                && locations.iter().all(|location| row.may_be_latest_in(location))
        };
        let number = |row: &&GalleryImage| row.version.clone().unwrap_or_default();
        let newest = rows
            .iter()
            .filter(fits)
            .max_by(|a, b| version::compare(&number(a), &number(b)))
            .cloned();
        newest.ok_or_else(|| {
            let versions = rows.iter().filter(|row| row.version.is_some()).count();
            let place = if locations.is_empty() {
                "anywhere".to_owned()
            } else {
                format!("in {}", locations.join(" and "))
            };
            Error::not_found(format!(
                "none of the {versions} versions of {name} may be the latest {place}: they are \
                 excluded from latest, past their end of life, not provisioned, or not there"
            ))
        })
    }
}
