//! Without quota, with 20 ms of latency: compared with the Azure CLI's own loop and a sequential
//! script of the Azure SDK on the same server. All must find the same images.

use crate::support::{finish, json, peer, python, root, rows};
use crate::{Azure, row, table, tenth};
use azimg::testing::sim::{Conditions, SUBSCRIPTION};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

/// The stdout of a command, and its duration in seconds.
fn timed(command: &mut Command) -> (String, f64) {
    let begun = Instant::now();
    let (code, stdout, stderr) = finish(command);
    assert_eq!(code, 0, "{stderr}");
    (stdout, begun.elapsed().as_secs_f64())
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls");
    let conditions = Conditions { latency: Duration::from_millis(20), ..Conditions::default() };
    let azure = Azure::under(tenth(), conditions, Some(&tls));
    let arm = azure.variables()["AZIMG_ARM_ENDPOINT"].clone();

    let store = folder.path().join("store");
    let arguments = ["crawl", "--details", "none", "--quiet", "-o", "json", "--store"];
    let mut command = azure.azimg(&arguments);
    command.arg(&store).env("SSL_CERT_FILE", tls.join("ca.pem"));
    let begun = Instant::now();
    json(&mut command);
    let ours = begun.elapsed().as_secs_f64();
    let found: BTreeSet<String> =
        rows(&store).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();

    let az = python::azure().unwrap().join("az");
    let az = |arguments: &[&str]| timed(peer(&azure, folder.path(), &az).args(arguments));
    az(&["cloud", "register", "--name", "Sim", "--endpoint-resource-manager", &arm]);
    az(&["cloud", "set", "--name", "Sim"]);
    az(&["login", "--identity"]);
    let (printed, cli) =
        az(&["vm", "image", "list", "--all", "--location", "eastus", "--output", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let listed: BTreeSet<String> =
        listed.iter().map(|row| row["urn"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, found, "az finds others");

    let mut script = peer(&azure, folder.path(), &python::azure().unwrap().join("python"));
    script.arg(root().join("tests/fixtures/list_images.py")).args([&arm, SUBSCRIPTION, "eastus"]);
    let (printed, sdk) = timed(&mut script);
    let listed: BTreeSet<String> = printed.lines().map(str::to_owned).collect();
    assert_eq!(listed, found, "the SDK finds others");

    let line = |who: &str, took: f64, limit: &str| {
        let times = format!("{:.1}", took / ours);
        row([&who, &format!("{took:.1} s"), &times, &limit])
    };
    table(
        &format!("A tenth of a region ({} images), 20 ms to every answer", found.len()),
        &[
            row([&"who", &"took", &"÷ azimg", &"limit"]),
            line("azimg crawl", ours, ""),
            line("az vm image list --all", cli, "≥ 8"),
            line("sequential script of the SDK", sdk, "≥ 30"),
        ],
    );
}
