//! What the page in a browser asks for beside images: SKUs with facets, locations, suggestions, storage and coverage.

use crate::support::case::{Case, tenant};
use crate::support::crawled::{Crawled, over_http, version};
use crate::support::lists::{asks, get, rows, text};
use crate::tests;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

tests![
    skus_are_counted_with_facets_and_sorted,
    what_is_not_a_parameter_is_refused_by_name,
    answers_that_a_caller_has_are_not_sent_again,
    repositories_are_listed_with_their_bytes,
    suggestions_begin_with_what_begins_so,
    locations_that_could_not_be_listed_are_rows,
    a_coverage_is_grouped_by_reason,
    an_empty_catalog_is_no_error,
    hostile_names_are_values_and_nothing_else,
];

fn list(page: &Value) -> &Vec<Value> {
    page["value"].as_array().unwrap_or_else(|| panic!("{page}"))
}

fn skus_are_counted_with_facets_and_sorted() {
    let images = rows(&["images", "list", "--kind", "marketplace"]);
    let names = ["publisher", "offer", "sku"];
    let skus = |rows: &mut dyn Iterator<Item = &Value>| {
        rows.map(|row| names.map(|name| text(row, name).to_lowercase())).collect::<BTreeSet<_>>()
    };
    let others = rows(&["images", "list", "--kind", "gallery-version"]).len();
    let known = rows(&["skus"]);
    asks(|client, at| async move {
        let (status, page) = get(&client, &at("skus?facets=true&count=true&top=3")).await;
        assert_eq!(status, 200, "{page}");
        assert_eq!(list(&page), &known[..3]);
        assert_eq!(page["total"], skus(&mut images.iter()).len());
        assert_eq!(page["images"], images.len());
        let facets = &page["facets"];
        assert_eq!(facets["kind"][0], json!({"value": "marketplace", "skus": page["total"]}));
        let kinds = facets["kind"].as_array().unwrap();
        assert!(
            kinds.contains(&json!({"value": "gallery-version", "images": others})),
            "{kinds:?}"
        );
        for location in facets["location"].as_array().unwrap() {
            let there =
                |row: &&Value| row["locations"].as_array().unwrap().contains(&location["value"]);
            assert_eq!(location["skus"], skus(&mut images.iter().filter(there)).len());
        }
        // Each value of a facet is what a list by it has, whatever the facet's own filter is.
        for (facet, own) in
            [("architecture", "x64"), ("os", "Linux"), ("generation", "V2"), ("plan", "no")]
        {
            let url = at(&format!("skus?facets=true&search=server&{facet}={own}"));
            let page = get(&client, &url).await.1;
            let values = page["facets"][facet].as_array().unwrap();
            for value in values.iter().filter(|one| !one["value"].is_null()) {
                let by = value["value"].as_str().unwrap();
                let url = at(&format!("skus?count=true&top=1&search=server&{facet}={by}"));
                assert_eq!(get(&client, &url).await.1["total"], value["skus"], "{facet} {by}");
            }
            assert!(values.iter().any(|one| one["value"] == own), "{facet}: {values:?}");
        }
        // Later pages have the same numbers, and the order holds over all pages.
        let (mut found, mut next) = (Vec::new(), Some(at("skus?sort=images&count=true&top=50")));
        while let Some(url) = next {
            let page = get(&client, &url).await.1;
            assert_eq!(page["total"], known.len(), "{page}");
            found.extend(list(&page).clone());
            next = page["nextLink"].as_str().map(str::to_owned);
        }
        let mut sorted = known.clone();
        sorted.sort_by_key(|row| std::cmp::Reverse(row["images"].as_u64()));
        assert_eq!(found, sorted);
        let plain = get(&client, &at("skus?top=1")).await.1;
        assert!(["total", "images", "facets"].iter().all(|name| plain.get(name).is_none()));
    });
}

