//! Facets: for each value of a part of a filter, the number of SKUs that match all other parts.

use super::group::{differ, name, ones, unite};
use crate::catalog::list::{Candidate, part};
use crate::catalog::{Filter, RowTable};
use crate::format::index::{GroupPath, Index, Level};
use crate::image::{Status, marketplace};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use time::OffsetDateTime;

/// Maximum number of publishers in a facet.
const MOST_PUBLISHERS: usize = 20;

/// A value of a facet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FacetValue {
    /// The value; null if it is not known.
    pub value: Option<String>,
    /// The number of SKUs with this value that match all filters but that of the facet.
    pub skus: u32,
}

/// A kind of image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KindCount {
    /// The kind.
    #[schemars(extend("enum" = crate::image::KINDS))]
    pub value: &'static str,
    /// The number of SKUs that match; for `marketplace` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skus: Option<u32>,
    /// The number of images that match; for all other kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u32>,
}

/// For each facet, its values with the number of SKUs, most first. A SKU counts if it has an image
/// with the value that matches all filters except for the one that the facet is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Facets {
    /// Publishers, at most 20.
    pub publisher: Vec<FacetValue>,
    /// Operating systems.
    pub os: Vec<FacetValue>,
    /// Architectures.
    pub architecture: Vec<FacetValue>,
    /// Hyper-V generations.
    pub generation: Vec<FacetValue>,
    /// Lifecycle statuses.
    pub status: Vec<FacetValue>,
    /// Locations.
    pub location: Vec<FacetValue>,
    /// Whether there is a purchase plan: `yes` or `no`.
    pub plan: Vec<FacetValue>,
    /// Kinds of image.
    pub kind: Vec<KindCount>,
}

impl Facets {
    /// Adds the images of a table by their kinds.
    pub(super) fn add_kinds(&mut self, table: &RowTable, filter: &Filter, now: OffsetDateTime) {
        let counts = table.count_by_kind(filter, now).into_iter().filter(|(_, count)| *count > 0);
        self.kind.extend(counts.map(|(value, count)| KindCount {
            value,
            skus: None,
            images: Some(count),
        }));
    }
}

/// Values of one facet, each with the number of SKUs and the number of the last one counted.
#[derive(Default)]
struct Values<'a> {
    all: Vec<(Option<&'a str>, u32, u32)>,
    /// The position of a value, by the number that rows have for it.
    of: Vec<usize>,
}

impl<'a> Values<'a> {
    /// Values of numbers from 0. Values that differ only in case are one.
    fn new(values: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut this = Self::default();
        let same = |one: Option<&str>, other: Option<&str>| match (one, other) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        for value in values {
            let known = this.all.iter().position(|(known, ..)| same(*known, value));
            this.of.push(known.unwrap_or(this.all.len()));
            if known.is_none() {
                this.all.push((value, 0, 0));
            }
        }
        this
    }

    /// Counts the SKU with this number, from 1, for a value.
    fn count(&mut self, number: usize, sku: u32) {
        if let Some((_, skus, last)) = self.of.get(number).and_then(|at| self.all.get_mut(*at))
            && *last != sku
        {
            (*skus, *last) = (*skus + 1, sku);
        }
    }

    fn finish(self) -> Vec<FacetValue> {
        in_order(self.all.into_iter().map(|(value, skus, _)| (value, skus)))
    }
}

/// Values with at least one SKU, most first.
fn in_order<'a>(values: impl Iterator<Item = (Option<&'a str>, u32)>) -> Vec<FacetValue> {
    let mut values: Vec<_> = values.filter(|(_, skus)| *skus > 0).collect();
    values.sort_unstable_by_key(|(value, skus)| (Reverse(*skus), value.is_none(), *value));
    let owned =
        |(value, skus): (Option<&str>, u32)| FacetValue { value: value.map(str::to_owned), skus };
    values.into_iter().map(owned).collect()
}

/// What decides which values a row counts for, except for its publisher.
type Look = (u8, u32, u32, Option<Status>);

