//! A simulated tenant with galleries, a crawl of it, and the rows of that crawl.

use super::{Azure, finish, read_json, read_ndjson};
use azimg::testing::sim::{Conditions, OrganisationSize, Scale, World, generate};
use serde_json::Value;
use std::path::Path;

/// A tenant with a gallery that is too big for one item, and two subscriptions that cannot be read.
pub const TENANT: OrganisationSize = OrganisationSize {
    subscriptions: 6,
    galleries: 7,
    definitions: 70,
    versions: 1_500,
    managed: 400,
    machines: 200,
    shared: 4,
    communities: 3,
};

pub fn tenant(size: OrganisationSize) -> World {
    let World { locations, .. } = generate(Scale::Small, 1);
    World::new(locations, Vec::new()).with_generated_organisation(size, 5)
}

pub fn start(world: World, subscriptions: u8) -> Azure {
    Azure::under(world, Conditions { subscriptions, ..Conditions::default() }, None)
}

pub fn crawl(azure: &Azure, store: &Path, more: &[&str]) -> Value {
    let mut arguments = vec!["crawl", "--source", "gallery", "-o", "json", "--store"];
    arguments.push(store.to_str().unwrap());
    arguments.extend(more);
    let (code, stdout, stderr) = finish(&mut azure.azimg(&arguments));
    assert!(code == 0 || code == 3, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

pub fn rows(store: &Path) -> Vec<Value> {
    let current = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    read_ndjson(&store.join(format!("snapshots/{run}/gallery.ndjson.zst")))
}
