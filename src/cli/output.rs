//! How results are printed: the format, `JMESPath`, fields, and a stdout that may be closed.

use crate::error::{Error, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
    /// Tab-separated values
    Tsv,
    /// Comma-separated values with a header
    Csv,
    /// YAML
    Yaml,
}

/// How this command prints.
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) quiet: bool,
    query: Option<jmespath::Expression<'static>>,
    fields: Vec<String>,
}

impl Output {
    pub(super) fn new(
        format: Option<Format>,
        query: Option<&str>,
        fields: &[String],
        quiet: bool,
    ) -> Result<Self> {
        let default = if std::io::stdout().is_terminal() { Format::Table } else { Format::Json };
        let query = query
            .map(|text| {
                jmespath::compile(text).map_err(|e| {
                    Error::invalid(format!("--query: {}", first_lines(&e.to_string())))
                })
            })
            .transpose()?;
        let fields = fields.iter().map(|field| camel(field.trim())).collect();
        Ok(Self { format: format.unwrap_or(default), quiet, query, fields })
    }

    /// Whether people read it.
    pub(super) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints a list; `columns` are what a table shows unless fields are named.
    pub(super) fn list(&self, rows: Vec<Value>, columns: &[&str]) -> Result<()> {
        self.print(Value::Array(rows), columns)
    }

    /// Prints one thing.
    pub(super) fn one(&self, value: Value) -> Result<()> {
        self.print(value, &[])
    }

    /// Prints a JSON document as what it is, unless another format was asked for by name.
    pub(super) fn document(&self, value: &Value) -> Result<()> {
        let format = if self.format == Format::Table { Format::Json } else { self.format };
        Self { format, quiet: self.quiet, query: self.query.clone(), fields: self.fields.clone() }
            .print(value.clone(), &[])
    }

    fn print(&self, value: Value, columns: &[&str]) -> Result<()> {
        let mut value = value;
        let mut columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        if let Some(query) = &self.query {
            let variable = jmespath::Variable::from_serializable(&value)
                .map_err(|e| Error::bug(format!("--query: {e}")))?;
            let found = query
                .search(variable)
                .map_err(|e| Error::invalid(format!("--query: {}", first_lines(&e.to_string()))))?;
            value = serde_json::to_value(&*found).map_err(|e| Error::bug(e.to_string()))?;
            columns = Vec::new();
        }
        if !self.fields.is_empty() {
            value = select(value, &self.fields)?;
            columns.clone_from(&self.fields);
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = self.write(&mut out, &value, &columns).and_then(|()| out.flush());
        closed_is_fine(written)
    }

    fn write(
        &self,
        out: &mut impl Write,
        value: &Value,
        columns: &[String],
    ) -> std::io::Result<()> {
        let invalid = |e: String| std::io::Error::other(e);
        match (self.format, value) {
            (Format::Json, _) => {
                serde_json::to_writer_pretty(&mut *out, value)?;
                writeln!(out)
            }
            (Format::Ndjson, Value::Array(rows)) => rows.iter().try_for_each(|row| {
                serde_json::to_writer(&mut *out, row)?;
                writeln!(out)
            }),
            (Format::Ndjson, one) => {
                serde_json::to_writer(&mut *out, one)?;
                writeln!(out)
            }
            (Format::Yaml, _) => {
                let text = serde_saphyr::to_string(value).map_err(|e| invalid(e.to_string()))?;
                out.write_all(text.as_bytes())
            }
            (Format::Table, Value::Array(rows)) => table(out, rows, columns),
            (Format::Table, one) => key_values(out, one),
            (Format::Tsv | Format::Csv, value) => self.separated(out, value, columns),
        }
    }

    fn separated(
        &self,
        out: &mut impl Write,
        value: &Value,
        columns: &[String],
    ) -> std::io::Result<()> {
        let one = std::slice::from_ref(value);
        let rows = value.as_array().map_or(one, Vec::as_slice);
        let tabs = self.format == Format::Tsv;
        let mut writer = csv::WriterBuilder::new()
            .delimiter(if tabs { b'\t' } else { b',' })
            .quote_style(if tabs { csv::QuoteStyle::Never } else { csv::QuoteStyle::Necessary })
            .flexible(true)
            .from_writer(out);
        // Files get every column: whoever reads them wants to choose there.
        let named = self.fields.is_empty();
        let columns = if named { all_columns(rows) } else { columns.to_vec() };
        if !tabs && !columns.is_empty() {
            writer.write_record(&columns).map_err(io_error)?;
        }
        for row in rows {
            let cells: Vec<String> = match row {
                Value::Object(row) => {
                    columns.iter().map(|c| harmless(cell(row.get(c), tabs))).collect()
                }
                Value::Array(cells) => {
                    cells.iter().map(|c| harmless(cell(Some(c), tabs))).collect()
                }
                plain => vec![harmless(cell(Some(plain), tabs))],
            };
            writer.write_record(&cells).map_err(io_error)?;
        }
        writer.flush()
    }
}

/// What failed below the CSV writer: a closed pipe must stay recognizable.
fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

/// Prints text as it is.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    closed_is_fine(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A reader that has had enough (`| head -1`) is no error.
fn closed_is_fine(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::io("writing to stdout", e)),
        Ok(()) => Ok(()),
    }
}

