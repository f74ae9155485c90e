//! Arbitrary bytes as a table or a shard: refused, or read, within bounded memory.
#![no_main]

use azimg::testing::format::{ndjson, shard};
use azimg::testing::image::marketplace::{ListedVersion, MarketplaceImage};
use azimg::testing::pipeline::changes::ChangeRow;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(rows) = ndjson::Reader::<_, MarketplaceImage>::new(bytes, "fuzz") {
        for row in rows {
            if row.is_err() {
                break;
            }
        }
    }
    if let Ok(rows) = ndjson::Reader::<_, ChangeRow>::new(bytes, "fuzz") {
        for row in rows {
            if row.is_err() {
                break;
            }
        }
    }
    let _ = shard::decode::<ListedVersion>(bytes, "fuzz");
});
