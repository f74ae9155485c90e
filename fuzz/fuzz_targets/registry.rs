//! Any bytes as a manifest that a registry lists, as rules and a plan of a purge, as a reference, as the
//! name of a file, and as an archive of images.
#![no_main]

use azimg::registry::purge::{PurgePlan, Rules};
use azimg::registry::transfer::{Package, ReadAs, safe_name};
use azimg::registry::{Manifest, Reference};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let digest = manifest.digest.clone();
        let row = azimg::source::registry::row("r.azurecr.io", "app", manifest);
        assert_eq!(row.id, format!("r.azurecr.io/app@{digest}"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(rules) = Rules::parse(text) {
            let _ = rules.of(text).count();
        }
        let _ = PurgePlan::parse(text);
        let _ = text.parse::<Reference>();
        // A name that is taken is one part of a path, whatever the system.
        if safe_name(text) {
            assert_eq!(Path::new("folder").join(text).parent(), Some(Path::new("folder")));
        }
    }
    let file = std::env::temp_dir().join(format!("azimg-fuzz-{}", std::process::id()));
    if std::fs::write(&file, bytes).is_ok() {
        let _ = Package::read(std::slice::from_ref(&file), &ReadAs::Image, None);
    }
});
