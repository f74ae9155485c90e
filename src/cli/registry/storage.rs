//! `azimg registry repositories --storage`: the storage used by each repository, from the current
//! snapshot.

use crate::catalog::{Catalog, Filter};
use crate::cli::output::Output;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::registry::{KIND, RegistryImage, storage};
use serde_json::json;
use time::OffsetDateTime;

pub(super) async fn list(
    config: &Config,
    registry: &str,
    search: &str,
    output: &Output,
) -> Result<()> {
    let store = config.store()?;
    let catalog = Catalog::open_with_others(store.as_ref()).await?;
    let table = catalog.others(store.as_ref()).await?;
    let server = registry.trim_start_matches("https://").trim_end_matches('/');
    let filter = Filter {
        kinds: vec![KIND.to_owned()],
        registry: Some(server.to_owned()),
        exact: server.contains(['.', ':']),
        ..Filter::default()
    };
    let (found, _) = table.list(&filter, 0, usize::MAX, OffsetDateTime::now_utc());
    let rows: Vec<RegistryImage> =
        found.into_iter().map(|row| table.row(row)).collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(Error::not_found(format!(
            "the catalog has no images of {server}: crawl it with 'azimg crawl --source registry'"
        )));
    }
    let mut values = Vec::new();
    for of_one in rows.chunk_by(|a, b| a.login_server == b.login_server) {
        for (repository, sum) in storage(of_one.iter()) {
            if repository.contains(search) {
                values.push(json!({"loginServer": of_one[0].login_server,
                    "repository": repository, "exclusive": sum.exclusive, "shared": sum.shared,
                    "manifests": sum.manifests, "tags": sum.tags, "unknown": sum.unknown}));
            }
        }
    }
    let columns =
        ["loginServer", "repository", "exclusive", "shared", "manifests", "tags", "unknown"];
    output.list(values, &columns)
}
