//! The versions of Azure's calls: stand in one place, are the documented ones, and give way to what a cloud offers.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json, root, rows, timeless};
use crate::tests;
use azimg::testing::client::version;
use azimg::testing::sim::{Scale, generate};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

tests![
    api_versions_are_defined_in_one_file_and_documented,
    a_cloud_with_other_api_versions_is_crawled_with_those,
    unsupported_api_versions_mark_no_row_as_gone,
];

fn api_versions_are_defined_in_one_file_and_documented() {
    let text = std::fs::read_to_string(root().join("docs/azure.md")).unwrap();
    let rows: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?, cells.next()?))
        })
        .filter(|(resource, _)| *resource != "resource")
        .collect();
    let table: BTreeSet<_> = version::ALL.iter().map(|call| (call.resource, call.sent)).collect();
    assert_eq!(rows, table);
    let parameter = "(\"api-version\", \"2";
    for entry in walk(&root().join("src")) {
        let code = std::fs::read_to_string(&entry).unwrap();
        if !entry.ends_with("client/version.rs")
            && !entry.components().any(|c| c.as_os_str() == "sim")
        {
            assert!(!code.contains(parameter), "{}: {parameter}", entry.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// What Azure answers to a version that it does not offer for a type: one of its two forms, with what it offers.
const GONE: How = How::Answer(
    404,
    &[],
    "{\"error\":{\"code\":\"InvalidResourceType\",\"message\":\"The resource type could not be found in the \
     namespace 'Microsoft.Compute' for api version '2024-07-01'. The supported api-versions are \
     '2015-06-15,2016-03-30,2022-08-01,2023-03-01'.\"}}",
);
const UNKNOWN: How = How::Answer(
    400,
    &[],
    "{\"error\":{\"code\":\"NoRegisteredProviderFound\",\"message\":\"No registered resource provider found for \
     location '' and API version '2023-07-01' for type 'registries'. The supported api-versions are '2017-03-01, \
     2022-12-01, 2023-01-01-preview'. The supported locations are 'eastus'.\"}}",
);
const NONE: How = How::Answer(
    404,
    &[],
    "{\"error\":{\"code\":\"InvalidResourceType\",\"message\":\"The resource type could not be found in the \
     namespace 'Microsoft.Compute' for api version '2024-07-01'. The supported api-versions are ''.\"}}",
);

fn a_cloud_with_other_api_versions_is_crawled_with_those() {
    let whole = tempfile::tempdir().unwrap();
    let azure = Azure::start(generate(Scale::Small, 61));
    json(&mut azure.azimg(&["crawl", "--store", whole.path().to_str().unwrap(), "-o", "json"]));
    let faults = vec![
        Fault::new("api-version=2024-07-01", usize::MAX, GONE),
        Fault::new("api-version=2023-07-01", usize::MAX, UNKNOWN),
    ];
    let faulty = Faulty::start(azure, faults);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let (code, stdout, stderr) =
        finish(&mut faulty.azimg(&["crawl", "--store", store, "-o", "json"]));
    assert_eq!(code, 0, "{stderr}");
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["state"], "complete");
    assert_eq!(timeless(rows(folder.path())), timeless(rows(whole.path())));
    // Each type is refused by whatever was under way before the first answer, and by nothing after that; and
    // each is said once.
    assert!(faulty.met(0) < 500 && faulty.met(1) >= 1, "{} refused", faulty.met(0));
    for (resource, offered) in [("registries", "2022-12-01"), ("publishers", "2023-03-01")] {
        let said = |line: &&str| {
            line.contains("api-version") && line.contains(resource) && line.contains(offered)
        };
        assert!(stderr.lines().any(|line| said(&line)), "{stderr}");
    }
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("api-version")).collect();
    assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len(), "{stderr}");
}

fn unsupported_api_versions_mark_no_row_as_gone() {
    let azure = Azure::start(generate(Scale::Small, 62));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--source", "marketplace", "--store", store, "-o", "json"]));
    let found = rows(folder.path());
    let faulty = Faulty::start(azure, vec![Fault::new("api-version=2024-07-01", usize::MAX, NONE)]);
    let (code, _, stderr) = finish(&mut faulty.azimg(&["doctor", "--store", store, "-o", "json"]));
    assert_ne!(code, 0, "{stderr}");
    let (code, stdout, _) = finish(&mut faulty.azimg(&["doctor", "--store", store, "-o", "table"]));
    assert!(code != 0 && stdout.contains("is not offered here"), "{stdout}");
    let line = ["crawl", "--full", "--source", "marketplace", "--store", store, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&line));
    assert_eq!(code, 3, "{stdout}{stderr}");
    let kept = rows(folder.path());
    assert_eq!(kept.len(), found.len(), "nothing is gone");
    assert!(kept.iter().all(|row| row["stale"] == true));
}
