//! The gallery and registry tables of a snapshot, read when a lookup first needs them.
//!
//! Each row keeps its text as in the table. The names that filters use are stored next to it and
//! interned, so that a filter compares each distinct name once and then tests rows by number.

mod entry;
mod moment;
mod query;
mod table;

pub(super) use entry::{
    DEFINITION, Entry, GALLERY, KINDS, OFFER, PUBLISHER, REGISTRY, REPOSITORY, SKU,
};
pub use table::RowTable;
