//! Images of Compute Galleries, and managed images: one row per image version, image definition and
//! managed image.
//!
//! The id of a row is its Resource Manager id. Images that are shared directly or by a community
//! gallery have none; their id is the one that Azure uses, `/SharedGalleries/…` or
//! `/CommunityGalleries/…`.

use super::name::caseless;
use super::{Status, version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// The kind of a row of the gallery table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image definition.
    GalleryDefinition,
    /// A version of an image definition.
    GalleryVersion,
    /// A managed image.
    ManagedImage,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::GalleryDefinition, Self::GalleryVersion, Self::ManagedImage];

    /// The name in tables and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GalleryDefinition => "gallery-definition",
            Self::GalleryVersion => "gallery-version",
            Self::ManagedImage => "managed-image",
        }
    }
}

/// One row of the gallery table. Properties of a definition are repeated in the rows of its
/// versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "columns of a table")]
pub struct GalleryImage {
    /// The kind of row.
    pub kind: Kind,
    /// The Resource Manager id, or the unique id of a shared or community image.
    pub id: String,
    /// The lifecycle status. Azure still deploys images past their end of life.
    pub status: Status,
    /// Whether this is the version that Azure uses for `latest` across all regions.
    pub is_latest: bool,
    /// The start of the run that observed the row.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub observed_at: OffsetDateTime,
    /// The run that observed the row.
    pub observed_run: String,
    /// Whether the last run could not list the image, so that the row is carried over.
    pub stale: bool,
    /// The subscription that owns the image; null for images shared by others.
    pub subscription_id: Option<String>,
    /// The resource group.
    pub resource_group: Option<String>,
    /// The name of the gallery: the public name of a community gallery, or `{subscription}-{NAME}`
    /// of a directly shared one.
    pub gallery: Option<String>,
    /// How the gallery is shared: `private`, `groups` or `community`; `shared` for a gallery that
    /// others share with you.
    pub sharing: Option<String>,
    /// The public names under which your gallery is published to the community.
    #[serde(default)]
    pub public_names: Vec<String>,
    /// The image definition; for a managed image, its name.
    pub definition: String,
    /// The publisher of the definition.
    pub publisher: Option<String>,
    /// The offer of the definition.
    pub offer: Option<String>,
    /// The SKU of the definition.
    pub sku: Option<String>,
    /// The version, in rows of versions.
    pub version: Option<String>,
    /// `Linux` or `Windows`.
    pub os: Option<String>,
    /// `Generalized` or `Specialized`.
    pub os_state: Option<String>,
    /// `x64` or `Arm64`.
    pub architecture: Option<String>,
    /// `V1` or `V2`.
    pub hyper_v_generation: Option<String>,
    /// The feature `SecurityType`, such as `TrustedLaunch`.
    pub security_type: Option<String>,
    /// Features, by name.
    pub features: BTreeMap<String, String>,
    /// Target regions, sorted, by short name; for a definition or managed image, its location.
    pub locations: Vec<String>,
    /// Regions in which the version is excluded from latest.
    pub excluded_locations: Vec<String>,
    /// The number of replicas, by region.
    pub replicas: BTreeMap<String, u32>,
    /// The replication state across all regions; null if it was not queried yet.
    pub replication_state: Option<String>,
    /// The replication state, by region.
    pub replication: BTreeMap<String, String>,
    /// `Full` or `Shallow`.
    pub replication_mode: Option<String>,
    /// `Succeeded`, `Creating`, `Updating`, `Failed`, `Deleting`, `Migrating`.
    pub provisioning_state: Option<String>,
    /// The storage type of the replicas, unless a region overrides it.
    pub storage_type: Option<String>,
    /// Storage types that differ from `storageType`, by region.
    pub storage_types: BTreeMap<String, String>,
    /// The resource that the image was created from.
    pub source_id: Option<String>,
    /// The kind of source: `virtual-machine`, `disk`, `snapshot`, `managed-image`,
    /// `gallery-version`, `community-version`, `vhd` or `other`.
    pub source_kind: Option<String>,
    /// When the version was published.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub published_at: Option<OffsetDateTime>,
    /// The end of life that the owner declared for the version, or for its definition if that is
    /// earlier.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub end_of_life_at: Option<OffsetDateTime>,
    /// Whether the version is excluded from latest in all regions.
    pub exclude_from_latest: bool,
    /// Whether Azure refuses to delete the version before its end of life.
    #[serde(default)]
    pub block_deletion_before_end_of_life: bool,
    /// The recommended minimum number of vCPUs.
    pub min_vcpus: Option<u32>,
    /// The recommended maximum number of vCPUs.
    pub max_vcpus: Option<u32>,
    /// The recommended minimum memory, in GB.
    pub min_memory: Option<u32>,
    /// The recommended maximum memory, in GB.
    pub max_memory: Option<u32>,
    /// Disk types on which the image must not be deployed.
    pub disallowed_disk_types: Vec<String>,
    /// The publisher of the purchase plan.
    pub plan_publisher: Option<String>,
    /// The product of the purchase plan.
    pub plan_product: Option<String>,
    /// The name of the purchase plan.
    pub plan_name: Option<String>,
    /// The license terms (EULA).
    pub eula: Option<String>,
    /// The URI of the privacy statement.
    pub privacy_uri: Option<String>,
    /// The URI of the release notes.
    pub release_notes_uri: Option<String>,
    /// The description of the definition.
    pub description: Option<String>,
    /// Resource tags, by name.
    pub tags: BTreeMap<String, String>,
    /// The start of the first run that observed the image.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub first_seen_at: OffsetDateTime,
}

