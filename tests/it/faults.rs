//! An Azure that is late, wrong, short of quota or hostile: no row is lost in silence.

use crate::support::faulty::{Fault, Faulty, How, answering};
use crate::support::threads;
use crate::support::{Azure, finish, json, rows, timeless, write_rows};
use crate::tests;
use azimg::testing::client::{Client, Tokens};
use azimg::testing::sim::{SUBSCRIPTION, Scale, SimCredential, World, generate};
use serde_json::{Value, json as value};
use std::path::Path;
use std::sync::atomic::Ordering;

tests![
    transient_faults_leave_no_trace,
    persistent_faults_make_the_run_partial_and_keep_the_last_good_rows,
    a_missing_reader_role_is_reported,
    a_next_link_to_another_host_gets_no_token,
    a_request_with_retry_after_zero_is_sent_at_most_five_times,
    a_name_that_fits_no_url_is_reported_as_failed,
    hostile_names_are_crawled_and_printed_without_harm,
    one_odd_member_costs_no_row,
];

const DENIED: &str = r#"{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization to perform action."}}"#;
const BUSY: &str = r#"{"error":{"code":"SubscriptionRequestsThrottled","message":"Number of 'read' requests exceeded. Please try again after '1' seconds after additional tokens are available."}}"#;

fn azure() -> Azure {
    Azure::start(generate(Scale::Small, 61))
}

fn crawl(faulty: &Faulty, store: &Path) -> (i32, Value, String) {
    let path = store.to_str().unwrap();
    let (code, stdout, stderr) =
        finish(&mut faulty.azimg(&["crawl", "--full", "--store", path, "-o", "json"]));
    (code, serde_json::from_str(&stdout).unwrap_or(Value::Null), stderr)
}

fn whole() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    json(&mut azure().azimg(&["crawl", "--store", path, "-o", "json"]));
    timeless(rows(folder.path()))
}

fn transient_faults_leave_no_trace() {
    let faults = vec![
        Fault::new("/skus/12/versions", 2, How::Answer(503, &[], "<html>busy</html>")),
        Fault::new("/publishers/debian/", 3, How::Answer(429, &[("retry-after", "1")], BUSY)),
        Fault::new("/publishers/redhat/", 2, How::Answer(429, &[], BUSY)),
        Fault::new("/publishers/suse/", 1, How::Cut),
        Fault::new("/publishers/oracle/", 2, How::Answer(200, &[], "")),
        Fault::new("/publishers/almalinux/", 1, How::Answer(200, &[], "[{\"nome\": 1}]")),
    ];
    let count = faults.len();
    let faulty = Faulty::start(azure(), faults);
    let folder = tempfile::tempdir().unwrap();
    let (code, result, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(result["state"], "complete");
    assert_eq!(result["throttled"], 5);
    assert!(result["retried"].as_u64().unwrap() >= 7, "{result}");
    assert!((0..count).all(|fault| faulty.met(fault) > 0));
    assert_eq!(timeless(rows(folder.path())), whole());
}

fn persistent_faults_make_the_run_partial_and_keep_the_last_good_rows() {
    let folder = tempfile::tempdir().unwrap();
    let healthy = Faulty::start(azure(), Vec::new());
    assert_eq!(crawl(&healthy, folder.path()).0, 0);
    let before = rows(folder.path());

    let always = usize::MAX;
    let faults = vec![
        Fault::new("/publishers/debian/", always, How::Answer(403, &[], DENIED)),
        Fault::new(
            "/publishers/redhat/artifacttypes/vmimage/offers/rhel/",
            always,
            How::Answer(400, &[], "{\"Message\":\"no\"}"),
        ),
        Fault::new(
            "/publishers/suse/artifacttypes/vmimage/offers?",
            always,
            How::Answer(404, &[], "{\"error\":{\"code\":\"NotFound\",\"message\":\"gone\"}}"),
        ),
        Fault::new("/locations/westus2/publishers?", always, How::Answer(403, &[], DENIED)),
    ];
    let faulty = Faulty::start(azure(), faults);
    let (code, result, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 3, "{stderr}");
    assert_eq!(result["state"], "partial");
    assert!(stderr.contains("azimg runs show"), "{stderr}");
    let after = rows(folder.path());
    let of = |rows: &[Value], publisher: &str| {
        rows.iter().filter(|row| row["publisher"] == publisher).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(&after, "Debian").len(), of(&before, "Debian").len());
    assert!(of(&after, "Debian").iter().all(|row| row["stale"] == true));
    let rhel = |rows: &[Value]| of(rows, "RedHat").iter().filter(|r| r["offer"] == "RHEL").count();
    assert_eq!(rhel(&after), rhel(&before));
    // Gone is gone, where the location could be asked: not in westus2.
    assert!(!of(&before, "SUSE").is_empty());
    let places: Vec<Value> =
        of(&after, "SUSE").iter().map(|row| row["locations"].clone()).collect();
    assert!(places.iter().all(|places| *places == serde_json::json!(["westus2"])), "{places:?}");
    assert_eq!(of(&after, "Canonical").len(), of(&before, "Canonical").len());

    let path = folder.path().to_str().unwrap();
    let shown = json(&mut faulty.azimg(&["runs", "show", "--store", path, "-o", "json"]));
    let state = |publisher: &str, offer: Option<&str>| {
        let scopes = shown["scopes"].as_array().unwrap();
        let line = scopes.iter().find(|line| {
            line["publisher"] == publisher
                && line["location"] == "southcentralus"
                && line["offer"].as_str() == offer
        });
        line.unwrap_or_else(|| panic!("{publisher} has no line"))["state"].clone()
    };
    assert_eq!(state("Debian", None), "denied");
    assert_eq!(state("RedHat", Some("RHEL")), "carried");
    assert_eq!(state("SUSE", None), "gone");
    assert_eq!(state("Canonical", None), "done");
}

fn a_missing_reader_role_is_reported() {
    let faults = vec![Fault::new("/locations?", usize::MAX, How::Answer(403, &[], DENIED))];
    let faulty = Faulty::start(azure(), faults);
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 1);
    assert!(stderr.contains("assign it the role Reader"), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
}

fn a_next_link_to_another_host_gets_no_token() {
    let evil = r#"{"value":[],"nextLink":"https://evil.example/subscriptions?api-version=1"}"#;
    let round = r#"{"value":[],"nextLink":""}"#;
    let folder = tempfile::tempdir().unwrap();
    let faulty =
        Faulty::start(azure(), vec![Fault::new("/subscriptions?", 9, How::Answer(200, &[], evil))]);
    let (code, _, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 1);
    assert!(stderr.contains("refused to send the token to https://evil.example"), "{stderr}");
    let faulty = Faulty::start(
        azure(),
        vec![Fault::new("/subscriptions?", 9, How::Answer(200, &[], round))],
    );
    let (code, _, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 1);
    assert!(stderr.contains("no enabled subscription is visible"), "{stderr}");
}

/// A server that says "try again at once" for ever would be asked without a pause for minutes.
fn a_request_with_retry_after_zero_is_sent_at_most_five_times() {
    threads(async {
        let address = answering(429, &[("retry-after", "0")], BUSY.replace("'1'", "'0'")).await;
        let client = Client::new(address, "scope".into(), vec![Tokens::of(SimCredential)]).unwrap();
        let refused = client.get::<Value>(&["x"], &[]).await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        assert_eq!(client.traffic().requests.load(Ordering::Relaxed), 5);
    });
}

/// Names that nobody at Azure promised not to use: too long for a file, control characters, a
/// formula, parts of paths.
/// A name that no URL can hold is a gap that is said, not a publisher that is gone.
fn a_name_that_fits_no_url_is_reported_as_failed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    let catalog: Vec<Value> = ["..", "fine"]
        .iter()
        .map(|name| value!({"publisher": name, "offer": "o", "sku": "s", "version": "1.0.0"}))
        .collect();
    write_rows(&file, &catalog);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let path = folder.path().join("store");
    let arguments = ["crawl", "--store", path.to_str().unwrap(), "-o", "json"];
    let (code, stdout, _) = finish(&mut azure.azimg(&arguments));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &result["coverage"]["failed"]), (3, &1.into()));
    assert_eq!(rows(&path).len(), 1);
}

