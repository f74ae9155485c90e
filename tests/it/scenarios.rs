//! What befalls a function app: several runs at once, many instances, deaths, poison, lost messages,
//! storage and clocks that misbehave, versions that mix. Each ends with the exact snapshot and a closed
//! run.

use crate::support::azurite::Azurite;
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::host::TestHost;
use crate::support::host::process::ProcessState;
use crate::support::scenes::{Stage, all_closed};
use crate::support::storage::{BUSY, Wire};
use crate::support::stored::{package, store};
use crate::support::{Azure, debian, wait_until, write_rows};
use crate::tests;
use azimg::testing::sim::{Scale, World, generate};
use azimg::testing::store::Key;
use azimg::testing::work::RunId;
use futures::future::join_all;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Runtime;

tests![
    a_run_on_demand_does_not_disturb_a_run_under_way needs [Azurite],
    four_instances_process_five_thousand_messages
        needs [Azurite] slow "5,000 items, each an invocation of a handler",
    a_run_closes_without_an_item_whose_shard_cannot_be_stored
        needs [Azurite] slow "the run is looked at every 30 seconds",
    lost_messages_are_found_by_sweeps needs [Azurite],
    storage_that_is_busy_and_slow_loses_nothing
        needs [Azurite] slow "each eighth request is refused, and waited for",
    messages_of_another_version_are_left_for_it needs [Azurite],
    clocks_that_are_five_minutes_wrong_change_nothing
        needs [Azurite, Faketime] slow "the run is looked at every 30 seconds",
    two_concurrent_publishes_of_one_run_make_one_snapshot needs [Azurite],
    an_invocation_past_the_time_limit_is_killed_and_the_run_closes
        needs [Azurite] slow "four deliveries, each until the host's limit",
    a_handler_that_cannot_work_stops_its_host_and_says_why needs [Azurite],
];

fn a_run_on_demand_does_not_disturb_a_run_under_way() {
    let stage =
        Stage::new(Azure::start_with(generate(Scale::Small, 201), Duration::from_millis(5), None));
    let host = stage.host();
    stage.runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        host.serve("crawl").await;
        let refused = host.request("POST", "/api/runs", "{}", None).await;
        assert_eq!(refused.status, 401, "whoever has no key starts nothing");
        // The same as the timer began: that run is the answer, unless another is wanted all the same.
        let joined = host.start_run("{}").await;
        assert_eq!(joined.status, 200);
        let started = host.start_run("{\"force\":true}").await;
        assert_eq!(started.status, 202);
        assert_ne!(started.json()["run"], joined.json()["run"]);
        assert_eq!(started.headers["content-type"], "application/json; charset=utf-8");
        let place = started.headers["location"].clone();
        assert!(place.ends_with(started.json()["run"].as_str().unwrap()), "{place}");
        let wrong = host.start_run("{\"colour\":\"red\"}").await;
        assert_eq!(wrong.status, 400);
        assert!(wrong.json()["error"]["message"].as_str().unwrap().contains("colour"));
        host.serve_until(async || all_closed(&host).await).await;
        let (_, runs) = host.get("/api/runs").await;
        let states: Vec<&Value> =
            runs["value"].as_array().unwrap().iter().map(|run| &run["state"]).collect();
        assert_eq!(states, ["complete", "complete"]);
        let current = [0, 1].map(|at| runs["value"][at]["current"] == true);
        assert_eq!(current.iter().filter(|is_current| **is_current).count(), 1);
    });
    assert_eq!(*host.failed.lock().unwrap(), [""; 0]);
    // Who was published last stands on the other one.
    stage.assert_rows();
}

/// The seconds from the start of a run to its publication.
fn length(run: &Value) -> i64 {
    let at = |name: &str| OffsetDateTime::parse(run[name].as_str().unwrap(), &Rfc3339).unwrap();
    (at("publishedAt") - at("startedAt")).whole_seconds()
}

