//! What is deleted together with a reference, and which parts of it are locked.

use crate::error::Result;
use crate::registry::{Attributes, Name, Registry};

/// Everything that a deletion removes.
#[derive(Default)]
pub(super) struct Going {
    pub(super) manifests: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) locked: Vec<Name>,
}

/// The attributes of everything that a deletion removes: a manifest is deleted with its tags, a
/// repository with everything in it.
pub(super) async fn going(registry: &Registry, repository: &str, name: &Name) -> Result<Going> {
    let mut going = Going::default();
    let mut add = |name: Name, attributes: Attributes| {
        if !attributes.is_open() {
            going.locked.push(name.clone());
        }
        match name {
            Name::Tag(tag) => going.tags.push(tag),
            Name::Digest(digest) => going.manifests.push(digest),
            Name::Whole => {}
        }
    };
    match name {
        Name::Tag(tag) => {
            let found = registry.tag(repository, tag).await?;
            add(name.clone(), found.changeable_attributes);
        }
        Name::Digest(digest) => {
            let found = registry.manifest(repository, digest).await?;
            add(name.clone(), found.changeable_attributes);
            for tag in registry.tags(repository, Some(digest)).await? {
                add(Name::Tag(tag.name), tag.changeable_attributes);
            }
        }
        Name::Whole => {
            let found = registry.repository(repository).await?;
            add(Name::Whole, found.changeable_attributes);
            for tag in registry.tags(repository, None).await? {
                add(Name::Tag(tag.name), tag.changeable_attributes);
            }
            for manifest in registry.manifests(repository).await? {
                add(Name::Digest(manifest.digest), manifest.changeable_attributes);
            }
        }
    }
    Ok(going)
}
