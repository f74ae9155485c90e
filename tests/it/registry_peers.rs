//! The Azure SDK for Python and azimg at one registry: they list, lock, upload, download and delete the
//! same.

use crate::support::oci::Oci;
use crate::support::{finish, json, python, root};
use crate::tests;
use crate::transfers::Layout;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

tests![
    the_sdk_and_azimg_agree_on_a_registry needs [Registry, Azure],
];

/// What the SDK says when it does that.
fn sdk(oci: &Oci, endpoint: &str, line: &[&str]) -> Value {
    let authority = oci.folder.path().join("tls/ca.pem");
    let mut command = Command::new(python::registry().unwrap().join("python"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", oci.folder.path());
    command.env("REQUESTS_CA_BUNDLE", &authority).env("SSL_CERT_FILE", &authority);
    command.arg(root().join("tests/fixtures/registry_peer.py")).arg(endpoint).args(line);
    let (code, out, err) = finish(&mut command);
    assert_eq!(code, 0, "{line:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn azimg(oci: &Oci, line: &[&str]) -> Value {
    json(&mut oci.azimg(&[&["registry"], line, &["-o", "json"]].concat()))
}

/// What azimg lists, as far as the SDK says it, too.
fn everything(oci: &Oci) -> Value {
    let mut all = serde_json::Map::new();
    for row in azimg(oci, &["repositories", &oci.front.server]).as_array().unwrap() {
        let name = row["repository"].as_str().unwrap();
        let at = oci.at(name);
        let whole = azimg(oci, &["show", &at]);
        let only = |rows: Value, columns: &[&str]| -> Vec<Value> {
            let rows = rows.as_array().unwrap().iter().map(|row| {
                let of = |column: &&str| ((*column).to_owned(), row[*column].clone());
                let mut row: serde_json::Map<String, Value> = columns.iter().map(of).collect();
                // Python's moments end with microseconds.
                let time = row["lastUpdateTime"].as_str().unwrap();
                let (seconds, part) = time.trim_end_matches('Z').split_once('.').unwrap();
                let part = format!("{part:0<6}");
                row["lastUpdateTime"] = format!("{seconds}.{}", &part[..6]).into();
                Value::Object(row)
            });
            rows.collect()
        };
        let tags = ["name", "digest", "lastUpdateTime", "changeableAttributes"];
        let manifests = ["digest", "imageSize", "tags", "lastUpdateTime", "changeableAttributes"];
        all.insert(
            name.to_owned(),
            json!({"manifestCount": whole["manifestCount"], "tagCount": whole["tagCount"],
                "changeableAttributes": whole["changeableAttributes"],
                "tags": only(azimg(oci, &["tags", &at]), &tags),
                "manifests": only(azimg(oci, &["manifests", &at]), &manifests)}),
        );
    }
    Value::Object(all)
}

fn push(oci: &Oci, name: &str, folder: &Path, seed: &str) -> Value {
    let layout = Layout::new(folder);
    let image = layout.image("amd64", &[seed.as_bytes()], &Value::Null);
    layout.tag(&image, "x");
    azimg(oci, &["push", &oci.at(name), layout.0.to_str().unwrap()])
}

fn the_sdk_and_azimg_agree_on_a_registry() {
    let oci = Oci::start();
    let endpoint = oci.secure();
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in
        ["a", "team/b:v1", "team/b:v2", "team/b:v3", "c:latest"].iter().enumerate()
    {
        push(&oci, name, &folder.path().join(number.to_string()), name);
    }
    // What one pushes, the other pulls; and they see the same.
    let by_sdk = sdk(&oci, &endpoint, &["push", "sdk/app", "v1"]);
    let to = folder.path().join("pulled");
    let pulled = azimg(&oci, &["pull", &oci.at("sdk/app:v1"), to.to_str().unwrap()]);
    assert_eq!(pulled["digest"], by_sdk["digest"]);
    assert_eq!(Layout(to).blobs().len(), 3);
    let inspected = azimg(&oci, &["inspect", &oci.at("sdk/app:v1")]);
    assert_eq!(inspected["config"]["labels"]["by"], "sdk", "{inspected}");
    let seen = sdk(&oci, &endpoint, &["pull", "team/b", "v2"]);
    let shown = azimg(&oci, &["show", &oci.at("team/b:v2")]);
    assert_eq!(seen["digest"], shown["digest"]);
    let (ours, theirs) = (everything(&oci), sdk(&oci, &endpoint, &["list"]));
    assert_eq!(ours, theirs);
    assert_eq!(ours["team/b"]["tags"].as_array().unwrap().len(), 3);
    // What one locks, the other may not delete.
    sdk(&oci, &endpoint, &["lock", "team/b", "v1"]);
    let (code, _, err) = finish(&mut oci.azimg(&["registry", "delete", &oci.at("team/b:v1")]));
    assert!(code != 0 && err.contains("locked"), "{err}");
    let line = ["set", &oci.at("team/b:v1"), "--delete-enabled", "true", "--write-enabled", "true"];
    azimg(&oci, &line);
    assert_eq!(everything(&oci), sdk(&oci, &endpoint, &["list"]));
    // Deleted by the one or the other, it is gone for both.
    sdk(&oci, &endpoint, &["delete-tag", "team/b", "v1"]);
    azimg(&oci, &["delete", &oci.at("team/b:v2")]);
    let digest = by_sdk["digest"].as_str().unwrap();
    sdk(&oci, &endpoint, &["delete-manifest", "sdk/app", digest]);
    sdk(&oci, &endpoint, &["delete-repository", "c"]);
    azimg(&oci, &["delete", &oci.at("a"), "--yes"]);
    let left = everything(&oci);
    assert_eq!(left, sdk(&oci, &endpoint, &["list"]));
    let names: Vec<&String> = left.as_object().unwrap().keys().collect();
    assert_eq!(names, ["sdk/app", "team/b"]);
    assert_eq!(left["team/b"]["tagCount"], 1);
    assert_eq!(left["team/b"]["manifestCount"], 3, "tags go, manifests stay");
}
