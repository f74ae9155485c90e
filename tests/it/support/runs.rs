//! Runs whose work items have all ended, written directly to a store.

use azimg::testing::format::shard;
use azimg::testing::image::Status;
use azimg::testing::image::marketplace::ListedVersion;
use azimg::testing::store::{Key, Store};
use azimg::testing::work::{
    Details, Outcome, Plan, Request, RunId, Scope, SourceName, State, WORK_VERSION, WorkItem,
};
use bytes::Bytes;
use serde::Serialize;
use time::{Duration, OffsetDateTime};

const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";

/// A version as returned by a listing.
pub fn listed(offer: &str, sku: &str, version: String) -> ListedVersion {
    ListedVersion {
        offer: offer.to_owned(),
        sku: sku.to_owned(),
        version,
        architecture: Some("x64".to_owned()),
        hyper_v_generation: Some("V2".to_owned()),
        status: Some(Status::Active),
        ..ListedVersion::default()
    }
}

async fn put(store: &dyn Store, key: &Key, value: &impl Serialize) {
    let bytes = Bytes::from(serde_json::to_vec(value).unwrap());
    assert!(store.create(key, bytes).await.unwrap());
}

/// Writes a run that started at `now` with `locations` locations and, in each, what `rows` returns
/// for each publisher. Returns the total number of rows.
pub async fn write_run(
    store: &dyn Store,
    (run, now, previous): (RunId, OffsetDateTime, Option<RunId>),
    locations: usize,
    publishers: &[String],
    rows: impl Fn(usize, usize) -> Vec<ListedVersion>,
) -> usize {
    let item = |scope| WorkItem::new(run, SourceName::Marketplace, scope);
    let (mut items, mut count) = (Vec::new(), 0);
    for number in 0..locations {
        let location = format!("location{number:02}");
        let top = item(Scope::Location {
            location: location.clone(),
            subscription: SUBSCRIPTION.to_owned(),
            after: None,
            only: Vec::new(),
            spread: Vec::new(),
            details: Details::None,
            offers_max_age: None,
            planned: 0,
        });
        let mut children = Vec::new();
        for (at, publisher) in publishers.iter().enumerate() {
            let scope = Scope::Publisher {
                location: location.clone(),
                subscription: SUBSCRIPTION.to_owned(),
                otherwise: Vec::new(),
                publisher: publisher.clone(),
                known: None,
                details: Details::None,
            };
            let child = item(scope.clone());
            let mut listed = rows(number, at);
            listed.sort_by(ListedVersion::compare);
            count += listed.len();
            let state = if listed.is_empty() { State::Empty } else { State::Done };
            let bare = Outcome::bare(scope, state, "", 0);
            let outcome = Outcome { rows: listed.len() as u64, listed: 1, ..bare };
            if !listed.is_empty() {
                let bytes = shard::encode(&outcome, &listed).unwrap();
                assert!(store.create(&Key::shard(&child), bytes.into()).await.unwrap());
            }
            put(store, &Key::outcome(&child, false), &outcome).await;
            children.push(child);
        }
        let bare = Outcome::bare(top.scope.clone(), State::Done, "", 0);
        put(store, &Key::outcome(&top, true), &Outcome { children, listed: 1, ..bare }).await;
        items.push(top);
    }
    let plan = Plan {
        schema_version: WORK_VERSION,
        run,
        started_at: now,
        deadline_at: now + Duration::days(1),
        previous,
        request: Request { details: Some(Details::None), ..Request::default() },
        items,
    };
    put(store, &Key::Plan(run), &plan).await;
    count
}
