//! Additional tags for manifests that a repository has. No blob is transferred.

use super::package::PackedManifest;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Name, Registry};
use serde::Serialize;

/// A tag that was set, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tagged {
    /// The tag.
    pub tag: String,
    /// The digest that it points at.
    pub digest: String,
    /// The digest that it pointed at before; `None` for a new tag.
    pub was: Option<String>,
}

impl Registry {
    /// Points `tags` at the manifest `name`. With `dry_run` only returns what they point at now.
    ///
    /// # Errors
    /// A tag that is locked, or that is moved concurrently, is a conflict. The tags before it are
    /// set.
    pub async fn tag_as(
        &self,
        repository: &str,
        name: &Name,
        tags: &[String],
        dry_run: bool,
    ) -> Result<Vec<Tagged>> {
        let content = self.content(repository, name).await?;
        let manifest = PackedManifest::new(content.bytes, &content.media_type)?;
        let mut tagged = Vec::new();
        for tag in tags {
            let was = match self.content(repository, &Name::Tag(tag.clone())).await {
                Ok(before) => Some(before.digest),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if !dry_run && was.as_ref() != Some(&manifest.digest) {
                self.point(repository, &manifest, std::slice::from_ref(tag)).await?;
            }
            tagged.push(Tagged { tag: tag.clone(), digest: manifest.digest.clone(), was });
        }
        Ok(tagged)
    }

    /// Points tags at a manifest that the repository has, and verifies that they do.
    pub(super) async fn point(
        &self,
        repository: &str,
        manifest: &PackedManifest,
        tags: &[String],
    ) -> Result<()> {
        for tag in tags {
            self.put(repository, manifest, tag).await?;
        }
        for tag in tags {
            let there = self.content(repository, &Name::Tag(tag.clone())).await?;
            if there.digest != manifest.digest {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "{tag} points to {}: it was pushed concurrently by another client",
                        there.digest
                    ),
                ));
            }
        }
        Ok(())
    }
}
