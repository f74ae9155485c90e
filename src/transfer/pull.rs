//! Pull of an image: manifests first, then blobs in parallel, and its name last.

use super::annotation::{FULL_NAME, NAME};
use super::digest::hex;
use super::landing::{Image, InArchive, InLayout, StagedBlobs};
use super::resolved::ResolvedImage;
use super::titled::{InFolder, Titled};
use super::{CONCURRENCY, TransferProgress};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Descriptor, Name, Platform, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The form of a pulled image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullTo {
    /// A folder in the OCI image layout. Other images in it stay.
    Layout,
    /// An archive of a layout, which `docker load` reads, too.
    Archive,
    /// The files of an artifact, in a folder.
    Files,
}

/// The target of a pull.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A folder or a file.
    pub path: &'a Path,
    /// The form that is written there.
    pub form: PullTo,
    /// Whether an existing archive, or existing files, are replaced.
    pub overwrite: bool,
}

impl<'a> From<(&'a Path, PullTo)> for Target<'a> {
    fn from((path, form): (&'a Path, PullTo)) -> Self {
        Self { path, form, overwrite: false }
    }
}

/// The result of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulled {
    /// The digest of the root manifest.
    pub digest: String,
    /// The media type of the root manifest.
    pub media_type: String,
    /// The number of manifests, including the root.
    pub manifests: usize,
    /// The number of blobs.
    pub blobs: usize,
    /// The bytes of all blobs.
    pub bytes: u64,
    /// The name in a layout or an archive: the repository and the tag that was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The files that were written, if it was pulled as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// What `docker load` loads from the archive, with any of its image stores: `image`, or for an
    /// index the platform of the image it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_load: Option<String>,
    /// Layers that are missing here: they have another location, and the registry does not have
    /// them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Descriptor>,
    /// How many times a blob was resumed where it broke off.
    pub resumed: u64,
    /// How many times a blob was fetched again from the start.
    pub restarted: u64,
}

impl ResolvedImage {
    /// The image to be written. `name`, a repository and a tag, names it in an index.
    fn image(&self, name: Option<(&str, &str)>) -> Image {
        let first = &self.manifests[0];
        let mut entry = json!({"mediaType": first.media_type, "digest": first.digest,
            "size": first.bytes.len()});
        if let Some((repository, tag)) = name {
            entry["annotations"] = json!({FULL_NAME: format!("{repository}:{tag}"), NAME: tag});
        }
        let blobs = self.blobs.keys().map(|digest| hex(digest).to_owned()).collect();
        Image::of(&self.manifests, blobs, entry)
    }

    fn measured(&self) -> Pulled {
        let first = &self.manifests[0];
        Pulled {
            digest: first.digest.clone(),
            media_type: first.media_type.clone(),
            manifests: self.manifests.len(),
            blobs: self.blobs.len(),
            bytes: self.size(),
            name: None,
            files: Vec::new(),
            docker_load: None,
            left_out: Vec::new(),
            resumed: 0,
            restarted: 0,
        }
    }
}

impl Registry {
    /// Pulls an image to `target`. If `platforms` are given, only their images are taken from an
    /// index.
    pub async fn pull(
        &self,
        repository: &str,
        name: &Name,
        platforms: &[Platform],
        target: impl Into<Target<'_>>,
        moved: &TransferProgress,
    ) -> Result<Pulled> {
        let Target { path, form, overwrite } = target.into();
        let resolved = self.resolve_image(repository, name, platforms).await?;
        moved.expect(resolved.size());
        let at = format!("{}/{repository}", self.login_server());
        let named = match name {
            Name::Tag(tag) => Some((at.as_str(), tag.as_str())),
            _ => None,
        };
        let to = path.to_owned();
        let mut pulled = resolved.measured();
        pulled.name = named.map(|(at, tag)| format!("{at}:{tag}"));
        match form {
            PullTo::Files => {
                pulled.name = None;
                pulled.files =
                    self.pull_files(repository, &resolved, (to, overwrite), moved).await?;
            }
            PullTo::Layout => {
                pulled.left_out =
                    self.pull_layout(repository, (&resolved, named), to, moved).await?;
            }
            PullTo::Archive => {
                let to = (to, overwrite);
                pulled.left_out =
                    self.pull_archive(repository, (&resolved, named), to, moved).await?;
                // An image without one of its layers cannot be loaded.
                let loaded = resolved.loadable().filter(|_| pulled.left_out.is_empty());
                pulled.docker_load = loaded
                    .map(|(platform, _)| platform.map_or("image".to_owned(), |of| of.to_string()));
            }
        }
        (pulled.resumed, pulled.restarted) = moved.mended();
        Ok(pulled)
    }

    /// Returns what a pull would fetch.
    pub async fn measure(
        &self,
        repository: &str,
        name: &Name,
        platforms: &[Platform],
    ) -> Result<Pulled> {
        self.resolve_image(repository, name, platforms).await.map(|resolved| resolved.measured())
    }

