//! Writes an index, row by row, in the table's order.
//!
//! It keeps the index's columns in memory: about 40 bytes per row, and each text once.

use super::Deprecation;
use super::layout::{MAGIC, NONE, SECTIONS};
use crate::error::{Error, Result};
use crate::image::marketplace::{DetailsFrom, MarketplaceImage};
use crate::image::nanoseconds;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use time::OffsetDateTime;

/// A pool of distinct texts.
#[derive(Default)]
struct Texts {
    ids: HashMap<Box<str>, u32>,
    ends: Vec<u8>,
    text: Vec<u8>,
}

impl Texts {
    fn id(&mut self, text: &str) -> Result<u32> {
        if let Some(id) = self.ids.get(text) {
            return Ok(*id);
        }
        let id = count(self.ids.len())?;
        self.text.extend_from_slice(text.as_bytes());
        self.ends.extend(count(self.text.len())?.to_le_bytes());
        self.ids.insert(text.into(), id);
        Ok(id)
    }
}

/// A pool of distinct records.
struct Records<K> {
    ids: HashMap<K, u32>,
}

impl<K> Default for Records<K> {
    fn default() -> Self {
        Self { ids: HashMap::new() }
    }
}

impl<K: Hash + Eq> Records<K> {
    fn id(&mut self, key: K) -> Result<u32> {
        let next = count(self.ids.len())?;
        Ok(*self.ids.entry(key).or_insert(next))
    }

    /// The records, ordered by number.
    fn into_ordered(self) -> Vec<K> {
        let mut all: Vec<(K, u32)> = self.ids.into_iter().collect();
        all.sort_unstable_by_key(|(_, id)| *id);
        all.into_iter().map(|(key, _)| key).collect()
    }
}

/// Groups of consecutive rows with the same name.
#[derive(Default)]
struct Groups {
    records: Vec<u8>,
    name: Option<u32>,
}

impl Groups {
    /// Begins a group, unless the previous one has the same name. Returns whether it did.
    fn enter(&mut self, name: u32, first: u32) -> bool {
        if self.name == Some(name) {
            return false;
        }
        self.name = Some(name);
        self.records.extend(name.to_le_bytes());
        self.records.extend(first.to_le_bytes());
        true
    }

    fn len(&self) -> Result<u32> {
        count(self.records.len() / super::layout::GROUP)
    }

    fn end(mut self, first: u32) -> Vec<u8> {
        self.records.extend(NONE.to_le_bytes());
        self.records.extend(first.to_le_bytes());
        self.records
    }
}

/// Properties that many rows share.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traits<'a> {
    details_from: Option<DetailsFrom>,
    os: &'a Option<String>,
    architecture: &'a Option<String>,
    hyper_v_generation: &'a Option<String>,
    plan_publisher: &'a Option<String>,
    plan_product: &'a Option<String>,
    plan_name: &'a Option<String>,
}

/// A row's other properties.
#[derive(Serialize)]
struct Extras<'a> {
    alternative: &'a Option<String>,
    features: &'a BTreeMap<String, String>,
}

/// When and by which run a row was observed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Observed<'a> {
    #[serde(with = "time::serde::rfc3339")]
    observed_at: OffsetDateTime,
    observed_run: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FirstSeen {
    #[serde(with = "time::serde::rfc3339")]
    first_seen_at: OffsetDateTime,
}

/// Collects rows. [`IndexWriter::finish`] returns the index.
#[derive(Default)]
pub struct IndexWriter {
    publishers: Texts,
    offers: Texts,
    skus: Texts,
    versions: Texts,
    locations: Texts,
    json: Texts,
    publisher_groups: Groups,
    offer_groups: Groups,
    sku_groups: Groups,
    rows: Vec<u8>,
    sets: Records<Vec<u32>>,
    traits: Records<[u32; 4]>,
    dates: Records<(i64, u32)>,
}

fn count(number: usize) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number < NONE)
        .ok_or_else(|| Error::invalid("the catalog is too large for one index"))
}

/// The members of a JSON object, without the braces.
fn members(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|e| Error::bug(e.to_string()))?;
    Ok(text[1..text.len() - 1].to_owned())
}

