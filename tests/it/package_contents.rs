//! What a program was built of: the list in it, and the bill of materials of the package.

use crate::support::needs::{Need, folder as peer};
use crate::support::packages::{package, packaged, text};
use crate::support::{azimg, finish, json, read_json, root};
use crate::tests;
use auditable_info::{Limits, audit_info_from_slice};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

tests![
    dependencies_are_in_the_program_and_its_bill_of_materials,
    the_dependency_list_survives_stripping,
    a_damaged_dependency_list_is_refused,
    standard_readers_accept_the_bill_of_materials needs [Readers],
    dependencies_without_a_vulnerability_check_are_listed,
];

/// The packages of `Cargo.lock`, with the checksums of those that come from a registry.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter().map(|package| {
        let member = |name: &str| package.get(name).map(|value| value.as_str().unwrap().to_owned());
        ((member("name").unwrap(), member("version").unwrap()), member("checksum"))
    });
    packages.collect()
}

fn dependencies_are_in_the_program_and_its_bill_of_materials() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let app = folder.path().join("app");
    let program = std::fs::read(app.join("azimg")).unwrap();
    // As auditors read it.
    let reported =
        audit_info_from_slice(&program, Limits::default().decompressed_json_size).unwrap();
    let (root, rest): (Vec<_>, Vec<_>) = reported.packages.iter().partition(|package| package.root);
    assert_eq!((root.len(), root[0].name.as_str()), (1, "azimg"));
    assert_eq!(root[0].version.to_string(), env!("CARGO_PKG_VERSION"));
    let kind = |name: &str| {
        let found = rest.iter().find(|package| package.name == name);
        found.map(|package| format!("{:?}", package.kind))
    };
    for name in ["tokio", "rustls", "aws-lc-sys", "serde"] {
        assert_eq!(kind(name).as_deref(), Some("Runtime"), "{name}");
    }
    for name in ["cc", "serde_derive"] {
        assert_eq!(kind(name).as_deref(), Some("Build"), "{name}");
    }
    // What tests alone use is not in it, nor what this build leaves out.
    assert_eq!((kind("proptest"), kind("libtest-mimic")), (None, None));
    assert_eq!(kind("rcgen").is_some(), cfg!(feature = "sim"));
    let locked = locked();
    let ids: BTreeSet<(String, String)> = reported
        .packages
        .iter()
        .map(|package| (package.name.clone(), package.version.to_string()))
        .collect();
    assert_eq!(ids.len(), reported.packages.len(), "a package twice");
    assert!(ids.len() > 200 && ids.iter().all(|id| locked.contains_key(id)), "{ids:?}");

    let bill = read_json(&app.join("azimg.cdx.json"));
    let about = &bill["metadata"]["component"];
    assert_eq!((text(about, "name"), text(about, "type")), ("azimg", "application"));
    let digest: String = <sha2::Sha256 as sha2::Digest>::digest(&program)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(about["hashes"][0]["content"], digest.as_str(), "it is the bill of another program");
    let parts = bill["components"].as_array().unwrap();
    assert_eq!(parts.len() + 1, ids.len());
    for part in parts {
        let id = (text(part, "name").to_owned(), text(part, "version").to_owned());
        assert!(ids.contains(&id), "{id:?}");
        let checksum = locked[&id].as_deref().unwrap_or_else(|| panic!("{id:?}"));
        assert_eq!(part["hashes"][0]["content"], checksum, "{id:?}");
        assert!(!text(&part["licenses"][0], "expression").contains('/'), "{part}");
        let is_built = kind(&id.0).as_deref() == Some("Runtime");
        assert!(!is_built || part["scope"] == "required" || id.0 == "syn", "{part}");
    }
    let refs: BTreeSet<&str> =
        parts.iter().chain([about]).map(|part| text(part, "bom-ref")).collect();
    let needs = bill["dependencies"].as_array().unwrap();
    assert_eq!(needs.len(), refs.len());
    for need in needs {
        let on = need["dependsOn"].as_array().unwrap().iter().map(|on| on.as_str().unwrap());
        assert!(refs.contains(text(need, "ref")) && on.into_iter().all(|on| refs.contains(on)));
    }
}

