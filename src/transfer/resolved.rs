//! A complete image in a registry: its manifests, the root first, and the blobs that they refer to.

use super::layout::{only, with_only};
use super::{CONCURRENCY, files};
use crate::error::{Error, Result};
use crate::registry::sha256;
use crate::registry::{Content, Descriptor, Name, Platform, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The deepest nesting of indexes, and the most manifests of one image.
const DEPTH: u32 = 3;
const MOST_MANIFESTS: usize = 1_000;
/// In bytes, of all manifests: each may have 4 MiB, and all are kept in memory until the last blob
/// is transferred.
const MOST_BYTES: usize = 64 << 20;

/// Manifests, the root first, and the blobs that they refer to, each once.
pub(super) struct ResolvedImage {
    pub(super) manifests: Vec<Content>,
    pub(super) blobs: BTreeMap<String, Descriptor>,
}

impl ResolvedImage {
    /// The bytes of all blobs.
    pub(super) fn size(&self) -> u64 {
        self.blobs.values().map(|blob| blob.size).fold(0, u64::saturating_add)
    }

    /// The bytes of all manifests.
    pub(super) fn weight(&self) -> usize {
        self.manifests.iter().map(|manifest| manifest.bytes.len()).sum()
    }

    /// The image that `docker load` takes from an archive if it ignores the index: in an index, the
    /// one for this machine, or the only one. `None` if that is not an image.
    pub(super) fn loadable(&self) -> Option<(Option<Platform>, &Value)> {
        let is_image =
            |content: &&Content| content.image_config().is_ok_and(|config| config.is_some());
        let first = &self.manifests[0];
        if !first.is_index() {
            return Some(first).filter(is_image).map(|first| (None, &first.document));
        }
        let indexes = self.manifests.iter().filter_map(|one| one.descriptors("manifests").ok());
        let known: Vec<(Platform, String)> = indexes
            .flatten()
            .filter_map(|part| Some((Platform::of(&part.platform)?, part.digest)))
            .collect();
        let chosen = match &known[..] {
            [one] => one,
            _ => Platform::of_this_machine().choose(&known).ok()?,
        };
        let found = self.manifests.iter().find(|one| one.digest == chosen.1).filter(is_image);
        found.map(|image| (Some(chosen.0.clone()), &image.document))
    }

    /// The layers of an artifact that are named as files.
    pub(super) fn titled(&self) -> Result<Vec<(String, Descriptor)>> {
        let first = &self.manifests[0];
        if first.is_index() {
            return Err(Error::invalid(
                "an index is not an artifact: select a manifest with --platform",
            ));
        }
        let mut wanted: Vec<(String, Descriptor)> = Vec::new();
        for layer in [first.descriptors("layers")?, first.descriptors("blobs")?].concat() {
            let title = layer.annotations[files::TITLE].as_str();
            let Some(title) = title else { continue };
            if !files::safe_path(title) {
                return Err(Error::corrupt(format!(
                    "the artifact names the file {title:?}, which is not written: the path may \
                     point outside the target folder"
                )));
            }
            if let Some((other, _)) =
                wanted.iter().find(|(other, _)| super::titled::collide(other, title))
            {
                return Err(Error::corrupt(format!(
                    "the artifact names the files {other:?} and {title:?}, which some systems \
                     cannot store side by side"
                )));
            }
            wanted.push((title.to_owned(), layer));
        }
        if wanted.is_empty() {
            return Err(Error::invalid(
                "none of its layers has a file name: pull it to a layout (--to layout)",
            ));
        }
        Ok(wanted)
    }
}

/// Adds the size of a manifest. An error if the sum exceeds [`MOST_BYTES`].
fn weigh(weight: &mut usize, content: &Content) -> Result<()> {
    *weight += content.bytes.len();
    if *weight <= MOST_BYTES {
        return Ok(());
    }
    let most = MOST_BYTES >> 20;
    Err(Error::corrupt(format!("the manifests of the index have more than {most} MiB")))
}

impl Registry {
    /// Fetches all manifests of an image and lists its blobs. If `platforms` are given, only their
    /// images are taken from an index.
    pub(super) async fn resolve_image(
        &self,
        repository: &str,
        name: &Name,
        platforms: &[Platform],
    ) -> Result<ResolvedImage> {
        let mut first = self.content(repository, name).await?;
        if !platforms.is_empty() {
            first = self.of_platforms(repository, first, platforms).await?;
        }
        let mut image = ResolvedImage { manifests: Vec::new(), blobs: BTreeMap::new() };
        let mut level = vec![first];
        for depth in 0.. {
            let mut below: Vec<Name> = Vec::new();
            for content in level {
                let (manifests, blobs) = content.members()?;
                for part in ["layers", "blobs", "config"] {
                    for blob in content.descriptors(part)? {
                        image.blobs.insert(blob.digest.clone(), blob);
                    }
                }
                image.blobs.extend(blobs.into_iter().map(|blob| (blob.digest.clone(), blob)));
                for part in manifests {
                    let name = Name::Digest(part.digest);
                    if !below.contains(&name) {
                        below.push(name);
                    }
                }
                image.manifests.push(content);
            }
            if below.is_empty() {
                return Ok(image);
            }
            if depth == DEPTH || image.manifests.len() + below.len() > MOST_MANIFESTS {
                return Err(Error::corrupt("the index is too deep or too long"));
            }
            let mut weight = image.weight();
            let mut contents = stream::iter(below)
                .map(|name| async move { self.content(repository, &name).await })
                .buffered(CONCURRENCY);
            level = Vec::new();
            while let Some(content) = contents.try_next().await? {
                weigh(&mut weight, &content)?;
                level.push(content);
            }
        }
        Ok(image)
    }

    /// Selects the image of one platform in an index, or builds an index of several. An image of
    /// another platform is an error.
    async fn of_platforms(
        &self,
        repository: &str,
        first: Content,
        platforms: &[Platform],
    ) -> Result<Content> {
        let at = format!("{}/{repository}@{}", self.login_server(), first.digest);
        if !first.is_index() {
            let own = self.platform_of(repository, &first).await?;
            let own: Vec<(Platform, ())> = own.map(|own| (own, ())).into_iter().collect();
            for platform in platforms {
                platform.choose(&own).map_err(|error| error.context(&at))?;
            }
            return Ok(first);
        }
        let known = self.platforms_in(repository, &first).await?;
        let chosen = only(platforms, &known).map_err(|error| error.context(&at))?;
        if let [one] = &chosen[..] {
            let digest = one["digest"].as_str().unwrap_or_default().to_owned();
            return self.content(repository, &Name::Digest(digest)).await;
        }
        let document = with_only(&first.document, &chosen);
        let bytes = bytes::Bytes::from(document.to_string());
        Ok(Content { digest: sha256(&bytes), bytes, document, media_type: first.media_type })
    }

    /// The images with a platform in an index, and in the indexes it lists, each with its entry.
    async fn platforms_in(
        &self,
        repository: &str,
        index: &Content,
    ) -> Result<Vec<(Platform, Value)>> {
        let (mut known, mut weight) = (Vec::new(), 0);
        let mut level = vec![index.clone()];
        for _ in 0..=DEPTH {
            let mut below = Vec::new();
            for member in level.iter().map(Content::members).collect::<Result<Vec<_>>>()? {
                for part in member.0 {
                    let listed = Platform::of(&part.platform);
                    let entry = json!(part);
                    if let Some(platform) = listed {
                        known.push((platform, entry));
                    } else if part.platform.is_null() {
                        if known.len() + below.len() >= MOST_MANIFESTS {
                            return Err(Error::corrupt("the index is too long"));
                        }
                        below.push((part, entry));
                    }
                }
            }
            level = Vec::new();
            // A member without a platform may be an index, or an image whose configuration has one.
            for (part, entry) in below {
                let content = self.content(repository, &Name::Digest(part.digest)).await?;
                if content.is_index() {
                    weigh(&mut weight, &content)?;
                    level.push(content);
                } else if let Some(platform) = self.platform_of(repository, &content).await? {
                    known.push((platform, entry));
                }
            }
        }
        Ok(known)
    }

    /// The platform from an image's configuration.
    async fn platform_of(&self, repository: &str, image: &Content) -> Result<Option<Platform>> {
        let Some(config) = image.image_config()? else { return Ok(None) };
        Ok(Platform::of(&self.config(repository, &config).await?))
    }
}
