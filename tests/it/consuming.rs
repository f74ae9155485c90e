//! The readers of docs/consuming.md, as they stand there, and a host under a fuzzer of HTTP APIs.

use crate::support::blocks::{blocks, program};
use crate::support::needs::Need;
use crate::support::web::Host;
use crate::support::{Azure, finish, json, root, rows};
use crate::tests;
use azimg::testing::sim::{OrganisationSize, Scale, generate};
use serde_json::Value;
use std::collections::BTreeSet;

tests![
    every_reader_of_the_documentation_reads_a_snapshot needs [Readers],
    spark_reads_a_snapshot needs [Spark],
    a_fuzzer_of_http_apis_finds_no_answer_outside_the_document needs [Schemathesis],
    schemas_are_stored_and_the_data_is_what_they_say needs [Readers],
    the_tables_say_the_same_in_both_their_forms needs [Readers],
];

/// What the blocks of the documentation are written in.
const LANGUAGES: [&str; 3] = ["sh", "python", "spark"];

/// Runs the documentation's blocks in one of these languages, each of which tells how many images there are;
/// the languages that were met.
fn read_in(languages: &[&str], need: Need) -> BTreeSet<String> {
    let azure = Azure::start(generate(Scale::Small, 71));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("azimg-data");
    // A second run, so that there are changes to read.
    for _ in 0..2 {
        json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    }
    let images = rows(&store).len().to_string();
    let text = std::fs::read_to_string(root().join("docs/consuming.md")).unwrap();
    let mut met = BTreeSet::new();
    for (language, body) in blocks(&text) {
        if !languages.contains(&language.as_str()) {
            assert!(LANGUAGES.contains(&language.as_str()), "nobody knows how to run {language}");
            continue;
        }
        let name = if language == "sh" { "bash" } else { "python" };
        let body = if language == "sh" { format!("set -euo pipefail\n{body}") } else { body };
        let mut command = program(need, name, folder.path());
        let (code, stdout, stderr) = finish(command.args(["-c", &body]));
        assert_eq!(code, 0, "{body}\n{stdout}\n{stderr}");
        assert!(stdout.lines().any(|line| line == images), "{images} is not in: {stdout}");
        met.insert(language);
    }
    met
}

fn every_reader_of_the_documentation_reads_a_snapshot() {
    assert_eq!(read_in(&LANGUAGES[..2], Need::Readers).len(), 2);
}

fn spark_reads_a_snapshot() {
    assert_eq!(read_in(&LANGUAGES[2..], Need::Spark).len(), 1);
}

fn a_fuzzer_of_http_apis_finds_no_answer_outside_the_document() {
    let azure = Azure::start(generate(Scale::Small, 72));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, &store);
    let document = format!("{}/openapi.json", host.address);
    let origin = host.address.trim_end_matches("/api").to_owned();
    let key = format!("x-functions-key: {}", host.key);
    let arguments = [
        "run",
        &document,
        "--header",
        &key,
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
        finish(program(Need::Schemathesis, "schemathesis", folder.path()).args(arguments));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
}

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
    let mut command = program(Need::Readers, "python", folder.path());
    command.args(["-c", script]).arg(&snapshot).stdin(std::fs::File::open(&file).unwrap());
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stdout.trim()), (0, rows(&store).len().to_string().as_str()), "{stderr}");
}

fn the_tables_say_the_same_in_both_their_forms() {
    let world = generate(Scale::Small, 74)
        .with_generated_organisation(OrganisationSize { machines: 0, ..OrganisationSize::FEW }, 74);
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("azimg-data");
    let result =
        json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    let script = r#"
import datetime, json, re, sys
import pandas, polars, pyarrow, pyarrow.parquet
folder = sys.argv[1]
snake = lambda name: re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)

def stored(value):
    """A value of the Parquet file, as JSON has it."""
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    return value

def reported(value, kind):
    """A value of the NDJSON file, as the Parquet file has it."""
    if isinstance(value, str) and pyarrow.types.is_timestamp(kind):
        # To the last digit: neither form has more than the other.
        assert not re.search(r"\.\d{4}", value), value
        return datetime.datetime.fromisoformat(re.sub(r"\.\d+", lambda part: part[0].ljust(4, "0"), value))
    if pyarrow.types.is_map(kind):
        return value or []
    return value

compared = 0
for table in ["marketplace", "gallery", "registry"]:
    lines = pyarrow.input_stream(f"{folder}/{table}.ndjson.zst", compression="zstd").read()
    rows = [json.loads(line) for line in lines.splitlines()]
    file = pyarrow.parquet.read_table(f"{folder}/{table}.parquet")
    assert file.num_rows == len(rows) > 0, table
    assert {snake(name) for row in rows for name in row} <= set(file.column_names), table
    for name in file.column_names:
        kind = file.schema.field(name).type
        assert not pyarrow.types.is_dictionary(kind), (table, name)
        for row, value in zip(rows, file.column(name).to_pylist()):
            member = next((of for of in row if snake(of) == name), None)
            assert stored(value) == reported(row.get(member), kind), (table, name, value, row)
            compared += 1
    column = {"marketplace": "publisher", "gallery": "definition", "registry": "repository"}[table]
    wanted = rows[0][column]
    frame = polars.read_parquet(f"{folder}/{table}.parquet")
    assert frame.schema[column] == polars.String, (table, frame.schema)
    fits = frame.filter(polars.col(column).str.to_lowercase() == wanted.lower())
    assert fits.height == sum(row[column].lower() == wanted.lower() for row in rows) > 0
    frame = pandas.read_parquet(f"{folder}/{table}.parquet")
    assert (frame[column].str.lower() == wanted.lower()).sum() == fits.height
print(compared)
"#;
    let snapshot = store.join("snapshots").join(result["run"].as_str().unwrap());
    let mut command = program(Need::Readers, "python", folder.path());
    let (code, stdout, stderr) = finish(command.args(["-c", script]).arg(&snapshot));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.trim().parse::<u64>().unwrap() > 10_000, "{stdout}");
}
