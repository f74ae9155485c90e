//! Evaluation of a query row by row: the steps that apply to each row, and the rest that needs the
//! results of all rows. A list that is only filtered and projected is printed while it is read, and
//! its length takes no memory.
//!
//! Invariant: the result is the same as for the whole list.

use super::found::Found;
use super::function::Function;
use super::search::{flat, one};
use super::tree::{Comparison, Tree};
use crate::error::Result;

/// A query split into the steps for each row and the rest.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ByRow {
    steps: Vec<Step>,
    /// Applied to the list of all results of the steps. `None` if that list is the result.
    rest: Option<Tree>,
}

/// A step applied to each result of the step before.
#[derive(Debug, Clone)]
enum Step {
    Flatten,
    Each { tree: Tree, condition: Option<Tree> },
}

/// Splits a query.
pub(in crate::cli) fn split(tree: &Tree) -> ByRow {
    if let Some(steps) = steps(tree) {
        return ByRow { steps, rest: None };
    }
    let (steps, rest) = split_left(tree);
    ByRow { steps, rest: Some(rest) }
}

/// The steps equivalent to the tree, if it consists of such steps only.
fn steps(tree: &Tree) -> Option<Vec<Step>> {
    let (left, step) = match tree {
        Tree::Current => return Some(Vec::new()),
        Tree::Flatten(left) => (&**left, Step::Flatten),
        Tree::Projection(both) => (&both[0], Step::Each { tree: both[1].clone(), condition: None }),
        Tree::Filter(parts) => {
            let (tree, condition) = (parts[1].clone(), Some(parts[2].clone()));
            (&parts[0], Step::Each { tree, condition })
        }
        _ => return None,
    };
    let mut all = steps(left)?;
    all.push(step);
    Some(all)
}

/// The leading steps of a tree, and the rest of it.
fn split_left(tree: &Tree) -> (Vec<Step>, Tree) {
    if let Some(steps) = steps(tree) {
        return (steps, Tree::Current);
    }
    let within = |left: &Tree, rest: &dyn Fn(Tree) -> Tree| {
        let (steps, inner) = split_left(left);
        (steps, rest(inner))
    };
    match tree {
        Tree::Pipe(both) => within(&both[0], &|left| Tree::Pipe(Box::new([left, both[1].clone()]))),
        Tree::Projection(both) => {
            within(&both[0], &|left| Tree::Projection(Box::new([left, both[1].clone()])))
        }
        Tree::Values(both) => {
            within(&both[0], &|left| Tree::Values(Box::new([left, both[1].clone()])))
        }
        Tree::Filter(parts) => within(&parts[0], &|left| {
            Tree::Filter(Box::new([left, parts[1].clone(), parts[2].clone()]))
        }),
        Tree::Flatten(left) => within(left, &|left| Tree::Flatten(Box::new(left))),
        Tree::Chain(parts) | Tree::Places(parts) => within(&parts[0], &|left| {
            let parts = std::iter::once(left).chain(parts[1..].iter().cloned()).collect();
            if matches!(tree, Tree::Chain(_)) { Tree::Chain(parts) } else { Tree::Places(parts) }
        }),
        Tree::Call(function, arguments) => {
            // The other arguments of a function must not depend on the list.
            let mut looks = arguments
                .iter()
                .enumerate()
                .filter(|(_, tree)| !matches!(tree, Tree::Literal(_) | Tree::Reference(_)));
            match (looks.next(), looks.next()) {
                (Some((at, left)), None) => within(left, &|left| {
                    let mut arguments = arguments.clone();
                    arguments[at] = left;
                    Tree::Call(*function, arguments)
                }),
                _ => (Vec::new(), tree.clone()),
            }
        }
        _ => (Vec::new(), tree.clone()),
    }
}

