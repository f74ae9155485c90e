//! Generated marketplace tables, and filters of them.

use azimg::testing::catalog::Filter;
use azimg::testing::format::index::{Index, IndexWriter};
use azimg::testing::image::Status;
use azimg::testing::image::marketplace::{DetailsFrom, MarketplaceImage, mark_latest};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::Range;
use time::{Duration, OffsetDateTime};

pub const PUBLISHERS: &[&str] =
    &["Canonical", "canonical-test", "Debian", "debian", "MicrosoftX", "x"];
pub const NAMES: &[&str] =
    &["debian-12", "Debian-12", "12-gen2", "ubuntu-24_04-lts", "server", "server_arm64", "aaßa"];
pub const VERSIONS: &[&str] =
    &["1.9.0", "1.10.0", "01.10.0", "2024.1.2", "0.0.999", "0.0.1015", "1.10.0-b", "1.10.0-B"];
pub const LOCATIONS: &[&str] = &["eastus", "northeurope", "westeurope", "westus2"];

pub const FEATURES: &[&str] = &["a", "b", "SecurityType"];

/// Days from now; nanoseconds in 64 bits tell those of 1677 to 2262 only.
pub const DAYS: &[i64] = &[0, 1, 2, 3, -200_000, -199_999, 200_000, 200_001];

pub fn day(number: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + Duration::days(number)
}

pub fn owned(text: &str) -> String {
    text.to_owned()
}

prop_compose! {
    pub fn a_row()(
        publisher in select(PUBLISHERS), offer in select(NAMES), sku in select(NAMES),
        version in select(VERSIONS), status in option::weighted(0.8, select(&Status::ALL[..3])),
        locations in btree_set(select(LOCATIONS), 1..4),
        from in option::of(select(&[DetailsFrom::This, DetailsFrom::Sku][..])),
        os in option::of(select(&["Linux", "Windows"][..])),
        generation in option::of(select(&["V1", "V2"][..])),
        architecture in option::of(select(&["x64", "Arm64"][..])),
        plan in option::of(select(&["a \"plan\"", "plän\n", "p}"][..])),
        deprecated in option::of(select(DAYS)), seen in 0_i64..3, stale: bool,
        features in btree_map(select(FEATURES).prop_map(owned), word("xyz\"", 1..2), 0..3),
    ) -> MarketplaceImage {
        MarketplaceImage {
            kind: owned("marketplace"),
            id: format!("{publisher}:{offer}:{sku}:{version}"),
            status, is_latest: false, observed_at: day(9), observed_run: owned("RUN"), stale,
            publisher: owned(publisher), offer: owned(offer), sku: owned(sku),
            version: owned(version),
            locations: locations.into_iter().map(owned).collect(),
            details_from: from, os: os.map(owned), architecture: architecture.map(owned),
            hyper_v_generation: generation.map(owned),
            plan_publisher: plan.map(owned), plan_product: None, plan_name: plan.map(owned),
            scheduled_deprecation_at: deprecated.map(day), alternative: None, features,
            first_seen_at: day(seen),
        }
    }
}

prop_compose! {
    /// A table: one row an image, in order, the latest marked.
    pub fn a_table()(rows in vec(a_row(), 0..60)) -> Vec<MarketplaceImage> {
        let mut rows: Vec<MarketplaceImage> = rows;
        rows.sort_by(MarketplaceImage::compare);
        rows.dedup_by(|one, other| one.id.eq_ignore_ascii_case(&other.id));
        mark_latest(&mut rows);
        rows
    }
}

/// Words of so many of these letters.
pub fn word(letters: &'static str, length: Range<usize>) -> impl Strategy<Value = String> {
    let letters: Vec<char> = letters.chars().collect();
    vec(select(letters), length).prop_map(|word| word.into_iter().collect())
}

