//! The base of a run: the snapshot that is current when the run is published, or the newest whole
//! one if that is damaged.

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::closing::PassedOver;
use crate::pipeline::newer::NewerRuns;
use crate::pipeline::snapshot::{self, Manifest};
use crate::pipeline::verify;
use crate::store::{SnapshotFile, Store};
use crate::work::{Plan, RunId, SourceName};
use std::sync::Arc;

/// The snapshot that a run is built on.
#[derive(Debug, Default)]
pub(super) struct BaseSnapshot {
    manifest: Option<Manifest>,
    /// The scopes that newer runs have answered.
    pub(super) newer: Arc<NewerRuns>,
}

impl BaseSnapshot {
    /// Creates a base from a snapshot, if there is one, for the run of `plan`.
    async fn of(store: &dyn Store, plan: &Plan, manifest: Option<Manifest>) -> Result<Self> {
        // Later runs need the coverage to determine what was answered.
        if let Some(manifest) = &manifest {
            snapshot::verified(store, manifest, SnapshotFile::Coverage).await?;
        }
        let newer = NewerRuns::read(store, plan, manifest.as_ref()).await?;
        Ok(Self { manifest, newer: Arc::new(newer) })
    }

    /// The snapshot's run.
    pub(super) fn run(&self) -> Option<RunId> {
        self.manifest.as_ref().map(|manifest| manifest.run)
    }

    /// Whether the snapshot has a table of `source`.
    pub(super) fn has(&self, source: SourceName) -> bool {
        let table = SnapshotFile::Ndjson(source);
        self.manifest.as_ref().is_some_and(|manifest| manifest.file(table).is_some())
    }
}

/// The snapshots that a run could be built on, best first.
pub(super) struct BaseCandidates {
    head: Option<RunId>,
    others: Option<Vec<Manifest>>,
    /// Candidates that were tried and are damaged.
    pub(super) passed_over: Vec<PassedOver>,
}

impl BaseCandidates {
    /// Starts with the current snapshot. `head` is `None` if nothing is published yet.
    pub(super) fn new(head: Option<RunId>) -> Self {
        Self { head, others: None, passed_over: Vec::new() }
    }

    /// The base that a closing names: the snapshot of `run`.
    pub(super) async fn named(
        store: &dyn Store,
        plan: &Plan,
        run: Option<RunId>,
    ) -> Result<BaseSnapshot> {
        let manifest = match run {
            Some(run) => Some(snapshot::manifest(store, run).await?.ok_or_else(|| gone(run))?),
            None => None,
        };
        BaseSnapshot::of(store, plan, manifest).await
    }

    /// Returns the next candidate. If no snapshot is whole, the base has none.
    pub(super) async fn next(&mut self, store: &dyn Store, plan: &Plan) -> Result<BaseSnapshot> {
        if let Some(head) = self.head.take() {
            match Self::named(store, plan, Some(head)).await {
                Ok(base) => return Ok(base),
                Err(error) if is_damage(&error) => self.pass_over(head, &error),
                Err(error) => return Err(error),
            }
        }
        if self.others.is_none() {
            let mut others = verify::readable_manifests(store).await?;
            others.retain(|one| one.run != plan.run);
            self.others = Some(others);
        }
        while let Some(manifest) = self.others.as_mut().and_then(Vec::pop) {
            if self.passed_over.iter().any(|passed| passed.run == manifest.run) {
                continue;
            }
            let run = manifest.run;
            match BaseSnapshot::of(store, plan, Some(manifest)).await {
                Ok(base) => return Ok(base),
                Err(error) if is_damage(&error) => self.pass_over(run, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(BaseSnapshot::default())
    }

    /// Records that a snapshot is damaged.
    pub(super) fn pass_over(&mut self, run: RunId, error: &Error) {
        tracing::error!(%error, %run, "a damaged snapshot is skipped; the newest intact one is the \
                                       base");
        self.passed_over.push(PassedOver { run, reason: error.to_string() });
    }
}

/// Whether an error means that a snapshot is damaged. A snapshot of another schema is not: it is
/// left alone.
pub(super) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt
}

fn gone(run: RunId) -> Error {
    Error::corrupt(format!("the manifest of run {run} is missing"))
}
