//! Matching of a filter's conditions on the properties of marketplace rows.

use crate::catalog::filter::{Filter, fits_whole};
use crate::format::index::{Index, Row, Traits};
use crate::image::Status;
use std::cell::RefCell;
use std::collections::HashMap;

/// Whether a row matches a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// The row does not match.
    No,
    /// Unknown, because the row's details were not requested.
    Unknown,
    /// The row matches.
    Yes,
}

/// The property conditions of a filter, prepared for one index.
pub(super) struct Details<'a> {
    index: &'a Index,
    filter: &'a Filter,
    /// The result for each set of traits, by its number. `None` when the filter has no condition on
    /// them.
    traits: Option<Vec<Fit>>,
    /// Whether the features match, by the number of the row's extras. Filled as rows are tested.
    features: RefCell<HashMap<u32, bool>>,
    /// Whether the time that a row was first seen matches, by its number. Filled as rows are tested.
    first_seen: RefCell<HashMap<u32, bool>>,
}

impl<'a> Details<'a> {
    pub(super) fn new(index: &'a Index, filter: &'a Filter) -> Self {
        let (features, first_seen) = (RefCell::default(), RefCell::default());
        Self { index, filter, traits: traits(index, filter), features, first_seen }
    }

    /// Tests a row whose status is `status`.
    pub(super) fn fit(&self, row: Row<'_>, status: Option<Status>) -> Fit {
        if !self.is_in_time(row, status) {
            return Fit::No;
        }
        let traits = self.traits.as_ref();
        let fit = traits.map_or(Fit::Yes, |fits| fits[row.traits() as usize]);
        if fit == Fit::No { Fit::No } else { fit.min(self.features(row)) }
    }

    /// Whether a row whose status is `status` matches, whatever its traits are.
    pub(super) fn fits_but_traits(&self, row: Row<'_>, status: Option<Status>) -> bool {
        self.is_in_time(row, status) && self.features(row) == Fit::Yes
    }

    fn is_in_time(&self, row: Row<'_>, status: Option<Status>) -> bool {
        self.ends_in_time(row, status) && self.is_new(row)
    }

    fn ends_in_time(&self, row: Row<'_>, status: Option<Status>) -> bool {
        let is_asked = self.filter.ends_before.is_some();
        !is_asked || self.filter.ends_in_time(status, self.index.deprecated_at(row))
    }

    fn is_new(&self, row: Row<'_>) -> bool {
        let Some(after) = self.filter.first_seen_after else { return true };
        let is_new = || self.index.first_seen(row).is_some_and(|at| at > after);
        *self.first_seen.borrow_mut().entry(row.first_seen()).or_insert_with(is_new)
    }

    fn features(&self, row: Row<'_>) -> Fit {
        if !self.filter.wants_features() {
            return Fit::Yes;
        }
        let mut known = self.features.borrow_mut();
        let look = || self.filter.fits_features(&self.index.features(row));
        if *known.entry(row.extras()).or_insert_with(look) {
            Fit::Yes
        } else if self.index.traits_of(row.traits()).is_detailed {
            Fit::No
        } else {
            Fit::Unknown
        }
    }
}

/// Tests every set of traits of the index. `None` when the filter has no condition on them.
fn traits(index: &Index, filter: &Filter) -> Option<Vec<Fit>> {
    let Filter { os, architecture, generation, plan, .. } = filter;
    if os.is_none() && architecture.is_none() && generation.is_none() && plan.is_none() {
        return None;
    }
    let fit = |traits: Traits<'_>| fits_of(filter, traits).into_iter().min().unwrap_or(Fit::Yes);
    Some((0..index.traits()).map(|number| fit(index.traits_of(number))).collect())
}

/// Tests operating system, architecture, generation and plan of a set of traits, in this order.
pub(super) fn fits_of(filter: &Filter, traits: Traits<'_>) -> [Fit; 4] {
    let named = |wanted: &Option<String>, name: Option<&str>| match (wanted, name) {
        (Some(_), None) => Fit::Unknown,
        (wanted, name) => yes(fits_whole(wanted.as_ref(), name)),
    };
    let plan = match filter.plan {
        Some(_) if !traits.is_detailed => Fit::Unknown,
        Some(wanted) => yes(traits.has_plan == wanted),
        None => Fit::Yes,
    };
    [
        named(&filter.os, traits.os),
        named(&filter.architecture, traits.architecture),
        named(&filter.generation, traits.hyper_v_generation),
        plan,
    ]
}

fn yes(is: bool) -> Fit {
    if is { Fit::Yes } else { Fit::No }
}
