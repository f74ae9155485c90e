//! The model of simulated container registries, and their generation.

mod limit;
mod provider;
mod pushed;

pub use limit::BlobsLimit;
pub(super) use provider::serve;
pub use pushed::Pushed;
pub(super) use pushed::{Pieces, UploadError};

use super::ids::{TENANT, subscription_id};
use super::times;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

/// The changeable attributes of a repository, a manifest or a tag.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "the four that ACR has")]
pub struct SimAttributes {
    /// It can be deleted.
    pub delete: bool,
    /// It can be written.
    pub write: bool,
    /// It can be read.
    pub read: bool,
    /// It is in lists.
    pub list: bool,
}

impl Default for SimAttributes {
    fn default() -> Self {
        Self { delete: true, write: true, read: true, list: true }
    }
}

impl SimAttributes {
    /// The attributes as ACR returns them.
    pub(super) fn to_json(self) -> Value {
        json!({"deleteEnabled": self.delete, "writeEnabled": self.write,
            "readEnabled": self.read, "listEnabled": self.list})
    }

    /// Changes them by the body of a PATCH.
    pub(super) fn patch(&mut self, body: &Value) {
        let parts = [
            ("deleteEnabled", &mut self.delete),
            ("writeEnabled", &mut self.write),
            ("readEnabled", &mut self.read),
            ("listEnabled", &mut self.list),
        ];
        for (name, value) in parts {
            *value = body[name].as_bool().unwrap_or(*value);
        }
    }

    /// Whether it cannot be deleted or cannot be written.
    pub(super) fn is_locked(self) -> bool {
        !self.delete || !self.write
    }
}

/// A manifest.
#[derive(Debug, Clone)]
pub struct SimManifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub content: Vec<u8>,
    /// The bytes of its layers and its configuration.
    pub size: u64,
    /// The time of its push.
    pub created: String,
    /// Architecture and operating system, if it is an image.
    pub platform: Option<(String, String)>,
    /// Its attributes.
    pub attributes: SimAttributes,
}

/// A tag.
#[derive(Debug, Clone)]
pub struct SimTag {
    /// The digest of its manifest.
    pub digest: String,
    /// The time of its creation.
    pub created: String,
    /// The time of its last change.
    pub updated: String,
    /// Its attributes.
    pub attributes: SimAttributes,
}

/// A repository.
#[derive(Debug, Clone, Default)]
pub struct SimRepository {
    /// Its attributes.
    pub attributes: SimAttributes,
    /// Its manifests by digest.
    pub manifests: BTreeMap<String, SimManifest>,
    /// Its tags by name.
    pub tags: BTreeMap<String, SimTag>,
}

/// A registry.
#[derive(Debug, Clone, Default)]
pub struct SimRegistry {
    /// Its name.
    pub name: String,
    /// Its subscription.
    pub subscription: String,
    /// Its resource group.
    pub group: String,
    /// The short name of its location.
    pub location: String,
    /// Whether pulls need no credential.
    pub anonymous: bool,
    /// Its login server: a name of Azure, or its address once it listens.
    pub login_server: String,
    /// Its server of blobs, in the same way.
    pub blob_server: String,
    /// Its repositories by name.
    pub repositories: BTreeMap<String, SimRepository>,
    /// Configurations and small layers that were generated, by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Pushed blobs, and uploads.
    pub pushed: Pushed,
    /// Most tags in the description of a manifest; `None` is as many as ACR has.
    pub most_tags: Option<usize>,
    /// Findings of scanners: repository, digest, severity. A healthy image has no severity.
    pub findings: Vec<(String, String, Option<&'static str>)>,
}

/// The media type of an image.
pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an image's configuration.
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of a layer.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::format::hex(&Sha256::digest(bytes)))
}

/// The state of a generation.
struct Generator {
    random: StdRng,
    epoch: OffsetDateTime,
    blobs: BTreeMap<String, Vec<u8>>,
}

