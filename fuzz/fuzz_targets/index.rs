//! Arbitrary bytes as an index: refused, or read from beginning to end without harm.
#![no_main]

use azimg::testing::catalog::{Filter, LatestQuestion, list};
use azimg::testing::format::index::Index;
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = Index::open(bytes.to_vec().into()) else { return };
    let mut out = Vec::new();
    let now = OffsetDateTime::UNIX_EPOCH + time::Duration::weeks(3_000);
    for (row, place) in list(&index, &Filter::default(), 0, 1_000, now).rows {
        index.write_json(row, place, now, &mut out);
        out.clear();
    }
    let search = Filter { search: Some("a 1".to_owned()), ..Filter::default() };
    list(&index, &search, 0, 10, now);
    if let Ok(question) = LatestQuestion::parse("a:b:c", &["d".to_owned()], None) {
        let _ = question.answer(&index, now);
    }
});
