//! What a run knows of each part of the world: asked in vain, answered, or seen by a run before it.

use super::super::worlds::{CELLS, Cell, WORLDS};
use super::shown::Shown;
use super::{Asked, Chain, Contents, Ended, GivenUp, Run, Seen, Stale, Table, feed, json, name};
use azimg::testing::pipeline::snapshot::Manifest;
use azimg::testing::work::{GalleryScope, RegistryScope, RunId, Scope, WorkItem};
use serde_json::Value;
use std::collections::BTreeSet;

impl Chain {
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
    pub(super) fn published(&mut self, contents: &Contents, manifest: &Manifest) {
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
