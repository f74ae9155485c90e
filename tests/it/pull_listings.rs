//! What lookups of images in a registry show: referrers, children, old manifests, and what ACR alone knows.

use crate::support::memory::Memory;
use crate::support::pulls::{CONFIG, IMAGE, image, index, platform, pull};
use crate::support::{finish, json, root};
use crate::tests;
use serde_json::{Value, json};

tests![
    referrers_of_an_image_are_found_by_every_mechanism,
    a_missing_child_of_an_index_is_listed_with_its_error,
    old_and_odd_manifests_are_read_or_refused_by_name,
    attributes_that_only_acr_has_are_shown,
];

/// An artifact that refers to what `subject` is.
fn referrer(at: &Memory, kind: &str, subject: &Value) -> String {
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "artifactType": kind, "layers": [],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": at.blob(b"{}")},
        "subject": {"mediaType": subject["mediaType"], "digest": subject["digest"],
            "size": subject["size"]}});
    at.put("app:last", IMAGE, manifest.to_string().as_bytes())
}

/// What cosign puts beside a digest.
fn beside(at: &Memory, of: &Value, end: &str, kind: &str) -> String {
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "config": {"mediaType": CONFIG, "size": 2, "digest": at.blob(b"{}")},
        "layers": [{"mediaType": kind, "size": 7, "digest": at.blob(b"payload"),
            "annotations": {"of": format!("{of}{end}")}}]});
    let tag = of["digest"].as_str().unwrap().replace(':', "-");
    at.put(&format!("app:{tag}.{end}"), IMAGE, manifest.to_string().as_bytes())
}

fn referrers_of_an_image_are_found_by_every_mechanism() {
    for page in [Some(2), None] {
        let at = Memory::start();
        at.held.lock().unwrap().page = page;
        let both =
            ["linux/amd64", "linux/arm64"].map(|name| image(&at, "app:x", &platform(name), name));
        let whole = index(&at, "app:v1", &both);
        let count = if page.is_some() { 5 } else { 0 };
        for number in 0..count {
            referrer(&at, &format!("sbom/{number}"), &whole);
        }
        let of_arm = (page.is_some()).then(|| referrer(&at, "signature/x", &both[1]));
        let signature = "application/vnd.dev.cosign.simplesigning.v1+json";
        let signed = beside(&at, &whole, "sig", signature);
        let attested = beside(&at, &both[0], "att", "application/vnd.dsse.envelope.v1+json");
        let inspected = json(&mut at.azimg(&["inspect", &at.at("app:v1")]));
        let kinds = |value: &Value| -> Vec<(Value, Value)> {
            let all = value["referrers"].as_array().unwrap().iter();
            let mut all: Vec<(Value, Value)> =
                all.map(|one| (one["digest"].clone(), one["artifactType"].clone())).collect();
            all.sort_by_key(|one| one.1.to_string());
            all
        };
        let found = kinds(&inspected);
        assert_eq!(found.len(), count + 1, "{inspected}");
        assert_eq!(found[0], (json!(signed), json!(signature)));
        let platforms = &inspected["platforms"];
        assert_eq!(kinds(&platforms[0])[0].0, json!(attested), "{platforms}");
        let expected: Vec<Value> = of_arm.map(Value::from).into_iter().collect();
        let found: Vec<Value> = kinds(&platforms[1]).into_iter().map(|one| one.0).collect();
        assert_eq!(found, expected, "{platforms}");
    }
}

fn a_missing_child_of_an_index_is_listed_with_its_error() {
    let at = Memory::start();
    let [amd, arm] =
        ["linux/amd64", "linux/arm64"].map(|name| image(&at, "app:x", &platform(name), name));
    index(&at, "app:v1", &[amd.clone(), arm.clone()]);
    at.held.lock().unwrap().manifests.remove(arm["digest"].as_str().unwrap());
    let inspected = json(&mut at.azimg(&["inspect", &at.at("app:v1")]));
    let platforms = inspected["platforms"].as_array().unwrap();
    assert_eq!(platforms[0]["config"]["architecture"], "amd64");
    assert_eq!(
        (&platforms[1]["digest"], &platforms[1]["platform"]),
        (&arm["digest"], &arm["platform"])
    );
    assert!(platforms[1]["error"].as_str().unwrap().contains("404"), "{inspected}");
    // What is there can be pulled; all of it cannot.
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    pull(&at, "app:v1", &to, &["--platform", "linux/amd64"]);
    let all = folder.path().join("all");
    let (code, _, err) = finish(&mut at.azimg(&["pull", &at.at("app:v1"), all.to_str().unwrap()]));
    assert!(code != 0 && err.contains(&arm["digest"].as_str().unwrap()[7..]), "{err}");
}

