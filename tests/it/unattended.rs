//! What nobody is there to see: trouble that lasts ends with its reason, settings that cannot work are refused
//! before anything begins, and what many ask for is made once.

use crate::support::fleet::{Direct, app};
use crate::support::runs::{listed, write_run};
use crate::support::steps::{Around, Stepped};
use crate::support::{Azure, azimg, finish, json, threads};
use crate::tests;
use async_trait::async_trait;
use azimg::testing::catalog::feed::{ChangeFilter, Feeds, changes};
use azimg::testing::error::{Error, Result};
use azimg::testing::functions::{App, Event, FUNCTIONS, Message, PUBLISH, Trigger};
use azimg::testing::pipeline::changes::Change;
use azimg::testing::pipeline::publish::publish;
use azimg::testing::pipeline::sweep::sweep;
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::work::RunId;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

tests![
    publishing_that_never_succeeds_fails_the_run_with_its_reason,
    a_crawl_without_a_temporary_folder_ends_with_what_to_do,
    a_schedule_without_a_next_time_is_refused_at_start,
    a_span_over_100_years_is_refused_by_the_name_of_its_setting,
    a_feed_is_read_once_however_many_pages_are_asked_for,
];

/// Steps on what has `name` in it: refused while it is broken, and counted.
#[derive(Debug, Default)]
struct Watched {
    name: &'static str,
    broken: AtomicBool,
    steps: AtomicUsize,
}

#[async_trait]
impl Around for Arc<Watched> {
    async fn before(&self, name: &str) -> Result<usize> {
        if !name.contains(self.name) {
            return Ok(0);
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::transient("the disk is away"));
        }
        Ok(0)
    }

    async fn after(&self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// A store that is watched.
fn watched(inner: Arc<dyn Store>, name: &'static str) -> (Arc<dyn Store>, Arc<Watched>) {
    let around = Arc::new(Watched { name, ..Watched::default() });
    (Arc::new(Stepped { inner, around: Arc::clone(&around) }), around)
}

/// A run of one location, of which nothing is open; each has one more image than the one before.
async fn closed_run(store: &dyn Store, number: i64, previous: Option<RunId>) -> RunId {
    let now = OffsetDateTime::now_utc() + time::Duration::minutes(number);
    let run = RunId::after(previous, now, &number.to_string());
    let rows = |_: usize, _: usize| {
        (0..=number)
            .map(|at| listed("offer", &format!("sku{at}"), format!("1.{number}.0")))
            .collect()
    };
    write_run(store, (run, now, previous), 1, &["publisher".to_owned()], rows).await;
    run
}

async fn call(app: &App, name: &str, text: &str, delivery: u32) -> Result<Vec<Message>> {
    let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
    let trigger = Trigger::Queue { text: text.to_owned(), delivery };
    let event = Event { now: OffsetDateTime::now_utc(), invocation: String::new(), trigger };
    function.run.unwrap()(app, event).await.map(|effects| effects.messages)
}

fn publishing_that_never_succeeds_fails_the_run_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let shown = |run: RunId| -> Value {
        let (run, store) = (run.to_string(), folder.path().to_str().unwrap());
        json(&mut azimg(&["runs", "show", &run, "--store", store, "-o", "json"]))
    };
    threads(async {
        let (store, disk) =
            watched(Arc::new(LocalStore::new(folder.path())), "marketplace.parquet");
        let sim = Sim::new(generate(Scale::Small, 1), Conditions::default());
        let wire = Direct { sim, latency: Duration::ZERO, random: None };
        let app = app(Arc::new(wire), Arc::clone(&store), "http://127.0.0.1:1/");
        let run = closed_run(store.as_ref(), 0, None).await;
        assert_eq!(shown(run)["state"], "interrupted");
        disk.broken.store(true, Ordering::SeqCst);
        let message = format!("{{\"v\":1,\"run\":\"{run}\",\"watch\":true}}");
        for delivery in 1..=app.settings.most_deliveries {
            assert!(app.progress.of(run).is_none_or(|known| known.failure.is_none()));
            call(&app, "publish", &message, delivery).await.unwrap_err();
        }
        // Who waits for it is told, and so is who looks at it later.
        let failure = app.progress.of(run).unwrap().failure.unwrap();
        assert!(failure.1.contains("the disk is away"), "{failure:?}");
        assert_eq!(call(&app, "fail", &message, 1).await.unwrap(), []);
        let report = shown(run);
        assert_eq!(report["state"], "failed");
        assert!(report["reason"].as_str().unwrap().contains("the disk is away"), "{report}");

        // Until its deadline it is tried again, then no more, but by a host that begins.
        let close = async |days, all| {
            let now = OffsetDateTime::now_utc() + time::Duration::days(days);
            sweep(store.as_ref(), now, all).await.unwrap().close
        };
        assert_eq!(close(0, false).await, [run]);
        assert_eq!(close(2, false).await, []);
        assert_eq!(close(2, true).await, [run]);
        disk.broken.store(false, Ordering::SeqCst);
        call(&app, "publish", &message, 1).await.unwrap();
        assert_eq!(shown(run)["state"], "complete");
        assert_eq!(call(&app, "fail", &message, 1).await.unwrap(), []);

        // One whose workers all died has nobody who knows why.
        let lost = closed_run(store.as_ref(), 1, Some(run)).await;
        let message = message.replace(&run.to_string(), &lost.to_string());
        assert_eq!(call(&app, "fail", &message, 1).await.unwrap(), []);
        let report = shown(lost);
        assert!(report["reason"].as_str().unwrap().contains("4 deliveries"), "{report}");
        assert!(app.progress.of(lost).unwrap().failure.is_some());
    });
    let served = FUNCTIONS.iter().find(|function| function.name == "fail").unwrap();
    let queue = served.declared().unwrap().trigger().unwrap().queue_name.clone();
    assert_eq!(queue.unwrap(), format!("{PUBLISH}-poison"));
}

