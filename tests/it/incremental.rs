//! A second run asks only what it has to, and says how old the rest is.

use crate::support::{Azure, azimg, finish, json, rows, timeless, wait_for, write_rows};
use crate::tests;
use azimg::testing::sim::{Conditions, Scale, World, generate};
use azimg::testing::work::RunId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use time::OffsetDateTime;

tests![
    known_offers_are_not_listed_again_until_they_are_too_old,
    a_new_publisher_is_found_at_once_and_a_new_offer_when_its_turn_comes,
    every_subscription_and_every_principal_is_asked,
    faults_of_the_simulated_azure_leave_no_trace,
];

fn crawl(azure: &Azure, store: &Path, more: &[&str], age: &str) -> Value {
    let mut arguments = vec!["crawl", "--store", store.to_str().unwrap(), "-o", "json"];
    arguments.extend_from_slice(more);
    json(azure.azimg(&arguments).env("AZIMG_OFFERS_MAX_AGE", age))
}

/// The moments at which offers were listed, by coverage.
fn ages(store: &Path) -> BTreeSet<String> {
    let current = crate::support::read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    let coverage = crate::support::read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    let lines = coverage["scopes"].as_array().unwrap().iter();
    let publishers = lines.filter(|line| !line["publisher"].is_null() && line["offer"].is_null());
    publishers.map(|line| line["offersListedAt"].as_str().unwrap().to_owned()).collect()
}

fn known_offers_are_not_listed_again_until_they_are_too_old() {
    let azure = Azure::start(generate(Scale::Small, 81));
    let folder = tempfile::tempdir().unwrap();
    let first = crawl(&azure, folder.path(), &[], "24h");
    let (offers, images) = (azure.asked("ListOffers"), azure.asked("GetImage"));
    assert!(offers >= 140 && images > 100);
    assert_eq!(ages(folder.path()).len(), 1);
    let found = timeless(rows(folder.path()));

    // Runs are whole seconds apart, or nobody's turn has come.
    let run: RunId = first["run"].as_str().unwrap().parse().unwrap();
    let due = i128::from(run.millis() + 1_000) * 1_000_000;
    wait_for("a second after the run's start", || {
        (OffsetDateTime::now_utc().unix_timestamp_nanos() >= due).then_some(())
    });
    let second = crawl(&azure, folder.path(), &[], "24h");
    // One in each location, so that all come round within a day.
    assert_eq!(azure.asked("ListOffers") - offers, 3);
    assert_eq!(azure.asked("GetImage"), images);
    assert_eq!(timeless(rows(folder.path())), found);
    assert_eq!(second["changes"], 0);
    assert_eq!(second["coverage"]["empty"], first["coverage"]["empty"]);
    assert!(second["requests"].as_u64() < first["requests"].as_u64());
    assert_eq!(ages(folder.path()).len(), 2);
    let shown = azimg(&["runs", "show", "-o", "json", "--store", folder.path().to_str().unwrap()]);
    let shown = json(&mut { shown });
    assert_eq!(shown["offersListedSince"], *ages(folder.path()).first().unwrap());

    for (more, age) in [(&["--full"][..], "24h"), (&[], "1ms")] {
        let before = azure.asked("ListOffers");
        crawl(&azure, folder.path(), more, age);
        assert_eq!(azure.asked("ListOffers") - before, offers, "{more:?}");
        assert_eq!(timeless(rows(folder.path())), found);
        assert_eq!(ages(folder.path()).len(), 1);
    }
}

fn a_new_publisher_is_found_at_once_and_a_new_offer_when_its_turn_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, store) = (folder.path().join("catalog.ndjson"), folder.path().join("store"));
    let row = |publisher: &str, offer: &str| json!({"publisher": publisher, "offer": offer, "sku": "s", "version": "1.0.0"});
    let mut catalog = vec![row("acme", "a"), row("beta", "b"), row("gamma", "c")];
    let mut crawled = |row: Option<Value>, more: &[&str]| -> Vec<String> {
        catalog.extend(row);
        write_rows(&file, &catalog);
        let azure = Azure::start(World::load(&[&file]).unwrap());
        let result = crawl(&azure, &store, more, "24h");
        assert_eq!(result["state"], "complete");
        rows(&store).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(crawled(None, &[]).len(), 3);
    let found = crawled(Some(row("delta", "d")), &[]);
    assert!(found.contains(&"delta:d:s:1.0.0".to_owned()), "{found:?}");
    // Of four known ones that were listed just now, the first by name is listed again.
    let found = crawled(Some(row("gamma", "new")), &[]);
    assert!(!found.contains(&"gamma:new:s:1.0.0".to_owned()), "{found:?}");
    let found = crawled(None, &["--full"]);
    assert!(found.contains(&"gamma:new:s:1.0.0".to_owned()), "{found:?}");
}

fn every_subscription_and_every_principal_is_asked() {
    let quota = "60x,arm=40/2".parse().unwrap();
    let conditions = Conditions { quota, subscriptions: 2, ..Conditions::default() };
    let azure = Azure::under(generate(Scale::Small, 82), conditions, None);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let mut command =
        azure.azimg(&["crawl", "--store", store, "--location", "eastus", "-o", "json"]);
    let result = json(command.env("AZURE_CLIENT_ID", "one, two"));
    assert_eq!(result["state"], "complete");
    let stats = azure.sim.stats.to_json();
    let askers = stats["askers"].as_object().unwrap();
    let of = |who: &str| {
        let counts =
            askers.iter().filter(|(asker, _)| asker.contains("1111") && asker.ends_with(who));
        counts.map(|(_, count)| count.as_u64().unwrap()).collect::<Vec<_>>()
    };
    for who in ["one", "two"] {
        assert!(of(who).len() == 2 && of(who).iter().all(|count| *count > 20), "{askers:?}");
    }
}

fn faults_of_the_simulated_azure_leave_no_trace() {
    let world = || generate(Scale::Small, 83);
    let whole = tempfile::tempdir().unwrap();
    crawl(&Azure::start(world()), whole.path(), &[], "24h");
    let spec = "5xx=0.02,slow=0.002,cut=0.02,reset=0.02,shape=0.02,seed=5";
    let conditions = Conditions { faults: spec.parse().unwrap(), ..Conditions::default() };
    let azure = Azure::under(world(), conditions, None);
    let folder = tempfile::tempdir().unwrap();
    let result = crawl(&azure, folder.path(), &[], "24h");
    assert_eq!(result["state"], "complete", "{result}");
    assert!(result["retried"].as_u64().unwrap() > 50, "{result}");
    assert_eq!(timeless(rows(folder.path())), timeless(rows(whole.path())));
    let (code, _, stderr) = finish(&mut crate::support::azimg(&["sim", "--faults", "fire=1"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("'fire=1' is no fault"), "{stderr}");
}
