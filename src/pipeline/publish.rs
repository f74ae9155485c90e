//! A closed run becomes a snapshot: shards merged, files written, and last of all the name of the
//! current snapshot swapped. Everything here can be done again and ends the same.

mod files;
mod galleries;
mod gather;
mod registries;

use super::coverage::{Coverage, DetailsCount, Line, Totals};
use super::merge::{Merged, Publisher, Standing, key, merge};
use super::snapshot::{self, Completeness, Manifest, SCHEMA_VERSION};
use super::survey::{Survey, survey};
use super::{changes, read_json, read_plan, to_json};
use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Details, Plan, RunId, Scope, SourceName, State, WorkItem};
use files::Files;
use gather::{Previous, Shards};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;

/// How an attempt to close a run ended.
#[derive(Debug)]
pub enum Closing {
    /// Its snapshot is there.
    Published(Box<Manifest>),
    /// Every listing is in; these items ask for details.
    Details(Vec<WorkItem>),
    /// These items have not ended, of so many that are expected.
    Open {
        /// The items.
        missing: Vec<WorkItem>,
        /// How many are expected.
        expected: usize,
    },
}

/// One item asks for the details of at most this many versions: some seconds of work, and well
/// under a queue message's 48 KiB.
const DETAILS_AT_ONCE: usize = 100;
/// Names can be long: the text of one item's versions stays below this many bytes.
const DETAILS_BYTES: usize = 24 << 10;

/// Publishes `run` if it can be closed at `now`. With `force`, what is missing is given up at once.
pub async fn publish(
    shared: &Arc<dyn Store>,
    run: RunId,
    now: OffsetDateTime,
    force: bool,
) -> Result<Closing> {
    let store = shared.as_ref();
    if let Some(manifest) = snapshot::manifest(store, run).await? {
        return finish(store, manifest, now).await;
    }
    let plan = read_plan(store, run).await?;
    let give_up = force || now >= plan.deadline_at;
    let survey = survey(store, &plan).await?;
    if !survey.missing.is_empty() && !give_up {
        let expected = survey.expected();
        return Ok(Closing::Open { missing: survey.missing, expected });
    }
    let ask_details = plan.request.details.unwrap_or_default() != Details::None
        && !survey.details_planned
        && !give_up;
    let expected = survey.expected();
    let built = build(shared, &plan, &survey, ask_details).await?;
    if !built.damaged.is_empty() && !give_up {
        return reopen(store, built.damaged, expected).await;
    }
    if ask_details && !built.wanted.is_empty() {
        let items = details_items(&plan, built.wanted);
        if store.create(&Key::DetailsPlan(run), to_json(&items)?.into()).await? {
            return Ok(Closing::Details(items));
        }
        let items: Option<Vec<WorkItem>> = read_json(store, &Key::DetailsPlan(run)).await?;
        return Ok(Closing::Details(items.unwrap_or_default()));
    }
    let manifest = write(store, &plan, built, now).await?;
    finish(store, manifest, now).await
}

/// Damaged shards are removed with their outcomes, so that their items are done again.
async fn reopen(store: &dyn Store, damaged: Vec<WorkItem>, expected: usize) -> Result<Closing> {
    for item in &damaged {
        tracing::warn!(item = %item.item, "a damaged shard was thrown away; its item is done again");
        for key in [Key::outcome(item, false), Key::outcome(item, true), Key::shard(item)] {
            store.delete(&key.to_string()).await?;
        }
    }
    Ok(Closing::Open { missing: damaged, expected })
}

async fn finish(store: &dyn Store, manifest: Manifest, now: OffsetDateTime) -> Result<Closing> {
    let run = manifest.run;
    store.create(&Key::Snapshot(run, SnapshotFile::Success), bytes::Bytes::new()).await?;
    snapshot::make_current(store, run, now).await?;
    Ok(Closing::Published(Box::new(manifest)))
}

/// A snapshot that is built but not yet stored.
struct Built {
    files: Files,
    coverage: Coverage,
    wanted: Vec<Wanted>,
    /// Items whose shards cannot be used.
    damaged: Vec<WorkItem>,
}

/// A version whose details are wanted, and where to ask.
struct Wanted {
    location: String,
    publisher: String,
    image: [String; 3],
}

