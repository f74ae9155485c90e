//! Applies a plan: exactly what it says, as far as the registry is unchanged since the plan.

use super::PurgePlan;
use super::graph::ManifestGraph;
use super::plan::{last_changed, plan_again};
use super::planned::{Deletion, RepositoryPlan, Untagging};
use super::replan::Replan;
use super::state::{ListedRows, ManifestState, RepositoryState, RepositoryVersion, TagState};
use super::target::{ManifestCheck, PurgeTarget};
use super::undo::ManifestBackup;
use super::uses::ImageUsage;
use crate::error::{Error, Result};
use crate::format::ledger::{Ledger, PartState};
use crate::registry::Name;
use futures::future::join_all;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use time::OffsetDateTime;

/// The most manifests that are deleted concurrently, between two checks of the whole repository.
const CONCURRENCY: usize = 8;
/// The most consecutive rounds without progress, because the repository is changed continuously.
const IDLE_ROUNDS: u32 = 10;
const CHANGED: &str = "pushed, tagged or untagged since the plan";

/// An item of a plan that was skipped, since it may no longer be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// `repository@digest`, or `repository:tag`.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// An item of a plan that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// `repository@digest`, `repository:tag`, or a whole repository.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// The result of applying a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The number of manifests that were deleted now.
    pub deleted: usize,
    /// The number of tags that were deleted now, without their manifests.
    pub untagged: usize,
    /// The bytes that were freed: those of blobs that nothing which stays refers to, as far as that
    /// is known.
    pub bytes_freed: u64,
    /// The number of items that were already deleted.
    pub before: usize,
    /// The items that were skipped, since they may no longer be deleted.
    pub skipped: Vec<Skipped>,
    /// The items that failed.
    pub failed: Vec<Failed>,
}

/// Reports the progress: the repository, and the number of deletions so far.
pub type Progress<'a> = &'a (dyn Fn(&str, usize) + Send + Sync);

/// Applies the rest of a plan. A repository that fails does not stop the others.
pub async fn apply(
    registry: &dyn PurgeTarget,
    plan: &PurgePlan,
    uses: &ImageUsage,
    ledger: &mut Ledger,
    mut export: Option<&mut ManifestBackup>,
    progress: Progress<'_>,
) -> Result<Applied> {
    let mut applied = Applied::default();
    for planned in &plan.repositories {
        let mut one = RepositoryPurge {
            registry,
            plan,
            uses,
            planned,
            ledger: &mut *ledger,
            export: export.as_deref_mut(),
            applied: &mut applied,
            progress,
        };
        match one.apply().await {
            Ok(()) => {}
            Err(error) => applied
                .failed
                .push(Failed { name: planned.repository.clone(), reason: error.to_string() }),
        }
    }
    Ok(applied)
}

/// Applies the plan of one repository.
struct RepositoryPurge<'a> {
    registry: &'a dyn PurgeTarget,
    plan: &'a PurgePlan,
    uses: &'a ImageUsage,
    planned: &'a RepositoryPlan,
    ledger: &'a mut Ledger,
    export: Option<&'a mut ManifestBackup>,
    applied: &'a mut Applied,
    progress: Progress<'a>,
}

/// What may be deleted from a repository in its current state.
struct Allowed {
    state: RepositoryState,
    deletions: Vec<Deletion>,
    untaggings: Vec<Untagging>,
    protected: BTreeMap<String, String>,
}

