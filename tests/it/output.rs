//! What is printed: columns, fields and queries.

use crate::support::listed::{list, store};
use crate::support::needs::{Need, folder};
use crate::support::{azimg, finish, json, root};
use crate::tests;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

tests![
    a_list_of_several_kinds_has_the_columns_of_each,
    fields_of_another_kind_are_empty_and_unknown_ones_are_refused,
    queries_print_what_az_prints_while_rows_are_read,
    the_azure_cli_gives_the_recorded_query_results needs [Azure],
    every_query_of_an_example_is_taken,
    the_commands_of_the_documentation_run,
];

fn printed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = finish(&mut list(arguments));
    assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    stdout
}

fn csv(text: &str) -> (Vec<String>, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (names, reader.records().map(Result::unwrap).collect())
}

fn a_list_of_several_kinds_has_the_columns_of_each() {
    let rows = json(&mut list(&["-o", "json"]));
    let rows = rows.as_array().unwrap();
    let members: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.as_object().unwrap().keys()).map(String::as_str).collect();
    let kinds: BTreeSet<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert!(kinds.len() >= 4, "{kinds:?}");

    let (names, records) = csv(&printed(&["-o", "csv"]));
    let columns: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let unseen: Vec<&&str> = columns.difference(&members).collect();
    // Of what was read as a whole there is no total.
    assert!(unseen.iter().all(|name| name.ends_with("Total")), "{unseen:?}");
    assert!(members.is_subset(&columns));
    assert_eq!(names[..3], ["kind", "id", "status"]);
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(rows) {
        assert_eq!(record.len(), names.len());
        for (name, cell) in names.iter().zip(record) {
            assert_eq!(
                cell.is_empty(),
                row[name].is_null() || is_empty(&row[name]),
                "{name} {row}"
            );
        }
    }
    let tsv = printed(&["-o", "tsv"]);
    assert!(tsv.lines().all(|line| line.split('\t').count() == names.len()));

    // Each row of a table says what it is of.
    let table = printed(&["-o", "table"]);
    let head = table.lines().next().unwrap();
    assert!(head.starts_with("KIND") && head.contains("NAME"), "{head}");
    let at = head.find("NAME").unwrap();
    assert!(table.lines().all(|line| line[at..].starts_with(|c: char| c != ' ')), "{table}");
    for name in ["gallery-version", "container-manifest"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let wide = printed(&["-o", "wide"]);
    let head: Vec<&str> =
        wide.lines().next().unwrap().split("  ").filter(|c| !c.is_empty()).collect();
    assert_eq!(head.len(), names.len(), "{head:?}");
    assert!(wide.contains("sha256:") && wide.len() > 2 * table.len());

    // The columns follow from the kinds that are asked for, also where nothing fits.
    for (arguments, has, has_not) in [
        (&["--kind", "marketplace"][..], "publisher", "digest"),
        (&["--kind", "container-manifest"], "digest", "publisher"),
        (&["--kind", "gallery-version"], "excludeFromLatest", "digest"),
        (&["--gallery", "nothing-is-called-so"], "excludeFromLatest", "digest"),
    ] {
        let (code, stdout, _) = finish(list(arguments).args(["-o", "csv"]));
        let (names, _) = csv(&stdout);
        let has_name = |wanted: &str| names.iter().any(|name| name == wanted);
        assert!(code == 0 && has_name(has) && !has_name(has_not), "{arguments:?}: {names:?}");
    }
    let only = printed(&["--kind", "marketplace", "-o", "table"]);
    assert!(only.starts_with("PUBLISHER"), "{only}");
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn fields_of_another_kind_are_empty_and_unknown_ones_are_refused() {
    let picked = json(&mut list(&["--fields", "kind,digest,publisher,is_latest", "-o", "json"]));
    let picked = picked.as_array().unwrap();
    let names = ["kind", "digest", "publisher", "isLatest"];
    for row in picked {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), names);
        assert_eq!(row["digest"].is_string(), row["kind"] == "container-manifest", "{row}");
    }
    assert!(picked.iter().any(|row| row["digest"].is_string()));
    let text = printed(&["--kind", "marketplace", "--fields", "id,digest", "-o", "csv"]);
    assert!(
        text.starts_with("id,digest\n") && text.lines().skip(1).all(|line| line.ends_with(','))
    );
    for format in ["json", "ndjson", "csv", "tsv", "table", "yaml"] {
        let (code, stdout, stderr) =
            finish(&mut list(&["--fields", "id,publischer", "-o", format]));
        assert_eq!((code, stdout.as_str()), (2, ""), "{format}");
        assert!(stderr.contains("no field 'publischer'; the nearest are publisher"), "{stderr}");
    }
    // What a query made has the fields that it made.
    let asked = |fields: &str, query: &str| {
        finish(&mut list(&["--query", query, "--fields", fields, "-o", "csv"]))
    };
    let (code, stdout, _) = asked("b", "[].{a: id, b: kind}");
    assert!(code == 0 && stdout.starts_with("b\nmarketplace\n"), "{stdout}");
    for query in ["[].{a: id, b: kind}", "sort_by([].{a: id, b: kind}, &a)"] {
        let (code, _, stderr) = asked("c", query);
        assert!(code == 2 && stderr.contains("no field 'c'"), "{query}: {stderr}");
    }
}

