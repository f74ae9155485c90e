//! Merges a registry, repository by repository: the results of its items, its rows of the previous
//! snapshot and the details of single manifests become rows and their coverage.

use super::{CarriedRows, ScopeResult};
use crate::image::referrers::relate;
use crate::image::registry::{
    ManifestContent, ManifestDetail, ManifestTags, RegistryImage, ScanResult, join_tags,
};
use crate::image::resource_id::part;
use crate::pipeline::coverage::{CoverageLine, Totals};
use crate::pipeline::newer::NewerRuns;
use crate::work::{ALL_TAGS, AtRegistry, Gap, RegistryScope, RunId, SourceName, State};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// The name of a registry's findings in its coverage.
const FINDINGS: &str = "@findings";

/// How one item of a registry ended.
pub type RegistryResult = ScopeResult<RegistryScope>;

impl RegistryResult {
    /// Whether the result leaves the tags of a repository incomplete.
    fn lacks_tags(&self, repository: &str) -> bool {
        let is_open = |gap: &Gap| {
            let is_its = gap.offer == repository && gap.version.as_deref() == Some(ALL_TAGS);
            is_its && !gap.state.is_complete()
        };
        let is_list = matches!(self.scope, RegistryScope::Tags { .. });
        (is_list && !self.state.is_complete()) || self.gaps.iter().any(is_open)
    }
}

/// How the lists of registries ended, by subscription in lower case.
pub type SubscriptionResults = BTreeMap<String, RegistryResult>;

/// The coverage entry that counts a row that was not listed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CoverageKey {
    /// The list of repositories.
    Registry,
    /// The entries of that list that are not names of repositories.
    Unnamed,
    /// The result with this number, or one of its gaps.
    Part(usize, Option<usize>),
}

/// What happens to a row of the previous snapshot that was not listed again.
enum Fate {
    Drop,
    Outside,
    /// It is kept because the list of its subscription's registries is incomplete. The value is the
    /// key in [`RegistryMerge::unlisted`].
    Unlisted(String),
    Carry(CoverageKey),
}

/// The input of the merge for one repository.
#[derive(Debug, Default)]
pub struct RepositoryInput {
    /// The rows that the repository's items found.
    pub rows: Vec<RegistryImage>,
    /// The contents of its manifests.
    pub contents: Vec<ManifestContent>,
    /// Its tags, if they were listed separately.
    pub tags: Vec<ManifestTags>,
    /// Its rows in the previous snapshot.
    pub previous: Vec<RegistryImage>,
    /// The numbers of the items that cover it.
    pub parts: Vec<usize>,
}

/// Merges one registry, repository by repository.
#[derive(Debug)]
pub struct RegistryMerge {
    run: (RunId, OffsetDateTime),
    newer: Arc<NewerRuns>,
    registry: Option<RegistryResult>,
    findings: Option<RegistryResult>,
    scans: HashMap<(String, String), ScanResult>,
    carried_rows: BTreeMap<CoverageKey, CarriedRows>,
    /// Number of the registry's rows.
    rows: u64,
    /// Number of rows that the run was not asked to crawl.
    pub outside: u64,
    /// Rows that are kept because the list of their subscription's registries is incomplete. The
    /// keys are subscriptions, or unreadable entries of their lists.
    pub unlisted: BTreeMap<String, CarriedRows>,
}

impl RegistryMerge {
    /// Starts the merge of a registry with the results of its list of repositories and of its
    /// scanners.
    pub fn new(
        run: (RunId, OffsetDateTime),
        newer: Arc<NewerRuns>,
        registry: Option<RegistryResult>,
        findings: Option<(RegistryResult, Vec<ManifestDetail>)>,
    ) -> Self {
        let (findings, scan_details) = findings.unzip();
        let scan = |detail| match detail {
            ManifestDetail::Scan(scan) => {
                Some(((scan.repository.clone(), scan.digest.clone()), scan))
            }
            ManifestDetail::Content(_) | ManifestDetail::Tags(_) => None,
        };
        Self {
            run,
            newer,
            registry,
            findings,
            scans: scan_details.unwrap_or_default().into_iter().filter_map(scan).collect(),
            carried_rows: BTreeMap::new(),
            rows: 0,
            outside: 0,
            unlisted: BTreeMap::new(),
        }
    }