/// Replication status of a version, which only a GET of the version returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicated {
    /// Id of the version.
    pub id: String,
    /// State over all regions.
    pub state: String,
    /// State by the short name of the region.
    pub regions: BTreeMap<String, String>,
}

impl GalleryImage {
    /// Creates a row with this kind and id; every other member is empty.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            status: Status::Active,
            is_latest: false,
            observed_at: OffsetDateTime::UNIX_EPOCH,
            observed_run: String::new(),
            stale: false,
            subscription_id: None,
            resource_group: None,
            gallery: None,
            sharing: None,
            public_names: Vec::new(),
            definition: String::new(),
            publisher: None,
            offer: None,
            sku: None,
            version: None,
            os: None,
            os_state: None,
            architecture: None,
            hyper_v_generation: None,
            security_type: None,
            features: BTreeMap::new(),
            locations: Vec::new(),
            excluded_locations: Vec::new(),
            replicas: BTreeMap::new(),
            replication_state: None,
            replication: BTreeMap::new(),
            replication_mode: None,
            provisioning_state: None,
            storage_type: None,
            storage_types: BTreeMap::new(),
            source_id: None,
            source_kind: None,
            published_at: None,
            end_of_life_at: None,
            exclude_from_latest: false,
            block_deletion_before_end_of_life: false,
            min_vcpus: None,
            max_vcpus: None,
            min_memory: None,
            max_memory: None,
            disallowed_disk_types: Vec::new(),
            plan_publisher: None,
            plan_product: None,
            plan_name: None,
            eula: None,
            privacy_uri: None,
            release_notes_uri: None,
            description: None,
            tags: BTreeMap::new(),
            first_seen_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// The order of the table: by id without case, versions of one definition numerically.
    pub fn compare(&self, other: &Self) -> Ordering {
        compare_ids(&self.id, &other.id)
    }