impl RepositoryPurge<'_> {
    fn id(&self, digest: &str) -> String {
        format!("{}@{digest}", self.planned.repository)
    }

    fn is_done(&self, id: &str) -> bool {
        self.ledger.state(id) == Some(PartState::Done)
    }

    async fn apply(&mut self) -> Result<()> {
        let wanted = self.planned.deletions.iter().map(|d| self.id(&d.digest));
        let tags = self.planned.untaggings.iter().map(|u| self.tag_id(&u.tag));
        let ids: Vec<String> = wanted.chain(tags).collect();
        let done = ids.iter().filter(|id| self.is_done(id)).count();
        self.applied.before += done;
        if done == ids.len() {
            return Ok(());
        }
        let mut given_up: BTreeSet<String> = BTreeSet::new();
        // Every round but the last few deletes something, or finds something changed.
        let (mut idle, mut before) = (0, (0, 0));
        while idle < IDLE_ROUNDS {
            let Some(allowed) = self.allowed(&given_up).await? else { return Ok(()) };
            if self.delete_all(&allowed, &mut given_up).await? {
                return self.untag_all(&allowed).await;
            }
            let now = (self.applied.deleted, given_up.len());
            idle = if now == before { idle + 1 } else { 0 };
            before = now;
        }
        Err(Error::transient(
            "the repository keeps changing: apply the plan again when no pushes are in progress",
        ))
    }

    fn tag_id(&self, tag: &str) -> String {
        format!("{}:{tag}", self.planned.repository)
    }

    /// The part of the plan that is allowed in the current state of the repository; `None` if it no
    /// longer exists. A manifest that is not allowed is skipped permanently.
    async fn allowed(&mut self, given_up: &BTreeSet<String>) -> Result<Option<Allowed>> {
        let Some(state) = self.registry.state(&self.planned.repository).await? else {
            let ids: Vec<String> =
                self.planned.deletions.iter().map(|d| self.id(&d.digest)).collect();
            let left: Vec<&str> =
                ids.iter().filter(|id| !self.is_done(id)).map(String::as_str).collect();
            self.applied.before += left.len();
            self.ledger.write_all(
                left.into_iter().map(|id| (id, "the repository no longer exists")),
                PartState::Done,
            )?;
            return Ok(None);
        };
        let in_use = self.uses.of(&state);
        let planned: HashMap<&str, &Deletion> =
            self.planned.deletions.iter().map(|d| (d.digest.as_str(), d)).collect();
        let graph = ManifestGraph::new(&state);
        // Whatever is not to be deleted stays, and protects what it needs.
        let hold = |manifest: &ManifestState| -> Option<String> {
            let digest = manifest.digest.as_str();
            let own = graph.tags(digest).iter().copied();
            match planned.get(digest) {
                None => Some("not in the plan".to_owned()),
                Some(deletion) if !is_unchanged(deletion, manifest.updated, own) => {
                    Some(CHANGED.to_owned())
                }
                Some(_) if given_up.contains(digest) => Some(CHANGED.to_owned()),
                Some(_) => None,
            }
        };
        let (rules, at) = (&self.plan.rules, self.plan.made_at);
        let was_planned = |digest: &str| planned.contains_key(digest);
        let deleted_images = self.deleted_images(&state);
        let left_over = self.counted_with(&deleted_images);
        let is_left_over = |digest: &str, indexes: &[&str]| {
            let is_counted =
                |image: &&str| !deleted_images.contains(image) && !left_over.contains(image);
            left_over.contains(digest) && !indexes.iter().any(is_counted)
        };
        let again = Replan { hold: &hold, was_planned: &was_planned, is_left_over: &is_left_over };
        let bound = plan_again(&state, rules, &in_use, at, &again);
        // The rules decide about tags in the current state. A part of a deleted index still does
        // not count as an image.
        let free = Replan { is_left_over: &is_left_over, ..Replan::NOTHING };
        let free = plan_again(&state, rules, &in_use, at, &free);
        let protected = bound.protected.into_iter().map(|p| (p.digest, p.protected_by)).collect();
        let (deletions, untaggings) = (bound.deletions, free.untaggings);
        Ok(Some(Allowed { state, deletions, untaggings, protected }))
    }

    /// The images that this purge, or the interrupted one it continues, deleted, or all of whose
    /// planned tags it deleted. The interrupted one may have ended before it recorded a deletion.
    fn deleted_images(&self, state: &RepositoryState) -> HashSet<&str> {
        let was_begun =
            |id: &str| matches!(self.ledger.state(id), Some(PartState::Begun | PartState::Done));
        let present: HashSet<&str> = state.manifests.iter().map(|m| m.digest.as_str()).collect();
        let tags: HashMap<&str, &str> =
            state.tags.iter().map(|t| (t.name.as_str(), t.digest.as_str())).collect();
        let mut all_tags_deleted: HashMap<&str, bool> = HashMap::new();
        for untagging in &self.planned.untaggings {
            let digest = untagging.digest.as_str();
            let has_it = tags.get(untagging.tag.as_str()) == Some(&digest);
            let is_taken = !has_it && was_begun(&self.tag_id(&untagging.tag));
            *all_tags_deleted.entry(digest).or_insert(true) &= is_taken;
        }
        let deleted = self.planned.deletions.iter().map(|d| d.digest.as_str());
        let deleted =
            deleted.filter(|digest| !present.contains(digest) && was_begun(&self.id(digest)));
        deleted
            .chain(all_tags_deleted.into_iter().filter(|(_, all)| *all).map(|(digest, _)| digest))
            .collect()
    }

    /// The manifests that the plan counted with one of these images, and that are not images of
    /// their own.
    fn counted_with(&self, gone: &HashSet<&str>) -> HashSet<&str> {
        let images = self.planned.deletions.iter().map(|d| (&d.digest, &d.image));
        let images = images.chain(self.planned.untaggings.iter().map(|u| (&u.digest, &u.image)));
        let is_gone = |image: &Option<String>| image.as_deref().is_some_and(|i| gone.contains(i));
        let parts = images.filter(|(_, image)| is_gone(image)).map(|(digest, _)| digest);
        let deleted = self.planned.deletions.iter().filter(|d| gone.contains(d.digest.as_str()));
        parts.chain(deleted.flat_map(|d| &d.indexes)).map(String::as_str).collect()
    }

    /// Deletes what is allowed. Returns whether the rest of the plan was processed; if something
    /// was changed in the meantime, it has to be planned again.
    async fn delete_all(
        &mut self,
        allowed: &Allowed,
        given_up: &mut BTreeSet<String>,
    ) -> Result<bool> {
        let present: BTreeSet<&str> =
            allowed.state.manifests.iter().map(|m| m.digest.as_str()).collect();
        let allowed_digests: BTreeSet<&str> =
            allowed.deletions.iter().map(|deletion| deletion.digest.as_str()).collect();
        let mut gone = Vec::new();
        for deletion in &self.planned.deletions {
            let (digest, id) = (deletion.digest.as_str(), self.id(&deletion.digest));
            if self.is_done(&id) || given_up.contains(digest) {
                continue;
            }
            if !present.contains(digest) {
                gone.push(id);
            } else if !allowed_digests.contains(digest) {
                let why = allowed.protected.get(digest).map_or(CHANGED, String::as_str);
                self.skip(&deletion.digest, why, given_up)?;
            }
        }
        self.applied.before += gone.len();
        self.ledger
            .write_all(gone.iter().map(|id| (id.as_str(), "found deleted")), PartState::Done)?;
        let left = allowed.deletions.iter().filter(|d| !self.is_done(&self.id(&d.digest)));
        let left: Vec<&Deletion> = left.collect();
        let mut expected = ExpectedState::of(&allowed.state);
        for batch in batches(&left, &allowed.state) {
            if !self.delete_batch(batch, &mut expected, given_up).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes a batch, if nobody changed the repository since it was listed, nor while the
    /// manifests of the batch were checked. Returns whether it did.
    async fn delete_batch(
        &mut self,
        batch: &[&Deletion],
        expected: &mut ExpectedState,
        given_up: &mut BTreeSet<String>,
    ) -> Result<bool> {
        let repository = self.planned.repository.clone();
        let version = self.registry.version(&repository).await?;
        if !expected.is_as_expected(self.registry, &repository, version.as_ref()).await? {
            return Ok(false);
        }
        let checks =
            join_all(batch.iter().map(|d| self.registry.look(&repository, &d.digest))).await;
        let mut changed = false;
        for (deletion, look) in batch.iter().zip(checks) {
            match look? {
                Some(look) if may_delete(deletion, &look) => {}
                Some(_) => {
                    self.skip(&deletion.digest, CHANGED, given_up)?;
                    changed = true;
                }
                // Someone else deleted it.
                None => changed = true,
            }
        }
        if let Some(export) = self.export.as_deref_mut().filter(|_| !changed) {
            for deletion in batch {
                export.keep(self.registry, &repository, &deletion.digest, &deletion.tags).await?;
            }
        }
        if changed {
            return Ok(false);
        }
        let after = self.registry.version(&repository).await?;
        if after != version && !expected.is_as_listed(self.registry, &repository).await? {
            return Ok(false);
        }
        self.delete(batch, expected).await?;
        (self.progress)(&repository, self.applied.deleted);
        Ok(true)
    }

    async fn delete(&mut self, batch: &[&Deletion], expected: &mut ExpectedState) -> Result<()> {
        let ids: Vec<String> = batch.iter().map(|d| self.id(&d.digest)).collect();
        self.ledger.write_all(ids.iter().map(|id| (id.as_str(), "")), PartState::Begun)?;
        let (repository, registry) = (self.planned.repository.as_str(), self.registry);
        let deletions = batch.iter().map(|deletion| async move {
            let name = Name::Digest(deletion.digest.clone());
            registry.delete(repository, &name).await
        });
        let ends = join_all(deletions).await;
        expected.version = None;
        let (mut first, mut done) = (None, Vec::new());
        for ((deletion, id), end) in batch.iter().zip(&ids).zip(ends) {
            match end {
                Ok(()) => {
                    done.push((id.as_str(), ""));
                    self.applied.deleted += 1;
                    self.applied.bytes_freed += deletion.frees;
                    expected.rows.remove(&deletion.digest);
                }
                Err(error) => {
                    self.ledger.write(id, PartState::Failed, &error.to_string())?;
                    first.get_or_insert(error);
                }
            }
        }
        self.ledger.write_all(done.into_iter(), PartState::Done)?;
        // What follows may be a part of what could not be deleted.
        first.map_or(Ok(()), Err)
    }

    fn skip(&mut self, digest: &str, reason: &str, given_up: &mut BTreeSet<String>) -> Result<()> {
        if given_up.insert(digest.to_owned()) {
            let name = self.id(digest);
            self.ledger.write(&name, PartState::Failed, reason)?;
            self.applied.skipped.push(Skipped { name, reason: reason.to_owned() });
        }
        Ok(())
    }

    /// Deletes the tags whose manifests stay.
    async fn untag_all(&mut self, allowed: &Allowed) -> Result<()> {
        let repository = self.planned.repository.clone();
        for untagging in &self.planned.untaggings {
            let id = self.tag_id(&untagging.tag);
            if self.is_done(&id) {
                continue;
            }
            let same =
                |other: &&Untagging| other.tag == untagging.tag && other.digest == untagging.digest;
            let look = self.registry.read_tag(&repository, &untagging.tag).await?;
            let Some(look) = look else {
                self.ledger.write(&id, PartState::Done, "found deleted")?;
                self.applied.before += 1;
                continue;
            };
            let is_allowed = allowed.untaggings.iter().any(|other| same(&other));
            let is_unchanged =
                look.digest == untagging.digest && look.updated == untagging.changed_at;
            if !is_allowed || look.is_locked || look.unread.is_some() || !is_unchanged {
                let reason = CHANGED.to_owned();
                self.ledger.write(&id, PartState::Failed, &reason)?;
                self.applied.skipped.push(Skipped { name: id, reason });
                continue;
            }
            self.ledger.write(&id, PartState::Begun, "")?;
            self.registry.delete(&repository, &Name::Tag(untagging.tag.clone())).await?;
            self.ledger.write(&id, PartState::Done, "")?;
            self.applied.untagged += 1;
        }
        Ok(())
    }
}

/// The expected state of a repository, to detect changes by others.
struct ExpectedState {
    /// The expected rows of its lists.
    rows: ListedRows,
    /// The version when it was listed; `None` after the first deletion.
    version: Option<RepositoryVersion>,
}

impl ExpectedState {
    fn of(state: &RepositoryState) -> Self {
        Self { rows: ListedRows::of(state), version: Some(state.version.clone()) }
    }

    /// Whether a repository is in the expected state. Counts may lag or be wrong, and the time of
    /// the last change may be that of our own deletion. So the lists decide, unless the version is
    /// the one when it was listed.
    async fn is_as_expected(
        &self,
        live: &dyn PurgeTarget,
        repository: &str,
        now: Option<&RepositoryVersion>,
    ) -> Result<bool> {
        let is_untouched = now.is_some() && now == self.version.as_ref();
        Ok(is_untouched || self.is_as_listed(live, repository).await?)
    }

    async fn is_as_listed(&self, live: &dyn PurgeTarget, repository: &str) -> Result<bool> {
        Ok(live.rows(repository).await?.as_ref() == Some(&self.rows))
    }
}

/// Whether a manifest is as the plan saw it: with the same tags, and unchanged.
fn is_unchanged<'a>(
    deletion: &Deletion,
    updated: Option<OffsetDateTime>,
    tags: impl Iterator<Item = &'a TagState> + Clone,
) -> bool {
    let planned: BTreeSet<&str> = deletion.tags.iter().map(String::as_str).collect();
    let now: BTreeSet<&str> = tags.clone().map(|tag| tag.name.as_str()).collect();
    planned == now && deletion.changed_at == last_changed(updated, tags)
}

