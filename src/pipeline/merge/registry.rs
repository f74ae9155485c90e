//! A registry's rows: what its items found, its rows of the snapshot before, and what was told of
//! single manifests, merged repository by repository, with the coverage that belongs to them.

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

/// Where it should have been told of a row that was not listed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The list of repositories.
    Registry,
    /// The answer of that number, or a gap of it.
    Part(usize, Option<usize>),
}

/// What becomes of a row of the snapshot before that was not listed anew.
enum Fate {
    Drop,
    Outside,
    /// The listing of its subscription's registries should have told.
    Unlisted(String),
    StandsIn(Place),
}

/// Everything about one repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// What its items found.
    pub rows: Vec<RegistryImage>,
    /// What was read of its manifests.
    pub contents: Vec<Contained>,
    /// Its rows in the snapshot before.
    pub previous: Vec<RegistryImage>,
    /// The items that it was listed by, by their number.
    pub parts: Vec<usize>,
}

/// One registry, merged repository by repository.
#[derive(Debug)]
pub struct Merge {
    run: (RunId, OffsetDateTime),
    registry: Option<Answered>,
    findings: Option<Answered>,
    scans: HashMap<(String, String), Scanned>,
    standing: BTreeMap<Place, Standing>,
    /// Rows that it has.
    rows: u64,
    /// Rows that the run was not asked to crawl.
    pub outside: u64,
    /// Rows that stand in because their subscription's registries could not be listed.
    pub unlisted: BTreeMap<String, Standing>,
}

impl Merge {
    /// A registry of which this is known from its own list and from scanners.
    pub fn new(
        run: (RunId, OffsetDateTime),
        registry: Option<Answered>,
        findings: Option<(Answered, Vec<Told>)>,
    ) -> Self {
        let (findings, told) = findings.unzip();
        let scan = |told| match told {
            Told::Scan(scan) => Some(((scan.repository.clone(), scan.digest.clone()), scan)),
            Told::Content(_) => None,
        };
        Self {
            run,
            registry,
            findings,
            scans: told.unwrap_or_default().into_iter().filter_map(scan).collect(),
            standing: BTreeMap::new(),
            rows: 0,
            outside: 0,
            unlisted: BTreeMap::new(),
        }
    }

    /// Merges one repository: its rows, in the table's order. `parts` are the answers of all items.
    pub fn repository(
        &mut self,
        repository: Repository,
        parts: &[Option<Answered>],
        subscriptions: &Subscriptions,
    ) -> Vec<RegistryImage> {
        let contents: HashMap<&str, &Contained> =
            repository.contents.iter().map(|told| (told.id.as_str(), told)).collect();
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
                place(&mut row, at);
            }
            fresh.insert(row.digest.clone(), row);
        }
        let are_findings_told = self.findings.as_ref().is_some_and(|a| a.state.is_complete());
        let mut rows = Vec::with_capacity(fresh.len());
        for old in &repository.previous {
            if let Some(row) = fresh.get_mut(&old.digest) {
                carry(row, old, are_findings_told);
                continue;
            }
            let stale = match self.fate(old, &repository.parts, parts, subscriptions) {
                Fate::Drop => continue,
                Fate::Outside => {
                    self.outside += 1;
                    old.stale
                }
                Fate::Unlisted(subscription) => {
                    self.unlisted.entry(subscription).or_default().add(old.observed_at);
                    true
                }
                Fate::StandsIn(place) => {
                    self.standing.entry(place).or_default().add(old.observed_at);
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

    fn fate(
        &self,
        row: &RegistryImage,
        of_it: &[usize],
        parts: &[Option<Answered>],
        subscriptions: &Subscriptions,
    ) -> Fate {
        let Some(registry) = &self.registry else {
            let subscription = row.subscription_id.as_deref().unwrap_or_default();
            let subscription = subscription.to_ascii_lowercase();
            return match subscriptions.get(&subscription) {
                None => Fate::Outside,
                Some(answer) if answer.state.is_complete() => Fate::Drop,
                Some(_) => Fate::Unlisted(subscription),
            };
        };
        if !registry.state.is_complete() {
            return Fate::StandsIn(Place::Registry);
        }
        for number in of_it {
            let Some(answer) = &parts[*number] else { continue };
            if !matches!(answer.scope, RegistryScope::Repositories { .. }) {
                continue;
            }
            if !answer.state.is_complete() {
                return Fate::StandsIn(Place::Part(*number, None));
            }
            let is_its = |gap: &Gap| gap.offer == row.repository && !gap.state.is_complete();
            if let Some(gap) = answer.gaps.iter().position(is_its) {
                return Fate::StandsIn(Place::Part(*number, Some(gap)));
            }
        }
        Fate::Drop
    }

    /// The registry's lines of coverage, and its listings. `parts` are the answers of its items.
    pub fn finish<'a>(
        &self,
        parts: impl Iterator<Item = (usize, &'a Answered)>,
    ) -> (Vec<Line>, Totals) {
        let mut covered = (Vec::new(), Totals::default());
        if let Some(registry) = &self.registry {
            self.cover(Place::Registry, registry, &mut covered);
        }
        if let Some(findings) = &self.findings {
            self.cover(Place::Part(usize::MAX, None), findings, &mut covered);
        }
        for (number, answer) in parts {
            self.cover(Place::Part(number, None), answer, &mut covered);
        }
        covered
    }

    fn standing(&self, place: Place) -> Standing {
        self.standing.get(&place).copied().unwrap_or_default()
    }

    fn cover(&self, place: Place, answer: &Answered, (lines, totals): &mut (Vec<Line>, Totals)) {
        let own = self.standing(place);
        let state = own.ends(answer.state);
        totals.add(State::Done, answer.listed);
        if state != State::Done {
            totals.add(state, 1);
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
            RegistryScope::Registry { .. } => lines.push(Line { rows: self.rows, ..said.clone() }),
            _ if state.is_complete() => {}
            // What ended well is in the registry's line; what did not has one of its own.
            RegistryScope::Repositories { repositories, .. } => {
                lines.extend(repositories.iter().map(|repository| Line {
                    repository: Some(repository.clone()),
                    ..said.clone()
                }));
            }
            RegistryScope::Contents { manifests, .. } => {
                lines.extend(manifests.iter().map(|[repository, digest]| Line {
                    repository: Some(repository.clone()),
                    digest: Some(digest.clone()),
                    ..said.clone()
                }));
            }
            RegistryScope::Findings { .. } | RegistryScope::Registries { .. } => {
                lines.push(said.clone());
            }
        }
        let Place::Part(number, _) = place else { return };
        for (at, gap) in answer.gaps.iter().enumerate() {
            let own = self.standing(Place::Part(number, Some(at)));
            let state = own.ends(gap.state);
            totals.add(state, 1);
            lines.push(Line {
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
        state: standing.ends(answer.state),
        reason: answer.reason.clone(),
        attempts: answer.attempts,
        rows: standing.rows,
        since: standing.since,
        ..line(&answer.scope)
    }
}
