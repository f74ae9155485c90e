//! Names in a list that the catalog does not have: the nearest is suggested.

use crate::support::lists::{asks, assert_says, command, get, rows, said, stage, text};
use crate::support::{azimg, finish, json};
use crate::tests;
use serde_json::{Value, json as value};
use std::collections::BTreeSet;

tests![
    several_values_are_given_with_commas_or_by_repetition,
    a_wrong_name_of_a_closed_set_gets_the_nearest,
    an_unknown_name_is_reported_with_the_nearest,
    a_crawl_reports_unknown_publishers,
];

fn several_values_are_given_with_commas_or_by_repetition() {
    let both =
        rows(&["images", "list", "-l", "eastus", "--location", "westus2", "--kind", "marketplace"]);
    assert_eq!(rows(&["images", "list", "-l", "eastus,West US 2", "--kind", "marketplace"]), both);
    assert!(both.iter().all(|row| {
        let places = row["locations"].as_array().unwrap();
        ["eastus", "westus2"].iter().all(|place| places.contains(&value!(place)))
    }));
    let kinds = rows(&["images", "list", "--kind", "gallery-version,managed-image"]);
    let found: BTreeSet<String> = kinds.iter().map(|row| text(row, "kind")).collect();
    assert_eq!(found, ["gallery-version", "managed-image"].map(str::to_owned).into());
    let statuses = rows(&["images", "list", "--status", "scheduled", "--status", "Deprecated"]);
    assert_eq!(rows(&["images", "list", "--status", "scheduled,deprecated"]), statuses);
    let usage = rows(&["images", "usage", "--finding", "current,not-latest"]);
    assert!(
        usage
            .iter()
            .all(|row| ["current", "not-latest"].contains(&row["finding"].as_str().unwrap()))
    );
    let latest = |places: &[&str]| rows(&[&["images", "latest", "Ubuntu2404"], places].concat());
    assert_eq!(latest(&["-l", "eastus,westus2"]), latest(&["-l", "eastus", "-l", "westus2"]));
    asks(|client, at| async move {
        let same = async |one: &str, other: &str| {
            let (status, page) = get(&client, &at(one)).await;
            assert_eq!(status, 200, "{one}: {page}");
            assert_eq!(get(&client, &at(other)).await.1["value"], page["value"], "{one}");
            assert!(!page["value"].as_array().unwrap().is_empty(), "{one}");
        };
        same(
            "images?location=eastus,westus2&top=9",
            "images?location=eastus&location=westus2&top=9",
        )
        .await;
        same(
            "images?kind=gallery-version&kind=managed-image",
            "images?kind=gallery-version,managed-image",
        )
        .await;
        let (_, page) = get(&client, &at("images?latest=true&publisher=debian")).await;
        assert!(page["value"].as_array().unwrap().iter().all(|row| row["isLatest"] == true));
    });
}

/// Wrong values of options with a closed set of names, and the nearest names.
const WRONG: [(&str, &str, &str); 4] = [
    ("status", "deprecatd", "the nearest is deprecated"),
    ("kind", "gallery", "the nearest are gallery-version, gallery-definition"),
    ("os", "windws", "the nearest is Windows"),
    ("architecture", "arm_64", "the nearest are Arm64, arm"),
];

const NO_LOCATION: [&str; 2] = ["the catalog has no location 'eastuss'", "eastus"];

fn a_wrong_name_of_a_closed_set_gets_the_nearest() {
    wrong_names_are_refused_on_the_command_line();
    wrong_names_are_refused_over_http();
}

fn wrong_names_are_refused_on_the_command_line() {
    for (name, given, nearest) in WRONG {
        let stderr = said(&["images", "list", &format!("--{name}"), given], 2);
        assert_says(&stderr, &[&format!("--{name}"), given, nearest]);
    }
    for line in [
        &["images", "usage", "--finding", "gon"][..],
        &["changes", "--change", "aded"],
        &["crawl", "--source", "market"],
        &["publishers", "--status", "actve"],
        &["gallery", "versions", "--os", "linus"],
    ] {
        let stderr = said(line, 2);
        assert_says(&stderr, &["; the nearest ", line[line.len() - 2]]);
    }
    for line in [
        &["images", "list", "-l", "eastus,eastuss"][..],
        &["images", "latest", "Ubuntu2404", "-l", "East USs"],
        &["images", "usage", "-l", "eastuss"],
        &["publishers", "-l", "eastuss"],
        &["gallery", "versions", "-l", "eastuss"],
        &["images", "list", "--not-in", "eastuss"],
        &["skus", "--not-in", "westus2,eastuss"],
    ] {
        assert_says(&said(line, 2), &NO_LOCATION[1..]);
    }
    assert_says(&said(&["images", "list", "-l", "eastuss"], 2), &NO_LOCATION);
    // A location that galleries alone know is one of the catalog.
    let others = rows(&["locations"]).into_iter().find(|row| row["marketplace"] == 0);
    if let Some(other) = others {
        assert!(!rows(&["images", "list", "-l", &text(&other, "location")]).is_empty());
    }
}

