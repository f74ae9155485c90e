//! Purges by the command line, of the registries of the simulated Azure.

use crate::support::changing::Changing;
use crate::support::filled::{CONFIG, Filled, IMAGE, SCHEMA_1, SERVER};
use crate::support::layout::digest;
use crate::support::registries::entra;
use crate::support::{Azure, finish, json, paused};
use crate::tests;
use azimg::testing::purge::{LiveRegistry, PurgeTarget, Rules, notes};
use azimg::testing::registry::Registry;
use azimg::testing::sim::{Conditions, Sim};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

tests![
    patterns_that_match_nothing_are_reported,
    images_in_the_usage_list_are_kept_and_a_bad_list_stops_the_purge,
    parts_of_an_index_are_deleted_only_with_yes,
    a_crawl_requests_unreadable_manifests_once,
];

fn patterns_that_match_nothing_are_reported() {
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
    assert_eq!(notes[1], "rule 2: no tag matches 'feature-*'");
    assert!(
        notes[2].starts_with("rule 3: no repository matches 'ap'; the nearest: app"),
        "{notes:?}"
    );
    // Where none fits at all, that is the error.
    let azure = Azure::start(crate::support::registries::world(6));
    let line = ["registry", "purge", "registry0", "--repository", "ap-1", "--keep", "1"];
    let (code, _, err) = finish(&mut azure.azimg(&line));
    assert!(code == 4 && err.contains("no repository matches 'ap-1'; the nearest: app-1"), "{err}");
}

/// The demo registry, and what `azimg registry purge` makes of one repository with a list of what runs.
fn listed(azure: &Azure, folder: &Path, more: &[&str]) -> (i32, String, String) {
    let server = azure.sim.registries()[0].login_server.clone();
    let rules =
        ["registry", "purge", &server, "--repository", "app-1", "--keep", "0", "--untagged"];
    let line = [&rules[..], &["--ignore-use", "-o", "json"], more].concat();
    finish(azure.azimg(&line).current_dir(folder))
}

fn images_in_the_usage_list_are_kept_and_a_bad_list_stops_the_purge() {
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
        assert!(err.contains("is kept: in use by "), "{err}");
    }
    // What is no list, and what may not be true any more, stops everything before anything is asked.
    let old = file("old.txt", &format!("{server}/app-1:{tag}"));
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let nowhere = folder.path().join("nowhere.txt");
    for (list, why) in [
        (file("empty.txt", ""), "names no image of"),
        (file("other.txt", "other.azurecr.io/app-1:1\n"), "names no image of"),
        (file("cut.json", "{\"items\": [{"), "truncated"),
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
    assert!(code == 2 && err.contains("with a list of what runs now"), "{err}");
    let mut command = azure.azimg(&apply);
    let applied = json(command.current_dir(folder.path()).env("AZIMG_IN_USE", &good));
    assert!(applied["deleted"].as_u64().unwrap() > 0, "{applied}");
    let left = applied["leftAlone"].as_array().unwrap();
    let name = format!("app-1@{}", used.digest);
    assert!(left.iter().any(|row| row["name"] == name.as_str()), "{applied}");
    let after = azure.sim.registries()[0].repositories["app-1"].clone();
    assert_eq!(after.tags[tag].digest, used.digest);
}

fn parts_of_an_index_are_deleted_only_with_yes() {
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
        (":latest".to_owned(), "the tag latest is deleted"),
        (String::new(), "is a whole repository, with 5 manifests and 4 tags"),
    ] {
        let (code, _, err) = delete(&name, &[]);
        assert!(code == 2 && err.contains(why) && err.contains("add --yes"), "{err}");
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

fn a_crawl_requests_unreadable_manifests_once() {
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
