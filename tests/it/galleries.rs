//! Galleries, from the crawl to the lookups: whole, exact, and never short of a row in silence.

use crate::support::galleries::{TENANT, crawl, rows, start, tenant};
use crate::support::{Azure, finish, json, read_json, timeless};
use crate::tests;
use azimg::testing::sim::organisation::{SimDefinition, SimGallery, SimVersion};
use azimg::testing::sim::{Conditions, Organisation, OrganisationSize, Scale, Sim, generate};
use azimg::testing::source::locations::short_name;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

tests![
    a_tenant_is_crawled_exactly_and_coverage_lists_what_is_denied,
    a_large_tenant_is_crawled_exactly_in_few_requests,
    the_latest_follows_the_rules_in_every_region,
    unreadable_galleries_are_carried_and_deleted_ones_removed,
    a_second_run_requests_no_known_replication,
    a_run_of_one_source_keeps_the_rows_of_the_others,
    under_quota_the_rows_are_the_same,
];

fn coverage(store: &Path) -> Vec<Value> {
    let current = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    let coverage = read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    coverage["scopes"].as_array().unwrap().clone()
}

fn regions(version: &SimVersion) -> BTreeSet<String> {
    version.regions.iter().map(|region| short_name(region["name"].as_str().unwrap())).collect()
}

/// What the rows of an organisation must say, by id in lower case, worked out from what it keeps and
/// not from what is answered.
fn expected(all: &Organisation, visible: &BTreeSet<String>) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    let mut add =
        |id: String, kind: &str, version: Option<&SimVersion>, places: BTreeSet<String>| {
            let row = json!({"kind": kind, "locations": places,
            "excludeFromLatest": version.is_some_and(|v| v.excluded),
            "version": version.map(|v| v.name.clone()),
            "tags": version.map(|v| v.tags.clone())});
            rows.insert(id.to_lowercase(), row);
        };
    for gallery in all.galleries.values().filter(|g| visible.contains(&g.subscription)) {
        for definition in gallery.definitions.values() {
            let id = format!("{}/images/{}", gallery.id(), definition.name);
            let place = BTreeSet::from([short_name(&gallery.location)]);
            add(id.clone(), "gallery-definition", None, place);
            for version in definition.versions.values() {
                let id = format!("{id}/versions/{}", version.name);
                add(id, "gallery-version", Some(version), regions(version));
            }
        }
    }
    for (kind, galleries) in
        [("SharedGalleries", &all.shared), ("CommunityGalleries", &all.communities)]
    {
        for (gallery, definition) in galleries.values().flat_map(definitions) {
            let id = format!("/{kind}/{}/Images/{}", gallery.name, definition.name);
            let places = definition.versions.values().flat_map(regions).collect();
            add(id.clone(), "gallery-definition", None, places);
            for version in definition.versions.values() {
                let id = format!("{id}/Versions/{}", version.name);
                let shared = SimVersion { tags: json!({}), ..version.clone() };
                add(id, "gallery-version", Some(&shared), regions(version));
            }
        }
    }
    for (id, image) in &all.images {
        if visible.iter().any(|subscription| id.contains(subscription.as_str())) {
            let place = BTreeSet::from([image["location"].as_str().unwrap().to_owned()]);
            add(id.clone(), "managed-image", None, place);
        }
    }
    rows
}

fn definitions(gallery: &SimGallery) -> impl Iterator<Item = (&SimGallery, &SimDefinition)> {
    gallery.definitions.values().map(move |definition| (gallery, definition))
}

fn check_exact(found: &[Value], expected: &BTreeMap<String, Value>) {
    let id = |row: &Value| row["id"].as_str().unwrap().to_lowercase();
    let ids: Vec<String> = found.iter().map(id).collect();
    let unique: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "a row came twice");
    let missing: Vec<_> = expected.keys().filter(|id| !unique.contains(id)).take(5).collect();
    assert!(missing.is_empty(), "missing {missing:?}");
    assert_eq!(ids.len(), expected.len());
    for row in found {
        let wanted = &expected[&id(row)];
        for name in ["kind", "locations", "excludeFromLatest", "version"] {
            assert_eq!(row[name], wanted[name], "{name} of {row}");
        }
        if !wanted["tags"].is_null() {
            assert_eq!(row["tags"], wanted["tags"], "{row}");
        }
    }
}

