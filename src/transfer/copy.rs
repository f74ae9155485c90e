//! An image on its way from one repository to another: within a registry its blobs are taken over, between
//! registries they are streams, and nothing of them is kept on the way. Its tags come last of all, behind
//! whatever refers to it, so that nobody sees an image without its signature.

use super::origin::Origin;
use super::package::{Blob, BlobSource, Package, PackedManifest};
use super::resolved::ResolvedImage;
use super::{AT_ONCE, TransferProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Name, Platform, Registry};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than what refers to an image has: manifests, and bytes of them.
const MOST_MANIFESTS: usize = 5_000;
const MOST_BYTES: usize = 64 << 20;
/// The ends of the tags that cosign finds signatures, attestations and SBOMs by.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct CopyFrom<'a> {
    /// Where it is.
    pub registry: &'a Arc<Registry>,
    /// The repository.
    pub repository: &'a str,
    /// The tag or digest.
    pub name: &'a Name,
    /// Of an index only the images of these platforms; all of it where none is named.
    pub platforms: &'a [Platform],
    /// Whether signatures, SBOMs and all else that refers to it go with it.
    pub with_referrers: bool,
}

/// What was copied, or what would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// The digest of the whole.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// The tags that point at it.
    pub tags: Vec<String>,
    /// Its manifests.
    pub manifests: usize,
    /// Manifests that refer to it, or to one of its images.
    pub referrers: usize,
    /// Blobs whose bytes were sent.
    pub sent: usize,
    /// Blobs that were there, or were taken over from the other repository.
    pub skipped: usize,
    /// Bytes of all blobs.
    pub bytes: u64,
    /// How often a blob was gone on with where it broke off.
    pub resumed: u64,
    /// How often a blob was begun again.
    pub restarted: u64,
}

/// What refers to an image: a manifest with what it points at, and the tag that it is found by.
struct Referrer {
    whole: ResolvedImage,
    tag: Option<String>,
}

/// What was read of referrers: a registry decides how many there are, and what they list.
#[derive(Default)]
struct Read {
    manifests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Read {
    /// Counts one more; an error when that is more than any image has.
    fn add(&self, whole: &ResolvedImage) -> Result<()> {
        let (count, weight) = (whole.manifests.len(), whole.weight());
        let manifests = self.manifests.fetch_add(count, Ordering::Relaxed) + count;
        let bytes = self.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        if manifests <= MOST_MANIFESTS && bytes <= MOST_BYTES {
            return Ok(());
        }
        let most = MOST_BYTES >> 20;
        let text =
            format!("more than {MOST_MANIFESTS} manifests, or {most} MiB of them, refer to it");
        Err(Error::corrupt(text))
    }
}

/// An image as it is in its repository, with what refers to it.
struct Found {
    image: ResolvedImage,
    referrers: Vec<Referrer>,
}

impl Found {
    fn measured(&self, tags: &[String]) -> Copied {
        let first = &self.image.manifests[0];
        let others = self.referrers.iter().map(|referrer| referrer.whole.size());
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
        let image = self.registry.whole(self.repository, self.name, self.platforms).await?;
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
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            for referrer in found.into_iter().flatten() {
                let digest = referrer.whole.manifests[0].digest.clone();
                if seen.insert(digest.clone()) {
                    open.push(digest);
                    referrers.push(referrer);
                }
            }
        }
        Ok(Found { image, referrers })
    }

    /// What refers to one manifest: by its subject, and by cosign's tags.
    async fn referring(&self, subject: &str, read: &Read) -> Result<Vec<Referrer>> {
        let mut found = Vec::new();
        for referrer in self.registry.referrers(self.repository, subject).await? {
            let name = Name::Digest(referrer.digest);
            match self.registry.whole(self.repository, &name, &[]).await {
                Ok(whole) => {
                    read.add(&whole)?;
                    found.push(Referrer { whole, tag: None });
                }
                // A list of referrers may name what was deleted since.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(%error, "what refers to an image is gone, and is not copied");
                }
                Err(error) => return Err(error),
            }
        }
        for end in COSIGN {
            let tag = format!("{}.{end}", subject.replacen(':', "-", 1));
            let name = Name::Tag(tag.clone());
            match self.registry.whole(self.repository, &name, &[]).await {
                Ok(whole) => {
                    read.add(&whole)?;
                    found.push(Referrer { whole, tag: Some(tag) });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// What is to be pushed of it: its blobs are read where they lie when they are sent.
    fn package(&self, whole: &ResolvedImage) -> Result<Package> {
        let mut package = Package::default();
        // Layers that have a place elsewhere lie with their maker, and in no registry.
        for blob in whole.blobs.values().filter(|blob| blob.urls.is_empty()) {
            let origin = Origin::new(self.registry, self.repository, &blob.digest);
            let lies = BlobSource::At(Arc::new(origin));
            package.add(Blob { digest: blob.digest.clone(), size: blob.size, lies });
        }
        // Each behind what it lists.
        for manifest in whole.manifests.iter().rev() {
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
    /// What either registry refuses; a conflict when somebody else moves one of the tags meanwhile. What was
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
        let whole = image.manifests.last().cloned();
        let whole = whole.ok_or_else(|| Error::bug("an image without a manifest"))?;
        let packages = found.referrers.iter().map(|referrer| from.package(&referrer.whole));
        let packages: Vec<Package> = packages.collect::<Result<_>>()?;
        let named = found.referrers.iter().map(|referrer| referrer.tag.clone());
        let named = std::iter::once(None).chain(named);
        // One after the other: where a registry keeps no track of subjects, a tag lists what refers to one.
        for (package, tag) in std::iter::once(&image).chain(&packages).zip(named) {
            let tags: Vec<String> = tag.into_iter().collect();
            let pushed = self.push(repository, package, &tags, &mount, moved).await?;
            copied.sent += pushed.uploaded;
            copied.skipped += pushed.skipped;
        }
        self.point(repository, &whole, tags).await?;
        (copied.resumed, copied.restarted) = moved.mended();
        Ok(copied)
    }
}

impl CopyFrom<'_> {
    /// What a copy would bring, with what refers to it.
    pub async fn measure(&self, tags: &[String]) -> Result<Copied> {
        Ok(self.found().await?.measured(tags))
    }
}
