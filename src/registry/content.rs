//! Manifests and configurations: fetched within bounds, and accepted only if bytes, digest, size
//! and type agree.

use super::reference::is_digest;
use super::request::{RegistryRequest, RegistryResponse};
use super::{Name, Registry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::hex;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// In bytes. ACR accepts no larger manifest, and no image configuration is near `LARGEST_CONFIG`.
const LARGEST_MANIFEST: usize = 4 << 20;
const LARGEST_CONFIG: usize = 8 << 20;
/// The most pages, and bytes of all pages, of one list of referrers. No image needs more.
const MOST_PAGES: usize = 64;
const MOST_BYTES: usize = 16 << 20;

/// Every media type of a manifest. A registry may convert a manifest if the request accepts none of
/// them.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    application/vnd.cncf.oras.artifact.manifest.v1+json";

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct Content {
    /// The SHA-256 digest of the bytes.
    pub digest: String,
    /// The media type.
    pub media_type: String,
    /// The bytes as they were received.
    pub bytes: Bytes,
    /// The bytes, parsed as JSON.
    pub document: Value,
}

/// A reference from a manifest to a blob or to another manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type; empty if the manifest does not give one.
    #[serde(default)]
    pub media_type: String,
    /// The digest.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// The artifact type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub annotations: Value,
    /// The platform of an image in an index.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub platform: Value,
    /// Other addresses that are given for the bytes: the base layers of old Windows images are only
    /// in the registry of their publisher. Nothing is ever fetched from these addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether it describes a manifest. Every other member of an index is a blob: `BuildKit` stores
    /// the layers of its caches that way.
    pub fn is_manifest(&self) -> bool {
        is_manifest(&self.media_type)
    }
}

/// Whether a media type is that of a manifest. An empty one counts as a manifest.
pub fn is_manifest(media_type: &str) -> bool {
    media_type.is_empty()
        || media_type.contains(".manifest.")
        || media_type.ends_with(".image.index.v1+json")
}

/// Whether a media type is that of an image's configuration.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    )
}

