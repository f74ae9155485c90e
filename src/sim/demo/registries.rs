//! The registries of the organisation: services, base images and charts, with layers in common.

use super::{before, choice, subscription};
use crate::sim::registries::{
    CONFIG, IMAGE, INDEX, LAYER, SimAttributes, SimManifest, SimRegistry, SimRepository, SimTag,
    digest,
};
use crate::sim::times::of_registry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use time::{Date, Duration};

const CHART: &str = "application/vnd.cncf.helm.config.v1+json";
const SBOM: &str = "application/spdx+json";
const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// A repository: name, the base image that it is built on, megabytes of its own layers, the number
/// of releases, whether it is built for two platforms.
struct Source(&'static str, &'static str, u64, i64, bool);

const PRODUCTION: &[Source] = &[
    Source("web/storefront", "base/node", 84, 14, true),
    Source("web/checkout", "base/node", 61, 12, true),
    Source("web/admin", "base/node", 47, 6, false),
    Source("api/orders", "base/dotnet", 38, 18, true),
    Source("api/payments", "base/dotnet", 35, 16, true),
    Source("api/inventory", "base/dotnet", 29, 11, true),
    Source("api/customers", "base/java", 112, 9, false),
    Source("jobs/invoicing", "base/java", 96, 7, false),
    Source("jobs/search-index", "base/python", 143, 8, false),
    Source("ml/recommender", "base/cuda", 2_310, 6, false),
    Source("platform/ingress-nginx", "base/alpine", 41, 5, true),
    Source("platform/otel-collector", "base/alpine", 58, 6, true),
    Source("platform/external-dns", "base/alpine", 22, 3, true),
    Source("base/alpine", "base/alpine", 0, 4, true),
    Source("base/node", "base/node", 0, 5, true),
    Source("base/dotnet", "base/dotnet", 0, 5, true),
    Source("base/java", "base/java", 0, 4, false),
    Source("base/python", "base/python", 0, 4, true),
    Source("base/cuda", "base/cuda", 0, 2, false),
];
const DEVELOPMENT: &[Source] = &[
    Source("web/storefront", "base/node", 88, 9, false),
    Source("api/orders", "base/dotnet", 40, 11, false),
    Source("api/payments", "base/dotnet", 36, 7, false),
    Source("ml/recommender", "base/cuda", 2_450, 3, false),
    Source("sandbox/anna/test", "base/python", 310, 4, false),
    Source("sandbox/jonas/playground", "base/alpine", 12, 2, false),
    Source("ci/cache", "base/node", 640, 5, false),
];
/// Megabytes of a base image's two layers.
const BASES: [(&str, [u64; 2]); 6] = [
    ("base/alpine", [3, 4]),
    ("base/node", [29, 47]),
    ("base/dotnet", [29, 79]),
    ("base/java", [29, 128]),
    ("base/python", [29, 52]),
    ("base/cuda", [30, 3_890]),
];

