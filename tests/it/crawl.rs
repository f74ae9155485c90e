//! crawl(sim(catalog)) = catalog.

use crate::support::{Azure, catalogued, finish, json, read_json, rows, timeless, write_rows};
use crate::tests;
use azimg::testing::image::Status;
use azimg::testing::sim::{Scale, World, generate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

tests![
    a_catalog_made_by_hand_comes_back_as_it_is,
    what_crawl_writes_sim_serves_and_crawl_writes_again,
    a_hundred_thousand_versions_come_back_and_coverage_names_every_ghost,
    a_second_run_reports_changes_and_keeps_rows_outside_its_scope,
    publishers_can_be_narrowed_without_losing_the_others,
    a_crawl_without_a_token_sends_no_request,
    publishers_beyond_the_messages_of_one_invocation_are_crawled,
];

/// A catalog made by hand, with what trips crawlers: casing, names that need encoding, versions
/// whose string order misleads, images in some locations only, plans, dates, replacements.
fn by_hand() -> Vec<Value> {
    let row = |publisher: &str, offer: &str, sku: &str, version: &str, locations: &[&str]| {
        json!({
            "publisher": publisher, "offer": offer, "sku": sku, "version": version,
            "locations": locations, "architecture": "x64", "hyperVGeneration": "V2",
            "status": "active", "scheduledDeprecationAt": null, "alternative": null,
            "os": "Linux", "planPublisher": null, "planProduct": null, "planName": null,
            "features": {},
        })
    };
    let mut rows = vec![
        row("Acme", "Linux", "gen2", "8.9.2024022012", &["eastus", "westeurope"]),
        row("Acme", "Linux", "gen2", "8.10.2024070513", &["eastus"]),
        row("Acme", "Linux", "Gen1", "1.0.0", &["westeurope"]),
        row("acme-2", "a b%c+d", "ü&x=1", "1.0.0", &["eastus"]),
        row("canonical", "ubuntu", "server", "24.04.1", &["eastus", "westeurope"]),
        row("Zeta", "only", "west", "3.2.1", &["westeurope"]),
    ];
    rows[1]["status"] = "scheduled".into();
    rows[1]["scheduledDeprecationAt"] = "2999-03-17T00:00:00Z".into();
    rows[2]["hyperVGeneration"] = "V1".into();
    rows[2]["status"] = "deprecated".into();
    rows[2]["alternative"] = "Plan:gen2".into();
    rows[4]["planPublisher"] = "canonical".into();
    rows[4]["planProduct"] = "ubuntu".into();
    rows[4]["planName"] = "server".into();
    rows[4]["features"] =
        json!({"IsHibernateSupported": "True", "DiskControllerTypes": "SCSI, NVMe"});
    rows[5]["os"] = "Windows".into();
    rows[5]["architecture"] = "Arm64".into();
    rows
}

fn crawl(azure: &Azure, store: &Path, more: &[&str]) -> Value {
    let mut arguments = vec!["crawl", "--store", store.to_str().unwrap(), "-o", "json"];
    arguments.extend(more);
    json(&mut azure.azimg(&arguments))
}

fn by_id(rows: &[Value]) -> BTreeMap<String, Value> {
    let id = |row: &Value| {
        let name = |column: &str| row[column].as_str().unwrap().to_owned();
        format!("{}:{}:{}:{}", name("publisher"), name("offer"), name("sku"), name("version"))
    };
    rows.iter().map(|row| (id(row), catalogued(row))).collect()
}

fn a_catalog_made_by_hand_comes_back_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    write_rows(&file, &by_hand());
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let result = crawl(&azure, &store, &["--all-locations", "--details", "all"]);
    assert_eq!(result["state"], "complete");
    assert_eq!(result["images"], json!({"marketplace": 6, "gallery": 0, "registry": 0}));
    let found = rows(&store);
    assert_eq!(by_id(&found), by_id(&by_hand()));
    let latest: Vec<&str> = found
        .iter()
        .filter(|row| row["isLatest"] == true)
        .map(|row| row["version"].as_str().unwrap())
        .collect();
    assert_eq!(latest, ["8.10.2024070513", "1.0.0", "24.04.1", "3.2.1"]);

    // The details are known now: nobody is asked for them again.
    let asked = azure.asked("GetImage");
    assert_eq!(asked, 6);
    let again = crawl(&azure, &store, &["--all-locations", "--details", "all"]);
    assert_eq!(azure.asked("GetImage"), asked);
    assert_eq!(again["changes"], 0);
    assert_eq!(timeless(rows(&store)), timeless(found));
}

fn what_crawl_writes_sim_serves_and_crawl_writes_again() {
    let azure = Azure::start(generate(Scale::Small, 7));
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let result = crawl(&azure, &first, &["--details", "all"]);
    let written = format!(
        "{}/snapshots/{}/marketplace.ndjson.zst",
        first.display(),
        result["run"].as_str().unwrap()
    );
    let again = Azure::start(World::load(&[&written]).unwrap());
    crawl(&again, &second, &["--details", "all"]);
    assert!(rows(&first).len() > 50);
    assert_eq!(timeless(rows(&second)), timeless(rows(&first)));
}

