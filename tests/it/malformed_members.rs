//! One member of one answer of the Resource Manager or of Resource Graph has another form: the run ends, all other rows
//! are unchanged, and what is missing is reported.
//!
//! `AZIMG_MUTATION=N` replays one, `AZIMG_MUTATIONS=N` makes N of them.

use crate::support::malformed::{Mutation, Rows, WHOLE, mutation, run, wire};
use crate::support::paused;
use crate::tests;
use azimg::testing::pipeline::snapshot::Completeness;
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

tests![
    one_odd_member_costs_no_other_row slow "a crawl for each member and kind",
    rows_that_lose_their_name_are_carried,
];

/// What may suffer by a mutation: the table, and names that all of its rows have in them that may.
fn about(mutation: &Mutation) -> (&'static str, Vec<String>) {
    let path = mutation.request.split('?').next().unwrap().to_lowercase();
    let segments: Vec<&str> = path.split('/').collect();
    let is_marketplace = path.contains("/publishers");
    let table = if is_marketplace { "marketplace" } else { "gallery" };
    let of_path = segments.windows(2).filter(|pair| match pair[0] {
        "locations" | "publishers" | "offers" | "skus" | "versions" => is_marketplace,
        // What others share is listed gallery by gallery, and is told or not as a whole.
        "galleries" | "communitygalleries" | "sharedgalleries" => true,
        "images" => path.contains("/galleries/"),
        _ => false,
    });
    let mut names: Vec<String> = of_path.map(|pair| pair[1].to_owned()).collect();
    let Some((at, row)) = &mutation.row else { return (table, names) };
    // Whoever has no name cannot be told from its neighbours. In the marketplace that is so for publishers alone.
    let is_its_name = [String::new(), format!("{at}/id"), format!("{at}/name")]
        .iter()
        .any(|name| mutation.pointer == *name || mutation.pointer == *at);
    let is_list_of_publishers = path.ends_with("/publishers");
    if is_its_name && (!is_marketplace || is_list_of_publishers) {
        return (table, names);
    }
    if let Some(id) = row["id"].as_str().filter(|id| id.contains("/galleries/")) {
        // The id has all names of what is above it, too.
        return (table, vec![id.to_lowercase().trim_start_matches('/').to_owned()]);
    }
    if is_marketplace || path.contains("/galleries/") {
        names.extend(row["name"].as_str().map(str::to_lowercase));
    }
    (table, names)
}

fn concerns((table, names): &(&str, Vec<String>), key: &str) -> bool {
    key.starts_with(table) && names.iter().all(|name| key.contains(&format!("/{name}/")))
}

/// A row without what it has of another version of its SKU.
fn own(row: &Value) -> Value {
    let mut row = row.clone();
    if row["kind"] == "marketplace" && row["detailsFrom"] != "this" {
        let details = ["detailsFrom", "os", "planPublisher", "planProduct", "planName", "features"];
        for member in details.into_iter().chain(["architecture", "hyperVGeneration"]) {
            row.as_object_mut().unwrap().shift_remove(member);
        }
    }
    row
}

