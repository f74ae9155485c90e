//! The index against slow and obvious models, over generated tables and over real names.

use crate::support::replay::recordings;
use crate::tests;
use azimg::catalog::{Filter, LatestQuestion, list};
use azimg::format::index::{Index, IndexWriter, Level};
use azimg::image::Status;
use azimg::image::marketplace::{MarketplaceImage, mark_latest};
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
    an_index_gives_back_every_row_as_it_was,
    lists_are_what_a_look_at_every_row_finds,
    the_latest_is_what_a_look_at_every_row_finds,
    damaged_indexes_are_refused_or_read_without_harm,
    the_latest_of_every_recorded_list_of_versions_is_its_greatest_number needs [Recordings],
];

const PUBLISHERS: &[&str] = &["Canonical", "canonical-test", "Debian", "debian", "MicrosoftX", "x"];
const NAMES: &[&str] =
    &["debian-12", "Debian-12", "12-gen2", "gen2", "server", "server_arm64", "aa"];
const VERSIONS: &[&str] =
    &["1.9.0", "1.10.0", "01.10.0", "2024.1.2", "0.0.999", "0.0.1015", "1.10.0-b", "1.10.0-B"];
const LOCATIONS: &[&str] = &["eastus", "northeurope", "westeurope", "westus2"];

fn day(number: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + Duration::days(number)
}

fn owned(text: &str) -> String {
    text.to_owned()
}

prop_compose! {
    fn a_row()(
        publisher in select(PUBLISHERS), offer in select(NAMES), sku in select(NAMES),
        version in select(VERSIONS), status in select(&Status::ALL[..3]),
        locations in btree_set(select(LOCATIONS), 1..4),
        os in option::of(select(&["Linux", "Windows"][..])),
        architecture in option::of(select(&["x64", "Arm64"][..])),
        plan in option::of(select(&["a \"plan\"", "plän\n", "p}"][..])),
        deprecated in option::of(0_i64..4), seen in 0_i64..3, stale: bool,
        features in btree_map(word("abc", 1..2), word("xyz\"", 1..2), 0..3),
    ) -> MarketplaceImage {
        MarketplaceImage {
            kind: owned("marketplace"),
            id: format!("{publisher}:{offer}:{sku}:{version}"),
            status, is_latest: false, observed_at: day(9), observed_run: owned("RUN"), stale,
            publisher: owned(publisher), offer: owned(offer), sku: owned(sku),
            version: owned(version),
            locations: locations.into_iter().map(owned).collect(),
            os: os.map(owned), architecture: architecture.map(owned), hyper_v_generation: None,
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
    let one = (word("abcdeg12", 1..2), word(letters, 0..5), word(" :", 1..2));
    vec(one.prop_map(|(first, rest, behind)| first + &rest + &behind), 0..3)
        .prop_map(|words| words.concat())
}

fn one_of(
    probability: f64,
    words: &'static [&'static str],
) -> impl Strategy<Value = Option<String>> {
    option::weighted(probability, select(words).prop_map(str::to_owned))
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.3, word("abcn012.-", 0..4))
}

prop_compose! {
    fn a_filter()(
        publisher in text(), offer in text(), sku in text(), version in text(),
        locations in vec(select(LOCATIONS), 0..3), os in one_of(0.2, &["lin", "win"]),
        architecture in one_of(0.2, &["x64", "ARM"]), exact in prop::bool::weighted(0.2),
        status in one_of(0.2, &["active", "sched", "gone"]), kind in one_of(0.1, &["market", "x"]),
        search in option::weighted(0.4, words()),
    ) -> Filter {
        Filter {
            publisher, offer, sku, version, architecture, os, status, kind, search, exact,
            locations: locations.into_iter().map(owned).collect(),
            ..Filter::default()
        }
    }
}

fn indexed(rows: &[MarketplaceImage]) -> Index {
    let mut writer = IndexWriter::default();
    for row in rows {
        writer.write(row).unwrap();
    }
    Index::open(writer.finish("RUN").unwrap().into()).unwrap()
}

/// How well a word fits a name: 3 as a whole, 2 as a beginning, 1 within.
fn fit(word: &str, name: &str) -> u32 {
    let name = name.to_ascii_lowercase();
    let inner = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let places = (0..name.len()).filter(|at| name[*at..].starts_with(word));
    places
        .map(|at| {
            let begins = !inner(name[..at].chars().next_back());
            let ends = !inner(name[at + word.len()..].chars().next());
            if begins && ends {
                3
            } else if begins {
                2
            } else {
                1
            }
        })
        .max()
        .unwrap_or(0)
}

