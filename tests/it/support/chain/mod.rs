//! A model of the snapshots of overlapping runs. It derives independently what each snapshot must
//! show: from the names of outcomes, from the closings, and from the state of the world. It also
//! checks that every snapshot is whole and follows the one before, and that its changes lead from
//! one to the other.

mod feed;

use super::worlds::{CELLS, Cell, WORLDS, cells, rows};
use azimg::pipeline::snapshot::Manifest;
use azimg::work::{GalleryScope, Outcome, Plan, RegistryScope, RunId, Scope, SourceName, WorkItem};
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

    /// The end of an item, or `None` if it does not count. Both if that is undecided.
    fn counts(&self, run: &Run, item: &WorkItem, given_up: &GivenUp) -> Vec<Option<&Ended>> {
        let name = name(item.source, &item.item);
        match self.ended.get(&(run.plan.run, name.clone())) {
            Some(ended) if ended.is_redone => vec![Some(ended), None],
            Some(ended) if !ended.outcome.state.is_complete() => vec![None],
            Some(_) if given_up.items.contains(&name) => vec![None],
            Some(ended) => {
                assert!(
                    ended.step <= given_up.step,
                    "{name} ended after its run was closed without it"
                );
                vec![Some(ended)]
            }
            None => vec![None],
        }
    }

    /// The possible results of a run's request for a part.
    fn asked(&self, run: &Run, cell: &Cell, given_up: &GivenUp) -> BTreeSet<Asked> {
        let is_root = |item: &&WorkItem| match (cell, &item.scope) {
            (Cell::Publisher(place, _), Scope::Location { location, .. }) => location == place,
            (
                Cell::Gallery(_) | Cell::Managed,
                Scope::Gallery(GalleryScope::Subscription { .. }),
            ) => true,
            (Cell::Repository(_), Scope::Registry(scope)) => {
                matches!(scope, RegistryScope::Registries { .. } | RegistryScope::Registry { .. })
            }
            _ => false,
        };
        let only = &run.plan.request.publishers;
        if let Cell::Publisher(_, publisher) = cell
            && !only.is_empty()
            && !only.iter().any(|only| publisher.contains(only.as_str()))
        {
            return [Asked::No].into();
        }
        let Some(root) = run.plan.items.iter().find(is_root) else { return [Asked::No].into() };
        self.below(run, root, cell, given_up)
    }

    fn below(
        &self,
        run: &Run,
        item: &WorkItem,
        cell: &Cell,
        given_up: &GivenUp,
    ) -> BTreeSet<Asked> {
        let leads = |child: &&WorkItem| match (cell, &child.scope) {
            (Cell::Publisher(_, name), Scope::Publisher { publisher, .. }) => publisher == name,
            (Cell::Gallery(name), Scope::Gallery(GalleryScope::Gallery { own, .. })) => {
                own.gallery == *name
            }
            (Cell::Repository(_), Scope::Registry(RegistryScope::Registry { .. })) => true,
            (
                Cell::Repository(name),
                Scope::Registry(RegistryScope::Repositories { repositories, .. }),
            ) => repositories.contains(name),
            _ => false,
        };
        let mut asked = BTreeSet::new();
        for ended in self.counts(run, item, given_up) {
            match ended {
                None => {
                    asked.insert(Asked::InVain);
                }
                Some(ended) => match ended.outcome.children.iter().find(leads) {
                    Some(child) => asked.extend(self.below(run, child, cell, given_up)),
                    None => {
                        asked.insert(Asked::Answered(ended.state));
                    }
                },
            }
        }
        asked
    }

    /// Whether one run's answers are newer than another's. Both values if the clocks contradict the
    /// actual order.
    fn newer(&self, one: RunId, other: RunId) -> Vec<bool> {
        let (one, other) = (&self.runs[&one], &self.runs[&other]);
        let by_clock =
            (one.plan.started_at, one.plan.run) > (other.plan.started_at, other.plan.run);
        let truly = one.number > other.number;
        if by_clock == truly { vec![truly] } else { vec![truly, by_clock] }
    }

    /// What a part may show after a run whose request for it had this result.
    fn after(&self, run: RunId, before: Seen, asked: Asked) -> Vec<Seen> {
        let newer = before.by.map_or_else(|| vec![false], |(by, _)| self.newer(by, run));
        let each = newer.into_iter().map(|newer| match (asked, newer) {
            (Asked::No, _) | (Asked::Answered(_), true) => Seen { stale: Stale::No, ..before },
            (Asked::InVain, true) => Seen { stale: Stale::Either, ..before },
            (Asked::InVain, false) => Seen { stale: Stale::Yes, ..before },
            (Asked::Answered(state), false) => Seen { by: Some((run, state)), stale: Stale::No },
        });
        each.collect()
    }

    /// The items given up. `None` if the objects of the run were removed in the same step in which
    /// its snapshot appeared, because newer snapshots had been published in the meantime.
    fn given_up(&self, contents: &Contents, run: &Run, base: Option<RunId>) -> Option<GivenUp> {
        let id = run.plan.run;
        let object = base.map_or_else(
            || format!("runs/{id}/closing.json"),
            |base| format!("runs/{id}/closing-{base}.json"),
        );
        let is_removed = !contents.contains_key(&format!("runs/{id}/plan.json"));
        let closing: Option<Value> = json(contents, &object);
        assert!(is_removed || closing.is_some(), "{object} is not there");
        let closing = closing?;
        let step = run.closed[&object];
        let mut given_up = BTreeSet::new();
        for item in closing["givenUp"].as_array().into_iter().flatten() {
            let text = |name: &str| item[name].as_str().unwrap();
            let item_name = format!("{}/{}", text("source"), text("item"));
            let ended = self.ended.get(&(id, item_name.clone()));
            assert!(
                ended.is_none_or(|ended| ended.is_redone || ended.step >= step),
                "{id}: {item_name} had ended, and was given up"
            );
            given_up.insert(item_name);
        }
        Some(GivenUp { step, items: given_up })
    }

    /// Checks the tables of a new snapshot.
    fn published(&mut self, contents: &Contents, manifest: &Manifest) {
        let id = manifest.run;
        let base = manifest.previous_run;
        assert_ne!(base, Some(id), "it is built on itself");
        let before = base.map(|base| &self.tables[&base]);
        let run = &self.runs[&id];
        let given_up = self.given_up(contents, run, base);
        let actual = Shown::read(contents, &id.to_string());
        let mut table = Table::new();
        for cell in CELLS.iter() {
            let unseen = vec![Seen { by: None, stale: Stale::No }];
            let seen = before.map_or(&unseen, |before| &before[cell]);
            let anything = || {
                let answered = (0..WORLDS.len()).map(Asked::Answered);
                answered.chain([Asked::No, Asked::InVain]).collect()
            };
            let asked = given_up.as_ref().map_or_else(anything, |up| self.asked(run, cell, up));
            let mut may: Vec<Seen> = Vec::new();
            for before in seen {
                may.extend(asked.iter().flat_map(|asked| self.after(id, *before, *asked)));
            }
            may.sort_unstable();
            may.dedup();
            let all = may.clone();
            may.retain(|seen| actual.is_as(cell, *seen));
            assert!(
                !may.is_empty(),
                "{id} (number {}) on {base:?}: {cell:?} is to be as one of {all:?} (before: {seen:?}, \
                 asked: {asked:?}), and is {:?}",
                run.number,
                actual.of(cell)
            );
            table.insert(cell.clone(), may);
        }
        actual.check_joined(&table);
        if let Some(base) = base.filter(|base| !self.broken.contains_key(base)) {
            feed::check(contents, &base.to_string(), &id.to_string());
        }
        self.tables.insert(id, table);
        self.runs.get_mut(&id).unwrap().is_published = true;
    }
}

