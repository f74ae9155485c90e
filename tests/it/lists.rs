//! Lists as people ask for them: the different names with their counts, what is sorted and cut, searches, and what is
//! said of names that are wrong, on the command line and over HTTP.

use crate::support::web::Host;
use crate::support::{Azure, azimg, finish, json, threads};
use crate::tests;
use azimg::sim::{OrganisationSize, Scale, generate};
use reqwest::Client;
use serde_json::{Value, json as value};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

tests![
    publishers_offers_and_skus_are_counted,
    locations_are_counted_over_all_tables,
    lists_are_sorted_cut_and_narrowed_to_the_latest,
    separators_are_alike_and_short_names_are_words_of_a_search,
    the_newest_image_is_shown_by_its_short_name,
    several_values_come_with_commas_or_repeated,
    a_wrong_name_of_a_closed_set_gets_the_nearest,
    a_name_that_the_catalog_does_not_have_is_said_with_the_nearest,
    a_crawl_says_which_publisher_there_is_not,
    distinct_names_come_in_pages_over_http,
];

/// A store with one crawled snapshot of all tables, and what was crawled.
fn stage() -> &'static (Azure, TempDir) {
    static STAGE: OnceLock<(Azure, TempDir)> = OnceLock::new();
    STAGE.get_or_init(|| {
        let world = generate(Scale::Small, 61).with_generated_organisation(
            OrganisationSize { machines: 12, ..OrganisationSize::FEW },
            61,
        );
        let azure = Azure::start(world);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
        (azure, folder)
    })
}

fn command(arguments: &[&str]) -> Command {
    let (azure, folder) = stage();
    let mut all = arguments.to_vec();
    all.extend(["--store", folder.path().to_str().unwrap()]);
    azure.azimg(&all)
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    json(&mut command(&all)).as_array().unwrap().clone()
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}")).to_owned()
}

/// What a command says on stderr that ends so.
fn said(arguments: &[&str], code: i32) -> String {
    let (exit, _, stderr) = finish(&mut command(arguments));
    assert_eq!(exit, code, "{arguments:?}: {stderr}");
    stderr
}

fn assert_says(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
}

/// Rows by some of their fields.
fn by<'a>(rows: &'a [Value], names: &[&str]) -> BTreeMap<Vec<String>, Vec<&'a Value>> {
    let mut found: BTreeMap<Vec<String>, Vec<&Value>> = BTreeMap::new();
    for row in rows {
        let key = names.iter().map(|name| text(row, name)).collect();
        found.entry(key).or_default().push(row);
    }
    found
}

