//! The readers of docs/consuming.md, as they stand there, and a host under a fuzzer of HTTP APIs.

use crate::support::{Azure, finish, json, root, rows, venv};
use crate::web::Host;
use azimg::sim::{Scale, generate};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The blocks of a document, with their languages.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```").filter(|name| !name.is_empty()) else {
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((language.to_owned(), body.join("\n")));
    }
    blocks
}

/// A program in a folder, with the packages and the executable on its path.
fn program(name: &Path, folder: &Path) -> Command {
    let own = Path::new(env!("CARGO_BIN_EXE_azimg")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", own.display(), venv::readers().display());
    let mut command = Command::new(name);
    command.current_dir(folder).env_clear().env("PATH", path).env("HOME", folder);
    command
}

#[test]
fn every_reader_of_the_documentation_reads_a_snapshot() {
    let azure = Azure::start(generate(Scale::Small, 71));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("azimg-data");
    // A second run, so that there are changes to read.
    for _ in 0..2 {
        json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    }
    let images = rows(&store).len().to_string();
    let text = std::fs::read_to_string(root().join("docs/consuming.md")).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.len() >= 6);
    for (language, body) in blocks {
        let mut command = match language.as_str() {
            "sh" => program(Path::new("bash"), folder.path()),
            "python" => program(Path::new("python"), folder.path()),
            "spark" => match venv::spark() {
                Some(bin) => program(&bin.join("python"), folder.path()),
                None => {
                    eprintln!("skipped: Spark needs a Java runtime");
                    continue;
                }
            },
            other => panic!("nobody knows how to run {other}"),
        };
        let body = if language == "sh" { format!("set -euo pipefail\n{body}") } else { body };
        let (code, stdout, stderr) = finish(command.args(["-c", &body]));
        assert_eq!(code, 0, "{body}\n{stdout}\n{stderr}");
        assert!(stdout.lines().any(|line| line == images), "{images} is not in: {stdout}");
    }
}

#[test]
fn a_fuzzer_of_http_apis_finds_no_answer_outside_the_document() {
    let azure = Azure::start(generate(Scale::Small, 72));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, &store);
    let document = format!("{}/openapi.json", host.address);
    let origin = host.address.trim_end_matches("/api").to_owned();
    let arguments = [
        "run",
        &document,
        "--url",
        &origin,
        "--checks",
        "not_a_server_error,status_code_conformance,\
content_type_conformance,response_schema_conformance,response_headers_conformance",
        "--include-method",
        "GET",
        "--max-examples",
        "60",
        "--seed",
        "7",
        "--workers",
        "2",
        "--request-timeout",
        "30",
        "--generation-database",
        "none",
        "--no-color",
    ];
    let (code, stdout, stderr) =
        finish(program(Path::new("schemathesis"), folder.path()).args(arguments));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
}

#[test]
fn schemas_are_stored_and_the_data_is_what_they_say() {
    let azure = Azure::start(generate(Scale::Small, 73));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("azimg-data");
    let result =
        json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    let run: &Value = &result["run"];
    let script = r#"
import json, sys, jsonschema
folder = sys.argv[1]
manifest = json.load(open(f"{folder}/manifest.json"))
names = {file["name"] for file in manifest["files"]}
check = lambda name, value: jsonschema.validate(value, json.load(open(f"{folder}/{name}.schema.json")))
check("manifest", manifest)
check("coverage", json.load(open(f"{folder}/coverage.json")))
rows = [json.loads(line) for line in sys.stdin]
for row in rows[:200]:
    check("marketplace", row)
for file in manifest["files"]:
    if file["rows"]:
        assert f"{file['schema']}.schema.json" in names
import pyarrow.parquet
metadata = pyarrow.parquet.read_metadata(f"{folder}/marketplace.parquet")
for group in range(metadata.num_row_groups):
    columns = [metadata.row_group(group).column(n) for n in range(metadata.num_columns)]
    publisher = next(c for c in columns if c.path_in_schema == "publisher")
    assert publisher.statistics.has_min_max and publisher.compression == "ZSTD"
    assert publisher.has_dictionary_page
print(len(rows))
"#;
    let snapshot = store.join("snapshots").join(run.as_str().unwrap());
    let lines: String = rows(&store).iter().map(|row| format!("{row}\n")).collect();
    let file = folder.path().join("rows.ndjson");
    std::fs::write(&file, lines).unwrap();
    let mut command = program(Path::new("python"), folder.path());
    command.args(["-c", script]).arg(&snapshot).stdin(std::fs::File::open(&file).unwrap());
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stdout.trim()), (0, rows(&store).len().to_string().as_str()), "{stderr}");
}
