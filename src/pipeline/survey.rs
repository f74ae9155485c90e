//! The progress of a run: which items are expected, have ended, or are missing.
//!
//! Almost everything follows from names: only outcomes with children are read.

use super::closing::GivenUp;
use super::{are_of, read_details_plan, read_json};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{Outcome, Plan, RunId, SourceName, WorkItem};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet};

/// The progress of a run.
#[derive(Debug, Default)]
pub struct Survey {
    /// Items that have ended, parents before their children.
    pub ended: Vec<WorkItem>,
    /// Items that are expected and have not ended.
    pub missing: Vec<WorkItem>,
    /// Outcomes with children, by source and item id. The children are also among the items.
    pub parents: HashMap<(SourceName, String), Outcome>,
    /// Whether the second round, which fetches details, has been planned.
    pub details_planned: bool,
    /// What is wrong with the shards of items that had ended when the run was closed, by source and
    /// item id.
    pub damaged: HashMap<(SourceName, String), String>,
}

/// Treats a damaged document of a run as absent, so that it is created again.
fn absent_if_damaged<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "a damaged document of a run is recreated");
            Ok(None)
        }
        read => read,
    }
}

/// Reads how an item ended, if it has. The outcome is damaged if it belongs to another item or
/// lists children of another run.
pub async fn read_outcome(
    store: &dyn Store,
    (run, source, item): (RunId, SourceName, &str),
    parent: bool,
) -> Result<Option<Outcome>> {
    let key = Key::Outcome { run, source, item: item.to_owned(), parent };
    let outcome: Option<Outcome> = read_json(store, &key).await?;
    let is_its = |outcome: &Outcome| outcome.scope.id() == item && are_of(&outcome.children, run);
    match outcome {
        Some(outcome) if !is_its(&outcome) => {
            let address = store.address();
            Err(Error::corrupt(format!("{address}/{key}: damaged (its names do not match)")))
        }
        outcome => Ok(outcome),
    }
}

/// Reads the progress of `plan`'s run.
pub async fn survey(store: &dyn Store, plan: &Plan) -> Result<Survey> {
    survey_closed(store, plan, &[]).await
}

/// Reads the progress of `plan`'s run as it counts for its snapshot: items that were given up when
/// the run was closed have not ended, even if they did later.
pub async fn survey_closed(store: &dyn Store, plan: &Plan, given_up: &[GivenUp]) -> Result<Survey> {
    let mut roots = plan.items.clone();
    let details: Option<Vec<WorkItem>> =
        absent_if_damaged(read_details_plan(store, plan.run).await)?;
    let mut survey = Survey { details_planned: details.is_some(), ..Survey::default() };
    roots.extend(details.unwrap_or_default());

    let sources: HashSet<SourceName> = roots.iter().map(|item| item.source).collect();
    let mut leaves = HashSet::new();
    for source in sources {
        let mut parents = Vec::new();
        for entry in store.list(&Key::outcomes_prefix(plan.run, source)).await? {
            match Key::parse_outcome(&entry.name, plan.run, source) {
                Some((item, true)) => parents.push(item.to_owned()),
                Some((item, false)) => {
                    leaves.insert((source, item.to_owned()));
                }
                None => {}
            }
        }
        let run = plan.run;
        let read: Vec<_> = stream::iter(parents)
            .map(|item| async move {
                let outcome =
                    absent_if_damaged(read_outcome(store, (run, source, &item), true).await)?;
                Ok::<_, crate::error::Error>(outcome.map(|outcome| ((source, item), outcome)))
            })
            .buffer_unordered(16)
            .try_collect()
            .await?;
        survey.parents.extend(read.into_iter().flatten());
    }
    for GivenUp { source, item, damage } in given_up {
        let name = (*source, item.clone());
        if let Some(damage) = damage {
            survey.damaged.insert(name, damage.clone());
        } else {
            leaves.remove(&name);
            survey.parents.remove(&name);
        }
    }
    survey.walk(roots, &leaves);
    Ok(survey)
}

impl Survey {
    fn walk(&mut self, mut open: Vec<WorkItem>, leaves: &HashSet<(SourceName, String)>) {
        let mut seen = HashSet::new();
        open.reverse();
        while let Some(item) = open.pop() {
            let name = (item.source, item.item.clone());
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(parent) = self.parents.get_mut(&name) {
                open.extend(std::mem::take(&mut parent.children).into_iter().rev());
                self.ended.push(item);
            } else if leaves.contains(&name) {
                self.ended.push(item);
            } else {
                self.missing.push(item);
            }
        }
    }

    /// The number of known items.
    pub fn expected(&self) -> usize {
        self.ended.len() + self.missing.len()
    }
}
