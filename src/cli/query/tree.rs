//! The tree of a query: what is asked for.

use super::function::Function;
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Tree {
    /// What is looked at.
    Current,
    Literal(Value),
    Field(String),
    Index(i64),
    Slice([Option<i64>; 3]),
    /// Each of these on what the one before found.
    Chain(Vec<Self>),
    /// The same, of places in lists; what is chained to it by another place is none of a projection.
    Places(Vec<Self>),
    Pipe(Box<[Self; 2]>),
    Flatten(Box<Self>),
    /// The second on each element of the list that the first finds.
    Projection(Box<[Self; 2]>),
    /// The second on each value of the object that the first finds.
    Values(Box<[Self; 2]>),
    /// The second on each element of the list that the first finds, where the third holds.
    Filter(Box<[Self; 3]>),
    Compare(Comparison, Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    And(Box<[Self; 2]>),
    Not(Box<Self>),
    List(Vec<Self>),
    Object(Vec<(Arc<str>, Self)>),
    Call(Function, Vec<Self>),
    /// A tree that a function is given.
    Reference(Box<Self>),
}

impl Tree {
    /// How many trees are within each other.
    pub(super) fn depth(&self) -> usize {
        let deepest = |trees: &[Self]| trees.iter().map(Self::depth).max().unwrap_or(0);
        1 + match self {
            Self::Current | Self::Literal(_) | Self::Field(_) | Self::Index(_) | Self::Slice(_) => {
                0
            }
            Self::Chain(parts) | Self::Places(parts) | Self::List(parts) => deepest(parts),
            Self::Call(_, arguments) => deepest(arguments),
            Self::Flatten(inner) | Self::Not(inner) | Self::Reference(inner) => inner.depth(),
            Self::Pipe(both)
            | Self::Projection(both)
            | Self::Values(both)
            | Self::Compare(_, both)
            | Self::Or(both)
            | Self::And(both) => deepest(&both[..]),
            Self::Filter(parts) => deepest(&parts[..]),
            Self::Object(members) => {
                members.iter().map(|(_, tree)| tree.depth()).max().unwrap_or(0)
            }
        }
    }
}
