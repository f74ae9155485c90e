//! Copy of an image between repositories. Within a registry its blobs are mounted; between
//! registries they are streamed, and nothing of them is stored on the way. The tags are set last,
//! after all referrers are copied, so that nobody sees an image without its signature.

use super::origin::Origin;
use super::package::{Blob, BlobSource, Package, PackedManifest};
use super::resolved::ResolvedImage;
use super::{CONCURRENCY, TransferProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Name, Platform, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most manifests that refer to an image, and their bytes. No real image has more.
const MOST_MANIFESTS: usize = 5_000;
const MOST_BYTES: usize = 64 << 20;
/// The suffixes of the tags by which cosign finds signatures, attestations and SBOMs.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// The source of a copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyFrom<'a> {
    /// The registry.
    pub registry: &'a Arc<Registry>,
    /// The repository.
    pub repository: &'a str,
    /// The tag or digest.
    pub name: &'a Name,
    /// Selects only the images of these platforms from an index; all if empty.
    pub platforms: &'a [Platform],
    /// Whether its referrers, such as signatures and SBOMs, are copied with it.
    pub with_referrers: bool,
}

/// The result of a copy, or of its dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// The digest of the root manifest.
    pub digest: String,
    /// The media type of the root manifest.
    pub media_type: String,
    /// The tags that point at it.
    pub tags: Vec<String>,
    /// The number of its manifests.
    pub manifests: usize,
    /// The number of manifests that refer to it, or to one of its images.
    pub referrers: usize,
    /// The number of blobs whose bytes were sent.
    pub sent: usize,
    /// The number of blobs that were present, or were mounted from the other repository.
    pub skipped: usize,
    /// The bytes of all blobs.
    pub bytes: u64,
    /// How many times a blob was resumed where it broke off.
    pub resumed: u64,
    /// How many times a blob was restarted.
    pub restarted: u64,
}

/// A referrer: a manifest with everything that it refers to, and the tag by which it is found, if
/// any.
struct Referrer {
    resolved: ResolvedImage,
    tag: Option<String>,
}

/// The amount of referrers that was read. A registry decides how many there are, and what they
/// list.
#[derive(Default)]
struct Read {
    manifests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Read {
    /// Counts one more referrer. An error if the sum exceeds what any image has.
    fn add(&self, resolved: &ResolvedImage) -> Result<()> {
        let (count, weight) = (resolved.manifests.len(), resolved.weight());
        let manifests = self.manifests.fetch_add(count, Ordering::Relaxed) + count;
        let bytes = self.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        if manifests <= MOST_MANIFESTS && bytes <= MOST_BYTES {
            return Ok(());
        }
        let most = MOST_BYTES >> 20;
        let text = format!("its referrers exceed {MOST_MANIFESTS} manifests or {most} MiB");
        Err(Error::corrupt(text))
    }
}

/// An image in its repository, with its referrers.
struct Found {
    image: ResolvedImage,
    referrers: Vec<Referrer>,
}

impl Found {
    fn measured(&self, tags: &[String]) -> Copied {
        let first = &self.image.manifests[0];
        let others = self.referrers.iter().map(|referrer| referrer.resolved.size());
        Copied {
            digest: first.digest.clone(),
            media_type: first.media_type.clone(),
            tags: tags.to_vec(),
            manifests: self.image.manifests.len(),
            referrers: self.referrers.len(),
            sent: 0,
            skipped: 0,
            bytes: others.fold(self.image.size(), u64::saturating_add),
            resumed: 0,
            restarted: 0,
        }
    }
}

impl CopyFrom<'_> {
    async fn found(&self) -> Result<Found> {
        let image = self.registry.resolve_image(self.repository, self.name, self.platforms).await?;
        let mut seen: HashSet<String> =
            image.manifests.iter().map(|manifest| manifest.digest.clone()).collect();
        let mut referrers = Vec::new();
        let read = Read::default();
        let mut open: Vec<String> = Vec::new();
        if self.with_referrers {
            open.extend(image.manifests.iter().map(|manifest| manifest.digest.clone()));
        }
        while !open.is_empty() {
            let subjects = std::mem::take(&mut open);
            let found: Vec<Vec<Referrer>> = stream::iter(subjects)
                .map(|subject| {
                    let read = &read;
                    async move { self.referring(&subject, read).await }
                })
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            for referrer in found.into_iter().flatten() {
                let digest = referrer.resolved.manifests[0].digest.clone();
                if seen.insert(digest.clone()) {
                    open.push(digest);
                    referrers.push(referrer);
                }
            }
        }
        Ok(Found { image, referrers })
    }

