//! The second round of a run, which fetches details that listings do not contain.

use super::CloseAttempt;
use crate::error::{ErrorKind, Result};
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::{read_details_plan, to_json};
use crate::store::{Key, Store};
use crate::work::{Details, Plan, RunId, Scope, SourceName, WorkItem};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of versions per item. This is a few seconds of work, and well below a queue
/// message's 48 KiB.
const VERSIONS_PER_ITEM: usize = 100;
/// Maximum size of the names of an item's versions, in bytes, since names can be long.
const DETAILS_BYTES: usize = 24 << 10;
/// Maximum number of alternative subscriptions per item, used if the location's own subscription
/// cannot be asked.
const OTHERS: usize = 8;

/// A version whose details are wanted, with its locations.
pub(super) struct WantedDetails {
    locations: Vec<String>,
    publisher: String,
    image: [String; 3],
}

/// Returns a row's version and locations if its details are wanted.
pub(super) fn wants(row: &MarketplaceImage, policy: Details, run: RunId) -> Option<WantedDetails> {
    let in_scope = match policy {
        Details::None => false,
        Details::Latest => row.is_latest,
        Details::All => true,
    };
    let fresh = row.observed_run == run.to_string();
    if !in_scope || !fresh || row.has_details() {
        return None;
    }
    Some(WantedDetails {
        locations: row.locations.clone(),
        publisher: row.publisher.clone(),
        image: [row.offer.clone(), row.sku.clone(), row.version.clone()],
    })
}

/// Plans the second round of a run, once.
pub(super) async fn plan_details(
    store: &dyn Store,
    plan: &Plan,
    wanted: Vec<WantedDetails>,
) -> Result<CloseAttempt> {
    let items = details_items(plan, wanted);
    let key = Key::DetailsPlan(plan.run);
    let bytes = bytes::Bytes::from(to_json(&items)?);
    if store.create(&key, bytes.clone()).await? {
        return Ok(CloseAttempt::Details(items));
    }
    match read_details_plan(store, plan.run).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            store.delete(&key.to_string()).await?;
            store.create(&key, bytes).await?;
            Ok(CloseAttempt::Details(items))
        }
        read => read.map(|planned| CloseAttempt::Details(planned.unwrap_or_default())),
    }
}

fn details_items(plan: &Plan, wanted: Vec<WantedDetails>) -> Vec<WorkItem> {
    let marketplace = plan.items.iter().filter(|item| item.source == SourceName::Marketplace);
    let through: HashMap<&str, &Scope> =
        marketplace.map(|item| (item.scope.location(), &item.scope)).collect();
    let mut groups: BTreeMap<(String, String), Vec<[String; 3]>> = BTreeMap::new();
    for WantedDetails { locations, publisher, image } in wanted {
        // A location that only an earlier run saw may have no subscription to ask through.
        let planned = |location: &String| through.contains_key(location.as_str());
        let Some(location) = locations.into_iter().find(planned) else { continue };
        groups.entry((location, publisher)).or_default().push(image);
    }
    let mut items = Vec::new();
    for ((location, publisher), images) in groups {
        let through = through.get(location.as_str());
        let subscription = through.map(|scope| scope.subscription()).unwrap_or_default();
        let others = through.map(|scope| scope.others()).unwrap_or_default();
        let otherwise = &others[..others.len().min(OTHERS)];
        let mut chunk = Vec::new();
        let mut bytes = 0;
        let mut push = |images: Vec<[String; 3]>| {
            let scope = Scope::Details {
                location: location.clone(),
                subscription: subscription.to_owned(),
                otherwise: otherwise.to_vec(),
                publisher: publisher.clone(),
                images,
            };
            items.push(WorkItem::new(plan.run, SourceName::Marketplace, scope));
        };
        for image in images {
            bytes += image.iter().map(|name| name.len() + 3).sum::<usize>();
            chunk.push(image);
            if chunk.len() == VERSIONS_PER_ITEM || bytes > DETAILS_BYTES {
                push(std::mem::take(&mut chunk));
                bytes = 0;
            }
        }
        if !chunk.is_empty() {
            push(chunk);
        }
    }
    items
}
