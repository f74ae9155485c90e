//! Quota is spent, not exceeded; and the rows do not depend on it.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json, rows, timeless};
use crate::tests;
use azimg::testing::config::{Config, Flags};
use azimg::testing::functions::{Event, FUNCTIONS, Trigger};
use azimg::testing::sim::{Scale, SimCredential, generate};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use time::OffsetDateTime;

tests![
    rows_under_quota_equal_those_without,
    an_item_with_exhausted_quota_is_postponed,
    an_invalid_quota_is_refused,
];

fn crawl(azure: &Azure) -> (Value, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let result = json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
    (result, timeless(rows(folder.path())))
}

fn rows_under_quota_equal_those_without() {
    let world = || generate(Scale::Small, 71);
    let (_, free) = crawl(&Azure::start(world()));
    // Windows of 1 and 10 seconds, of which the 50 publishers of each location need more than one.
    let limited = Azure::limited(world(), "180x,arm=60/3,offers=20/45");
    let (result, found) = crawl(&limited);
    assert_eq!(result["state"], "complete", "{result}");
    assert_eq!(found, free);
    assert_eq!(limited.sim.stats.to_json()["throttled"], result["throttled"]);
}

fn an_item_with_exhausted_quota_is_postponed() {
    let wait = How::Answer(429, &[("retry-after", "900")], "{\"code\":\"OperationNotAllowed\"}");
    let faults = vec![Fault::new("/publishers/debian/", 1, wait)];
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 72)), faults);
    let folder = tempfile::tempdir().unwrap();
    let store = Some(folder.path().to_str().unwrap().into());
    let config = Config::from(HashMap::new(), Flags { store, ..Flags::default() }).unwrap();
    let arm = faulty.address.parse().unwrap();
    let (app, _) = config.with_resource_manager(arm, Arc::new(SimCredential)).app().unwrap();
    let call = async |name: &str, trigger: Trigger| {
        let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
        let now = OffsetDateTime::now_utc();
        let event = Event { now, invocation: "test".into(), trigger };
        function.run.unwrap()(&app, event).await.unwrap().messages
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let begun = call("start", Trigger::Http { body: String::new() }).await;
        let text = begun[0].text.clone();
        let children = call("crawl", Trigger::Queue { text, delivery: 1 }).await;
        let debian = children.iter().find(|m| m.text.contains("\"Debian\"")).unwrap();
        let text = debian.text.clone();
        // On the last delivery too: waiting for quota is no failure.
        let again = call("crawl", Trigger::Queue { text, delivery: 4 }).await;
        assert_eq!(again.len(), 1);
        let put_off = debian.text.replacen("}}", "},\"put_off\":1}", 1);
        assert_eq!(again[0].text, put_off);
        assert_eq!(again[0].delay.as_secs(), 900);
    });
}

fn an_invalid_quota_is_refused() {
    let mut command = crate::support::azimg(&["sim", "--quota", "offers=many"]);
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 2);
    assert!(stderr.contains("'offers=many' is no quota"), "{stderr}");
}
