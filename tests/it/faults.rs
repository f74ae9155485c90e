//! An Azure that is late, wrong, short of quota or hostile: no row is lost in silence.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json, rows, timeless};
use azimg::sim::{Scale, generate};
use serde_json::Value;
use std::path::Path;

const DENIED: &str = r#"{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization to perform action."}}"#;
const BUSY: &str = r#"{"error":{"code":"SubscriptionRequestsThrottled","message":"Number of 'read' requests exceeded. Please try again after '1' seconds after additional tokens are available."}}"#;

fn azure() -> Azure {
    Azure::start(generate(Scale::Small, 61))
}

fn crawl(faulty: &Faulty, store: &Path) -> (i32, Value, String) {
    let path = store.to_str().unwrap();
    let (code, stdout, stderr) =
        finish(&mut faulty.azimg(&["crawl", "--store", path, "-o", "json"]));
    (code, serde_json::from_str(&stdout).unwrap_or(Value::Null), stderr)
}

fn whole() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    json(&mut azure().azimg(&["crawl", "--store", path, "-o", "json"]));
    timeless(rows(folder.path()))
}

#[test]
fn faults_that_pass_leave_no_trace() {
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

#[test]
fn what_stays_denied_or_broken_is_partial_and_keeps_its_last_good_rows() {
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

#[test]
fn without_the_role_the_role_is_named() {
    let faults = vec![Fault::new("/locations?", usize::MAX, How::Answer(403, &[], DENIED))];
    let faulty = Faulty::start(azure(), faults);
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = crawl(&faulty, folder.path());
    assert_eq!(code, 1);
    assert!(stderr.contains("give it the role Reader"), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
}

#[test]
fn a_list_that_leads_elsewhere_gets_no_token() {
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
    assert!(stderr.contains("sees no enabled subscription"), "{stderr}");
}