/// Whether a manifest is of Docker schema 1. Its digest cannot be computed from its bytes alone.
fn is_schema1(media_type: &str, document: &Value) -> bool {
    document["schemaVersion"] == 1
        || media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// The token scope that allows pulling from `repository`.
pub fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

impl Content {
    /// Accepts a manifest if everything said about it agrees. One that can be read both as an image
    /// and as an index is neither (GHSA-mc8v-mgrf-8f4m).
    fn verified(response: &RegistryResponse, wanted: &Name) -> Result<Self> {
        let content = Self::of_digest(response, wanted)?;
        match content.contradiction() {
            Some(why) => Err(invalid_content(&why)),
            None => Ok(content),
        }
    }

    /// Accepts a manifest if its bytes have its digest, without further checks.
    fn of_digest(response: &RegistryResponse, wanted: &Name) -> Result<Self> {
        let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        let read = serde_json::from_slice::<Value>(&response.body);
        // Checked before the digest, which schema 1 computes without the signatures.
        if is_schema1(&media_type, read.as_ref().unwrap_or(&Value::Null)) {
            return Err(Error::invalid(
                "a manifest of Docker schema 1, which is not supported (no tool has written it \
                 since 2017): pull the image with an old Docker and push it again",
            ));
        }
        let digest = sha256(&response.body);
        if let Name::Digest(wanted_digest) = wanted
            && *wanted_digest != digest
        {
            return Err(invalid_content(&format!(
                "a manifest whose digest is {digest}, not {wanted_digest}"
            )));
        }
        if let Some(declared_digest) = header("docker-content-digest")
            && declared_digest != digest
        {
            return Err(invalid_content(&format!(
                "a manifest whose digest is {digest}, but declared {declared_digest}"
            )));
        }
        let document =
            read.map_err(|e| invalid_content(&format!("a manifest that is not JSON ({e})")))?;
        Ok(Self { digest, media_type, bytes: response.body.clone(), document })
    }

    /// Describes a contradiction that lets the manifest be read as two different things.
    fn contradiction(&self) -> Option<String> {
        let Self { document, media_type, .. } = self;
        match document["mediaType"].as_str() {
            Some(own) if own != media_type => {
                return Some(format!(
                    "a manifest that declares the type {own}, but was served as {media_type}"
                ));
            }
            _ => {}
        }
        let has = |part: &str| document.get(part).is_some_and(|found| !found.is_null());
        (has("layers") && has("manifests"))
            .then(|| "a manifest that is both an image and an index".to_owned())
    }

    /// Whether it is an index: it lists other manifests.
    pub fn is_index(&self) -> bool {
        self.document["manifests"].is_array()
    }

    /// The members of an index: its manifests, then its blobs.
    pub fn members(&self) -> Result<(Vec<Descriptor>, Vec<Descriptor>)> {
        let members = self.descriptors("manifests")?;
        Ok(members.into_iter().partition(Descriptor::is_manifest))
    }

    /// The configuration of an image; `None` if the manifest is not one of an image.
    pub fn image_config(&self) -> Result<Option<Descriptor>> {
        let config = self.descriptors("config")?.into_iter().next();
        Ok(config.filter(|config| is_image_config(&config.media_type)))
    }

    /// The descriptors in `part`: the configuration or layers of an image, the manifests of an
    /// index. An error if one of their digests is not SHA-256.
    pub fn descriptors(&self, part: &str) -> Result<Vec<Descriptor>> {
        Self::blobs_of(&self.document, part)
    }

    /// Like [`Self::descriptors`], with digests of any algorithm: for callers that fetch nothing
    /// and derive no file name from a digest.
    pub fn named(&self, part: &str) -> Result<Vec<Descriptor>> {
        Self::named_in(&self.document, part)
    }

    fn named_in(document: &Value, part: &str) -> Result<Vec<Descriptor>> {
        match &document[part] {
            Value::Null => Ok(Vec::new()),
            one @ Value::Object(_) => {
                Ok(vec![Descriptor::deserialize(one).map_err(|e| bad(part, &e))?])
            }
            list => Vec::deserialize(list).map_err(|e| bad(part, &e)),
        }
    }

    /// Like [`Self::descriptors`], for any manifest's document.
    pub(crate) fn blobs_of(document: &Value, part: &str) -> Result<Vec<Descriptor>> {
        let found = Self::named_in(document, part)?;
        match found.iter().find(|descriptor| !is_digest(&descriptor.digest)) {
            Some(other) => Err(Error::corrupt(format!("'{}' is not a digest", other.digest))),
            None => Ok(found),
        }
    }
}

fn invalid_content(why: &str) -> Error {
    Error::corrupt(format!("the registry answered with {why}"))
}

fn bad(part: &str, error: &serde_json::Error) -> Error {
    Error::corrupt(format!("a manifest whose {part} cannot be read ({error})"))
}

impl Registry {
    /// Fetches a manifest by tag or digest.
    pub async fn content(&self, repository: &str, name: &Name) -> Result<Content> {
        self.content_with(repository, name, &pull_scope(repository)).await
    }

    /// Like [`Self::content`], with a token for `scope`, which may cover several repositories.
    pub async fn content_with(
        &self,
        repository: &str,
        name: &Name,
        scope: &str,
    ) -> Result<Content> {
        let reference = match name {
            Name::Tag(text) | Name::Digest(text) => text,
            Name::Whole => return Err(Error::invalid("specify a tag or a digest")),
        };
        let url = self.url(&["v2", repository, "manifests", reference], &[]);
        let largest = LARGEST_MANIFEST;
        let ask =
            RegistryRequest { accept: MANIFESTS, largest, ..RegistryRequest::get(url, scope) };
        self.ask(&ask, |response| Content::verified(&response, name)).await
    }

    /// Fetches a manifest whose bytes have its digest. Also returns the contradiction in it, if it
    /// says two different things. Everything that such a manifest refers to may be needed by it.
    pub(crate) async fn seen(
        &self,
        repository: &str,
        digest: &str,
    ) -> Result<(Value, Option<String>)> {
        let (name, scope) = (Name::Digest(digest.to_owned()), pull_scope(repository));
        let url = self.url(&["v2", repository, "manifests", digest], &[]);
        let ask = RegistryRequest {
            accept: MANIFESTS,
            largest: LARGEST_MANIFEST,
            ..RegistryRequest::get(url, &scope)
        };
        let content = self.ask(&ask, |response| Content::of_digest(&response, &name)).await?;
        let malformed = content.contradiction().map(|why| format!("it is {why}"));
        Ok((content.document, malformed))
    }

    /// Fetches the configuration of an image: a small blob, verified.
    pub async fn config(&self, repository: &str, descriptor: &Descriptor) -> Result<Value> {
        self.config_with(repository, descriptor, &pull_scope(repository)).await
    }

    /// Like [`Self::config`], with a token for `scope`, which may cover several repositories.
    pub async fn config_with(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        scope: &str,
    ) -> Result<Value> {
        let what = format!("{}/{repository}@{}", self.login_server(), descriptor.digest);
        let size = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
        if size > LARGEST_CONFIG {
            let most = LARGEST_CONFIG >> 20;
            return Err(Error::corrupt(format!(
                "{what}: the configuration has more than {most} MiB"
            )));
        }
        let bytes = self.small_blob(repository, &descriptor.digest, size, scope).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::corrupt(format!("{what}: the configuration is not JSON ({e})")))
    }

    /// Lists the referrers of a manifest, such as signatures and SBOMs: by the referrers API, or by
    /// the referrers tag if the registry does not have that API.
    pub async fn referrers(&self, repository: &str, digest: &str) -> Result<Vec<Descriptor>> {
        let mut next = Some(self.url(&["v2", repository, "referrers", digest], &[]));
        let scope = pull_scope(repository);
        let accept = "application/vnd.oci.image.index.v1+json";
        let (mut seen, mut all, mut read) = (HashSet::new(), Vec::new(), 0);
        while let Some(url) = next.take() {
            if seen.len() >= MOST_PAGES || !seen.insert(url.clone()) {
                let at = self.login_server();
                let text = format!(
                    "{at}/{repository}: the list of referrers has too many pages, or its pages \
                     repeat"
                );
                return Err(Error::bad_answer(text));
            }
            let ask = RegistryRequest {
                accept,
                largest: LARGEST_MANIFEST,
                ..RegistryRequest::get(url, &scope)
            };
            match self.ask_sized::<Value>(&ask).await {
                Ok((headers, bytes, document)) => {
                    read += bytes;
                    if read > MOST_BYTES {
                        let (at, most) = (self.login_server(), MOST_BYTES >> 20);
                        let text =
                            format!("{at}/{repository}: the list of referrers exceeds {most} MiB");
                        return Err(Error::bad_answer(text));
                    }
                    all.extend(referring(&document)?);
                    next = self.next_page(&ask, &headers)?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound && seen.len() == 1 => {
                    return self.tagged_referrers(repository, digest).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Reads the index behind the referrers tag, which replaces the referrers API.
    async fn tagged_referrers(&self, repository: &str, digest: &str) -> Result<Vec<Descriptor>> {
        let tag = Name::Tag(digest.replacen(':', "-", 1));
        match self.content(repository, &tag).await {
            Ok(content) => referring(&content.document),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The manifests in an index of referrers.
fn referring(document: &Value) -> Result<Vec<Descriptor>> {
    Vec::deserialize(&document["manifests"]).map_err(|e| bad("referrers", &e))
}
