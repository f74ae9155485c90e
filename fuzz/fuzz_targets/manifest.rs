//! Arbitrary bytes as the documents of a snapshot and of a run, and as a message.
#![no_main]

use azimg::testing::pipeline::coverage::Coverage;
use azimg::testing::pipeline::snapshot::{Current, Manifest};
use azimg::testing::work::{Plan, WorkItem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Manifest>(bytes);
    let _ = serde_json::from_slice::<Current>(bytes);
    let _ = serde_json::from_slice::<Coverage>(bytes);
    let _ = serde_json::from_slice::<Plan>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = WorkItem::parse(text);
    }
});
