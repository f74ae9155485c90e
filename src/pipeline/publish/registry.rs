//! Collects a run's registry shards, repository by repository, in the table's order. Shards are
//! read a few ahead, and dropped once their repositories have been merged.

use super::base::BaseSnapshot;
use super::gather::{DamagedItem, Grouped, ItemRead, PreviousRows, RunItem, parts, read_part};
use super::report::CoverageBuilder;
use crate::blocking::in_place;
use crate::error::Result;
use crate::image::registry::{ManifestContent, ManifestDetail, ManifestTags, RegistryImage};
use crate::pipeline::merge::CarriedRows;
use crate::pipeline::merge::registry::{
    RegistryMerge, RegistryResult, RepositoryInput, SubscriptionResults, subscription_lines,
};
use crate::pipeline::survey::Survey;
use crate::store::Store;
use crate::work::{
    Outcome, Plan, RegistryScope, RunId, Scope, SourceName, State, WorkItem, registry_group,
};
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// Number of shards that are read concurrently.
const AHEAD: usize = 8;

/// The common prefix of the ids of a repository's rows, in lower case.
fn key(login_server: &str, repository: &str) -> String {
    format!("{}{repository}@", registry_group(login_server))
}

/// The key of the repository that a manifest's id belongs to.
fn repository_of(id: &str) -> String {
    let end = id.find('@').map_or(id.len(), |at| at + 1);
    id[..end].to_ascii_lowercase()
}

/// The registry of a key.
fn registry_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(registry, _)| registry)
}

impl Grouped for RegistryImage {
    const TABLE: SourceName = SourceName::Registry;

    fn group(&self) -> String {
        key(&self.login_server, &self.repository)
    }

    fn is_of(&self, group: &str) -> bool {
        self.id.get(..group.len()).is_some_and(|head| head.eq_ignore_ascii_case(group))
    }
}

/// The registry items of a run.
#[derive(Default)]
struct RegistryItems {
    /// Items of repositories. Each is taken when it is read.
    parts: Vec<Option<RunItem>>,
    /// How the items ended, once they are read.
    results: Vec<Option<RegistryResult>>,
    /// The items about each repository, by its key.
    of: BTreeMap<String, Vec<usize>>,
    /// The items in the order in which they are needed, last one first.
    order: Vec<usize>,
    /// The items of each registry itself: its list of repositories, and its findings.
    registries: BTreeMap<String, Vec<RunItem>>,
    subscriptions: Vec<RunItem>,
    /// What was read, by repository.
    rows: BTreeMap<String, Vec<RegistryImage>>,
    contents: BTreeMap<String, Vec<ManifestContent>>,
    tags: BTreeMap<String, Vec<ManifestTags>>,
    damaged: Vec<DamagedItem>,
}

impl RegistryItems {
    /// Reads how the lists of registries ended. Items with damaged shards are recorded in
    /// `damaged`.
    async fn read_subscriptions(&mut self, store: &dyn Store) -> Result<SubscriptionResults> {
        let mut subscriptions = SubscriptionResults::new();
        for part in std::mem::take(&mut self.subscriptions) {
            let ItemRead { item, outcome, damage, .. } =
                read_part::<RegistryImage, ManifestDetail>(store, part).await?;
            let subscription = item.scope.subscription().to_ascii_lowercase();
            subscriptions.extend(answered(&item, outcome).map(|result| (subscription, result)));
            self.damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
        }
        Ok(subscriptions)
    }

    fn new(all: Vec<RunItem>) -> Self {
        let mut items = Self::default();
        let mut firsts: Vec<(String, usize)> = Vec::new();
        for part in all {
            let Scope::Registry(scope) = &part.item.scope else { continue };
            let keys: BTreeSet<String> = match scope {
                RegistryScope::Registries { .. } => {
                    items.subscriptions.push(part);
                    continue;
                }
                RegistryScope::Registry { .. } | RegistryScope::Findings { .. } => {
                    let server = scope.login_server().unwrap_or_default().to_ascii_lowercase();
                    items.registries.entry(server).or_default().push(part);
                    continue;
                }
                RegistryScope::Repositories { login_server, repositories, .. } => {
                    repositories.iter().map(|name| key(login_server, name)).collect()
                }
                RegistryScope::Tags { login_server, repository } => {
                    BTreeSet::from([key(login_server, repository)])
                }
                RegistryScope::Contents { login_server, manifests } => {
                    manifests.iter().map(|[name, _]| key(login_server, name)).collect()
                }
            };
            let number = items.parts.len();
            firsts.extend(keys.first().map(|first| (first.clone(), number)));
            for key in keys {
                items.of.entry(key).or_default().push(number);
            }
            items.parts.push(Some(part));
            items.results.push(None);
        }
        // The next item is at the end.
        firsts.sort_unstable_by(|a, b| b.cmp(a));
        items.order = firsts.into_iter().map(|(_, number)| number).collect();
        items
    }

    /// Reads the items in `needed`, and some of those that follow.
    async fn read(&mut self, store: &dyn Store, needed: &[usize]) -> Result<()> {
        while needed.iter().any(|number| self.results[*number].is_none()) {
            let from = self.order.len().saturating_sub(AHEAD);
            let numbers = self.order.split_off(from);
            let parts = numbers.iter().rev().filter_map(|number| self.parts[*number].take());
            let read = parts.map(|part| read_part::<RegistryImage, ManifestDetail>(store, part));
            let read = try_join_all(read).await?;
            if read.is_empty() {
                break;
            }
            for (number, read) in numbers.into_iter().rev().zip(read) {
                self.keep(number, read);
            }
        }
        Ok(())
    }

