//! A model of the snapshots of overlapping runs. It derives independently what each snapshot must
//! show: from the names of outcomes, from the closings, and from the state of the world. It also
//! checks that every snapshot is whole and follows the one before, and that its changes lead from
//! one to the other.

mod feed;
mod shown;
mod tables;

use super::worlds::Cell;
use azimg::testing::pipeline::snapshot::Manifest;
use azimg::testing::work::{Outcome, Plan, RunId, SourceName};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

pub type Contents = BTreeMap<String, Bytes>;

/// Whether rows must be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Yes,
    No,
    /// Its run failed to get an answer that a newer run had got.
    Either,
}

/// The run that saw a part last, with the state of the world, and whether its rows are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    by: Option<(RunId, usize)>,
    stale: Stale,
}

/// The result of a run's request for a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    No,
    InVain,
    Answered(usize),
}

/// The end of a work item.
#[derive(Debug)]
struct Ended {
    /// The state of the world.
    state: usize,
    /// The step.
    step: usize,
    outcome: Outcome,
    /// It was done again after it was damaged.
    is_redone: bool,
}

#[derive(Debug)]
struct Run {
    /// Its number in the order of the starts.
    number: usize,
    plan: Plan,
    /// The steps in which it was closed, by the name of the closing.
    closed: BTreeMap<String, usize>,
    is_published: bool,
}

/// A damaged snapshot: the step, and whether a table was damaged. A run that builds on the snapshot
/// need not read the rest, and a damaged manifest may still lead to whole tables.
#[derive(Debug)]
struct Broken {
    step: usize,
    is_needed: bool,
}

/// The items given up when a run was closed, and the step of the closing.
#[derive(Debug)]
struct GivenUp {
    step: usize,
    items: BTreeSet<String>,
}

type Table = BTreeMap<Cell, Vec<Seen>>;

/// All that is known of a store, step by step.
#[derive(Debug, Default)]
pub struct Chain {
    step: usize,
    runs: BTreeMap<RunId, Run>,
    /// The objects of work items, with the state of the world and the step in which they were
    /// written.
    objects: BTreeMap<String, (Bytes, usize, usize)>,
    ended: BTreeMap<(RunId, String), Ended>,
    tables: BTreeMap<RunId, Table>,
    /// Runs in the order in which they became the current one.
    order: Vec<RunId>,
    broken: BTreeMap<RunId, Broken>,
    /// The damaged content of `current.json`.
    broken_current: Option<Bytes>,
    /// Objects damaged on purpose, which must not be reported.
    damaged: BTreeSet<String>,
    whole: BTreeMap<String, usize>,
}

fn json<T: serde::de::DeserializeOwned>(contents: &Contents, name: &str) -> Option<T> {
    serde_json::from_slice(contents.get(name)?).ok()
}

fn name(source: SourceName, item: &str) -> String {
    format!("{source}/{item}")
}

/// The run and the rest of a name below `runs/`.
fn of_run(object: &str) -> Option<(RunId, &str)> {
    let (run, rest) = object.strip_prefix("runs/")?.split_once('/')?;
    Some((run.parse().ok()?, rest))
}

/// The snapshot that precedes that of `run`.
fn previous(contents: &Contents, run: RunId) -> Option<RunId> {
    let manifest: Manifest = json(contents, &format!("snapshots/{run}/manifest.json")).unwrap();
    manifest.previous_run
}

