//! What depends on something to be deleted, and the confirmation of its deletion.

use super::going::Going;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::image::referrers::tagged_subject;
use crate::image::registry::{is_index, is_schema_1};
use crate::registry::{Name, Registry};
use crate::sink::{say, stderr_is_terminal};
use futures::{StreamExt, TryStreamExt, stream};
use std::io::IsTerminal;

/// The number of indexes read concurrently.
const AT_ONCE: usize = 8;
/// Of a longer list, this many names are printed.
const FEW: usize = 3;
/// The tag that is pulled when none is named.
const LATEST: &str = "latest";

/// What depends on a manifest.
#[derive(Default)]
pub(super) struct Depending {
    /// The indexes that list it.
    pub(super) indexes: Vec<String>,
    /// Its referrers, such as signatures and bills of materials.
    pub(super) referrers: Vec<String>,
}

impl Depending {
    pub(super) async fn on(registry: &Registry, repository: &str, name: &Name) -> Result<Self> {
        // Deleting a tag deletes nothing else. A repository is always deleted as a whole.
        let Name::Digest(digest) = name else { return Ok(Self::default()) };
        let rows = registry.manifests(repository).await?;
        let of_it = |tag: &String| tagged_subject(tag).is_some_and(|of| of == *digest);
        let mut referrers: Vec<String> =
            rows.iter().flat_map(|row| row.tags.iter().filter(|tag| of_it(tag)).cloned()).collect();
        let referring = registry.referrers(repository, digest).await?;
        referrers.extend(referring.into_iter().map(|referrer| referrer.digest));
        // A manifest of unknown media type may be an index.
        let may_list = rows.into_iter().filter(|row| {
            let media_type = row.media_type.as_deref().unwrap_or_default();
            row.digest != *digest
                && !is_schema_1(media_type)
                && (media_type.is_empty() || is_index(media_type))
        });
        let listing: Vec<Option<String>> = stream::iter(may_list)
            .map(|row| async move {
                let name = Name::Digest(row.digest.clone());
                let content = registry.content(repository, &name).await?;
                let parts = content.named("manifests")?;
                let lists_it = parts.iter().any(|part| part.digest == *digest);
                let called = row
                    .tags
                    .first()
                    .map_or(row.digest.clone(), |tag| format!("{tag} ({})", row.digest));
                Ok::<_, Error>(lists_it.then_some(called))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { indexes: listing.into_iter().flatten().collect(), referrers })
    }

    /// Why the deletion needs a confirmation. `None` if nothing else depends on it.
    pub(super) fn confirmation_reason(
        &self,
        reference: &str,
        name: &Name,
        going: &Going,
    ) -> Option<String> {
        if *name == Name::Whole {
            let (manifests, tags) = (going.manifests.len(), going.tags.len());
            return Some(format!(
                "'{reference}' is a whole repository, with {manifests} manifests and {tags} tags"
            ));
        }
        let mut why = Vec::new();
        if !self.indexes.is_empty() {
            why.push(format!(
                "it is a part of {}, which can then no longer be pulled completely",
                few(&self.indexes)
            ));
        }
        if going.tags.iter().any(|tag| tag == LATEST) {
            why.push(format!("the tag {LATEST} is deleted, which a pull without a tag uses"));
        }
        if why.is_empty() {
            return None;
        }
        if !self.referrers.is_empty() {
            why.push(format!("{} refer to it", few(&self.referrers)));
        }
        Some(format!("{reference}: {}", why.join("; ")))
    }
}

fn few(names: &[String]) -> String {
    let more = names.len().saturating_sub(FEW);
    let few = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { few } else { format!("{few} and {more} more") }
}

/// Asks for confirmation on a terminal. A script must pass `--yes` instead.
pub(super) async fn confirm(why: &str) -> Result<()> {
    let unsaid = || Error::invalid(format!("{why}: add --yes to delete it"));
    if !std::io::stdin().is_terminal() || !stderr_is_terminal() {
        return Err(unsaid());
    }
    say!("{why}.");
    say!("Delete it? Type yes:");
    let read = blocking("an answer", || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map(|_| line).map_err(|e| Error::io("standard input", e))
    });
    if read.await?.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(unsaid()) }
}
