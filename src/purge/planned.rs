//! The plan of one repository: what is deleted, what stays, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A manifest to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// The digest of the manifest.
    pub digest: String,
    /// The tags that are deleted with the manifest.
    pub tags: Vec<String>,
    /// When the manifest, or one of its tags, was last changed at the time of the plan, by the
    /// clock of the registry.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why the manifest is deleted.
    pub reason: String,
    /// The index with which the manifest counts as one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The tagged indexes that the manifest lists; they counted with it as one image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// The size of what the manifest refers to, in bytes. Blobs that other manifests also refer to
    /// are not freed.
    pub bytes: u64,
    /// The number of bytes freed by this deletion: blobs that no kept manifest, and no manifest
    /// deleted before, refers to.
    #[serde(default)]
    pub frees: u64,
}

/// A tag to remove while its manifest is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Untagging {
    /// The tag.
    pub tag: String,
    /// The digest that the tag points to.
    pub digest: String,
    /// When the tag was last moved at the time of the plan, by the clock of the registry.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why the tag is removed.
    pub reason: String,
    /// Why the manifest is kept.
    pub protected_by: String,
    /// The index with which the manifest counts as one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A manifest that the rules select but that is protected, or that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the member is `protectedBy`")]
pub struct Protected {
    /// The digest of the manifest.
    pub digest: String,
    /// The tags of the manifest.
    pub tags: Vec<String>,
    /// When the manifest, or one of its tags, was last changed, by the clock of the registry.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// What protects the manifest.
    pub protected_by: String,
}

/// A tag that a rule matches and keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptTag {
    /// The tag.
    pub tag: String,
    /// The digest that the tag points to.
    pub digest: String,
    /// When the tag was last moved, by the clock of the registry.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Which rule keeps the tag, and why.
    pub reason: String,
}

/// The plan of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPlan {
    /// The repository.
    pub repository: String,
    /// The number of manifests in the repository.
    pub manifests: usize,
    /// The number of bytes freed in the repository; each blob counts once.
    #[serde(default)]
    pub bytes_freed: u64,
    /// The manifests to delete. Each precedes the manifests that it lists and those that refer to
    /// it.
    pub deletions: Vec<Deletion>,
    /// The tags to remove while their manifests are kept.
    pub untaggings: Vec<Untagging>,
    /// Why nothing is deleted from the repository, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
    /// The manifests that the rules select but that are kept.
    pub protected: Vec<Protected>,
    /// The tags that a rule keeps.
    #[serde(default)]
    pub kept: Vec<KeptTag>,
}
