//! One registry's rows: what its items found, its rows of the snapshot before, and what was told of
//! single manifests, merged into rows with the coverage that belongs to them.

use super::Standing;
use crate::image::registry::{Contained, RegistryImage, Scanned, Told, relate};
use crate::pipeline::coverage::{Line, Totals};
use crate::work::{AtRegistry, Gap, RegistryScope, RunId, SourceName, State};
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;

/// The part of a registry's coverage that its findings are.
const FINDINGS: &str = "@findings";

/// How one item of a registry ended.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What it covered.
    pub scope: RegistryScope,
    /// How it ended.
    pub state: State,
    /// Why.
    pub reason: String,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Listings that had something in them.
    pub listed: u64,
    /// Parts that ended otherwise.
    pub gaps: Vec<Gap>,
}

/// How the listings of registries ended, by subscription in lower case.
pub type Subscriptions = BTreeMap<String, Answered>;

/// Everything about one registry.
#[derive(Debug, Default)]
pub struct Group {
    /// How its items ended.
    pub answers: Vec<Answered>,
    /// What they found.
    pub rows: Vec<RegistryImage>,
    /// What was told of single manifests.
    pub told: Vec<Told>,
    /// Its rows in the snapshot before.
    pub previous: Vec<RegistryImage>,
}

/// What becomes of a registry.
#[derive(Debug, Default)]
pub struct MergedGroup {
    /// Its rows, in the table's order.
    pub rows: Vec<RegistryImage>,
    /// Its rows in the snapshot before.
    pub previous: Vec<RegistryImage>,
    /// Its lines of coverage.
    pub lines: Vec<Line>,
    /// Its listings.
    pub totals: Totals,
    /// Rows that the run was not asked to crawl.
    pub outside: u64,
    /// Rows that stand in because their subscription's registries could not be listed.
    pub unlisted: BTreeMap<String, Standing>,
}

/// What becomes of a row of the snapshot before that was not listed anew.
enum Fate {
    Drop,
    Outside,
    /// The listing of its subscription's registries should have told.
    Unlisted(String),
    /// The answer with this number, or that gap of it, should have told.
    StandsIn(usize, Option<usize>),
}

/// The answers about one registry by what they cover.
struct Asked<'a> {
    answers: &'a [Answered],
    registry: Option<usize>,
    repositories: HashMap<&'a str, Vec<usize>>,
    gaps: HashMap<&'a str, (usize, usize)>,
    findings: Option<usize>,
}

impl<'a> Asked<'a> {
    fn new(answers: &'a [Answered]) -> Self {
        let mut asked = Self {
            answers,
            registry: None,
            repositories: HashMap::new(),
            gaps: HashMap::new(),
            findings: None,
        };
        for (at, answer) in answers.iter().enumerate() {
            match &answer.scope {
                RegistryScope::Registry { .. } => asked.registry = Some(at),
                RegistryScope::Findings { .. } => asked.findings = Some(at),
                RegistryScope::Repositories { repositories, .. } => {
                    for repository in repositories {
                        asked.repositories.entry(repository).or_default().push(at);
                    }
                    for (number, gap) in answer.gaps.iter().enumerate() {
                        if !gap.state.is_complete() {
                            asked.gaps.insert(&gap.offer, (at, number));
                        }
                    }
                }
                RegistryScope::Registries { .. } | RegistryScope::Contents { .. } => {}
            }
        }
        asked
    }

    fn at(&self) -> Option<&AtRegistry> {
        match &self.answers[self.registry?].scope {
            RegistryScope::Registry { at, .. } => Some(at),
            _ => None,
        }
    }

