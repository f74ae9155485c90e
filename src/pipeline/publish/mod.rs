//! Closes a run and turns it into a snapshot: merges its shards with the current snapshot, writes
//! the files, and finally swaps the pointer to the current snapshot. Every step can be repeated
//! with the same result.

mod base;
mod details;
mod ended;
mod files;
mod gallery;
mod gather;
mod marketplace;
mod registry;
mod report;

pub use ended::CloseAttempt;

use super::closing::{Closed, GivenUp, PublishTurn};
use super::coverage::Coverage;
use super::snapshot::{self, Completeness, Manifest, SCHEMA_VERSION};
use super::survey::{Survey, survey, survey_closed};
use super::{closing, read_plan, to_json};
use crate::error::{Error, Result};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Details, Plan, RunId, SourceName, WorkItem};
use base::{BaseCandidates, BaseSnapshot};
use details::{WantedDetails, plan_details};
use files::SnapshotFiles;
use gather::DamagedItem;
use report::CoverageBuilder;
use std::sync::Arc;
use time::OffsetDateTime;

/// Age of another run's unfinished turn after which a run continues that run's publishing.
const HELP_AFTER: time::Duration = time::Duration::minutes(1);
/// Age after which a turn that nobody can finish is taken over. Its holder may still run, since the
/// host ends an invocation after 30 minutes: files are created once, and `current.json` is swapped
/// only by the publisher that read it last, so two publishers cannot mix.
const TAKE_OVER_AFTER: time::Duration = time::Duration::minutes(15);
/// Maximum number of attempts per call. An attempt fails if another run is published meanwhile.
const REBASES: u32 = 8;

/// Publishes `run` if it can be closed at `now`. With `force`, missing items are given up without
/// waiting for the deadline.
pub async fn publish(
    shared: &Arc<dyn Store>,
    run: RunId,
    now: OffsetDateTime,
    force: bool,
) -> Result<CloseAttempt> {
    for _ in 0..REBASES {
        if let Some(closing) = Box::pin(attempt(shared, run, now, force)).await? {
            return Ok(closing);
        }
    }
    Err(Error::transient(format!("publishing run {run}: other runs keep being published first")))
}

/// Makes one attempt. `None` if another run was published meanwhile.
async fn attempt(
    shared: &Arc<dyn Store>,
    run: RunId,
    now: OffsetDateTime,
    force: bool,
) -> Result<Option<CloseAttempt>> {
    let store = shared.as_ref();
    // The order of these reads matters. If the head moves after the turn was read, the turn was
    // another run's. If this run is being published elsewhere and its manifest does not exist yet,
    // its turn was taken after `seen` was read.
    let seen = closing::turn(store).await?;
    let head = snapshot::head(store).await?;
    if let Some(manifest) = snapshot::manifest(store, run).await? {
        return finish(store, manifest, now).await.map(Some);
    }
    let plan = read_plan(store, run).await?;
    let unfinished = seen.turn.as_ref().filter(|turn| head != Some(turn.run));
    if let Some(other) = unfinished.filter(|turn| turn.run != run)
        && let Some(busy) = help(shared, other, now).await?
    {
        return Ok(busy.waits());
    }
    let decided = match unfinished.filter(|turn| turn.run == run) {
        Some(turn) => closing::closed(store, run, turn.base).await?,
        None => None,
    };
    if let Some(closed) = decided
        && let Some(built) = rebuild(shared, &plan, &closed).await?
    {
        return Box::pin(store_built(store, &plan, built, &closed, now)).await.map(Some);
    }
    let give_up = force || now >= plan.deadline_at;
    let survey = survey(store, &plan).await?;
    let expected = survey.expected();
    if !survey.missing.is_empty() && !give_up {
        return Ok(Some(CloseAttempt::Open { missing: survey.missing, expected }));
    }
    let ask_details = plan.request.details.unwrap_or_default() != Details::None
        && !survey.details_planned
        && !give_up;
    // A run whose manifest was lost is published again. It must not be built on itself.
    let mut bases = BaseCandidates::new(head.filter(|head| *head != run));
    let (base, built) =
        build_on_intact_base(shared, (&plan, &survey), &mut bases, ask_details).await?;
    if !built.damaged.is_empty() && !give_up {
        return reopen(store, built.damaged, expected).await.map(Some);
    }
    if ask_details && !built.wanted.is_empty() {
        return plan_details(store, &plan, built.wanted).await.map(Some);
    }
    let turn = PublishTurn { run, head, base: base.run(), at: now };
    if !closing::take(store, &turn, &seen).await? {
        return Ok(None);
    }
    let mut mine = Closed::new(run, base.run(), now);
    mine.passed_over = bases.passed_over;
    mine.given_up = given_up(&survey, &built.damaged);
    let closed = closing::close(store, mine.clone()).await?;
    if closed.is_like(&mine) {
        return Box::pin(store_built(store, &plan, built, &closed, now)).await.map(Some);
    }
    // Another publisher of the run closed it differently. That closing counts.
    Ok(None)
}

