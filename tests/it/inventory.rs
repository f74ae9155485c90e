//! Container registries in the catalog: every manifest is a row, and says what is so.

use crate::support::inventory::{rows, snapshot};
use crate::support::registries::world;
use crate::support::{Azure, finish, json, read_json, read_ndjson};
use crate::tests;
use azimg::testing::sim::registries::{SimManifest, SimRegistry};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

tests![
    every_manifest_is_a_row_and_is_read_once,
    the_details_option_decides_which_manifests_are_read,
    a_repository_that_is_too_big_for_one_item_is_split,
    tags_missing_from_manifests_are_in_the_catalog,
    rows_of_denied_registries_are_kept_as_stale_and_reported,
    lookups_find_container_images,
    registries_that_are_named_need_no_subscription,
];

/// Crawls the registries of `azure` into `store`; what the command tells.
fn crawl(azure: &Azure, store: &Path, more: &[&str]) -> Value {
    let store = store.to_str().unwrap();
    let line = [&["crawl", "--source", "registry", "-o", "json", "--store", store], more].concat();
    let (_, out, err) = finish(&mut azure.azimg(&line));
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
}

fn content(manifest: &SimManifest) -> Value {
    serde_json::from_slice(&manifest.content).unwrap()
}

/// The rows that a registry should have, worked out from what it keeps.
fn expected(registry: &SimRegistry) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, repository) in &registry.repositories {
        let mut subjects: BTreeMap<String, BTreeMap<&String, Value>> = BTreeMap::new();
        let mut tagged: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (other, found) in &repository.manifests {
            let found = content(found);
            if let Some(subject) = found["subject"]["digest"].as_str() {
                let referrers = subjects.entry(subject.to_owned()).or_default();
                referrers.insert(other, found["artifactType"].clone());
            }
        }
        for (tag, found) in &repository.tags {
            tagged.entry(&found.digest).or_default().push(tag);
        }
        for (digest, manifest) in &repository.manifests {
            let tags = tagged.remove(digest).unwrap_or_default();
            let referrers = subjects.remove(digest).unwrap_or_default();
            let mut findings: BTreeMap<String, u32> = BTreeMap::new();
            let of_it = registry.findings.iter().filter(|(r, d, _)| r == name && d == digest);
            for severity in of_it.filter_map(|(_, _, severity)| *severity) {
                *findings.entry(severity.to_lowercase()).or_default() += 1;
            }
            let is_artifact =
                manifest.platform.is_none() && manifest.media_type.contains("manifest");
            let read = !tags.is_empty() || is_artifact;
            let document = content(manifest);
            let blobs = document["layers"].as_array().into_iter().flatten();
            let blobs = blobs.chain(document.get("config"));
            let layers: BTreeMap<&str, u64> = blobs
                .map(|blob| (blob["digest"].as_str().unwrap(), blob["size"].as_u64().unwrap()))
                .collect();
            all.push(json!({
                "id": format!("{}/{name}@{digest}", registry.login_server),
                "registryId": registry.id(),
                "location": registry.location,
                "tags": tags,
                "bytes": manifest.size,
                "canDelete": manifest.attributes.delete,
                "canWrite": manifest.attributes.write,
                "referrers": referrers,
                "findings": findings,
                "isContentKnown": read,
                "layers": if read { json!(layers) } else { json!({}) },
                "artifactType": if read { document["artifactType"].clone() } else { Value::Null },
            }));
        }
    }
    all.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    all
}

fn only(mut row: Value, columns: &Value) -> Value {
    let columns = columns.as_object().unwrap();
    row.as_object_mut().unwrap().retain(|name, _| columns.contains_key(name));
    row
}

fn check(azure: &Azure, store: &Path) {
    let mut wanted: Vec<Value> = azure.sim.registries().iter().flat_map(expected).collect();
    wanted.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    let found = rows(store);
    assert_eq!(found.len(), wanted.len());
    for (row, wanted) in found.into_iter().zip(wanted) {
        assert_eq!(only(row, &wanted), wanted);
    }
}