impl IndexWriter {
    /// Adds the next row in the table's order.
    pub fn write(&mut self, row: &MarketplaceImage) -> Result<()> {
        let at = count(self.rows.len() / super::layout::ROW)?;
        self.enter(row, at)?;
        let set = row.locations.iter().map(|name| self.locations.id(name));
        let set = set.collect::<Result<Vec<u32>>>()?;
        let extras = members(&Extras { alternative: &row.alternative, features: &row.features })?;
        let extras = self.json.id(&extras)?;
        let traits = self.traits_of(row)?;
        let deprecation = match row.scheduled_deprecation_at {
            None => NONE,
            Some(at) => {
                let text = members(&Deprecation { scheduled_deprecation_at: at })?;
                let nanos = nanoseconds(at);
                let json = self.json.id(&text)?;
                self.dates.id((nanos, json))?
            }
        };
        let observed =
            members(&Observed { observed_at: row.observed_at, observed_run: &row.observed_run })?;
        let first_seen = members(&FirstSeen { first_seen_at: row.first_seen_at })?;
        let numbers = [
            self.versions.id(&row.version)?,
            self.sets.id(set)?,
            traits,
            extras,
            deprecation,
            self.json.id(&observed)?,
            self.json.id(&first_seen)?,
        ];
        self.rows.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let flags = u8::from(row.is_latest) | (u8::from(row.stale) << 1);
        let status = row.status.map_or(u8::MAX, |status| status as u8);
        self.rows.extend([status, flags, 0, 0]);
        Ok(())
    }

    /// Begins the groups whose first row this is.
    fn enter(&mut self, row: &MarketplaceImage, at: u32) -> Result<()> {
        let publisher = self.publishers.id(&row.publisher)?;
        let offer = self.offers.id(&row.offer)?;
        let sku = self.skus.id(&row.sku)?;
        if self.publisher_groups.enter(publisher, self.offer_groups.len()?) {
            self.offer_groups.name = None;
        }
        if self.offer_groups.enter(offer, self.sku_groups.len()?) {
            self.sku_groups.name = None;
        }
        self.sku_groups.enter(sku, at);
        Ok(())
    }

    fn traits_of(&mut self, row: &MarketplaceImage) -> Result<u32> {
        let text = members(&Traits {
            details_from: row.details_from,
            os: &row.os,
            architecture: &row.architecture,
            hyper_v_generation: &row.hyper_v_generation,
            plan_publisher: &row.plan_publisher,
            plan_product: &row.plan_product,
            plan_name: &row.plan_name,
        })?;
        let mut name = |text: &Option<String>| match text {
            Some(text) => self.json.id(text),
            None => Ok(NONE),
        };
        let names = [name(&row.os)?, name(&row.architecture)?, name(&row.hyper_v_generation)?];
        let [os, architecture, generation] = names;
        let json = self.json.id(&text)?;
        self.traits.id([json, os, architecture, generation])
    }

    /// Returns the encoded index. `run` is the run whose table it is.
    pub fn finish(mut self, run: &str) -> Result<Vec<u8>> {
        let rows = count(self.rows.len() / super::layout::ROW)?;
        let words = self.locations.ids.len().div_ceil(64);
        let names: Vec<String> = {
            let mut names: Vec<_> = self.locations.ids.iter().collect();
            names.sort_unstable_by_key(|(_, id)| **id);
            names.into_iter().map(|(name, _)| name.to_string()).collect()
        };
        let mut sets = Vec::new();
        for set in std::mem::take(&mut self.sets).into_ordered() {
            let listed: Vec<&String> = set.iter().map(|id| &names[*id as usize]).collect();
            let json = serde_json::to_string(&listed).map_err(|e| Error::bug(e.to_string()))?;
            sets.extend(self.json.id(&json)?.to_le_bytes());
            sets.extend([0; 4]);
            let mut bits = vec![0_u64; words];
            for id in set {
                bits[id as usize / 64] |= 1 << (id % 64);
            }
            sets.extend(bits.iter().flat_map(|word| word.to_le_bytes()));
        }
        let traits: Vec<u8> =
            self.traits.into_ordered().concat().into_iter().flat_map(u32::to_le_bytes).collect();
        let mut dates = Vec::new();
        for (nanos, json) in self.dates.into_ordered() {
            dates.extend(nanos.to_le_bytes());
            dates.extend(json.to_le_bytes());
        }
        let (offers, skus) = (self.offer_groups.len()?, self.sku_groups.len()?);
        let sections: [Vec<u8>; SECTIONS] = [
            run.as_bytes().to_vec(),
            self.publishers.ends,
            self.publishers.text,
            self.offers.ends,
            self.offers.text,
            self.skus.ends,
            self.skus.text,
            self.versions.ends,
            self.versions.text,
            self.locations.ends,
            self.locations.text,
            self.json.ends,
            self.json.text,
            self.publisher_groups.end(offers),
            self.offer_groups.end(skus),
            self.sku_groups.end(rows),
            self.rows,
            sets,
            traits,
            dates,
        ];
        let mut bytes = MAGIC.to_vec();
        bytes.extend(sections.iter().flat_map(|section| (section.len() as u64).to_le_bytes()));
        for section in sections {
            bytes.extend(section);
        }
        Ok(bytes)
    }
}