fn a_tenant_is_crawled_exactly_and_coverage_lists_what_is_denied() {
    let mut world = tenant(TENANT);
    let ids = Sim::new(tenant(TENANT), Conditions { subscriptions: 6, ..Conditions::default() });
    let ids = ids.subscriptions.clone();
    world.organisation.denied.insert(ids[4].clone());
    world.organisation.unregistered.insert(ids[5].clone());
    // One gallery with more than an item holds.
    let big = world.organisation.galleries.values_mut().next().unwrap();
    for definition in big.definitions.values_mut() {
        let template = definition.versions.values().next().unwrap().clone();
        for number in 0..450 {
            let name = format!("7.0.{number}");
            let version = SimVersion { name: name.clone(), ..template.clone() };
            definition.versions.insert(name, version);
        }
    }
    let visible: BTreeSet<String> = ids[..4].iter().cloned().collect();
    let expected = expected(&world.organisation, &visible);
    let azure = start(world, 6);
    let folder = tempfile::tempdir().unwrap();
    let result = crawl(&azure, folder.path(), &[]);
    assert_eq!(result["state"], "partial");
    // The subscription, and what is shared with it in each of three locations.
    assert_eq!(result["coverage"]["denied"], 1 + 3);
    check_exact(&rows(folder.path()), &expected);
    let lines = coverage(folder.path());
    let line = |id: &str| {
        let of = |line: &&Value| line["subscription"] == id && line["gallery"].is_null();
        lines.iter().find(of).unwrap_or_else(|| panic!("no line of {id}")).clone()
    };
    assert_eq!(line(&ids[4])["state"], "denied");
    assert_eq!(line(&ids[5])["state"], "empty");
    assert!(line(&ids[5])["reason"].as_str().unwrap().contains("not registered"));
    assert_eq!(line(&ids[0])["state"], "done");
    // Fifty to a page: the last page counts.
    assert!(azure.asked("ListImages") > 4);
}

/// Forty subscriptions, 120 galleries, 3,000 definitions, 60,000 versions, 5,000 machines.
fn a_large_tenant_is_crawled_exactly_in_few_requests() {
    let world = tenant(OrganisationSize::MANY);
    let organisation = world.organisation.clone();
    let azure = start(world, OrganisationSize::MANY.subscriptions);
    let visible = azure.sim.subscriptions.iter().cloned().collect();
    let folder = tempfile::tempdir().unwrap();
    let result = crawl(&azure, folder.path(), &["--details", "none"]);
    assert_eq!(result["state"], "complete");
    check_exact(&rows(folder.path()), &expected(&organisation, &visible));
    // One for each subscription, its galleries, its managed images, and a location's shared galleries;
    // two for each gallery; the rest is what communities and others share.
    let least = 1 + 40 * 2 + 120 * 2 + 3 * 41;
    let requests = result["requests"].as_u64().unwrap();
    println!("{requests} requests, {} s", result["seconds"]);
    assert!(requests < least + 100, "{requests} requests, {least} are needed");
    let store = folder.path().to_str().unwrap();
    let usage = ["images", "usage", "--all", "--store", store, "--fields", "machine", "-o", "json"];
    let machines = json(&mut azure.azimg(&usage));
    assert_eq!(machines.as_array().unwrap().len(), organisation.machines.len());
}

/// The newest version of a definition that may be deployed at `now`, in a region or in any.
fn newest(definition: &SimDefinition, now: &str, region: Option<&str>) -> Option<String> {
    let ended = |end: Option<&str>| end.is_some_and(|end| end[..19] <= now[..19]);
    let definition_end = definition.properties["endOfLifeDate"].as_str();
    let may = |version: &&SimVersion| {
        version.state == "Succeeded"
            && !version.excluded
            && !ended(version.end_of_life.as_deref())
            && !ended(definition_end)
    };
    let there = |version: &&SimVersion| {
        region.is_none_or(|region| {
            version.regions.iter().any(|r| {
                short_name(r["name"].as_str().unwrap()) == region && r["excludeFromLatest"] != true
            })
        })
    };
    let number = |name: &str| -> Vec<u64> { name.split('.').map(|n| n.parse().unwrap()).collect() };
    let all = definition.versions.values().filter(may).filter(there);
    all.max_by_key(|version| number(&version.name)).map(|version| version.name.clone())
}