fn places(row: &Value) -> impl Iterator<Item = &str> {
    row["locations"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn publishers_offers_and_skus_are_counted() {
    for filter in [&[][..], &["--architecture", "arm64"], &["-l", "westus2", "--search", "server"]]
    {
        let with = |start: &[&'static str]| rows(&[start, filter].concat());
        let images = with(&["images", "list", "--kind", "marketplace"]);
        assert!(images.len() > 10, "{filter:?}");
        for (list, names) in [
            ("publishers", &["publisher"][..]),
            ("offers", &["publisher", "offer"]),
            ("skus", &["publisher", "offer", "sku"]),
        ] {
            let (found, expected) = (with(&[list]), by(&images, names));
            assert_eq!(found.len(), expected.len(), "{list} {filter:?}");
            for row in &found {
                let key: Vec<String> = names.iter().map(|name| text(row, name)).collect();
                let of_it: Vec<Value> = expected[&key].iter().map(|row| (*row).clone()).collect();
                let locations: BTreeSet<&str> = of_it.iter().flat_map(places).collect();
                assert_eq!(row["images"], of_it.len(), "{row}");
                assert_eq!(row["locations"], locations.len(), "{row}");
                let skus = by(&of_it, &["publisher", "offer", "sku"]).len();
                let offers = by(&of_it, &["publisher", "offer"]).len();
                match list {
                    "publishers" => {
                        assert_eq!((&row["offers"], &row["skus"]), (&offers.into(), &skus.into()));
                    }
                    "offers" => assert_eq!(row["skus"], skus),
                    _ => {
                        let latest = of_it.iter().find(|row| row["isLatest"] == true);
                        assert_eq!(
                            row["latest"],
                            latest.map_or(Value::Null, |r| r["version"].clone())
                        );
                    }
                }
            }
        }
    }
    let (code, stdout, _) =
        finish(&mut command(&["skus", "-p", "canonical", "-f", "24_04", "-o", "table"]));
    assert!(code == 0 && stdout.trim_start().starts_with("PUBLISHER"), "{stdout}");
    assert!(stdout.lines().skip(1).all(|line| line.contains("24_04")), "{stdout}");
}

fn locations_are_counted_over_all_tables() {
    let images = rows(&["images", "list"]);
    let found = rows(&["locations"]);
    let mut expected: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for row in &images {
        let table = match text(row, "kind").as_str() {
            "marketplace" => 0,
            "container-manifest" => 2,
            _ => 1,
        };
        for place in places(row).chain(row.get("location").and_then(Value::as_str)) {
            expected.entry(place.to_owned()).or_default()[table] += 1;
        }
    }
    let names = ["marketplace", "gallery", "registry"];
    let counted = |row: &Value| {
        (text(row, "location"), names.map(|n| usize::try_from(row[n].as_u64().unwrap()).unwrap()))
    };
    assert_eq!(found.iter().map(counted).collect::<BTreeMap<_, _>>(), expected);
    let sum = |at: usize| expected.values().map(|counts| counts[at]).sum::<usize>();
    assert!((0..3).all(|at| sum(at) > 0), "{expected:?}");
    for row in &found {
        let place = text(row, "location");
        if row["marketplace"] != 0 {
            assert_eq!(row["publishers"], rows(&["publishers", "-l", &place]).len());
        }
    }
    let west = rows(&["locations", "--search", "west us"]);
    let is_west =
        |row: &Value| ["west", "us"].iter().all(|part| text(row, "location").contains(part));
    assert!(!west.is_empty() && west.iter().all(is_west), "{west:?}");
    let galleries = rows(&["locations", "--kind", "gallery-version,managed-image"]);
    assert!(galleries.iter().all(|row| row["marketplace"] == 0 && row["gallery"] != 0));
}

fn lists_are_sorted_cut_and_narrowed_to_the_latest() {
    let all = rows(&["images", "list", "-p", "debian"]);
    let top = rows(&["images", "list", "-p", "debian", "--top", "3"]);
    assert_eq!(top, all[..3]);
    let latest = rows(&["images", "list", "-p", "debian", "--latest"]);
    let expected: Vec<Value> = all.iter().filter(|row| row["isLatest"] == true).cloned().collect();
    assert!(!latest.is_empty() && latest.len() < all.len());
    assert_eq!(latest, expected);
    let versions = rows(&["gallery", "versions", "--latest"]);
    assert!(!versions.is_empty() && versions.iter().all(|row| row["isLatest"] == true));
    let sorted = rows(&["publishers", "--sort", "images:desc,publisher", "--top", "5"]);
    let mut expected = rows(&["publishers"]);
    expected.sort_by_key(|row| {
        (std::cmp::Reverse(row["images"].as_u64()), text(row, "publisher").to_lowercase())
    });
    assert_eq!(sorted, expected[..5]);
    let newest = rows(&[
        "images",
        "list",
        "-p",
        "debian",
        "--sort",
        "first_seen_at,version:desc",
        "--top",
        "1",
    ]);
    assert_eq!(newest.len(), 1);
    // Of several tables, what is sorted and what is not is cut behind the same number.
    let kinds = ["images", "list", "--kind", "marketplace,gallery-version", "--top", "700"];
    let (plain, sorted) = (rows(&kinds), rows(&[&kinds[..], &["--sort", "kind,id:desc"]].concat()));
    assert_eq!([plain.len(), sorted.len()], [700, 700]);
    let key = |row: &Value| std::cmp::Reverse(text(row, "id").to_lowercase());
    assert!(sorted.is_sorted_by_key(|row| (text(row, "kind"), key(row))));
    let refused = said(&["images", "list", "--sort", "colour"], 2);
    assert_says(&refused, &["--sort", "no field 'colour'", "publisher"]);
    assert_says(&said(&["publishers", "--sort", "images:down"], 2), &["FIELD:desc"]);
    assert_says(&said(&["publishers", "--top", "0"], 2), &["--top"]);
}

fn separators_are_alike_and_short_names_are_words_of_a_search() {
    let search = |text: &str| rows(&["images", "list", "--search", text]);
    let known = search("ubuntu 24_04");
    assert!(known.iter().any(|row| row["offer"] == "ubuntu-24_04-lts"));
    for alike in ["ubuntu 24.04", "Ubuntu 24-04", "ubuntu-24.04"] {
        let found = search(alike);
        assert!(!found.is_empty(), "{alike}");
        assert!(found.iter().all(|row| known.contains(row)), "{alike}");
        assert!(text(&found[0], "id").contains("24_04"), "{alike}: {}", found[0]);
    }
    let short = search("ubuntu2404");
    let sku = rows(&[
        "images",
        "list",
        "-p",
        "Canonical",
        "-f",
        "ubuntu-24_04-lts",
        "-s",
        "server",
        "--exact",
    ]);
    assert_eq!(
        by(&short, &["id"]).into_keys().collect::<Vec<_>>(),
        by(&sku, &["id"]).into_keys().collect::<Vec<_>>()
    );
    assert_eq!(short[0]["isLatest"], true);
    // Beside other words, in lists of names and in galleries.
    assert_eq!(rows(&["skus", "--search", "Ubuntu2404 canonical"]).len(), 1);
    let gallery = &rows(&["gallery", "list"])[0];
    let other = text(gallery, "gallery").replace('_', ".");
    assert!(!rows(&["gallery", "versions", "--search", &other]).is_empty(), "{other}");
    // A filter is a part of a name as it is written.
    assert!(rows(&["images", "list", "--offer", "24.04"]).is_empty());
    assert!(!rows(&["images", "list", "--offer", "24_04"]).is_empty());
}

fn the_newest_image_is_shown_by_its_short_name() {
    let latest = rows(&["images", "latest", "Ubuntu2404"]);
    let names = ["Ubuntu2404", "ubuntu2404", "canonical:ubuntu-24_04-lts:server:latest"];
    for name in names {
        let shown = json(&mut command(&["images", "show", name, "-o", "json"]));
        assert_eq!(shown, latest[0], "{name}");
    }
    assert_says(&said(&["images", "show", "Ubuntu2405"], 2), &["publisher:offer:sku:version"]);
    asks(|client, at| async move {
        for name in names {
            assert_eq!(
                get(&client, &at(&format!("images/{name}"))).await,
                (200, latest[0].clone())
            );
        }
        let (status, error) =
            get(&client, &at("images/Canonicl:ubuntu-24_04-lts:server:latest")).await;
        assert_eq!(status, 404);
        assert_says(
            &error["error"]["message"].to_string(),
            &["no publisher 'Canonicl'", "Canonical"],
        );
    });
}

fn several_values_come_with_commas_or_repeated() {
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

#[allow(clippy::too_many_lines, reason = "it is a table")]
fn a_wrong_name_of_a_closed_set_gets_the_nearest() {
    let wrong = [
        ("status", "deprecatd", "the nearest is deprecated"),
        ("kind", "gallery", "the nearest are gallery-version, gallery-definition"),
        ("os", "windws", "the nearest is Windows"),
        ("architecture", "arm_64", "the nearest are Arm64, arm"),
    ];
    for (name, given, nearest) in wrong {
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
    let place = ["the catalog has no location 'eastuss'", "eastus"];
    for line in [
        &["images", "list", "-l", "eastus,eastuss"][..],
        &["images", "latest", "Ubuntu2404", "-l", "East USs"],
        &["images", "usage", "-l", "eastuss"],
        &["publishers", "-l", "eastuss"],
        &["gallery", "versions", "-l", "eastuss"],
        &["images", "list", "--not-in", "eastuss"],
        &["skus", "--not-in", "westus2,eastuss"],
    ] {
        assert_says(&said(line, 2), &place[1..]);
    }
    assert_says(&said(&["images", "list", "-l", "eastuss"], 2), &place);
    // A location that galleries alone know is one of the catalog.
    let others = rows(&["locations"]).into_iter().find(|row| row["marketplace"] == 0);
    if let Some(other) = others {
        assert!(!rows(&["images", "list", "-l", &text(&other, "location")]).is_empty());
    }
    asks(|client, at| async move {
        let lists = ["images", "publishers", "offers", "skus", "locations"];
        for (name, given, nearest) in wrong {
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
            assert_says(&error["error"]["message"].to_string(), &place);
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

fn a_name_that_the_catalog_does_not_have_is_said_with_the_nearest() {
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

fn a_crawl_says_which_publisher_there_is_not() {
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
    let told = crawl("canonicl");
    assert_says(
        &told,
        &["In eastus no publisher has 'canonicl' in its name (the nearest is Canonical"],
    );
    let told = crawl("debian,nosuchpublisher");
    assert_says(&told, &["no publisher has 'nosuchpublisher' in its name"]);
    assert!(!told.contains("'debian'"), "{told}");
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

fn distinct_names_come_in_pages_over_http() {
    asks(|client, at| async move {
        for list in ["publishers", "offers?architecture=arm64", "skus?search=server", "locations"] {
            let mark = if list.contains('?') { '&' } else { '?' };
            let (status, whole) = get(&client, &at(&format!("{list}{mark}top=1000"))).await;
            assert_eq!((status, whole.get("nextLink")), (200, None), "{list}");
            let whole = whole["value"].as_array().unwrap().clone();
            let (mut found, mut next) = (Vec::new(), Some(at(&format!("{list}{mark}top=2"))));
            while let Some(url) = next {
                let (status, page) = get(&client, &url).await;
                assert_eq!(status, 200, "{url}: {page}");
                found.extend(page["value"].as_array().unwrap().clone());
                next = page["nextLink"].as_str().map(str::to_owned);
            }
            assert_eq!(found, whole, "{list}");
            let mut line = vec![list.split('?').next().unwrap()];
            line.extend(
                match list.split_once('?').map(|(_, query)| query.split_once('=').unwrap()) {
                    Some(("architecture", _)) => vec!["--architecture", "arm64"],
                    Some(_) => vec!["--search", "server"],
                    None => vec![],
                },
            );
            assert_eq!(rows(&line), whole, "{list}");
        }
    });
}

async fn get(client: &Client, url: &str) -> (u16, Value) {
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
}

/// Asks a host of a copy of the store: one store has one host.
fn asks<F: Future<Output = ()>>(ask: impl FnOnce(Client, Box<dyn Fn(&str) -> String>) -> F) {
    let (azure, folder) = stage();
    let copy = tempfile::tempdir().unwrap();
    let mut cp = Command::new("cp");
    let (code, _, stderr) = finish(cp.arg("-r").arg(folder.path().join(".")).arg(copy.path()));
    assert_eq!(code, 0, "{stderr}");
    let host = Host::start(azure, copy.path());
    let address = host.address.clone();
    let at = move |path: &str| format!("{address}/{path}");
    threads(ask(host.caller(), Box::new(at)));
}