fn what_is_not_a_parameter_is_refused_by_name() {
    asks(|client, at| async move {
        for (query, name) in [
            ("skus?facets=perhaps", "facets"),
            ("skus?count=1", "count"),
            ("skus?sort=colour", "sort"),
            ("skus?sort=name&sort=images", "sort"),
            ("skus?facets=true&location=atlantis", "location"),
            ("publishers?facets=true", "facets"),
            ("offers?sort=name", "sort"),
            ("suggestions?search=a&top=0", "top"),
            ("suggestions?query=a", "query"),
            ("suggestions?search=%00", "search"),
            ("registries/storage?repository=a", "repository"),
            ("registries/storage?skipToken=x", "skipToken"),
            ("runs/current/coverage?top=1", "top"),
            ("runs/newest/coverage", "run"),
        ] {
            let (status, error) = get(&client, &at(query)).await;
            assert_eq!(
                (status, &error["error"]["target"]),
                (400, &json!(name)),
                "{query}: {error}"
            );
        }
        let (status, _) = get(&client, &at("runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/coverage")).await;
        assert_eq!(status, 404);
        let many = format!("suggestions?search={}", "a%20".repeat(17));
        assert_eq!(get(&client, &at(&many)).await.0, 400);
    });
}

fn answers_that_a_caller_has_are_not_sent_again() {
    asks(|client, at| async move {
        for query in [
            "skus?facets=true",
            "locations",
            "suggestions?search=deb",
            "registries/storage",
            "runs/current/coverage",
        ] {
            let answer = client.get(at(query)).send().await.unwrap();
            let tag = answer.headers()["etag"].clone();
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let again = client.get(at(query)).header("if-none-match", tag).send().await.unwrap();
            assert_eq!(again.status(), 304, "{query}");
            assert_eq!(get(&client, &at(query)).await, (200, body), "{query}");
        }
    });
}

fn repositories_are_listed_with_their_bytes() {
    let images = rows(&["images", "list", "--kind", "container-manifest"]);
    let mut wanted: BTreeMap<[String; 2], [u64; 3]> = BTreeMap::new();
    for row in &images {
        let tags = row["tags"].as_array().unwrap().len() as u64;
        let sums = wanted.entry(["loginServer", "repository"].map(|name| text(row, name)));
        let sums = sums.or_default();
        *sums = [sums[0] + 1, sums[1] + tags, sums[2] + u64::from(tags == 0)];
    }
    let server = text(&images[0], "loginServer");
    let reported = rows(&["registry", "repositories", &server, "--storage"]);
    asks(|client, at| async move {
        let (mut found, mut next) = (Vec::new(), Some(at("registries/storage?top=2")));
        while let Some(url) = next {
            let page = get(&client, &url).await.1;
            found.extend(list(&page).clone());
            next = page["nextLink"].as_str().map(str::to_owned);
        }
        assert!(found.is_sorted_by_key(|row| std::cmp::Reverse(row["bytes"].as_u64())));
        let sums = found.iter().map(|row| {
            let counts = ["manifests", "tags", "untagged"].map(|name| row[name].as_u64().unwrap());
            (["registry", "repository"].map(|name| text(row, name)), counts)
        });
        assert_eq!(sums.collect::<BTreeMap<_, _>>(), wanted);
        assert!(found.iter().any(|row| row["bytes"].as_u64() > Some(0)), "{found:?}");
        let of_one = get(&client, &at(&format!("registries/storage?registry={server}"))).await.1;
        assert_eq!(list(&of_one).len(), reported.len());
        for row in list(&of_one) {
            let same = |one: &&Value| one["repository"] == row["repository"];
            let reported = reported.iter().find(same).unwrap();
            if row["bytes"].is_null() {
                assert_eq!(row["unknown"], row["manifests"], "{row}");
                continue;
            }
            assert_eq!(row["exclusiveBytes"], reported["exclusive"]);
            assert_eq!(row["sharedBytes"], reported["shared"]);
            let sum =
                reported["exclusive"].as_u64().unwrap() + reported["shared"].as_u64().unwrap();
            assert_eq!(row["bytes"], sum);
        }
    });
}