/// Makes a run with one mutation, and says what is wrong with what came of it.
fn wrong(mutation: &Mutation) -> Option<String> {
    let whole = &WHOLE.rows;
    let ended = paused(run(&wire(Some(mutation.clone())), None));
    let path = mutation.request.split('?').next().unwrap();
    // What a run begins with may refuse it: whoever does not know what there is to crawl publishes nothing.
    let is_first = path == "/subscriptions"
        || path.ends_with("/locations")
        || path.ends_with("/providers/Microsoft.Compute");
    let (manifest, rows, _) = match ended {
        Ok(found) => found,
        Err(error) if is_first && mutation.row.is_none() => {
            return error.to_string().is_empty().then(|| "an error without words".to_owned());
        }
        Err(error) => return Some(format!("the run did not begin: {error}")),
    };
    let about = about(mutation);
    // One subscription or location of those that a run begins with costs what is there, and what others show there.
    let begun_with = mutation.row.as_ref().filter(|_| is_first).map(|(_, row)| {
        let name = row["subscriptionId"].as_str().or(row["name"].as_str()).unwrap_or("?");
        format!("/{}/", name.to_lowercase())
    });
    let is_first = |key: &str| {
        let shown = ["/sharedgalleries/", "/communitygalleries/"];
        let foreign = shown.iter().any(|kind| key.contains(kind));
        is_first && begun_with.as_ref().is_none_or(|name| key.contains(name) || foreign)
    };
    // A version's details are asked for in one location, and stand in all.
    let mut alike = about.clone();
    if about.0 == "marketplace" && !about.1.is_empty() {
        alike.1.remove(0);
        // Another version that could be one may be the latest instead: also of one whose status cannot be read.
        if mutation.is_plausible || mutation.pointer.contains("imageDeprecationStatus") {
            alike.1.pop();
        }
    }
    let mut lost = 0;
    for (key, row) in whole {
        match rows.get(key) {
            None if is_first(key) => lost += 1,
            None if begun_with.is_none() && concerns(&about, key) => lost += 1,
            None => return Some(format!("lost: {key}, which is not of {about:?}")),
            Some(found)
                if own(found) != own(row)
                    && begun_with.is_none()
                    && !is_first(key)
                    && !concerns(&alike, key) =>
            {
                return Some(format!("{key}, which is not of {about:?}: {row} became {found}"));
            }
            Some(_) => {}
        }
    }
    if lost > 0 && manifest.state == Completeness::Complete && !mutation.is_plausible {
        return Some(format!("{lost} rows are lost, and the run is complete"));
    }
    let extra = rows.keys().find(|key| !whole.contains_key(*key));
    extra.filter(|_| !mutation.is_plausible).map(|key| format!("{key} is not in Azure"))
}

/// In the second run an entry of a list has no name: what it was before may be what could not be read.
fn rows_that_lose_their_name_are_carried() {
    for list in ["/offers", "/skus", "/versions"] {
        let is_it = |(request, answer): &&(String, Value)| {
            let path = request.split('?').next().unwrap();
            path.ends_with(list) && path.contains("/publishers/") && {
                let about = format!("/{}/", path.rsplit('/').nth(1).unwrap().to_lowercase());
                let is_there = |key: &String| list == "/offers" || key.contains(&about);
                answer.as_array().unwrap().len() > 1 && WHOLE.rows.keys().any(is_there)
            }
        };
        let (request, answer) = WHOLE.answers.iter().find(is_it).unwrap();
        let mutation = Mutation {
            request: request.clone(),
            pointer: "/0/name".into(),
            becomes: None,
            row: Some(("/0".into(), answer[0].clone())),
            is_plausible: false,
        };
        let about = about(&mutation);
        assert!(WHOLE.rows.keys().any(|key| concerns(&about, key)), "{about:?}");
        let ran = paused(run(&wire(Some(mutation)), Some(&WHOLE.store)));
        let (manifest, rows, store) = ran.unwrap();
        assert_eq!(manifest.state, Completeness::Partial, "{list}");
        let keys = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&rows), keys(&WHOLE.rows), "{list}: nothing is lost");
        let changes = format!("snapshots/{}/changes.ndjson.zst", manifest.run);
        let changes = zstd::decode_all(store.contents()[&changes].as_ref()).unwrap();
        let changes = String::from_utf8(changes).unwrap();
        assert!(!changes.contains("\"removed\""), "{list}: {changes}");
        let coverage = format!("snapshots/{}/coverage.json", manifest.run);
        let coverage = String::from_utf8_lossy(&store.contents()[&coverage]).into_owned();
        assert!(coverage.contains("1 of its"), "{list}: {coverage}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn one_odd_member_costs_no_other_row() {
    let seeds: Vec<u64> = match number("AZIMG_MUTATION") {
        Some(seed) => vec![seed],
        None => (0..number("AZIMG_MUTATIONS").unwrap_or(500)).collect(),
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mutation = mutation(seed);
                    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| wrong(&mutation)));
                    let reported = checked.unwrap_or_else(|_| Some("a panic".to_owned()));
                    if let Some(reported) = reported {
                        let Mutation { request, pointer, becomes, .. } = &mutation;
                        let becomes = json!(becomes).to_string();
                        let becomes: String = becomes.chars().take(60).collect();
                        let request: String = request.chars().take(200).collect();
                        let line = format!("{seed}: {request}: {pointer} = {becomes}: {reported}");
                        failed.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), seeds.len(), failed.join("\n"));
}
