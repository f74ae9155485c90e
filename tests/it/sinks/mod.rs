//! Texts of strangers at each sink: what is printed in each format, what is said on stderr, and the log. None of them
//! does anything there, and all of them can still be told apart.

mod registry;
mod shown;

use crate::support::answering::server;
use crate::support::commands::commands;
use crate::support::strangers::TEXTS;
use crate::support::terminal::{self, Terminal};
use crate::support::{Azure, azimg, finish, json, temporary, write_rows};
use crate::tests;
use azimg::testing::sim::World;
use azimg::testing::sink::acts;
use azimg::testing::sink::log::{JsonLine, TextLine};
use serde_json::{Value, json as value};
use shown::{Named, shows};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::runtime::Runtime;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;

tests![
    ten_thousand_texts_are_inert_in_each_format,
    a_terminal_shows_ten_thousand_texts_as_they_are_printed needs [Terminal],
    every_command_prints_untrusted_texts_without_harm
        slow "each command is run once for each format",
    errors_of_a_registry_are_printed_inert,
    each_line_of_the_log_is_one_line_or_one_document,
    wrong_arguments_are_reported_without_harm,
    texts_like_formulas_are_escaped_in_csv_and_numbers_are_not,
];

const FORMATS: [&str; 6] = ["table", "json", "ndjson", "tsv", "csv", "yaml"];

/// Fails when a text has something in it that acts, but for the ends of lines and tabs between cells.
fn assert_harmless(text: &str, what: &str) {
    if let Some(c) = text.chars().find(|c| acts(*c) && !matches!(c, '\n' | '\t')) {
        let line = text.lines().find(|line| line.contains(c)).unwrap_or_default();
        panic!("{what}: {c:?} in {line:?}");
    }
}

/// A registry of strangers, as long as it is kept.
struct Strangers {
    address: String,
    _runtime: Runtime,
}

impl Strangers {
    fn start(mode: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(server(registry::answer, mode.to_owned()));
        Self { address: server.address, _runtime: runtime }
    }
}

/// All texts, printed as manifests in a format.
fn printed(format: &str) -> String {
    static REGISTRY: OnceLock<Strangers> = OnceLock::new();
    let at = format!("{}/all", REGISTRY.get_or_init(|| Strangers::start("")).address);
    let line = ["registry", "manifests", &at, "--anonymous", "-o", format];
    let (code, stdout, stderr) = finish(&mut azimg(&line));
    assert_eq!((code, stderr.as_str()), (0, ""), "{format}");
    stdout
}

fn records(text: &str, tabs: bool) -> Vec<Vec<String>> {
    let delimiter = if tabs { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).delimiter(delimiter).flexible(true);
    let read = |row: csv::StringRecord| row.iter().map(str::to_owned).collect();
    reader.from_reader(text.as_bytes()).records().map(|row| read(row.unwrap())).collect()
}

fn ten_thousand_texts_are_inert_in_each_format() {
    for format in FORMATS {
        let text = printed(format);
        assert_harmless(&text, format);
        let lines = text.lines().count();
        match format {
            "table" | "csv" => assert_eq!(lines, TEXTS.len() + 1, "{format}"),
            "tsv" | "ndjson" => assert_eq!(lines, TEXTS.len(), "{format}"),
            _ => {}
        }
        match format {
            "json" => {
                let rows: Value = serde_json::from_str(&text).unwrap();
                let found: Vec<&str> = rows
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row["os"].as_str().unwrap())
                    .collect();
                assert!(found.iter().eq(TEXTS.iter()), "the true texts are in it");
            }
            "ndjson" => {
                let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                assert!(rows.zip(TEXTS.iter()).all(|(row, text)| row["os"] == **text));
            }
            "csv" | "tsv" => {
                let rows = records(&text, format == "tsv");
                let rows = &rows[usize::from(format == "csv")..];
                assert_eq!(rows.len(), TEXTS.len());
                assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{format}");
                let cells = rows.iter().flatten();
                let mut formulas = cells.filter(|cell| cell.starts_with(['=', '+', '-', '@']));
                assert_eq!(formulas.next(), None, "{format}");
            }
            _ => {}
        }
    }
}