fn every_manifest_is_a_row_and_is_read_once() {
    let azure = Azure::start(world(90));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let reported = crawl(&azure, store, &[]);
    assert_eq!(reported["state"], "complete", "{reported}");
    check(&azure, store);
    // Once each: the lists of registries and repositories, two lists for each repository, what
    // scanners found, and what is worth reading.
    assert_eq!(azure.asked("ListRegistries"), 1);
    assert_eq!(azure.asked("ListRepositories"), 2);
    assert_eq!(azure.asked("ListManifests"), 180);
    assert_eq!(azure.asked("ListTags"), 180);
    assert_eq!(azure.asked("QueryResources"), 2);
    let read = rows(store).iter().filter(|row| row["isContentKnown"] == true).count() as u64;
    assert_eq!(azure.asked("GetManifest"), read);
    // One platform for each image, those of its parts for an index.
    for row in rows(store) {
        let is_index = row["mediaType"].as_str().unwrap().contains("index");
        if is_index && row["isContentKnown"] == true {
            assert_eq!(row["platforms"], json!(["linux/amd64", "linux/arm64"]));
        } else if row["os"] == "linux" {
            assert_eq!(row["platforms"].as_array().unwrap().len(), 1);
        }
    }
    // Tags move, a manifest goes, a lock is set.
    let (name, moved, gone) = {
        let mut all = azure.sim.registries();
        let server = all[0].login_server.clone();
        let mut repositories = all[0].repositories.iter_mut();
        let (name, repository) =
            repositories.find(|(_, r)| r.manifests.len() > 4 && r.tags.len() > 2).unwrap();
        let digest = repository.tags.values().next().unwrap().digest.clone();
        let tag = repository.tags.values().next().unwrap().clone();
        repository.tags.insert("moved".into(), tag);
        repository.manifests.get_mut(&digest).unwrap().attributes.write = false;
        let tagged: BTreeSet<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
        let gone = repository.manifests.keys().find(|digest| !tagged.contains(digest));
        let gone = gone.unwrap().clone();
        repository.manifests.remove(&gone);
        (format!("{server}/{name}"), digest, gone)
    };
    let reported = crawl(&azure, store, &[]);
    assert_eq!(reported["state"], "complete", "{reported}");
    check(&azure, store);
    assert_eq!(azure.asked("GetManifest"), read, "content never changes");
    let changes = read_ndjson(&snapshot(store).join("changes.ndjson.zst"));
    let of = |digest: &str| -> BTreeSet<&str> {
        let id = format!("{name}@{digest}");
        let rows = changes.iter().filter(|row| row["id"] == id.as_str());
        rows.map(|row| row["change"].as_str().unwrap()).collect()
    };
    assert_eq!(of(&moved), BTreeSet::from(["tags", "attributes"]));
    assert_eq!(of(&gone), BTreeSet::from(["removed"]));
}

fn the_details_option_decides_which_manifests_are_read() {
    let azure = Azure::start(world(9));
    let folder = tempfile::tempdir().unwrap();
    for (details, share) in [("none", 0), ("all", 1)] {
        let store = folder.path().join(details);
        crawl(&azure, &store, &["--details", details]);
        let rows = rows(&store);
        let read = rows.iter().filter(|row| row["isContentKnown"] == true).count();
        assert_eq!(read, rows.len() * share, "{details}");
    }
}

fn a_repository_that_is_too_big_for_one_item_is_split() {
    let azure = Azure::start(world(3));
    {
        let mut all = azure.sim.registries();
        let repository = all[0].repositories.get_mut("app-1").unwrap();
        let template = repository.manifests.values().find(|m| m.platform.is_some()).unwrap();
        let template = template.clone();
        for number in 0..9_500_u32 {
            let digest = format!("sha256:{number:064x}");
            repository.manifests.insert(digest, template.clone());
        }
        // More tags than a manifest tells, on one that is in none of the first items.
        let tag = repository.tags.values().next().unwrap().clone();
        for number in 0..1_500 {
            repository.tags.insert(format!("ci-{number}"), tag.clone());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let reported = crawl(&azure, folder.path(), &[]);
    assert_eq!(reported["state"], "complete", "{reported}");
    check(&azure, folder.path());
    // Ten pages of a thousand, and none of them twice.
    assert_eq!(azure.asked("ListManifests"), 5 + 10);
    assert_eq!(azure.asked("ListTags"), 5 + 2);
}

/// ACR tells some tags of a manifest with it; the others are in the list of tags alone.
fn tags_missing_from_manifests_are_in_the_catalog() {
    let azure = Azure::start(world(12));
    for registry in azure.sim.registries().iter_mut() {
        registry.most_tags = Some(1);
        let repository = registry.repositories.get_mut("app-1").unwrap();
        let tag = repository.tags.values().next().unwrap().clone();
        repository.tags.extend((0..40).map(|number| (format!("ci-{number}"), tag.clone())));
    }
    let folder = tempfile::tempdir().unwrap();
    let reported = crawl(&azure, folder.path(), &[]);
    assert_eq!(reported["state"], "complete", "{reported}");
    check(&azure, folder.path());
    let server = azure.running.registries[0].clone();
    let (digest, all) = {
        let registries = azure.sim.registries();
        let repository = &registries[0].repositories["app-1"];
        let digest = repository.tags["ci-1"].digest.clone();
        let of_it = repository.tags.iter().filter(|(_, tag)| tag.digest == digest);
        let all: Vec<String> = of_it.map(|(name, _)| name.clone()).collect();
        (digest, all)
    };
    let app = format!("{server}/app-1");
    let listed = json(&mut azure.azimg(&["registry", "manifests", &app, "-o", "json"]));
    let row = listed.as_array().unwrap().iter().find(|row| row["digest"] == digest.as_str());
    assert_eq!(row.unwrap()["tags"], json!(all));
    let shown = format!("{app}@{digest}");
    let shown = json(&mut azure.azimg(&["registry", "show", &shown, "-o", "json"]));
    assert_eq!(shown["tags"], json!(all));
}

fn rows_of_denied_registries_are_kept_as_stale_and_reported() {
    let azure = Azure::start(world(6));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    crawl(&azure, store, &[]);
    let before = rows(store);
    let subscription = azure.sim.registries()[0].subscription.clone();
    azure.sim.organisation().denied.insert(subscription.clone());
    let reported = crawl(&azure, store, &[]);
    assert_eq!(reported["state"], "partial", "{reported}");
    let after = rows(store);
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|row| row["stale"] == true));
    let coverage = read_json(&snapshot(store).join("coverage.json"));
    let line = &coverage["scopes"][0];
    assert_eq!((&line["subscription"], &line["state"]), (&json!(subscription), &json!("denied")));
    assert_eq!(line["rows"], after.len());
    // A registry that is deleted takes its rows with it.
    azure.sim.organisation().denied.clear();
    let gone = azure.sim.registries().pop().unwrap();
    let reported = crawl(&azure, store, &[]);
    assert_eq!(reported["state"], "complete", "{reported}");
    check(&azure, store);
    let changes = read_ndjson(&snapshot(store).join("changes.ndjson.zst"));
    let removed = changes.iter().filter(|row| row["change"] == "removed");
    assert_eq!(removed.count(), expected(&gone).len());
}