/// Whether a version of a publisher is, in any state of the world, in another location than that of
/// `cell`.
fn is_in_several(cell: &Cell, id: &str) -> bool {
    let Cell::Publisher(place, publisher) = cell else { return false };
    WORLDS.iter().flat_map(|world| &world.cells).any(|(other, rows)| match other {
        Cell::Publisher(at, of) => at != place && of == publisher && rows.contains_key(id),
        _ => false,
    })
}

/// The content of a snapshot.
struct Shown {
    cells: super::worlds::Cells,
    /// Rows by id, each belonging to one or more parts.
    rows: BTreeMap<String, Value>,
}

impl Shown {
    fn read(contents: &Contents, run: &str) -> Self {
        let all = super::worlds::SOURCES.iter().flat_map(|table| rows(contents, run, table));
        let rows = all.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect();
        Self { cells: cells(contents, run), rows }
    }

    fn of(&self, cell: &Cell) -> Vec<&Value> {
        let ids = self.cells.get(cell).into_iter().flat_map(BTreeMap::keys);
        ids.map(|id| &self.rows[id]).collect()
    }

    fn is_as(&self, cell: &Cell, seen: Seen) -> bool {
        let nothing = BTreeMap::new();
        let expected = seen.by.and_then(|(_, state)| WORLDS[state].cells.get(cell));
        if self.cells.get(cell).unwrap_or(&nothing) != expected.unwrap_or(&nothing) {
            return false;
        }
        self.of(cell).iter().all(|row| {
            let is_joined = row["locations"].as_array().is_some_and(|l| l.len() > 1);
            let is_joined = is_joined && matches!(cell, Cell::Publisher(..));
            let is_stale = row["stale"].as_bool().unwrap();
            let is_right = match seen.stale {
                Stale::Either => true,
                Stale::Yes => is_stale,
                // A row with several locations may be stale because of another one.
                Stale::No => is_joined || !is_stale,
            };
            let by = seen.by.map(|(run, _)| run.to_string());
            // The run that saw it last may have seen it in another location, where it no longer is.
            let was_joined = is_joined || is_in_several(cell, row["id"].as_str().unwrap());
            is_right && (was_joined || row["observedRun"].as_str() == by.as_deref())
        })
    }