/// The tables that a snapshot has: those of the sources that were crawled, and those of the snapshot
/// before, whose rows live on.
async fn tables(store: &dyn Store, plan: &Plan) -> Result<Vec<SourceName>> {
    let before = match plan.previous {
        Some(run) => snapshot::manifest(store, run).await?,
        None => None,
    };
    let had = |source: SourceName| {
        before.as_ref().is_some_and(|m| m.file(SnapshotFile::Ndjson(source)).is_some())
    };
    let crawled = |source| plan.items.iter().any(|item| item.source == source);
    let all = SourceName::ALL.iter().copied();
    Ok(all.filter(|source| crawled(*source) || had(*source)).collect())
}

async fn build(
    shared: &Arc<dyn Store>,
    plan: &Plan,
    survey: &Survey,
    ask_details: bool,
) -> Result<Built> {
    let store = shared.as_ref();
    let tables = tables(store, plan).await?;
    let mut files = Files::create(plan, &tables)?;
    let mut report = Report::default();
    // The change feed is in the order of the tables.
    let (wanted, mut damaged) =
        marketplace(shared, plan, survey, ask_details, (&mut files, &mut report)).await?;
    damaged.extend(galleries::build(shared, plan, survey, &mut files, &mut report).await?);
    damaged.extend(registries::build(shared, plan, survey, &mut files, &mut report).await?);
    Ok(Built { files, coverage: report.coverage(plan), wanted, damaged })
}

/// Merges the marketplace: the versions whose details are wanted, and the items whose shards are
/// damaged.
async fn marketplace(
    shared: &Arc<dyn Store>,
    plan: &Plan,
    survey: &Survey,
    ask_details: bool,
    (files, report): (&mut Files, &mut Report),
) -> Result<(Vec<Wanted>, Vec<WorkItem>)> {
    let store = shared.as_ref();
    let mut shards = Shards::list(store, plan, survey).await?;
    let mut previous: Previous<MarketplaceImage> = Previous::open(store, plan.previous).await?;
    let reach = shards.reach(store, plan).await?;
    let mut wanted = Vec::new();
    let run = (plan.run, plan.started_at);
    let mut groups = shards.publishers(shared);
    while let Some((publisher, previous)) = groups.next(&mut previous).await? {
        let mut publisher = publisher.unwrap_or_default();
        if publisher.name.is_empty() {
            let first = previous.first();
            publisher.name = first.map(|row| row.publisher.clone()).unwrap_or_default();
        }
        let merged = merge(Publisher { previous, ..publisher }, &reach, run);
        if let Some(previous_run) = plan.previous {
            for change in changes::between(&merged.previous, &merged.rows, run, previous_run) {
                files.changes.write(&change)?;
            }
        }
        if ask_details {
            let policy = plan.request.details.unwrap_or_default();
            let asked = |row: &MarketplaceImage| {
                merged.asked.contains(&key(&row.offer, &row.sku, &row.version))
            };
            let rows = merged.rows.iter().filter(|row| !asked(row));
            wanted.extend(rows.filter_map(|row| wants(row, policy, plan.run)));
        }
        report.add(&merged);
        for row in merged.rows {
            files.write(row)?;
        }
    }
    report.locations(&reach, &shards);
    Ok((wanted, groups.finish()))
}

fn wants(row: &MarketplaceImage, policy: Details, run: RunId) -> Option<Wanted> {
    let in_scope = match policy {
        Details::None => false,
        Details::Latest => row.is_latest,
        Details::All => true,
    };
    let fresh = row.observed_run == run.to_string();
    if !in_scope || !fresh || row.has_details() {
        return None;
    }
    Some(Wanted {
        location: row.locations.first()?.clone(),
        publisher: row.publisher.clone(),
        image: [row.offer.clone(), row.sku.clone(), row.version.clone()],
    })
}