fn four_instances_process_five_thousand_messages() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    let rows: Vec<Value> = (0..5_000)
        .map(|n| {
            json!({"publisher": format!("publisher{n:04}"), "offer": "o", "sku": "s",
                        "version": "1.0.0", "locations": ["eastus"]})
        })
        .collect();
    write_rows(&file, &rows);
    let stage = Stage::new(Azure::start(World::load(&[&file]).unwrap()));
    // Blobs on the disk, which the instances share: Azurite looks through all that it has for each one.
    let kept = stage.folder.path().join("store");
    let settings = [
        ("AZIMG_LOG", "info"),
        ("AZIMG_SOURCES", "marketplace"),
        ("AZIMG_STORE", kept.to_str().unwrap()),
    ];
    let hosts: Vec<TestHost> = (0..4).map(|_| stage.host_with(&settings)).collect();
    let seconds = stage.runtime.block_on(async {
        join_all(hosts.iter().map(TestHost::start)).await;
        assert_eq!(hosts[0].start_run("{\"details\":\"none\"}").await.status, 202);
        let published = async || hosts[0].get("/api/health").await.0 == 200;
        join_all(hosts.iter().map(|host| host.serve_until(&published))).await;
        let (_, runs) = hosts[3].get("/api/runs").await;
        assert_eq!(runs["value"][0]["state"], "complete");
        assert_eq!(runs["value"][0]["images"], 5_000);
        // The publishers, and of each its offers, its SKUs and its versions.
        let coverage = &runs["value"][0]["coverage"];
        assert_eq!(
            coverage["done"].as_u64().unwrap() + coverage["empty"].as_u64().unwrap(),
            15_001
        );
        length(&runs["value"][0])
    });
    let invoked = |name: &str| -> u32 {
        hosts.iter().filter_map(|host| host.invocations.lock().unwrap().get(name).copied()).sum()
    };
    // One message an item: the publishers, and the location in two parts, as no function sends more
    // than 3,000. On a slow machine a few are continued, and storage may be too busy to delete a
    // message in time, which is then delivered again.
    let again: u32 = hosts.iter().map(|host| host.redelivered.load(Ordering::Relaxed)).sum();
    let crawled = invoked("crawl");
    let counts = format!("{crawled} invocations for 5,002 items, {again} redeliveries");
    assert!(crawled >= 5_002 && crawled < 5_102 + again, "{counts}");
    // A look at whether the run is closed, each 30 seconds, reads the names of all outcomes.
    let (looks, most) = (invoked("publish"), seconds / 30 + 4);
    assert!(i64::from(looks) <= most, "{looks} looks at whether the run is closed, not {most}");
    for host in &hosts {
        let crawled = host.invocations.lock().unwrap()["crawl"];
        assert!(crawled > 100, "an instance did {crawled} of 5,000");
    }
    assert!(hosts.iter().all(|host| host.failed.lock().unwrap().is_empty()));
}

fn a_run_closes_without_an_item_whose_shard_cannot_be_stored() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 203)));
    let wire = Wire::start(&stage.azurite, |_, request| {
        let kept = ["PUT", "shards", "debian"].iter().all(|part| request.contains(part));
        (Duration::ZERO, if kept { BUSY } else { None })
    });
    let host = stage.host_with(&[("AzimgStorage", &wire.connection)]);
    stage.runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        host.serve_until(async || all_closed(&host).await).await;
        let (_, runs) = host.get("/api/runs").await;
        assert_eq!(runs["value"][0]["state"], "partial");
        let run = runs["value"][0]["run"].as_str().unwrap();
        let (_, run) = host.get(&format!("/api/runs/{run}")).await;
        let scopes = run["scopes"].as_array().unwrap();
        let failed: Vec<&Value> =
            scopes.iter().filter(|scope| scope["state"] == "failed").collect();
        assert!(!failed.is_empty());
        for scope in failed {
            assert!(scope["publisher"].as_str().unwrap().eq_ignore_ascii_case("debian"), "{scope}");
            assert!(scope["reason"].as_str().unwrap().contains("4 deliveries"), "{scope}");
        }
    });
    assert!(host.failed.lock().unwrap().iter().all(|failed| failed.starts_with("crawl")));
}