    fn keep(&mut self, number: usize, read: ItemRead<RegistryImage, ManifestDetail>) {
        let ItemRead { item, outcome, rows, details, damage } = read;
        for row in rows {
            self.rows.entry(row.group()).or_default().push(row);
        }
        for detail in details {
            match detail {
                ManifestDetail::Content(content) => {
                    self.contents.entry(repository_of(&content.id)).or_default().push(*content);
                }
                ManifestDetail::Tags(tagged) => {
                    self.tags.entry(repository_of(&tagged.id)).or_default().push(tagged);
                }
                ManifestDetail::Scan(_) => {}
            }
        }
        self.results[number] = answered(&item, outcome);
        self.damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
    }

    /// Reads the items of a registry itself.
    async fn registry(
        &mut self,
        store: &dyn Store,
        server: &str,
        (run, base): ((RunId, OffsetDateTime), &BaseSnapshot),
    ) -> Result<RegistryMerge> {
        let (mut registry, mut findings) = (None, None);
        for part in self.registries.remove(server).unwrap_or_default() {
            let ItemRead { item, outcome, details, damage, .. } =
                read_part::<RegistryImage, ManifestDetail>(store, part).await?;
            let is_findings = item.scope.adds_details();
            let result = answered(&item, outcome);
            if is_findings {
                findings = result.map(|result| (result, details));
            } else {
                registry = result;
            }
            self.damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
        }
        Ok(RegistryMerge::new(run, Arc::clone(&base.newer), registry, findings))
    }
}

/// Merges the registries of a run into `files` and `report`. Returns the items with damaged shards.
pub(super) async fn build(
    shared: &Arc<dyn Store>,
    (plan, survey): (&Plan, &Survey),
    base: &BaseSnapshot,
    (files, report): &mut super::Into<'_>,
) -> Result<Vec<DamagedItem>> {
    let store = shared.as_ref();
    let mut items = RegistryItems::new(parts(store, plan, survey, SourceName::Registry).await?);
    let subscriptions = items.read_subscriptions(store).await?;
    let run = (plan.run, plan.started_at);
    let mut previous: PreviousRows<RegistryImage> = PreviousRows::open(store, base.run()).await?;
    let mut unlisted = BTreeMap::new();
    let mut at: Option<(String, RegistryMerge)> = None;
    loop {
        let new = items.of.first_key_value().map(|(key, _)| key.clone());
        let old = previous.peek()?.map(Grouped::group);
        let key = match (new, old) {
            (Some(new), Some(old)) => new.min(old),
            (new, old) => match new.or(old) {
                Some(key) => key,
                None => break,
            },
        };
        let server = registry_of(&key);
        if at.as_ref().is_none_or(|(before, _)| before != server) {
            if let Some((before, merge)) = at.take() {
                report.add_registry(&before, &merge, &items, &mut unlisted);
            }
            at = Some((server.to_owned(), items.registry(store, server, (run, base)).await?));
        }
        let Some((_, merge)) = &mut at else { continue };
        let of_it = items.of.remove(&key).unwrap_or_default();
        items.read(store, &of_it).await?;
        let before = in_place(|| previous.take(&key))?;
        let repository = RepositoryInput {
            rows: items.rows.remove(&key).unwrap_or_default(),
            contents: items.contents.remove(&key).unwrap_or_default(),
            tags: items.tags.remove(&key).unwrap_or_default(),
            previous: before.clone(),
            parts: of_it,
        };
        in_place(|| {
            let rows = merge.repository(repository, &items.results, &subscriptions);
            files.changed((&before, &rows), run, base.run())?;
            report.count_contents(&rows);
            rows.iter().try_for_each(|row| files.write_registry(row))
        })?;
    }
    if let Some((before, merge)) = at.take() {
        report.add_registry(&before, &merge, &items, &mut unlisted);
    }
    // Registries without repositories, or whose list is not available.
    while let Some(server) = items.registries.first_key_value().map(|(server, _)| server.clone()) {
        let merge = items.registry(store, &server, (run, base)).await?;
        report.add_registry(&server, &merge, &items, &mut unlisted);
    }
    for (subscription, result) in &subscriptions {
        for line in subscription_lines(subscription, result, &unlisted) {
            report.totals.add(line.state, 1);
            report.lines.push(line);
        }
    }
    Ok(items.damaged)
}

impl CoverageBuilder {
    fn count_contents(&mut self, rows: &[RegistryImage]) {
        let known = rows.iter().filter(|row| row.is_content_known).count() as u64;
        self.contents.known += known;
        self.contents.unknown += rows.len() as u64 - known;
    }

    fn add_registry(
        &mut self,
        server: &str,
        merge: &RegistryMerge,
        items: &RegistryItems,
        unlisted: &mut BTreeMap<String, CarriedRows>,
    ) {
        let results = items.results.iter().enumerate();
        let of_it = results.filter_map(|(number, result)| {
            let result = result.as_ref()?;
            let own = result.scope.login_server()?;
            own.eq_ignore_ascii_case(server).then_some((number, result))
        });
        let (lines, totals) = merge.finish(of_it);
        self.lines.extend(lines);
        self.totals.join(&totals);
        self.outside += merge.outside;
        super::report::join(unlisted, &merge.unlisted);
    }
}

fn answered(item: &WorkItem, outcome: Outcome) -> Option<RegistryResult> {
    let Scope::Registry(scope) = &item.scope else { return None };
    let Outcome { state, reason, attempts, listed, gaps, malformed, rows, .. } = outcome;
    // What its children found is counted with them.
    let listed = if state == State::Done { listed } else { 0 };
    let scope = scope.clone();
    Some(RegistryResult { scope, state, reason, attempts, listed, gaps, malformed, rows })
}