    /// Merges one repository and returns its rows, in the table's order. `parts` are the results of
    /// all items.
    pub fn repository(
        &mut self,
        repository: RepositoryInput,
        parts: &[Option<RegistryResult>],
        subscriptions: &SubscriptionResults,
    ) -> Vec<RegistryImage> {
        if self.is_newer(&repository) {
            self.rows += repository.previous.len() as u64;
            let not_asked = |row| RegistryImage { stale: false, ..row };
            return repository.previous.into_iter().map(not_asked).collect();
        }
        let contents: HashMap<&str, &ManifestContent> =
            repository.contents.iter().map(|content| (content.id.as_str(), content)).collect();
        let mut fresh: BTreeMap<String, RegistryImage> = BTreeMap::new();
        for mut row in repository.rows {
            row.observed_at = self.run.1;
            row.observed_run = self.run.0.to_string();
            row.first_seen_at = self.run.1;
            if let Some(content) = contents.get(row.id.as_str()) {
                row.add_content(content);
            }
            if let Some(scanned) = self.scans.remove(&(row.repository.clone(), row.digest.clone()))
            {
                row.findings = scanned.findings;
                row.scanned_at = scanned.scanned_at;
            }
            if let Some(RegistryScope::Registry { at, .. }) =
                self.registry.as_ref().map(|a| &a.scope)
            {
                set_registry(&mut row, at);
            }
            fresh.insert(row.digest.clone(), row);
        }
        tag(&mut fresh, &repository.tags);
        let mut results = repository.parts.iter().filter_map(|number| parts[*number].as_ref());
        let name = repository.previous.first().map_or("", |row| row.repository.as_str());
        if results.any(|result| result.lacks_tags(name)) {
            keep_tags(&mut fresh, &repository.previous);
        }
        let are_findings_known = self.findings.as_ref().is_some_and(|a| a.state.is_complete());
        let mut rows = Vec::with_capacity(fresh.len());
        for old in &repository.previous {
            if let Some(row) = fresh.get_mut(&old.digest) {
                carry(row, old, are_findings_known);
                continue;
            }
            let stale = match self.fate(old, &repository.parts, parts, subscriptions) {
                Fate::Drop => continue,
                Fate::Outside => {
                    self.outside += 1;
                    false
                }
                Fate::Unlisted(subscription) => {
                    self.unlisted.entry(subscription).or_default().add(old.observed_at);
                    true
                }
                Fate::Carry(key) => {
                    self.carried_rows.entry(key).or_default().add(old.observed_at);
                    true
                }
            };
            rows.push(RegistryImage { stale, ..old.clone() });
        }
        rows.extend(fresh.into_values());
        rows.sort_by(RegistryImage::compare);
        relate(&mut rows);
        self.rows += rows.len() as u64;
        rows
    }

    /// Whether a newer run answered for the repository.
    fn is_newer(&self, repository: &RepositoryInput) -> bool {
        let any = repository.previous.first().or(repository.rows.first());
        any.is_some_and(|row| {
            let at = match self.registry.as_ref().map(|result| &result.scope) {
                Some(RegistryScope::Registry { at, .. }) => at.registry_id.as_deref(),
                _ => None,
            };
            let subscription = at.and_then(|id| part(id, "subscriptions"));
            let subscription = row.subscription_id.as_deref().or(subscription);
            self.newer.has_repository(&row.login_server, subscription, &row.repository)
        })
    }

    fn fate(
        &self,
        row: &RegistryImage,
        of_it: &[usize],
        parts: &[Option<RegistryResult>],
        subscriptions: &SubscriptionResults,
    ) -> Fate {
        let Some(registry) = &self.registry else {
            let subscription = row.subscription_id.as_deref().unwrap_or_default();
            let subscription = subscription.to_ascii_lowercase();
            let Some(result) = subscriptions.get(&subscription) else { return Fate::Outside };
            if !result.state.is_complete() {
                return Fate::Unlisted(subscription);
            }
            // A registry that cannot be read may be this one.
            let is_its = |gap: &&Gap| {
                let id = row.registry_id.as_deref().unwrap_or_default();
                gap.offer.is_empty() || gap.offer.eq_ignore_ascii_case(id)
            };
            let gap = result.gaps.iter().find(is_its);
            return gap.map_or(Fate::Drop, |gap| Fate::Unlisted(unread(&subscription, gap)));
        };
        if !registry.state.is_complete() {
            return Fate::Carry(CoverageKey::Registry);
        }
        let mut is_listed = false;
        for number in of_it {
            let Some(result) = &parts[*number] else { continue };
            if !matches!(result.scope, RegistryScope::Repositories { .. }) {
                continue;
            }
            is_listed = true;
            if !result.state.is_complete() {
                return Fate::Carry(CoverageKey::Part(*number, None));
            }
            let is_its = |gap: &Gap| {
                let is_list = gap.offer == row.repository && gap.version.is_none();
                is_list && !gap.state.is_complete()
            };
            if let Some(gap) = result.gaps.iter().position(is_its) {
                return Fate::Carry(CoverageKey::Part(*number, Some(gap)));
            }
        }
        // A row that is not listed may belong to an entry whose name could not be read.
        if !is_listed && !registry.gaps.is_empty() {
            return Fate::Carry(CoverageKey::Unnamed);
        }
        Fate::Drop
    }

