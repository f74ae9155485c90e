//! The index against slow and obvious models, over generated tables and over real names.

use crate::support::catalog_model::{slow_groups, slow_latest, slow_list, slow_unknown};
use crate::support::replay::recordings;
use crate::tests;
use azimg::testing::catalog::{Filter, LatestQuestion, distinct, list, unknown};
use azimg::testing::format::index::{Index, IndexWriter, Level};
use azimg::testing::image::Status;
use azimg::testing::image::marketplace::{DetailsFrom, MarketplaceImage, mark_latest};
use flate2::read::MultiGzDecoder;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use time::{Duration, OffsetDateTime};

tests![
    an_index_returns_every_row_unchanged,
    lists_equal_a_scan_of_every_row,
    distinct_names_and_counts_equal_a_scan_of_every_row,
    the_latest_equals_a_scan_of_every_row,
    damaged_indexes_are_refused_or_read_without_harm,
    the_latest_of_every_recorded_list_of_versions_is_its_greatest_number needs [Recordings],
];

const PUBLISHERS: &[&str] = &["Canonical", "canonical-test", "Debian", "debian", "MicrosoftX", "x"];
const NAMES: &[&str] =
    &["debian-12", "Debian-12", "12-gen2", "ubuntu-24_04-lts", "server", "server_arm64", "aa"];
const VERSIONS: &[&str] =
    &["1.9.0", "1.10.0", "01.10.0", "2024.1.2", "0.0.999", "0.0.1015", "1.10.0-b", "1.10.0-B"];
const LOCATIONS: &[&str] = &["eastus", "northeurope", "westeurope", "westus2"];

const FEATURES: &[&str] = &["a", "b", "SecurityType"];

/// Days from now; nanoseconds in 64 bits tell those of 1677 to 2262 only.
const DAYS: &[i64] = &[0, 1, 2, 3, -200_000, -199_999, 200_000, 200_001];

fn day(number: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + Duration::days(number)
}

fn owned(text: &str) -> String {
    text.to_owned()
}

prop_compose! {
    fn a_row()(
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
    fn a_table()(rows in vec(a_row(), 0..60)) -> Vec<MarketplaceImage> {
        let mut rows: Vec<MarketplaceImage> = rows;
        rows.sort_by(MarketplaceImage::compare);
        rows.dedup_by(|one, other| one.id.eq_ignore_ascii_case(&other.id));
        mark_latest(&mut rows);
        rows
    }
}

/// Words of so many of these letters.
fn word(letters: &'static str, length: Range<usize>) -> impl Strategy<Value = String> {
    let letters: Vec<char> = letters.chars().collect();
    vec(select(letters), length).prop_map(|word| word.into_iter().collect())
}

/// Two words at most, as somebody would type them.
fn words() -> impl Strategy<Value = String> {
    let letters = "abcdefghijklmn012.";
    let typed = (word("abcdeg12", 1..2), word(letters, 0..5)).prop_map(|(one, rest)| one + &rest);
    let known = select(&["ubuntu2404", "24.04", "Server_ARM64", "debian.12", "1_10"][..]);
    let one = prop_oneof![4 => typed, 1 => known.prop_map(owned)];
    vec((one, word(" :", 1..2)).prop_map(|(word, behind)| word + &behind), 0..3)
        .prop_map(|words| words.concat())
}

fn one_of(
    probability: f64,
    words: &'static [&'static str],
) -> impl Strategy<Value = Option<String>> {
    option::weighted(probability, select(words).prop_map(str::to_owned))
}

/// A few names of a set; mostly none.
fn some_of(probability: f64, names: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let some = vec(select(names).prop_map(str::to_owned), 1..3);
    option::weighted(probability, some).prop_map(Option::unwrap_or_default)
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.3, word("abcn012._-", 0..4))
}