fn hostile_names_are_crawled_and_printed_without_harm() {
    let long = "x".repeat(300);
    let names =
        [long.as_str(), "../../etc", ".hidden", "=1+1", "a\u{1b}[31mb", "c:d", "e\nf", "%00"];
    let catalog: Vec<Value> = names
        .iter()
        .map(|name| value!({"publisher": name, "offer": name, "sku": name, "version": "1.0.0"}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    write_rows(&file, &catalog);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    let result = json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
    assert_eq!(
        (&result["state"], &result["images"]["marketplace"]),
        (&"complete".into(), &8.into())
    );
    let mut found: Vec<_> = rows(&store).iter().map(|row| row["publisher"].clone()).collect();
    let mut sent: Vec<Value> = names.iter().map(|name| Value::from(*name)).collect();
    found.sort_by_key(Value::to_string);
    sent.sort_by_key(Value::to_string);
    assert_eq!(found, sent);
    let outside = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(outside, 2, "the catalog and the store, nothing beside them");

    let print = |format: &str| {
        let (code, stdout, _) =
            finish(&mut azure.azimg(&["images", "list", "--store", path, "-o", format]));
        assert_eq!(code, 0);
        stdout
    };
    assert!(!print("table").contains('\u{1b}'));
    assert_eq!(print("tsv").lines().count(), names.len());
    for cell in print("csv").lines().flat_map(|line| line.split(',')) {
        assert!(!cell.starts_with('='), "{cell}");
    }
}

/// Nulls where texts and lists should be, in the answers that a whole run hangs on.
fn one_odd_member_costs_no_row() {
    let subscriptions: &'static str = format!(
        "{{\"value\":[{{\"subscriptionId\":\"{SUBSCRIPTION}\",\"state\":null,\"tenantId\":7}}]}}"
    )
    .leak();
    let locations = r#"{"value":[{"name":"eastus","metadata":null},
        {"name":"westus2","metadata":{"regionType":null}},
        {"name":"southcentralus","metadata":{"regionType":"Physical","pairedRegion":{}}}]}"#;
    let provider = r#"{"resourceTypes":[{"resourceType":"virtualMachines","locations":null},
        {"resourceType":"locations/publishers","locations":["East US","West US 2","South Central US"]}]}"#;
    let answer = |body| How::Answer(200, &[], body);
    let faults = vec![
        Fault::new("/subscriptions?", usize::MAX, answer(subscriptions)),
        Fault::new("/locations?", usize::MAX, answer(locations)),
        Fault::new("/providers/microsoft.compute?", usize::MAX, answer(provider)),
    ];
    let count = faults.len();
    let faulty = Faulty::start(azure(), faults);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let line = ["crawl", "--source", "marketplace", "--store", store, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&line));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!((0..count).all(|fault| faulty.met(fault) > 0));
    assert_eq!(timeless(rows(folder.path())), whole());
    for member in ["metadata", "regionType", "locations"] {
        let said = stderr.matches(&format!("{member}: invalid type: null")).count();
        assert_eq!(said, 1, "{member}: {stderr}");
    }
}
