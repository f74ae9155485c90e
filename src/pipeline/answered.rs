//! Which scopes runs have answered, according to the coverage of their snapshots.
//!
//! A scope counts as answered if the list that contains it was answered and no coverage line
//! reports it, or a scope around it, as unanswered. An image that is absent from the catalog is
//! gone only if its scope was answered.

use super::coverage::{Coverage, CoverageLine};
use super::snapshot::{self, Manifest};
use crate::error::{Error, ErrorKind, Result};
use crate::source::gallery::MANAGED_IMAGES;
use crate::store::{SnapshotFile, Store};
use crate::work::SourceName;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Maximum number of snapshots to read, starting with the newest. Covers the number kept by
/// default, with a margin.
const LOOKS_BACK: usize = 64;

/// A scope that a run may have asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskedScope {
    /// A SKU of the marketplace: location, publisher, offer, SKU.
    Sku([String; 4]),
    /// A definition of a gallery of ours: subscription, gallery, definition. Gallery names are
    /// unique within a subscription.
    Definition([String; 3]),
    /// The managed images of a subscription.
    ManagedImages(String),
    /// A gallery shared with us: location, `{subscription}-{NAME}`.
    Shared([String; 2]),
    /// A community gallery: location, public name.
    Community([String; 2]),
}

/// The result of the most recent request for a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastResult {
    /// The catalog has everything in the scope.
    Answered,
    /// The scope was not answered, with the reason.
    Open(String),
    /// No run asked for the scope.
    NotQueried,
}

impl AskedScope {
    /// The names of the scope, outermost first.
    fn names(&self) -> Vec<&str> {
        let (kind, names): (&str, &[String]) = match self {
            Self::Sku(names) => ("marketplace", names),
            Self::Definition(names) => ("gallery", names),
            Self::ManagedImages(subscription) => {
                return vec!["gallery", subscription, MANAGED_IMAGES];
            }
            Self::Shared(names) => ("shared", names),
            Self::Community(names) => ("community", names),
        };
        std::iter::once(kind).chain(names.iter().map(String::as_str)).collect()
    }

    fn publisher(&self) -> Option<&str> {
        match self {
            Self::Sku([_, publisher, ..]) => Some(publisher),
            _ => None,
        }
    }
}

/// The scopes that one run answered.
#[derive(Debug, Default)]
pub(super) struct AnsweredScopes {
    /// The answered lists by path. The value is the list's filter of publisher names, empty if
    /// there was none.
    lists: HashMap<String, Vec<String>>,
    /// The scopes that were not answered, by path, with the reason. Nothing inside them was
    /// answered either.
    open: HashMap<String, String>,
}

/// Joins names, outermost first and in lower case, with a separator that no name contains.
fn path(names: &[&str]) -> String {
    let mut path = String::new();
    for name in names {
        path.push_str(&name.to_ascii_lowercase());
        path.push('\n');
    }
    path
}

/// Why a scope was not answered.
fn why(line: &CoverageLine) -> String {
    let state = line.state.as_str();
    if line.reason.is_empty() { state.to_owned() } else { format!("{state}: {}", line.reason) }
}

impl AnsweredScopes {
    /// Reads what the run of a snapshot answered. `None` if the snapshot has no coverage.
    pub(super) async fn read(store: &dyn Store, manifest: &Manifest) -> Result<Option<Self>> {
        let bytes = snapshot::verified(store, manifest, SnapshotFile::Coverage).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let coverage: Coverage = serde_json::from_slice(&bytes).map_err(|e| {
            let run = manifest.run;
            Error::corrupt(format!("coverage.json of run {run} cannot be read ({e})"))
        })?;
        Ok(Some(Self::new(&coverage)))
    }

    fn new(coverage: &Coverage) -> Self {
        let mut ledger = Self::default();
        for line in &coverage.scopes {
            match line.source {
                SourceName::Marketplace => ledger.add_marketplace(line),
                SourceName::Gallery => ledger.add_gallery(line),
                SourceName::Registry => ledger.add_registry(line),
            }
        }
        ledger
    }

    fn list(&mut self, line: &CoverageLine, path: String) {
        if line.state.is_complete() {
            self.lists.entry(path).or_insert_with(|| line.only.clone());
        } else {
            self.open.insert(path, why(line));
        }
    }

    fn part(&mut self, line: &CoverageLine, path: String) {
        if !line.state.is_complete() {
            self.open.insert(path, why(line));
        }
    }

    fn add_marketplace(&mut self, line: &CoverageLine) {
        let names = ["marketplace", &line.location];
        let Some(publisher) = &line.publisher else { return self.list(line, path(&names)) };
        // Missing details of a version do not affect the listing.
        if line.version.is_some() {
            return;
        }
        let mut names = vec![names[0], names[1], publisher];
        names.extend(line.offer.as_deref());
        names.extend(line.offer.as_ref().and(line.sku.as_deref()));
        self.part(line, path(&names));
    }