    fn fate(&self, row: &RegistryImage, subscriptions: &Subscriptions) -> Fate {
        let Some(registry) = self.registry else {
            let subscription = row.subscription_id.as_deref().unwrap_or_default();
            let subscription = subscription.to_ascii_lowercase();
            return match subscriptions.get(&subscription) {
                None => Fate::Outside,
                Some(answer) if answer.state.is_complete() => Fate::Drop,
                Some(_) => Fate::Unlisted(subscription),
            };
        };
        if !self.answers[registry].state.is_complete() {
            return Fate::StandsIn(registry, None);
        }
        let repository = row.repository.as_str();
        let Some(items) = self.repositories.get(repository) else { return Fate::Drop };
        if let Some(at) = items.iter().find(|at| !self.answers[**at].state.is_complete()) {
            return Fate::StandsIn(*at, None);
        }
        match self.gaps.get(repository) {
            Some((at, gap)) => Fate::StandsIn(*at, Some(*gap)),
            None => Fate::Drop,
        }
    }

    /// Whether what scanners found was told; otherwise what they found before still counts.
    fn are_findings_told(&self) -> bool {
        self.findings.is_some_and(|at| self.answers[at].state.is_complete())
    }
}

/// Merges one registry for the run of that name and start.
pub fn merge_group(
    group: Group,
    subscriptions: &Subscriptions,
    run: (RunId, OffsetDateTime),
) -> MergedGroup {
    let Group { answers, rows, told, previous } = group;
    let mut merged = MergedGroup::default();
    let asked = Asked::new(&answers);
    let (contents, scans) = by_manifest(told);
    let mut fresh: BTreeMap<String, RegistryImage> = BTreeMap::new();
    for mut row in rows {
        row.observed_at = run.1;
        row.observed_run = run.0.to_string();
        row.first_seen_at = run.1;
        if let Some(content) = contents.get(&row.id) {
            row.add_content(content);
        }
        if let Some(scanned) = scans.get(&(row.repository.clone(), row.digest.clone())) {
            row.findings.clone_from(&scanned.findings);
            row.scanned_at = scanned.scanned_at;
        }
        if let Some(at) = asked.at() {
            place(&mut row, at);
        }
        fresh.insert(row.id.to_ascii_lowercase(), row);
    }
    let mut standing: BTreeMap<(usize, Option<usize>), Standing> = BTreeMap::new();
    for old in &previous {
        if let Some(row) = fresh.get_mut(&old.id.to_ascii_lowercase()) {
            carry(row, old, asked.are_findings_told());
            continue;
        }
        let stale = match asked.fate(old, subscriptions) {
            Fate::Drop => continue,
            Fate::Outside => {
                merged.outside += 1;
                old.stale
            }
            Fate::Unlisted(subscription) => {
                merged.unlisted.entry(subscription).or_default().add(old.observed_at);
                true
            }
            Fate::StandsIn(at, gap) => {
                standing.entry((at, gap)).or_default().add(old.observed_at);
                true
            }
        };
        merged.rows.push(RegistryImage { stale, ..old.clone() });
    }
    merged.rows.extend(fresh.into_values());
    merged.rows.sort_by(RegistryImage::compare);
    for repository in merged.rows.chunk_by_mut(|a, b| a.repository == b.repository) {
        relate(repository);
    }
    cover(&answers, &standing, &mut merged);
    merged.previous = previous;
    merged
}

/// What was told, by the manifest that it is about.
#[allow(clippy::type_complexity, reason = "two maps, used once")]
fn by_manifest(
    told: Vec<Told>,
) -> (HashMap<String, Contained>, HashMap<(String, String), Scanned>) {
    let mut contents = HashMap::new();
    let mut scans = HashMap::new();
    for told in told {
        match told {
            Told::Content(content) => {
                contents.insert(content.id.clone(), *content);
            }
            Told::Scan(scan) => {
                scans.insert((scan.repository.clone(), scan.digest.clone()), scan);
            }
        }
    }
    (contents, scans)
}

