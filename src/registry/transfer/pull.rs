//! An image on its way down: manifests first, then blobs side by side, and its name last of all.

use super::layout::{NAME, VERSION, blob_path, index_with, read_small};
use super::{AT_ONCE, Moved, archive, files};
use crate::error::{Error, Result};
use crate::registry::{Content, Descriptor, Name, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Indexes within indexes, and manifests of one image, and no more.
const DEPTH: u32 = 3;
const MOST_MANIFESTS: usize = 1_000;

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
    /// Files that were written, where it was made into files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// How often a blob was gone on with where it broke off.
    pub resumed: u64,
    /// How often a blob was fetched anew.
    pub restarted: u64,
}

/// Manifests, the whole first, and the blobs that they point at, each once.
struct Whole {
    manifests: Vec<Content>,
    blobs: BTreeMap<String, Descriptor>,
}

impl Whole {
    fn size(&self) -> u64 {
        self.blobs.values().map(|blob| blob.size).fold(0, u64::saturating_add)
    }

    fn measured(&self) -> Pulled {
        let first = &self.manifests[0];
        Pulled {
            digest: first.digest.clone(),
            media_type: first.media_type.clone(),
            manifests: self.manifests.len(),
            blobs: self.blobs.len(),
            bytes: self.size(),
            files: Vec::new(),
            resumed: 0,
            restarted: 0,
        }
    }
}

impl Registry {
    /// Pulls an image to `to`; of an index only the image of `platform` (`os/architecture[/variant]`),
    /// if one is named.
    pub async fn pull(
        &self,
        repository: &str,
        name: &Name,
        platform: Option<&str>,
        (to, form): (&Path, PullTo),
        moved: &Moved,
    ) -> Result<Pulled> {
        let whole = self.whole(repository, name, platform).await?;
        moved.expect(whole.size());
        let tag = match name {
            Name::Tag(tag) => Some(tag.as_str()),
            _ => None,
        };
        let files = match form {
            PullTo::Files => self.pull_files(repository, &whole, to, moved).await?,
            PullTo::Layout => {
                self.pull_layout(repository, &whole, tag, to, moved).await?;
                Vec::new()
            }
            PullTo::Archive => {
                self.pull_archive(repository, &whole, tag, to, moved).await?;
                Vec::new()
            }
        };
        let (resumed, restarted) = moved.mended();
        Ok(Pulled { files, resumed, restarted, ..whole.measured() })
    }

    /// What a pull would fetch.
    pub async fn measure(
        &self,
        repository: &str,
        name: &Name,
        platform: Option<&str>,
    ) -> Result<Pulled> {
        self.whole(repository, name, platform).await.map(|whole| whole.measured())
    }

    /// All manifests and blobs of an image.
    async fn whole(&self, repository: &str, name: &Name, platform: Option<&str>) -> Result<Whole> {
        let mut first = self.content(repository, name).await?;
        if let (Some(platform), true) = (platform, first.is_index()) {
            let digest = of_platform(&first, platform)?;
            first = self.content(repository, &Name::Digest(digest)).await?;
        }
        let mut whole = Whole { manifests: Vec::new(), blobs: BTreeMap::new() };
        let mut level = vec![first];
        for depth in 0.. {
            let mut below: Vec<Name> = Vec::new();
            for content in level {
                for part in ["layers", "blobs", "config"] {
                    for blob in content.descriptors(part)? {
                        whole.blobs.insert(blob.digest.clone(), blob);
                    }
                }
                for part in content.descriptors("manifests")? {
                    let name = Name::Digest(part.digest);
                    if !below.contains(&name) {
                        below.push(name);
                    }
                }
                whole.manifests.push(content);
            }
            if below.is_empty() {
                return Ok(whole);
            }
            if depth == DEPTH || whole.manifests.len() + below.len() > MOST_MANIFESTS {
                return Err(Error::corrupt("an index that is too deep or too long"));
            }
            level = stream::iter(below)
                .map(|name| async move { self.content(repository, &name).await })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
        }
        Ok(whole)
    }

