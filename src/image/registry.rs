//! Container images and artifacts: one row per manifest of a registry.

use super::Status;
use super::name::caseless;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;

/// The `kind` of every row of the registry table.
pub const KIND: &str = "container-manifest";

/// One row of the registry table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryImage {
    /// Always `container-manifest`.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// `loginServer/repository@digest`.
    pub id: String,
    /// The lifecycle status; a listed manifest is active.
    pub status: Status,
    /// Whether this is the manifest of the repository that was tagged and pushed last.
    pub is_latest: bool,
    /// The start of the run that observed the row.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub observed_at: OffsetDateTime,
    /// The run that observed the row.
    pub observed_run: String,
    /// Whether the last run could not list the manifest, so that the row is carried over.
    pub stale: bool,
    /// The Resource Manager id of the registry, if known.
    pub registry_id: Option<String>,
    /// The login server of the registry.
    pub login_server: String,
    /// The subscription of the registry.
    pub subscription_id: Option<String>,
    /// The resource group of the registry.
    pub resource_group: Option<String>,
    /// The location of the registry, by short name.
    pub location: Option<String>,
    /// The SKU of the registry: `Basic`, `Standard` or `Premium`.
    pub registry_sku: Option<String>,
    /// The repository.
    pub repository: String,
    /// The digest of the manifest.
    pub digest: String,
    /// The tags that point to the manifest, sorted.
    pub tags: Vec<String>,
    /// The number of tags, if the row contains only some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags_total: Option<u64>,
    /// The media type of the manifest.
    pub media_type: Option<String>,
    /// The media type of the configuration.
    pub config_media_type: Option<String>,
    /// The artifact type; null for an image.
    pub artifact_type: Option<String>,
    /// The digest that the manifest refers to, such as the image of a signature.
    pub subject: Option<String>,
    /// The referrers of the manifest: artifact types by digest, as far as the contents of the
    /// manifests of the repository are known.
    pub referrers: BTreeMap<String, String>,
    /// The number of referrers, if the row contains only some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers_total: Option<u64>,
    /// `os/architecture[/variant]` of the image, or of each image of an index.
    pub platforms: Vec<String>,
    /// The manifests that the index lists.
    pub manifests: Vec<String>,
    /// The number of manifests, if the row contains only some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests_total: Option<u64>,
    /// The operating system.
    pub os: Option<String>,
    /// The architecture.
    pub architecture: Option<String>,
    /// When the manifest was pushed.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created_at: Option<OffsetDateTime>,
    /// When the registry last changed the manifest.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub updated_at: Option<OffsetDateTime>,
    /// When the image was built, according to its configuration.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub built_at: Option<OffsetDateTime>,
    /// The size of configuration and layers, in bytes; for an index, its own size.
    pub bytes: Option<u64>,
    /// Whether the manifest can be deleted.
    pub can_delete: Option<bool>,
    /// Whether the manifest can be overwritten.
    pub can_write: Option<bool>,
    /// Whether the manifest is listed.
    pub can_list: Option<bool>,
    /// Whether the manifest can be read.
    pub can_read: Option<bool>,
    /// The annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The blobs (configuration and layers): size in bytes, by digest.
    pub layers: BTreeMap<String, u64>,
    /// The number of blobs, if the row contains only some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_total: Option<u64>,
    /// Whether the content of the manifest was read. Otherwise, all members that come only from the
    /// content are unknown.
    pub is_content_known: bool,
    /// The status that a scanner attached to the manifest, if any.
    pub scan_status: Option<String>,
    /// Vulnerabilities by severity, as Microsoft Defender for Cloud counts them in its grouped
    /// sub-assessments. Empty means none, or not known if `scannedAt` is null.
    pub findings: BTreeMap<String, u32>,
    /// When the image was last scanned; null if not known: the image was not scanned, or Defender
    /// reports it only in individual recommendations, which replace the grouped sub-assessments
    /// that azimg reads.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub scanned_at: Option<OffsetDateTime>,
    /// The start of the first run that observed the manifest.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub first_seen_at: OffsetDateTime,
}