fn the_latest_follows_the_rules_in_every_region() {
    let world = tenant(TENANT);
    let organisation = world.organisation.clone();
    let azure = start(world, 6);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    crawl(&azure, folder.path(), &["--details", "all"]);
    let rows = rows(folder.path());
    let run = read_json(&folder.path().join("current.json"));
    let manifest = run["run"].as_str().unwrap();
    let manifest = read_json(&folder.path().join(format!("snapshots/{manifest}/manifest.json")));
    let now = manifest["startedAt"].as_str().unwrap();
    let mut asked = 0;
    for gallery in organisation.galleries.values() {
        for definition in gallery.definitions.values() {
            let base = format!("{}/images/{}", gallery.id(), definition.name);
            let latest: Vec<&Value> = rows
                .iter()
                .filter(|row| row["isLatest"] == true)
                .filter(|row| row["id"].as_str().unwrap().starts_with(&format!("{base}/")))
                .collect();
            assert_eq!(
                latest.first().map(|row| row["version"].as_str().unwrap()),
                newest(definition, now, None).as_deref(),
                "{base}"
            );
            // A process for each question: a few of them.
            asked += 1;
            if asked % 9 != 0 {
                continue;
            }
            for region in ["eastus", "westus2"] {
                let arguments = [
                    "images",
                    "latest",
                    &base,
                    "--location",
                    region,
                    "--store",
                    store,
                    "-o",
                    "json",
                ];
                let (code, stdout, _) = finish(&mut azure.azimg(&arguments));
                match newest(definition, now, Some(region)) {
                    None => assert_eq!(code, 4, "{base} in {region}"),
                    Some(version) => {
                        let answer: Value = serde_json::from_str(&stdout).unwrap();
                        let id = format!("{base}/versions/{version}");
                        assert_eq!(answer[0]["id"], id.as_str(), "in {region}");
                    }
                }
            }
        }
    }
}

fn unreadable_galleries_are_carried_and_deleted_ones_removed() {
    let world = tenant(TENANT);
    let azure = start(world, 6);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    crawl(&azure, folder.path(), &[]);
    let before = rows(folder.path());
    let sim: &Arc<Sim> = &azure.sim;
    let (lost, gone, tagged) = {
        let mut all = sim.organisation();
        let keys: Vec<String> = all.galleries.keys().cloned().collect();
        let lost = all.galleries[&keys[0]].subscription.clone();
        all.denied.insert(lost.clone());
        let gone = all.galleries.remove(&keys[6]).unwrap().id().to_lowercase();
        let gallery = all.galleries.get_mut(&keys[3]).unwrap();
        let id = gallery.id();
        let definition = gallery.definitions.values_mut().next().unwrap();
        let version = definition.versions.values_mut().next().unwrap();
        version.tags = json!({"owner": "me"});
        version.regions.truncate(1);
        version.excluded = !version.excluded;
        (lost, gone, format!("{id}/images/{}/versions/{}", definition.name, version.name))
    };
    let result = crawl(&azure, folder.path(), &[]);
    assert_eq!(result["state"], "partial");
    let after = rows(folder.path());
    let of = |rows: &[Value], part: &str| -> Vec<Value> {
        rows.iter()
            .filter(|r| r["id"].as_str().unwrap().to_lowercase().contains(part))
            .cloned()
            .collect()
    };
    let (stood, stands) = (of(&before, &lost), of(&after, &lost));
    assert!(!stood.is_empty() && stood.len() == stands.len());
    assert!(stands.iter().all(|row| row["stale"] == true));
    assert!(!of(&before, &gone).is_empty() && of(&after, &gone).is_empty());
    // Every other row is there; what is shared with that subscription alone stands as well.
    assert_eq!(after.len(), before.len() - of(&before, &gone).len());
    let others = after.iter().filter(|row| row["stale"] == true && !stands.contains(row));
    let others: Vec<&Value> = others.collect();
    assert!(!others.is_empty() && others.iter().all(|row| row["sharing"] == "shared"));
    let feed = json(&mut azure.azimg(&["changes", "--store", store, "-o", "json"]));
    let feed = feed.as_array().unwrap();
    let removed = feed.iter().filter(|change| change["change"] == "removed").count();
    assert_eq!(removed, of(&before, &gone).len());
    let tagged: BTreeSet<&str> = feed
        .iter()
        .filter(|change| change["id"] == tagged.as_str())
        .map(|change| change["change"].as_str().unwrap())
        .collect();
    assert!(tagged.contains("tags") && tagged.contains("attributes"), "{tagged:?}");
    let lines = coverage(folder.path());
    let own = lines.iter().filter(|line| line["subscription"] == lost.as_str());
    let denied: Vec<&Value> = own.filter(|line| line["state"] == "denied").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["rows"], stands.len());
}