    /// Fetches blobs into a staging folder. Blobs with another location that the registry does not
    /// have are left out: that location is untrusted, and nothing is fetched from it.
    async fn blobs(
        &self,
        repository: &str,
        blobs: impl Iterator<Item = &Descriptor>,
        staged: &Arc<StagedBlobs>,
        moved: &TransferProgress,
    ) -> Result<Vec<Descriptor>> {
        let blobs: Vec<&Descriptor> = blobs.collect();
        let left_out: Vec<Option<Descriptor>> = stream::iter(blobs)
            .map(|blob| async move {
                match self.download(repository, blob, staged, moved).await {
                    Err(error) if error.kind() == ErrorKind::NotFound && !blob.urls.is_empty() => {
                        Ok(Some(blob.clone()))
                    }
                    done => done.map(|()| None),
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(left_out.into_iter().flatten().collect())
    }

    async fn pull_layout(
        &self,
        repository: &str,
        (resolved, name): (&ResolvedImage, Option<(&str, &str)>),
        to: PathBuf,
        moved: &TransferProgress,
    ) -> Result<Vec<Descriptor>> {
        let image = Arc::new(resolved.image(name));
        let blobs: Vec<Descriptor> = resolved.blobs.values().cloned().collect();
        let (of, counted) = (Arc::clone(&image), moved.clone());
        let look = move || {
            let layout = InLayout::look(&to)?;
            let mut missing = Vec::new();
            for blob in blobs {
                if layout.has(&blob.digest, blob.size)? {
                    counted.add(blob.size);
                } else {
                    missing.push(blob);
                }
            }
            let staged = Arc::new(layout.stage(&of)?);
            Ok((layout, staged, missing))
        };
        let (layout, staged, missing) = blocking("looking at a layout", look).await?;
        let left_out = self.blobs(repository, missing.iter(), &staged, moved).await?;
        blocking("writing a layout", move || layout.put(sole_owner(staged)?, &image)).await?;
        Ok(left_out)
    }

    async fn pull_archive(
        &self,
        repository: &str,
        (resolved, name): (&ResolvedImage, Option<(&str, &str)>),
        (to, overwrite): (PathBuf, bool),
        moved: &TransferProgress,
    ) -> Result<Vec<Descriptor>> {
        let mut image = resolved.image(name);
        let of = image.clone();
        let look = move || {
            let archive = InArchive::look(&to, overwrite)?;
            let staged = archive.stage(&of)?;
            Ok((archive, Arc::new(staged)))
        };
        let (archive, staged) = blocking("looking for an archive", look).await?;
        let left_out = self.blobs(repository, resolved.blobs.values(), &staged, moved).await?;
        image.blobs.retain(|name| !left_out.iter().any(|blob| hex(&blob.digest) == name));
        let document = resolved.loadable().map(|(_, document)| document.clone());
        let document = document.filter(|_| left_out.is_empty());
        let names: Vec<String> = name.iter().map(|(at, tag)| format!("{at}:{tag}")).collect();
        let pack = move || archive.put(sole_owner(staged)?, &image, &names, document.as_ref());
        blocking("writing an archive", pack).await?;
        Ok(left_out)
    }

    async fn pull_files(
        &self,
        repository: &str,
        resolved: &ResolvedImage,
        (to, overwrite): (PathBuf, bool),
        moved: &TransferProgress,
    ) -> Result<Vec<String>> {
        let layers = resolved.titled()?;
        let wanted: Vec<Titled> = layers
            .iter()
            .map(|(title, layer)| (title.clone(), layer.digest.clone(), layer.size))
            .collect();
        let (files, digest) = (wanted.clone(), resolved.manifests[0].digest.clone());
        let look = move || {
            let folder = InFolder::look(&to, overwrite, &files)?;
            let mut missing = Vec::new();
            for file in &files {
                if !folder.has(file)? {
                    missing.push(file.1.clone());
                }
            }
            let staged = Arc::new(folder.stage(&digest)?);
            Ok((folder, staged, missing))
        };
        let (folder, staged, missing) = blocking("looking at a folder", look).await?;
        let mut blobs: BTreeMap<&str, &Descriptor> = BTreeMap::new();
        for (_, layer) in &layers {
            if missing.contains(&layer.digest) {
                blobs.insert(&layer.digest, layer);
            } else {
                moved.add(layer.size);
            }
        }
        if let Some(blob) =
            self.blobs(repository, blobs.into_values(), &staged, moved).await?.first()
        {
            let text =
                format!("{}: a file of the artifact is missing in the registry", blob.digest);
            return Err(Error::not_found(text));
        }
        blocking("writing files", move || folder.put(sole_owner(staged)?, &wanted)).await?;
        Ok(layers.into_iter().map(|(title, _)| title).collect())
    }
}

/// The staging folder, once there are no other writers.
fn sole_owner(staged: Arc<StagedBlobs>) -> Result<StagedBlobs> {
    Arc::into_inner(staged).ok_or_else(|| Error::bug("the staging folder is still in use"))
}
