//! A run's registry shards, brought together registry by registry.

use super::Report;
use super::files::Files;
use super::gather::{Grouped, Groups, Loaded, Part, Previous, Read, parts, read_part};
use crate::error::Result;
use crate::image::registry::{RegistryImage, Told};
use crate::pipeline::changes;
use crate::pipeline::merge::registry::{
    Answered, Group, MergedGroup, Subscriptions, merge_group, subscription_line,
};
use crate::pipeline::survey::Survey;
use crate::store::Store;
use crate::work::{Outcome, Plan, Scope, SourceName, State, WorkItem, registry_group};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Parts of a registry that are read ahead.
const PARTS_AHEAD: usize = 8;

impl Grouped for RegistryImage {
    const TABLE: SourceName = SourceName::Registry;

    fn group(&self) -> String {
        registry_group(&self.login_server)
    }

    fn is_of(&self, group: &str) -> bool {
        self.id.get(..group.len()).is_some_and(|head| head.eq_ignore_ascii_case(group))
    }
}

/// Merges the registries of a run into `files` and `report`; the items whose shards are damaged.
pub(super) async fn build(
    shared: &Arc<dyn Store>,
    plan: &Plan,
    survey: &Survey,
    files: &mut Files,
    report: &mut Report,
) -> Result<Vec<WorkItem>> {
    let store = shared.as_ref();
    let mut owners: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    let mut subscriptions = Subscriptions::new();
    let mut damaged = Vec::new();
    for part in parts(store, plan, survey, SourceName::Registry).await? {
        let Scope::Registry(scope) = &part.item.scope else { continue };
        if let Some(login_server) = scope.login_server() {
            owners.entry(registry_group(login_server)).or_default().push(part);
            continue;
        }
        let subscription = scope.subscription().to_ascii_lowercase();
        let Read { item, outcome, is_damaged, .. } =
            read_part::<RegistryImage, Told>(store, part).await?;
        subscriptions.extend(answered(&item, outcome).map(|answer| (subscription, answer)));
        if is_damaged {
            damaged.push(item);
        }
    }
    let run = (plan.run, plan.started_at);
    let mut previous: Previous<RegistryImage> = Previous::open(store, plan.previous).await?;
    let mut groups: Groups<Group> = Groups::new(owners, shared, load);
    let mut unlisted = BTreeMap::new();
    while let Some((group, rows)) = groups.next(&mut previous).await? {
        let group = Group { previous: rows, ..group.unwrap_or_default() };
        let merged = merge_group(group, &subscriptions, run);
        if let Some(previous_run) = plan.previous {
            for change in changes::between(&merged.previous, &merged.rows, run, previous_run) {
                files.changes.write(&change)?;
            }
        }
        super::join(&mut unlisted, &merged.unlisted);
        report.add_registry(&merged);
        for row in merged.rows {
            files.write_registry(row)?;
        }
    }
    for (subscription, answer) in &subscriptions {
        let standing = unlisted.get(subscription).copied().unwrap_or_default();
        let line = subscription_line(answer, standing);
        report.totals.add(line.state, 1);
        report.lines.push(line);
    }
    damaged.extend(groups.finish());
    Ok(damaged)
}

impl Report {
    fn add_registry(&mut self, merged: &MergedGroup) {
        let known = merged.rows.iter().filter(|row| row.is_content_known).count() as u64;
        self.contents.known += known;
        self.contents.unknown += merged.rows.len() as u64 - known;
        self.outside += merged.outside;
        self.lines.extend_from_slice(&merged.lines);
        self.totals.join(&merged.totals);
    }
}

fn answered(item: &WorkItem, outcome: Outcome) -> Option<Answered> {
    let Scope::Registry(scope) = &item.scope else { return None };
    let Outcome { state, reason, attempts, listed, gaps, .. } = outcome;
    // What its children found is their own.
    let listed = if state == State::Done { listed } else { 0 };
    Some(Answered { scope: scope.clone(), state, reason, attempts, listed, gaps })
}

async fn load(store: Arc<dyn Store>, key: String, parts: Vec<Part>) -> Result<Loaded<Group>> {
    let mut group = Group::default();
    let mut damaged = Vec::new();
    let mut read = stream::iter(parts)
        .map(|part| {
            let store = Arc::clone(&store);
            async move { read_part::<RegistryImage, Told>(store.as_ref(), part).await }
        })
        .buffered(PARTS_AHEAD)
        .boxed();
    while let Some(part) = read.try_next().await? {
        let Read { item, outcome, rows, details, is_damaged } = part;
        group.answers.extend(answered(&item, outcome));
        group.rows.extend(rows);
        group.told.extend(details);
        if is_damaged {
            damaged.push(item);
        }
    }
    Ok(Loaded { key, group, damaged })
}
