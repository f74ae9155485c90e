//! A catalog crawled from a tenant in a file, and lookups in it.

use super::case::Case;
use super::web::{self, Host};
use super::{Azure, finish, json, threads};
use azimg::testing::sim::{Scale, generate};
use reqwest::Client;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A case, and a store that has what a crawl of it found.
pub struct Crawled {
    pub case: Case,
    pub folder: tempfile::TempDir,
    /// The exit code and the report of the crawl.
    pub end: (i32, Value),
}

impl Crawled {
    pub fn of(case: Case, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let end = crawl(&case, folder.path(), options);
        Self { case, folder, end }
    }

    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = self.case.azimg(arguments);
        command.args(["--store", self.folder.path().to_str().unwrap()]);
        command
    }

    pub fn reported(&self, arguments: &[&str]) -> Value {
        json(self.azimg(arguments).args(["-o", "json"]))
    }

    /// The ids of what a list with these options has.
    pub fn listed(&self, options: &[&str]) -> Vec<String> {
        let rows = self.reported(&[&["images", "list", "--quiet"], options].concat());
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn crawl(case: &Case, store: &Path, options: &[&str]) -> (i32, Value) {
    let arguments = ["crawl", "--store", store.to_str().unwrap(), "-o", "json"];
    let (code, stdout, stderr) = finish(&mut case.azimg(&[&arguments[..], options].concat()));
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}")))
}

/// A version as a listing has it, and what a question for it tells.
pub fn version(name: &str, image: &Value) -> Value {
    json!({"name": name, "image": image, "properties": {"hyperVGeneration": image["hyperVGeneration"],
        "architecture": image["architecture"],
        "imageDeprecationStatus": {"imageState": "Active"}}})
}

/// Asks a host over a store.
pub fn over_http(store: &Path, ask: impl FnOnce(&dyn Fn(&str) -> Value)) {
    let azure = Azure::start(generate(Scale::Small, 5));
    let host = Host::start(&azure, store);
    let get = |path: &str| {
        threads(async { web::get(&Client::new(), &format!("{}/{path}", host.address)).await.1 })
    };
    ask(&get);
}