/// What a manifest was made of, while a registry is filled.
struct Filling {
    today: Date,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Filling {
    /// A time on the day that is `days` days ago, in working hours.
    fn date(&self, days: i64, name: &str) -> String {
        let minutes = i64::try_from(choice(name) % 600).unwrap_or_default();
        let at = before(self.today, days).saturating_add(Duration::minutes(430 + minutes));
        of_registry(at)
    }

    /// Adds a manifest, and returns its digest.
    fn add(
        repository: &mut SimRepository,
        content: &Value,
        size: u64,
        created: String,
        platform: Option<&str>,
    ) -> String {
        let bytes = content.to_string().into_bytes();
        let name = digest(&bytes);
        let manifest = SimManifest {
            media_type: if content["mediaType"] == INDEX { INDEX } else { IMAGE },
            size,
            created,
            platform: platform.map(|platform| (platform.to_owned(), "linux".to_owned())),
            attributes: SimAttributes::default(),
            content: bytes,
        };
        repository.manifests.insert(name.clone(), manifest);
        name
    }

    /// Adds the image of a release for one platform.
    fn image(
        &mut self,
        repository: &mut SimRepository,
        of: &Source,
        (age, platform): (i64, &str),
    ) -> String {
        let Source(name, base, megabytes, _, _) = of;
        let created = self.date(age, name);
        // A base image is renewed every 40 days; what is built on it in between shares its layers.
        let renewed = age / 40;
        let parts = BASES.iter().find(|(known, _)| known == base).map_or([30, 40], |known| known.1);
        let mut layers: Vec<(String, u64)> = std::iter::zip(["system", "runtime"], parts)
            .map(|(part, size)| (format!("{base} {part} {renewed} {platform}"), size))
            .collect();
        if *megabytes > 0 {
            layers
                .push((format!("{name} dependencies {} {platform}", age / 25), megabytes * 4 / 5));
            layers.push((format!("{name} {age} {platform}"), megabytes / 5 + 1));
        }
        let layers: Vec<Value> = layers
            .iter()
            .map(|(text, size)| {
                let bytes = (size << 20) + choice(text) % (1 << 20);
                json!({"mediaType": LAYER, "digest": digest(text.as_bytes()), "size": bytes})
            })
            .collect();
        let revision = format!("{:016x}", choice(&format!("{name}{age}")));
        let config = json!({"architecture": platform, "os": "linux", "created": created,
            "config": {"User": "10001", "Labels": {
                "org.opencontainers.image.source": format!("https://github.com/contoso/{}", name.replace('/', "-")),
                "org.opencontainers.image.revision": revision}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()}});
        let config = config.to_string().into_bytes();
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": layers});
        let size: u64 = layers.iter().filter_map(|layer| layer["size"].as_u64()).sum();
        let size = size + u64::try_from(config.len()).unwrap_or_default();
        self.blobs.insert(digest(&config), config);
        Self::add(repository, &content, size, created, Some(platform))
    }

    /// Adds an artifact that refers to a manifest.
    fn referrer(&mut self, repository: &mut SimRepository, subject: &str, kind: &str, days: i64) {
        let length = repository.manifests.get(subject).map_or(0, |manifest| manifest.content.len());
        let media_type = repository.manifests.get(subject).map_or(IMAGE, |found| found.media_type);
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest(b"{}"), "size": 2});
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE, "artifactType": kind,
            "config": empty, "layers": [empty],
            "subject": {"mediaType": media_type, "digest": subject, "size": length}});
        self.blobs.insert(digest(b"{}"), b"{}".to_vec());
        Self::add(repository, &content, 4, self.date(days, kind), None);
    }

    /// Adds one release with its tags. The newest is also `latest`; its commit is a tag that stays.
    fn release(&mut self, repository: &mut SimRepository, of: &Source, number: i64) {
        let Source(name, _, _, count, is_multiple) = of;
        let age = 2 + number * 11;
        let amd = self.image(repository, of, (age, "amd64"));
        let target = if *is_multiple {
            let arm = self.image(repository, of, (age, "arm64"));
            let entry = |digest: &str, architecture: &str| {
                let size = repository.manifests.get(digest).map_or(0, |found| found.content.len());
                json!({"mediaType": IMAGE, "digest": digest, "size": size,
                    "platform": {"architecture": architecture, "os": "linux"}})
            };
            let content = json!({"schemaVersion": 2, "mediaType": INDEX,
                "manifests": [entry(&amd, "amd64"), entry(&arm, "arm64")]});
            let size = u64::try_from(content.to_string().len()).unwrap_or_default();
            Self::add(repository, &content, size, self.date(age, name), None)
        } else {
            amd
        };
        if number < 3 && !name.starts_with("sandbox") {
            self.referrer(repository, &target, SIGNATURE, age);
            self.referrer(repository, &target, SBOM, age);
        }
        // A build in four was replaced under its tag, and has none since.
        if number > 0 && number % 4 == 3 {
            return;
        }
        let release = count - number;
        let mut tags = vec![format!("{}.{}.{}", 1 + release / 10, release % 10, release % 3)];
        tags.push(format!("main-{:07x}", choice(&format!("{name}{release}")) & 0x0fff_ffff));
        if number == 0 {
            tags.push("latest".to_owned());
        }
        let created = self.date(age, name);
        for tag in tags {
            let is_release = !tag.starts_with("main-") && tag != "latest";
            let mut attributes = SimAttributes::default();
            // Releases of the payment service are kept for the auditors.
            if is_release && *name == "api/payments" {
                (attributes.delete, attributes.write) = (false, false);
            }
            let (created, updated) = (created.clone(), created.clone());
            repository
                .tags
                .insert(tag, SimTag { digest: target.clone(), created, updated, attributes });
        }
    }

    /// A repository of Helm charts.
    fn charts(&mut self, name: &str, count: i64) -> SimRepository {
        let mut repository = SimRepository::default();
        for number in 0..count {
            let config =
                json!({"name": name, "version": format!("0.{number}.0"), "apiVersion": "v2"});
            let config = config.to_string().into_bytes();
            let text = format!("{name} chart {number}");
            let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
                "config": {"mediaType": CHART, "digest": digest(&config), "size": config.len()},
                "layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                    "digest": digest(text.as_bytes()), "size": 18_400 + choice(&text) % 9_000}]});
            self.blobs.insert(digest(&config), config);
            let created = self.date(3 + (count - number) * 20, &text);
            let digest = Self::add(&mut repository, &content, 20_000, created.clone(), None);
            let attributes = SimAttributes::default();
            let tag = SimTag { digest, created: created.clone(), updated: created, attributes };
            repository.tags.insert(format!("0.{number}.0"), tag);
        }
        repository
    }
}