/// Two words at most, as somebody would type them.
pub fn words() -> impl Strategy<Value = String> {
    let letters = "abcdefghijklmn012.";
    let typed = (word("abcdeg12", 1..2), word(letters, 0..5)).prop_map(|(one, rest)| one + &rest);
    let known = select(&["ubuntu2404", "24.04", "Server_ARM64", "debian.12", "1_10"][..]);
    let one = prop_oneof![4 => typed, 1 => known.prop_map(owned)];
    vec((one, word(" :", 1..2)).prop_map(|(word, behind)| word + &behind), 0..3)
        .prop_map(|words| words.concat())
}

pub fn one_of(
    probability: f64,
    words: &'static [&'static str],
) -> impl Strategy<Value = Option<String>> {
    option::weighted(probability, select(words).prop_map(str::to_owned))
}

/// A few names of a set; mostly none.
pub fn some_of(
    probability: f64,
    names: &'static [&'static str],
) -> impl Strategy<Value = Vec<String>> {
    let some = vec(select(names).prop_map(str::to_owned), 1..3);
    option::weighted(probability, some).prop_map(Option::unwrap_or_default)
}

pub fn text() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.3, word("abcn012._-", 0..4))
}

prop_compose! {
    pub fn a_filter()(
        publisher in text(), offer in text(), sku in text(), version in text(),
        locations in vec(select(LOCATIONS), 0..3), os in one_of(0.2, &["linux", "Windows"]),
        architecture in one_of(0.2, &["x64", "ARM64"]), exact in prop::bool::weighted(0.2),
        statuses in some_of(0.2, &Status::NAMES),
        kinds in some_of(0.1, &["marketplace", "gallery-version"]),
        search in option::weighted(0.4, words()), properties in some_properties(),
    ) -> Filter {
        Filter {
            publisher, offer, sku, version, architecture, os, statuses, kinds, search, exact,
            locations: locations.into_iter().map(owned).collect(),
            ..properties
        }
    }
}

prop_compose! {
    /// What is asked of properties.
    pub fn some_properties()(
        generation in one_of(0.1, &["v1", "V2", "V"]), plan in option::weighted(0.1, any::<bool>()),
        features in vec(select(&["A", "b=X", "a=y"][..]), 0..5), asks in prop::bool::weighted(0.1),
        security_type in one_of(0.05, &["x", "Z"]),
        ends_before in option::weighted(0.1, select(DAYS)), seen in option::weighted(0.1, 0_i64..3),
        not_locations in vec(select(LOCATIONS), 0..3), lacks in prop::bool::weighted(0.2),
        latest in prop::bool::weighted(0.2),
    ) -> Filter {
        let some = |wanted: bool, names: Vec<&str>| -> Vec<String> {
            names.into_iter().filter(|_| wanted).map(owned).collect()
        };
        Filter {
            generation, plan, security_type, latest, features: some(asks, features),
            ends_before: ends_before.map(day), first_seen_after: seen.map(day),
            not_locations: some(lacks, not_locations),
            ..Filter::default()
        }
    }
}

/// A moment: before, between and after the days on which images end.
pub fn a_moment() -> impl Strategy<Value = OffsetDateTime> {
    select(&[-1_i64, 0, 1, 2, 3, 4][..]).prop_map(day)
}

/// A table as it stands at a moment.
pub fn as_of(rows: &[MarketplaceImage], now: OffsetDateTime) -> Vec<MarketplaceImage> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        let ended = row.scheduled_deprecation_at.is_some_and(|end| end <= now);
        if ended && matches!(row.status, Some(Status::Active | Status::Scheduled)) {
            row.status = Some(Status::Deprecated);
        }
    }
    mark_latest(&mut rows);
    rows
}

pub fn indexed(rows: &[MarketplaceImage]) -> Index {
    let mut writer = IndexWriter::default();
    for row in rows {
        writer.write(row).unwrap();
    }
    Index::open(writer.finish("RUN").unwrap().into()).unwrap()
}
