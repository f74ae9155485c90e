//! The data of a gallery or registry row that is available without parsing its text.

use crate::image::{Status, registry};
use time::OffsetDateTime;

/// The kinds of rows, indexed by [`Entry::kind`].
pub(in crate::catalog) const KINDS: [&str; 4] =
    ["gallery-definition", "gallery-version", "managed-image", registry::KIND];

/// The kind whose rows may be the latest of a definition.
pub(super) const VERSION_KIND: &str = KINDS[1];

/// The columns that filters use; each is an index into [`Entry::names`].
pub(super) const COLUMNS: usize = 12;
pub(in crate::catalog) const PUBLISHER: usize = 0;
pub(in crate::catalog) const OFFER: usize = 1;
pub(in crate::catalog) const SKU: usize = 2;
pub(super) const VERSION: usize = 3;
pub(in crate::catalog) const GALLERY: usize = 4;
pub(in crate::catalog) const DEFINITION: usize = 5;
pub(super) const SUBSCRIPTION: usize = 6;
pub(in crate::catalog) const REGISTRY: usize = 7;
pub(in crate::catalog) const REPOSITORY: usize = 8;
pub(super) const OS: usize = 9;
pub(super) const ARCHITECTURE: usize = 10;
pub(super) const GENERATION: usize = 11;

#[derive(Debug)]
pub(in crate::catalog) struct Entry {
    /// End of the row's JSON in the table's text.
    pub(super) end: usize,
    pub(super) kind: u8,
    /// Status at the start of the run.
    pub(super) status: Status,
    /// Whether the version may be the latest of its definition until its end of life.
    pub(super) is_eligible: bool,
    /// Number shared by a definition and its versions, which are adjacent in the table.
    pub(super) definition: u32,
    pub(super) has_plan: bool,
    pub(super) ends_at: Option<OffsetDateTime>,
    pub(super) first_seen_at: OffsetDateTime,
    /// Whether the run found it to be the latest of its repository or definition.
    pub(super) is_latest: bool,
    pub(super) names: [Option<u32>; COLUMNS],
    pub(super) locations: u32,
    pub(super) tags: u32,
    pub(super) features: u32,
}

impl Entry {
    /// The name of its kind.
    pub(in crate::catalog) fn kind(&self) -> &'static str {
        KINDS.get(usize::from(self.kind)).copied().unwrap_or_default()
    }
}
