//! Repositories as their users have them, purged: what stays and what goes of each is written down beside it. And
//! what stops a purge, or asks before something is deleted.

use crate::support::changing::{Change, Changing};
use crate::support::layout::digest;
use crate::support::registries::entra;
use crate::support::{Azure, Virtual, finish, json, paused};
use crate::tests;
use async_trait::async_trait;
use azimg::client::{Wire, WireRequest, WireResponse};
use azimg::format::ledger::Ledger;
use azimg::purge::{
    Applied, ImageUsage, LiveRegistry, PurgePlan, PurgeTarget, RepositoryPlan, Rules, apply,
    count_bytes, notes, plan,
};
use azimg::registry::Registry;
use azimg::sim::registries::{SimAttributes, SimManifest, SimRepository, SimTag};
use azimg::sim::{Conditions, Sim};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

tests![
    images_are_counted_as_people_count_them,
    of_the_same_moment_the_highest_version_is_the_newest,
    build_caches_and_what_is_protected_use_up_no_place,
    signatures_of_images_that_are_gone_go_where_it_is_said,
    an_index_that_shares_a_platform_keeps_it,
    one_manifest_that_cannot_be_read_stays_and_stops_nothing_else,
    an_index_that_cannot_be_read_stops_its_repository,
    nothing_without_a_tag_goes_while_it_may_be_pushed,
    wrong_and_late_counts_are_nobodys_push,
    a_plan_says_what_each_tag_stays_for_and_what_each_blob_frees,
    patterns_that_fit_nothing_say_so,
    what_runs_by_a_list_stays_and_a_bad_list_stops_the_purge,
    what_an_index_needs_is_deleted_by_whoever_says_so,
    a_crawl_does_not_ask_again_for_what_can_never_be_read,
];

const SERVER: &str = "registry0.azurecr.io";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

fn blob(media_type: &str, of: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(of.as_bytes()), "size": of.len()})
}

/// A repository, being filled.
#[derive(Default)]
struct Filled(SimRepository);

impl Filled {
    fn add(&mut self, name: &str, content: Vec<u8>, media_type: &'static str, minutes: i64) {
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

    fn put(
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

    fn tag(&mut self, tag: &str, digest: &str, days: i64) {
        let at = now() - time::Duration::days(days);
        let created = at.format(&Rfc3339).unwrap().replace('Z', ".1234567Z");
        let attributes = SimAttributes::default();
        let (digest, updated) = (digest.to_owned(), created.clone());
        self.0.tags.insert(tag.to_owned(), SimTag { digest, created, updated, attributes });
    }

    fn image(&mut self, seed: &str, tags: &[&str], days: i64) -> String {
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "config": blob(CONFIG, &format!("config of {seed}")),
            "layers": [blob(LAYER, "the base of all"), blob(LAYER, seed)]});
        self.put(&content, IMAGE, tags, days)
    }

    fn index(&mut self, parts: &[&String], tags: &[&str], days: i64) -> String {
        let parts: Vec<Value> = parts
            .iter()
            .map(|part| json!({"mediaType": IMAGE, "digest": part, "size": 1}))
            .collect();
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": parts});
        self.put(&content, INDEX, tags, days)
    }

    /// As cosign signs an image: by a tag beside it.
    fn sign(&mut self, of: &str, suffix: &str, days: i64) -> String {
        let mut layer = blob("application/vnd.dev.cosign.simplesigning.v1+json", "payload");
        layer["annotations"] =
            json!({"dev.cosignproject.cosign/signature": format!("{of}{suffix}")});
        let content = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": blob(CONFIG, "{}"),
            "layers": [layer]});
        self.put(&content, IMAGE, &[&format!("{}{suffix}", of.replace(':', "-"))], days)
    }

    /// As `BuildKit` keeps a cache: an index of blobs.
    fn cache(&mut self, tag: &str, days: i64) -> String {
        let content = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            blob(LAYER, tag), blob("application/vnd.buildkit.cacheconfig.v0", "{}")]});
        self.put(&content, INDEX, &[tag], days)
    }
}

