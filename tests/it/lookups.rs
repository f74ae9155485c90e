//! Lookups in the catalogs of small tenants in files, each with the right answer: details known of another version of a
//! SKU, odd names, and names that are missing, on the command line and over HTTP.

use crate::support::case::Case;
use crate::support::crawled::{Crawled, crawl, over_http, version};
use crate::support::stored::faceless;
use crate::support::{finish, json, read_json, rows};
use crate::tests;
use serde_json::{Value, json};
use std::collections::BTreeMap;

tests![
    details_of_one_version_stand_for_its_sku_and_are_marked,
    rows_with_unknown_details_are_counted_and_reported,
    a_null_detail_fails_nothing_and_is_requested_once,
    known_names_are_printed_though_another_is_unknown,
    a_denied_location_is_reported_and_can_be_left_out,
    an_alias_without_a_version_is_not_found,
    the_latest_is_the_highest_number_whenever_it_was_built,
    odd_names_are_returned_and_odd_versions_are_ordered,
    the_feed_reports_the_new_latest,
];

fn details_of_one_version_stand_for_its_sku_and_are_marked() {
    let crawled = Crawled::of(Case::start("details-of-older-versions"), &[]);
    let windows = ["20348.1.1", "20348.2.2"]
        .map(|v| format!("MicrosoftWindowsServer:WindowsServer:2022-datacenter-g2:{v}"));
    let linux = ["9.4.202405080", "9.5.202411260"]
        .map(|v| format!("almalinux:almalinux-x86_64:9-gen2:{v}"));
    assert_eq!(crawled.listed(&["--os", "Windows"]), windows);
    assert_eq!(crawled.listed(&["--plan", "no"]), windows);
    assert_eq!(crawled.listed(&["--os", "linux"]), linux);
    assert_eq!(crawled.listed(&["--plan", "yes"]), linux);
    let shown = |id: &str| crawled.reported(&["images", "show", id]);
    for (id, from) in linux.iter().zip(["sku", "this"]) {
        let shown = shown(id);
        assert_eq!(shown["detailsFrom"], from, "{shown}");
        let plan = ["planPublisher", "planProduct", "planName"].map(|name| shown[name].clone());
        assert_eq!(plan, ["almalinux", "almalinux-x86_64", "9-gen2"]);
    }
    let store = crawled.folder.path();
    let parquet = &faceless(store)["marketplace.parquet"];
    assert_eq!(parquet.matches("details_from: \"sku\"").count(), 2, "{parquet}");
    assert_eq!(parquet.matches("details_from: \"this\"").count(), 2);
    // When they are asked themselves, what they say is theirs; nothing of an image has changed.
    let (code, result) = crawl(&crawled.case, store, &["--details", "all"]);
    assert_eq!((code, &result["changes"]), (0, &json!(0)));
    assert!(rows(store).iter().all(|row| row["detailsFrom"] == "this"));
    let run = result["run"].as_str().unwrap();
    let coverage = read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    assert_eq!(coverage["details"], json!({"known": 4, "unknown": 0}));
}

fn rows_with_unknown_details_are_counted_and_reported() {
    let crawled = Crawled::of(Case::start("details-of-older-versions"), &["--details", "none"]);
    assert!(rows(crawled.folder.path()).iter().all(|row| row["detailsFrom"].is_null()));
    for options in [
        &["--os", "windows"][..],
        &["--plan", "no"],
        &["--feature", "IsHibernateSupported"],
        &["--security-type", "trustedlaunch"],
    ] {
        let list = [&["images", "list", "-o", "json"], options].concat();
        let (code, stdout, stderr) = finish(&mut crawled.azimg(&list));
        assert_eq!((code, stdout.trim()), (0, "[]"));
        assert!(stderr.contains("4 more images may match"), "{options:?}: {stderr}");
    }
    // What does not fit for another reason is not counted.
    let list = ["images", "list", "--os", "windows", "--publisher", "alma", "-o", "json"];
    assert!(finish(&mut crawled.azimg(&list)).2.contains("2 more images may match"));
    let list = ["images", "list", "--os", "windows", "--generation", "V1", "-o", "json"];
    let stderr = finish(&mut crawled.azimg(&list)).2;
    assert!(!stderr.contains("may match") && stderr.contains("No image matches"), "{stderr}");
    over_http(crawled.folder.path(), |get| {
        assert_eq!(get("images?os=windows&top=1"), json!({"value": [], "unknown": 4}));
        assert_eq!(get("images?plan=yes&publisher=alma"), json!({"value": [], "unknown": 2}));
        assert!(get("images?generation=V2")["unknown"].is_null());
    });
}