fn a_terminal_shows_ten_thousand_texts_as_they_are_printed() {
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let terminal = Terminal::open();
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1));
        lines
    };
    for format in FORMATS {
        let text = printed(format);
        let file = folder.path().join(format);
        std::fs::write(&file, &text).unwrap();
        let (shown, state) = terminal.show(&file);
        assert!(
            !state.contains("taken over") && state.ends_with(" 0 0 0 0\n"),
            "{format}: {state}"
        );
        let (shown, printed) = (lines(&shown), lines(&text));
        if format != "tsv" {
            let odd = shown.iter().zip(&printed).find(|(shown, printed)| shown != printed);
            assert_eq!((odd, shown.len()), (None, printed.len()), "{format}");
        }
        // Tabs lead to the next column of eight, and at the end of a line nowhere.
        assert!(shown.len() >= printed.len(), "{format}");
        let count = match format {
            "csv" => terminal::cells(&file, "excel"),
            "tsv" => terminal::cells(&file, "excel-tab"),
            _ => continue,
        };
        let rows = TEXTS.len() + usize::from(format == "csv");
        assert_eq!(count.len(), rows, "{format}");
        assert!(count.iter().all(|cells| *cells == count[0] && *cells > 5), "{format}");
    }
    // The terminal itself does what is asked of it.
    let file = folder.path().join("raw");
    std::fs::write(&file, "\u{1b}]2;taken over\u{7}x").unwrap();
    assert!(terminal.show(&file).1.contains("taken over"));
}

fn every_command_prints_untrusted_texts_without_harm() {
    let at = Named::crawled();
    let mut showed = 0;
    for command in commands() {
        for line in shows(&command, &at).into_iter().flatten() {
            for format in FORMATS {
                let mut words: Vec<&str> = line.iter().map(String::as_str).collect();
                words.extend(["-o", format]);
                let (code, stdout, stderr) = finish(&mut at.azimg(&words));
                let what = format!("{command} {format}");
                assert_harmless(&stdout, &what);
                assert_harmless(&stderr, &what);
                assert!(!stderr.contains("panicked") && code < 5, "{what}: {stderr}");
                showed += usize::from(stdout.contains("taken over"));
                if format == "json" && !stdout.is_empty() {
                    serde_json::from_str::<Value>(&stdout)
                        .unwrap_or_else(|e| panic!("{what}: {e}"));
                }
                if format == "csv" && !stdout.is_empty() {
                    let records = records(&stdout, false);
                    let widths = records.iter().map(Vec::len);
                    assert!(widths.clone().all(|width| width == records[0].len()), "{what}");
                }
            }
        }
    }
    // What was to be shown was there.
    assert!(showed > 30, "{showed}");
}

fn errors_of_a_registry_are_printed_inert() {
    let registry = Strangers::start("error");
    for number in (0..TEXTS.len()).step_by(250) {
        let at = format!("{}/text{number}", registry.address);
        let (code, stdout, stderr) = finish(&mut azimg(&["registry", "tags", &at, "--anonymous"]));
        assert_eq!((code != 0, stdout.as_str()), (true, ""), "{stderr}");
        assert_harmless(&stderr, &at);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Logs each text: in a span's field, as a message, as a field by what it is, and as one by what it is called.
fn logged(layer: impl tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync) {
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for text in TEXTS.iter() {
            let span = tracing::error_span!("invocation", item = text.as_str());
            let _entered = span.enter();
            tracing::error!(error = %text, odd = ?text, "{text}");
        }
    });
}

