//! Repositories with given images, tags and attachments, and a purge of one.

use super::changing::{Change, Changing};
use super::layout::digest;
use super::paused;
use super::registries::entra;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::format::ledger::Ledger;
use azimg::testing::purge::{
    Applied, ImageUsage, LiveRegistry, PurgePlan, PurgeTarget, RepositoryPlan, Rules, apply, plan,
};
use azimg::testing::registry::Registry;
use azimg::testing::sim::registries::{SimAttributes, SimManifest, SimRepository, SimTag};
use azimg::testing::sim::{Conditions, Sim};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub const SERVER: &str = "registry0.azurecr.io";
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

pub fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

pub fn blob(media_type: &str, of: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(of.as_bytes()), "size": of.len()})
}

/// A repository, being filled.
#[derive(Default)]
pub struct Filled(pub SimRepository);

impl Filled {
    pub fn add(&mut self, name: &str, content: Vec<u8>, media_type: &'static str, minutes: i64) {
        let at = now() - time::Duration::minutes(minutes);
        let manifest = SimManifest {
            media_type,
            size: content.len() as u64,
            created: at.format(&Rfc3339).unwrap().replace('Z', ".1234567Z"),
            platform: None,
            attributes: SimAttributes::default(),
            content,
        };
        self.0.manifests.insert(name.to_owned(), manifest);
    }

    pub fn put(
        &mut self,
        content: &Value,
        media_type: &'static str,
        tags: &[&str],
        days: i64,
    ) -> String {
        let bytes = content.to_string().into_bytes();
        let name = digest(&bytes);
        self.add(&name, bytes, media_type, days * 1_440);
        for tag in tags {
            self.tag(tag, &name, days);
        }
        name
    }

    pub fn tag(&mut self, tag: &str, digest: &str, days: i64) {
        let at = now() - time::Duration::days(days);
        let created = at.format(&Rfc3339).unwrap().replace('Z', ".1234567Z");
        let attributes = SimAttributes::default();
        let (digest, updated) = (digest.to_owned(), created.clone());
        self.0.tags.insert(tag.to_owned(), SimTag { digest, created, updated, attributes });
    }

    pub fn image(&mut self, seed: &str, tags: &[&str], days: i64) -> String {
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "config": blob(CONFIG, &format!("config of {seed}")),
            "layers": [blob(LAYER, "the base of all"), blob(LAYER, seed)]});
        self.put(&content, IMAGE, tags, days)
    }

    pub fn index(&mut self, parts: &[&String], tags: &[&str], days: i64) -> String {
        let parts: Vec<Value> = parts
            .iter()
            .map(|part| json!({"mediaType": IMAGE, "digest": part, "size": 1}))
            .collect();
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": parts});
        self.put(&content, INDEX, tags, days)
    }

    /// As cosign signs an image: by a tag beside it.
    pub fn sign(&mut self, of: &str, suffix: &str, days: i64) -> String {
        let mut layer = blob("application/vnd.dev.cosign.simplesigning.v1+json", "payload");
        layer["annotations"] =
            json!({"dev.cosignproject.cosign/signature": format!("{of}{suffix}")});
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": blob(CONFIG, "{}"),
            "layers": [layer]});
        self.put(&content, IMAGE, &[&format!("{}{suffix}", of.replace(':', "-"))], days)
    }

    /// As `BuildKit` keeps a cache: an index of blobs.
    pub fn cache(&mut self, tag: &str, days: i64) -> String {
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            blob(LAYER, tag), blob("application/vnd.buildkit.cacheconfig.v0", "{}")]});
        self.put(&content, INDEX, &[tag], days)
    }
}

/// A wire on which some paths are answered 404.
#[derive(Debug)]
pub struct Holed {
    pub inner: Changing,
    pub missing: Option<String>,
}

#[async_trait]
impl Wire for Holed {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> azimg::testing::error::Result<WireResponse> {
        let mut answer = self.inner.send(request, authorized).await?;
        let path = percent_encoding::percent_decode_str(request.url.path()).decode_utf8_lossy();
        let is_hole = self.missing.as_ref().is_some_and(|part| path.contains(part.as_str()));
        if is_hole && path.starts_with("/v2/") {
            answer.status = StatusCode::NOT_FOUND;
            answer.body = json!({"errors": [{"code": "MANIFEST_UNKNOWN"}]}).to_string().into();
        }
        Ok(answer)
    }
}

/// What became of a repository `app`.
pub struct Purged {
    pub planned: RepositoryPlan,
    pub applied: Applied,
    pub tags: BTreeSet<String>,
    pub manifests: BTreeSet<String>,
}

impl Purged {
    pub fn tags(&self) -> Vec<&str> {
        self.tags.iter().map(String::as_str).collect()
    }

    /// Why something stays, as the plan has it.
    pub fn why(&self, digest: &str) -> &str {
        let found = self.planned.protected.iter().find(|row| row.digest == digest);
        found.map_or("", |row| row.protected_by.as_str())
    }
}

pub struct Case {
    pub repository: SimRepository,
    pub rules: &'static str,
    pub change: Change,
    pub missing: Option<String>,
}

impl Case {
    pub fn of(filled: Filled, rules: &'static str) -> Self {
        Self { repository: filled.0, rules, change: Arc::new(|_, _| {}), missing: None }
    }

    /// Plans and applies.
    pub fn purged(self) -> Purged {
        let world = crate::support::registries::world(0);
        let sim = Sim::new(world, Conditions::default());
        sim.registries()[0].repositories.insert("app".to_owned(), self.repository);
        let inner = Changing::new(&sim, self.change);
        let wire = Holed { inner, missing: self.missing };
        let registry = Registry::over(Arc::new(wire), SERVER, entra(SERVER)).unwrap();
        let rules = format!(r#"{{"rules": [{{"repositories": "app", {}}}]}}"#, self.rules);
        let rules = Rules::parse(&rules).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (planned, applied) = paused(async {
            let live = LiveRegistry::new(&registry).seeking_subjects(true);
            let state = live.state("app").await.unwrap().unwrap();
            let planned = plan(&state, &rules, &std::collections::BTreeMap::new(), now());
            let written = crate::support::plans::written_down(planned.clone(), rules, now());
            let whole = PurgePlan { login_server: SERVER.into(), ..written };
            let mut ledger = Ledger::open(&folder.path().join("ledger"), "PLAN").unwrap();
            let tell = |_: &str, _: usize| {};
            let live = LiveRegistry::new(&registry);
            let done = apply(&live, &whole, &ImageUsage::default(), &mut ledger, None, &tell).await;
            (planned, done.unwrap())
        });
        let after = sim.registries()[0].repositories["app"].clone();
        let (tags, manifests) = (after.tags.into_keys(), after.manifests.into_keys());
        Purged { planned, applied, tags: tags.collect(), manifests: manifests.collect() }
    }
}

pub fn purged(filled: Filled, rules: &'static str) -> Purged {
    let purged = Case::of(filled, rules).purged();
    assert_eq!((&purged.applied.failed, &purged.applied.skipped), (&vec![], &vec![]));
    assert_eq!(purged.applied.deleted, purged.planned.deletions.len());
    purged
}
