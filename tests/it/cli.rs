//! The command line: lists, queries, formats, and wrong usage.

use crate::support::refusals::refused;
use crate::support::{Azure, azimg, finish, json};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use serde_json::json;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

tests![
    a_list_is_filtered_and_printed_in_every_format,
    queries_and_fields_choose_what_is_printed,
    queries_and_patterns_with_excessive_nesting_are_refused,
    a_closed_pipe_is_no_error,
    one_image_and_the_latest_of_a_sku_are_found_or_reported_missing,
    an_unknown_publisher_leads_to_a_search_suggestion,
    every_command_shows_examples,
    schemas_name_every_column_that_a_row_has,
    wrong_usage_and_missing_catalogs_have_their_exit_codes,
    the_demo_ends_with_what_to_try_next,
];

/// A store with one crawled snapshot, shared by the tests that only read.
fn store() -> &'static str {
    static STORE: OnceLock<TempDir> = OnceLock::new();
    let folder = STORE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let azure = Azure::start(generate(Scale::Small, 51));
        let path = folder.path().to_str().unwrap();
        json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
        folder
    });
    folder.path().to_str().unwrap()
}

fn images(arguments: &[&str]) -> Command {
    let mut all = vec!["images"];
    all.extend(arguments);
    all.extend(["--store", store()]);
    azimg(&all)
}

fn a_list_is_filtered_and_printed_in_every_format() {
    let all = json(&mut images(&["list", "--publisher", "CANON", "-o", "json"]));
    let all = all.as_array().unwrap();
    assert!(!all.is_empty());
    assert!(all.iter().all(|row| row["publisher"] == "Canonical"));
    let arm = json(&mut images(&[
        "list",
        "--publisher",
        "canonical",
        "--architecture",
        "arm64",
        "-o",
        "json",
    ]));
    assert!(arm.as_array().unwrap().iter().all(|row| row["architecture"] == "Arm64"));
    assert!(arm.as_array().unwrap().len() < all.len());
    let exact = json(&mut images(&["list", "--publisher", "canon", "--exact", "-o", "json"]));
    assert_eq!(exact, json!([]));
    let found = json(&mut images(&["list", "--search", "lts SERVER", "-o", "json"]));
    assert!(
        found.as_array().unwrap().iter().all(|row| row["id"].as_str().unwrap().contains("server"))
    );

    let print = |format: &str| {
        let (code, stdout, _) =
            finish(&mut images(&["list", "--publisher", "canonical", "-o", format]));
        assert_eq!(code, 0);
        stdout
    };
    assert_eq!(print("ndjson").lines().count(), all.len());
    assert_eq!(print("csv").lines().count(), all.len() + 1);
    assert_eq!(print("tsv").lines().count(), all.len());
    let table = print("table");
    assert!(table.lines().next().unwrap().contains("PUBLISHER"), "{table}");
    assert_eq!(table.lines().count(), all.len() + 1);
    assert!(print("yaml").contains("publisher: Canonical"));
}

fn queries_and_fields_choose_what_is_printed() {
    let (code, stdout, _) = finish(&mut images(&[
        "list",
        "--publisher",
        "canonical",
        "--query",
        "[?isLatest].id",
        "-o",
        "tsv",
    ]));
    assert_eq!(code, 0);
    assert!(stdout.lines().all(|line| line.split(':').count() == 4), "{stdout}");
    let picked = json(&mut images(&[
        "list",
        "--publisher",
        "debian",
        "--fields",
        "id,is_latest",
        "-o",
        "json",
    ]));
    let first = picked[0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["id", "isLatest"]);
    refused(
        &mut images(&["list", "--fields", "colour"]),
        2,
        &["no field 'colour'", "there are kind, id"],
    );
    refused(&mut images(&["list", "--query", "[?"]), 2, &["--query"]);
}