fn details_items(plan: &Plan, wanted: Vec<Wanted>) -> Vec<WorkItem> {
    let marketplace = plan.items.iter().filter(|item| item.source == SourceName::Marketplace);
    let subscriptions: HashMap<&str, &str> =
        marketplace.map(|item| (item.scope.location(), item.scope.subscription())).collect();
    let mut groups: BTreeMap<(String, String), Vec<[String; 3]>> = BTreeMap::new();
    for Wanted { location, publisher, image } in wanted {
        groups.entry((location, publisher)).or_default().push(image);
    }
    let mut items = Vec::new();
    for ((location, publisher), images) in groups {
        let subscription = subscriptions.get(location.as_str()).copied().unwrap_or_default();
        let mut chunk = Vec::new();
        let mut bytes = 0;
        let mut push = |images: Vec<[String; 3]>| {
            let scope = Scope::Details {
                location: location.clone(),
                subscription: subscription.to_owned(),
                publisher: publisher.clone(),
                images,
            };
            items.push(WorkItem::new(plan.run, SourceName::Marketplace, scope));
        };
        for image in images {
            bytes += image.iter().map(|name| name.len() + 3).sum::<usize>();
            chunk.push(image);
            if chunk.len() == DETAILS_AT_ONCE || bytes > DETAILS_BYTES {
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

/// Coverage while it is being gathered.
#[derive(Default)]
struct Report {
    totals: Totals,
    details: DetailsCount,
    replication: DetailsCount,
    contents: DetailsCount,
    outside: u64,
    lines: Vec<Line>,
    unlisted: BTreeMap<String, Standing>,
}

impl Report {
    fn add(&mut self, merged: &Merged) {
        let known = merged.rows.iter().filter(|row| row.has_details()).count() as u64;
        self.details.known += known;
        self.details.unknown += merged.rows.len() as u64 - known;
        self.outside += merged.outside;
        self.lines.extend_from_slice(&merged.lines);
        join(&mut self.unlisted, &merged.unlisted);
        self.totals.join(&merged.totals);
    }

    /// A line for every location's list of publishers.
    fn locations(&mut self, reach: &BTreeMap<String, super::merge::Reach>, shards: &Shards) {
        for location in reach.keys() {
            let standing = self.unlisted.get(location).copied().unwrap_or_default();
            let (mut state, reason, attempts) = shards.location_end(location);
            if state == State::Failed && standing.rows > 0 {
                state = State::Carried;
            }
            self.totals.add(state, 1);
            self.lines.push(Line {
                location: location.clone(),
                state,
                reason,
                attempts,
                malformed: shards.malformed(location),
                rows: standing.rows,
                since: standing.since,
                ..Line::new(SourceName::Marketplace)
            });
        }
    }

    fn coverage(mut self, plan: &Plan) -> Coverage {
        self.lines.sort_by(Line::compare);
        Coverage {
            schema_version: SCHEMA_VERSION,
            run: plan.run.to_string(),
            totals: self.totals,
            details: self.details,
            replication: self.replication,
            contents: self.contents,
            outside: self.outside,
            scopes: self.lines,
        }
    }
}

/// Adds what stands in for lists that could not be had.
fn join(sums: &mut BTreeMap<String, Standing>, more: &BTreeMap<String, Standing>) {
    for (name, standing) in more {
        let sum = sums.entry(name.clone()).or_default();
        sum.rows += standing.rows;
        sum.since = sum.since.into_iter().chain(standing.since).min();
    }
}

async fn write(
    store: &dyn Store,
    plan: &Plan,
    built: Built,
    now: OffsetDateTime,
) -> Result<Manifest> {
    let Built { files, coverage, .. } = built;
    let complete = coverage.totals.is_complete();
    let stored = files.store(store, plan, &coverage).await?;
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run: plan.run,
        started_at: plan.started_at,
        published_at: now.replace_nanosecond(0).unwrap_or(now),
        state: if complete { Completeness::Complete } else { Completeness::Partial },
        coverage: coverage.totals,
        previous_run: plan.previous,
        files: stored,
    };
    let key = Key::Snapshot(plan.run, SnapshotFile::Manifest);
    if store.create(&key, to_json(&manifest)?.into()).await? {
        tracing::info!(run = %plan.run, complete, "published");
        return Ok(manifest);
    }
    // Another worker was first; its files have the same bytes.
    snapshot::manifest(store, plan.run)
        .await?
        .ok_or_else(|| Error::transient(format!("the manifest of run {} vanished", plan.run)))
}
