//! Collects a run's gallery shards, group by group.

use super::base::BaseSnapshot;
use super::gather::{
    DamagedItem, Grouped, Groups, ItemRead, LoadedGroup, PARTS_AHEAD, PreviousRows, RunItem, parts,
    read_part,
};
use super::report::CoverageBuilder;
use crate::blocking::in_place;
use crate::error::Result;
use crate::image::gallery::{GalleryImage, Kind, Replicated};
use crate::pipeline::merge::gallery::{
    GroupInput, GroupResult, GroupScope, MergedGroup, merge_group,
};
use crate::pipeline::newer::NewerRuns;
use crate::pipeline::survey::Survey;
use crate::store::Store;
use crate::work::{GalleryScope, Plan, Scope, SourceName, WorkItem, group_of};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Grouped for GalleryImage {
    const TABLE: SourceName = SourceName::Gallery;

    fn group(&self) -> String {
        group_of(&self.id)
    }

    fn is_of(&self, group: &str) -> bool {
        self.id.get(..group.len()).is_some_and(|head| head.eq_ignore_ascii_case(group))
    }
}

/// Merges the galleries of a run into `files` and `report`. Returns the items with damaged shards.
pub(super) async fn build(
    shared: &Arc<dyn Store>,
    (plan, survey): (&Plan, &Survey),
    base: &BaseSnapshot,
    (files, report): &mut super::Into<'_>,
) -> Result<Vec<DamagedItem>> {
    let store = shared.as_ref();
    let mut owners: BTreeMap<String, Vec<RunItem>> = BTreeMap::new();
    for part in parts(store, plan, survey, SourceName::Gallery).await? {
        if let Scope::Gallery(scope) = &part.item.scope {
            owners.entry(scope.group()).or_default().push(part);
        }
    }
    let run = (plan.run, plan.started_at);
    let mut previous: PreviousRows<GalleryImage> = PreviousRows::open(store, base.run()).await?;
    let mut groups: Groups<GroupInput> = Groups::new(owners, (shared, &base.newer), load);
    while let Some((group, rows)) = groups.next(&mut previous).await? {
        let newer = Arc::clone(&base.newer);
        let group = GroupInput { previous: rows, newer, ..group.unwrap_or_default() };
        in_place(|| {
            let merged = merge_group(group, run);
            files.changed((&merged.previous, &merged.rows), run, base.run())?;
            report.add_group(&merged);
            merged.rows.iter().try_for_each(|row| files.write_gallery(row))
        })?;
    }
    Ok(groups.finish())
}

impl CoverageBuilder {
    fn add_group(&mut self, merged: &MergedGroup) {
        let versions = merged.rows.iter().filter(|row| row.kind == Kind::GalleryVersion);
        for row in versions.filter(|row| row.subscription_id.is_some()) {
            if row.replication_state.is_some() {
                self.replication.known += 1;
            } else {
                self.replication.unknown += 1;
            }
        }
        self.outside += merged.outside;
        self.lines.extend_from_slice(&merged.lines);
        self.totals.join(&merged.totals);
    }
}

async fn load(
    (store, _): (Arc<dyn Store>, Arc<NewerRuns>),
    key: String,
    parts: Vec<RunItem>,
) -> Result<LoadedGroup<GroupInput>> {
    let mut group = GroupInput::default();
    let mut damaged = Vec::new();
    let mut read = stream::iter(parts)
        .map(|part| {
            let store = Arc::clone(&store);
            async move { read_part::<GalleryImage, Replicated>(store.as_ref(), part).await }
        })
        .buffered(PARTS_AHEAD)
        .boxed();
    while let Some(part) = read.try_next().await? {
        let ItemRead { item, outcome, rows, details, damage } = part;
        let Scope::Gallery(scope) = &item.scope else { continue };
        let is_split = outcome.children.iter().any(|child| is_part_of(scope, child));
        group.results.push(GroupResult {
            scope: GroupScope { of: scope.clone(), is_split },
            state: outcome.state,
            reason: outcome.reason,
            attempts: outcome.attempts,
            listed: outcome.listed,
            gaps: outcome.gaps,
            malformed: outcome.malformed,
            rows: rows.len() as u64,
        });
        group.rows.extend(rows);
        group.replicated.extend(details);
        damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
    }
    Ok(LoadedGroup { key, group, damaged })
}

/// Whether `child` covers a part of the gallery in `scope`.
fn is_part_of(scope: &GalleryScope, child: &WorkItem) -> bool {
    matches!(
        (scope, &child.scope),
        (GalleryScope::Gallery { .. }, Scope::Gallery(GalleryScope::Gallery { .. }))
    )
}
