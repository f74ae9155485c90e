//! A catalog that was crawled once, and lists of it.

use super::{Azure, azimg, json};
use azimg::testing::sim::{OrganisationSize, Scale, generate};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A store with images of all kinds, shared by the tests that only read.
pub fn store() -> &'static str {
    static STORE: OnceLock<TempDir> = OnceLock::new();
    let folder = STORE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let azure = Azure::start(
            generate(Scale::Small, 81).with_generated_organisation(OrganisationSize::FEW, 81),
        );
        let path = folder.path().to_str().unwrap();
        json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
        folder
    });
    folder.path().to_str().unwrap()
}

pub fn list(arguments: &[&str]) -> Command {
    let mut all = vec!["images", "list"];
    all.extend(arguments);
    all.extend(["--store", store()]);
    azimg(&all)
}