fn suggestions_begin_with_what_begins_so() {
    let publishers = rows(&["publishers"]);
    let locations = rows(&["locations"]);
    asks(|client, at| async move {
        let ask = async |query: &str| get(&client, &at(&format!("suggestions?{query}"))).await.1;
        let found = ask("search=deb").await;
        let first = &list(&found)[0];
        assert!(text(first, "text").to_lowercase().starts_with("deb"), "{found}");
        assert!(list(&found).len() <= 10);
        let all = ask("search=deb&top=1000").await;
        let starts = |row: &Value| text(row, "text").to_lowercase().starts_with("deb");
        assert!(list(&all).is_sorted_by(|one, next| starts(one) >= starts(next)), "{all}");
        assert_eq!(list(&all)[..list(&found).len()], list(&found)[..]);
        let of = |page: &Value, kind: &str| -> Vec<Value> {
            list(page).iter().filter(|row| row["kind"] == kind).cloned().collect()
        };
        let canonical = ask("search=CANONICAL").await;
        let counted = publishers.iter().find(|row| row["publisher"] == "Canonical").unwrap();
        let expected =
            json!({"kind": "publisher", "text": "Canonical", "images": counted["images"]});
        assert_eq!(list(&canonical)[0], expected);
        // Words above a name narrow it.
        let server = ask("search=canonical%20server&top=1000").await;
        let skus = of(&server, "sku");
        assert!(
            !skus.is_empty() && skus.iter().any(|row| row["publisher"] == "Canonical"),
            "{server}"
        );
        assert_eq!(of(&ask("search=ubuntu2404").await, "alias")[0]["publisher"], "Canonical");
        let place = &locations[0];
        let found = ask(&format!("search={}", text(place, "location"))).await;
        let sum = ["marketplace", "gallery", "registry"].map(|name| place[name].as_u64().unwrap());
        assert_eq!(of(&found, "location")[0]["images"], sum.iter().sum::<u64>());
        for (kind, flag, column) in [
            ("gallery", "gallery-version", "gallery"),
            ("definition", "gallery-version", "definition"),
            ("repository", "container-manifest", "repository"),
        ] {
            let row = rows(&["images", "list", "--kind", flag])[0].clone();
            let name = text(&row, column);
            let mut url = at("suggestions?top=1000&search=");
            url.extend(url::form_urlencoded::byte_serialize(name.as_bytes()));
            let found = get(&client, &url).await.1;
            assert!(of(&found, kind).iter().any(|one| one["text"] == *name), "{name}: {found}");
        }
        for nothing in ["search=", "search=%20", "search=zzzzzz", ""] {
            assert_eq!(ask(nothing).await, json!({"value": []}), "{nothing}");
        }
    });
}

/// A catalog of a tenant whose second location may not be used.
fn restricted() -> Crawled {
    let crawled = Crawled::of(Case::serve(tenant("restricted-location")), &[]);
    assert_ne!(crawled.end.0, 0, "{}", crawled.end.1);
    crawled
}

fn locations_that_could_not_be_listed_are_rows() {
    let crawled = restricted();
    let reported = crawled.reported(&["locations"]);
    over_http(crawled.folder.path(), |get| {
        let found = get("locations");
        assert_eq!(found["value"], reported);
        let place =
            |name: &str| list(&found).iter().find(|row| row["location"] == name).unwrap().clone();
        let (there, missing) = (place("eastus"), place("francesouth"));
        assert_eq!((&there["state"], &there["geography"]), (&json!("done"), &json!("US")));
        assert_eq!(there["displayName"], "East US");
        assert_eq!(there["listedAt"], get("runs/current/coverage")["startedAt"]);
        let counts = ["publishers", "marketplace", "gallery", "registry"];
        assert!(counts.iter().all(|name| missing[name] == 0), "{missing}");
        assert_eq!((&missing["state"], &missing["listedAt"]), (&json!("denied"), &Value::Null));
        assert_eq!(missing["geography"], "Europe");
        // They are no answer to a question about other images or places.
        assert_eq!(list(&get("locations?kind=gallery-version")).len(), 0);
        assert_eq!(list(&get("locations?search=east")).len(), 1);
    });
}