fn old_and_odd_manifests_are_read_or_refused_by_name() {
    let at = Memory::start();
    let path = root().join("tests/fixtures/registry/schema1-signed.json");
    let schema1 = std::fs::read(path).unwrap();
    at.put("legacy/app:1", "application/vnd.docker.distribution.manifest.v1+prettyjws", &schema1);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let name = at.at("legacy/app:1");
    for line in [&["inspect", &name][..], &["pull", &name, to.to_str().unwrap()]] {
        let (code, _, err) = finish(&mut at.azimg(line));
        assert!(code != 0 && err.contains("Docker schema 1"), "{err}");
    }
    // An artifact manifest keeps its files in blobs.
    let artifact = json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json",
        "artifactType": "vuln-scan", "blobs": [{"mediaType": "application/json", "size": 7,
            "digest": at.blob(b"payload"),
            "annotations": {"org.opencontainers.image.title": "scan.json"}}]});
    let kind = "application/vnd.oci.artifact.manifest.v1+json";
    at.put("art:1", kind, artifact.to_string().as_bytes());
    let inspected = json(&mut at.azimg(&["inspect", &at.at("art:1")]));
    assert_eq!(inspected["blobs"][0]["mediaType"], "application/json", "{inspected}");
    assert_eq!(inspected["layersSize"], 7);
    let pulled = pull(&at, "art:1", &to, &["--to", "files"]);
    assert_eq!(pulled["files"], json!(["scan.json"]));
    assert_eq!(std::fs::read(to.join("scan.json")).unwrap(), b"payload");
    // null where a list could be is no list.
    let made = image(&at, "null:1", &platform("linux/amd64"), "one");
    let mut manifest = at.manifest("null:1");
    manifest["manifests"] = Value::Null;
    at.put("null:2", IMAGE, manifest.to_string().as_bytes());
    let inspected = json(&mut at.azimg(&["inspect", &at.at("null:2")]));
    assert_eq!(inspected["config"]["architecture"], "amd64", "{made}");
}

fn attributes_that_only_acr_has_are_shown() {
    let at = Memory::start();
    let made = image(&at, "app:v1", &platform("linux/amd64"), "one");
    let digest = made["digest"].as_str().unwrap();
    let bare = json(&mut at.azimg(&["inspect", &at.at("app:v1")]));
    assert_eq!((&bare["signed"], &bare["teleportEnabled"]), (&Value::Null, &Value::Null));
    let open = json!({"deleteEnabled": true, "writeEnabled": true, "listEnabled": true,
        "readEnabled": true});
    let mut quarantined = open.clone();
    quarantined["quarantineState"] = "Failed".into();
    quarantined["quarantineDetails"] = r#"{"state":"scan failed"}"#.into();
    let mut fast = open.clone();
    fast["teleportEnabled"] = true.into();
    let reported = [
        (String::new(), json!({"imageName": "app", "changeableAttributes": fast})),
        (
            "/_tags/v1".to_owned(),
            json!({"tag": {"name": "v1", "digest": digest, "signed": true,
                "changeableAttributes": open}}),
        ),
        (
            format!("/_manifests/{digest}"),
            json!({"manifest": {"digest": digest, "changeableAttributes": quarantined}}),
        ),
    ];
    for (path, reported) in reported {
        at.held.lock().unwrap().acr.insert(format!("/acr/v1/app{path}"), reported);
    }
    let inspected = json(&mut at.azimg(&["inspect", &at.at("app:v1")]));
    assert_eq!((&inspected["signed"], &inspected["teleportEnabled"]), (&json!(true), &json!(true)));
    assert_eq!(inspected["changeableAttributes"], quarantined);
    let shown = json(&mut at.azimg(&["show", &at.at("app:v1")]));
    assert_eq!(shown["signed"], true, "{shown}");
    let shown = json(&mut at.azimg(&["show", &at.at("app")]));
    assert_eq!(shown["changeableAttributes"]["teleportEnabled"], true, "{shown}");
}
