//! What the registry's answers do not say of a tag, a manifest or a repository. What is unknown is
//! not deleted.

use super::state::TagState;
use crate::registry::{Attributes, MalformedMembers, Manifest, Repository, Tag};
use std::collections::HashSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parses a time; `None` if it is missing or cannot be read.
fn moment(text: Option<&String>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// The later of two times; `None` if either cannot be read, since it may be the later one.
pub(super) fn later(one: Option<&String>, other: Option<&String>) -> Option<OffsetDateTime> {
    match (one, other) {
        (Some(_), Some(_)) => Some(moment(one)?.max(moment(other)?)),
        (one, other) => moment(one.or(other)),
    }
}

/// Why something may not be deleted: its locks, its times or its tags cannot be read.
fn unread(
    attributes: &Attributes,
    malformed: &MalformedMembers,
    updated: Option<&String>,
) -> Option<String> {
    if let Some(why) = malformed.deciding() {
        return Some(why);
    }
    if !attributes.is_open() && !attributes.is_locked() {
        return Some("the registry does not report whether it is locked".to_owned());
    }
    updated.is_none().then(|| "the registry does not report when it was last changed".to_owned())
}

/// The state of a tag, with the reason if it may not be deleted.
pub(super) fn tag_state(tag: Tag) -> TagState {
    let Tag {
        last_update_time, created_time, changeable_attributes, malformed, name, digest, ..
    } = tag;
    TagState {
        updated: later(last_update_time.as_ref(), created_time.as_ref()),
        is_locked: changeable_attributes.is_locked(),
        unread: unread(&changeable_attributes, &malformed, last_update_time.as_ref()),
        name,
        digest,
    }
}

/// What cannot be read of a manifest. This includes a tag that points at it and is missing in the
/// list of tags, so that the manifest would appear untagged.
pub(super) fn unread_manifest(manifest: &Manifest, tags: &HashSet<&str>) -> Option<String> {
    let Manifest { changeable_attributes, malformed, last_update_time, .. } = manifest;
    unread(changeable_attributes, malformed, last_update_time.as_ref()).or_else(|| {
        let missing = manifest.tags.iter().find(|name| !tags.contains(name.as_str()))?;
        Some(format!("the tag {missing} points to it, but is not in the list of tags"))
    })
}

/// What cannot be read of a repository.
pub(super) fn unread_repository(properties: &Repository) -> Option<String> {
    let Repository { changeable_attributes, malformed, last_update_time, .. } = properties;
    let counts = (properties.manifest_count, properties.tag_count);
    unread(changeable_attributes, malformed, last_update_time.as_ref()).or_else(|| {
        let is_counted = matches!(counts, (Some(_), Some(_)));
        (!is_counted)
            .then(|| "the registry does not report its number of manifests and tags".to_owned())
    })
}
