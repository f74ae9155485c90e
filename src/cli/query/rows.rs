//! A query that is asked row by row: what of it looks at one row after the other, and what is left for all that these
//! found. A list that is only filtered and projected is printed while it is read, and its length takes no memory.
//!
//! Invariant: whoever is asked row by row finds what the whole list would have had found in it.

use super::found::Found;
use super::function::Function;
use super::search::{flat, one};
use super::tree::{Comparison, Tree};
use crate::error::Result;

/// A query in two parts.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ByRow {
    steps: Vec<Step>,
    /// What is looked for in the list of all that the steps found; nothing when that list is the answer.
    rest: Option<Tree>,
}

/// What is done to each of what the step before found.
#[derive(Debug, Clone)]
enum Step {
    Flatten,
    Each { tree: Tree, condition: Option<Tree> },
}

/// Takes a query apart.
pub(in crate::cli) fn split(tree: &Tree) -> ByRow {
    if let Some(steps) = steps(tree) {
        return ByRow { steps, rest: None };
    }
    let (steps, rest) = split_left(tree);
    ByRow { steps, rest: Some(rest) }
}

/// The steps that do what the tree does to a list, if that is all that it does.
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

/// The steps at the beginning of what a tree does, and the rest of it.
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
            // What a function is given besides may not look at the list.
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
    /// What the steps find in one row.
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

    /// Whether nothing is left to be looked for in the list of all that the steps found.
    pub(in crate::cli) fn is_all(&self) -> bool {
        self.rest.is_none()
    }

    /// The answer, from the list of all that the steps found.
    pub(in crate::cli) fn answer<'a>(&'a self, list: Found<'a>) -> Result<Found<'a>> {
        match &self.rest {
            Some(rest) => rest.search(&list),
            None => Ok(list),
        }
    }

    /// Whether it finds something in every row, or nothing, and never fails.
    pub(in crate::cli) fn is_sure(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Flatten => true,
            Step::Each { tree, condition } => {
                is_sure(tree) && condition.as_ref().is_none_or(is_sure)
            }
        })
    }

    /// Whether it is the number of what the steps find.
    pub(in crate::cli) fn is_length(&self) -> bool {
        let length = Tree::Call(Function::Length, vec![Tree::Current]);
        match &self.rest {
            Some(Tree::Pipe(both)) => both[0] == Tree::Current && both[1] == length,
            Some(rest) => *rest == length,
            None => false,
        }
    }

    /// How many of what the steps find are looked at, where that is known.
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

    /// The names of what each row found has, where these are the same for each.
    pub(in crate::cli) fn names(&self) -> Option<Vec<String>> {
        let last = self.steps.last()?;
        match (last, &self.rest) {
            (Step::Each { tree: Tree::Object(members), .. }, None) => {
                Some(members.iter().map(|(name, _)| (**name).to_owned()).collect())
            }
            _ => None,
        }
    }

    /// Whether what is found are rows as they are.
    pub(in crate::cli) fn is_whole_rows(&self) -> bool {
        self.rest.is_none()
            && self.steps.iter().all(|step| match step {
                Step::Flatten => true,
                Step::Each { tree, .. } => *tree == Tree::Current,
            })
    }
}

/// Whether a tree never fails, whatever it looks at.
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