fn lookups_find_container_images() {
    let azure = Azure::start(world(12));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    crawl(&azure, folder.path(), &[]);
    let all = rows(folder.path());
    let list = |more: &[&str]| {
        json(&mut crate::support::azimg(
            &[&["images", "list", "-o", "json", "--store", store], more].concat(),
        ))
    };
    assert_eq!(list(&["--kind", "container-manifest"]).as_array().unwrap().len(), all.len());
    let latest = list(&["--repository", "app-1", "--exact", "--tag", "latest"]);
    let latest = latest.as_array().unwrap();
    assert!(!latest.is_empty());
    for row in latest {
        assert_eq!(row["repository"], "app-1");
        assert!(row["tags"].as_array().unwrap().contains(&json!("latest")));
    }
    let id = all[0]["id"].as_str().unwrap();
    let shown =
        json(&mut crate::support::azimg(&["images", "show", id, "--store", store, "-o", "json"]));
    assert_eq!(shown, all[0]);
    let server = all[0]["loginServer"].as_str().unwrap();
    let line = ["registry", "repositories", server, "--storage", "--store", store, "-o", "json"];
    let storage = json(&mut crate::support::azimg(&line));
    let layers: BTreeMap<&String, u64> = all
        .iter()
        .filter(|row| row["loginServer"] == server)
        .flat_map(|row| row["layers"].as_object().unwrap())
        .map(|(digest, size)| (digest, size.as_u64().unwrap()))
        .collect();
    let exclusive: u64 =
        storage.as_array().unwrap().iter().map(|row| row["exclusive"].as_u64().unwrap()).sum();
    let shared: u64 = storage
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["shared"].as_u64().unwrap())
        .max()
        .unwrap();
    assert_eq!(exclusive + shared, layers.values().sum::<u64>());
}

fn registries_that_are_named_need_no_subscription() {
    let azure = Azure::start(world(4));
    let folder = tempfile::tempdir().unwrap();
    let named = azure.running.registries[1].clone();
    let store = folder.path().to_str().unwrap();
    let mut command =
        azure.azimg(&["crawl", "--source", "registry", "-o", "json", "--store", store]);
    let reported = json(command.env("AZIMG_REGISTRIES", &named));
    assert_eq!(reported["state"], "complete", "{reported}");
    assert_eq!(azure.asked("ListRegistries"), 0);
    let mut command = azure.azimg(&["crawl", "--source", "registry", "--store", store]);
    let (code, _, err) = finish(command.env("AZIMG_REGISTRIES", "example"));
    assert!(code == 2 && err.contains("example.azurecr.io"), "{err}");
    let found = rows(folder.path());
    assert!(!found.is_empty());
    assert!(found.iter().all(|row| row["loginServer"] == named.as_str()));
}