fn a_crawl_without_a_temporary_folder_ends_with_what_to_do() {
    let azure = Azure::start(generate(Scale::Small, 91));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let mut command = azure.azimg(&["crawl", "--store", store, "-o", "json"]);
    let (code, _, stderr) = finish(command.env("TMPDIR", folder.path().join("nowhere")));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("set TMPDIR to another folder"), "{stderr}");
    let run = only_run(folder.path());
    let report = json(&mut azimg(&["runs", "show", &run, "--store", store, "-o", "json"]));
    assert_eq!(report["state"], "failed");
    assert!(report["reason"].as_str().unwrap().contains("TMPDIR"), "{report}");
    // With one, it goes on where it was.
    let mut command = azure.azimg(&["crawl", "--store", store, "--resume", &run, "-o", "json"]);
    assert_eq!(json(&mut command)["state"], "complete");
}

fn only_run(store: &Path) -> String {
    let mut runs = std::fs::read_dir(store.join("runs")).unwrap();
    let run = runs.next().unwrap().unwrap().file_name().into_string().unwrap();
    assert!(runs.next().is_none());
    run
}

fn a_schedule_without_a_next_time_is_refused_at_start() {
    let azure = Azure::start(generate(Scale::Small, 92));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let at = ["--store", store.to_str().unwrap()];
    let mut host = azure.azimg(&["host", "--port", "0", at[0], at[1]]);
    let (code, _, stderr) = finish(host.env("AZIMG_SCHEDULE", "0 0 3 30 2 *"));
    assert!(code != 0 && stderr.contains("'0 0 3 30 2 *' never comes due"), "{code}: {stderr}");
    assert!(!stderr.contains("functions are at") && !store.exists(), "{stderr}");
    let mut doctor = azure.azimg(&["doctor", at[0], at[1], "-o", "json"]);
    let (code, stdout, _) = finish(doctor.env("AZIMG_SCHEDULE", "0 0 3 30 2 *"));
    assert!(code == 1 && stdout.contains("never comes due"), "{code}: {stdout}");
}

fn a_span_over_100_years_is_refused_by_the_name_of_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    for name in ["AZIMG_KEEP_SNAPSHOTS", "AZIMG_RUN_DEADLINE", "AZIMG_OFFERS_MAX_AGE"] {
        let azure = Azure::start(generate(Scale::Small, 93));
        let mut command = azure.azimg(&["crawl", "--store", store]);
        let (code, _, stderr) = finish(command.env(name, "20000y"));
        assert!(code != 0 && code != 101, "{name}: {code} {stderr}");
        assert!(stderr.contains(name) && stderr.contains("100 years"), "{name}: {stderr}");
    }
    let purge = ["registry", "purge", "localhost:1", "--expires", "20000y"];
    let retire = ["gallery", "retire", "--expires", "20000y"];
    for arguments in [&purge[..], &retire] {
        let (code, _, stderr) = finish(&mut azimg(arguments));
        assert!(code == 2 && stderr.contains("100 years"), "{arguments:?}: {code} {stderr}");
    }
}

fn a_feed_is_read_once_however_many_pages_are_asked_for() {
    threads(async {
        let (store, feed) = watched(Arc::new(MemoryStore::default()), "changes.ndjson.zst");
        let first = closed_run(store.as_ref(), 20, None).await;
        publish(&store, first, OffsetDateTime::now_utc(), false).await.unwrap();
        let second = closed_run(store.as_ref(), 30, Some(first)).await;
        publish(&store, second, OffsetDateTime::now_utc(), false).await.unwrap();
        let wants = [
            ChangeFilter::default(),
            ChangeFilter { search: Some("SKU2".to_owned()), changes: vec![] },
            ChangeFilter { search: None, changes: vec![Change::Added] },
            ChangeFilter { search: Some("none".to_owned()), changes: vec![] },
        ];
        let feeds = Feeds::default();
        let mut expected = Vec::new();
        for wanted in &wants {
            expected.push(changes(store.as_ref(), None, wanted, 0, usize::MAX).await.unwrap().rows);
        }
        assert!(expected[0].len() > 30 && expected[1].len() > 5 && expected[3].is_empty());
        let before = feed.steps.load(Ordering::SeqCst);
        for (wanted, expected) in wants.iter().zip(&expected) {
            for top in [1, 7, usize::MAX] {
                let (mut found, mut from) = (Vec::new(), Some(0));
                while let Some(at) = from {
                    let run = Some(second).filter(|_| at % 2 == 0);
                    let page = feeds.changes(store.as_ref(), run, wanted, at, top).await.unwrap();
                    assert!(page.rows.len() <= top && page.manifest.run == second);
                    found.extend(page.rows);
                    from = page.next;
                }
                assert_eq!(&found, expected, "{wanted:?} by {top}");
            }
        }
        assert_eq!(feed.steps.load(Ordering::SeqCst) - before, 1, "it is read once");
        let page = feeds.changes(store.as_ref(), Some(first), &wants[0], 0, 10).await.unwrap();
        assert_eq!(page.rows, [], "the first snapshot has none");
    });
}
