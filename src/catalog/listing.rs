//! A list that is read row by row. Its memory use grows neither with the gallery and registry
//! tables nor with the number of matching rows.
//!
//! Rows of these tables are read in parts, each a [`RowTable`] of its own. A definition and all its
//! versions are in the same part, because which version is the latest depends on the others.

use super::rows::{KINDS, RowTable};
use super::{Catalog, Filter, IN_OTHERS, Page};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{gallery, marketplace, registry};
use crate::pipeline::snapshot::StoredRows;
use crate::store::Store;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// Marketplace rows per lookup.
const ROWS: usize = 1 << 14;
/// Minimum size of a part of a table, in bytes. The part ends with the definition that reaches it.
const PART_BYTES: usize = 4 << 20;

/// A snapshot opened for one list.
pub struct Listing {
    catalog: Catalog,
    /// Gallery and registry tables that have not been read.
    tables: Vec<StoredRows<IgnoredAny>>,
    /// The time as of which rows are read.
    now: OffsetDateTime,
}

/// The column that decides whether a part may end at a row.
#[derive(Deserialize)]
struct Head {
    id: String,
}

impl Listing {
    /// Opens the current snapshot for a list by `filter` at `now`, or the newest one whose required
    /// files are intact.
    pub async fn open(store: &dyn Store, filter: &Filter, now: OffsetDateTime) -> Result<Self> {
        let catalog = Catalog::open(store).await?;
        if !catalog.needs_row_tables(filter) {
            return Ok(Self { catalog, tables: Vec::new(), now });
        }
        match RowTable::stored(store, &catalog.manifest).await {
            Ok(tables) => Ok(Self { catalog, tables, now }),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Ok(Self { catalog: catalog.without(store, error).await?, tables: Vec::new(), now })
            }
            Err(error) => Err(error),
        }
    }

    /// Number of marketplace images for which it is unknown whether `filter` accepts them.
    pub fn unknown(&self, filter: &Filter) -> u64 {
        self.catalog.unknown(filter, self.now)
    }

    /// Rejects locations in which the snapshot has no images. Reads the tables when one of the
    /// locations has no marketplace images.
    pub fn check_places(&mut self, filter: &Filter) -> Result<()> {
        let refused = self.catalog.check_places(filter, true);
        if refused.is_ok() || self.tables.is_empty() {
            return refused;
        }
        let mut known = BTreeSet::new();
        for table in &mut self.tables {
            let mut next = None;
            while let Some(part) = part(table, &mut next)? {
                known.extend(part.locations().map(str::to_owned));
            }
            table.rewind()?;
        }
        self.catalog.check_places_and(filter, || known.iter().map(String::as_str))
    }

    /// The kinds of image that a list by `filter` can contain, given the tables in the snapshot.
    pub fn kinds(&self, filter: &Filter) -> Vec<&'static str> {
        let has_others = RowTable::is_in(&self.catalog.manifest);
        let only_containers = filter.wants_containers_only();
        let names = [&filter.publisher, &filter.offer, &filter.sku, &filter.version];
        let galleries = [&filter.gallery, &filter.definition];
        let no_containers = names.iter().chain(&galleries).any(|part| part.is_some());
        let marketplace = filter.wants_marketplace().then_some(marketplace::KIND);
        let others = KINDS.into_iter().filter(|kind| {
            let is_container = *kind == registry::KIND;
            let excluded = if is_container { no_containers } else { only_containers };
            has_others && !excluded && filter.has_kind(kind)
        });
        marketplace.into_iter().chain(others).collect()
    }

    /// The kinds of image that a list by `filter` contains. Reads the tables an additional time,
    /// before [`each`](Self::each) does.
    pub fn kinds_there(&mut self, filter: &Filter) -> Result<Vec<&'static str>> {
        let mut kinds = self.kinds(filter);
        if kinds.len() < 2 {
            return Ok(kinds);
        }
        let mut missing = kinds.clone();
        let mut visit = |row: &[u8]| {
            #[derive(Deserialize)]
            struct Row {
                kind: String,
            }
            let row: Row = serde_json::from_slice(row).map_err(|e| unreadable(&e))?;
            missing.retain(|kind| *kind != row.kind);
            let is_done = missing.is_empty();
            Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let page = self.catalog.list(filter, 0, 1, self.now);
        let first = Page { rows: page.rows, ..Page::default() };
        if self.give(&first, &mut visit)?.is_continue() {
            self.others(filter, &mut visit).map(drop)?;
        }
        for table in &mut self.tables {
            table.rewind()?;
        }
        kinds.retain(|kind| !missing.contains(kind));
        Ok(kinds)
    }

    /// Calls `visit` with each row that `filter` accepts, in the order of [`Catalog::list`], until
    /// it breaks.
    pub fn each(
        &mut self,
        filter: &Filter,
        visit: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        // A search ranks all rows, so computing a part costs as much as computing the whole.
        let top = if filter.words().is_empty() { ROWS } else { usize::MAX };
        let mut from = 0;
        loop {
            let page = self.catalog.list(filter, from, top, self.now);
            if self.give(&page, visit)?.is_break() {
                return Ok(());
            }
            let Some(next) = page.next else { break };
            from = next;
        }
        self.others(filter, visit).map(drop)
    }

    /// Calls `visit` with the accepted rows of the gallery and registry tables.
    fn others(
        &mut self,
        filter: &Filter,
        visit: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        for at in 0..self.tables.len() {
            let mut next = None;
            while let Some(part) = part(&mut self.tables[at], &mut next)? {
                let read = std::mem::replace(&mut *self.catalog.others, OnceCell::from(part));
                let page = self.catalog.list(filter, IN_OTHERS, usize::MAX, self.now);
                let given = self.give(&page, visit);
                *self.catalog.others = read;
                if given?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn give(
        &self,
        page: &Page,
        visit: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut text = Vec::new();
        let marketplace = page.rows.iter().map(|row| Page { rows: vec![*row], ..Page::default() });
        let others = page.others.iter().map(|row| Page { others: vec![*row], ..Page::default() });
        for one in marketplace.chain(others) {
            text.clear();
            self.catalog.write_page(&one, self.now, &mut text);
            if visit(&text)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Reads the next part of a table. `next` carries the row after the part, which has already been
/// read.
fn part(
    table: &mut StoredRows<IgnoredAny>,
    next: &mut Option<Vec<u8>>,
) -> Result<Option<RowTable>> {
    let mut part = RowTable::default();
    let mut bytes = 0;
    let mut last = next.take();
    if let Some(line) = &last {
        part.add(line)?;
    }
    while let Some(line) = table.next_line()? {
        if bytes >= PART_BYTES && !is_same_definition(last.as_deref().unwrap_or_default(), line)? {
            *next = Some(line.to_vec());
            break;
        }
        part.add(line)?;
        bytes += line.len();
        if bytes >= PART_BYTES {
            last = Some(line.to_vec());
        }
    }
    Ok(if part.is_empty() { None } else { Some(part) })
}

/// Whether two rows belong to the same definition.
fn is_same_definition(one: &[u8], other: &[u8]) -> Result<bool> {
    let id = |row: &[u8]| -> Result<String> {
        let Head { id } = serde_json::from_slice(row).map_err(|e| unreadable(&e))?;
        Ok(gallery::split(&id).0.to_owned())
    };
    Ok(id(one)?.eq_ignore_ascii_case(&id(other)?))
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::corrupt(format!("a table has a row that this version of azimg cannot read ({error})"))
}
