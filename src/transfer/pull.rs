//! An image on its way down: manifests first, then blobs side by side, and its name last of all.

use super::annotation::{FULL_NAME, NAME};
use super::digest::hex;
use super::landing::{Image, InArchive, InLayout, StagedBlobs};
use super::resolved::ResolvedImage;
use super::titled::{InFolder, Titled};
use super::{AT_ONCE, TransferProgress};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Descriptor, Name, Platform, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an image is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullTo {
    /// A folder in the OCI image layout; other images in it stay.
    Layout,
    /// An archive of that, which `docker load` reads, too.
    Archive,
    /// The files of an artifact, in a folder.
    Files,
}

/// Where a pull goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A folder or a file.
    pub path: &'a Path,
    /// What is made there.
    pub form: PullTo,
    /// Whether an archive, or files, that are there are replaced.
    pub overwrite: bool,
}

impl<'a> From<(&'a Path, PullTo)> for Target<'a> {
    fn from((path, form): (&'a Path, PullTo)) -> Self {
        Self { path, form, overwrite: false }
    }
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulled {
    /// The digest of the whole.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Manifests, the whole among them.
    pub manifests: usize,
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Its name in a layout or an archive: the repository and the tag that it was pulled by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Files that were written, where it was made into files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// What `docker load` takes of an archive, with any of its image stores: the image, or of an index the one of
    /// this platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_load: Option<String>,
    /// Layers that the registry does not have, since they have a place elsewhere, and that are not here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Descriptor>,
    /// How often a blob was gone on with where it broke off.
    pub resumed: u64,
    /// How often a blob was fetched anew.
    pub restarted: u64,
}

impl ResolvedImage {
    /// What goes where it is pulled to; `name`, a repository with its tag, names it in an index.
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
    /// Pulls an image to `target`; of an index only the images of `platforms`, if any are named.
    pub async fn pull(
        &self,
        repository: &str,
        name: &Name,
        platforms: &[Platform],
        target: impl Into<Target<'_>>,
        moved: &TransferProgress,
    ) -> Result<Pulled> {
        let Target { path, form, overwrite } = target.into();
        let whole = self.whole(repository, name, platforms).await?;
        moved.expect(whole.size());
        let at = format!("{}/{repository}", self.login_server());
        let named = match name {
            Name::Tag(tag) => Some((at.as_str(), tag.as_str())),
            _ => None,
        };
        let to = path.to_owned();
        let mut pulled = whole.measured();
        pulled.name = named.map(|(at, tag)| format!("{at}:{tag}"));
        match form {
            PullTo::Files => {
                pulled.name = None;
                pulled.files = self.pull_files(repository, &whole, (to, overwrite), moved).await?;
            }
            PullTo::Layout => {
                pulled.left_out = self.pull_layout(repository, (&whole, named), to, moved).await?;
            }
            PullTo::Archive => {
                let to = (to, overwrite);
                pulled.left_out = self.pull_archive(repository, (&whole, named), to, moved).await?;
                // What lacks a layer is loaded nowhere.
                let loaded = whole.loadable().filter(|_| pulled.left_out.is_empty());
                pulled.docker_load = loaded
                    .map(|(platform, _)| platform.map_or("image".to_owned(), |of| of.to_string()));
            }
        }
        (pulled.resumed, pulled.restarted) = moved.mended();
        Ok(pulled)
    }

    /// What a pull would fetch.
    pub async fn measure(
        &self,
        repository: &str,
        name: &Name,
        platforms: &[Platform],
    ) -> Result<Pulled> {
        self.whole(repository, name, platforms).await.map(|whole| whole.measured())
    }

    /// Fetches blobs into a staging folder. Those that have a place elsewhere, and that the registry does not have,
    /// are left out: what names that place is a stranger, and it is not gone to.
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
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(left_out.into_iter().flatten().collect())
    }

    async fn pull_layout(
        &self,
        repository: &str,
        (whole, name): (&ResolvedImage, Option<(&str, &str)>),
        to: PathBuf,
        moved: &TransferProgress,
    ) -> Result<Vec<Descriptor>> {
        let image = Arc::new(whole.image(name));
        let blobs: Vec<Descriptor> = whole.blobs.values().cloned().collect();
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
        blocking("writing a layout", move || layout.put(alone(staged)?, &image)).await?;
        Ok(left_out)
    }

    async fn pull_archive(
        &self,
        repository: &str,
        (whole, name): (&ResolvedImage, Option<(&str, &str)>),
        (to, overwrite): (PathBuf, bool),
        moved: &TransferProgress,
    ) -> Result<Vec<Descriptor>> {
        let mut image = whole.image(name);
        let of = image.clone();
        let look = move || {
            let archive = InArchive::look(&to, overwrite)?;
            let staged = archive.stage(&of)?;
            Ok((archive, Arc::new(staged)))
        };
        let (archive, staged) = blocking("looking for an archive", look).await?;
        let left_out = self.blobs(repository, whole.blobs.values(), &staged, moved).await?;
        image.blobs.retain(|name| !left_out.iter().any(|blob| hex(&blob.digest) == name));
        let document = whole.loadable().map(|(_, document)| document.clone());
        let document = document.filter(|_| left_out.is_empty());
        let names: Vec<String> = name.iter().map(|(at, tag)| format!("{at}:{tag}")).collect();
        let pack = move || archive.put(alone(staged)?, &image, &names, document.as_ref());
        blocking("writing an archive", pack).await?;
        Ok(left_out)
    }

    async fn pull_files(
        &self,
        repository: &str,
        whole: &ResolvedImage,
        (to, overwrite): (PathBuf, bool),
        moved: &TransferProgress,
    ) -> Result<Vec<String>> {
        let layers = whole.titled()?;
        let wanted: Vec<Titled> = layers
            .iter()
            .map(|(title, layer)| (title.clone(), layer.digest.clone(), layer.size))
            .collect();
        let (files, digest) = (wanted.clone(), whole.manifests[0].digest.clone());
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
                format!("{}: a file of the artifact that the registry does not have", blob.digest);
            return Err(Error::not_found(text));
        }
        blocking("writing files", move || folder.put(alone(staged)?, &wanted)).await?;
        Ok(layers.into_iter().map(|(title, _)| title).collect())
    }
}

/// A staging folder that nobody writes to any more.
fn alone(staged: Arc<StagedBlobs>) -> Result<StagedBlobs> {
    Arc::into_inner(staged).ok_or_else(|| Error::bug("a staging folder that is still written to"))
}
