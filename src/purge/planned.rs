//! The plan of one repository: what is deleted, what stays, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A manifest that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Its digest.
    pub digest: String,
    /// The tags that go with it.
    pub tags: Vec<String>,
    /// When it, or one of its tags, was last changed as the plan saw it, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why it goes.
    pub reason: String,
    /// The index that it was counted with, as one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The tagged indexes among what it lists: they were counted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// Bytes of what it points at; what others have, too, is not freed.
    pub bytes: u64,
    /// Bytes that are freed with it: of blobs that nothing has which stays, and nothing that goes before it.
    #[serde(default)]
    pub frees: u64,
}

/// A tag that goes, while what it points at stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Untagging {
    /// The tag.
    pub tag: String,
    /// What it points at.
    pub digest: String,
    /// When it was last moved as the plan saw it, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why it goes.
    pub reason: String,
    /// Why its manifest stays.
    pub protected_by: String,
    /// The index that its manifest was counted with, as one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What the rules would have taken, and what protects it; and what cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protected {
    /// Its digest.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it, or one of its tags, was last changed, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// What protects it.
    pub protected_by: String,
}

/// A tag that a rule is about, and that stays by what a rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptTag {
    /// The tag.
    pub tag: String,
    /// What it points at.
    pub digest: String,
    /// When it was last moved, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Which rule keeps it, and why.
    pub reason: String,
}

/// What of one repository goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPlan {
    /// The repository.
    pub repository: String,
    /// Manifests that it has.
    pub manifests: usize,
    /// Bytes that are freed in it, each blob counted once.
    #[serde(default)]
    pub bytes_freed: u64,
    /// Manifests that go, each before what it is made of and what refers to it.
    pub deletions: Vec<Deletion>,
    /// Tags that go alone.
    pub untaggings: Vec<Untagging>,
    /// Why nothing of it goes, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
    /// What stays although a rule is about it.
    pub protected: Vec<Protected>,
    /// Tags that stay by what a rule says.
    #[serde(default)]
    pub kept: Vec<KeptTag>,
}
