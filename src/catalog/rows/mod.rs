//! The gallery and registry tables of a snapshot, read once when a lookup first needs them.
//!
//! Rows are kept as the text they have in the table, with the names that filters look at beside them,
//! each kept once: a list compares names once and rows by number.

mod entry;
mod moment;
mod query;
mod table;

pub(super) use entry::{
    DEFINITION, Entry, GALLERY, KINDS, OFFER, PUBLISHER, REGISTRY, REPOSITORY, SKU,
};
pub use table::RowTable;