fn a_coverage_is_grouped_by_reason() {
    let crawled = restricted();
    over_http(crawled.folder.path(), |get| {
        let runs = get("runs");
        let run = &list(&runs)[0];
        let found = get("runs/current/coverage");
        assert_eq!(found, get(&format!("runs/{}/coverage", text(run, "run"))));
        for name in ["run", "state", "startedAt", "publishedAt"] {
            assert_eq!(found[name], run[name], "{name}");
        }
        assert_eq!(found["state"], "partial");
        let whole = get(&format!("runs/{}", text(run, "run")));
        let scopes = whole["scopes"].as_array().unwrap();
        let gaps = found["gaps"].as_array().unwrap();
        let missing =
            scopes.iter().filter(|line| line["state"] != "done" && line["state"] != "empty");
        let sum: u64 = gaps.iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
        assert_eq!(sum, missing.count() as u64);
        assert_eq!(gaps[0]["outcome"], "denied");
        assert_eq!(gaps[0]["scopes"], json!(["francesouth"]));
        assert!(text(&gaps[0], "reason").contains("does not have access"), "{gaps:?}");
        for (list, name) in [("sources", "source"), ("locations", "location")] {
            for row in found[list].as_array().unwrap() {
                for state in ["done", "empty", "gone", "denied", "failed", "carried"] {
                    let is = |line: &&Value| line["state"] == state && line[name] == row[name];
                    assert_eq!(row[state], scopes.iter().filter(is).count(), "{row} {state}");
                }
            }
        }
        assert_eq!(found["locations"].as_array().unwrap().len(), 2, "{found}");
        // A row of a run has what a chart of runs shows.
        let by_source = run["imagesBySource"].as_object().unwrap();
        assert_eq!(
            by_source.values().map(|n| n.as_u64().unwrap()).sum::<u64>(),
            run["images"].as_u64().unwrap()
        );
        assert!(run["seconds"].is_u64(), "{run}");
    });
}

fn an_empty_catalog_is_no_error() {
    let nothing = json!({"locations": ["eastus"], "marketplace": {"eastus": {}}});
    let crawled = Crawled::of(Case::serve(nothing), &[]);
    over_http(crawled.folder.path(), |get| {
        let page = get("skus?facets=true&count=true&search=a&sort=ends");
        assert_eq!(
            (&page["value"], &page["total"], &page["images"]),
            (&json!([]), &json!(0), &json!(0))
        );
        assert_eq!(page["facets"]["kind"], json!([{"value": "marketplace", "skus": 0}]));
        assert_eq!(page["facets"]["os"], json!([]));
        for query in ["locations", "suggestions?search=a", "registries/storage"] {
            assert_eq!(get(query), json!({"value": []}), "{query}");
        }
        assert_eq!(get("runs/current/coverage")["gaps"], json!([]));
    });
    // Nothing was ever crawled.
    let folder = tempfile::tempdir().unwrap();
    over_http(folder.path(), |get| {
        for query in [
            "skus?facets=true",
            "locations",
            "suggestions?search=a",
            "registries/storage",
            "runs/current/coverage",
        ] {
            assert_eq!(get(query)["error"]["code"], "NotFound", "{query}");
        }
    });
}

fn hostile_names_are_values_and_nothing_else() {
    const NAMES: [&str; 4] =
        ["<script>alert(1)</script>", "a\"b'c`${d}", "x\u{202e}gnp", "two\nlines"];
    let image = json!({"osDiskImage": {"operatingSystem": "Linux"}, "hyperVGeneration": "V2", "architecture": "x64"});
    let offers: Value = NAMES
        .iter()
        .map(|name| ((*name).to_owned(), json!({"server": [version("1.0.0", &image)]})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let tenant = json!({"locations": ["eastus"], "marketplace": {"eastus": {"p": offers}}});
    let crawled = Crawled::of(Case::serve(tenant), &["--details", "all"]);
    let listed: BTreeSet<String> = crawled
        .reported(&["skus"])
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(row, "offer"))
        .collect();
    assert!(listed.len() > 1, "{}", crawled.end.1);
    over_http(crawled.folder.path(), |get| {
        let page = get("skus?facets=true");
        let found = list(&page).iter().map(|row| text(row, "offer"));
        assert_eq!(found.collect::<BTreeSet<_>>(), listed);
        for row in list(&page) {
            assert_eq!(row["id"], format!("p:{}:server:1.0.0", text(row, "offer")));
        }
        for name in &listed {
            let word = name.split_whitespace().next().unwrap();
            let word: String = word.chars().take_while(|c| *c != ':').collect();
            let mut url = "suggestions?search=".to_owned();
            url.extend(url::form_urlencoded::byte_serialize(word.as_bytes()));
            let found = get(&url);
            assert!(list(&found).iter().any(|row| row["text"] == **name), "{name}: {found}");
        }
        assert_eq!(page["facets"]["publisher"], json!([{"value": "p", "skus": listed.len()}]));
    });
}
