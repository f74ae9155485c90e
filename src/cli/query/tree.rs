//! The syntax tree of a query.

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

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Tree {
    /// The current value (`@`).
    Current,
    Literal(Value),
    Field(String),
    Index(i64),
    Slice([Option<i64>; 3]),
    /// Each expression is applied to the result of the one before.
    Chain(Vec<Self>),
    /// Like `Chain`, for indexes and slices. A slice directly after another of these does not start
    /// a projection.
    Places(Vec<Self>),
    Pipe(Box<[Self; 2]>),
    Flatten(Box<Self>),
    /// The second is applied to each element of the list that the first returns.
    Projection(Box<[Self; 2]>),
    /// The second is applied to each value of the object that the first returns.
    Values(Box<[Self; 2]>),
    /// The second is applied to each element of the list that the first returns, if the third is
    /// true for it.
    Filter(Box<[Self; 3]>),
    Compare(Comparison, Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    And(Box<[Self; 2]>),
    Not(Box<Self>),
    List(Vec<Self>),
    Object(Vec<(Arc<str>, Self)>),
    Call(Function, Vec<Self>),
    /// An expression passed to a function (`&`).
    Reference(Box<Self>),
}

impl Tree {
    /// The depth of the tree.
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