fn a_null_detail_fails_nothing_and_is_requested_once() {
    let image = json!({"osDiskImage": {"operatingSystem": null}, "hyperVGeneration": null, "architecture": "x64",
        "plan": {"publisher": null, "product": "o", "name": "s"},
        "features": [{"name": "A", "value": null}, {"name": null, "value": "x"}, {"name": "B", "value": "1"}]});
    let tenant = json!({"locations": ["eastus"],
        "marketplace": {"eastus": {"p": {"o": {"s": [version("1.0.0", &image), version("1.1.0", &image)]}}}}});
    let crawled = Crawled::of(Case::serve(tenant), &[]);
    assert_eq!((crawled.end.0, &crawled.end.1["state"]), (0, &json!("complete")));
    let found = rows(crawled.folder.path());
    for (row, from) in found.iter().zip(["sku", "this"]) {
        assert_eq!((&row["detailsFrom"], &row["os"]), (&json!(from), &Value::Null), "{row}");
        assert_eq!(row["planProduct"], "o");
        assert_eq!((&row["features"]["A"], &row["features"]["B"]), (&json!(""), &json!("1")));
    }
    assert_eq!(crawled.listed(&["--plan", "yes", "--feature", "b=1"]).len(), 2);
    // What tells nothing is no answer.
    let empty = json!({"osDiskImage": null, "features": null, "architecture": "x64", "hyperVGeneration": "V2"});
    let tenant = json!({"locations": ["eastus"], "marketplace": {"eastus": {"p": {"o": {"s": [version("1.0.0", &empty)]}}}}});
    let silent = Crawled::of(Case::serve(tenant), &[]);
    assert_eq!(silent.end.0, 0);
    assert_eq!(rows(silent.folder.path())[0]["detailsFrom"], Value::Null);
    // It was asked: nobody asks it again, though it did not say of what system it is.
    let (code, again) = crawl(&crawled.case, crawled.folder.path(), &[]);
    assert_eq!((code, &again["changes"]), (0, &json!(0)));
    assert!(again["requests"].as_u64().unwrap() < crawled.end.1["requests"].as_u64().unwrap());
}