fn queries_and_patterns_with_excessive_nesting_are_refused() {
    let (brackets, braces) = ("[".repeat(20_000), "{".repeat(5_000));
    let (deep, words) = ("{".repeat(500) + &"}".repeat(500), "a ".repeat(50_000));
    let dots = vec!["a"; 3_000].join(".");
    for query in [&brackets, &dots] {
        refused(&mut images(&["list", "--query", query]), 2, &["--query: it"]);
    }
    refused(&mut images(&["list", "--search", &words]), 2, &["--search: ", "16 words"]);
    refused(&mut images(&["list", "--search", &brackets]), 2, &["--search: ", "1024 bytes"]);
    let purge = |pattern: &str| {
        azimg(&[
            "registry",
            "purge",
            "127.0.0.1:9",
            "--repository",
            pattern,
            "--untagged",
            "--anonymous",
        ])
    };
    for (pattern, why) in [(&braces, "longer than 4096 bytes"), (&deep, "braces within braces")] {
        let (code, _, stderr) = finish(&mut purge(pattern));
        assert!(code == 2 && stderr.contains(why), "{stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    for text in ["a = ".to_owned() + &"[".repeat(100_000), "{\"rules\":".to_owned() + &brackets] {
        std::fs::write(&rules, text).unwrap();
        let file = rules.to_str().unwrap();
        let line = ["registry", "purge", "127.0.0.1:9", "--rules", file, "--anonymous"];
        refused(&mut azimg(&line), 2, &["the rules are not valid"]);
    }
}

fn a_closed_pipe_is_no_error() {
    let mut child = images(&["list", "-o", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 32];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(head.starts_with(b"kind,id,status"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn one_image_and_the_latest_of_a_sku_are_found_or_reported_missing() {
    let latest = json(&mut images(&[
        "latest",
        "canonical:ubuntu-24_04-LTS:server",
        "--location",
        "East US",
        "-o",
        "json",
    ]));
    let id = latest[0]["id"].as_str().unwrap();
    assert!(id.starts_with("Canonical:ubuntu-24_04-lts:server:"), "{id}");
    let shown = json(&mut images(&["show", id, "-o", "json"]));
    assert_eq!(shown, latest[0]);
    let several = json(&mut images(&[
        "latest",
        "Debian:debian-12:12",
        "Debian:debian-13:13:latest",
        "-o",
        "json",
    ]));
    assert_eq!(several.as_array().unwrap().len(), 2);

    refused(
        &mut images(&["show", "Canonical:ubuntu-24_04-lts:server:0.0.0"]),
        4,
        &["not in the catalog", "latest"],
    );
    refused(&mut images(&["show", "Canonical:ubuntu"]), 2, &["publisher:offer:sku:version"]);
    refused(
        &mut images(&["latest", "Canonical:ubuntu-24_04-lts:server", "--location", "japaneast"]),
        2,
        &["the catalog has no location 'japaneast'"],
    );
    refused(&mut images(&["latest", "Canonical"]), 2, &["publisher:offer:sku"]);
    refused(
        &mut images(&["latest", "Debian:debian-12:12", "--not-deprecated-before", "soon"]),
        2,
        &["'soon' is not a date"],
    );
}

fn an_unknown_publisher_leads_to_a_search_suggestion() {
    let (code, stdout, stderr) = finish(&mut images(&["list", "--publisher", "ubuntu"]));
    assert_eq!((code, stdout.trim()), (0, "[]"));
    assert!(stderr.contains("--search 'ubuntu'"), "{stderr}");
    refused(
        &mut images(&["list", "--location", "easus"]),
        2,
        &["the catalog has no location 'easus'", "eastus"],
    );
}

fn every_command_shows_examples() {
    for command in [
        &["--help"][..],
        &["crawl", "--help"],
        &["images", "list", "--help"],
        &["images", "show", "--help"],
        &["images", "latest", "--help"],
        &["images", "usage", "--help"],
        &["images", "aliases", "--help"],
        &["publishers", "--help"],
        &["offers", "--help"],
        &["skus", "--help"],
        &["locations", "--help"],
        &["registry", "list", "--help"],
        &["registry", "repositories", "--help"],
        &["registry", "tags", "--help"],
        &["registry", "manifests", "--help"],
        &["registry", "show", "--help"],
        &["registry", "inspect", "--help"],
        &["registry", "set", "--help"],
        &["registry", "delete", "--help"],
        &["registry", "push", "--help"],
        &["registry", "pull", "--help"],
        &["registry", "purge", "--help"],
        &["gallery", "list", "--help"],
        &["gallery", "images", "--help"],
        &["gallery", "versions", "--help"],
        &["gallery", "show", "--help"],
        &["gallery", "update", "--help"],
        &["gallery", "share", "--help"],
        &["gallery", "unshare", "--help"],
        &["gallery", "wait", "--help"],
        &["gallery", "retire", "--help"],
        &["changes", "--help"],
        &["runs", "list", "--help"],
        &["runs", "show", "--help"],
        &["runs", "publish", "--help"],
        &["serve", "--help"],
        &["host", "--help"],
        &["sim", "--help"],
        &["package", "--help"],
        &["schema", "--help"],
        &["completions", "--help"],
    ] {
        let (code, stdout, _) = finish(&mut azimg(command));
        assert_eq!(code, 0);
        let (_, examples) = stdout.split_once("Examples:").unwrap_or_else(|| panic!("{command:?}"));
        let lines = examples.lines().filter(|line| line.contains("azimg "));
        assert!(lines.count() >= 2, "{command:?}");
    }
    let (code, script, _) = finish(&mut azimg(&["completions", "bash"]));
    assert!(code == 0 && script.contains("azimg"));
}

fn schemas_name_every_column_that_a_row_has() {
    let schema = json(&mut azimg(&["schema", "marketplace"]));
    let row = &json(&mut images(&["list", "--publisher", "debian", "-o", "json"]))[0];
    for column in row.as_object().unwrap().keys() {
        assert!(schema["properties"][column].is_object(), "{column}");
    }
    refused(&mut azimg(&["schema", "nothing"]), 2, &["marketplace", "manifest"]);
}

fn wrong_usage_and_missing_catalogs_have_their_exit_codes() {
    let (code, _, stderr) = finish(&mut azimg(&["crawl", "--colour"]));
    assert_eq!(code, 2, "{stderr}");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    refused(
        &mut azimg(&["images", "list", "--store", path]),
        4,
        &["contains no catalog yet", "azimg crawl --demo"],
    );
    refused(
        &mut azimg(&["runs", "show", "01KAJJ3V0000000000000000AA", "--store", path]),
        4,
        &["no run"],
    );
    refused(&mut azimg(&["images", "list", "--store", "ftp://x/y"]), 2, &["is not a store"]);
    let mut command = azimg(&["images", "list", "--store", "azurite"]);
    // A real account's key goes nowhere, whether its address is told or only its name.
    for line in [
        "AccountName=a;AccountKey=SECRET;BlobEndpoint=https://a.blob.core.windows.net",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET;EndpointSuffix=core.windows.net",
        "a",
    ] {
        refused(command.env("AzimgStorage", line), 2, &["emulator on this machine only"]);
    }
}

fn the_demo_ends_with_what_to_try_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, stdout, stderr) = finish(&mut azimg(&[
        "crawl",
        "--demo",
        "--details",
        "none",
        "--store",
        path,
        "-o",
        "table",
    ]));
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let next: Vec<&str> =
        stderr.lines().filter_map(|line| line.trim().strip_prefix("azimg images ")).collect();
    assert_eq!(next.len(), 3, "{stderr}");
    for command in next {
        let arguments: Vec<&str> = ["images"].into_iter().chain(command.split(' ')).collect();
        let mut command = azimg(&arguments);
        if !arguments.contains(&"-o") {
            command.args(["-o", "table"]);
        }
        let (code, stdout, stderr) = finish(&mut command);
        assert_eq!(code, 0, "{stderr}");
        let found = if arguments.contains(&"--kind") { "latest" } else { "Canonical" };
        assert!(stdout.contains(found), "{stdout}");
    }
}