impl ByRow {
    /// The results of the steps for one row.
    pub(in crate::cli) fn search<'a>(&'a self, row: Found<'a>) -> Result<Vec<Found<'a>>> {
        let mut found = vec![row];
        for step in &self.steps {
            let mut next = Vec::new();
            for item in found {
                match step {
                    Step::Flatten => next.extend(flat(item)),
                    Step::Each { tree, condition } => {
                        next.extend(one(item, tree, condition.as_ref())?);
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Whether the results of the steps are the final result.
    pub(in crate::cli) fn is_all(&self) -> bool {
        self.rest.is_none()
    }

    /// The final result, from the list of all results of the steps.
    pub(in crate::cli) fn answer<'a>(&'a self, list: Found<'a>) -> Result<Found<'a>> {
        match &self.rest {
            Some(rest) => rest.search(&list),
            None => Ok(list),
        }
    }

    /// Whether the steps never fail, whatever the row.
    pub(in crate::cli) fn is_sure(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Flatten => true,
            Step::Each { tree, condition } => {
                is_sure(tree) && condition.as_ref().is_none_or(is_sure)
            }
        })
    }

    /// Whether the final result is the number of results of the steps.
    pub(in crate::cli) fn is_length(&self) -> bool {
        let length = Tree::Call(Function::Length, vec![Tree::Current]);
        match &self.rest {
            Some(Tree::Pipe(both)) => both[0] == Tree::Current && both[1] == length,
            Some(rest) => *rest == length,
            None => false,
        }
    }

    /// The number of results of the steps that the rest looks at, if it is bounded.
    pub(in crate::cli) fn most(&self) -> Option<usize> {
        let place = |tree: &Tree| match tree {
            Tree::Places(parts) => match parts[..] {
                [Tree::Current, Tree::Index(at), ..] => usize::try_from(at).ok()?.checked_add(1),
                [Tree::Current, Tree::Slice([from, Some(until), step]), ..] => {
                    let forward = step.is_none_or(|step| step > 0) && from.is_none_or(|at| at >= 0);
                    if forward { usize::try_from(until).ok() } else { None }
                }
                _ => None,
            },
            _ => None,
        };
        let mut tree = self.rest.as_ref()?;
        loop {
            tree = match tree {
                Tree::Places(parts) if parts[0] == Tree::Current => return place(tree),
                Tree::Pipe(both) if both[0] == Tree::Current => &both[1],
                Tree::Pipe(both) | Tree::Projection(both) => &both[0],
                Tree::Filter(parts) => &parts[0],
                Tree::Chain(parts) | Tree::Places(parts) => &parts[0],
                _ => return None,
            };
        }
    }

    /// The member names of each result, if they are the same for all rows.
    pub(in crate::cli) fn names(&self) -> Option<Vec<String>> {
        let last = self.steps.last()?;
        match (last, &self.rest) {
            (Step::Each { tree: Tree::Object(members), .. }, None) => {
                Some(members.iter().map(|(name, _)| (**name).to_owned()).collect())
            }
            _ => None,
        }
    }

    /// Whether the results are unchanged rows.
    pub(in crate::cli) fn is_whole_rows(&self) -> bool {
        self.rest.is_none()
            && self.steps.iter().all(|step| match step {
                Step::Flatten => true,
                Step::Each { tree, .. } => *tree == Tree::Current,
            })
    }
}

/// Whether a tree never fails, whatever the value.
fn is_sure(tree: &Tree) -> bool {
    match tree {
        Tree::Current | Tree::Literal(_) | Tree::Field(_) | Tree::Index(_) | Tree::Slice(_) => true,
        Tree::Chain(parts) | Tree::Places(parts) | Tree::List(parts) => parts.iter().all(is_sure),
        Tree::Flatten(inner) | Tree::Not(inner) => is_sure(inner),
        Tree::Pipe(both)
        | Tree::Projection(both)
        | Tree::Values(both)
        | Tree::Or(both)
        | Tree::And(both)
        | Tree::Compare(Comparison::Equal | Comparison::NotEqual, both) => both.iter().all(is_sure),
        Tree::Filter(parts) => parts.iter().all(is_sure),
        Tree::Object(members) => members.iter().all(|(_, tree)| is_sure(tree)),
        Tree::Call(function, arguments) => function.is_sure() && arguments.iter().all(is_sure),
        Tree::Compare(..) | Tree::Reference(_) => false,
    }
}
