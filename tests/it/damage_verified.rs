//! Damaged files of a store, found by `azimg runs verify` and repaired.

use crate::support::damaged::world;
use crate::support::{Azure, azimg, finish, json};
use crate::tests;
use serde_json::{Value, json};
use std::path::Path;

tests![
    damage_is_found_and_repair_restores_a_whole_snapshot,
    a_flipped_bit_in_the_current_snapshot_stops_no_crawl,
];

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A crawl by the executable; the run.
fn crawled(azure: &Azure, store: &str) -> String {
    let ended = json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    assert_eq!(ended["state"], "complete");
    ended["run"].as_str().unwrap().to_owned()
}

fn damage_is_found_and_repair_restores_a_whole_snapshot() {
    let azure = Azure::start(world());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let verify = |more: &[&str]| {
        let arguments = ["runs", "verify", "-o", "json", "--store", store];
        let (code, out, err) = finish(&mut azimg(&[&arguments, more].concat()));
        (code, serde_json::from_str::<Value>(&out).unwrap_or_default(), err)
    };
    assert_eq!(verify(&[]).0, 4, "there is nothing");
    let [first, second, third] = [(); 3].map(|()| crawled(&azure, store));
    let (code, found, _) = verify(&[]);
    assert_eq!(code, 0, "{found}");
    let runs: Vec<&str> = (0..3).map(|at| found[at]["run"].as_str().unwrap()).collect();
    assert_eq!(runs, [&third, &second, &first]);
    assert_eq!([&found[0]["current"], &found[1]["current"]], [&json!(true), &json!(false)]);
    assert_eq!(found[0]["previousRun"], *second);

    let snapshots = folder.path().join("snapshots");
    flip(&snapshots.join(&third).join("gallery.parquet"));
    std::fs::remove_file(snapshots.join(&second).join("_SUCCESS")).unwrap();
    std::fs::write(snapshots.join(&first).join("manifest.json"), "{").unwrap();
    let (code, found, said) = verify(&[]);
    let state = |at: usize| found[at]["state"].as_str().unwrap().to_owned();
    assert_eq!((code, [0, 1, 2].map(state).join(" ")), (3, "damaged damaged unreadable".into()));
    assert_eq!(found[0]["wrong"][0]["file"], "gallery.parquet");
    assert!(said.contains("--repair"), "{said}");
    let (code, found, said) = verify(&["--repair"]);
    let state = |at: usize| found[at]["state"].as_str().unwrap().to_owned();
    assert_eq!((code, [0, 1, 2].map(state).join(" ")), (3, "damaged whole unreadable".into()));
    assert_eq!(found[1]["current"], true);
    for says in [&*third, "gallery.parquet", "Nothing was removed", "The next crawl finds again"] {
        assert!(said.contains(says), "{said}");
    }
    assert!(snapshots.join(&second).join("_SUCCESS").exists());
    assert!(snapshots.join(&third).join("gallery.parquet").exists());
    // The next crawl is built on what current.json names, and is whole.
    let fourth = crawled(&azure, store);
    let shown = json(&mut azimg(&["runs", "show", &fourth, "--store", store, "-o", "json"]));
    assert_eq!(shown["previousRun"], *second);

    for broken in [Some("{\"run\": 7}"), None] {
        let current = folder.path().join("current.json");
        match broken {
            Some(text) => std::fs::write(&current, text).unwrap(),
            None => std::fs::remove_file(&current).unwrap(),
        }
        let listed = json(&mut azimg(&["images", "list", "--store", store, "-o", "json"]));
        assert!(listed.as_array().unwrap().len() > 20);
        assert!(verify(&[]).2.contains("current.json"));
        let (_, found, said) = verify(&["--repair"]);
        assert_eq!(
            (&found[0]["run"], &found[0]["current"]),
            (&json!(fourth), &json!(true)),
            "{said}"
        );
    }
}

fn a_flipped_bit_in_the_current_snapshot_stops_no_crawl() {
    let azure = Azure::start(world());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    // Lookups need one before it that is whole.
    crawled(&azure, store);
    let mut run = crawled(&azure, store);
    for file in ["gallery.ndjson.zst", "marketplace.ndjson.zst", "registry.ndjson.zst", "index.bin"]
    {
        flip(&folder.path().join("snapshots").join(&run).join(file));
        let listed = json(&mut azimg(&["images", "list", "--store", store, "-o", "json"]));
        run = crawled(&azure, store);
        let again = json(&mut azimg(&["images", "list", "--store", store, "-o", "json"]));
        assert_eq!(listed.as_array().unwrap().len(), again.as_array().unwrap().len(), "{file}");
    }
}