    /// The display name: `gallery/definition/version`, without missing parts.
    pub fn name(&self) -> String {
        let parts = [self.gallery.as_deref(), Some(&self.definition), self.version.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// The status at `now`. Informational: Azure deploys an image after its end of life all the
    /// same.
    pub fn status_at(&self, now: OffsetDateTime) -> Status {
        match self.end_of_life_at {
            Some(end) if end <= now => Status::EndOfLife,
            Some(_) => Status::Scheduled,
            None => Status::Active,
        }
    }

    /// Whether its last change failed.
    pub fn has_failed(&self) -> bool {
        self.provisioning_state.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("Failed"))
    }

    /// Whether a change is in progress.
    pub fn is_at_work(&self) -> bool {
        let state = self.provisioning_state.as_deref().unwrap_or_default();
        ["Creating", "Updating", "Deleting", "Migrating"]
            .iter()
            .any(|work| work.eq_ignore_ascii_case(state))
    }

    /// Whether it may be the latest version in some region: Azure may choose it, and its life has
    /// not ended.
    pub fn may_be_latest(&self) -> bool {
        self.is_eligible() && self.status.is_deployable()
    }

    /// Whether provisioning succeeded. A missing state counts as success.
    pub fn is_provisioned(&self) -> bool {
        self.provisioning_state.as_deref().is_none_or(|s| s.eq_ignore_ascii_case("Succeeded"))
    }

    /// Whether Azure may choose it as the latest version in some region. Azure ignores the end of
    /// life.
    pub fn is_eligible(&self) -> bool {
        self.kind == Kind::GalleryVersion
            && self.status != Status::Gone
            && may_be_latest_as(
                self.exclude_from_latest,
                self.provisioning_state.as_deref(),
                &self.locations,
            )
    }

    /// Whether it may be the latest version in a region, given by short name.
    pub fn may_be_latest_in(&self, location: &str) -> bool {
        self.may_be_latest() && self.is_eligible_in(location)
    }

    /// Whether Azure may choose it as the latest version in a region, given by short name, whether
    /// or not its life has ended: it is not excluded there, and its replica is complete as far as
    /// is known.
    pub fn is_eligible_in(&self, location: &str) -> bool {
        let is = |name: &String| name == location;
        self.is_eligible()
            && self.locations.iter().any(is)
            && !self.excluded_locations.iter().any(is)
            && self
                .replication
                .get(location)
                .is_none_or(|state| state.eq_ignore_ascii_case("Completed"))
    }

    /// Whether its replica in a region, given by short name, is known to have failed.
    pub fn has_failed_in(&self, location: &str) -> bool {
        self.replication.get(location).is_some_and(|state| is_failed(state))
    }

    /// Whether a region, given by short name, is a target region whose replica is not known to have
    /// failed.
    pub fn is_in(&self, location: &str) -> bool {
        self.locations.iter().any(|name| name == location) && !self.has_failed_in(location)
    }

    /// Whether replication is complete in every target region. It is not requested again while the
    /// target regions are unchanged.
    pub fn is_replicated(&self) -> bool {
        let done = |state: &String| state.eq_ignore_ascii_case("Completed");
        self.replication_state.as_ref().is_some_and(done)
            && self.locations.iter().all(|name| self.replication.get(name).is_some_and(done))
    }

    /// Sets the replication status from the answer to a GET.
    pub fn add_replication(&mut self, replicated: &Replicated) {
        self.replication_state = Some(replicated.state.clone());
        self.replication.clone_from(&replicated.regions);
    }
}

/// Whether a replication state means failure.
pub fn is_failed(state: &str) -> bool {
    state.eq_ignore_ascii_case("Failed")
}

/// The path segment of an id before the version's name.
const VERSIONS: &str = "/versions/";

/// Splits an id into the definition's id and the version, if the id has one.
pub fn split(id: &str) -> (&str, Option<&str>) {
    let Some(at) = id.len().checked_sub(1).and_then(|_| id.rfind('/')) else { return (id, None) };
    let head = at + 1;
    match head.checked_sub(VERSIONS.len()).and_then(|start| id.get(start..head)) {
        Some(part) if part.eq_ignore_ascii_case(VERSIONS) => {
            (&id[..head - VERSIONS.len()], Some(&id[head..]))
        }
        _ => (id, None),
    }
}

/// The order of two ids: without case, versions numerically.
pub fn compare_ids(left: &str, right: &str) -> Ordering {
    let ((left_head, left_version), (right_head, right_version)) = (split(left), split(right));
    caseless(left_head, right_head)
        .then_with(|| match (left_version, right_version) {
            (Some(left), Some(right)) => version::compare(left, right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        })
        .then_with(|| left.cmp(right))
}

/// Whether a version with this exclusion flag, provisioning state and locations may be the latest
/// in one of the locations.
pub fn may_be_latest_as(is_excluded: bool, state: Option<&str>, locations: &[String]) -> bool {
    !is_excluded
        && state.is_none_or(|state| state.eq_ignore_ascii_case("Succeeded"))
        && !locations.is_empty()
}

/// Marks the latest version of each definition. `rows` must be in the order of the table.
pub fn mark_latest(rows: &mut [GalleryImage]) {
    for definition in rows.chunk_by_mut(|a, b| split(&a.id).0.eq_ignore_ascii_case(split(&b.id).0))
    {
        for row in definition.iter_mut() {
            row.is_latest = false;
        }
        if let Some(latest) = definition.iter_mut().rev().find(|row| row.may_be_latest()) {
            latest.is_latest = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> GalleryImage {
        let id = format!("/subscriptions/s/x/galleries/g/images/d/versions/{name}");
        let mut row = GalleryImage::new(Kind::GalleryVersion, id);
        row.version = Some(name.to_owned());
        row.locations = vec!["eastus".to_owned(), "westeurope".to_owned()];
        row.provisioning_state = Some("Succeeded".to_owned());
        row
    }

    fn latest(mut rows: Vec<GalleryImage>) -> Option<String> {
        rows.sort_by(GalleryImage::compare);
        mark_latest(&mut rows);
        let latest: Vec<_> = rows.into_iter().filter(|row| row.is_latest).collect();
        assert!(latest.len() < 2);
        latest.into_iter().next().and_then(|row| row.version)
    }

    #[test]
    fn latest_is_the_highest_eligible_version() {
        let rows = || vec![version("1.9.0"), version("1.10.0"), version("0.99.9")];
        assert_eq!(latest(rows()).as_deref(), Some("1.10.0"));
        let with = |change: fn(&mut GalleryImage)| {
            let mut rows = rows();
            change(&mut rows[1]);
            rows
        };
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(latest(with(|row| row.exclude_from_latest = true)).as_deref(), Some("1.9.0"));
        assert_eq!(latest(with(|row| row.status = Status::EndOfLife)).as_deref(), Some("1.9.0"));
        let failed = with(|row| row.provisioning_state = Some("Failed".to_owned()));
        assert_eq!(latest(failed).as_deref(), Some("1.9.0"));
        assert_eq!(latest(with(|row| row.locations.clear())).as_deref(), Some("1.9.0"));
        let mut dated = version("1.0.0");
        dated.end_of_life_at = Some(now);
        assert_eq!(dated.status_at(now), Status::EndOfLife);
        assert_eq!(dated.status_at(now - time::Duration::SECOND), Status::Scheduled);
    }

    #[test]
    fn each_region_has_its_own_latest_version() {
        let mut row = version("1.0.0");
        assert!(row.may_be_latest_in("eastus") && !row.may_be_latest_in("japaneast"));
        row.excluded_locations = vec!["eastus".to_owned()];
        row.replication.insert("westeurope".to_owned(), "Replicating".to_owned());
        assert!(row.may_be_latest());
        assert!(!row.may_be_latest_in("eastus") && !row.may_be_latest_in("westeurope"));
    }

    #[test]
    fn ids_order_definitions_first_and_versions_by_number() {
        let ordered = [
            "/a/images/d",
            "/a/images/d/versions/1.2.0",
            "/A/images/D/Versions/1.10.0",
            "/a/images/d2",
            "/a/images/e",
            "",
            "/",
        ];
        for pair in ordered[..5].windows(2) {
            assert_eq!(compare_ids(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(split("/"), ("/", None));
        assert_eq!(split(""), ("", None));
    }
}