/// A wire on which some paths are answered 404.
#[derive(Debug)]
struct Holed {
    inner: Changing,
    missing: Option<String>,
}

#[async_trait]
impl Wire for Holed {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> azimg::error::Result<WireResponse> {
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
struct Purged {
    planned: RepositoryPlan,
    applied: Applied,
    tags: BTreeSet<String>,
    manifests: BTreeSet<String>,
}

impl Purged {
    fn tags(&self) -> Vec<&str> {
        self.tags.iter().map(String::as_str).collect()
    }

    /// Why something stays, as the plan has it.
    fn why(&self, digest: &str) -> &str {
        let found = self.planned.protected.iter().find(|row| row.digest == digest);
        found.map_or("", |row| row.protected_by.as_str())
    }
}

struct Case {
    repository: SimRepository,
    rules: &'static str,
    change: Change,
    missing: Option<String>,
}

impl Case {
    fn of(filled: Filled, rules: &'static str) -> Self {
        Self { repository: filled.0, rules, change: Arc::new(|_, _| {}), missing: None }
    }

    /// Plans and applies.
    fn purged(self) -> Purged {
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

fn purged(filled: Filled, rules: &'static str) -> Purged {
    let purged = Case::of(filled, rules).purged();
    assert_eq!((&purged.applied.failed, &purged.applied.skipped), (&vec![], &vec![]));
    assert_eq!(purged.applied.deleted, purged.planned.deletions.len());
    purged
}

const KEEP_1: &str = r#""tags": "*", "keep": 1"#;
const KEEP_2: &str = r#""tags": "*", "keep": 2"#;
const KEEP_3: &str = r#""tags": "*", "keep": 3"#;

/// Three versions for two platforms, each with a tag of its own.
fn per_platform() -> Filled {
    let mut filled = Filled::default();
    for (number, version) in ["1.0", "1.1", "1.2"].into_iter().enumerate() {
        let days = 30 - i64::try_from(number).unwrap();
        // The platforms are pushed before the index, and one of them is tagged again when it is there.
        let amd = filled.image(&format!("{version}a"), &[&format!("{version}-amd64")], days);
        let arm = filled.image(&format!("{version}b"), &[&format!("{version}-arm64")], 2);
        filled.index(&[&amd, &arm], &[version], days);
    }
    filled
}

fn images_are_counted_as_people_count_them() {
    let newest = ["1.2", "1.2-amd64", "1.2-arm64"];
    let purged_1 = purged(per_platform(), KEEP_1);
    assert_eq!(purged_1.tags(), newest);
    assert_eq!(purged_1.manifests.len(), 3);
    let of = &purged_1.planned.kept[1].reason;
    assert!(of.starts_with("rule 1: a part of 1.2 (sha256:") && of.ends_with("1 of the 1 newest"));
    assert_eq!(purged(per_platform(), KEEP_2).tags().len(), 6);
    assert_eq!(purged(per_platform(), KEEP_3).planned.deletions, []);
    // The tags of platforms alone: each is one of its version.
    let of_platforms = purged(per_platform(), r#""tags": "*-amd64", "keep": 2"#);
    assert!(!of_platforms.tags.contains("1.0-amd64") && of_platforms.tags.contains("1.1-amd64"));
    assert_eq!((of_platforms.tags.len(), of_platforms.manifests.len()), (8, 9));
    // By age an index and its platforms go together, too.
    let by_age = purged(per_platform(), r#""tags": "*", "older-than": "29d""#);
    assert!(by_age.tags.contains("1.1-amd64") && by_age.tags.contains("1.2-amd64"));
    assert!(!by_age.tags.contains("1.0-amd64") && by_age.tags.contains("1.0-arm64"));
}

fn of_the_same_moment_the_highest_version_is_the_newest() {
    let mut filled = Filled::default();
    for version in ["v1.8", "v1.9", "v1.10", "v1.11", "v2.0"] {
        filled.image(version, &[version], 30);
    }
    assert_eq!(purged(filled, KEEP_3).tags(), ["v1.10", "v1.11", "v2.0"]);
    // A glob's full stop is one, and so is that of a tag.
    let mut filled = Filled::default();
    for version in ["1.0", "1.0-rc.1", "1x0"] {
        filled.image(version, &[version], 30);
    }
    let purged = purged(filled, r#""tags": "1.0", "keep": 0"#);
    assert_eq!(purged.tags(), ["1.0-rc.1", "1x0"]);
}

fn with_cache() -> Filled {
    let mut filled = Filled::default();
    filled.cache("buildcache", 0);
    for (number, version) in ["1.0", "1.1", "1.2"].into_iter().enumerate() {
        filled.image(version, &[version], 9 - 3 * i64::try_from(number).unwrap());
    }
    filled
}

fn build_caches_and_what_is_protected_use_up_no_place() {
    assert_eq!(purged(with_cache(), KEEP_3).planned.deletions, []);
    assert_eq!(purged(with_cache(), KEEP_2).tags(), ["1.1", "1.2", "buildcache"]);
    // The other form of a cache: an image of a configuration of its own.
    let mut filled = Filled::default();
    let config = blob("application/vnd.buildkit.cacheconfig.v0", "{}");
    let content = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config,
        "layers": [blob(LAYER, "x")]});
    filled.put(&content, IMAGE, &["cache"], 0);
    filled.image("1.0", &["1.0"], 9);
    filled.image("1.1", &["1.1"], 6);
    assert_eq!(purged(filled, KEEP_1).tags(), ["1.1", "cache"]);
    // A chart is what its repository is for.
    let mut filled = Filled::default();
    for (days, version) in [(5, "1.0.0_build.5"), (4, "1.0.0_build.6")] {
        let config = blob("application/vnd.cncf.helm.config.v1+json", version);
        let content = json!({"schemaVersion": 2, "config": config, "layers": []});
        filled.put(&content, IMAGE, &[version], days);
    }
    assert_eq!(purged(filled, KEEP_1).tags(), ["1.0.0_build.6"]);
    // What is kept by name or by a lock, or cannot be run.
    let mut filled = Filled::default();
    filled.image("release", &["release-1"], 1);
    let locked = filled.image("locked", &["locked"], 2);
    filled.0.manifests.get_mut(&locked).unwrap().attributes.delete = false;
    filled.index(&[], &["nothing"], 3);
    for days in 4..8 {
        filled.image(&days.to_string(), &[&format!("v{days}")], days);
    }
    let purged_3 = purged(filled, r#""tags": "*", "keep": 3, "keep-tags": ["release-*"]"#);
    let left = ["locked", "nothing", "release-1", "v4", "v5", "v6"];
    assert_eq!(purged_3.tags(), left);
    // A tag of the manifest's own digest says that it is to stay.
    let mut filled = Filled::default();
    let own = filled.image("e", &["v1"], 90);
    let by_digest = format!("{}.imgpkg", own.replace(':', "-"));
    filled.tag(&by_digest, &own, 1);
    filled.image("e2", &["v2"], 1);
    let purged = purged(filled, KEEP_1);
    assert_eq!(purged.tags(), [by_digest.as_str(), "v2"]);
    assert_eq!(purged.planned.untaggings[0].tag, "v1");
}

fn signed() -> (Filled, Vec<String>) {
    let mut filled = Filled::default();
    for (days, version) in [(90, "v1"), (60, "v2"), (1, "v3")] {
        let image = filled.image(version, &[version], days);
        filled.sign(&image, ".sig", days);
    }
    let gone = |n: u8| format!("sha256:{n:064}");
    let orphans = [".sig", ".att", ""].into_iter().zip(1..);
    let orphans = orphans.map(|(suffix, n)| filled.sign(&gone(n), suffix, 200)).collect();
    (filled, orphans)
}

fn signatures_of_images_that_are_gone_go_where_it_is_said() {
    let (filled, _) = signed();
    assert_eq!(purged(filled, KEEP_3).planned.deletions, []);
    let (filled, orphans) = signed();
    let purged_1 = purged(filled, KEEP_1);
    assert_eq!(purged_1.manifests.len(), 5, "an image, its signature, and what is nobody's");
    assert!(orphans.iter().all(|orphan| purged_1.manifests.contains(orphan)));
    let (filled, orphans) = signed();
    let purged_2 = purged(filled, r#""orphans": true, "older-than": "30d""#);
    let goes: BTreeSet<&String> = purged_2.planned.deletions.iter().map(|d| &d.digest).collect();
    assert_eq!(goes, orphans.iter().collect());
    assert!(purged_2.planned.deletions[0].reason.ends_with("which is gone, older than 30d"));
    // In a repository of signatures alone they are of images elsewhere; and what is only hidden is not gone.
    let mut filled = Filled::default();
    filled.sign(&format!("sha256:{:064}", 1), ".sig", 200);
    assert_eq!(purged(filled, r#""orphans": true"#).planned.deletions, []);
    let mut filled = Filled::default();
    filled.image("v1", &["v1"], 9);
    let hidden = filled.image("v2", &[], 9);
    filled.0.manifests.get_mut(&hidden).unwrap().attributes.list = false;
    filled.sign(&hidden, ".sig", 9);
    assert_eq!(purged(filled, r#""orphans": true"#).planned.deletions, []);
    // An image whose tag is the digest of something else is an image.
    let mut filled = Filled::default();
    filled.image("v1", &["v1"], 9);
    filled.image("v2", &[&format!("sha256-{:064}", 7)], 9);
    assert_eq!(purged(filled, r#""orphans": true"#).planned.deletions, []);
}

fn an_index_that_shares_a_platform_keeps_it() {
    let mut filled = Filled::default();
    let [x, y, z] = ["x", "y", "z"].map(|seed| filled.image(seed, &[], 50));
    let stays = filled.index(&[&x, &y], &["v2"], 50);
    let goes = filled.index(&[&x, &z], &[], 50);
    let purged = purged(filled, r#""tags": "*", "keep": 3, "untagged": true"#);
    assert_eq!(purged.manifests, [stays, x.clone(), y].into());
    let reasons: Vec<&str> =
        purged.planned.deletions.iter().map(|deletion| deletion.reason.as_str()).collect();
    assert!(reasons.contains(&"untagged") && purged.planned.deletions[0].digest == goes);
    assert!(purged.why(&x).is_empty(), "what is a part of what stays may lose tags");
}

/// An image that is the newest, an older one that goes, and one manifest that cannot be read.
fn with_odd(odd: impl FnOnce(&mut Filled) -> String) -> (Filled, String) {
    let mut filled = Filled::default();
    filled.image("new", &["2"], 3);
    filled.image("old", &["0"], 95);
    let odd = odd(&mut filled);
    (filled, odd)
}

fn one_manifest_that_cannot_be_read_stays_and_stops_nothing_else() {
    let schema_1 = with_odd(|filled| {
        let name = format!("sha256:{}", "ab".repeat(32));
        filled.add(&name, b"{\"schemaVersion\": 1}".to_vec(), SCHEMA_1, 900_000);
        filled.tag("1", &name, 900);
        name
    });
    let sha512 = with_odd(|filled| {
        let layer =
            json!({"mediaType": LAYER, "digest": format!("sha512:{}", "a".repeat(128)), "size": 1});
        let content = json!({"schemaVersion": 2, "config": blob(CONFIG, "c"), "layers": [layer]});
        filled.put(&content, IMAGE, &["1"], 90)
    });
    let other_type = with_odd(|filled| {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let content = json!({"schemaVersion": 2, "mediaType": docker,
            "config": blob(CONFIG, "c"), "layers": []});
        filled.put(&content, IMAGE, &["1"], 90)
    });
    for ((filled, odd), why) in
        [(schema_1, "Docker schema 1"), (sha512, "sha512:"), (other_type, "of type")]
    {
        let purged = purged(filled, KEEP_1);
        assert_eq!(purged.tags(), ["1", "2"], "{why}");
        assert!(purged.why(&odd).contains(why), "{:?}", purged.planned);
    }
    // It is listed, and is not there when it is read.
    let (filled, ghost) = with_odd(|filled| filled.image("ghost", &[], 200));
    let mut case = Case::of(filled, r#""tags": "*", "keep": 1, "untagged": true"#);
    case.missing = Some(ghost.clone());
    let purged = case.purged();
    assert_eq!((purged.tags(), purged.applied.deleted), (vec!["2"], 1));
    assert!(purged.manifests.contains(&ghost));
    assert!(
        purged.why(&ghost).contains("it is listed, and cannot be read"),
        "{}",
        purged.why(&ghost)
    );
}

/// What an index lists, of which nothing can be read, may be anything.
fn an_index_that_cannot_be_read_stops_its_repository() {
    let (filled, ghost) = with_odd(|filled| filled.index(&[], &["1"], 90));
    let mut case = Case::of(filled, KEEP_1);
    case.missing = Some(ghost.clone());
    let purged = case.purged();
    assert_eq!(purged.tags(), ["0", "1", "2"]);
    let why = purged.planned.left_alone.unwrap();
    assert!(why.contains(&ghost) && why.contains("may need what is here"), "{why}");
}

fn nothing_without_a_tag_goes_while_it_may_be_pushed() {
    let half_pushed = || {
        let mut filled = Filled::default();
        filled.image("v0", &["v0"], 30);
        let old = filled.image("old", &[], 30);
        for seed in ["amd", "arm"] {
            let name = filled.image(seed, &[], 0);
            let content = filled.0.manifests[&name].content.clone();
            filled.add(&name, content, IMAGE, 5);
        }
        (filled, old)
    };
    let (filled, old) = half_pushed();
    let purged_1 = purged(filled, r#""untagged": true"#);
    assert_eq!(purged_1.planned.deletions.len(), 1);
    assert!(!purged_1.manifests.contains(&old));
    let fresh = &purged_1.planned.protected[0].protected_by;
    assert!(fresh.contains("pushed within 1h"), "{fresh}");
    // Who says another span means it; and rules in a file have it as well.
    let rules = |grace: &str| {
        format!("grace = '{grace}'\n[[rules]]\nrepositories = 'app'\nuntagged = true\n")
    };
    assert_eq!(Rules::parse(&rules("2d")).unwrap().grace().to_string(), "2d");
    assert!(Rules::parse(&rules("-1h")).is_err());
}

/// Three images of which two go, by a registry that counts as `count` has it.
fn counted(count: impl Fn(u64, &str) -> u64 + Send + Sync + 'static) -> Purged {
    let mut filled = Filled::default();
    for (days, version) in [(50, "v0"), (49, "v1"), (48, "v2")] {
        filled.image(version, &[version], days);
    }
    let mut case = Case::of(filled, KEEP_1);
    case.change = Arc::new(move |_, body| {
        for name in ["manifestCount", "tagCount"] {
            if let Some(right) = body[name].as_u64() {
                body[name] = count(right, name).into();
            }
        }
    });
    case.purged()
}

fn wrong_and_late_counts_are_nobodys_push() {
    let more = counted(|right, _| right + 1);
    let less = counted(|right, name| right - u64::from(name == "manifestCount"));
    // Three seconds late, by the clock that requests take time by.
    let told: Mutex<Vec<(Virtual, u64, String)>> = Mutex::default();
    let late = counted(move |right, name| {
        let mut told = told.lock().unwrap();
        told.push((Virtual::begin(), right, name.to_owned()));
        let of_it: Vec<&(Virtual, u64, String)> = told.iter().filter(|row| row.2 == name).collect();
        let old = of_it.iter().rev().find(|row| row.0.seconds() >= 3);
        old.unwrap_or(&of_it[0]).1
    });
    for (purged, how) in [(more, "one more"), (less, "one less"), (late, "late")] {
        assert_eq!(purged.tags(), ["v2"], "{how}: {:?} {:?}", purged.planned, purged.applied);
        assert_eq!((purged.applied.deleted, purged.applied.failed.len()), (2, 0), "{how}");
    }
}

fn a_plan_says_what_each_tag_stays_for_and_what_each_blob_frees() {
    let mut filled = per_platform();
    let old = filled.image("1.0a", &["extra"], 40);
    let sim = Sim::new(crate::support::registries::world(0), Conditions::default());
    sim.registries()[0].repositories.insert("app".to_owned(), filled.0);
    let wire = Changing::new(&sim, Arc::new(|_, _| {}));
    let registry = Registry::over(Arc::new(wire), SERVER, entra(SERVER)).unwrap();
    let text = r#"{"rules": [{"repositories": "app", "tags": "1.*", "keep": 1}]}"#;
    let rules = Rules::parse(text).unwrap();
    let state = paused(async { LiveRegistry::new(&registry).state("app").await }).unwrap().unwrap();
    let planned = plan(&state, &rules, &std::collections::BTreeMap::new(), now());
    let said = |tag: &str| planned.kept.iter().find(|row| row.tag == tag).unwrap();
    assert_eq!(said("1.2").reason, "rule 1: image 1 of the 1 newest");
    assert!(said("1.2").changed_at.is_some());
    let untagged = planned.untaggings.iter().find(|row| row.digest == old).unwrap();
    assert_eq!(
        (untagged.tag.as_str(), untagged.protected_by.as_str()),
        ("1.0-amd64", "tagged extra")
    );
    let mut all = [(state, planned)];
    let freed = count_bytes(&mut all, &BTreeSet::new());
    let planned = &all[0].1;
    // Each blob once; the base is in what stays.
    let sum: u64 = planned.deletions.iter().map(|deletion| deletion.frees).sum();
    assert_eq!((freed, planned.bytes_freed), (sum, sum));
    let own = |seed: &str| (seed.len() + "config of ".len() + seed.len()) as u64;
    assert_eq!(freed, own("1.0b") + own("1.1a") + own("1.1b"));
}

fn patterns_that_fit_nothing_say_so() {
    let mut filled = Filled::default();
    filled.image("a", &["release-1"], 30);
    filled.image("b", &["pr-7"], 30);
    let sim = Sim::new(crate::support::registries::world(0), Conditions::default());
    sim.registries()[0].repositories.insert("app".to_owned(), filled.0);
    let wire = Changing::new(&sim, Arc::new(|_, _| {}));
    let registry = Registry::over(Arc::new(wire), SERVER, entra(SERVER)).unwrap();
    let state = paused(async { LiveRegistry::new(&registry).state("app").await }).unwrap().unwrap();
    let text = r#"{"rules": [
        {"repositories": "app", "tags": "pr-*", "keep": 1, "keep-tags": ["relaese-*"]},
        {"repositories": "app", "tags": "feature-*", "keep": 1},
        {"repositories": "ap", "tags": "*", "keep": 1}]}"#;
    let rules = Rules::parse(text).unwrap();
    let notes = notes(&rules, &["app".to_owned(), "web".to_owned()], &[&state]);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0]
            .starts_with("rule 1: keep-tags 'relaese-*' protects nothing; the nearest: release-1")
    );
    assert_eq!(notes[1], "rule 2: no tag fits 'feature-*'");
    assert!(notes[2].starts_with("rule 3: no repository fits 'ap'; the nearest: app"), "{notes:?}");
    // Where none fits at all, that is the error.
    let azure = Azure::start(crate::support::registries::world(6));
    let line = ["registry", "purge", "registry0", "--repository", "ap-1", "--keep", "1"];
    let (code, _, err) = finish(&mut azure.azimg(&line));
    assert!(code == 4 && err.contains("no repository fits 'ap-1'; the nearest: app-1"), "{err}");
}

/// The demo registry, and what `azimg registry purge` makes of one repository with a list of what runs.
fn listed(azure: &Azure, folder: &Path, more: &[&str]) -> (i32, String, String) {
    let server = azure.sim.registries()[0].login_server.clone();
    let rules =
        ["registry", "purge", &server, "--repository", "app-1", "--keep", "0", "--untagged"];
    let line = [&rules[..], &["--ignore-use", "-o", "json"], more].concat();
    finish(azure.azimg(&line).current_dir(folder))
}

fn what_runs_by_a_list_stays_and_a_bad_list_stops_the_purge() {
    let azure = Azure::start(crate::support::registries::world(6));
    let registry = azure.sim.registries()[0].clone();
    let server = &registry.login_server;
    let (tag, used) = registry.repositories["app-1"].tags.iter().next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pods = json!({"items": [{"kind": "Pod", "metadata": {"namespace": "shop", "name": "web-1"},
        "spec": {"containers": [{"image": format!("{server}/app-1:{tag}")}]}}]});
    let good = file("pods.json", &pods.to_string());
    let digests = file("digests.txt", &used.digest);
    for list in [&good, &digests] {
        let (code, out, err) = listed(&azure, folder.path(), &["--in-use", list]);
        assert_eq!(code, 0, "{err}");
        let plan: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(plan["inUse"], json!([list]));
        let rows = plan["repositories"][0]["protected"].as_array().unwrap();
        let row = rows.iter().find(|row| row["digest"] == used.digest.as_str()).unwrap();
        assert!(row["protectedBy"].as_str().unwrap().starts_with("in use by "), "{row}");
        assert!(plan["deletions"].as_u64().unwrap() > 0, "{plan}");
        assert!(err.contains("stays: in use by "), "{err}");
    }
    // What is no list, and what may not be true any more, stops everything before anything is asked.
    let old = file("old.txt", &format!("{server}/app-1:{tag}"));
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let nowhere = folder.path().join("nowhere.txt");
    for (list, why) in [
        (file("empty.txt", ""), "names no image of"),
        (file("other.txt", "other.azurecr.io/app-1:1\n"), "names no image of"),
        (file("cut.json", "{\"items\": [{"), "cut off"),
        (file("digest.txt", &digest(b"nothing")), "none of its 1 digests"),
        (old.clone(), "longer ago than 1d"),
        (nowhere.to_str().unwrap().to_owned(), "nowhere.txt"),
    ] {
        let (code, out, err) = listed(&azure, folder.path(), &["--in-use", &list, "--yes"]);
        assert!(code != 0 && out.is_empty() && err.contains(why), "{why}: {err}");
    }
    assert_eq!(azure.asked("DeleteManifest"), 0);
    let (code, _, err) =
        listed(&azure, folder.path(), &["--in-use", &old, "--in-use-max-age", "36500d"]);
    assert_eq!(code, 0, "{err}");
    // A plan that was made with a list is applied with one; the setting names one as well.
    let plan = folder.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let (code, _, err) = listed(&azure, folder.path(), &["--in-use", &good, "--plan", plan]);
    assert_eq!(code, 0, "{err}");
    let apply = ["registry", "purge", server, "--apply", plan, "--ignore-use", "-o", "json"];
    let (code, _, err) = finish(azure.azimg(&apply).current_dir(folder.path()));
    assert!(code == 2 && err.contains("give such a list again"), "{err}");
    let mut command = azure.azimg(&apply);
    let applied = json(command.current_dir(folder.path()).env("AZIMG_IN_USE", &good));
    assert!(applied["deleted"].as_u64().unwrap() > 0, "{applied}");
    let left = applied["leftAlone"].as_array().unwrap();
    let name = format!("app-1@{}", used.digest);
    assert!(left.iter().any(|row| row["name"] == name.as_str()), "{applied}");
    let after = azure.sim.registries()[0].repositories["app-1"].clone();
    assert_eq!(after.tags[tag].digest, used.digest);
}

fn what_an_index_needs_is_deleted_by_whoever_says_so() {
    let azure = Azure::start(crate::support::registries::world(0));
    let server = azure.sim.registries()[0].login_server.clone();
    let mut filled = Filled::default();
    let amd = filled.image("amd", &[], 9);
    let arm = filled.image("arm", &[], 9);
    let alone = filled.image("alone", &["old"], 9);
    filled.index(&[&amd, &arm], &["1.0", "latest"], 9);
    filled.sign(&amd, ".sig", 9);
    azure.sim.registries()[0].repositories.insert("app".to_owned(), filled.0);
    let delete = |name: &str, more: &[&str]| {
        let reference = format!("{server}/app{name}");
        let line = [&["registry", "delete", &reference, "-o", "json"], more].concat();
        finish(&mut azure.azimg(&line))
    };
    let (code, out, _) = delete(&format!("@{amd}"), &["--dry-run"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, shown["neededBy"].as_array().unwrap().len()), (0, 1), "{shown}");
    assert_eq!(shown["referrers"], json!([format!("{}.sig", amd.replace(':', "-"))]));
    for (name, why) in [
        (format!("@{amd}"), "it is a part of 1.0 (sha256:"),
        (":latest".to_owned(), "the tag latest goes"),
        (String::new(), "is a whole repository, with 5 manifests and 4 tags"),
    ] {
        let (code, _, err) = delete(&name, &[]);
        assert!(code == 2 && err.contains(why) && err.contains("say --yes"), "{err}");
    }
    assert_eq!(azure.asked("DeleteManifest") + azure.asked("DeleteTag"), 0);
    // What nothing depends on is deleted as it was, and all else by whoever says so.
    assert_eq!(delete(&format!("@{alone}"), &[]).0, 0);
    assert_eq!(delete(":1.0", &[]).0, 0);
    assert_eq!(delete(":latest", &["--yes"]).0, 0);
    assert_eq!(delete(&format!("@{amd}"), &["--yes"]).0, 0);
    let left = azure.sim.registries()[0].repositories["app"].clone();
    assert_eq!((left.manifests.len(), left.tags.len()), (3, 1));
}

fn a_crawl_does_not_ask_again_for_what_can_never_be_read() {
    let azure = Azure::start(crate::support::registries::world(0));
    let mut filled = Filled::default();
    let name = format!("sha256:{}", "ab".repeat(32));
    filled.add(&name, b"{\"schemaVersion\": 1}".to_vec(), SCHEMA_1, 900);
    filled.tag("1", &name, 9);
    let other = |of: &str| {
        json!({"digest": format!("sha512:{}", of.repeat(64)), "size": 1,
        "mediaType": CONFIG})
    };
    let content = json!({"schemaVersion": 2, "config": other("a1"), "layers": [other("b2")]});
    filled.put(&content, IMAGE, &["2"], 9);
    azure.sim.registries()[0].repositories.insert("app".to_owned(), filled.0);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let crawled = || {
        let line = ["crawl", "--source", "registry", "--store", store];
        let (code, _, err) = finish(&mut azure.azimg(&line));
        assert_eq!(code, 0, "{err}");
        azure.asked("GetManifest")
    };
    assert_eq!((crawled(), crawled()), (1, 1));
}