/// A registry with generated repositories; the same `seed` gives the same one.
pub fn generate_registry(number: usize, repositories: usize, seed: u64) -> SimRegistry {
    let mut generator = Generator {
        random: StdRng::seed_from_u64(seed ^ 0xac2 ^ (number as u64) << 32),
        epoch: OffsetDateTime::from_unix_timestamp(1_793_491_200)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        blobs: BTreeMap::new(),
    };
    let mut registry = SimRegistry {
        name: format!("registry{number}"),
        subscription: subscription_id(1),
        group: "rg-registries".to_owned(),
        location: "eastus".to_owned(),
        anonymous: number % 2 == 1,
        ..SimRegistry::default()
    };
    for at in 0..repositories {
        let name =
            if at % 3 == 0 { format!("team{}/app-{at}", at % 5) } else { format!("app-{at}") };
        registry.repositories.insert(name, generator.repository());
    }
    registry.blobs = std::mem::take(&mut generator.blobs);
    // Scanners examine tagged images.
    for (name, repository) in &registry.repositories {
        let digests: BTreeSet<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
        for digest in digests {
            let found = match generator.random.random_range(0..4) {
                0 => continue,
                1 => vec![None],
                number => {
                    [Some("High"), Some("Medium"), Some("High"), Some("Low")][..number].to_vec()
                }
            };
            let finding = |severity| (name.clone(), digest.clone(), severity);
            registry.findings.extend(found.into_iter().map(finding));
        }
    }
    (registry.login_server, registry.blob_server) = (
        format!("{}.azurecr.io", registry.name),
        format!("{}.eastus.data.azurecr.io", registry.name),
    );
    registry
}

impl Generator {
    /// A random time before the epoch, as ACR writes times.
    fn date(&mut self) -> String {
        let at = self.epoch - Duration::minutes(self.random.random_range(1..600_000));
        times::of_registry(at)
    }

    /// A random image and its digest.
    fn image(&mut self, arch: &'static str) -> (String, SimManifest) {
        let layer = self.random.random::<[u8; 8]>();
        let config = json!({"architecture": arch, "os": "linux", "created": self.date(),
            "config": {"Labels": {"org.opencontainers.image.source": "https://example.com/app"},
                "User": "1000"}, "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
        let config = config.to_string().into_bytes();
        let config_digest = digest(&config);
        let config_size = config.len() as u64;
        self.blobs.insert(config_digest.clone(), config);
        let size = self.random.random_range(1_000_000..90_000_000_u64);
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
            "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": size}]});
        let content = content.to_string().into_bytes();
        let created = self.date();
        let manifest = SimManifest {
            media_type: IMAGE,
            size: size + config_size,
            created,
            platform: Some((arch.to_owned(), "linux".to_owned())),
            attributes: SimAttributes::default(),
            content: content.clone(),
        };
        (digest(&content), manifest)
    }

    /// A random repository.
    fn repository(&mut self) -> SimRepository {
        let mut repository = SimRepository::default();
        let count = self.random.random_range(1..12);
        for at in 0..count {
            let (name, mut manifest) = self.image("amd64");
            if at % 5 == 4 {
                manifest.attributes.delete = false;
            }
            let (created, target) = (manifest.created.clone(), name.clone());
            if at % 3 == 1 {
                self.signature(&mut repository, &name, manifest.content.len());
            }
            repository.manifests.insert(name.clone(), manifest);
            // Every third one is an index of two platforms; every fourth one has no tags.
            let target = if at % 3 == 2 { self.index(&mut repository, &name) } else { target };
            if at % 4 == 3 {
                continue;
            }
            let tag = |digest: &String| SimTag {
                digest: digest.clone(),
                created: created.clone(),
                updated: created.clone(),
                attributes: SimAttributes::default(),
            };
            repository.tags.insert(format!("1.{at}.0"), tag(&target));
            if at + 1 == count {
                repository.tags.insert("latest".to_owned(), tag(&target));
            }
        }
        repository
    }

    /// Adds a signature of the manifest `of`: an artifact that refers to it.
    fn signature(&mut self, repository: &mut SimRepository, of: &str, size: usize) {
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "artifactType": "application/vnd.cncf.notary.signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json",
                "digest": digest(b"{}"), "size": 2},
            "layers": [], "subject": {"mediaType": IMAGE, "digest": of, "size": size}});
        let content = content.to_string().into_bytes();
        self.blobs.insert(digest(b"{}"), b"{}".to_vec());
        let manifest = SimManifest {
            media_type: IMAGE,
            size: 2,
            created: self.date(),
            platform: None,
            attributes: SimAttributes::default(),
            content: content.clone(),
        };
        repository.manifests.insert(digest(&content), manifest);
    }

    /// Adds an index of the image `amd` and of a new one for arm64; returns its digest.
    fn index(&mut self, repository: &mut SimRepository, amd: &str) -> String {
        let (arm, manifest) = self.image("arm64");
        let sizes = [repository.manifests[amd].content.len(), manifest.content.len()];
        repository.manifests.insert(arm.clone(), manifest);
        let entry = |digest: &str, arch: &str, size: usize| {
            json!({"mediaType": IMAGE, "digest": digest, "size": size,
                "platform": {"architecture": arch, "os": "linux"}})
        };
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            entry(amd, "amd64", sizes[0]), entry(&arm, "arm64", sizes[1])]});
        let content = content.to_string().into_bytes();
        let name = digest(&content);
        let manifest = SimManifest {
            media_type: INDEX,
            size: content.len() as u64,
            created: self.date(),
            platform: None,
            attributes: SimAttributes::default(),
            content,
        };
        repository.manifests.insert(name.clone(), manifest);
        name
    }
}