/// The content of a manifest, and of its configuration if it is an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestContent {
    /// `loginServer/repository@digest`.
    pub id: String,
    /// Artifact type.
    pub artifact_type: Option<String>,
    /// Digest of the subject.
    pub subject: Option<String>,
    /// Platforms, as `os/architecture[/variant]`.
    pub platforms: Vec<String>,
    /// Digests of the manifests of an index.
    pub manifests: Vec<String>,
    /// Total number of manifests, if `manifests` is truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests_total: Option<u64>,
    /// Operating system.
    pub os: Option<String>,
    /// Architecture.
    pub architecture: Option<String>,
    /// When the image was built.
    #[serde(with = "time::serde::rfc3339::option")]
    pub built_at: Option<OffsetDateTime>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Sizes of its blobs in bytes, by digest.
    pub layers: BTreeMap<String, u64>,
    /// Total number of blobs, if `layers` is truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_total: Option<u64>,
}

/// The result of scanning an image for vulnerabilities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScanResult {
    /// Repository.
    pub repository: String,
    /// Digest.
    pub digest: String,
    /// Number of vulnerabilities by severity, in lower case.
    pub findings: BTreeMap<String, u32>,
    /// When the image was scanned.
    #[serde(with = "time::serde::rfc3339::option")]
    pub scanned_at: Option<OffsetDateTime>,
}

/// Data about a manifest that its listing does not contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ManifestDetail {
    /// The content of the manifest.
    Content(Box<ManifestContent>),
    /// A scan result.
    Scan(ScanResult),
    /// Its tags, which were listed separately.
    Tags(ManifestTags),
}

/// The tags of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestTags {
    /// Id of the manifest.
    pub id: String,
    /// Tags that point at the manifest.
    pub tags: Vec<String>,
}

/// Adds all tags to the manifests of one repository. `manifest_tags` contains digests with the tags
/// from the list of manifests, which may be truncated. `listed` is the list of tags, `(tag,
/// digest)`, which is complete and newer.
///
/// A tag belongs to the digest that the list of tags has. A tag that has since moved to a manifest
/// outside `manifest_tags` stays where it was seen, and so does a tag that is hidden from the list
/// of tags.
pub fn join_tags(mut manifest_tags: Vec<(&str, &mut Vec<String>)>, listed: &[(String, String)]) {
    let at: HashMap<&str, usize> =
        manifest_tags.iter().enumerate().map(|(at, (digest, _))| (*digest, at)).collect();
    let known = listed.iter().filter(|(_, digest)| at.contains_key(digest.as_str()));
    let is: BTreeMap<&str, &str> =
        known.map(|(tag, digest)| (tag.as_str(), digest.as_str())).collect();
    for (digest, tags) in &mut manifest_tags {
        tags.retain(|tag| is.get(tag.as_str()).is_none_or(|now| now == digest));
    }
    for (tag, digest) in is {
        manifest_tags[at[digest]].1.push(tag.to_owned());
    }
    for (_, tags) in manifest_tags {
        tags.sort_unstable();
        tags.dedup();
    }
}

/// The id of a manifest.
pub fn manifest_id(login_server: &str, repository: &str, digest: &str) -> String {
    format!("{login_server}/{repository}@{digest}")
}