    async fn blobs(
        &self,
        repository: &str,
        whole: &Whole,
        moved: &Moved,
        to: impl Fn(&Descriptor) -> PathBuf,
    ) -> Result<()> {
        let blobs = whole.blobs.values().map(|blob| (blob, to(blob)));
        let blobs: Vec<(&Descriptor, PathBuf)> = blobs.collect();
        stream::iter(&blobs)
            .map(|(blob, to)| self.download(repository, blob, to, moved))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn pull_layout(
        &self,
        repository: &str,
        whole: &Whole,
        tag: Option<&str>,
        root: &Path,
        moved: &Moved,
    ) -> Result<()> {
        let folder = root.join("blobs/sha256");
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(folder.display(), e))?;
        self.blobs(repository, whole, moved, |blob| blob_path(root, &blob.digest)).await?;
        // From the inside out: nothing names what is not there yet.
        for manifest in whole.manifests.iter().rev() {
            write(&blob_path(root, &manifest.digest), &manifest.bytes)?;
        }
        write(&root.join("oci-layout"), VERSION.as_bytes())?;
        let path = root.join("index.json");
        let before = match read_small(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(_) => None,
        };
        let first = &whole.manifests[0];
        let mut entry = json!({"mediaType": first.media_type, "digest": first.digest,
            "size": first.bytes.len()});
        if let Some(tag) = tag {
            entry["annotations"] = json!({NAME: tag});
        }
        write(&path, index_with(before, entry).to_string().as_bytes())
    }

    async fn pull_archive(
        &self,
        repository: &str,
        whole: &Whole,
        tag: Option<&str>,
        to: &Path,
        moved: &Moved,
    ) -> Result<()> {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What is left of it when it breaks off is gone on with.
        let scratch = to.with_file_name(format!(".{name}.layout"));
        self.pull_layout(repository, whole, tag, &scratch, moved).await?;
        let first = &whole.manifests[0];
        let image = (!first.is_index()).then(|| first.document.clone());
        let at = format!("{}/{repository}", self.login_server());
        let names: Vec<String> = tag.iter().map(|tag| format!("{at}:{tag}")).collect();
        let (part, to) = (to.with_file_name(format!(".{name}.part")), to.to_owned());
        let pack = move || {
            archive::write(&scratch, &names, image.as_ref(), &part)
                .and_then(|()| std::fs::rename(&part, &to))
                .and_then(|()| std::fs::remove_dir_all(&scratch))
                .map_err(|e| Error::io(to.display(), e))
        };
        tokio::task::spawn_blocking(pack)
            .await
            .map_err(|e| Error::bug("writing an archive panicked").with_source(e))?
    }

    async fn pull_files(
        &self,
        repository: &str,
        whole: &Whole,
        folder: &Path,
        moved: &Moved,
    ) -> Result<Vec<String>> {
        let first = &whole.manifests[0];
        if first.is_index() {
            return Err(Error::invalid("an index is no artifact: choose one with --platform"));
        }
        let mut wanted: Vec<(String, Descriptor)> = Vec::new();
        for layer in first.descriptors("layers")? {
            let title = layer.annotations[files::TITLE].as_str();
            let Some(title) = title else { continue };
            if !files::safe_name(title) {
                return Err(Error::corrupt(format!(
                    "the artifact names a file {title:?}, which is not written: it may lead \
                     elsewhere"
                )));
            }
            if wanted.iter().any(|(other, _)| other.eq_ignore_ascii_case(title)) {
                return Err(Error::corrupt(format!("the artifact names two files {title}")));
            }
            wanted.push((title.to_owned(), layer));
        }
        if wanted.is_empty() {
            return Err(Error::invalid(
                "no layer of it is named as a file: pull it to a layout (--to layout)",
            ));
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display(), e))?;
        stream::iter(&wanted)
            .map(|(title, layer)| {
                let to = folder.join(title);
                async move { self.download(repository, layer, &to, moved).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(wanted.into_iter().map(|(title, _)| title).collect())
    }
}

/// The digest of the image of a platform.
fn of_platform(index: &Content, platform: &str) -> Result<String> {
    let mut known = Vec::new();
    for part in index.descriptors("manifests")? {
        let of = |name: &str| part.platform[name].as_str().unwrap_or_default();
        let short = format!("{}/{}", of("os"), of("architecture"));
        let long = format!("{short}/{}", of("variant"));
        if platform == short || platform == long {
            return Ok(part.digest);
        }
        known.push(short);
    }
    let known = known.join(", ");
    Err(Error::not_found(format!("no image for {platform}: the index has {known}")))
}

/// Writes a small file whole, or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.part"));
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|e| Error::io(path.display(), e))
}
