//! Purges by the command line, against a real registry.

use crate::support::layout::{Layout, digest};
use crate::support::oci::{How, Oci};
use crate::support::{finish, json, read_json};
use crate::tests;
use axum::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

tests![
    a_purge_is_planned_reviewed_applied_and_undone needs [Registry],
    indexes_signatures_and_referenced_images_are_kept needs [Registry],
];

/// A repository with five images, the last with a signature, and an index of two.
fn filled(oci: &Oci, folder: &Path) -> Vec<String> {
    let mut digests = Vec::new();
    for number in 0..5 {
        let layout = Layout::new(&folder.join(number.to_string()));
        let layer = format!("layer {number}");
        let image = layout.image("amd64", &[b"base", layer.as_bytes()], &Value::Null);
        layout.tag(&image, "x");
        push(oci, &format!("app:v{number}"), &layout);
        digests.push(image["digest"].as_str().unwrap().to_owned());
    }
    digests
}

fn push(oci: &Oci, name: &str, layout: &Layout) {
    let at = oci.at(name);
    json(&mut oci.azimg(&["registry", "push", &at, layout.0.to_str().unwrap(), "-o", "json"]));
}

fn tags(oci: &Oci) -> BTreeSet<String> {
    let rows = json(&mut oci.azimg(&["registry", "tags", &oci.at("app"), "-o", "json"]));
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(name).collect()
}

fn a_purge_is_planned_reviewed_applied_and_undone() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let digests = filled(&oci, folder.path());
    let server = oci.front.server.clone();
    let run = |line: &[&str]| {
        let mut command: Command = oci.azimg(&[&["registry", "purge", &server], line].concat());
        finish(command.current_dir(folder.path()))
    };
    // Without a decision nothing goes, and what is in use must be asked for.
    let rules = ["--repository", "app", "--keep", "2", "-o", "json"];
    let (code, _, err) = run(&rules);
    assert!(code != 0 && err.contains("--ignore-use"), "{err}");
    let (code, out, err) = run(&[&rules[..], &["--ignore-use"]].concat());
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["deletions"], &shown["manifests"]), (&json!(3), &json!(5)));
    // Three layers and configurations of their own; the base is in what stays.
    assert!(shown["bytesFreed"].as_u64().unwrap() >= 21, "{shown}");
    assert!(err.contains("Nothing was deleted"), "{err}");
    assert_eq!(tags(&oci).len(), 5);
    // Written down, and applied: one was tagged again meanwhile, one is locked.
    let plan = folder.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let (code, _, err) = run(&[&rules[..], &["--ignore-use", "--plan", plan]].concat());
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["--apply", plan, "--ignore-use", "--max-delete", "50%"]);
    assert!(code == 1 && err.contains("3 of 5"), "{err}");
    let again = Layout(folder.path().join("1"));
    push(&oci, "app:stable", &again);
    let undo = folder.path().join("undo");
    let apply = ["--apply", plan, "--ignore-use", "--export", undo.to_str().unwrap(), "-o", "json"];
    // One deletion is refused, and the plan is gone on with.
    let bad: &'static str = digests[2].clone().leak();
    oci.plays(Method::DELETE, bad, 1, How::Answer(403));
    let (code, out, err) = run(&apply);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 3, "{err}");
    assert_eq!((&applied["deleted"], applied["skipped"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(applied["failed"].as_array().unwrap().len(), 1, "{applied}");
    let (code, out, err) = run(&apply);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 3, "{err}");
    assert_eq!((&applied["deleted"], &applied["before"]), (&json!(1), &json!(1)), "{applied}");
    assert_eq!(applied["failed"], json!([]));
    let left: BTreeSet<String> = ["stable", "v1", "v3", "v4"].map(str::to_owned).into();
    assert_eq!(tags(&oci), left);
    // What went is put back: its blobs are still there.
    let (code, out, err) = run(&["--undo", undo.to_str().unwrap(), "-o", "json"]);
    assert_eq!(
        (code, &serde_json::from_str::<Value>(&out).unwrap()["back"]),
        (0, &json!(2)),
        "{err}"
    );
    assert_eq!(tags(&oci).len(), 6);
    let at = format!("{}@{}", oci.at("app"), digests[2]);
    let shown = json(&mut oci.azimg(&["registry", "show", &at, "-o", "json"]));
    assert_eq!(shown["tags"], json!(["v2"]));
    // The usual script, in one line.
    let (code, out, err) =
        run(&["--repository", "app", "--keep", "3", "--yes", "--ignore-use", "-o", "json"]);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &applied["deleted"]), (0, &json!(2)), "{out}{err}");
    assert!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".ledger") })
    );
    assert_other_plans_are_refused(Path::new(plan), &server, &|| run(&apply).2);
}

/// The plan of another registry is not applied, nor one that has expired.
fn assert_other_plans_are_refused(plan: &Path, server: &str, apply: &dyn Fn() -> String) {
    let mut other = read_json(plan);
    other["loginServer"] = "other.azurecr.io".into();
    std::fs::write(plan, other.to_string()).unwrap();
    assert!(apply().contains("other.azurecr.io"));
    other["loginServer"] = server.into();
    other["expiresAt"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(plan, other.to_string()).unwrap();
    assert!(apply().contains("create a new plan"));
}

fn indexes_signatures_and_referenced_images_are_kept() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("index"));
    let amd = layout.image("amd64", &[b"a"], &Value::Null);
    let arm = layout.image("arm64", &[b"b"], &Value::Null);
    let index = layout.index(&[amd.clone(), arm.clone()]);
    layout.tag(&index, "x");
    push(&oci, "app:multi", &layout);
    // A signature of one of the two, and an untagged image of nobody.
    let subject =
        json!({"mediaType": amd["mediaType"], "digest": amd["digest"], "size": amd["size"]});
    let more = json!({"artifactType": "application/vnd.example.signature", "subject": subject});
    let signature = layout.image("amd64", &[b"signature"], &more);
    layout.tag(&signature, "x");
    push(&oci, "app", &layout);
    let lonely = layout.image("amd64", &[b"lonely"], &Value::Null);
    layout.tag(&lonely, "x");
    push(&oci, "app", &layout);
    let old = layout.image("amd64", &[b"old"], &Value::Null);
    layout.tag(&old, "x");
    push(&oci, "app:pr-1", &layout);
    let line = [
        "registry",
        "purge",
        &oci.front.server,
        "--repository",
        "app",
        "--tags",
        "pr-*",
        "--keep",
        "0",
        "--untagged",
        "--grace",
        "0s",
        "--ignore-use",
        "--yes",
        "-o",
        "json",
    ];
    let mut command = oci.azimg(&line);
    let applied = json(command.current_dir(folder.path()));
    assert_eq!(applied["deleted"], 2, "{applied}");
    let rows = json(&mut oci.azimg(&["registry", "manifests", &oci.at("app"), "-o", "json"]));
    let left: BTreeSet<&str> =
        rows.as_array().unwrap().iter().map(|row| row["digest"].as_str().unwrap()).collect();
    for stays in [&index, &amd, &arm, &signature] {
        assert!(left.contains(stays["digest"].as_str().unwrap()), "{rows}");
    }
    // The index of referrers that a tag names stays, too.
    assert_eq!(left.len(), 5);
    assert!(!left.contains(digest(b"lonely").as_str()));
}
