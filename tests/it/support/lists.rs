//! A catalog that was crawled once, and lists of it by the command line and over HTTP.

use super::web::Host;
use super::{Azure, finish, json, threads};
use azimg::testing::sim::{OrganisationSize, Scale, generate};
use reqwest::Client;
use serde_json::Value;
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A store with one crawled snapshot of all tables, and what was crawled.
pub fn stage() -> &'static (Azure, TempDir) {
    static STAGE: OnceLock<(Azure, TempDir)> = OnceLock::new();
    STAGE.get_or_init(|| {
        let world = generate(Scale::Small, 61).with_generated_organisation(
            OrganisationSize { machines: 12, ..OrganisationSize::FEW },
            61,
        );
        let azure = Azure::start(world);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
        (azure, folder)
    })
}

pub fn command(arguments: &[&str]) -> Command {
    let (azure, folder) = stage();
    let mut all = arguments.to_vec();
    all.extend(["--store", folder.path().to_str().unwrap()]);
    azure.azimg(&all)
}

pub fn rows(arguments: &[&str]) -> Vec<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    json(&mut command(&all)).as_array().unwrap().clone()
}

pub fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}")).to_owned()
}

/// What a command says on stderr that ends so.
pub fn said(arguments: &[&str], code: i32) -> String {
    let (exit, _, stderr) = finish(&mut command(arguments));
    assert_eq!(exit, code, "{arguments:?}: {stderr}");
    stderr
}

pub fn assert_says(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
}

pub fn places(row: &Value) -> impl Iterator<Item = &str> {
    row["locations"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub async fn get(client: &Client, url: &str) -> (u16, Value) {
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
}

/// Asks a host of a copy of the store: one store has one host.
pub fn asks<F: Future<Output = ()>>(ask: impl FnOnce(Client, Box<dyn Fn(&str) -> String>) -> F) {
    let (azure, folder) = stage();
    let copy = tempfile::tempdir().unwrap();
    let mut cp = Command::new("cp");
    let (code, _, stderr) = finish(cp.arg("-r").arg(folder.path().join(".")).arg(copy.path()));
    assert_eq!(code, 0, "{stderr}");
    let host = Host::start(azure, copy.path());
    let address = host.address.clone();
    let at = move |path: &str| format!("{address}/{path}");
    threads(ask(host.caller(), Box::new(at)));
}
