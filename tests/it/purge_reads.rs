//! Purges of repositories that cannot be listed or read as a whole: what is unknown stays, and is reported.

use crate::support::changing::{Change, Changing};
use crate::support::paused;
use crate::support::plans::written_down;
use crate::support::shop::now;
use crate::tests;
use azimg::testing::format::ledger::Ledger;
use azimg::testing::purge::{
    Applied, ImageUsage, LiveRegistry, PurgeTarget, RepositoryPlan, Rules, apply, plan,
};
use azimg::testing::registry::Registry;
use azimg::testing::sim::registries::SimRepository;
use azimg::testing::sim::{Conditions, Sim};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

tests![
    manifests_hidden_from_lists_are_kept_with_their_parts,
    unreadable_manifests_are_protected_and_reported,
    a_tag_missing_from_lists_still_protects_its_image,
    manifests_unreadable_at_the_last_check_are_kept,
];

/// What is hidden from lists stays with what it needs, where anything names it; else nothing goes that has no tag.
fn manifests_hidden_from_lists_are_kept_with_their_parts() {
    let (_, repository) = shelf();
    let mut named = 0;
    for (digest, manifest) in &repository.manifests {
        let (sim, _) = shelf();
        {
            let mut all = sim.registries();
            let repository = all[0].repositories.get_mut("app-1").unwrap();
            repository.manifests.get_mut(digest).unwrap().attributes.list = false;
        }
        let (planned, _) = purged(&sim, Arc::new(|_, _| {}), false);
        let goes: BTreeSet<&str> = planned.deletions.iter().map(|d| d.digest.as_str()).collect();
        assert!(!goes.contains(digest.as_str()), "{digest}");
        let content: Value = serde_json::from_slice(&manifest.content).unwrap();
        let said = planned.protected.iter().find(|row| row.digest == *digest);
        let Some(said) = said else {
            assert!(planned.deletions.iter().all(|row| !row.tags.is_empty()), "{planned:?}");
            assert!(
                planned.protected.iter().any(|row| row.protected_by.contains("more manifests"))
            );
            continue;
        };
        named += 1;
        let is_said = ["locked", "hidden from lists"].contains(&said.protected_by.as_str());
        assert!(is_said, "{said:?}");
        let parts = content["manifests"].as_array().into_iter().flatten();
        for needed in parts.chain(content.get("subject")) {
            assert!(!goes.contains(needed["digest"].as_str().unwrap()), "{digest}");
        }
    }
    assert!(named > 0);
}

const SERVER: &str = "registry0.azurecr.io";

/// A simulated registry with a repository `app-1`, and that repository.
fn shelf() -> (Arc<Sim>, SimRepository) {
    let sim = Sim::new(crate::support::registries::world(6), Conditions::default());
    let repository = sim.registries()[0].repositories["app-1"].clone();
    (sim, repository)
}

fn everything() -> Rules {
    let text = r#"{"rules": [{"repositories": "*", "tags": "*", "keep": 0, "untagged": true}]}"#;
    Rules::parse(text).unwrap()
}

/// What of `app-1` would go by those rules, as `change` has what the registry says; and what goes of
/// what would go as it is, if it is to be `applied` then.
fn purged(sim: &Arc<Sim>, change: Change, applied: bool) -> (RepositoryPlan, Option<Applied>) {
    let registry = |change: Change| {
        let wire = Changing::new(sim, change);
        Registry::over(Arc::new(wire), SERVER, crate::support::registries::entra(SERVER)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        let as_it_is: Change = Arc::new(|_, _| {});
        let planning = if applied { as_it_is } else { Arc::clone(&change) };
        let registry_then = registry(planning);
        let live = LiveRegistry::new(&registry_then);
        let state = live.state("app-1").await.unwrap().unwrap();
        let planned = plan(&state, &everything(), &BTreeMap::new(), now());
        if !applied {
            return (planned, None);
        }
        let whole = written_down(planned.clone(), everything(), now());
        let mut ledger = Ledger::open(&folder.path().join("ledger"), "PLAN").unwrap();
        let registry_now = registry(change);
        let live = LiveRegistry::new(&registry_now);
        let tell = |_: &str, _: usize| {};
        let done =
            apply(&live, &whole, &ImageUsage::default(), &mut ledger, None, &tell).await.unwrap();
        (planned, Some(done))
    })
}

/// A tagged image that would go, with its tag.
fn victim(sim: &Arc<Sim>, repository: &SimRepository) -> (String, String) {
    let (planned, _) = purged(sim, Arc::new(|_, _| {}), false);
    let goes = |digest: &str| planned.deletions.iter().any(|deletion| deletion.digest == digest);
    let mut tags = repository.tags.iter();
    let (tag, found) = tags.find(|(_, tag)| goes(&tag.digest)).expect("a tagged image goes");
    (found.digest.clone(), tag.clone())
}

