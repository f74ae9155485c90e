//! Image usage: machines joined with the catalog, and the state of each machine's image.
//!
//! An image that the catalog does not have is gone only if the scope in which it would be found was
//! crawled. Otherwise its state is unknown.

mod finding;
mod images;
mod judge;
mod row;

pub use finding::Finding;
pub use row::Usage;

use super::Catalog;
use crate::error::Result;
use crate::image::machine::Machine;
use crate::pipeline::answered::{LastResult, last_results};
use crate::source::Source;
use crate::store::Store;
use crate::work::Request;
use images::Images;
use judge::judge;
use std::sync::Arc;
use time::OffsetDateTime;

/// The machines that `sources` find in the subscriptions of `request`.
pub async fn machines(sources: &[Arc<dyn Source>], request: &Request) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for source in sources {
        machines.extend(source.machines(&request.subscriptions).await?);
    }
    Ok(machines)
}

/// Joins machines with a catalog as of `now`, keeping their order.
pub async fn usage(
    catalog: &Catalog,
    store: &dyn Store,
    machines: Vec<Machine>,
    now: OffsetDateTime,
) -> Result<Vec<Usage>> {
    let mut images = Images::new(catalog, catalog.others(store).await?, now);
    let mut found = Vec::with_capacity(machines.len());
    for machine in machines {
        let image = images.of(&machine)?;
        found.push((machine, image));
    }
    let scopes = found.iter().flat_map(|(_, image)| image.scopes.clone()).collect();
    let last_results = last_results(store, &catalog.manifest, scopes).await?;
    let judged = found.into_iter().map(|(machine, image)| {
        let mut results = image.scopes.iter().filter_map(|scope| last_results.get(scope));
        let last_result = results.find(|last_result| **last_result != LastResult::NotQueried);
        judge(machine, image, last_result)
    });
    Ok(judged.collect())
}
