//! Which things of a simulated Azure stand for the names of an example: one set of names for each thing that a
//! path can lead to.

use crate::support::asking::ask;
use azimg::testing::sim::Sim;
use azimg::testing::sim::organisation::SimGallery;
use azimg::testing::source::locations::short_name;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names by placeholder.
pub type Names = BTreeMap<&'static str, String>;

/// So many marketplace versions are looked at.
const MOST: usize = 40;

/// `path` with `names` for its placeholders.
pub fn with(path: &str, names: &Names) -> String {
    let replace =
        |path: String, (name, value): (&&str, &String)| path.replace(&format!("{{{name}}}"), value);
    names.iter().fold(path.to_owned(), replace)
}

/// All sets of names for `path`.
pub async fn of(sim: &Arc<Sim>, path: &str) -> Vec<Names> {
    let has = |name: &str| path.contains(&format!("{{{name}}}"));
    let subscription = sim.subscriptions[0].clone();
    let plain = Names::from([("subscription", subscription.clone())]);
    if has("publisher") {
        return marketplace(sim, &subscription).await;
    }
    if path.contains("/publishers") {
        return vec![Names::from([
            ("subscription", subscription),
            ("location", sim.world.locations[0].clone()),
        ])];
    }
    if has("operation") {
        return operation(sim, &subscription).await;
    }
    if ["acr/", "v2/", "oauth2/"].iter().any(|start| path.starts_with(start)) || has("registry") {
        return registries(sim, path.contains("/blobs/"));
    }
    let all = sim.organisation();
    if path.to_ascii_lowercase().contains("sharedgalleries") {
        return all
            .shared
            .values()
            .flat_map(|gallery| foreign("shared", &plain, gallery))
            .collect();
    }
    if has("community") {
        let communities = all.communities.values();
        return communities.flat_map(|gallery| foreign("community", &plain, gallery)).collect();
    }
    if has("managed") || path.to_ascii_lowercase().ends_with("compute/images") {
        let parts = all.images.keys().map(|id| id.split('/').collect::<Vec<_>>());
        return parts
            .map(|id| {
                let names = [("subscription", id[2]), ("group", id[4]), ("managed", id[8])];
                names.map(|(name, value)| (name, value.to_owned())).into()
            })
            .collect();
    }
    if has("group") {
        return all.galleries.values().flat_map(own).collect();
    }
    vec![plain]
}

/// Those of a gallery of ours.
fn own(gallery: &SimGallery) -> Vec<Names> {
    let mut names = Names::from([
        ("subscription", gallery.subscription.clone()),
        ("group", gallery.group.clone()),
        ("gallery", gallery.name.clone()),
    ]);
    let mut all = Vec::new();
    for definition in gallery.definitions.values() {
        names.insert("image", definition.name.clone());
        for version in definition.versions.values() {
            names.insert("version", version.name.clone());
            all.push(names.clone());
        }
    }
    all
}

/// Those of a gallery of others, in every location of every version.
fn foreign(kind: &'static str, plain: &Names, gallery: &SimGallery) -> Vec<Names> {
    let mut all = Vec::new();
    for definition in gallery.definitions.values() {
        for version in definition.versions.values() {
            for region in &version.regions {
                let mut names = plain.clone();
                names.insert(kind, gallery.name.clone());
                names.insert("image", definition.name.clone());
                names.insert("version", version.name.clone());
                names.insert("location", short_name(region["name"].as_str().unwrap_or_default()));
                all.push(names);
            }
        }
    }
    all
}

/// Those of registries; a digest is a blob's or a manifest's.
fn registries(sim: &Sim, blobs: bool) -> Vec<Names> {
    let mut all = Vec::new();
    for registry in sim.registries().iter() {
        let names = Names::from([
            ("subscription", registry.subscription.clone()),
            ("group", registry.group.clone()),
            ("registry", registry.name.clone()),
            ("server", registry.login_server.clone()),
        ]);
        for (name, repository) in &registry.repositories {
            for (tag, points) in &repository.tags {
                let mut names = names.clone();
                let of_it = |blob: &&String| {
                    let texts = repository.manifests.values().map(|one| &one.content);
                    texts.into_iter().any(|text| String::from_utf8_lossy(text).contains(*blob))
                };
                let blob = registry.blobs.keys().find(of_it).filter(|_| blobs);
                names.insert("repository", name.clone());
                names.insert("tag", tag.clone());
                names.insert("reference", points.digest.clone());
                names.insert("digest", blob.unwrap_or(&points.digest).clone());
                all.push(names);
            }
        }
    }
    all.truncate(MOST);
    all
}

/// One operation that is under way.
async fn operation(sim: &Arc<Sim>, subscription: &str) -> Vec<Names> {
    let first = sim.organisation().galleries.values().next().map(SimGallery::id);
    let uri = format!("{}?api-version=2023-07-03", first.unwrap_or_default());
    ask(sim, "PATCH", &uri, Some(&json!({"properties": {"description": "x"}}))).await;
    let id = sim.organisation().operations.keys().next().cloned().unwrap_or_default();
    let location = "eastus".to_owned();
    vec![Names::from([
        ("subscription", subscription.to_owned()),
        ("location", location),
        ("operation", id),
    ])]
}

/// Those of versions that the marketplace has in one location.
async fn marketplace(sim: &Arc<Sim>, subscription: &str) -> Vec<Names> {
    let location = sim.world.locations[0].clone();
    let base = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/publishers"
    );
    let list = async |path: &str| {
        let (_, listed) = ask(sim, "GET", &format!("{path}?api-version=2024-07-01"), None).await;
        let names = |list: &Vec<Value>| {
            list.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
        };
        listed.as_array().map_or_else(Vec::new, names)
    };
    let mut all = Vec::new();
    for publisher in list(&base).await {
        let offers = format!("{base}/{publisher}/artifacttypes/vmimage/offers");
        for offer in list(&offers).await {
            let skus = format!("{offers}/{offer}/skus");
            for sku in list(&skus).await {
                for version in list(&format!("{skus}/{sku}/versions")).await {
                    all.push(Names::from([
                        ("subscription", subscription.to_owned()),
                        ("location", location.clone()),
                        ("publisher", publisher.clone()),
                        ("offer", offer.clone()),
                        ("sku", sku.clone()),
                        ("version", version),
                    ]));
                }
            }
        }
        if all.len() >= MOST {
            break;
        }
    }
    all
}
