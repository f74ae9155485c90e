//! What stands on which image, and lookups over HTTP of galleries and of that.

use crate::support::case::{Case, SUBSCRIPTION};
use crate::support::galleries::rows;
use crate::support::{Azure, finish, json};
use crate::tests;
use azimg::testing::sim::{OrganisationSize, Scale, generate};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

tests![
    machines_are_joined_with_their_images,
    lookups_over_http_have_galleries_too,
    galleries_may_be_followed_by_registries,
    machines_that_follow_the_latest_are_current_if_one_exists,
    no_older_or_differently_booting_image_is_recommended,
    images_outside_the_crawl_are_unknown,
    images_removed_from_a_community_are_gone,
    failed_requests_keep_the_last_known_usage,
    an_image_whose_date_has_passed_is_deprecated,
];

/// What usage says of a case's machines, by name, after a crawl with these options.
fn usage_of(case: &Case, options: &[&str]) -> BTreeMap<String, Value> {
    let folder = tempfile::tempdir().unwrap();
    usage_in(case, folder.path(), options)
}

/// The same after a crawl into the store of that folder.
fn usage_in(case: &Case, folder: &Path, options: &[&str]) -> BTreeMap<String, Value> {
    let store = folder.to_str().unwrap();
    let mut crawl = vec!["crawl", "--store", store, "-o", "json"];
    crawl.extend(options);
    let (code, _, stderr) = finish(&mut case.azimg(&crawl));
    assert!([0, 3].contains(&code), "{stderr}");
    let usage = ["images", "usage", "--all", "--store", store, "-o", "json"];
    let rows = json(&mut case.azimg(&usage));
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone())).collect()
}

/// Finding, end, and what to move to.
fn reported(row: &Value) -> [Option<&str>; 3] {
    ["finding", "endsAt", "moveTo"].map(|column| row[column].as_str())
}

/// The last definition of the gallery table, when rows of the registry table follow it.
fn galleries_may_be_followed_by_registries() {
    let size = OrganisationSize {
        managed: 0,
        shared: 0,
        communities: 0,
        machines: 90,
        ..OrganisationSize::FEW
    };
    let world = generate(Scale::Small, 5).with_generated_organisation(size, 5);
    assert!(!world.registries.is_empty());
    let last = world.organisation.galleries.values().next_back().unwrap();
    let name = last.definitions.values().next_back().unwrap().name.clone();
    let last = format!("{}/{name}", last.name);
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--details", "none", "--store", store, "-o", "json"]));
    let rows =
        json(&mut azure.azimg(&["images", "usage", "--all", "--store", store, "-o", "json"]));
    let used = |row: &Value| row["image"].as_str().is_some_and(|image| image.ends_with(&name));
    assert!(rows.as_array().unwrap().iter().any(used), "no machine uses {last}: {rows}");
    json(&mut azure.azimg(&["images", "latest", &last, "--store", store, "-o", "json"]));
}

fn machines_that_follow_the_latest_are_current_if_one_exists() {
    let rows = usage_of(&Case::start("usage-follows-latest"), &[]);
    let reason = |name: &str| rows[name]["reason"].as_str().unwrap_or_default();
    let end = Some("2026-12-31T00:00:00Z");
    assert_eq!(reported(&rows["set-focal-latest"])[1], end);
    assert!(["scheduled", "deprecated"].contains(&reported(&rows["set-focal-latest"])[0].unwrap()));
    assert_eq!(reported(&rows["set-focal-pinned"])[1], end);
    for name in ["set-api-westeurope", "set-empty", "set-half-westeurope"] {
        assert_eq!(reported(&rows[name]), [Some("gone"), None, None], "{name}");
        assert!(
            reason(name).starts_with("no version is eligible as the latest in"),
            "{}",
            rows[name]
        );
    }
    assert_eq!(reported(&rows["set-web-eol"])[0], Some("end-of-life"));
    assert_eq!(reported(&rows["set-jammy-latest"])[0], Some("current"));
    let unsaid = "follows the latest; the version that it runs is not known";
    assert_eq!(reason("set-jammy-latest"), unsaid);
    // What it stands on is there, though no machine can follow it there.
    assert_eq!(reported(&rows["vm-half-westeurope"])[0], Some("current"));
    assert_eq!(reason("vm-half-westeurope"), "its replica in westeurope failed");
    // A gallery's image says what its definition says.
    assert_eq!(rows["set-web-eol"]["publisher"], "contoso");
    assert_eq!(rows["set-web-eol"]["sku"], "web");
}

