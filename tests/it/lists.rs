//! Lists: distinct names with their counts, sorting, limits and searches, on the command line and over HTTP.

use crate::support::lists::{asks, assert_says, command, get, places, rows, said, text};
use crate::support::{finish, json};
use crate::tests;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

tests![
    publishers_offers_and_skus_are_counted,
    locations_are_counted_over_all_tables,
    lists_are_sorted_cut_and_narrowed_to_the_latest,
    separators_are_alike_and_short_names_are_words_of_a_search,
    the_newest_image_is_shown_by_its_short_name,
    distinct_names_come_in_pages_over_http,
];

/// Rows by some of their fields.
fn by<'a>(rows: &'a [Value], names: &[&str]) -> BTreeMap<Vec<String>, Vec<&'a Value>> {
    let mut found: BTreeMap<Vec<String>, Vec<&Value>> = BTreeMap::new();
    for row in rows {
        let key = names.iter().map(|name| text(row, name)).collect();
        found.entry(key).or_default().push(row);
    }
    found
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