    /// The referrers of one manifest: by its subject, and by cosign's tags.
    async fn referring(&self, subject: &str, read: &Read) -> Result<Vec<Referrer>> {
        let mut found = Vec::new();
        for referrer in self.registry.referrers(self.repository, subject).await? {
            let name = Name::Digest(referrer.digest);
            match self.registry.resolve_image(self.repository, &name, &[]).await {
                Ok(resolved) => {
                    read.add(&resolved)?;
                    found.push(Referrer { resolved, tag: None });
                }
                // A list of referrers may name manifests that were deleted since.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(%error, "a referrer no longer exists and is not copied");
                }
                Err(error) => return Err(error),
            }
        }
        for end in COSIGN {
            let tag = format!("{}.{end}", subject.replacen(':', "-", 1));
            let name = Name::Tag(tag.clone());
            match self.registry.resolve_image(self.repository, &name, &[]).await {
                Ok(resolved) => {
                    read.add(&resolved)?;
                    found.push(Referrer { resolved, tag: Some(tag) });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Builds the package to be pushed. Its blobs are read from the source registry when they are
    /// sent.
    fn package(&self, resolved: &ResolvedImage) -> Result<Package> {
        let mut package = Package::default();
        // Layers with another location are stored by their publisher, and in no registry.
        for blob in resolved.blobs.values().filter(|blob| blob.urls.is_empty()) {
            let origin = Origin::new(self.registry, self.repository, &blob.digest);
            let source = BlobSource::At(Arc::new(origin));
            package.add(Blob { digest: blob.digest.clone(), size: blob.size, source });
        }
        // Each after those it lists.
        for manifest in resolved.manifests.iter().rev() {
            let packed = PackedManifest::new(manifest.bytes.clone(), &manifest.media_type)?;
            package.manifests.push(packed);
        }
        Ok(package)
    }
}

impl Registry {
    /// Copies an image into a repository, and points `tags` at it.
    ///
    /// # Errors
    /// What either registry refuses; a conflict if one of the tags is moved concurrently. What was
    /// copied by then stays, and is not sent again.
    pub async fn copy(
        &self,
        repository: &str,
        from: CopyFrom<'_>,
        tags: &[String],
        moved: &TransferProgress,
    ) -> Result<Copied> {
        let found = from.found().await?;
        let mut copied = found.measured(tags);
        let is_here = self.login_server() == from.registry.login_server();
        let mount: Vec<String> = is_here.then(|| from.repository.to_owned()).into_iter().collect();
        let image = from.package(&found.image)?;
        let top_manifest = image.manifests.last().cloned();
        let top_manifest = top_manifest.ok_or_else(|| Error::bug("an image without a manifest"))?;
        let packages = found.referrers.iter().map(|referrer| from.package(&referrer.resolved));
        let packages: Vec<Package> = packages.collect::<Result<_>>()?;
        let named = found.referrers.iter().map(|referrer| referrer.tag.clone());
        let named = std::iter::once(None).chain(named);
        // Sequential: in a registry that does not track subjects, each push updates the referrers
        // tag of its subject.
        for (package, tag) in std::iter::once(&image).chain(&packages).zip(named) {
            let tags: Vec<String> = tag.into_iter().collect();
            let pushed = self.push(repository, package, &tags, &mount, moved).await?;
            copied.sent += pushed.uploaded;
            copied.skipped += pushed.skipped;
        }
        self.point(repository, &top_manifest, tags).await?;
        (copied.resumed, copied.restarted) = moved.mended();
        Ok(copied)
    }
}

impl CopyFrom<'_> {
    /// Returns what a copy would transfer, including the referrers.
    pub async fn measure(&self, tags: &[String]) -> Result<Copied> {
        Ok(self.found().await?.measured(tags))
    }
}