impl RegistryImage {
    /// Creates a row with only the name of a manifest.
    pub fn new(login_server: &str, repository: &str, digest: &str) -> Self {
        Self {
            kind: KIND.to_owned(),
            id: manifest_id(login_server, repository, digest),
            status: Status::Active,
            is_latest: false,
            observed_at: OffsetDateTime::UNIX_EPOCH,
            observed_run: String::new(),
            stale: false,
            registry_id: None,
            login_server: login_server.to_owned(),
            subscription_id: None,
            resource_group: None,
            location: None,
            registry_sku: None,
            repository: repository.to_owned(),
            digest: digest.to_owned(),
            tags: Vec::new(),
            tags_total: None,
            media_type: None,
            config_media_type: None,
            artifact_type: None,
            subject: None,
            referrers: BTreeMap::new(),
            referrers_total: None,
            platforms: Vec::new(),
            manifests: Vec::new(),
            manifests_total: None,
            os: None,
            architecture: None,
            created_at: None,
            updated_at: None,
            built_at: None,
            bytes: None,
            can_delete: None,
            can_write: None,
            can_list: None,
            can_read: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            layers: BTreeMap::new(),
            layers_total: None,
            is_content_known: false,
            scan_status: None,
            findings: BTreeMap::new(),
            scanned_at: None,
            first_seen_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// The order of the table.
    pub fn compare(&self, other: &Self) -> Ordering {
        caseless(&self.id, &other.id)
    }

    /// Whether the manifest is an index.
    pub fn is_index(&self) -> bool {
        self.media_type.as_deref().is_some_and(is_index)
    }

    /// Sets the members that come from the manifest's content, which never changes.
    pub fn add_content(&mut self, content: &ManifestContent) {
        self.artifact_type.clone_from(&content.artifact_type);
        self.subject.clone_from(&content.subject);
        self.manifests.clone_from(&content.manifests);
        self.manifests_total = content.manifests_total;
        self.built_at = content.built_at;
        self.annotations.clone_from(&content.annotations);
        self.labels.clone_from(&content.labels);
        self.layers.clone_from(&content.layers);
        self.layers_total = content.layers_total;
        if !content.platforms.is_empty() {
            self.platforms.clone_from(&content.platforms);
        }
        self.os = self.os.take().or_else(|| content.os.clone());
        self.architecture = self.architecture.take().or_else(|| content.architecture.clone());
        self.is_content_known = true;
    }

    /// The members that come from the manifest's content.
    pub fn content(&self) -> ManifestContent {
        ManifestContent {
            id: self.id.clone(),
            artifact_type: self.artifact_type.clone(),
            subject: self.subject.clone(),
            platforms: self.platforms.clone(),
            manifests: self.manifests.clone(),
            manifests_total: self.manifests_total,
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            built_at: self.built_at,
            annotations: self.annotations.clone(),
            labels: self.labels.clone(),
            layers: self.layers.clone(),
            layers_total: self.layers_total,
        }
    }
}

/// Whether a media type is that of an index.
pub fn is_index(media_type: &str) -> bool {
    media_type.ends_with("image.index.v1+json") || media_type.ends_with("manifest.list.v2+json")
}

/// Whether a media type is that of Docker's manifest schema 1, whose digest is not that of its
/// bytes (distribution, docs/spec/manifest-v2-1.md), so that its content can never be verified.
pub fn is_schema_1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// The storage that blobs use; a shared blob counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageUse {
    /// The size of blobs that no other repository contains, in bytes.
    pub exclusive: u64,
    /// The size of blobs that other repositories of the registry also contain, in bytes.
    pub shared: u64,
    /// The number of manifests.
    pub manifests: u64,
    /// The number of manifests whose blobs are not all counted: their content is not known, or their
    /// row has only a part of their layers.
    pub unknown: u64,
    /// The number of tags.
    pub tags: u64,
}

/// The storage use of each repository of one registry.
pub fn storage<'a>(rows: impl Iterator<Item = &'a RegistryImage>) -> BTreeMap<&'a str, StorageUse> {
    let mut all: BTreeMap<&str, StorageUse> = BTreeMap::new();
    let mut blobs: BTreeMap<&str, (u64, Vec<&str>)> = BTreeMap::new();
    for row in rows {
        let repository = row.repository.as_str();
        let sum = all.entry(repository).or_default();
        sum.manifests += 1;
        sum.unknown += u64::from(!row.is_content_known || row.layers_total.is_some());
        sum.tags += row.tags_total.unwrap_or(row.tags.len() as u64);
        for (digest, bytes) in &row.layers {
            let (_, holders) = blobs.entry(digest).or_insert_with(|| (*bytes, Vec::new()));
            if !holders.contains(&repository) {
                holders.push(repository);
            }
        }
    }
    for (bytes, holders) in blobs.into_values() {
        for holder in &holders {
            let Some(sum) = all.get_mut(holder) else { continue };
            let part = if holders.len() == 1 { &mut sum.exclusive } else { &mut sum.shared };
            *part += bytes;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_is_counted_once() {
        let image = |repository: &str, digest: &str, layers: &[(&str, u64)]| {
            let mut row = RegistryImage::new("r.azurecr.io", repository, digest);
            row.layers =
                layers.iter().map(|(digest, size)| ((*digest).to_owned(), *size)).collect();
            row.is_content_known = true;
            row
        };
        let rows = [
            image("a", "1", &[("base", 100), ("x", 7)]),
            image("a", "2", &[("base", 100), ("y", 5)]),
            image("b", "3", &[("base", 100), ("z", 1)]),
            RegistryImage::new("r.azurecr.io", "b", "4"),
        ];
        let found = storage(rows.iter());
        assert_eq!((found["a"].exclusive, found["a"].shared), (12, 100));
        assert_eq!((found["b"].exclusive, found["b"].shared, found["b"].unknown), (1, 100, 1));
        // A row that was cut says how much it had.
        let mut cut = image("c", "5", &[("base", 100)]);
        (cut.tags, cut.tags_total, cut.layers_total) = (vec!["a".to_owned()], Some(9), Some(2));
        let found = storage(std::iter::once(&cut));
        assert_eq!((found["c"].tags, found["c"].unknown), (9, 1));
    }
}