fn queries_print_what_az_prints_while_rows_are_read() {
    let rows = json(&mut list(&["-o", "json"]));
    let rows = rows.as_array().unwrap();
    let count = rows.len();
    let text = |value: &Value| match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let lines: String = rows
        .iter()
        .map(|row| {
            format!("{}\t{}\t{}\n", text(&row["os"]), text(&row["isLatest"]), text(&row["id"]))
        })
        .collect();
    assert_eq!(printed(&["--query", "[].{z: os, b: isLatest, a: id}", "-o", "tsv"]), lines);
    assert_eq!(printed(&["--query", "length(@)", "-o", "tsv"]), format!("{count}\n"));
    assert_eq!(printed(&["--query", "length([?kind!=`x`])"]), format!("{count}\n"));
    assert_eq!(printed(&["--query", "nothing", "-o", "tsv"]), "");
    let bytes: u64 = rows.iter().filter_map(|row| row["bytes"].as_u64()).sum();
    assert_eq!(printed(&["--query", "sum([?bytes].bytes)"]), format!("{bytes}\n"));
    let first = &rows[0];
    assert_eq!(json(&mut list(&["--query", "[0]"])), *first);
    assert_eq!(printed(&["--query", "[0].id", "-o", "tsv"]), format!("{}\n", text(&first["id"])));
    assert_eq!(
        json(&mut list(&["--query", "[?kind!=`x`] | [:2].id"])).as_array().unwrap().len(),
        2
    );
    let latest = rows.iter().filter(|row| row["isLatest"] == true);
    let ids: Vec<&Value> = latest.clone().map(|row| &row["id"]).collect();
    for format in ["json", "ndjson", "csv", "tsv"] {
        let found = printed(&["--query", "[?isLatest].{id: id}", "-o", format]);
        assert!(found.matches(':').count() > ids.len(), "{format}");
        match format {
            "json" => {
                assert_eq!(serde_json::from_str::<Vec<Value>>(&found).unwrap().len(), ids.len());
            }
            "csv" => assert_eq!(found.lines().count(), ids.len() + 1),
            // A long text of YAML has a line of its own.
            "yaml" => assert_eq!(found.matches("- id:").count(), ids.len()),
            _ => assert_eq!(found.lines().count(), ids.len(), "{format}"),
        }
    }
    let whole = json(&mut list(&["--query", "[?isLatest]"]));
    assert!(whole.as_array().unwrap().iter().eq(latest));
    let (code, _, stderr) = finish(&mut list(&["--query", "[?bytes > 5].id"]));
    assert!(code == 2 && stderr.contains("backticks, `5`"), "{stderr}");
    let (code, _, stderr) = finish(&mut list(&["--query", "lenght(@)"]));
    assert!(code == 2 && stderr.contains("the nearest is length()"), "{stderr}");
}

fn the_azure_cli_gives_the_recorded_query_results() {
    let python = folder(Need::Azure).join("python");
    let mut command = Command::new(python);
    command.arg(root().join("tests/fixtures/ask_queries.py"));
    command.arg(root().join("tests/fixtures/queries.json"));
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.trim().parse::<u32>().unwrap() > 300, "{stdout}");
}

/// The queries and fields that the help of commands gives as examples are taken.
fn every_query_of_an_example_is_taken() {
    let mut asked = 0;
    for group in ["images", "runs", "changes", "gallery", "registry"] {
        let (_, help, _) = finish(&mut azimg(&[group, "--help"]));
        let commands = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let commands = commands.filter(|name| !name.is_empty() && !name.starts_with('-'));
        for command in commands.chain([""]) {
            let mut line = vec![group];
            line.extend(Some(command).filter(|command| !command.is_empty()));
            line.push("--help");
            let (_, help, _) = finish(&mut azimg(&line));
            let (_, examples) = help.split_once("Examples:").unwrap_or_default();
            // Long lines are broken, with a backslash before the break.
            let words = examples.split_whitespace().filter(|word| *word != "\\");
            let examples = words.collect::<Vec<_>>().join(" ");
            for query in examples.split("--query ").skip(1) {
                let query = match query.strip_prefix('\'') {
                    Some(quoted) => quoted.split('\'').next().unwrap(),
                    None => query.split([' ', ')']).next().unwrap(),
                };
                let (code, _, stderr) = finish(&mut list(&["--query", query, "-o", "tsv"]));
                // Images have no fields of other lists to sort by.
                assert!(code == 0 || stderr.contains("was given null"), "{query}: {stderr}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 4, "{asked}");
}

fn the_commands_of_the_documentation_run() {
    let text = std::fs::read_to_string(root().join("docs/output.md")).unwrap();
    let (_, block) = text.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_azimg")).parent().unwrap();
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    assert!(block.lines().count() >= 4);
    for line in block.lines() {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -o pipefail; {line}")]).env_clear();
        command.env("PATH", &path).env("AZIMG_STORE", store());
        let (code, _, stderr) = finish(&mut command);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
    }
}