fn a_hundred_thousand_versions_come_back_and_coverage_names_every_ghost() {
    let azure = Azure::start(generate(Scale::Region, 1));
    let folder = tempfile::tempdir().unwrap();
    let result = crawl(&azure, folder.path(), &["--location", "East US", "--details", "none"]);
    let expected = azure.sim.world.versions();
    assert!(expected >= 100_000, "{expected}");
    // What hangs below a publisher or an offer that answers 404 cannot be listed.
    let mut listed = Vec::new();
    let run = result["run"].as_str().unwrap();
    let manifest = read_json(&folder.path().join(format!("snapshots/{run}/manifest.json")));
    let begun = OffsetDateTime::parse(manifest["startedAt"].as_str().unwrap(), &Rfc3339).unwrap();
    for publisher in azure.sim.world.publishers.iter().filter(|publisher| !publisher.vanishes) {
        for offer in publisher.offers.iter().filter(|offer| !offer.vanishes) {
            for (sku, image) in
                offer.skus.iter().flat_map(|sku| sku.versions.iter().map(move |image| (sku, image)))
            {
                // The table says what held when the run began.
                let has_ended = image.scheduled_deprecation_at.is_some_and(|end| end <= begun);
                let status = if has_ended { Some(Status::Deprecated) } else { image.status };
                listed.push(json!({
                    "publisher": publisher.name, "offer": offer.name, "sku": sku.name,
                    "version": image.version, "locations": ["eastus"],
                    "architecture": image.architecture,
                    "hyperVGeneration": image.hyper_v_generation, "status": status,
                    "scheduledDeprecationAt": image
                        .scheduled_deprecation_at
                        .map(|at| at.format(&Rfc3339).unwrap()),
                    "alternative": null, "os": null, "planPublisher": null, "planProduct": null,
                    "planName": null, "features": {},
                }));
            }
        }
    }
    assert_eq!(result["images"]["marketplace"], listed.len());
    let (found, listed) = (by_id(&rows(folder.path())), by_id(&listed));
    for (id, row) in &listed {
        assert_eq!(found.get(id), Some(row));
    }
    assert_eq!(found.len(), listed.len());
    let coverage = read_json(&folder.path().join(format!("snapshots/{run}/coverage.json")));
    let gone = coverage["scopes"].as_array().unwrap().iter().filter(|line| line["state"] == "gone");
    assert_eq!(gone.count() as u64, result["coverage"]["gone"].as_u64().unwrap());
    let publishers = azure.sim.world.publishers.len();
    let lines = coverage["scopes"].as_array().unwrap().iter();
    assert_eq!(
        lines.filter(|l| l["publisher"].is_string() && l["offer"].is_null()).count(),
        publishers
    );
}

fn a_second_run_reports_changes_and_keeps_rows_outside_its_scope() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    let store = folder.path().join("store");
    let mut catalog = by_hand();
    write_rows(&file, &catalog);
    crawl(&Azure::start(World::load(&[&file]).unwrap()), &store, &["--all-locations"]);

    catalog.remove(0);
    catalog[3]["locations"] = json!(["eastus"]);
    catalog[4]["status"] = "scheduled".into();
    let mut newer = catalog[3].clone();
    newer["version"] = "24.04.2".into();
    catalog.push(newer);
    write_rows(&file, &catalog);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let result = crawl(&azure, &store, &["--location", "eastus"]);
    let run = result["run"].as_str().unwrap();
    let changes =
        crate::support::read_ndjson(&store.join(format!("snapshots/{run}/changes.ndjson.zst")));
    let reported: Vec<(&str, &str)> = changes
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["change"].as_str().unwrap()))
        .collect();
    assert_eq!(
        reported,
        [
            ("Acme:Linux:gen2:8.9.2024022012", "locations"),
            ("canonical:ubuntu:server:24.04.1", "latest"),
            ("canonical:ubuntu:server:24.04.2", "added"),
        ]
    );
    // westeurope was not asked this time: its rows stay as they were, and say when that was.
    let rows = rows(&store);
    let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(of("Acme:Linux:gen2:8.9.2024022012")["locations"], json!(["westeurope"]));
    assert_eq!(of("Acme:Linux:gen2:8.9.2024022012")["stale"], false);
    assert_eq!(of("Zeta:only:west:3.2.1")["stale"], false);
    assert_ne!(of("Zeta:only:west:3.2.1")["observedRun"], run);
    assert_eq!(of("Zeta:only:west:3.2.1")["status"], "active");
    assert_eq!(of("canonical:ubuntu:server:24.04.1")["stale"], false);
    assert_eq!(of("canonical:ubuntu:server:24.04.2")["stale"], false);
}

fn publishers_can_be_narrowed_without_losing_the_others() {
    let azure = Azure::start(generate(Scale::Small, 3));
    let folder = tempfile::tempdir().unwrap();
    crawl(&azure, folder.path(), &[]);
    let all = timeless(rows(folder.path()));
    let result = crawl(&azure, folder.path(), &["--publisher", "CANON"]);
    assert_eq!(result["state"], "complete");
    assert_eq!(result["changes"], 0);
    // What was not asked for is as it was.
    assert_eq!(timeless(rows(folder.path())), all);
}

fn a_crawl_without_a_token_sends_no_request() {
    let azure = Azure::start(generate(Scale::Small, 1));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let mut command = azure.azimg(&["crawl", "--store", store]);
    command.env_remove("IDENTITY_ENDPOINT").env("PATH", "/nonexistent");
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("az login") && stderr.contains("--demo"), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    assert_eq!(azure.sim.stats.to_json()["withoutToken"], 0);
}

fn publishers_beyond_the_messages_of_one_invocation_are_crawled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    let catalog: Vec<Value> = (0..6_100)
        .map(|i| {
            let publisher = format!("publisher{i}");
            json!({"publisher": publisher, "offer": "o", "sku": "s", "version": "1.0.0"})
        })
        .collect();
    write_rows(&file, &catalog);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let result = crawl(&azure, &store, &["--details", "none"]);
    assert_eq!(result["images"]["marketplace"], 6_100);
    assert_eq!(result["state"], "complete");
}