impl Chain {
    /// The runs in the order of their starts.
    pub fn runs(&self) -> Vec<RunId> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_by_key(|run| run.number);
        runs.iter().map(|run| run.plan.run).collect()
    }

    /// The runs that have started and whose snapshots have never been the current one.
    pub fn under_way(&self) -> Vec<RunId> {
        self.runs().into_iter().filter(|run| !self.order.contains(run)).collect()
    }

    /// The runs in the order in which their snapshots became the current one.
    pub fn order(&self) -> &[RunId] {
        &self.order
    }

    /// Examines the store after a step in which the world was in `state`.
    pub fn look(&mut self, contents: &Contents, state: usize) {
        self.step += 1;
        self.begun(contents);
        self.kept(contents);
        self.items(contents, state);
        for object in contents.keys() {
            let Some((run, rest)) = of_run(object) else { continue };
            if rest.starts_with("closing") {
                let step = self.step;
                let run = self.runs.get_mut(&run).expect("a run without a plan was closed");
                run.closed.entry(object.clone()).or_insert(step);
            }
        }
        self.verify(contents);
        let mut manifests: Vec<Manifest> = Vec::new();
        for (run, known) in &self.runs {
            let manifest = || json(contents, &format!("snapshots/{run}/manifest.json"));
            manifests.extend((!known.is_published).then(manifest).flatten());
        }
        while !manifests.is_empty() {
            // Several may have been published in one step. A base comes before what is built on it.
            let is_next =
                |m: &Manifest| m.previous_run.is_none_or(|b| self.tables.contains_key(&b));
            let next = manifests.iter().position(is_next);
            let next = next.unwrap_or_else(|| panic!("what are they built on? {manifests:?}"));
            self.published(contents, &manifests.swap_remove(next));
        }
        self.current(contents);
    }

    fn begun(&mut self, contents: &Contents) {
        for object in contents.keys().filter(|name| name.ends_with("/plan.json")) {
            let (run, _) = of_run(object).unwrap();
            let number = self.runs.len();
            let begun = || Run {
                number,
                plan: json(contents, object).unwrap(),
                closed: BTreeMap::new(),
                is_published: false,
            };
            self.runs.entry(run).or_insert_with(begun);
        }
    }

    /// Checks that nothing of a run under way was removed, except damaged objects and their
    /// consequences.
    fn kept(&self, contents: &Contents) {
        for run in self.under_way() {
            // A published run needs none of its objects to become the current one.
            let manifest = format!("snapshots/{run}/manifest.json");
            assert!(
                contents.contains_key(&manifest)
                    || contents.contains_key(&format!("runs/{run}/plan.json")),
                "{run}: its plan is gone"
            );
        }
        if self.damaged.iter().any(|name| name.starts_with("runs/")) {
            return;
        }
        for object in self.objects.keys().filter(|name| !contents.contains_key(*name)) {
            let (run, _) = of_run(object).unwrap();
            let is_published = contents.contains_key(&format!("snapshots/{run}/manifest.json"));
            // A shard that was written after its item ended without rows does not count, and is
            // withdrawn.
            let is_late = self.ended.iter().any(|((of, item), ended)| {
                *of == run
                    && ended.outcome.rows == 0
                    && object.ends_with(&format!("/shards/{item}.ndjson.zst"))
            });
            let is_over = is_published || is_late || self.order.contains(&run);
            assert!(is_over, "{object} is gone, and its run is still going");
        }
    }

    /// Records which items have ended.
    fn items(&mut self, contents: &Contents, state: usize) {
        let is_there = |name: &String| contents.contains_key(name);
        self.objects.retain(|name, _| is_there(name));
        for (object, bytes) in contents {
            let Some((_, rest)) = of_run(object) else { continue };
            if !rest.starts_with("shards/") && !rest.starts_with("outcomes/") {
                continue;
            }
            let known = self.objects.get(object).is_some_and(|(known, ..)| known == bytes);
            if !known {
                self.objects.insert(object.clone(), (bytes.clone(), state, self.step));
            }
        }
        let mut ended = BTreeMap::new();
        for (object, (_, state, step)) in &self.objects {
            let (run, rest) = of_run(object).unwrap();
            let Some(rest) = rest.strip_prefix("outcomes/") else { continue };
            let item = rest.strip_suffix(".json").unwrap();
            let item = item.strip_suffix(".parent").unwrap_or(item).to_owned();
            let shard = format!("runs/{run}/shards/{item}.ndjson.zst");
            // An outcome may be taken from a shard that was written earlier.
            let state = self.objects.get(&shard).map_or(*state, |(_, state, _)| *state);
            let Some(outcome) = json(contents, object) else { continue };
            let is_redone = self.damaged.contains(&shard) || self.damaged.contains(object);
            ended.insert((run, item), Ended { state, step: *step, outcome, is_redone });
        }
        // Outcomes that were removed with their run existed when it was published.
        let gone = |run: &RunId| {
            self.order.contains(run) && !contents.contains_key(&format!("runs/{run}/plan.json"))
        };
        self.ended.retain(|(run, _), _| gone(run));
        self.ended.extend(ended);
    }

    /// Checks that every snapshot has the contents that its manifest names.
    pub fn verify(&mut self, contents: &Contents) {
        for (object, bytes) in contents {
            let is_manifest =
                object.starts_with("snapshots/") && object.ends_with("/manifest.json");
            if !is_manifest || self.damaged.contains(object) {
                continue;
            }
            let manifest: Value = serde_json::from_slice(bytes).unwrap();
            let folder = object.strip_suffix("manifest.json").unwrap();
            for file in manifest["files"].as_array().unwrap() {
                let object = format!("{folder}{}", file["name"].as_str().unwrap());
                if self.damaged.contains(&object) {
                    continue;
                }
                let found =
                    contents.get(&object).unwrap_or_else(|| panic!("{object} is not there"));
                let at = found.as_ptr() as usize;
                if self.whole.get(&object) == Some(&at) {
                    continue;
                }
                let sum: String =
                    Sha256::digest(found).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(file["sha256"], sum, "{object} is not what its manifest names");
                assert_eq!(file["bytes"], found.len(), "{object}");
                self.whole.insert(object, at);
            }
        }
        let current = contents.get("current.json");
        if let Some(current) = current.filter(|bytes| self.broken_current.as_ref() != Some(*bytes))
        {
            let current: Value = serde_json::from_slice(current).unwrap();
            let manifest = current["manifest"].as_str().unwrap();
            assert!(contents.contains_key(manifest), "current.json names {manifest}");
        }
    }

    fn current(&mut self, contents: &Contents) {
        let Some(current) = contents.get("current.json") else { return };
        if self.broken_current.as_ref() == Some(current) {
            return;
        }
        self.broken_current = None;
        let current: Value = serde_json::from_slice(current).unwrap();
        let run: RunId = current["run"].as_str().unwrap().parse().unwrap();
        if self.order.last() == Some(&run) {
            return;
        }
        // Several snapshots may have become the current one in a single step.
        let mut links = vec![(run, previous(contents, run))];
        while let Some((_, Some(before))) = links.last().copied()
            && !self.order.contains(&before)
        {
            links.push((before, previous(contents, before)));
        }
        for (run, previous) in links.into_iter().rev() {
            assert!(!self.order.contains(&run), "{run} is the current one again");
            let bases = self.bases(run);
            assert!(
                bases.contains(&previous),
                "{run} follows {previous:?}, and not one of {bases:?}"
            );
            self.order.push(run);
        }
    }

    /// The possible bases of a snapshot that becomes the current one: the one before, or the newest
    /// whole one.
    fn bases(&self, run: RunId) -> Vec<Option<RunId>> {
        let mut bases = Vec::new();
        for base in self.order.iter().rev() {
            let Some(broken) = self.broken.get(base) else {
                bases.push(Some(*base));
                return bases;
            };
            let closing = self.runs[&run].closed.get(&format!("runs/{run}/closing-{base}.json"));
            // A run closed on this base before the damage may have been built before it.
            if !broken.is_needed || closing.is_some_and(|step| *step <= broken.step) {
                bases.push(Some(*base));
            }
        }
        bases.push(None);
        bases
    }

    /// Records that an object was damaged on purpose and now contains `bytes`.
    pub fn damage(&mut self, object: &str, bytes: &Bytes) {
        self.damaged.insert(object.to_owned());
        if let Some((known, ..)) = self.objects.get_mut(object) {
            known.clone_from(bytes);
        }
        let step = self.step;
        if object == "current.json" {
            self.broken_current = Some(bytes.clone());
        }
        if let Some((run, file)) = object.strip_prefix("snapshots/").and_then(|o| o.split_once('/'))
        {
            let is_table = file.ends_with(".ndjson.zst") && !file.starts_with("changes");
            self.broken.insert(run.parse().unwrap(), Broken { step, is_needed: is_table });
        }
    }
}