/// The state of another run's turn.
enum OtherTurn {
    /// The other run is published.
    Published,
    /// The other run is being published.
    Busy(RunId),
}

impl OtherTurn {
    /// The result for the run that wanted the turn. `None` if it can try again immediately.
    fn waits(self) -> Option<CloseAttempt> {
        match self {
            Self::Published => None,
            Self::Busy(other) => Some(CloseAttempt::Busy { other }),
        }
    }
}

/// Continues the publishing of another run, if it appears to have stopped. `None` if nobody can
/// finish it, so that its turn must be taken over.
async fn help(
    shared: &Arc<dyn Store>,
    other: &PublishTurn,
    now: OffsetDateTime,
) -> Result<Option<OtherTurn>> {
    let run = other.run;
    // A turn in the future was taken with a wrong clock. Its age is measured as if it were in the
    // past.
    let age = (now - other.at).abs();
    // If the manifest exists, only the pointer to the current snapshot is missing.
    let is_built = matches!(snapshot::manifest(shared.as_ref(), run).await, Ok(Some(_)));
    if age < HELP_AFTER && !is_built {
        return Ok(Some(OtherTurn::Busy(run)));
    }
    tracing::info!(%run, "completing the publishing of another run");
    let over = age >= TAKE_OVER_AFTER;
    match Box::pin(publish(shared, run, now, false)).await {
        Ok(CloseAttempt::Published(_)) => Ok(Some(OtherTurn::Published)),
        Ok(_) if !over => Ok(Some(OtherTurn::Busy(run))),
        Err(error) if error.is_transient() && !over => Err(error),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::error!(%error, %run, "another run cannot be published; its turn is taken \
                                           over");
            Ok(None)
        }
    }
}

/// Builds the snapshot of a run that was closed before. `None` if that is no longer possible: what
/// was decided was not published.
async fn rebuild(
    shared: &Arc<dyn Store>,
    plan: &Plan,
    closed: &Closed,
) -> Result<Option<BuiltSnapshot>> {
    let survey = survey_closed(shared.as_ref(), plan, &closed.given_up).await?;
    let built = async {
        let base = BaseCandidates::named(shared.as_ref(), plan, closed.base).await?;
        build(shared, (plan, &survey), &base, false).await
    };
    match built.await {
        Err(error) if base::is_damage(&error) => {
            tracing::error!(%error, run = %plan.run, "the base snapshot is damaged");
            Ok(None)
        }
        built => built.map(Some),
    }
}

