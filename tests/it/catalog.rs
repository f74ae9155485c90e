//! The index against slow and obvious models, over generated tables and over real names.

use crate::support::catalog_model::{
    slow_facets, slow_groups, slow_latest, slow_list, slow_unknown,
};
use crate::support::replay::recordings;
use crate::support::tables::{
    DAYS, LOCATIONS, NAMES, PUBLISHERS, a_filter, a_moment, a_table, as_of, day, indexed, owned,
};
use crate::tests;
use azimg::testing::catalog::distinct::{SkuGroups, SkuOrder};
use azimg::testing::catalog::{Filter, LatestQuestion, distinct, list, unknown};
use azimg::testing::format::index::{Index, IndexWriter, Level};
use azimg::testing::image::marketplace::{MarketplaceImage, mark_latest};
use flate2::read::MultiGzDecoder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

tests![
    an_index_returns_every_row_unchanged,
    lists_equal_a_scan_of_every_row,
    distinct_names_and_counts_equal_a_scan_of_every_row,
    facets_equal_a_scan_of_every_row_for_each,
    skus_are_in_the_order_that_is_asked_for,
    the_latest_equals_a_scan_of_every_row,
    damaged_indexes_are_refused_or_read_without_harm,
    the_latest_of_every_recorded_list_of_versions_is_its_greatest_number needs [Recordings],
];

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

    fn facets_equal_a_scan_of_every_row_for_each(
        rows in a_table(), filter in a_filter(), now in a_moment(),
    ) {
        // Lookups refuse locations that the catalog does not have.
        let known = |name: &String| rows.iter().any(|row| row.locations.contains(name));
        let locations = filter.locations.iter().filter(|name| known(name)).cloned().collect();
        let filter = Filter { kinds: Vec::new(), locations, ..filter };
        let index = indexed(&rows);
        let mut found = SkuGroups::of(&index, &filter, true, now);
        let rows = as_of(&rows, now);
        let facets = found.facets().unwrap();
        for (name, values) in [
            ("publisher", &facets.publisher), ("os", &facets.os), ("status", &facets.status),
            ("architecture", &facets.architecture), ("generation", &facets.generation),
            ("location", &facets.location), ("plan", &facets.plan),
        ] {
            let slow = slow_facets(&rows, &filter, name);
            let lower = |value: &Option<String>| value.as_ref().map(|one| one.to_lowercase());
            let values = values.iter().map(|one| (lower(&one.value), one.skus as usize));
            let values: Vec<_> = values.collect();
            prop_assert!(values.is_sorted_by(|one, next| one.1 >= next.1), "{}: {:?}", name, values);
            prop_assert_eq!(values.len(), slow.len(), "{}", name);
            prop_assert_eq!(values.into_iter().collect::<BTreeMap<_, _>>(), slow, "{}", name);
        }
        prop_assert_eq!(facets.kind[0].skus.map(|skus| skus as usize), Some(found.total()));
        // The facets do not change the list.
        let plain = SkuGroups::of(&index, &filter, false, now);
        prop_assert_eq!(plain.rows(0, 99), found.rows(0, 99));
        prop_assert_eq!((plain.total(), plain.images()), (found.total(), found.images()));
    }

    fn skus_are_in_the_order_that_is_asked_for(
        rows in a_table(), filter in a_filter(), now in a_moment(), from in 0_usize..5,
    ) {
        let index = indexed(&rows);
        let rows = as_of(&rows, now);
        let in_order = |order| SkuGroups::of(&index, &filter, false, now).in_order(order);
        let list = |order| in_order(order).rows(0, 99);
        let by_name = list(SkuOrder::Name);
        let lower = |text: &String| text.to_ascii_lowercase();
        let names = |one: &distinct::SkuCount| {
            (lower(&one.publisher), lower(&one.offer), lower(&one.sku))
        };
        prop_assert!(by_name.is_sorted_by_key(names));
        let best = distinct::skus(&index, &filter, now).collect::<Vec<_>>();
        prop_assert_eq!(list(SkuOrder::Relevance), best);
        let mut sorted = by_name.clone();
        sorted.sort_by_key(|one| Reverse(one.images));
        prop_assert_eq!(list(SkuOrder::Images), sorted);
        let mut sorted = by_name.clone();
        sorted.sort_by_key(|one| Reverse(one.locations));
        prop_assert_eq!(list(SkuOrder::Locations), sorted);
        let mut sorted = by_name.clone();
        let end = |one: &distinct::SkuCount| one.scheduled_deprecation_at;
        sorted.sort_by_key(|one| (end(one).is_none(), end(one)));
        prop_assert_eq!(list(SkuOrder::Ends), &sorted[..]);
        let part = in_order(SkuOrder::Ends).rows(from, 2);
        prop_assert_eq!(part, sorted.into_iter().skip(from).take(2).collect::<Vec<_>>());
        // What a row says of its version is what the table says of it.
        for one in by_name {
            let row = rows.iter().find(|row| row.id == one.id).unwrap();
            prop_assert!(filter.accepts(row));
            prop_assert_eq!(one.status, row.status);
            prop_assert_eq!(one.scheduled_deprecation_at, row.scheduled_deprecation_at);
            prop_assert_eq!((&one.os, &one.architecture), (&row.os, &row.architecture));
            prop_assert_eq!((&one.hyper_v_generation, one.stale), (&row.hyper_v_generation, row.stale));
            let has_plan = row.plan_publisher.is_some() || row.plan_name.is_some();
            prop_assert_eq!(one.plan, row.is_detailed().then_some(has_plan));
            prop_assert_eq!(one.in_locations.len(), one.locations as usize);
            prop_assert!(one.in_locations.is_sorted());
            let latest = one.latest.is_some().then_some(&row.version);
            prop_assert_eq!(one.latest.as_ref(), latest);
            let places = if latest.is_some() { row.locations.clone() } else { Vec::new() };
            prop_assert_eq!(one.latest_in, places);
        }
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