/// A member by which it is decided what goes, in another form: what it is of stays, with all that it needs, and
/// the plan says why.
fn unreadable_manifests_are_protected_and_reported() {
    type Odd = fn(&mut Value);
    let (sim, repository) = shelf();
    let (digest, tag) = victim(&sim, &repository);
    let of_rows: [(&str, Odd); 8] = [
        ("deleteEnabled", |row| row["changeableAttributes"]["deleteEnabled"] = "true".into()),
        ("writeEnabled", |row| row["changeableAttributes"]["writeEnabled"] = Value::Null),
        ("readEnabled", |row| row["changeableAttributes"]["readEnabled"] = 1.into()),
        ("changeableAttributes", |row| row["changeableAttributes"] = Value::Null),
        ("whether it is locked", |row| {
            row["changeableAttributes"].as_object_mut().unwrap().remove("writeEnabled");
        }),
        ("lastUpdateTime", |row| row["lastUpdateTime"] = 7.into()),
        ("createdTime", |row| row["createdTime"] = "long ago".into()),
        ("when it was last changed", |row| row["lastUpdateTime"] = Value::Null),
    ];
    for (list, member, name) in [("manifests", "digest", &digest), ("tags", "name", &tag)] {
        for (why, odd) in of_rows {
            let name = name.clone();
            let change: Change = Arc::new(move |_, body| {
                let rows = body[list].as_array_mut().into_iter().flatten();
                rows.filter(|row| row[member] == name.as_str()).for_each(odd);
            });
            let (planned, _) = purged(&sim, change, false);
            let said = planned.protected.iter().find(|row| row.digest == digest);
            let said = said.unwrap_or_else(|| panic!("{list} {why}: {planned:?}"));
            assert!(said.protected_by.contains(why), "{list}: {said:?}");
            assert!(planned.deletions.iter().all(|row| row.digest != digest), "{list} {why}");
        }
    }
    let in_general: [(&str, Odd); 6] = [
        ("tagCount", |body| body["tagCount"] = "5".into()),
        ("its number of manifests and tags", |body| {
            body.as_object_mut().unwrap().remove("manifestCount");
        }),
        ("deleteEnabled", |body| body["changeableAttributes"]["deleteEnabled"] = Value::Null),
        ("manifests cannot be read", |body| body["manifests"][0]["digest"] = 7.into()),
        ("tags cannot be read", |body| body["tags"][0]["name"] = Value::Null),
        ("tags cannot be read", |body| body["tags"][0] = Value::Null),
    ];
    for (why, odd) in in_general {
        let change: Change = Arc::new(move |path, body| {
            let is_list = body["manifests"].is_array() || body["tags"].is_array();
            if is_list == why.contains("cannot be read") && path.contains("/app-1") {
                let list = if body["manifests"].is_array() { "manifests" } else { "tags" };
                if !is_list || why.starts_with(list) {
                    odd(body);
                }
            }
        });
        let (planned, _) = purged(&sim, change, false);
        assert!(planned.deletions.is_empty(), "{why}");
        assert!(planned.left_alone.as_deref().unwrap().contains(why), "{planned:?}");
    }
}

/// What a manifest's own list of tags leaves out is in the list of tags, and what that leaves out is no less a tag.
fn a_tag_missing_from_lists_still_protects_its_image() {
    let (sim, repository) = shelf();
    let (digest, tag) = victim(&sim, &repository);
    sim.registries()[0].most_tags = Some(0);
    let untagged = Rules::parse(r#"{"rules": [{"repositories": "*", "untagged": true}]}"#).unwrap();
    let registry = Registry::over(
        Arc::new(Changing::new(&sim, Arc::new(|_, _| {}))),
        SERVER,
        crate::support::registries::entra(SERVER),
    );
    let registry = registry.unwrap();
    let planned = paused(async {
        let live = LiveRegistry::new(&registry);
        let state = live.state("app-1").await.unwrap().unwrap();
        plan(&state, &untagged, &BTreeMap::new(), now())
    });
    let tagged: BTreeSet<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
    assert!(!planned.deletions.is_empty());
    assert!(planned.deletions.iter().all(|row| !tagged.contains(&row.digest)), "{planned:?}");
    // What is to go goes with all its tags, told or not.
    let (planned, applied) = purged(&sim, Arc::new(|_, _| {}), true);
    assert_eq!(applied.unwrap().deleted, planned.deletions.len());
    // A list of tags that lacks one which the manifest tells.
    let (sim, _) = shelf();
    let change: Change = Arc::new(move |path, body| {
        if let (true, Some(rows)) = (path.ends_with("/_tags"), body["tags"].as_array_mut()) {
            rows.retain(|row| row["name"] != tag.as_str());
        }
        if let Some(count) = body["tagCount"].as_u64() {
            body["tagCount"] = (count - 1).into();
        }
    });
    let (planned, _) = purged(&sim, change, false);
    let said = planned.protected.iter().find(|row| row.digest == digest).unwrap();
    assert!(said.protected_by.contains("not in the list of tags"), "{said:?}");
}

/// The last look at a manifest counts, and what it cannot read stays.
fn manifests_unreadable_at_the_last_check_are_kept() {
    let (sim, repository) = shelf();
    let (digest, _) = victim(&sim, &repository);
    let looked_at = format!("/_manifests/{digest}");
    let change: Change = Arc::new(move |path, body| {
        if path.ends_with(&looked_at) {
            body["manifest"]["changeableAttributes"]["writeEnabled"] = "true".into();
        }
    });
    let (planned, applied) = purged(&sim, change, true);
    let applied = applied.unwrap();
    assert!(planned.deletions.iter().any(|row| row.digest == digest));
    assert!(applied.skipped.iter().any(|row| row.name.ends_with(&digest)), "{applied:?}");
    let after = sim.registries()[0].repositories["app-1"].clone();
    assert!(after.manifests.contains_key(&digest));
    assert!(applied.deleted > 0 && after.manifests.len() < repository.manifests.len());
}