/// What a registry says of all that is in it.
fn place(row: &mut RegistryImage, at: &AtRegistry) {
    row.registry_id.clone_from(&at.registry_id);
    row.location.clone_from(&at.location);
    row.registry_sku.clone_from(&at.sku);
    let mut parts = at.registry_id.iter().flat_map(|id| id.split('/').map(str::to_owned));
    row.subscription_id = parts.nth(2);
    row.resource_group = parts.nth(1);
}

/// Takes over what the row before knew: contents never change, and findings count until others are told.
fn carry(row: &mut RegistryImage, old: &RegistryImage, findings_told: bool) {
    row.first_seen_at = old.first_seen_at;
    if !row.is_content_known && old.is_content_known {
        row.add_content(&old.content());
    }
    if !findings_told {
        row.findings.clone_from(&old.findings);
        row.scanned_at = old.scanned_at;
    }
}

/// The line of a scope, without how it ended.
fn line(scope: &RegistryScope) -> Line {
    Line {
        location: scope.location().to_owned(),
        registry: scope.login_server().map(str::to_owned),
        subscription: match scope {
            RegistryScope::Registries { subscription, .. } => Some(subscription.clone()),
            RegistryScope::Registry { at, .. } => {
                at.registry_id.as_deref().and_then(|id| id.split('/').nth(2)).map(str::to_owned)
            }
            _ => None,
        },
        repository: matches!(scope, RegistryScope::Findings { .. }).then(|| FINDINGS.to_owned()),
        ..Line::new(SourceName::Registry)
    }
}

/// The line of a subscription's registries, with the rows that stand in for them.
pub fn subscription_line(answer: &Answered, standing: Standing) -> Line {
    Line {
        state: state_of(answer.state, standing),
        reason: answer.reason.clone(),
        attempts: answer.attempts,
        rows: standing.rows,
        since: standing.since,
        ..line(&answer.scope)
    }
}

fn cover(
    answers: &[Answered],
    standing: &BTreeMap<(usize, Option<usize>), Standing>,
    merged: &mut MergedGroup,
) {
    let rows = merged.rows.len() as u64;
    for (at, answer) in answers.iter().enumerate() {
        let own = standing.get(&(at, None)).copied().unwrap_or_default();
        let state = state_of(answer.state, own);
        merged.totals.add(State::Done, answer.listed);
        if state != State::Done {
            merged.totals.add(state, 1);
        }
        let said = Line {
            state,
            reason: answer.reason.clone(),
            attempts: answer.attempts,
            rows: own.rows,
            since: own.since,
            ..line(&answer.scope)
        };
        match &answer.scope {
            RegistryScope::Registry { .. } => merged.lines.push(Line { rows, ..said.clone() }),
            _ if state.is_complete() => {}
            // What ended well is in the registry's line; what did not has one of its own.
            RegistryScope::Repositories { repositories, .. } => {
                merged.lines.extend(repositories.iter().map(|repository| Line {
                    repository: Some(repository.clone()),
                    ..said.clone()
                }));
            }
            RegistryScope::Contents { manifests, .. } => {
                merged.lines.extend(manifests.iter().map(|[repository, digest]| Line {
                    repository: Some(repository.clone()),
                    digest: Some(digest.clone()),
                    ..said.clone()
                }));
            }
            RegistryScope::Findings { .. } | RegistryScope::Registries { .. } => {
                merged.lines.push(said.clone());
            }
        }
        for (number, gap) in answer.gaps.iter().enumerate() {
            let own = standing.get(&(at, Some(number))).copied().unwrap_or_default();
            let state = state_of(gap.state, own);
            merged.totals.add(state, 1);
            merged.lines.push(Line {
                repository: Some(gap.offer.clone()),
                digest: gap.version.clone(),
                state,
                reason: gap.reason.clone(),
                attempts: gap.attempts,
                rows: own.rows,
                since: own.since,
                ..said.clone()
            });
        }
    }
}

fn state_of(state: State, standing: Standing) -> State {
    match state {
        State::Failed if standing.rows > 0 => State::Carried,
        state => state,
    }
}