    /// The registry's coverage lines and the counts of its listings. `parts` are the results of its
    /// items.
    pub fn finish<'a>(
        &self,
        parts: impl Iterator<Item = (usize, &'a RegistryResult)>,
    ) -> (Vec<CoverageLine>, Totals) {
        let mut covered = (Vec::new(), Totals::default());
        let parts: Vec<(usize, &RegistryResult)> = parts.collect();
        if let Some(registry) = &self.registry {
            self.cover(CoverageKey::Registry, registry, &mut covered);
            // Items that are complete have no line of their own: their malformed members are
            // counted in the registry's line.
            if let Some(line) = covered.0.first_mut() {
                let all = parts.iter().map(|(_, result)| *result).chain(&self.findings);
                all.for_each(|result| line.malformed.join(&result.malformed));
            }
        }
        if let Some(findings) = &self.findings {
            self.cover(CoverageKey::Part(usize::MAX, None), findings, &mut covered);
        }
        for (number, result) in parts {
            self.cover(CoverageKey::Part(number, None), result, &mut covered);
        }
        covered
    }

    fn carried_rows(&self, key: CoverageKey) -> CarriedRows {
        self.carried_rows.get(&key).copied().unwrap_or_default()
    }

    fn cover(
        &self,
        key: CoverageKey,
        result: &RegistryResult,
        (lines, totals): &mut (Vec<CoverageLine>, Totals),
    ) {
        let own = self.carried_rows(key);
        let state = own.ends(result.state);
        totals.add(State::Done, result.listed);
        if state != State::Done {
            totals.add(state, 1);
        }
        let base = CoverageLine {
            state,
            reason: result.reason.clone(),
            attempts: result.attempts,
            rows: own.rows,
            since: own.since,
            ..line(&result.scope)
        };
        match &result.scope {
            RegistryScope::Registry { .. } => lines.push(CoverageLine {
                rows: self.rows,
                malformed: result.malformed.clone(),
                ..base.clone()
            }),
            _ if state.is_complete() => {}
            // Complete items are covered by the registry's line. Each of the others has its own.
            RegistryScope::Repositories { repositories, .. } => {
                lines.extend(repositories.iter().map(|repository| CoverageLine {
                    repository: Some(repository.clone()),
                    ..base.clone()
                }));
            }
            RegistryScope::Tags { repository, .. } => lines.push(CoverageLine {
                repository: Some(repository.clone()),
                digest: Some(ALL_TAGS.to_owned()),
                ..base.clone()
            }),
            RegistryScope::Contents { manifests, .. } => {
                lines.extend(manifests.iter().map(|[repository, digest]| CoverageLine {
                    repository: Some(repository.clone()),
                    digest: Some(digest.clone()),
                    ..base.clone()
                }));
            }
            RegistryScope::Findings { .. } | RegistryScope::Registries { .. } => {
                lines.push(base.clone());
            }
        }
        for (at, gap) in result.gaps.iter().enumerate() {
            let own = self.carried_rows(match key {
                CoverageKey::Part(number, _) => CoverageKey::Part(number, Some(at)),
                CoverageKey::Registry | CoverageKey::Unnamed => CoverageKey::Unnamed,
            });
            let state = own.ends(gap.state);
            totals.add(state, 1);
            lines.push(CoverageLine {
                repository: Some(gap.offer.clone()).filter(|name| !name.is_empty()),
                digest: gap.version.clone(),
                state,
                reason: gap.reason.clone(),
                attempts: gap.attempts,
                rows: own.rows,
                since: own.since,
                ..base.clone()
            });
        }
    }
}