fn a_second_run_requests_no_known_replication() {
    let azure = start(tenant(TENANT), 6);
    let folder = tempfile::tempdir().unwrap();
    crawl(&azure, folder.path(), &[]);
    let first = azure.asked("GetGalleryVersion");
    assert!(first > 20);
    let rows_before = timeless(rows(folder.path()));
    crawl(&azure, folder.path(), &[]);
    assert_eq!(azure.asked("GetGalleryVersion"), first, "all of them were replicated to their end");
    assert_eq!(timeless(rows(folder.path())), rows_before);
}

fn a_run_of_one_source_keeps_the_rows_of_the_others() {
    let azure = Azure::start(generate(Scale::Small, 3));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    let marketplace = crate::support::rows(folder.path());
    let galleries = rows(folder.path());
    let containers = crate::support::inventory::rows(folder.path());
    assert!(!containers.is_empty());
    // A run of one source keeps the other's rows, and their lookups.
    let result = crawl(&azure, folder.path(), &[]);
    assert_eq!(result["changes"], 0);
    assert_eq!(crate::support::rows(folder.path()).len(), marketplace.len());
    let list = |arguments: &[&str]| {
        let mut all = vec!["images", "list", "--store", store, "-o", "json"];
        all.extend(arguments);
        json(&mut azure.azimg(&all)).as_array().unwrap().clone()
    };
    assert_eq!(list(&[]).len(), marketplace.len() + galleries.len() + containers.len());
    let versions = list(&["--kind", "gallery-version"]);
    let of_kind = |kind: &str| galleries.iter().filter(|row| row["kind"] == kind).count();
    assert_eq!(versions.len(), of_kind("gallery-version"));
    assert_eq!(
        list(&["--gallery", "gallery_001"]).len(),
        galleries.iter().filter(|row| row["gallery"] == "gallery_001").count()
    );
    let windows = list(&[
        "--kind",
        "gallery-definition,gallery-version",
        "--os",
        "windows",
        "--location",
        "East US",
    ]);
    let expected = galleries.iter().filter(|row| {
        row["os"] == "Windows" && row["locations"].as_array().unwrap().contains(&json!("eastus"))
    });
    assert_eq!(windows.len(), expected.count());
    let one = versions[0]["id"].as_str().unwrap();
    let shown = json(&mut azure.azimg(&["images", "show", one, "--store", store, "-o", "json"]));
    assert_eq!(shown["id"], one);
}
/// The windows of galleries are tight (200 lists of shared definitions in half an hour): what is put
/// off comes back, and the rows are those without any limit.
fn under_quota_the_rows_are_the_same() {
    let size = OrganisationSize { shared: 60, communities: 4, ..OrganisationSize::FEW };
    let free = tempfile::tempdir().unwrap();
    crawl(&start(tenant(size), 2), free.path(), &[]);
    let conditions =
        Conditions { subscriptions: 2, quota: "180x".parse().unwrap(), ..Conditions::default() };
    let limited = Azure::under(tenant(size), conditions, None);
    let folder = tempfile::tempdir().unwrap();
    let result = crawl(&limited, folder.path(), &[]);
    assert_eq!(result["state"], "complete");
    assert!(limited.asked("ListGalleryArtifact") > 100);
    // What was put off does not ask again what it knows.
    assert_eq!(limited.asked("GetGallery"), 3);
    assert_eq!(timeless(rows(folder.path())), timeless(rows(free.path())));
}