fn known_names_are_printed_though_another_is_unknown() {
    let crawled = Crawled::of(Case::start("rhel-stray-9.4"), &[]);
    let latest = |names: &[&str]| {
        let latest = [&["images", "latest", "-o", "tsv", "--query", "[].id"], names].concat();
        finish(&mut crawled.azimg(&latest))
    };
    let (known, id) = ("RedHat:RHEL:9-lvm-gen2", "RedHat:RHEL:9-lvm-gen2:9.8.2026061512");
    for names in [[known, "RedHat:RHEL:nosuch"], ["RedHat:RHEL:nosuch", known]] {
        let (code, stdout, stderr) = latest(&names);
        assert_eq!((code, stdout.trim()), (4, id));
        assert_eq!(
            stderr.trim(),
            "azimg: no image of RedHat:RHEL:nosuch is in the catalog; 'RHEL' has no SKU 'nosuch'"
        );
    }
    let (code, stdout, stderr) = latest(&["g/d", known, "a:b:c"]);
    assert_eq!((code, stdout.trim()), (4, id));
    assert!(stderr.contains("no image definition g/d") && stderr.contains("a:b:c"), "{stderr}");
    let (code, stdout, _) = latest(&["a:b:c"]);
    assert_eq!((code, stdout.as_str()), (4, ""));
    // What names nothing is told before anything is read.
    let (code, stdout, _) = latest(&[known, "RedHat"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
}

fn a_denied_location_is_reported_and_can_be_left_out() {
    let crawled = Crawled::of(Case::start("restricted-location"), &[]);
    let (code, result) = &crawled.end;
    assert_eq!((*code, &result["state"]), (3, &json!("partial")), "{result}");
    let run = result["run"].as_str().unwrap();
    let shown = crawled.reported(&["runs", "show", run]);
    let text = shown.to_string();
    assert!(text.contains("does not have access to the location 'francesouth'"), "{text}");
    let store = crawled.folder.path();
    let coverage = read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    let scopes = coverage["scopes"].as_array().unwrap().iter();
    let states: BTreeMap<&str, &str> = scopes
        .filter(|line| line["source"] == "marketplace" && line["publisher"].is_null())
        .map(|line| (line["location"].as_str().unwrap(), line["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, BTreeMap::from([("eastus", "done"), ("francesouth", "denied")]));
    assert_eq!(rows(store)[0]["locations"], json!(["eastus"]));
    // For good: by a setting, or for one run.
    let setting =
        crawled.azimg(&["crawl", "-o", "json"]).env("AZIMG_LOCATIONS", "-francesouth").output();
    let result: Value = serde_json::from_slice(&setting.unwrap().stdout).unwrap();
    assert_eq!(result["state"], "complete", "{result}");
    let (code, result) = crawl(&crawled.case, store, &["--location", "-France South"]);
    assert_eq!((code, &result["state"]), (0, &json!("complete")));
    let refused =
        |location: &str| finish(&mut crawled.azimg(&["crawl", &format!("--location={location}")]));
    let (code, _, stderr) = refused("-francesout");
    assert!(code == 2 && stderr.contains("the nearest is francesouth"), "{stderr}");
    let (code, _, stderr) =
        finish(&mut crawled.azimg(&["crawl", "--location=eastus", "--location=-eastus"]));
    assert!(code == 2 && stderr.contains("no location to crawl"), "{stderr}");
}

fn an_alias_without_a_version_is_not_found() {
    let crawled = Crawled::of(Case::start("suse-empty-sku"), &[]);
    assert_eq!(crawled.end.0, 0);
    let (code, stdout, stderr) = finish(&mut crawled.azimg(&["images", "latest", "SuseSles15SP3"]));
    assert_eq!((code, stdout.as_str()), (4, ""));
    let none = "azimg: no image of SUSE:sles-15-sp3:gen2 is in the catalog; 'SUSE' has no offer ";
    assert!(stderr.starts_with(none), "{stderr}");
    let aliases = crawled.reported(&["images", "aliases"]);
    assert_eq!(aliases, json!([]));
}

fn the_latest_is_the_highest_number_whenever_it_was_built() {
    let crawled = Crawled::of(Case::start("rhel-stray-9.4"), &[]);
    let latest =
        crawled.reported(&["images", "latest", "RedHat:RHEL:9-lvm-gen2", "--query", "[].version"]);
    assert_eq!(latest, json!(["9.8.2026061512"]));
}

fn odd_names_are_returned_and_odd_versions_are_ordered() {
    let crawled = Crawled::of(Case::start("odd-names"), &[]);
    assert_eq!(crawled.end.0, 0, "{}", crawled.end.1);
    let latest = |sku: &str, locations: &[&str]| {
        let mut latest = vec!["images", "latest", sku, "--query", "[0].version"];
        latest.extend(locations.iter().flat_map(|location| ["--location", location]));
        crawled.reported(&latest)
    };
    for (sku, expected) in [
        ("odd:odd:zeros", "2019.030.06"),
        ("odd:odd:four", "1.0.0.10"),
        ("odd:odd:huge", "1.0.100000000000000000000000000"),
        ("canonical:ubuntuserver:18.04-lts", "18.04.202401162"),
    ] {
        assert_eq!(latest(sku, &[]), expected, "{sku}");
    }
    let ubuntu = "Canonical:UbuntuServer:18.04-LTS";
    assert_eq!(latest(ubuntu, &["westeurope"]), "18.04.202401162");
    assert_eq!(latest(ubuntu, &["eastus", "westeurope"]), "18.04.202401161");
    let found = rows(crawled.folder.path());
    let of_sku =
        found.iter().filter(|row| row["sku"].as_str().unwrap().eq_ignore_ascii_case("18.04-lts"));
    let marked = of_sku.filter(|row| row["isLatest"] == true).map(|row| row["version"].clone());
    assert_eq!(marked.collect::<Vec<_>>(), ["18.04.202401162"]);
    let ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
    for name in [
        "spaced pub:of fer:s ku:1.0.0",
        "pub+plus:50%off:a&b=c#d?e:1.0.0",
        "ünïcode:öffer:sku:1.0.0",
    ] {
        assert!(ids.contains(&name), "{ids:?}");
    }
    // No name of Azure's has a colon: what would have one is no URN.
    for id in ids.iter().filter(|id| id.matches(':').count() == 3) {
        assert_eq!(crawled.reported(&["images", "show", id])["id"], *id);
    }
    over_http(crawled.folder.path(), |get| {
        for id in ids.iter().filter(|id| id.matches(':').count() == 3) {
            let encoded =
                percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
            assert_eq!(get(&format!("images/{encoded}"))["id"], *id);
            let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            assert_eq!(get(&format!("images?id={encoded}"))["value"][0]["id"], *id);
        }
    });
}

fn the_feed_reports_the_new_latest() {
    let linux = json!({"osDiskImage": {"operatingSystem": "Linux"}, "hyperVGeneration": "V2",
        "architecture": "x64"});
    let tenant = |versions: &[&str]| {
        let versions: Vec<Value> = versions.iter().map(|name| version(name, &linux)).collect();
        Case::serve(
            json!({"locations": ["eastus"], "marketplace": {"eastus": {"p": {"o": {"s": versions}}}}}),
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mut feeds = Vec::new();
    for versions in [&["1.9.0"][..], &["1.8.0", "1.9.0", "1.10.0"], &["1.8.0", "1.9.0"]] {
        let case = tenant(versions);
        assert_eq!(crawl(&case, folder.path(), &["--full"]).0, 0);
        let changes = ["changes", "-o", "json", "--store", folder.path().to_str().unwrap()];
        let feed = json(&mut case.azimg(&changes));
        let feed = feed.as_array().unwrap().iter().map(|row| {
            let version = row["id"].as_str().unwrap().rsplit(':').next().unwrap();
            let latest = |state: &Value| match state {
                Value::Object(row) => row["isLatest"].clone(),
                state => state.clone(),
            };
            let [before, after] = ["before", "after"].map(|name| latest(&row[name]));
            format!("{version} {} {before} {after}", row["change"].as_str().unwrap())
        });
        feeds.push(feed.collect::<Vec<_>>());
    }
    assert_eq!(feeds[0], Vec::<String>::new());
    assert_eq!(
        feeds[1],
        ["1.8.0 added null false", "1.9.0 latest true false", "1.10.0 added null true"]
    );
    assert_eq!(feeds[2], ["1.9.0 latest false true", "1.10.0 removed true null"]);
}
