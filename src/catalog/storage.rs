//! The storage that each repository of the container registries uses.

use super::rows::{REGISTRY, RowTable};
use crate::error::Result;
use crate::image::registry::{KIND, RegistryImage, storage};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A repository, and the storage that its manifests use. A blob that several manifests of it contain
/// counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStorage {
    /// The login server of the registry.
    pub registry: String,
    /// The name of the repository.
    pub repository: String,
    /// The number of its manifests.
    pub manifests: u64,
    /// The number of its tags.
    pub tags: u64,
    /// The size of its blobs, in bytes; null if the content of no manifest is known.
    pub bytes: Option<u64>,
    /// The size of the blobs that no other repository of the registry contains.
    pub exclusive_bytes: Option<u64>,
    /// The size of the blobs that other repositories of the registry also contain.
    pub shared_bytes: Option<u64>,
    /// The number of its manifests without a tag.
    pub untagged: u64,
    /// The number of its manifests whose blobs are not all counted, because they are not known.
    pub unknown: u64,
}

/// The repositories of a table, most bytes first.
pub(super) fn of(table: &RowTable) -> Result<Vec<RepositoryStorage>> {
    let mut registries: BTreeMap<&str, Vec<RegistryImage>> = BTreeMap::new();
    for (at, entry) in (0..).zip(table.entries()) {
        if let Some(server) = table.name(entry, REGISTRY).filter(|_| entry.kind() == KIND) {
            registries.entry(server).or_default().push(table.row(at)?);
        }
    }
    let mut all = Vec::new();
    for (server, rows) in &registries {
        let mut untagged: BTreeMap<&str, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.tags.is_empty()) {
            *untagged.entry(&row.repository).or_default() += 1;
        }
        for (repository, sum) in storage(rows.iter()) {
            let known = |bytes: u64| (sum.unknown < sum.manifests || bytes > 0).then_some(bytes);
            all.push(RepositoryStorage {
                registry: (*server).to_owned(),
                repository: repository.to_owned(),
                manifests: sum.manifests,
                tags: sum.tags,
                bytes: known(sum.exclusive + sum.shared),
                exclusive_bytes: known(sum.exclusive + sum.shared).map(|_| sum.exclusive),
                shared_bytes: known(sum.exclusive + sum.shared).map(|_| sum.shared),
                untagged: untagged.get(repository).copied().unwrap_or_default(),
                unknown: sum.unknown,
            });
        }
    }
    // The sort is stable: repositories of equal size keep the order of their names.
    all.sort_by_key(|one| Reverse(one.bytes));
    Ok(all)
}