/// Like [`is_unchanged`], immediately before the deletion: also checks that nothing of it is locked
/// or unreadable.
fn may_delete(deletion: &Deletion, look: &ManifestCheck) -> bool {
    let is_locked = look.is_locked || look.tags.iter().any(|tag| tag.is_locked);
    let is_unread = look.unread.is_some() || look.tags.iter().any(|tag| tag.unread.is_some());
    !is_locked && !is_unread && is_unchanged(deletion, look.updated, look.tags.iter())
}

/// Splits deletions into batches. No batch contains a manifest together with one that must be
/// deleted before it.
fn batches<'a, 'b>(
    deletions: &'b [&'a Deletion],
    state: &RepositoryState,
) -> Vec<&'b [&'a Deletion]> {
    let predecessors = ManifestGraph::new(state).predecessors().into_iter();
    let predecessors: HashMap<String, BTreeSet<String>> = predecessors
        .map(|(digest, earlier)| {
            (digest.to_owned(), earlier.into_iter().map(str::to_owned).collect())
        })
        .collect();
    let mut batches = Vec::new();
    let mut from = 0;
    for (at, deletion) in deletions.iter().enumerate() {
        let batch = &deletions[from..at];
        let earlier = predecessors.get(&deletion.digest);
        let waits =
            batch.iter().any(|d| earlier.is_some_and(|earlier| earlier.contains(&d.digest)));
        if waits || batch.len() == CONCURRENCY {
            batches.push(batch);
            from = at;
        }
    }
    batches.push(&deletions[from..]);
    batches.retain(|batch| !batch.is_empty());
    batches
}