fn first_lines(text: &str) -> String {
    text.lines().take(3).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// `is_latest` as `isLatest`: both spellings of a column are taken.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut all, part| {
        let mut letters = part.chars();
        all.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        all.push_str(letters.as_str());
        all
    })
}

/// Leaves the named fields, in that order.
fn select(value: Value, fields: &[String]) -> Result<Value> {
    let pick = |row: Value| -> Result<Value> {
        let Value::Object(mut row) = row else { return Ok(row) };
        let mut picked = Map::new();
        for field in fields {
            if let Some(value) = row.remove(field) {
                drop(picked.insert(field.clone(), value));
            } else {
                let known: Vec<_> = row.keys().map(String::as_str).collect();
                return Err(Error::invalid(format!(
                    "--fields: there is no field '{field}'; there are {}",
                    known.join(", ")
                )));
            }
        }
        Ok(Value::Object(picked))
    };
    match value {
        Value::Array(rows) => rows.into_iter().map(pick).collect::<Result<_>>().map(Value::Array),
        one => pick(one),
    }
}

fn all_columns(rows: &[Value]) -> Vec<String> {
    rows.first()
        .and_then(Value::as_object)
        .map_or_else(Vec::new, |row| row.keys().cloned().collect())
}

/// A value in one cell. With `flat`, nothing in it can end the cell or the line.
fn cell(value: Option<&Value>, flat: bool) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| cell(Some(item), flat)).collect();
            items.join(" ")
        }
        Some(Value::Object(map)) => {
            let pairs: Vec<_> =
                map.iter().map(|(k, v)| format!("{k}={}", cell(Some(v), flat))).collect();
            pairs.join("; ")
        }
        Some(other) => other.to_string(),
    };
    if flat { text.replace(['\t', '\n', '\r'], " ") } else { text }
}

/// A publisher chooses its names; none of them becomes a formula in somebody's spreadsheet.
fn harmless(text: String) -> String {
    match text.as_bytes().first() {
        Some(b'=' | b'+' | b'@' | b'-' | b'\t' | b'\r') => format!("'{text}"),
        _ => text,
    }
}

/// Control characters in a name must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn table(out: &mut impl Write, rows: &[Value], columns: &[String]) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = if columns.is_empty() { all_columns(rows) } else { columns.to_vec() };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !columns.is_empty() {
        table.set_header(columns.iter().map(|name| title(name)));
    }
    for row in rows {
        match row {
            Value::Object(row) => {
                table.add_row(columns.iter().map(|c| short_cell(row.get(c))));
            }
            Value::Array(cells) => {
                table.add_row(cells.iter().map(|value| short_cell(Some(value))));
            }
            plain => {
                table.add_row([short_cell(Some(plain))]);
            }
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A cell of a table for people: long lists are counted.
fn short_cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(items)) if items.len() > 3 => format!("{} in all", items.len()),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => String::new(),
        value => printable(&cell(value, true)),
    }
}

/// `hyperVGeneration` as `HYPER V GENERATION`.
fn title(name: &str) -> String {
    name.chars().fold(String::new(), |mut all, c| {
        if c.is_ascii_uppercase() {
            all.push(' ');
        }
        all.push(c.to_ascii_uppercase());
        all
    })
}

fn key_values(out: &mut impl Write, value: &Value) -> std::io::Result<()> {
    let Value::Object(map) = value else {
        return writeln!(out, "{}", printable(&cell(Some(value), true)));
    };
    let width = map.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in map {
        writeln!(out, "{name:width$}  {}", printable(&cell(Some(value), true)))?;
    }
    Ok(())
}
