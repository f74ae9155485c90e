//! What stands on which image, and lookups over HTTP of galleries and of that.

use crate::galleries::rows;
use crate::support::{Azure, json};
use crate::tests;
use azimg::sim::{Keeps, Scale, generate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

tests![machines_are_joined_with_their_images, lookups_over_http_have_galleries_too,];

fn machines_are_joined_with_their_images() {
    let world = generate(Scale::Small, 4).keeping(Keeps { machines: 120, ..Keeps::FEW }, 4);
    let organisation = world.organisation.clone();
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    let arguments = ["images", "usage", "--all", "--store", store, "-o", "json"];
    let rows = json(&mut azure.azimg(&arguments));
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), organisation.machines.len());
    let galleries = crate::galleries::rows(folder.path());
    let galleries = rows_by_id(&galleries);
    let mut findings: BTreeSet<&str> = BTreeSet::new();
    for row in rows.iter().filter(|row| row["imageKind"] == "gallery-version") {
        let finding = row["finding"].as_str().unwrap();
        findings.insert(finding);
        let Some(version) = row["version"].as_str() else {
            assert_eq!(row["isPinned"], false);
            continue;
        };
        let id = format!("{}/versions/{version}", row["image"].as_str().unwrap()).to_lowercase();
        let Some(image) = galleries.get(&id) else {
            assert_eq!(finding, "gone", "{row}");
            continue;
        };
        let expected = match image["status"].as_str().unwrap() {
            "end-of-life" => "end-of-life",
            "scheduled" => "scheduled",
            _ if row["moveTo"].is_null() => "current",
            _ => "not-latest",
        };
        assert_eq!(finding, expected, "{row}");
        assert_eq!(row["endsAt"], image["endOfLifeAt"]);
        if let Some(newer) = row["moveTo"].as_str() {
            let id = format!("{}/versions/{newer}", row["image"].as_str().unwrap()).to_lowercase();
            let locations = galleries[&id]["locations"].as_array().unwrap();
            assert!(locations.contains(&row["location"]), "{row}");
        }
    }
    for finding in ["gone", "end-of-life", "not-latest"] {
        assert!(findings.contains(finding), "{findings:?}");
    }
    let gone = ["images", "usage", "--finding", "gone", "--store", store, "-o", "json"];
    let gone = json(&mut azure.azimg(&gone));
    let counted = rows.iter().filter(|row| row["finding"] == "gone").count();
    assert_eq!(gone.as_array().unwrap().len(), counted);
}

fn rows_by_id(rows: &[Value]) -> BTreeMap<String, &Value> {
    rows.iter().map(|row| (row["id"].as_str().unwrap().to_lowercase(), row)).collect()
}

fn lookups_over_http_have_galleries_too() {
    let world = generate(Scale::Small, 9).keeping(Keeps { machines: 50, ..Keeps::FEW }, 9);
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    let (marketplace, galleries) = (crate::support::rows(folder.path()), rows(folder.path()));
    let host = crate::web::Host::start(&azure, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::new();
    let get = |path: &str| {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}/{path}", host.address)
        };
        runtime.block_on(async {
            let answer = client.get(url).send().await.unwrap();
            let status = answer.status().as_u16();
            (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
        })
    };
    let all = |path: &str| {
        let mut found: Vec<Value> = Vec::new();
        let mut next = path.to_owned();
        loop {
            let (status, page) = get(&next);
            assert_eq!(status, 200, "{next}: {page}");
            found.extend(page["value"].as_array().unwrap().clone());
            match page["nextLink"].as_str() {
                Some(link) => link.clone_into(&mut next),
                None => return found,
            }
        }
    };
    // Pages go from one table into the next.
    let containers = crate::inventory::rows(folder.path());
    let every = marketplace.iter().chain(&galleries).chain(&containers);
    let every: Vec<Value> = every.cloned().collect();
    assert_eq!(all("images?top=37"), every);
    let of_kind = all("images?kind=container-manifest&tag=latest");
    let tagged = |row: &&Value| row["tags"].as_array().unwrap().contains(&"latest".into());
    let latest: Vec<Value> = containers.iter().filter(tagged).cloned().collect();
    assert_eq!(of_kind, latest);
    let versions: Vec<Value> =
        galleries.iter().filter(|row| row["kind"] == "gallery-version").cloned().collect();
    assert_eq!(all("images?kind=gallery-version&top=11"), versions);
    let searched = all("images?search=gallery_001%20ubuntu");
    assert!(!searched.is_empty());
    assert!(searched.iter().all(|row| row["gallery"] == "gallery_001"));
    let latest =
        versions.iter().find(|row| row["isLatest"] == true && row["gallery"] == "gallery_000");
    let latest = latest.unwrap();
    let id = latest["id"].as_str().unwrap();
    assert_eq!(get(&format!("images{id}")), (200, latest.clone()));
    assert_eq!(all(&format!("images?id={id}")), std::slice::from_ref(latest));
    let name = format!("gallery_000/{}", latest["definition"].as_str().unwrap());
    assert_eq!(get(&format!("images/latest?urn={name}")), (200, latest.clone()));
    assert_eq!(get("images/latest?urn=gallery_000/nothing").0, 404);
    assert_eq!(get("images/subscriptions/x/y").0, 404);
    let usage = all("images/usage?top=7");
    assert_eq!(usage.len(), 50);
    let gone = all("images/usage?finding=gone&finding=end-of-life");
    let wanted =
        usage.iter().filter(|row| row["finding"] == "gone" || row["finding"] == "end-of-life");
    assert_eq!(gone, wanted.cloned().collect::<Vec<_>>());
    assert_eq!(get("images/usage?finding=odd").0, 400);
}
