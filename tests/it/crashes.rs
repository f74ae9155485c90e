//! A worker may die between any two steps that it takes on the store, before or after the store
//! has done what it was asked. Whoever comes after it ends with the same snapshot.

use crate::support::steps::{Around, Stepped};
use crate::support::{Azure, json, read_json, rows, timeless};
use crate::tests;
use async_trait::async_trait;
use azimg::testing::config::{Config, Flags};
use azimg::testing::error::{Error, Result};
use azimg::testing::functions::{
    App, Event, FUNCTIONS, Message, Progress, RunCache, Trigger, WORK,
};
use azimg::testing::sim::{Scale, SimCredential, generate};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use time::OffsetDateTime;

tests![workers_that_die_at_any_step_change_nothing,];

/// The life of a store's user, who dies at a certain step.
#[derive(Debug)]
struct Dying {
    steps: AtomicUsize,
    dies_at: usize,
    /// Whether the step is done before the user dies.
    done: bool,
}

#[async_trait]
impl Around for Dying {
    async fn before(&self, _: &str) -> Result<usize> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if step > self.dies_at || (step == self.dies_at && !self.done) {
            return Err(Error::transient("killed"));
        }
        Ok(step)
    }

    async fn after(&self, step: usize) -> Result<()> {
        if step == self.dies_at { Err(Error::transient("killed")) } else { Ok(()) }
    }
}

/// A worker that is born, dies at a step, and leaves nothing behind but the store.
fn worker(app: &App, dies_at: usize, done: bool) -> App {
    let inner = Arc::clone(&app.store);
    let around = Dying { steps: AtomicUsize::new(0), dies_at, done };
    App {
        store: Arc::new(Stepped { inner, around }),
        sources: app.sources.clone(),
        traffic: Arc::clone(&app.traffic),
        settings: app.settings.clone(),
        progress: Progress::default(),
        memory: RunCache::default(),
    }
}

/// Delivers a message to workers that die one step later each, until one lives; its messages, and
/// how many died.
async fn deliver(app: &App, name: &str, text: &str, done: bool) -> (Vec<Message>, usize) {
    let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
    for dies_at in 0.. {
        let worker = worker(app, dies_at, done);
        let trigger = match name {
            "start" => Trigger::Http { body: text.to_owned() },
            _ => {
                Trigger::Queue { text: text.to_owned(), delivery: if dies_at == 0 { 1 } else { 2 } }
            }
        };
        let event = Event { now: OffsetDateTime::now_utc(), invocation: "test".into(), trigger };
        if let Ok(effects) = function.run.unwrap()(&worker, event).await {
            return (effects.messages, dies_at);
        }
    }
    unreachable!("the numbers do not end")
}

fn run_over_dead_workers(azure: &Azure, folder: &Path, done: bool) -> usize {
    let flags = Flags { store: Some(folder.to_str().unwrap().into()), ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let arm = azure.running.arm.clone();
    let (app, _) = config.with_resource_manager(arm, Arc::new(SimCredential)).app().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (mut open, _) = deliver(&app, "start", "{\"locations\":[\"eastus\"]}", done).await;
        // A start that died after its plan was written has left a run that nobody begins.
        let watch = open.pop().unwrap();
        let mut deaths = 0;
        for round in 0.. {
            assert!(round < 4, "the run does not close");
            while let Some(message) = open.pop() {
                assert_eq!(message.queue, WORK);
                let (next, died) = deliver(&app, "crawl", &message.text, done).await;
                open.extend(next.into_iter().filter(|message| message.queue == WORK));
                deaths += died;
            }
            let (next, died) = deliver(&app, "publish", &watch.text, done).await;
            deaths += died;
            if next.is_empty() {
                break;
            }
            open.extend(next.into_iter().filter(|message| message.queue == WORK));
        }
        deaths
    })
}

fn workers_that_die_at_any_step_change_nothing() {
    let azure = Azure::start(generate(Scale::Small, 81));
    let whole = tempfile::tempdir().unwrap();
    let path = whole.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--location", "eastus", "--store", path, "-o", "json"]));
    let whole = timeless(rows(whole.path()));
    for done in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let deaths = run_over_dead_workers(&azure, folder.path(), done);
        assert!(deaths > 100, "only {deaths} workers died");
        assert_eq!(timeless(rows(folder.path())), whole, "done: {done}");
        let current = read_json(&folder.path().join("current.json"));
        let run = folder.path().join("snapshots").join(current["run"].as_str().unwrap());
        assert!(run.join("_SUCCESS").exists());
        for file in read_json(&run.join("manifest.json"))["files"].as_array().unwrap() {
            let bytes = std::fs::metadata(run.join(file["name"].as_str().unwrap())).unwrap().len();
            assert_eq!(file["bytes"], bytes);
        }
    }
}
