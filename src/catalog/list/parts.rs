//! Matching of a filter part by part: rows that a filter accepts, or would accept without one of its
//! parts.

use super::details::{Fit, fits_of};
use super::{Found, ListQuery};
use crate::catalog::filter::Filter;
use crate::format::index::{GroupPath, Index, Level};
use crate::image::Status;
use std::ops::ControlFlow;

/// The parts of a filter whose values are counted. Each is a bit.
pub mod part {
    /// The publisher.
    pub const PUBLISHER: u8 = 1;
    /// The operating system.
    pub const OS: u8 = 1 << 1;
    /// The architecture.
    pub const ARCHITECTURE: u8 = 1 << 2;
    /// The Hyper-V generation.
    pub const GENERATION: u8 = 1 << 3;
    /// The purchase plan.
    pub const PLAN: u8 = 1 << 4;
    /// The status.
    pub const STATUS: u8 = 1 << 5;
    /// The locations that the image must be in.
    pub const LOCATION: u8 = 1 << 6;
}

/// A row that all parts of a filter accept, except for at most one.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The row and its path.
    pub found: Found,
    /// The status of the row.
    pub status: Option<Status>,
    /// The search score of the row.
    pub score: usize,
    /// The [part] that does not accept the row; zero if there is none.
    pub lacks: u8,
}

/// The parts that do not accept a row, by the number of its traits and of its set of locations.
struct Lacking {
    traits: Vec<u8>,
    sets: Vec<u8>,
}

impl Lacking {
    fn new(index: &Index, filter: &Filter, locations: &[u32]) -> Self {
        let parts = [part::OS, part::ARCHITECTURE, part::GENERATION, part::PLAN];
        let traits = (0..index.traits()).map(|number| {
            let fits = fits_of(filter, index.traits_of(number)).into_iter().zip(parts);
            fits.filter(|(fit, _)| *fit != Fit::Yes).map(|(_, part)| part).sum()
        });
        let set = |set: u32| if index.is_in(set, locations) { 0 } else { part::LOCATION };
        let sets = u32::try_from(index.location_sets()).unwrap_or(u32::MAX);
        Self { traits: traits.collect(), sets: (0..sets).map(set).collect() }
    }
}

impl ListQuery<'_> {
    /// Visits the accepted rows in table order; and, if `all_but_one` is set, those that one part
    /// does not accept. Of a SKU whose publisher does not match, only the first such row is visited.
    pub(in crate::catalog) fn visit_candidates(
        &self,
        filter: &Filter,
        all_but_one: bool,
        mut visit: impl FnMut(Candidate),
    ) {
        let lacking = Lacking::new(self.index, filter, &self.locations);
        let most = u32::from(all_but_one);
        let mut fits = Vec::new();
        let mut visit_sku = |group_path: GroupPath, is_publisher: bool| {
            let Some(sum) = self.search.fit_names(group_path[2], &mut fits) else {
                return ControlFlow::Continue(());
            };
            let publisher = if is_publisher { 0 } else { part::PUBLISHER };
            for at in self.index.members(Level::Sku, group_path[2]) {
                let row = self.index.row(at);
                let (traits, set) = (row.traits() as usize, row.locations() as usize);
                let status = self.index.status(row, self.now);
                let is_status = if self.accepts_status(status) { 0 } else { part::STATUS };
                let lacks = publisher | lacking.traits[traits] | lacking.sets[set] | is_status;
                if lacks.count_ones() > most || !self.accepts_rest((at, group_path), status) {
                    continue;
                }
                let Some(score) = self.score(at, sum, &fits) else { continue };
                visit(Candidate { found: (at, group_path), status, score, lacks });
                if !is_publisher {
                    break;
                }
            }
            ControlFlow::Continue(())
        };
        if all_but_one {
            self.walk_all_publishers(visit_sku);
        } else {
            self.walk(0, |group_path| visit_sku(group_path, true));
        }
    }

    /// Whether the parts of the filter that have no bit accept a row.
    fn accepts_rest(&self, (at, group_path): Found, status: Option<Status>) -> bool {
        let row = self.index.row(at);
        let is_in = |location: &u32| self.index.is_in(row.locations(), &[*location]);
        (!self.latest || self.is_latest(at, group_path))
            && self.versions.as_ref().is_none_or(|fits| fits.of(row.version()) > 0)
            && !self.not_locations.iter().any(is_in)
            && self.details.fits_but_traits(row, status)
    }
}