/// What the scanner found in the images that are tagged.
fn findings(registry: &SimRegistry) -> Vec<(String, String, Option<&'static str>)> {
    let mut all = Vec::new();
    for (name, repository) in &registry.repositories {
        let mut digests: Vec<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        for digest in digests.into_iter().filter(|_| !name.starts_with("helm/")) {
            let hash = choice(digest);
            let counts = [
                ("Critical", hash % 5 / 4),
                ("High", hash % 4),
                ("Medium", hash % 9),
                ("Low", hash % 3),
            ];
            let found: u64 = counts.iter().map(|(_, count)| count).sum();
            if found == 0 {
                all.push((name.clone(), digest.clone(), None));
            }
            for (severity, count) in counts {
                all.extend((0..count).map(|_| (name.clone(), digest.clone(), Some(severity))));
            }
        }
    }
    all
}

fn registry(
    today: Date,
    name: &str,
    location: &str,
    sources: &[Source],
    charts: &[(&str, i64)],
) -> SimRegistry {
    let mut filling = Filling { today, blobs: BTreeMap::new() };
    let mut registry = SimRegistry {
        name: name.to_owned(),
        subscription: subscription(),
        group: "rg-containers".to_owned(),
        location: location.to_owned(),
        login_server: format!("{name}.azurecr.io"),
        blob_server: format!("{name}.{location}.data.azurecr.io"),
        ..SimRegistry::default()
    };
    for source in sources {
        let mut repository = SimRepository::default();
        for number in 0..source.3 {
            filling.release(&mut repository, source, number);
        }
        registry.repositories.insert(source.0.to_owned(), repository);
    }
    for (name, count) in charts {
        registry.repositories.insert((*name).to_owned(), filling.charts(name, *count));
    }
    registry.blobs = filling.blobs;
    registry.findings = findings(&registry);
    registry
}

/// The registries as they stand on this day.
pub(super) fn contoso(today: Date) -> Vec<SimRegistry> {
    let charts = [("helm/storefront", 6), ("helm/orders", 8), ("helm/platform", 4)];
    vec![
        registry(today, "contosoprod", "westeurope", PRODUCTION, &charts),
        registry(today, "contosodev", "northeurope", DEVELOPMENT, &[]),
    ]
}