/// Adds the tags that were listed separately to their rows.
fn tag(fresh: &mut BTreeMap<String, RegistryImage>, tags: &[ManifestTags]) {
    let digest =
        |manifest: &ManifestTags| manifest.id.rsplit('@').next().unwrap_or_default().to_owned();
    let listed: Vec<(String, String)> = tags
        .iter()
        .flat_map(|manifest| manifest.tags.iter().map(move |tag| (tag.clone(), digest(manifest))))
        .collect();
    if !listed.is_empty() {
        let manifest_tags = fresh.values_mut().map(|row| (row.digest.as_str(), &mut row.tags));
        join_tags(manifest_tags.collect(), &listed);
    }
}

/// Keeps tags of the previous snapshot, since the new tags are incomplete.
fn keep_tags(fresh: &mut BTreeMap<String, RegistryImage>, previous: &[RegistryImage]) {
    let new_tags: HashSet<String> =
        fresh.values().flat_map(|row| row.tags.iter().cloned()).collect();
    for old in previous {
        let Some(row) = fresh.get_mut(&old.digest) else { continue };
        let kept = old.tags.iter().filter(|tag| !new_tags.contains(*tag));
        let before = row.tags.len();
        row.tags.extend(kept.cloned());
        row.stale = row.tags.len() > before;
        row.tags.sort_unstable();
    }
}

/// The key that counts the rows kept for an unreadable entry of a subscription's list.
fn unread(subscription: &str, gap: &Gap) -> String {
    if gap.offer.is_empty() { format!("{subscription}/") } else { gap.offer.to_ascii_lowercase() }
}

/// Copies the registry's properties to a row.
fn set_registry(row: &mut RegistryImage, at: &AtRegistry) {
    row.registry_id.clone_from(&at.registry_id);
    row.location.clone_from(&at.location);
    row.registry_sku.clone_from(&at.sku);
    let within = |name: &str| part(at.registry_id.as_deref()?, name).map(str::to_owned);
    row.subscription_id = within("subscriptions");
    row.resource_group = within("resourceGroups");
}

/// Copies what the old row knew. Contents never change, and findings are valid until new ones are
/// known.
fn carry(row: &mut RegistryImage, old: &RegistryImage, findings_known: bool) {
    row.first_seen_at = old.first_seen_at;
    if !row.is_content_known && old.is_content_known {
        row.add_content(&old.content());
    }
    if !findings_known {
        row.findings.clone_from(&old.findings);
        row.scanned_at = old.scanned_at;
    }
}

/// The coverage line of a scope, without its result.
fn line(scope: &RegistryScope) -> CoverageLine {
    CoverageLine {
        location: scope.location().to_owned(),
        registry: scope.login_server().map(str::to_owned),
        subscription: match scope {
            RegistryScope::Registries { subscription, .. } => Some(subscription.clone()),
            RegistryScope::Registry { at, .. } => at.subscription().map(str::to_owned),
            _ => None,
        },
        repository: matches!(scope, RegistryScope::Findings { .. }).then(|| FINDINGS.to_owned()),
        ..CoverageLine::new(SourceName::Registry)
    }
}

/// The coverage lines of a subscription's list of registries and of the registries that could not
/// be read. `carried_rows` has the rows that are kept for them, by subscription and by registry.
pub fn subscription_lines(
    subscription: &str,
    result: &RegistryResult,
    carried_rows: &BTreeMap<String, CarriedRows>,
) -> Vec<CoverageLine> {
    let of = |name: &str| carried_rows.get(name).copied().unwrap_or_default();
    let own = of(subscription);
    let list_line = CoverageLine {
        state: own.ends(result.state),
        reason: result.reason.clone(),
        attempts: result.attempts,
        rows: own.rows,
        since: own.since,
        malformed: result.malformed.clone(),
        ..line(&result.scope)
    };
    let unread = result.gaps.iter().map(|gap| {
        let own = of(&unread(subscription, gap));
        let within = |name: &str| part(&gap.offer, name).map(str::to_owned);
        CoverageLine {
            state: own.ends(gap.state),
            reason: gap.reason.clone(),
            attempts: gap.attempts,
            rows: own.rows,
            since: own.since,
            resource_group: within("resourceGroups"),
            registry: within("registries"),
            ..line(&result.scope)
        }
    });
    std::iter::once(list_line).chain(unread).collect()
}
