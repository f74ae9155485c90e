//! Arbitrary bytes as a gallery response of Azure, as an id, and as a plan to retire versions.
#![no_main]

use azimg::testing::gallery::Name;
use azimg::testing::gallery::retire::{Plan, RetirePlan};
use azimg::testing::image::gallery::{GalleryImage, Kind, compare_ids, mark_latest};
use azimg::testing::source::gallery::parse::{self, Resource};
use azimg::testing::work::group_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(resource) = serde_json::from_slice::<Resource>(bytes) {
        let _ = parse::managed(&resource);
        let _ = parse::sharing(&resource);
        let _ = parse::replication("id".to_owned(), &resource);
        let definition = parse::definition("id".to_owned(), &resource)
            .unwrap_or_else(|_| GalleryImage::new(Kind::GalleryDefinition, "id"));
        if let Ok(version) = parse::version(&definition, &resource) {
            let mut rows = [definition, version];
            mark_latest(&mut rows);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = RetirePlan::parse(text);
        let _ = group_of(text);
        let (left, right) = text.split_once('\n').unwrap_or((text, text));
        assert_eq!(compare_ids(left, right), compare_ids(right, left).reverse());
        if let Some(name) = Name::from_id(text) {
            assert!(name.id().eq_ignore_ascii_case(text.trim().trim_end_matches('/')));
        }
    }
});
