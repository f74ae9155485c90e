//! Programs that are not ours: the Azure SDK and the Azure CLI list from the simulated Azure what
//! azimg finds there, and a Parquet reader reads what azimg writes.

use crate::support::needs::{Need, folder};
use crate::support::{Azure, finish, json, peer, root, rows};
use crate::tests;
use azimg::testing::client::version;
use azimg::testing::sim::{SUBSCRIPTION, Scale, generate};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

tests![
    the_azure_sdk_lists_the_same_images needs [Azure],
    the_azure_sdk_lists_the_same_galleries needs [Azure],
    the_azure_cli_lists_the_same_images needs [Azure],
    the_newest_sdks_get_the_same_with_their_versions_and_with_ours needs [Azure],
    a_parquet_reader_finds_proper_types_and_the_same_rows needs [Readers],
];

fn secure(folder: &Path) -> Azure {
    let tls = folder.join("tls");
    Azure::start_with(generate(Scale::Small, 21), Duration::ZERO, Some(&tls))
}

fn succeed(command: &mut Command) -> String {
    let (code, stdout, stderr) = finish(command);
    assert_eq!(code, 0, "{command:?}\n{stdout}\n{stderr}");
    stdout
}

/// What azimg finds in one location, over https with the simulated authority.
fn crawled(azure: &Azure, folder: &Path) -> BTreeSet<String> {
    let store = folder.join("store");
    let store_name = store.to_str().unwrap();
    let mut command =
        azure.azimg(&["crawl", "--location", "eastus", "--store", store_name, "-o", "json"]);
    json(command.env("SSL_CERT_FILE", folder.join("tls/ca.pem")));
    rows(&store).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn the_azure_sdk_lists_the_same_images() {
    let python = folder(Need::Azure).join("python");
    let folder = tempfile::tempdir().unwrap();
    let azure = secure(folder.path());
    let found = crawled(&azure, folder.path());
    let arm = azure.variables()["AZIMG_ARM_ENDPOINT"].clone();
    let mut command = peer(&azure, folder.path(), &python);
    command.arg(root().join("tests/fixtures/list_images.py")).args([&arm, SUBSCRIPTION, "eastus"]);
    let listed: BTreeSet<String> = succeed(&mut command).lines().map(str::to_owned).collect();
    assert!(listed.len() > 50);
    assert_eq!(listed, found);
}

fn the_azure_sdk_lists_the_same_galleries() {
    let python = folder(Need::Azure).join("python");
    let folder = tempfile::tempdir().unwrap();
    let azure = secure(folder.path());
    let store = folder.path().join("store");
    let arguments = ["crawl", "--source", "gallery", "--location", "eastus", "--store"];
    let mut command = azure.azimg(&[&arguments[..], &[store.to_str().unwrap()]].concat());
    succeed(command.env("SSL_CERT_FILE", folder.path().join("tls/ca.pem")));
    let found: BTreeSet<String> = crate::support::galleries::rows(&store)
        .iter()
        .filter(|row| row["sharing"] != "community" || !row["subscriptionId"].is_null())
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    let arm = azure.variables()["AZIMG_ARM_ENDPOINT"].clone();
    let mut command = peer(&azure, folder.path(), &python);
    let script = root().join("tests/fixtures/list_galleries.py");
    command.arg(script).args([&arm, SUBSCRIPTION, "eastus"]);
    let listed = succeed(&mut command);
    let of = |kinds: &[&str]| -> BTreeSet<String> {
        let lines = listed.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(kind, _)| kinds.contains(kind)).map(|(_, id)| id.to_owned()).collect()
    };
    assert_eq!(of(&["provider", "shared"]), found);
    let own = found.iter().filter(|id| id.contains("/galleries/")).cloned().collect();
    assert_eq!(of(&["graph"]), own);
}

fn the_azure_cli_lists_the_same_images() {
    let az = folder(Need::Azure).join("az");
    let folder = tempfile::tempdir().unwrap();
    let azure = secure(folder.path());
    let found = crawled(&azure, folder.path());
    let arm = azure.variables()["AZIMG_ARM_ENDPOINT"].clone();
    let az = |arguments: &[&str]| succeed(peer(&azure, folder.path(), &az).args(arguments));
    az(&["cloud", "register", "--name", "Sim", "--endpoint-resource-manager", &arm]);
    az(&["cloud", "set", "--name", "Sim"]);
    az(&["login", "--identity"]);
    let listed = az(&["vm", "image", "list", "--all", "--location", "eastus", "--output", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let listed: BTreeSet<String> =
        listed.iter().map(|row| row["urn"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, found);
}

fn a_parquet_reader_finds_proper_types_and_the_same_rows() {
    let python = folder(Need::Readers).join("python");
    let folder = tempfile::tempdir().unwrap();
    let azure = secure(folder.path());
    crawled(&azure, folder.path());
    let store = folder.path().join("store");
    let expected = rows(&store);
    let run = expected[0]["observedRun"].as_str().unwrap();
    let mut command = Command::new(python);
    command.arg(root().join("tests/fixtures/read_parquet.py"));
    command.arg(store.join(format!("snapshots/{run}/marketplace.parquet")));
    let printed = succeed(&mut command);
    let mut lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let types = lines.next().unwrap();
    assert_eq!(types["observed_at"], "timestamp[ms, tz=UTC]");
    assert_eq!(types["scheduled_deprecation_at"], "timestamp[ms, tz=UTC]");
    assert_eq!(types["is_latest"], "bool");
    assert!(types["locations"].as_str().unwrap().starts_with("list<"), "{types}");
    assert!(types["features"].as_str().unwrap().starts_with("map<string, string"), "{types}");
    let read: Vec<Value> = lines.collect();
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(&expected) {
        for (column, value) in read.as_object().unwrap() {
            let mut parts = column.split('_');
            let mut name = parts.next().unwrap().to_owned();
            for part in parts {
                name += &(part[..1].to_uppercase() + &part[1..]);
            }
            let value = match (name.as_str(), value) {
                ("features", Value::Array(pairs)) => pairs
                    .iter()
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
                _ => value.clone(),
            };
            assert_eq!(value, expected[&name], "{column} of {}", expected["id"]);
        }
    }
}

/// Whatever azimg asks of the Resource Manager, the newest SDKs ask, with their own versions and with azimg's: both are
/// offered, and give the same.
fn the_newest_sdks_get_the_same_with_their_versions_and_with_ours() {
    // It is made with the others.
    let python = folder(Need::Azure).join("../../python-newest/bin/python");
    let folder = tempfile::tempdir().unwrap();
    let azure = secure(folder.path());
    let arm = azure.variables()["AZIMG_ARM_ENDPOINT"].clone();
    let ours = version::ALL.iter().map(|known| (known.resource.to_owned(), known.sent.into()));
    let ours = Value::Object(ours.collect()).to_string();
    let mut command = peer(&azure, folder.path(), &python);
    command.arg(root().join("tests/fixtures/newest_sdks.py"));
    command.args([&arm, SUBSCRIPTION, "eastus", &ours]);
    let reported = succeed(&mut command);
    let reported: Vec<Value> =
        reported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let calls: BTreeSet<&str> =
        reported.iter().map(|call| call["call"].as_str().unwrap()).collect();
    assert!(calls.len() >= 18, "{calls:?}");
    for call in &reported {
        assert_eq!(call["same"], true, "{call}");
        assert!(call["rows"].as_u64().unwrap() > 0, "{call}");
    }
}