prop_compose! {
    fn a_filter()(
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
    fn some_properties()(
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
fn a_moment() -> impl Strategy<Value = OffsetDateTime> {
    select(&[-1_i64, 0, 1, 2, 3, 4][..]).prop_map(day)
}

/// A table as it stands at a moment.
fn as_of(rows: &[MarketplaceImage], now: OffsetDateTime) -> Vec<MarketplaceImage> {
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

fn indexed(rows: &[MarketplaceImage]) -> Index {
    let mut writer = IndexWriter::default();
    for row in rows {
        writer.write(row).unwrap();
    }
    Index::open(writer.finish("RUN").unwrap().into()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    fn an_index_returns_every_row_unchanged(rows in a_table(), now in a_moment()) {
        let index = indexed(&rows);
        prop_assert_eq!(index.len() as usize, rows.len());
        prop_assert_eq!(index.run(), "RUN");
        for (at, row) in (0..).zip(&as_of(&rows, now)) {
            let mut text = Vec::new();
            index.write_json(at, index.path_of(at), now, &mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text, serde_json::to_string(row).unwrap());
            let [.., sku] = index.path_of(at);
            prop_assert_eq!(index.version(sku, &row.version.to_uppercase()), Some(at));
        }
    }

    fn lists_equal_a_scan_of_every_row(
        rows in a_table(), filter in a_filter(), top in 1_usize..7, now in a_moment(),
    ) {
        let index = indexed(&rows);
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let page = list(&index, &filter, at, top, now);
            prop_assert!(page.rows.len() <= top);
            prop_assert!(page.rows.len() == top || page.next.is_none());
            for (row, place) in page.rows {
                prop_assert_eq!(place, index.path_of(row));
                found.push(row);
            }
            from = page.next;
        }
        let rows = as_of(&rows, now);
        prop_assert_eq!(found, slow_list(&rows, &filter));
        prop_assert_eq!(unknown(&index, &filter, now), slow_unknown(&rows, &filter));
    }

    fn distinct_names_and_counts_equal_a_scan_of_every_row(
        rows in a_table(), filter in a_filter(), now in a_moment(),
    ) {
        let index = indexed(&rows);
        let rows = as_of(&rows, now);
        let slow = |level: usize| {
            slow_groups(&rows, &filter, level).into_iter().map(move |group| {
                let counts = [group.offers.len(), group.skus.len(), group.locations.len()];
                let latest = group.latest.filter(|_| level == 2);
                let counts = counts.map(|count| u32::try_from(count).unwrap());
                (group.names.join(":"), counts, group.images, latest)
            })
        };
        let publishers = distinct::publishers(&index, &filter, now);
        let publishers = publishers
            .map(|one| (one.publisher, [one.offers, one.skus, one.locations], one.images, None));
        prop_assert_eq!(publishers.collect::<Vec<_>>(), slow(0).collect::<Vec<_>>());
        let offers = distinct::offers(&index, &filter, now).map(|one| {
            (format!("{}:{}", one.publisher, one.offer), [1, one.skus, one.locations], one.images, None)
        });
        prop_assert_eq!(offers.collect::<Vec<_>>(), slow(1).collect::<Vec<_>>());
        let skus = distinct::skus(&index, &filter, now).map(|one| {
            let name = format!("{}:{}:{}", one.publisher, one.offer, one.sku);
            (name, [1, 1, one.locations], one.images, one.latest)
        });
        prop_assert_eq!(skus.collect::<Vec<_>>(), slow(2).collect::<Vec<_>>());
    }

    fn the_latest_equals_a_scan_of_every_row(
        rows in a_table(), publisher in select(PUBLISHERS), offer in select(NAMES),
        sku in select(NAMES), locations in vec(select(LOCATIONS), 0..3),
        until in option::of(select(DAYS)), now in a_moment(),
    ) {
        let index = indexed(&rows);
        let locations: Vec<String> = locations.into_iter().map(owned).collect();
        let urn = format!("{publisher}:{offer}:{sku}");
        let question = LatestQuestion::parse(&urn, &locations, until.map(day)).unwrap();
        let answer = question.answer(&index, now).ok().map(|row| &rows[row as usize].id);
        let rows = as_of(&rows, now);
        prop_assert_eq!(answer, slow_latest(&rows, &question).map(|row| &row.id));
    }

    fn damaged_indexes_are_refused_or_read_without_harm(
        rows in a_table(), at in any::<prop::sample::Index>(), to: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut writer = IndexWriter::default();
        for row in &rows {
            writer.write(row).unwrap();
        }
        let bytes = writer.finish("RUN").unwrap();
        let mut altered = bytes.clone();
        altered[at.index(bytes.len())] = to;
        prop_assert!(Index::open(bytes[..cut.index(bytes.len())].to_vec().into()).is_err());
        if let Ok(index) = Index::open(altered.into()) {
            let everything = Filter { search: Some("a".to_owned()), ..Filter::default() };
            list(&index, &everything, 0, 10, day(2));
            for (row, place) in list(&index, &Filter::default(), 0, 100, day(2)).rows {
                index.write_json(row, place, day(2), &mut Vec::new());
            }
            index.find(Level::Publisher, 0..index.groups(Level::Publisher), "debian");
        }
    }
}

fn the_latest_of_every_recorded_list_of_versions_is_its_greatest_number() {
    let folder = recordings();
    let file = std::fs::File::open(folder.join("catalog/lists.jsonl.gz")).unwrap();
    let mut lists = 0;
    for line in BufReader::new(MultiGzDecoder::new(file)).lines() {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let names = value["names"].as_array().unwrap();
        if value["level"] != "versions" || names.is_empty() {
            continue;
        }
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let mut rows: Vec<MarketplaceImage> = names
            .iter()
            .map(|version| {
                let version = version.as_str().unwrap();
                serde_json::from_value(serde_json::json!({
                    "kind": "marketplace", "status": "active", "isLatest": false, "stale": false,
                    "id": format!("{}:{}:{}:{version}", text("publisher"), text("offer"), text("sku")),
                    "observedAt": "2026-01-01T00:00:00Z", "observedRun": "RUN",
                    "firstSeenAt": "2026-01-01T00:00:00Z", "publisher": text("publisher"),
                    "offer": text("offer"), "sku": text("sku"), "version": version,
                    "locations": ["westus"], "features": {},
                }))
                .unwrap()
            })
            .collect();
        rows.sort_by(MarketplaceImage::compare);
        mark_latest(&mut rows);
        let urn = format!("{}:{}:{}", text("publisher"), text("offer"), text("sku"));
        let question = LatestQuestion::parse(&urn, &[], None).unwrap();
        let row = question.answer(&indexed(&rows), day(0)).unwrap();
        let slow = slow_latest(&rows, &question).unwrap();
        assert_eq!(rows[row as usize].id, slow.id);
        assert!(slow.is_latest, "{}", slow.id);
        lists += 1;
    }
    assert!(lists > 1_000, "only {lists} lists were recorded");
}