/// Builds the run on the best base that is whole.
async fn build_on_intact_base(
    shared: &Arc<dyn Store>,
    of: (&Plan, &Survey),
    bases: &mut BaseCandidates,
    ask_details: bool,
) -> Result<(BaseSnapshot, BuiltSnapshot)> {
    loop {
        let base = bases.next(shared.as_ref(), of.0).await?;
        match build(shared, of, &base, ask_details).await {
            Ok(built) => return Ok((base, built)),
            Err(error) if base::is_damage(&error) => match base.run() {
                Some(run) => bases.pass_over(run, &error),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

/// The items that do not count: those that have not ended, and those with unreadable shards.
fn given_up(survey: &Survey, damaged: &[DamagedItem]) -> Vec<GivenUp> {
    let missing = survey.missing.iter().map(|item| (item, None));
    let damaged = damaged.iter().map(|one| (&one.item, Some(one.damage.clone())));
    let mut given_up: Vec<GivenUp> = missing
        .chain(damaged)
        .map(|(item, damage)| GivenUp { source: item.source, item: item.item.clone(), damage })
        .collect();
    given_up.sort_unstable();
    given_up
}

/// Removes damaged shards and their outcomes, so that their items are processed again.
async fn reopen(
    store: &dyn Store,
    damaged: Vec<DamagedItem>,
    expected: usize,
) -> Result<CloseAttempt> {
    let damaged: Vec<WorkItem> = damaged.into_iter().map(|damaged| damaged.item).collect();
    for item in &damaged {
        tracing::warn!(item = %item.item, "a damaged shard was removed; its item is processed \
                                           again");
        for key in [Key::outcome(item, false), Key::outcome(item, true), Key::shard(item)] {
            store.delete(&key.to_string()).await?;
        }
    }
    Ok(CloseAttempt::Open { missing: damaged, expected })
}

/// Stores the snapshot of a closed run.
async fn store_built(
    store: &dyn Store,
    plan: &Plan,
    mut built: BuiltSnapshot,
    closed: &Closed,
    now: OffsetDateTime,
) -> Result<CloseAttempt> {
    built.coverage.passed_over.clone_from(&closed.passed_over);
    let manifest = write(store, plan, built, closed).await?;
    finish(store, manifest, now).await
}

async fn finish(
    store: &dyn Store,
    manifest: Manifest,
    now: OffsetDateTime,
) -> Result<CloseAttempt> {
    let run = manifest.run;
    store.create(&Key::Snapshot(run, SnapshotFile::Success), bytes::Bytes::new()).await?;
    snapshot::make_current(store, &manifest, now).await?;
    Ok(CloseAttempt::Published(Box::new(manifest)))
}

/// A snapshot that is built but not yet stored.
struct BuiltSnapshot {
    files: SnapshotFiles,
    coverage: Coverage,
    wanted: Vec<WantedDetails>,
    /// Items whose shards cannot be used.
    damaged: Vec<DamagedItem>,
}

/// The tables of the snapshot: those of the crawled sources and those of the base, whose rows are
/// kept.
fn tables(plan: &Plan, base: &BaseSnapshot) -> Vec<SourceName> {
    let crawled = |source| plan.items.iter().any(|item| item.source == source);
    let all = SourceName::ALL.iter().copied();
    all.filter(|source| crawled(*source) || base.has(*source)).collect()
}

async fn build(
    shared: &Arc<dyn Store>,
    of: (&Plan, &Survey),
    base: &BaseSnapshot,
    ask_details: bool,
) -> Result<BuiltSnapshot> {
    let mut files = SnapshotFiles::create(of.0, &tables(of.0, base))?;
    let mut report = CoverageBuilder::default();
    let mut into = (&mut files, &mut report);
    // The change feed is in the order of the tables.
    let built: Result<_> = async {
        let (wanted, mut damaged) =
            marketplace::build(shared, of, base, ask_details, &mut into).await?;
        damaged.extend(gallery::build(shared, of, base, &mut into).await?);
        damaged.extend(registry::build(shared, of, base, &mut into).await?);
        Ok((wanted, damaged))
    }
    .await;
    let (wanted, damaged) = built.map_err(|error| files.explain(error))?;
    Ok(BuiltSnapshot { files, coverage: report.coverage(of.0), wanted, damaged })
}

/// The outputs of a merge.
type Into<'a> = (&'a mut SnapshotFiles, &'a mut CoverageBuilder);

async fn write(
    store: &dyn Store,
    plan: &Plan,
    built: BuiltSnapshot,
    closed: &Closed,
) -> Result<Manifest> {
    let BuiltSnapshot { files, coverage, .. } = built;
    let complete = coverage.totals.is_complete();
    let stored = files.store(store, plan, &coverage).await?;
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run: plan.run,
        started_at: plan.started_at,
        published_at: closed.at,
        state: if complete { Completeness::Complete } else { Completeness::Partial },
        coverage: coverage.totals,
        previous_run: closed.base,
        files: stored,
    };
    let key = Key::Snapshot(plan.run, SnapshotFile::Manifest);
    if store.create(&key, to_json(&manifest)?.into()).await? {
        tracing::info!(run = %plan.run, complete, "published");
        return Ok(manifest);
    }
    // Another worker was first. Its files have the same bytes.
    snapshot::manifest(store, plan.run).await?.ok_or_else(|| {
        Error::transient(format!("the manifest of run {} was removed concurrently", plan.run))
    })
}