fn each_line_of_the_log_is_one_line_or_one_document() {
    let text = |written: &Written| String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    for colours in [false, true] {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone());
        logged(layer.event_format(TextLine { colours }));
        let text = text(&written);
        assert_eq!(text.lines().count(), TEXTS.len());
        let plain = text.replace("\u{1b}[31mERROR\u{1b}[0m", "ERROR");
        assert_eq!(plain != text, colours);
        assert_harmless(&plain, "a log of text");
    }
    let written = Written::default();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone());
    logged(layer.fmt_fields(JsonFields::new()).event_format(JsonLine::default()));
    let log = text(&written);
    assert_harmless(&log, "a log of JSON");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut count = 0;
    for (line, text) in lines.zip(TEXTS.iter()) {
        assert_eq!(line["fields"]["message"], **text);
        assert_eq!(line["spans"][0]["item"], **text);
        count += 1;
    }
    assert_eq!(count, TEXTS.len());
    assert_eq!(log.lines().count(), count);
}

fn wrong_arguments_are_reported_without_harm() {
    let hostile = "\u{1b}]2;taken over\u{7}\u{202e}\u{9b}2J";
    for line in [
        &["images", "list", "--query", hostile][..],
        &["images", "list", "--fields", hostile],
        &["images", "list", "--colour", hostile],
        &["images", "list", "--output", hostile],
        &["images", "show", hostile],
        &["registry", "tags", hostile],
        &["registry", "purge", "r.azurecr.io", "--repository", hostile],
        &["gallery", "show", hostile],
        &["runs", "show", hostile],
        &["schema", hostile],
        &["images", "list", "--store", hostile],
        &[hostile],
    ] {
        let (code, stdout, stderr) = finish(&mut azimg(line));
        assert!(code != 0 && !stderr.is_empty(), "{line:?}");
        assert_harmless(&format!("{stdout}{stderr}"), &format!("{line:?}"));
    }
    for (name, value) in [
        ("AZIMG_LOG", "azimg=\u{1b}[31mloud"),
        ("AZIMG_SCHEDULE", hostile),
        ("AZIMG_CLOUD", hostile),
    ] {
        let (code, stdout, stderr) = finish(azimg(&["doctor"]).env(name, value));
        assert!(code < 5, "{stderr}");
        assert_harmless(&format!("{stdout}{stderr}"), name);
    }
    // What is ours is printed as it is.
    let (code, script, _) = finish(&mut azimg(&["completions", "bash"]));
    assert!(code == 0 && !script.contains("\\u{"), "{script}");
}

fn texts_like_formulas_are_escaped_in_csv_and_numbers_are_not() {
    let query = "[{\"=a\": `-5`, \"b\": '-5', \"c\": '\"x', \"d\": `null`}]";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    write_rows(&file, &[value!({"publisher": "p", "offer": "o", "sku": "s", "version": "1.0.0"})]);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
    let print = |query: &str, format: &str| {
        let line = ["images", "list", "--store", path, "--query", query, "-o", format];
        finish(&mut azimg(&line)).1
    };
    assert_eq!(print(query, "csv"), "'=a,b,c,d\n-5,'-5,\"\"\"x\",\n");
    assert_eq!(print(query, "tsv"), "-5\t'-5\t\"x\tNone\n");
    assert_eq!(print("['a\"b', 'c']", "tsv"), "a\"b\nc\n");
    assert_eq!(print("[].sku", "tsv"), "s\n");
    assert_eq!(print("{a: 'x'}", "yaml"), "a: x\n");
    let odd = "{a: '\u{202e}\u{e0041}', \"\\u001b\": 'two\nlines'}";
    let yaml = print(odd, "yaml");
    assert!(yaml.contains("a: \"\\u202e\\U000e0041\"\n"), "{yaml}");
    assert!(yaml.contains("\"\\e\": |-\n  two\n  lines\n"), "{yaml}");
    assert_eq!(print(odd, "json").matches("\\u202e\\udb40\\udc41").count(), 1);
    assert!(print(odd, "table").contains("\\u{1b}"));
}
