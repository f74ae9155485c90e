//! Push of a package: blobs in parallel, then manifests, each after what it refers to, and last the
//! tags, which are verified afterwards.

use super::compare::compare;
use super::package::{Blob, Package, PackedManifest};
use super::upload::push_scope;
use super::{CONCURRENCY, TransferProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Descriptor, Name, Registry, StreamRequest};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the member is `pushedAs`")]
pub struct Pushed {
    /// The digest of the root manifest.
    pub digest: String,
    /// The media type of the root manifest.
    pub media_type: String,
    /// The form in which it was pushed: an image, an index or an artifact.
    pub pushed_as: &'static str,
    /// The tags that point at it.
    pub tags: Vec<String>,
    /// The number of blobs whose bytes were sent.
    pub uploaded: usize,
    /// The number of blobs that the registry had, or mounted from another repository.
    pub skipped: usize,
    /// The bytes of all blobs.
    pub bytes: u64,
    /// Layers with another location, which were not sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Descriptor>,
    /// How many times a blob was resumed where it broke off.
    pub resumed: u64,
    /// How many times a blob was restarted.
    pub restarted: u64,
}

impl Registry {
    /// Pushes a package and points `tags` at it. Layers that one of the repositories `from` has are
    /// mounted from there.
    pub async fn push(
        &self,
        repository: &str,
        package: &Package,
        tags: &[String],
        from: &[String],
        moved: &TransferProgress,
    ) -> Result<Pushed> {
        let top_manifest =
            package.manifests.last().ok_or_else(|| Error::invalid("nothing to push"))?;
        self.expect_elsewhere(repository, package).await?;
        moved.expect(package.size());
        let configs: Vec<&str> = package
            .manifests
            .iter()
            .filter_map(|manifest| manifest.document["config"]["digest"].as_str())
            .collect();
        let (last, first): (Vec<_>, Vec<_>) =
            package.blobs.iter().partition(|blob| configs.contains(&blob.digest.as_str()));
        let missing = self.missing(repository, &package.blobs, moved).await?;
        compare(package, &missing).await?;
        let mut uploaded = 0;
        for blobs in [first, last] {
            let blobs = blobs.into_iter().filter(|blob| missing.contains(blob.digest.as_str()));
            let sent = stream::iter(blobs)
                .map(|blob| self.upload(repository, blob, from, moved))
                .buffer_unordered(CONCURRENCY)
                .try_collect::<Vec<bool>>()
                .await?;
            uploaded += sent.into_iter().filter(|sent| *sent).count();
        }
        for manifest in &package.manifests {
            let is_tracked = self.put(repository, manifest, &manifest.digest).await?;
            if !is_tracked {
                self.name_referrer(repository, manifest).await?;
            }
        }
        self.point(repository, top_manifest, tags).await?;
        let (resumed, restarted) = moved.mended();
        Ok(Pushed {
            digest: top_manifest.digest.clone(),
            media_type: top_manifest.media_type.clone(),
            pushed_as: package.form(),
            tags: tags.to_vec(),
            left_out: package.left_out.clone(),
            uploaded,
            skipped: package.blobs.len() - uploaded,
            bytes: package.size(),
            resumed,
            restarted,
        })
    }