/// The rows that a filter accepts, as positions, by looking at every one of them.
fn slow_list(rows: &[MarketplaceImage], filter: &Filter) -> Vec<u32> {
    let search = filter.search.clone().unwrap_or_default().to_ascii_lowercase();
    let words: Vec<&str> = search.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let score = |row: &MarketplaceImage| -> u32 {
        let best = |word: &&str| {
            let names = [&row.publisher, &row.offer, &row.sku, &row.version];
            names.into_iter().map(|name| fit(word, name)).max().unwrap()
        };
        words.iter().map(best).sum()
    };
    let mut found: Vec<u32> = (0..u32::try_from(rows.len()).unwrap())
        .filter(|at| filter.accepts(&rows[*at as usize]))
        .collect();
    if !words.is_empty() {
        found.sort_by_key(|at| {
            let row = &rows[*at as usize];
            (std::cmp::Reverse(score(row)), !row.is_latest, *at)
        });
    }
    found
}

/// A version that orders as text the way it orders by numbers.
fn padded(version: &str) -> Vec<String> {
    let part = |part: &str| {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        format!("{:0>40}{}", &part[..digits], part[digits..].to_ascii_lowercase())
    };
    version.split('.').map(part).collect()
}

/// The greatest version that fits, by looking at every row.
fn slow_latest<'a>(
    rows: &'a [MarketplaceImage],
    question: &LatestQuestion,
) -> Option<&'a MarketplaceImage> {
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    rows.iter()
        .filter(|row| {
            same(&row.publisher, &question.publisher)
                && same(&row.offer, &question.offer)
                && same(&row.sku, &question.sku)
                && row.status != Status::Deprecated
                && question.locations.iter().all(|location| row.locations.contains(location))
                && match (question.not_deprecated_before, row.scheduled_deprecation_at) {
                    (Some(until), Some(deprecated)) => deprecated >= until,
                    _ => true,
                }
        })
        .max_by_key(|row| (padded(&row.version), row.id.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    fn an_index_gives_back_every_row_as_it_was(rows in a_table()) {
        let index = indexed(&rows);
        prop_assert_eq!(index.len() as usize, rows.len());
        prop_assert_eq!(index.run(), "RUN");
        for (at, row) in (0..).zip(&rows) {
            let mut text = Vec::new();
            index.write_json(at, index.place(at), &mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text, serde_json::to_string(row).unwrap());
            let [.., sku] = index.place(at);
            prop_assert_eq!(index.version(sku, &row.version.to_uppercase()), Some(at));
        }
    }

    fn lists_are_what_a_look_at_every_row_finds(
        rows in a_table(), filter in a_filter(), top in 1_usize..7,
    ) {
        let index = indexed(&rows);
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let page = list(&index, &filter, at, top);
            prop_assert!(page.rows.len() <= top);
            prop_assert!(page.rows.len() == top || page.next.is_none());
            for (row, place) in page.rows {
                prop_assert_eq!(place, index.place(row));
                found.push(row);
            }
            from = page.next;
        }
        prop_assert_eq!(found, slow_list(&rows, &filter));
    }

    fn the_latest_is_what_a_look_at_every_row_finds(
        rows in a_table(), publisher in select(PUBLISHERS), offer in select(NAMES),
        sku in select(NAMES), locations in vec(select(LOCATIONS), 0..3),
        until in option::of(0_i64..4),
    ) {
        let index = indexed(&rows);
        let locations: Vec<String> = locations.into_iter().map(owned).collect();
        let urn = format!("{publisher}:{offer}:{sku}");
        let question = LatestQuestion::parse(&urn, &locations, until.map(day)).unwrap();
        let answer = question.answer(&index).ok().map(|row| &rows[row as usize].id);
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
            list(&index, &everything, 0, 10);
            for (row, place) in list(&index, &Filter::default(), 0, 100).rows {
                index.write_json(row, place, &mut Vec::new());
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
        let row = question.answer(&indexed(&rows)).unwrap();
        let slow = slow_latest(&rows, &question).unwrap();
        assert_eq!(rows[row as usize].id, slow.id);
        assert!(slow.is_latest, "{}", slow.id);
        lists += 1;
    }
    assert!(lists > 1_000, "only {lists} lists were recorded");
}