/// Makes a run's last movement so much older, as if that time had passed.
async fn pass_time(azurite: &Azurite, run: RunId, minutes: i64) {
    let (store, key) = (store(azurite), Key::Swept(run));
    let object = store.get(&key).await.unwrap().unwrap();
    let mut mark: Value = serde_json::from_slice(&object.bytes).unwrap();
    let since = OffsetDateTime::parse(mark["since"].as_str().unwrap(), &Rfc3339).unwrap();
    mark["since"] = (since - time::Duration::minutes(minutes)).format(&Rfc3339).unwrap().into();
    assert!(store.swap(&key, mark.to_string().into(), Some(&object.tag)).await.unwrap());
}

async fn run_under_way(host: &TestHost) -> RunId {
    let (_, runs) = host.get("/api/runs").await;
    runs["value"][0]["run"].as_str().unwrap().parse().unwrap()
}

/// Serves what there is, and sweeps as if an hour had passed, until all runs are closed.
async fn sweep_until_closed(stage: &Stage, host: &TestHost) {
    for _ in 0..20 {
        // Nothing has been under way, and nothing has begun, for as long as a message may be out of sight.
        let quiet = Cell::new((0, 0));
        let settled = async || {
            let (looks, before) = quiet.get();
            let begun = host.invocations.lock().unwrap().values().sum();
            let still = begun == before && !host.is_at_work();
            quiet.set((if still { looks + 1 } else { 0 }, begun));
            looks > 20 || all_closed(host).await
        };
        host.serve_until(settled).await;
        if all_closed(host).await {
            return;
        }
        host.fire("sweep").await;
        pass_time(&stage.azurite, run_under_way(host).await, 60).await;
        host.fire("sweep").await;
    }
    panic!("sweeps do not bring it to an end");
}

fn lost_messages_are_found_by_sweeps() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 204)));
    let mut host = stage.host();
    // The first sending of every seventh item is lost, and that of the run's own end.
    let seen: Mutex<HashSet<String>> = Mutex::default();
    host.on_the_way = Box::new(move |queue, text| {
        let mut seen = seen.lock().unwrap();
        let lost = seen.insert(text.to_owned())
            && (queue == "azimg-publish" || seen.len().is_multiple_of(7));
        if lost { Vec::new() } else { vec![text.to_owned()] }
    });
    stage.runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        sweep_until_closed(&stage, &host).await;
    });
    stage.assert_exact();
}

fn storage_that_is_busy_and_slow_loses_nothing() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 205)));
    // Every eighth request is refused, and each takes up to 40 ms.
    let wire = Wire::start(&stage.azurite, |number, _| {
        (Duration::from_millis(number * 7 % 40), if number % 8 == 5 { BUSY } else { None })
    });
    let host = stage.host_with(&[("AzimgStorage", &wire.connection)]);
    stage.runtime.block_on(async {
        host.start().await;
        while host.try_fire("plan").await.is_err() {}
        host.serve_until(async || all_closed(&host).await).await;
    });
    assert!(wire.refused.load(Ordering::Relaxed) > 100);
    stage.assert_exact();
}

fn messages_of_another_version_are_left_for_it() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 206)));
    let mut host = stage.host();
    // Some first messages come from a newer version that was rolled back, some from nobody.
    let seen: Mutex<HashSet<String>> = Mutex::default();
    host.on_the_way = Box::new(move |queue, text| {
        let mut seen = seen.lock().unwrap();
        let (first, number) = (seen.insert(text.to_owned()), seen.len());
        match number % 9 {
            4 if first && queue == "azimg-work" => vec![text.replacen("\"v\":1", "\"v\":2", 1)],
            8 if first && queue == "azimg-work" => {
                vec!["{\"hello\":true}".to_owned(), text.to_owned()]
            }
            _ => vec![text.to_owned()],
        }
    });
    stage.runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        sweep_until_closed(&stage, &host).await;
    });
    let said = host.process.lines().iter().map(Value::to_string).collect::<String>();
    assert!(said.contains("the work item has version 2; this version of azimg reads version 1"));
    stage.assert_exact();
}

