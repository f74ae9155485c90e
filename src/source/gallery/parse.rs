//! Parses answers of the compute provider and Resource Graph about galleries into rows. Every
//! member is optional, region names occur in both forms, and times with any offset.

use crate::client::lenient;
use crate::error::{Error, Result};
use crate::image::gallery::{GalleryImage, Kind, Replicated};
use crate::image::name::short_name;
use crate::image::resource_id::part;
use crate::work::OwnGallery;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A resource as it appears in listings.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    /// Name.
    pub name: String,
    /// Resource Manager id; empty for galleries that others share.
    #[serde(default)]
    pub id: String,
    /// Resource type.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Location.
    #[serde(default)]
    pub location: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    /// The remaining properties.
    #[serde(default)]
    pub properties: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Definition {
    os_type: Option<String>,
    os_state: Option<String>,
    #[serde(rename = "hyperVGeneration")]
    hyper_v_generation: Option<String>,
    architecture: Option<String>,
    identifier: Option<Identifier>,
    recommended: Option<Recommended>,
    end_of_life_date: Option<String>,
    description: Option<String>,
    eula: Option<String>,
    privacy_statement_uri: Option<String>,
    release_note_uri: Option<String>,
    purchase_plan: Option<PurchasePlan>,
    disallowed: Option<Disallowed>,
    features: Option<Vec<Feature>>,
    provisioning_state: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Identifier {
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Recommended {
    #[serde(rename = "vCPUs")]
    vcpus: Option<Bounds>,
    memory: Option<Bounds>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct Bounds {
    min: Option<u32>,
    max: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PurchasePlan {
    name: Option<String>,
    publisher: Option<String>,
    product: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Disallowed {
    disk_types: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Feature {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Version {
    publishing_profile: Option<Publishing>,
    storage_profile: Option<Storage>,
    provisioning_state: Option<String>,
    replication_status: Option<Replication>,
    // Versions shared by others have these at the top level, without a publishing profile.
    published_date: Option<String>,
    end_of_life_date: Option<String>,
    exclude_from_latest: Option<bool>,
    // `Active` or `SoftDeleted`, since 2026-03-03.
    image_state: Option<String>,
    safety_profile: Option<Safety>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Safety {
    block_deletion_before_end_of_life: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Publishing {
    target_regions: Option<Vec<Region>>,
    replica_count: Option<u32>,
    exclude_from_latest: Option<bool>,
    published_date: Option<String>,
    end_of_life_date: Option<String>,
    storage_account_type: Option<String>,
    replication_mode: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Region {
    name: String,
    regional_replica_count: Option<u32>,
    storage_account_type: Option<String>,
    exclude_from_latest: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Storage {
    source: Option<Source>,
    os_disk_image: Option<Disk>,
    data_disk_images: Option<Vec<Disk>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Disk {
    source: Option<Source>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    id: Option<String>,
    uri: Option<String>,
    virtual_machine_id: Option<String>,
    community_gallery_image_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Replication {
    aggregated_state: Option<String>,
    summary: Option<Vec<RegionState>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RegionState {
    region: String,
    state: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Shared {
    sharing_profile: Option<SharingProfile>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SharingProfile {
    permissions: Option<String>,
    #[serde(rename = "communityGalleryInfo")]
    community: Option<Community>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Community {
    public_names: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Managed {
    source_virtual_machine: Option<Source>,
    storage_profile: Option<ManagedStorage>,
    #[serde(rename = "hyperVGeneration")]
    hyper_v_generation: Option<String>,
    provisioning_state: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ManagedStorage {
    os_disk: Option<ManagedDisk>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ManagedDisk {
    os_type: Option<String>,
    os_state: Option<String>,
    #[serde(rename = "managedDisk")]
    copied: Option<Source>,
    snapshot: Option<Source>,
    blob_uri: Option<String>,
    storage_account_type: Option<String>,
}

fn time(text: Option<&String>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok().map(|at| at.to_offset(UtcOffset::UTC))
}

/// Treats empty text as absent: community galleries have empty publishers.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn typed<T: DeserializeOwned>(resource: &Resource) -> Result<T> {
    if !resource.properties.is_object() {
        return Err(Error::transient(format!("{}: the response has no properties", resource.name)));
    }
    // Resource Graph wraps the properties of community galleries once more.
    let inner = &resource.properties["properties"];
    let properties = if inner.is_object() { inner } else { &resource.properties };
    let (read, malformed) = lenient::of_value(properties).map_err(|e| {
        Error::transient(format!("{}: its properties cannot be read ({e})", resource.name))
    })?;
    lenient::log_malformed(&resource.kind, &malformed);
    Ok(read)
}

impl Resource {
    fn tags(&self) -> BTreeMap<String, String> {
        let tags = self.tags.iter().flatten();
        tags.map(|(name, value)| (name.clone(), value.clone().unwrap_or_default())).collect()
    }
}

/// The id of a gallery of another owner. It is built from names, never taken from an answer, so
/// that no owner can pass off rows as those of another.
pub fn foreign_id(community: bool, gallery: &str) -> String {
    let kind = if community { "CommunityGalleries" } else { "SharedGalleries" };
    format!("/{kind}/{gallery}")
}

/// Parses the gallery from its own id or from the id of something in it.
pub fn own_gallery(id: &str) -> Option<OwnGallery> {
    Some(OwnGallery {
        subscription: part(id, "subscriptions")?.to_owned(),
        resource_group: part(id, "resourceGroups")?.to_owned(),
        gallery: part(id, "galleries")?.to_owned(),
    })
}

/// The Resource Manager id of a gallery.
pub fn gallery_id(own: &OwnGallery) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/galleries/{}",
        own.subscription, own.resource_group, own.gallery
    )
}

/// Builds the row of an image definition, without the data of its gallery.
pub fn definition(id: String, resource: &Resource) -> Result<GalleryImage> {
    let properties: Definition = typed(resource)?;
    let mut row = GalleryImage::new(Kind::GalleryDefinition, id);
    let identifier = properties.identifier.unwrap_or_default();
    let recommended = properties.recommended.unwrap_or_default();
    let (vcpus, memory) =
        (recommended.vcpus.unwrap_or_default(), recommended.memory.unwrap_or_default());
    let plan = properties.purchase_plan.unwrap_or_default();
    row.definition.clone_from(&resource.name);
    row.publisher = non_empty(identifier.publisher);
    row.offer = non_empty(identifier.offer);
    row.sku = non_empty(identifier.sku);
    row.os = properties.os_type;
    row.os_state = properties.os_state;
    row.architecture = properties.architecture;
    row.hyper_v_generation = properties.hyper_v_generation;
    let features = properties.features.unwrap_or_default().into_iter();
    row.features = features.map(|f| (f.name, f.value.unwrap_or_default())).collect();
    row.security_type = row.features.get("SecurityType").cloned();
    row.locations = resource.location.iter().map(|name| short_name(name)).collect();
    row.provisioning_state = properties.provisioning_state;
    row.end_of_life_at = time(properties.end_of_life_date.as_ref());
    (row.min_vcpus, row.max_vcpus) = (vcpus.min, vcpus.max);
    (row.min_memory, row.max_memory) = (memory.min, memory.max);
    row.disallowed_disk_types =
        properties.disallowed.and_then(|d| d.disk_types).unwrap_or_default();
    row.plan_publisher = non_empty(plan.publisher);
    row.plan_product = non_empty(plan.product);
    row.plan_name = non_empty(plan.name);
    row.eula = non_empty(properties.eula);
    row.privacy_uri = non_empty(properties.privacy_statement_uri);
    row.release_notes_uri = non_empty(properties.release_note_uri);
    row.description = non_empty(properties.description);
    row.tags = resource.tags();
    Ok(row)
}

/// Builds the row of a version from the row of its definition and its own properties.
pub fn version(definition: &GalleryImage, resource: &Resource) -> Result<GalleryImage> {
    let properties: Version = typed(resource)?;
    let publishing = properties.publishing_profile.unwrap_or_default();
    let id = format!("{}/versions/{}", definition.id, resource.name);
    let mut row = GalleryImage { kind: Kind::GalleryVersion, id, ..definition.clone() };
    row.version = Some(resource.name.clone());
    row.tags = resource.tags();
    // A soft-deleted version can be deployed for a while, but is never the latest ("available only
    // when a specific version is requested").
    let state = properties.image_state.filter(|state| !state.eq_ignore_ascii_case("Active"));
    row.provisioning_state = state.or(properties.provisioning_state);
    row.storage_type = publishing.storage_account_type;
    row.replication_mode = publishing.replication_mode;
    row.exclude_from_latest =
        publishing.exclude_from_latest.or(properties.exclude_from_latest).unwrap_or_default();
    let safety = properties.safety_profile.unwrap_or_default();
    row.block_deletion_before_end_of_life =
        safety.block_deletion_before_end_of_life.unwrap_or_default();
    row.published_at = time(publishing.published_date.or(properties.published_date).as_ref());
    let end = time(publishing.end_of_life_date.or(properties.end_of_life_date).as_ref());
    row.end_of_life_at = end.into_iter().chain(definition.end_of_life_at).min();
    if let Some(regions) = &publishing.target_regions {
        let regions: Vec<&Region> =
            regions.iter().filter(|region| !region.name.is_empty()).collect();
        row.locations = regions.iter().map(|region| short_name(&region.name)).collect();
        for region in regions {
            let name = short_name(&region.name);
            let replicas = region.regional_replica_count.or(publishing.replica_count).unwrap_or(1);
            row.replicas.insert(name.clone(), replicas);
            if let Some(storage) = &region.storage_account_type
                && Some(storage) != row.storage_type.as_ref()
            {
                row.storage_types.insert(name.clone(), storage.clone());
            }
            if region.exclude_from_latest == Some(true) {
                row.excluded_locations.push(name);
            }
        }
    }
    row.locations.sort_unstable();
    row.locations.dedup();
    row.excluded_locations.sort_unstable();
    (row.source_kind, row.source_id) = source(properties.storage_profile.unwrap_or_default());
    if let Some(status) = properties.replication_status {
        row.add_replication(&replicated(row.id.clone(), status));
    }
    Ok(row)
}

/// The kind and id of what a version was created from.
fn source(storage: Storage) -> (Option<String>, Option<String>) {
    let origin = storage.source.unwrap_or_default();
    if let Some(id) = origin.community_gallery_image_id {
        return (Some("community-version".to_owned()), Some(id));
    }
    let disks = storage.data_disk_images.unwrap_or_default();
    let disks = storage.os_disk_image.into_iter().chain(disks).filter_map(|disk| disk.source);
    let id = non_empty(origin.virtual_machine_id).or(non_empty(origin.id));
    let mut uri = non_empty(origin.uri);
    let id = id.or_else(|| {
        disks.into_iter().find_map(|disk| {
            uri = uri.take().or(non_empty(disk.uri));
            non_empty(disk.id)
        })
    });
    let Some(id) = id else {
        return (uri.as_ref().map(|_| "vhd".to_owned()), uri.map(|uri| without_query(&uri)));
    };
    let lower = id.to_ascii_lowercase();
    let kinds = [
        ("/virtualmachines/", "virtual-machine"),
        ("/disks/", "disk"),
        ("/snapshots/", "snapshot"),
        ("/versions/", "gallery-version"),
        ("/galleries/", "gallery-version"),
        ("/storageaccounts/", "vhd"),
        ("/images/", "managed-image"),
    ];
    let kind = kinds.iter().find(|(part, _)| lower.contains(part)).map_or("other", |kind| kind.1);
    // If the id is that of a storage account, the URI names the blob in it.
    let id = if kind == "vhd" { uri.map_or(id, |uri| without_query(&uri)) } else { id };
    (Some(kind.to_owned()), Some(id))
}

/// Removes the query from a blob's URI, which may contain a signature.
fn without_query(uri: &str) -> String {
    uri.split('?').next().unwrap_or_default().to_owned()
}

fn replicated(id: String, status: Replication) -> Replicated {
    let regions = status.summary.unwrap_or_default().into_iter();
    Replicated {
        id,
        state: status.aggregated_state.unwrap_or_else(|| "Unknown".to_owned()),
        regions: regions.map(|region| (short_name(&region.region), region.state)).collect(),
    }
}

/// Parses the answer to a GET of a version with its replication status.
pub fn replication(id: String, resource: &Resource) -> Result<Replicated> {
    let properties: Version = typed(resource)?;
    Ok(replicated(id, properties.replication_status.unwrap_or_default()))
}

/// Builds the row of a managed image.
pub fn managed(resource: &Resource) -> Result<GalleryImage> {
    let properties: Managed = typed(resource)?;
    let disk = properties.storage_profile.unwrap_or_default().os_disk.unwrap_or_default();
    let mut row = GalleryImage::new(Kind::ManagedImage, resource.id.clone());
    row.subscription_id = part(&resource.id, "subscriptions").map(str::to_owned);
    row.resource_group = part(&resource.id, "resourceGroups").map(str::to_owned);
    row.definition.clone_from(&resource.name);
    row.os = disk.os_type;
    row.os_state = disk.os_state;
    row.hyper_v_generation = properties.hyper_v_generation;
    row.provisioning_state = properties.provisioning_state;
    row.storage_type = disk.storage_account_type;
    row.locations = resource.location.iter().map(|name| short_name(name)).collect();
    let machine = properties.source_virtual_machine.and_then(|source| non_empty(source.id));
    let id = |source: Option<Source>| source.and_then(|source| non_empty(source.id));
    let sources = [
        ("virtual-machine", machine),
        ("snapshot", id(disk.snapshot)),
        ("disk", id(disk.copied)),
        ("vhd", non_empty(disk.blob_uri).map(|uri| without_query(&uri))),
    ];
    if let Some((kind, Some(id))) = sources.into_iter().find(|(_, id)| id.is_some()) {
        (row.source_kind, row.source_id) = (Some(kind.to_owned()), Some(id));
    }
    row.tags = resource.tags();
    Ok(row)
}

/// Parses how a gallery is shared, and its public names, from a GET of the gallery.
pub fn sharing(gallery: &Resource) -> Result<(String, Vec<String>)> {
    let properties: Shared = typed(gallery)?;
    let profile = properties.sharing_profile.unwrap_or_default();
    let permissions = profile.permissions.unwrap_or_else(|| "Private".to_owned());
    let mut names = profile.community.and_then(|info| info.public_names).unwrap_or_default();
    names.retain(|name| !name.is_empty());
    Ok((permissions.to_ascii_lowercase(), names))
}