    /// Checks that each row of several parts agrees with one of them.
    fn check_joined(&self, table: &Table) {
        let mut newest: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
        for row in
            self.rows.values().filter(|row| row["offer"].is_string() && row["gallery"].is_null())
        {
            let Some(publisher) = row["publisher"].as_str() else { continue };
            let places = row["locations"].as_array().unwrap().iter();
            let seen: Vec<&Seen> = places
                .flat_map(|place| {
                    let place = place.as_str().unwrap().to_owned();
                    &table[&Cell::Publisher(place, publisher.to_owned())]
                })
                .collect();
            let by = |seen: &&&Seen| {
                seen.by.is_some_and(|(run, _)| row["observedRun"] == run.to_string())
            };
            // The run that saw it last may have seen it in another location, where it no longer is.
            let place = row["locations"][0].as_str().unwrap().to_owned();
            let cell = Cell::Publisher(place, publisher.to_owned());
            let is_right = is_in_several(&cell, row["id"].as_str().unwrap())
                || seen.iter().any(|seen| by(&seen));
            assert!(is_right, "{row} was seen by another: {seen:?}");
            let may_be_stale = seen.iter().any(|seen| seen.stale != Stale::No);
            assert!(may_be_stale || row["stale"] == false, "{row} is not stale: {seen:?}");
            let id = row["id"].as_str().unwrap();
            let (sku, version) = id.rsplit_once(':').unwrap();
            let version: u32 = version.rsplit('.').next().unwrap().parse().unwrap();
            let newest = newest.entry(sku).or_insert((version, id));
            *newest = (*newest).max((version, id));
        }
        for (_, id) in newest.values() {
            assert_eq!(self.rows[*id]["isLatest"], true, "{id}");
        }
        let latest = |row: &&Value| {
            row["isLatest"] == true && row["gallery"].is_null() && row["sku"].is_string()
        };
        assert_eq!(self.rows.values().filter(latest).count(), newest.len());
    }
}
