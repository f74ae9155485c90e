//! Recorded bodies of the Resource Manager, by form and version of the API.

use super::replay::{Exchange, exchanges};
use azimg::testing::client::version;

/// What a path asks for: the parts that are no names.
pub fn form(path: &str) -> String {
    let named = [
        "subscriptions",
        "resourcegroups",
        "locations",
        "galleries",
        "images",
        "versions",
        "sharedgalleries",
        "communitygalleries",
        "capsoperations",
    ];
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let fold = |(at, part): (usize, &&str)| {
        let is_name = at > 0 && named.contains(&parts[at - 1]);
        if is_name { "*".to_owned() } else { (*part).to_owned() }
    };
    parts.iter().enumerate().map(fold).collect::<Vec<_>>().join("/")
}

pub fn all(folder: &std::path::Path) -> Vec<Exchange> {
    let mut all = exchanges(folder, "gallery.jsonl.gz");
    all.extend(exchanges(folder, "managed-images.jsonl.gz"));
    all.retain(|e| !e.path.contains("/applications/"));
    all
}

/// A version that is offered for what `path` leads to.
pub fn version(path: &str) -> &'static str {
    let managed = path.to_lowercase().contains("/providers/microsoft.compute/images");
    let version = if managed { version::MANAGED_IMAGES } else { version::GALLERIES };
    version.sent
}