/// The facets while rows are counted, in table order.
pub(super) struct Tally<'a> {
    index: &'a Index,
    os: Values<'a>,
    architecture: Values<'a>,
    generation: Values<'a>,
    plan: Values<'a>,
    status: Values<'a>,
    publishers: Vec<(GroupPath, u32)>,
    locations: Vec<u32>,
    /// The locations of the current SKU, and those of SKUs before it that had the same: the bits,
    /// and how many SKUs they are.
    places: Vec<u64>,
    alike: (Vec<u64>, u32),
    /// The number of the current SKU, from 1, its last path, and whether its publisher has it.
    sku: u32,
    path: GroupPath,
    is_of_publisher: bool,
    /// The last row of the current SKU.
    last: Option<Look>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        let traits = || (0..index.traits()).map(|number| index.traits_of(number));
        let plan = traits().map(|one| match (one.is_detailed, one.has_plan) {
            (false, _) => None,
            (true, true) => Some("yes"),
            (true, false) => Some("no"),
        });
        let statuses = Status::ALL.iter().map(|status| Some(status.as_str()));
        Self {
            index,
            os: Values::new(traits().map(|one| one.os)),
            architecture: Values::new(traits().map(|one| one.architecture)),
            generation: Values::new(traits().map(|one| one.hyper_v_generation)),
            plan: Values::new(plan),
            status: Values::new(statuses.chain([None])),
            publishers: Vec::new(),
            locations: vec![0; index.locations().len()],
            places: Vec::new(),
            alike: (Vec::new(), 0),
            sku: 0,
            path: GroupPath::default(),
            is_of_publisher: false,
            last: None,
        }
    }

    /// Counts a row.
    pub(super) fn add(&mut self, candidate: &Candidate) {
        let Candidate { found: (at, group_path), status, lacks, .. } = *candidate;
        if self.sku == 0
            || (self.path != group_path && differ(self.index, Level::Sku, self.path, group_path))
        {
            self.end_of_sku();
            self.sku += 1;
            (self.is_of_publisher, self.last) = (false, None);
        }
        self.path = group_path;
        let row = self.index.row(at);
        let look = (lacks, row.traits(), row.locations(), status);
        // Rows of a SKU are usually alike.
        if self.last == Some(look) {
            return;
        }
        self.last = Some(look);
        let (traits, sku) = (row.traits() as usize, self.sku);
        let counts = |part: u8| lacks & !part == 0;
        let status = status.map_or(Status::ALL.len(), |status| status as usize);
        for (part, values, number) in [
            (part::OS, &mut self.os, traits),
            (part::ARCHITECTURE, &mut self.architecture, traits),
            (part::GENERATION, &mut self.generation, traits),
            (part::PLAN, &mut self.plan, traits),
            (part::STATUS, &mut self.status, status),
        ] {
            if counts(part) {
                values.count(number, sku);
            }
        }
        if counts(part::LOCATION) {
            unite(&mut self.places, self.index.location_bits(row.locations()));
        }
        if counts(part::PUBLISHER) && !self.is_of_publisher {
            self.is_of_publisher = true;
            self.count_publisher(group_path);
        }
    }

    fn count_publisher(&mut self, group_path: GroupPath) {
        let index = self.index;
        match self.publishers.last_mut() {
            Some((last, skus)) if !differ(index, Level::Publisher, *last, group_path) => *skus += 1,
            _ => self.publishers.push((group_path, 1)),
        }
    }

    /// Counts the locations of the current SKU. SKUs that follow each other are usually in the same
    /// locations.
    fn end_of_sku(&mut self) {
        if self.places.is_empty() {
            return;
        }
        if self.places == self.alike.0 {
            self.alike.1 += 1;
            self.places.clear();
            return;
        }
        self.count_alike();
        self.alike = (std::mem::take(&mut self.places), 1);
    }

    fn count_alike(&mut self) {
        for location in ones(self.alike.0.iter().copied()) {
            if let Some(skus) = self.locations.get_mut(location) {
                *skus += self.alike.1;
            }
        }
    }

    /// The facets, with the number of SKUs that match all filters.
    pub(super) fn finish(mut self, matching: usize) -> Facets {
        self.end_of_sku();
        self.count_alike();
        let index = self.index;
        let publishers = self.publishers.iter();
        let mut publisher =
            in_order(publishers.map(|(path, n)| (Some(name(index, Level::Publisher, *path)), *n)));
        publisher.truncate(MOST_PUBLISHERS);
        let locations = (0..).zip(&self.locations);
        let kind = KindCount {
            value: marketplace::KIND,
            skus: Some(u32::try_from(matching).unwrap_or(u32::MAX)),
            images: None,
        };
        Facets {
            publisher,
            os: self.os.finish(),
            architecture: self.architecture.finish(),
            generation: self.generation.finish(),
            status: self.status.finish(),
            location: in_order(locations.map(|(id, n)| (Some(index.locations().get(id)), *n))),
            plan: self.plan.finish(),
            kind: vec![kind],
        }
    }
}