    /// The digests of the blobs that the repository does not have. Those it has count as
    /// transferred.
    async fn missing<'a>(
        &self,
        repository: &str,
        blobs: &'a [Blob],
        moved: &TransferProgress,
    ) -> Result<HashSet<&'a str>> {
        let looks = stream::iter(blobs).map(|blob| async move {
            let is_there = self.has_blob(repository, &blob.digest).await?;
            if is_there {
                moved.add(blob.size);
            }
            Ok::<_, Error>((!is_there).then_some(blob.digest.as_str()))
        });
        let looked: Vec<Option<&str>> = looks.buffered(CONCURRENCY).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// Checks that the registry has the manifests that an index lists and the package does not
    /// contain. This is checked before anything is sent, since the registry would refuse the index
    /// only after everything else.
    async fn expect_elsewhere(&self, repository: &str, package: &Package) -> Result<()> {
        for (digest, platform) in &package.elsewhere {
            match self.content(repository, &Name::Digest(digest.clone())).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let what = platform.as_deref().unwrap_or("an image");
                    return Err(Error::not_found(format!(
                        "the index lists {what} ({digest}), which is neither in the source nor in \
                         the registry: push an available one with --platform"
                    )));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Restores a deleted manifest and its tags.
    pub(crate) async fn put_back(
        &self,
        repository: &str,
        bytes: Bytes,
        media_type: &str,
        digest: &str,
        tags: &[String],
    ) -> Result<()> {
        let manifest = PackedManifest::new(bytes, media_type)?;
        if manifest.digest != digest {
            return Err(Error::corrupt(format!("{digest}: the content does not match the digest")));
        }
        self.put(repository, &manifest, digest).await?;
        for tag in tags {
            self.put(repository, &manifest, tag).await?;
        }
        Ok(())
    }

    /// Puts a manifest under a tag or its digest. Returns whether the registry tracks its subject.
    pub(super) async fn put(
        &self,
        repository: &str,
        manifest: &PackedManifest,
        name: &str,
    ) -> Result<bool> {
        let url = self.url(&["v2", repository, "manifests", name], &[]);
        let scope = push_scope(repository);
        let mut headers = HeaderMap::new();
        let media_type = HeaderValue::try_from(manifest.media_type.as_str())
            .map_err(|_| Error::invalid("the media type is not valid"))?;
        headers.insert(CONTENT_TYPE, media_type);
        let request = StreamRequest { method: Method::PUT, url: &url, scope: &scope, headers };
        let mut tries = self.tries(&url);
        loop {
            let body = || Some(manifest.bytes.clone().into());
            let error = match self.stream(&request, body).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => {
                    let declared = answer.headers().get("docker-content-digest");
                    if declared
                        .is_some_and(|declared| declared.as_bytes() != manifest.digest.as_bytes())
                    {
                        return Err(Error::corrupt(format!(
                            "{name}: the registry stored a different manifest"
                        )));
                    }
                    return Ok(answer.headers().contains_key("oci-subject"));
                }
                Ok(answer) => self.refusal_of(&request.method, &url, &scope, answer).await,
                Err(error) => error,
            };
            tries.after(error).await?;
        }
    }

    /// Adds a manifest to the referrers tag of its subject, for registries that do not track
    /// subjects (OCI distribution, "referrers tag schema").
    async fn name_referrer(&self, repository: &str, manifest: &PackedManifest) -> Result<()> {
        let Some(subject) = manifest.document["subject"]["digest"].as_str() else { return Ok(()) };
        let tag = subject.replacen(':', "-", 1);
        let before = match self.content(repository, &Name::Tag(tag.clone())).await {
            Ok(content) => content.document,
            Err(error) if error.kind() == ErrorKind::NotFound => Value::Null,
            Err(error) => return Err(error),
        };
        let mut entries = before["manifests"].as_array().cloned().unwrap_or_default();
        if entries.iter().any(|entry| entry["digest"] == manifest.digest.as_str()) {
            return Ok(());
        }
        let kind = &manifest.document["artifactType"];
        let kind = if kind.is_null() { &manifest.document["config"]["mediaType"] } else { kind };
        entries.push(json!({"mediaType": manifest.media_type, "digest": manifest.digest,
            "size": manifest.bytes.len(), "artifactType": kind,
            "annotations": manifest.document["annotations"]}));
        let index = json!({"schemaVersion": 2, "mediaType": super::layout::INDEX,
            "manifests": entries});
        let index =
            PackedManifest::new(index.to_string().into_bytes().into(), super::layout::INDEX)?;
        self.put(repository, &index, &tag).await.map(|_| ())
    }
}