fn wrong_names_are_refused_over_http() {
    asks(|client, at| async move {
        let lists = ["images", "publishers", "offers", "skus", "locations"];
        for (name, given, nearest) in WRONG {
            for list in lists.iter().filter(|list| {
                name != "kind"
                    || list.ends_with('s') && !["publishers", "offers", "skus"].contains(list)
            }) {
                let (status, error) = get(&client, &at(&format!("{list}?{name}={given}"))).await;
                assert_eq!(
                    (status, &error["error"]["target"]),
                    (400, &name.into()),
                    "{list} {error}"
                );
                assert_says(&error["error"]["message"].to_string(), &[given, nearest]);
            }
        }
        for list in [
            "images?",
            "images?kind=gallery-version&",
            "publishers?",
            "skus?",
            "images/usage?",
            "images/latest?urn=Ubuntu2404&",
        ] {
            let (status, error) = get(&client, &at(&format!("{list}location=eastuss"))).await;
            assert_eq!(
                (status, &error["error"]["target"]),
                (400, &"location".into()),
                "{list} {error}"
            );
            assert_says(&error["error"]["message"].to_string(), &NO_LOCATION);
        }
        for (query, target) in
            [("images/usage?finding=gon", "finding"), ("changes?change=aded,added", "change")]
        {
            let (status, error) = get(&client, &at(query)).await;
            assert_eq!((status, &error["error"]["target"]), (400, &target.into()), "{error}");
            assert_says(&error["error"]["message"].to_string(), &["; the nearest "]);
        }
    });
}

fn an_unknown_name_is_reported_with_the_nearest() {
    for (line, words) in [
        (
            &["images", "list", "--publisher", "canonicl"][..],
            &["no publisher with 'canonicl'", "Canonical"][..],
        ),
        (&["images", "list", "-p", "canon", "--exact"], &["no publisher 'canon'", "Canonical"]),
        (
            &["skus", "-p", "Canonical", "-f", "ubuntu-24_05-lts"],
            &["no offer with", "ubuntu-24_04-lts"],
        ),
        (
            &["gallery", "versions", "--gallery", "galery_001"],
            &["no gallery with 'galery_001'", "gallery_001"],
        ),
        (
            &["gallery", "list", "--definition", "zzzzz"],
            &["no image definition with 'zzzzz' in its name."],
        ),
        (&["images", "list", "--registry", "zzzzz"], &["no registry with 'zzzzz' in its name."]),
    ] {
        let (code, stdout, stderr) = finish(&mut command(&[line, &["-o", "json"]].concat()));
        assert_eq!((code, stdout.trim()), (0, "[]"), "{stderr}");
        assert_says(&stderr, words);
        let quiet = said(&[line, &["--quiet"]].concat(), 0);
        assert_eq!(quiet, "");
    }
    for (urn, words) in [
        (
            "Canonicl:ubuntu-24_04-lts:server",
            &["it has no publisher 'Canonicl'", "nearest is Canonical"][..],
        ),
        ("canonical:ubuntu-24.05-lts:server", &["'canonical' has no offer", "ubuntu-24_04-lts"]),
        ("Canonical:ubuntu-24_04-lts:sever", &["'ubuntu-24_04-lts' has no SKU 'sever'", "server"]),
    ] {
        assert_says(&said(&["images", "latest", urn], 4), words);
        let version = format!("{urn}:1.0.0");
        assert_says(&said(&["images", "show", &version], 4), words);
        asks(|client, at| async move {
            for path in [format!("images/latest?urn={urn}"), format!("images/{version}")] {
                let (status, error) = get(&client, &at(&path)).await;
                assert_eq!(status, 404, "{path}");
                assert_says(&error["error"]["message"].to_string(), words);
            }
        });
    }
    let gallery = text(&rows(&["gallery", "list"])[0], "gallery");
    let near = format!("the nearest are {gallery}");
    assert_says(
        &said(&["images", "latest", &format!("{gallery}x/base")], 4),
        &["no gallery", &near],
    );
    let definition = text(&rows(&["gallery", "images", "--gallery", &gallery])[0], "definition");
    let wrong = format!("{gallery}/{definition}x");
    assert_says(&said(&["images", "latest", &wrong], 4), &["no image definition", &definition]);
    asks(|client, at| async move {
        let live = at("images?live=true&publisher=debian&location=eastuss");
        let (status, error) = get(&client, &live).await;
        assert_eq!((status, &error["error"]["target"]), (400, &"location".into()), "{error}");
        assert_says(&error["error"]["message"].to_string(), &["eastuss", "eastus"]);
        let (status, page) = get(&client, &at("images?publisher=canonicl")).await;
        assert_eq!((status, page), (200, value!({"value": []})));
    });
}

fn a_crawl_reports_unknown_publishers() {
    let (azure, _) = stage();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let crawl = |publishers: &str| {
        let line = ["crawl", "-l", "eastus", "--source", "marketplace", "-p", publishers];
        let (code, _, stderr) = finish(&mut azure.azimg(&[&line[..], &["--store", path]].concat()));
        assert_eq!(code, 0, "{stderr}");
        stderr
    };
    // Nothing is known yet: it is told by what was listed.
    let reported = crawl("canonicl");
    assert_says(
        &reported,
        &["In eastus no publisher has 'canonicl' in its name (the nearest is Canonical"],
    );
    let reported = crawl("debian,nosuchpublisher");
    assert_says(&reported, &["no publisher has 'nosuchpublisher' in its name"]);
    assert!(!reported.contains("'debian'"), "{reported}");
    assert!(!crawl("debian").contains("no publisher has"));
    // The coverage says it to whoever looks later.
    crawl("canonicl,debian");
    let shown = json(&mut azimg(&["runs", "list", "--store", path, "-o", "json"]));
    let run = text(&shown[0], "run");
    let file = folder.path().join(format!("snapshots/{run}/coverage.json"));
    let coverage: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let lines = coverage["scopes"].as_array().unwrap().iter();
    let lists: Vec<&Value> = lines.filter(|line| line.get("only").is_some()).collect();
    assert_eq!((lists.len(), &lists[0]["state"]), (1, &"done".into()));
    assert_says(&text(lists[0], "reason"), &["'canonicl'"]);
}