fn clocks_that_are_five_minutes_wrong_change_nothing() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 207)));
    // What the program faketime does, without a process in between.
    let wrong = |skew| {
        let library = debian::faketime();
        let library = library.to_str().unwrap();
        let settings = [("LD_PRELOAD", library), ("FAKETIME", skew), ("DONT_FAKE_MONOTONIC", "1")];
        stage.host_with(&settings)
    };
    let hosts = [wrong("+5m"), wrong("-5m")];
    stage.runtime.block_on(async {
        join_all(hosts.iter().map(TestHost::start)).await;
        hosts[0].fire("plan").await;
        let planned = run_under_way(&hosts[0]).await;
        let closed = async || all_closed(&hosts[1]).await;
        join_all(hosts.iter().map(|host| host.serve_until(&closed))).await;
        // The one that is behind sees a run of the future: its own comes after it all the same.
        hosts[1].fire("sweep").await;
        let started = hosts[1].start_run("{}").await;
        assert_eq!(started.status, 202);
        let next: RunId = started.json()["run"].as_str().unwrap().parse().unwrap();
        assert!(next > planned, "{next} comes before {planned}");
    });
    stage.assert_exact();
}

fn two_concurrent_publishes_of_one_run_make_one_snapshot() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 208)));
    let hosts = [stage.host(), stage.host()];
    stage.runtime.block_on(async {
        join_all(hosts.iter().map(TestHost::start)).await;
        hosts[0].fire("plan").await;
        while hosts[0].serve("crawl").await > 0 {}
        let run = run_under_way(&hosts[0]).await;
        let text = format!("{{\"v\":1,\"run\":\"{run}\"}}");
        // Each makes the second round of items, and then the snapshot.
        for _ in 0..2 {
            let both = hosts.iter().map(|host| host.hand_over("publish", &text));
            for ended in join_all(both).await {
                ended.unwrap();
            }
            while hosts[1].serve("crawl").await > 0 {}
        }
        assert!(all_closed(&hosts[0]).await);
    });
    stage.assert_exact();
}

fn an_invocation_past_the_time_limit_is_killed_and_the_run_closes() {
    let azure = Azure::start(generate(Scale::Small, 209));
    let faulty =
        Faulty::start(azure, vec![Fault::new("/publishers/debian/", usize::MAX, How::Never)]);
    let (azurite, folder) = (Azurite::start(), tempfile::tempdir().unwrap());
    let app = package(folder.path());
    let mut settings = faulty.azure.variables();
    settings.insert("AZIMG_ARM_ENDPOINT".into(), faulty.address.clone());
    // One location, so that one item is killed four times; and long enough for all others, however
    // slow the machine is: each kill costs what is under way a delivery, too.
    settings.insert("AZIMG_LOCATIONS".into(), "eastus".into());
    settings.insert("AzureFunctionsJobHost__functionTimeout".into(), "00:00:15".into());
    let host = TestHost::new(&app, &azurite.connection(), settings);
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        host.fire("plan").await;
        host.serve_until(async || all_closed(&host).await).await;
        let (_, runs) = host.get("/api/runs").await;
        assert_eq!(runs["value"][0]["state"], "partial");
        let (_, others) = host.get("/api/images?publisher=canonical&top=1").await;
        assert_eq!(others["value"].as_array().unwrap().len(), 1);
    });
    let starts = *host.process.starts.lock().unwrap();
    assert!(starts >= 5, "it was killed on each of four deliveries, and started {starts} times");
    let failed = host.failed.lock().unwrap();
    assert!(failed.iter().filter(|f| f.contains("functionTimeout")).count() >= 4, "{failed:?}");
}

fn a_handler_that_cannot_work_stops_its_host_and_says_why() {
    let stage = Stage::new(Azure::start(generate(Scale::Small, 210)));
    let host = stage.host_with(&[("AZIMG_CLOUD", "nowhere")]);
    stage.runtime.block_on(async {
        host.start().await;
        let stopped = format!("{:?}", ProcessState::HostStopped);
        wait_until("the host's end", async || {
            assert!(*host.process.starts.lock().unwrap() < 10, "it is started again and again");
            host.try_fire("sweep").await.is_err_and(|refused| refused.contains(&stopped))
        })
        .await;
    });
    assert_eq!(*host.process.starts.lock().unwrap(), 3);
    let said = host.process.lines().iter().map(Value::to_string).collect::<String>();
    assert!(said.contains("AZIMG_CLOUD: 'nowhere' is none of"), "{said}");
}