fn no_older_or_differently_booting_image_is_recommended() {
    let rows = usage_of(&Case::start("usage-newer-than-latest"), &[]);
    for name in ["vm-canary-1.1", "vm-moved-westus2", "vm-market-westus2"] {
        assert_eq!(reported(&rows[name]), [Some("ahead"), None, None], "{}", rows[name]);
        assert_eq!(rows[name]["isLatest"], false);
    }
    for name in ["vm-eol-1.1", "set-eol-latest"] {
        assert_eq!(reported(&rows[name])[0], Some("end-of-life"), "{}", rows[name]);
        assert_eq!(reported(&rows[name])[2], None);
    }
    let version = |name: &str, generation: &str, end: Option<&str>| {
        let mut image = json!({"name": name, "properties": {"hyperVGeneration": generation,
            "architecture": "x64", "imageDeprecationStatus": {"imageState": "Active"}}});
        if let Some(end) = end {
            image["properties"]["imageDeprecationStatus"] = json!(
                {"imageState": "ScheduledForDeprecation", "scheduledDeprecationTime": end});
        }
        image
    };
    let end = "2999-01-01T00:00:00Z";
    let versions = [
        version("1.0.0", "V1", Some(end)),
        version("2.0.0", "V1", None),
        version("3.0.0", "V2", None),
    ];
    let id = format!(
        "/subscriptions/{}/resourceGroups/r/providers/Microsoft.Compute/virtualMachines/vm",
        crate::support::case::SUBSCRIPTION
    );
    let tenant = json!({"locations": ["eastus"],
        "marketplace": {"eastus": {"p": {"o": {"s": versions}}}},
        "machines": [{"id": id, "name": "vm", "type": "microsoft.compute/virtualmachines", "location": "eastus",
            "image": {"publisher": "P", "offer": "o", "sku": "s", "version": "1.0.0", "exactVersion": "1.0.0"}}]});
    let rows = usage_of(&Case::serve(tenant), &[]);
    // There is a newer one, and an end: neither hides the other. What boots otherwise is passed over.
    assert_eq!(reported(&rows["vm"]), [Some("not-latest"), Some(end), Some("p:o:s:2.0.0")]);
}

fn images_outside_the_crawl_are_unknown() {
    let case = Case::start("usage-not-covered");
    let unknown = |rows: &BTreeMap<String, Value>| -> BTreeSet<String> {
        let unknown = rows.iter().filter(|(_, row)| row["finding"] == "unknown");
        unknown.map(|(name, _)| name.clone()).collect()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let others = ["aks-nodepool1-vmss", "vm-other-team", "vm-managed-elsewhere"];
    let narrow = usage_of(&case, &["--publisher", "canonical"]);
    let rhel = ["vm-rhel", "vm-rhel-latest"];
    let expected: BTreeSet<String> = names(&[&others[..], &rhel, &["vm-win-westus2"]].concat());
    assert_eq!(unknown(&narrow), expected);
    for name in &expected {
        let row = &narrow[name];
        assert_eq!(row["reason"], "the scope of the image was not crawled", "{row}");
        assert!(row["moveTo"].is_null());
    }
    assert_eq!(narrow["vm-ubuntu"]["finding"], "current");
    assert_eq!(reported(&narrow["vm-gallery"])[0], Some("not-latest"));
    let moved = reported(&narrow["vm-gallery"])[2].unwrap();
    assert!(moved.ends_with("/galleries/prod/images/base/versions/1.1.0"), "{moved}");
    let elsewhere = usage_of(&case, &["--location", "westus2"]);
    let expected: BTreeSet<String> = names(&[&others[..], &rhel, &["vm-ubuntu"]].concat());
    assert_eq!(unknown(&elsewhere), expected);
    // Looked for where it runs, and not there.
    assert_eq!(elsewhere["vm-win-westus2"]["finding"], "gone");
}

fn images_removed_from_a_community_are_gone() {
    let rows = usage_of(&Case::start("community-version-removed"), &[]);
    assert!(rows.values().any(|row| row["finding"] == "gone"));
    for row in rows.values() {
        let finding = if row["version"] == "1.31.10" { "scheduled" } else { "gone" };
        assert_eq!(row["finding"], finding, "{row}");
    }
}

/// What was answered once stands, and says that nobody could look again; what was never found may be new since.
fn failed_requests_keep_the_last_known_usage() {
    let definition = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g/images/d"
    );
    let version = |name: &str| {
        json!({"id": format!("{definition}/versions/{name}"), "location": "eastus",
            "properties": {"provisioningState": "Succeeded", "storageProfile": {}, "publishingProfile":
                {"targetRegions": [{"name": "East US"}], "publishedDate": "2026-01-01T00:00:00Z"}}})
    };
    let machine = |name: &str, image: Value| {
        json!({"id": format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/\
                              virtualMachines/{name}"),
            "name": name, "type": "microsoft.compute/virtualmachines", "location": "eastus", "image": image})
    };
    let sku =
        |version: &str| json!({"publisher": "p", "offer": "o", "sku": "s", "version": version});
    let own = |version: &str| json!({"id": format!("{definition}/versions/{version}")});
    let gallery = definition.split("/images").next().unwrap();
    let mut tenant = json!({"locations": ["eastus"],
        "marketplace": {"eastus": {"p": {"o": {"s": ["1.0.0", "2.0.0"]}}}},
        "galleries": [{"id": gallery, "location": "eastus", "properties": {"provisioningState": "Succeeded"}}],
        "definitions": [{"id": definition, "location": "eastus", "properties": {"osType": "Linux",
            "osState": "Generalized", "provisioningState": "Succeeded"}}],
        "versions": [version("1.0.0"), version("2.0.0")],
        "machines": [machine("old", sku("1.0.0")), machine("new", sku("2.0.0")), machine("follows", sku("latest")),
            machine("unseen", sku("3.0.0")), machine("own-old", own("1.0.0")), machine("own-unseen", own("3.0.0"))]});
    let folder = tempfile::tempdir().unwrap();
    let before = usage_in(&Case::serve(tenant.clone()), folder.path(), &[]);
    tenant["refused"] = json!(["/publishers/p/", "/galleries/g"]);
    let after = usage_in(&Case::serve(tenant), folder.path(), &[]);
    for (name, finding) in [
        ("old", "not-latest"),
        ("new", "current"),
        ("follows", "current"),
        ("own-old", "not-latest"),
    ] {
        let reported = |rows: &BTreeMap<String, Value>| {
            ["finding", "moveTo", "isLatest"].map(|column| rows[name][column].clone())
        };
        assert_eq!(before[name]["finding"], finding);
        assert_eq!(reported(&before), reported(&after), "{name}");
        let [first, again] =
            [&before, &after].map(|rows| rows[name]["reason"].as_str().unwrap_or_default());
        assert!(!first.contains("as of the last successful listing"), "{first}");
        let since = "as of the last successful listing; since then it could not be listed: denied";
        assert!(again.starts_with(first) && again.contains(since), "{again}");
    }
    for name in ["unseen", "own-unseen"] {
        assert_eq!(before[name]["finding"], "gone");
        assert_eq!(after[name]["finding"], "unknown");
        let reason = after[name]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("the scope of the image could not be listed: denied"),
            "{reason}"
        );
    }
}