/// A list that cannot be read is no reason to write a bill of half of it.
fn a_damaged_dependency_list_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::fs::read(env!("CARGO_BIN_EXE_azimg")).unwrap();
    let damaged = folder.path().join("damaged");
    let at = auditable_extract::raw_auditable_data(&program).unwrap().as_ptr() as usize
        - program.as_ptr() as usize;
    let mut bytes = program;
    bytes[at + 100..at + 200].fill(0);
    std::fs::write(&damaged, bytes).unwrap();
    let out = folder.path().join("of-damaged");
    let (code, stderr) = packaged(&damaged, &out);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("the list of dependencies in this executable"), "{stderr}");
}

/// What is deployed is stripped by its linker; this is more than that does.
fn the_dependency_list_survives_stripping() {
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("azimg");
    let mut strip = Command::new("strip");
    strip.args(["--strip-all", "-o"]).arg(&stripped).arg(env!("CARGO_BIN_EXE_azimg"));
    assert_eq!(finish(&mut strip).0, 0);
    let program = std::fs::read(&stripped).unwrap();
    let reported = audit_info_from_slice(&program, 8 << 20).unwrap();
    assert!(reported.packages.len() > 200);
    let out = folder.path().join("out");
    let arguments =
        ["package", "--binary", stripped.to_str().unwrap(), "--out", out.to_str().unwrap()];
    json(azimg(&arguments).args(["-o", "json"]));
    let parts = read_json(&out.join("app/azimg.cdx.json"))["components"].as_array().unwrap().len();
    assert_eq!(parts + 1, reported.packages.len());
}

fn standard_readers_accept_the_bill_of_materials() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let mut check = Command::new(peer(Need::Readers).join("python"));
    check.arg(root().join("tests/fixtures/bill.py")).arg(folder.path().join("app/azimg.cdx.json"));
    let (code, stdout, stderr) = finish(&mut check);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let parts: usize = stdout.trim().parse().unwrap();
    assert!(parts > 200, "{stdout}");
}

/// `.ci/advisories` in a folder of its own, with a `cargo-deny` and a `git` that do as they are told: its exit code,
/// and the line that it ends with.
fn advisories(fetch: u8, check: u8, days_old: u64) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let (home, bin) = (folder.path().join("home"), folder.path().join(".cache/cargo-deny/bin"));
    for made in [&home.join("advisory-dbs/advisory-db-1"), &bin, &folder.path().join(".ci")] {
        std::fs::create_dir_all(made).unwrap();
    }
    let deny = format!(
        "case \"$*\" in *fetch*) exit {fetch};; *--offline*advisories*) exit {check};; esac"
    );
    let git = format!("echo $(($(date +%s) - {days_old} * 86400))");
    for (path, body) in [(bin.join("cargo-deny"), deny), (folder.path().join("git"), git)] {
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = folder.path().join(".ci/advisories");
    std::fs::copy(root().join(".ci/advisories"), &script).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut run = Command::new("bash");
    run.arg(&script).env_clear().env("PATH", path).env("CARGO_HOME", &home);
    let (code, stdout, stderr) = finish(&mut run);
    assert_eq!(stdout.lines().count(), 1, "{stdout}{stderr}");
    (code, stdout.trim_end().to_owned())
}

fn dependencies_without_a_vulnerability_check_are_listed() {
    let (code, says) = advisories(0, 0, 3);
    assert!(code == 0 && says.starts_with("advisories: none is known (database of "), "{says}");
    let (code, says) = advisories(0, 1, 3);
    assert!(code == 1 && says.starts_with("advisories: FOUND"), "{says}");
    for (fetch, days_old, why) in [(1, 3, "cannot be fetched"), (0, 90, "ends on")] {
        let (code, says) = advisories(fetch, 0, days_old);
        assert_eq!(code, 77, "{says}");
        assert!(says.starts_with("advisories: NOT CHECKED (") && says.contains(why), "{says}");
    }
    // The checks of the project say it, too, and go on with nothing else.
    let run = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(
        run.contains("advisories=$(.ci/advisories) || [ $? = 77 ] || "),
        "77 alone is passed over"
    );
    assert!(run.contains("took+=\"          $advisories\""), "it is not in the summary");
}
