//! Arbitrary bytes as a manifest in a registry's list, as the rules and the plan of a purge, as a
//! reference, as the name of a file, and as an archive of images.
#![no_main]

use azimg::testing::purge::{Plan, PurgePlan, Rules};
use azimg::testing::registry::{Manifest, Reference};
use azimg::testing::transfer::{ImageChoice, Package, ReadAs, safe_path};
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let digest = manifest.digest.clone();
        let row = azimg::testing::source::registry::row("r.azurecr.io", "app", manifest);
        assert_eq!(row.id, format!("r.azurecr.io/app@{digest}"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(rules) = Rules::parse(text) {
            let _ = rules.of(text).count();
        }
        let _ = PurgePlan::parse(text);
        let _ = text.parse::<Reference>();
        // An accepted path stays within the folder, on every platform.
        if safe_path(text) {
            let parts: Vec<Component<'_>> = Path::new(text).components().collect();
            assert_eq!(parts.len(), text.split('/').count());
            assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
        }
    }
    let file = std::env::temp_dir().join(format!("azimg-fuzz-{}", std::process::id()));
    if std::fs::write(&file, bytes).is_ok() {
        let _ = Package::read(std::slice::from_ref(&file), &ReadAs::Image, &ImageChoice::default());
    }
});
