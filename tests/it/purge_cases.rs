//! Repositories as their users have them, purged: what stays and what goes of each is written down beside it.

use crate::support::changing::Changing;
use crate::support::filled::{
    CONFIG, Case, Filled, IMAGE, LAYER, Purged, SCHEMA_1, SERVER, blob, now, purged,
};
use crate::support::registries::entra;
use crate::support::{Virtual, paused};
use crate::tests;
use azimg::testing::purge::{LiveRegistry, PurgeTarget, Rules, count_bytes, plan};
use azimg::testing::registry::Registry;
use azimg::testing::sim::{Conditions, Sim};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

tests![
    indexes_and_their_platforms_count_as_one_image,
    of_the_same_moment_the_highest_version_is_the_newest,
    build_caches_and_protected_images_do_not_count_as_kept,
    signatures_of_deleted_images_are_deleted_by_rule,
    an_index_that_shares_a_platform_keeps_it,
    one_manifest_that_cannot_be_read_stays_and_stops_nothing_else,
    an_index_that_cannot_be_read_stops_its_repository,
    untagged_manifests_are_kept_while_a_push_may_be_under_way,
    wrong_and_late_counts_are_not_taken_for_a_push,
    a_plan_says_what_each_tag_stays_for_and_what_each_blob_frees,
];

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

fn indexes_and_their_platforms_count_as_one_image() {
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

fn build_caches_and_protected_images_do_not_count_as_kept() {
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

fn signatures_of_deleted_images_are_deleted_by_rule() {
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
    assert!(
        purged_2.planned.deletions[0].reason.ends_with("which no longer exists, older than 30d")
    );
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
        [(schema_1, "Docker schema 1"), (sha512, "sha512:"), (other_type, "declares the type")]
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
        purged.why(&ghost).contains("it is listed, but cannot be read"),
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
    assert!(why.contains(&ghost) && why.contains("may depend on other manifests"), "{why}");
}

fn untagged_manifests_are_kept_while_a_push_may_be_under_way() {
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

fn wrong_and_late_counts_are_not_taken_for_a_push() {
    let more = counted(|right, _| right + 1);
    let less = counted(|right, name| right - u64::from(name == "manifestCount"));
    // Three seconds late, by the clock that requests take time by.
    let reported: Mutex<Vec<(Virtual, u64, String)>> = Mutex::default();
    let late = counted(move |right, name| {
        let mut reported = reported.lock().unwrap();
        reported.push((Virtual::begin(), right, name.to_owned()));
        let of_it: Vec<&(Virtual, u64, String)> =
            reported.iter().filter(|row| row.2 == name).collect();
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