    fn add_gallery(&mut self, line: &CoverageLine) {
        if line.version.is_some() {
            return;
        }
        if let Some(subscription) = &line.subscription {
            let root = ["gallery", subscription.as_str()];
            match (&line.gallery, &line.definition) {
                (None, None) => self.list(line, path(&root)),
                (None, Some(part)) => self.part(line, path(&[root[0], root[1], part])),
                (Some(gallery), definition) => {
                    let mut names = vec![root[0], root[1], gallery.as_str()];
                    names.extend(definition.as_deref());
                    self.part(line, path(&names));
                }
            }
            return;
        }
        match (&line.sharing, &line.gallery) {
            (Some(sharing), None) if line.definition.is_none() => {
                self.list(line, path(&[sharing, &line.location]));
            }
            (Some(sharing), None) => self.part(line, path(&[sharing, &line.location])),
            (_, Some(gallery)) => {
                for sharing in ["shared", "community"] {
                    self.part(line, path(&[sharing, &line.location, gallery]));
                }
            }
            (None, None) => {}
        }
    }

    fn add_registry(&mut self, line: &CoverageLine) {
        match (&line.registry, &line.subscription) {
            // A registry whose entry in the subscription's list cannot be read.
            (Some(_), Some(subscription)) if line.resource_group.is_some() => {
                self.part(line, path(&["registries", subscription]));
            }
            (Some(registry), _) => match (&line.repository, &line.digest) {
                (None, None) => self.list(line, path(&["registry", registry])),
                (None, Some(_)) => self.part(line, path(&["registry", registry])),
                (Some(repository), None) if !repository.starts_with('@') => {
                    self.part(line, path(&["registry", registry, repository]));
                }
                _ => {}
            },
            (None, Some(subscription)) => {
                self.list(line, path(&["registries", subscription]));
            }
            (None, None) => {}
        }
    }

    /// The result for the scope with these names. The first two names identify the list that
    /// contains it.
    fn last_result(&self, names: &[&str], publisher: Option<&str>) -> LastResult {
        let list = path(&names[..names.len().min(2)]);
        let Some(only) = self.lists.get(&list) else {
            return self
                .open
                .get(&list)
                .map_or(LastResult::NotQueried, |why| LastResult::Open(why.clone()));
        };
        let publisher = publisher.unwrap_or_default().to_ascii_lowercase();
        let is_asked =
            only.is_empty() || only.iter().any(|o| publisher.contains(&o.to_ascii_lowercase()));
        if !is_asked {
            return LastResult::NotQueried;
        }
        let open = (2..=names.len()).find_map(|end| self.open.get(&path(&names[..end])));
        open.map_or(LastResult::Answered, |why| LastResult::Open(why.clone()))
    }

    /// Whether the scope with these names was answered.
    pub(super) fn has(&self, names: &[&str], publisher: Option<&str>) -> bool {
        self.last_result(names, publisher) == LastResult::Answered
    }

    /// Whether the list with these names was asked for, answered or not.
    pub(super) fn knows(&self, names: &[&str]) -> bool {
        let list = path(names);
        self.lists.contains_key(&list) || self.open.contains_key(&list)
    }
}

/// The predecessor of a snapshot in the chain. `None` if it is gone or damaged.
pub(super) async fn before(store: &dyn Store, manifest: &Manifest) -> Result<Option<Manifest>> {
    let Some(run) = manifest.previous_run else { return Ok(None) };
    match snapshot::manifest(store, run).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        read => read,
    }
}

/// The last result for each scope, according to `newest` and the snapshots before it.
pub async fn last_results(
    store: &dyn Store,
    newest: &Manifest,
    scopes: BTreeSet<AskedScope>,
) -> Result<BTreeMap<AskedScope, LastResult>> {
    let mut found = BTreeMap::new();
    let mut left = scopes;
    let mut at = Some(newest.clone());
    for _ in 0..LOOKS_BACK {
        let Some(manifest) = at.filter(|_| !left.is_empty()) else { break };
        let ledger = match AnsweredScopes::read(store, &manifest).await {
            Ok(ledger) => ledger.unwrap_or_default(),
            Err(error) if error.is_unreadable() => {
                // The last result is unknown.
                let why = format!("the coverage of run {} cannot be read", manifest.run);
                found.extend(left.into_iter().map(|scope| (scope, LastResult::Open(why.clone()))));
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        left.retain(|scope| match ledger.last_result(&scope.names(), scope.publisher()) {
            LastResult::NotQueried => true,
            last_result => {
                found.insert(scope.clone(), last_result);
                false
            }
        });
        at = before(store, &manifest).await?;
    }
    found.extend(left.into_iter().map(|scope| (scope, LastResult::NotQueried)));
    Ok(found)
}