impl SimRegistry {
    /// Its Resource Manager id.
    pub fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerRegistry/\
             registries/{}",
            self.subscription, self.group, self.name
        )
    }

    /// The findings of scanners as rows of Resource Graph.
    pub(super) fn findings_rows(&self) -> impl Iterator<Item = Value> + '_ {
        self.findings.iter().enumerate().map(|(number, (repository, digest, severity))| {
            let key = "c0b7cfc6-3172-465a-b378-53c7ff2cc0d5";
            let id = format!(
                "{}/providers/Microsoft.Security/assessments/{key}/subAssessments/{number:08}",
                self.id()
            );
            let code = if severity.is_some() { "Unhealthy" } else { "Healthy" };
            json!({"id": id, "type": "microsoft.security/assessments/subassessments",
                "subscriptionId": self.subscription, "tenantId": TENANT,
                "properties": {"id": format!("CVE-2026-{number}"),
                    "timeGenerated": "2026-11-20T04:05:06.1234567Z", "status": {"code": code},
                    "additionalData": {
                        "assessedResourceType": "AzureContainerRegistryVulnerability",
                        "vulnerabilityDetails": {"cveId": format!("CVE-2026-{number}"),
                            "severity": severity},
                        "artifactDetails": {"repositoryName": repository, "digest": digest,
                            "registryHost": self.login_server, "tags": []}}}})
        })
    }

    /// The registry as the provider returns it.
    pub(super) fn to_json(&self) -> Value {
        let mut value = self.to_graph();
        value["type"] = "Microsoft.ContainerRegistry/registries".into();
        if let Some(value) = value.as_object_mut() {
            value.retain(|name, _| {
                !matches!(name.as_str(), "subscriptionId" | "resourceGroup" | "tenantId")
            });
        }
        value
    }

    /// The registry as a row of Resource Graph.
    pub(super) fn to_graph(&self) -> Value {
        json!({"id": self.id(), "name": self.name, "type": "microsoft.containerregistry/registries",
            "location": self.location, "subscriptionId": self.subscription,
            "resourceGroup": self.group, "tenantId": TENANT,
            "sku": {"name": "Premium", "tier": "Premium"}, "tags": {},
            "properties": {"loginServer": self.login_server, "provisioningState": "Succeeded",
                "adminUserEnabled": false, "anonymousPullEnabled": self.anonymous,
                "publicNetworkAccess": "Enabled", "dataEndpointEnabled": false}})
    }
}
