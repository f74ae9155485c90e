//! Lookup of gallery images and managed images by reference: the latest version of a definition,
//! the newest managed image that matches a pattern, and the row of an id in any form.

use super::Filter;
use super::rows::{DEFINITION, Entry, GALLERY, RowTable};
use super::wrong_name::wrong_definition;
use crate::error::{Error, Result};
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::identity::ImageName;
use crate::image::name::short_name;
use crate::image::version;
use time::OffsetDateTime;

impl RowTable {
    /// Returns the definition and the versions that `name` refers to, as of `now`. `name` is
    /// `gallery/definition` or the definition's id. Fails when there is no such definition, or when
    /// several galleries have one of that name.
    fn versions(&self, name: &str, now: OffsetDateTime) -> Result<Vec<GalleryImage>> {
        let is_id = ImageName::parse(name).is_some();
        let by_name = name.split_once('/').filter(|(gallery, _)| !gallery.is_empty() && !is_id);
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
                .map(|(at, _)| self.image(u32::try_from(at).unwrap_or(u32::MAX), now))
                .collect::<Result<_>>()?
        } else {
            let row = self.find(name).or_else(|| self.find_named(name));
            let id = row.map(|row| self.row::<GalleryImage>(row)).transpose()?.map(|row| row.id);
            self.below(id.as_deref().unwrap_or(name), now)?
        };
        let ids: Vec<&str> = found
            .iter()
            .filter(|row| row.kind == Kind::GalleryDefinition)
            .map(|row| row.id.as_str())
            .collect();
        match ids[..] {
            [] => Err(Error::not_found(match by_name {
                Some(names) => {
                    let wrong = wrong_definition(self, names);
                    format!("no image definition {name} is in the catalog{wrong}")
                }
                None => format!(
                    "no image definition {name} is in the catalog: use GALLERY/DEFINITION, or its \
                     id"
                ),
            })),
            [_] => Ok(found),
            _ => Err(Error::invalid(format!(
                "'{name}' is the name of {} image definitions: specify the id of one of {}",
                ids.len(),
                ids.join(", ")
            ))),
        }
    }

    /// Returns the definition with this id and its versions, as of `now`.
    pub(super) fn below(&self, id: &str, now: OffsetDateTime) -> Result<Vec<GalleryImage>> {
        self.read_below(id, &|row| self.image(row, now))
    }

    /// Like [`below`](Self::below), with each row read by `read`.
    fn read_below(
        &self,
        id: &str,
        read: &dyn Fn(u32) -> Result<GalleryImage>,
    ) -> Result<Vec<GalleryImage>> {
        let Some(first) = self.find(id) else { return Ok(Vec::new()) };
        let mut rows = vec![read(first)?];
        let after = self.entries().iter().enumerate().skip(first as usize + 1);
        // What follows may be a row of another table, which cannot be read as an image.
        for (at, _) in after.take_while(|(_, row)| row.kind() == Kind::GalleryVersion.as_str()) {
            let row = read(u32::try_from(at).unwrap_or(u32::MAX))?;
            if !row.id.get(..id.len()).is_some_and(|head| head.eq_ignore_ascii_case(id)) {
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Returns the row of a definition or version, by any form of its id.
    pub(super) fn find_named(&self, id: &str) -> Option<u32> {
        let wanted = ImageName::parse(id)?.version;
        let id = self.definitions().ok()?.id(id)?;
        let Some(wanted) = wanted else { return self.find(id) };
        let rows = self.read_below(id, &|row| self.row(row)).ok()?;
        let is_wanted = |row: &&GalleryImage| {
            row.version.as_ref().is_some_and(|v| version::is_same(v, &wanted))
        };
        self.find(&rows.iter().find(is_wanted)?.id)
    }

    /// Returns the version that Azure treats as the latest of a definition, as of `now`, among
    /// those that `filter` accepts, that may be the latest in all of the filter's locations, and
    /// whose life does not end before `until`. If `name` contains `*`, which matches any text,
    /// returns the newest managed image whose name matches instead.
    pub fn latest(
        &self,
        name: &str,
        filter: &Filter,
        until: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<GalleryImage> {
        if name.contains('*') {
            return self.newest_managed(name, filter, now);
        }
        let definition = without_latest(name);
        let rows = self.versions(definition, now)?;
        let locations: Vec<String> = filter.locations.iter().map(|name| short_name(name)).collect();
        let lives = |row: &GalleryImage| {
            until.is_none_or(|until| row.end_of_life_at.is_none_or(|end| end >= until))
        };
        let is_wanted = self.wanted(filter, now);
        let fits = |row: &&GalleryImage| {
            row.may_be_latest()
                && lives(row)
                && locations.iter().all(|location| row.may_be_latest_in(location))
                && self.find(&row.id).is_some_and(&is_wanted)
        };
        let number = |row: &GalleryImage| row.version.clone().unwrap_or_default();
        let newest = rows.iter().filter(fits);
        let newest = newest.max_by(|a, b| version::compare(&number(a), &number(b))).cloned();
        newest.ok_or_else(|| {
            let versions = rows.iter().filter(|row| row.version.is_some()).count();
            let scope = if locations.is_empty() {
                "anywhere".to_owned()
            } else {
                format!("in {}", locations.join(" and "))
            };
            let plain = Filter { locations: filter.locations.clone(), ..Filter::default() };
            let others = if *filter == plain { "" } else { ", or excluded by the filters" };
            Error::not_found(format!(
                "none of the {versions} versions of {definition} is eligible as the latest \
                 {scope}: they are excluded from latest, past their end of life, not provisioned, \
                 or not available there{others}"
            ))
        })
    }

    /// Returns the managed image with the greatest name, in natural order: managed images have no
    /// version and no creation time.
    fn newest_managed(
        &self,
        pattern: &str,
        filter: &Filter,
        now: OffsetDateTime,
    ) -> Result<GalleryImage> {
        let is_wanted = self.wanted(filter, now);
        let mut newest: Option<GalleryImage> = None;
        for (at, entry) in self.entries().iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let name = self.name(entry, DEFINITION).unwrap_or_default();
            if entry.kind() != Kind::ManagedImage.as_str()
                || !matches(pattern, name)
                || !is_wanted(at)
                || newest.as_ref().is_some_and(|n| version::natural(&n.definition, name).is_ge())
            {
                continue;
            }
            let row = self.image(at, now)?;
            if row.is_provisioned() {
                newest = Some(row);
            }
        }
        newest.ok_or_else(|| {
            Error::not_found(format!(
                "no managed image matches the name '{pattern}' and the filters"
            ))
        })
    }
}

/// Strips a trailing `/latest` or `/versions/latest` from a reference.
pub(super) fn without_latest(name: &str) -> &str {
    let Some((head, last)) = name.rsplit_once('/') else { return name };
    if !last.eq_ignore_ascii_case("latest") {
        return name;
    }
    match head.rsplit_once('/') {
        Some((definition, part)) if part.eq_ignore_ascii_case("versions") => definition,
        _ => head,
    }
}

/// Whether `name` matches `pattern`, in which `*` matches any text. Ignores case.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some(at) = rest.find(before) else { return false };
            rest = &rest[at + before.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_the_whole_name() {
        for (pattern, name, fits) in [
            ("myapp-*", "MyApp-2017", true),
            ("myapp-*", "myapp-", true),
            ("myapp-*", "a-myapp-1", false),
            ("*app*1", "myapp-x-1", true),
            ("*app*1", "myapp-x-2", false),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abxb", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        for (name, definition) in [
            ("g/d/latest", "g/d"),
            ("g/d", "g/d"),
            ("/s/images/d/versions/Latest", "/s/images/d"),
            ("/s/images/d/versions/1.0.0", "/s/images/d/versions/1.0.0"),
        ] {
            assert_eq!(without_latest(name), definition);
        }
    }
}