fn an_image_whose_date_has_passed_is_deprecated() {
    let case = Case::start("scheduled-date-passed");
    let rows = usage_of(&case, &[]);
    for name in ["set", "vm"] {
        assert_eq!(reported(&rows[name])[..2], [Some("deprecated"), Some("2026-06-30T00:00:00Z")]);
    }
    // What was made of a disk names no image.
    for name in ["flex-no-profile", "vm-from-disk"] {
        assert_eq!(rows[name]["finding"], "unknown");
        assert_eq!(
            rows[name]["reason"],
            "it was created from a disk, and neither refers to an image"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut case.azimg(&["crawl", "--store", store, "-o", "json"]));
    let latest = |sku: &str| {
        let sku = format!("MicrosoftWindowsServer:WindowsServer:{sku}");
        finish(&mut case.azimg(&[
            "images",
            "latest",
            &sku,
            "--store",
            store,
            "-o",
            "tsv",
            "--query",
            "[].version",
        ]))
    };
    assert_eq!(latest("2022-datacenter-g2").1.trim(), "20348.4000.250101");
    let (code, _, stderr) = latest("2016-Datacenter");
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("no version of"), "{stderr}");
    let before = ["images", "usage", "--ends-before", "2026-07-01", "--store", store, "-o", "json"];
    let before = json(&mut case.azimg(&before));
    assert_eq!(before.as_array().unwrap().len(), 2);
    let before = ["images", "usage", "--ends-before", "2026-06-01", "--store", store, "-o", "json"];
    assert_eq!(json(&mut case.azimg(&before)), json!([]));
}

fn machines_are_joined_with_their_images() {
    let world = generate(Scale::Small, 4).with_generated_organisation(
        OrganisationSize { machines: 120, ..OrganisationSize::FEW },
        4,
    );
    let organisation = world.organisation.clone();
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    let arguments = ["images", "usage", "--all", "--store", store, "-o", "json"];
    let rows = json(&mut azure.azimg(&arguments));
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), organisation.machines.len());
    let galleries = crate::support::galleries::rows(folder.path());
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
        let expected = match (image["status"].as_str().unwrap(), row["isLatest"].as_bool()) {
            ("end-of-life", _) => ["end-of-life"; 3],
            (_, Some(false)) => ["not-latest", "ahead", "ahead"],
            ("scheduled", _) => ["scheduled", "gone", "unknown"],
            _ => ["current", "gone", "unknown"],
        };
        assert!(expected.contains(&finding), "{row}");
        assert_eq!(row["endsAt"], image["endOfLifeAt"]);
        if let Some(newer) = row["moveTo"].as_str() {
            let newer = galleries[&newer.to_lowercase()];
            assert_eq!(newer["definition"], image["definition"], "{row}");
            let locations = newer["locations"].as_array().unwrap();
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
    let world = generate(Scale::Small, 9)
        .with_generated_organisation(OrganisationSize { machines: 50, ..OrganisationSize::FEW }, 9);
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    let (marketplace, galleries) = (crate::support::rows(folder.path()), rows(folder.path()));
    let host = crate::support::web::Host::start(&azure, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = host.caller();
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
    let containers = crate::support::inventory::rows(folder.path());
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
