//! The printers of rows for each format. Rows are printed as they come.

use super::cells;
use super::format::{Format, Rows};
use super::table::{Look, Table};
use super::yaml;
use crate::sink;
use serde_json::Value;
use std::io::{self, Write};

/// The printer of a list in `format`. `columns` are the column names: those shown in a table (if
/// empty, taken from the rows), or all that rows may have in CSV and TSV.
pub(super) fn rows<'a, W: Write + 'a>(
    format: Format,
    out: W,
    columns: &[String],
    look: Look,
) -> io::Result<Box<dyn Rows + 'a>> {
    Ok(match format {
        Format::Json => Box::new(Json { out, count: 0 }),
        Format::Ndjson => Box::new(Ndjson(out)),
        Format::Yaml => Box::new(Yaml { out, count: 0 }),
        Format::Table | Format::Wide => Box::new(Table::new(out, columns, look)),
        Format::Tsv => Box::new(Tsv { out, columns: columns.to_vec() }),
        Format::Csv => {
            let mut csv = csv::WriterBuilder::new().flexible(true).from_writer(out);
            if !columns.is_empty() {
                let names = columns.iter().map(|name| sink::cell(name).into_owned());
                csv.write_record(names).map_err(io_error)?;
            }
            Box::new(Csv { csv, columns: columns.to_vec() })
        }
    })
}

/// A single array, formatted as if it were serialized as a whole.
struct Json<W> {
    out: W,
    count: usize,
}

impl<W: Write> Rows for Json<W> {
    fn row(&mut self, row: Value) -> io::Result<()> {
        self.out.write_all(if self.count == 0 { b"[\n" } else { b",\n" })?;
        self.count += 1;
        let text = serde_json::to_string_pretty(&row)?;
        // JSON text contains no line breaks inside strings.
        for (at, line) in text.lines().enumerate() {
            self.out.write_all(if at == 0 { b"  " } else { b"\n  " })?;
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.out.write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?;
        self.out.flush()
    }
}

struct Ndjson<W>(W);

impl<W: Write> Rows for Ndjson<W> {
    fn row(&mut self, row: Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, &row)?;
        self.0.write_all(b"\n")
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

/// Each row is serialized as a list of one element. The concatenation is one list.
struct Yaml<W> {
    out: W,
    count: usize,
}

impl<W: Write> Rows for Yaml<W> {
    fn row(&mut self, row: Value) -> io::Result<()> {
        self.count += 1;
        self.out.write_all(yaml::text(&Value::Array(vec![row]))?.as_bytes())
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        if self.count == 0 {
            self.out.write_all(yaml::text(&Value::Array(Vec::new()))?.as_bytes())?;
        }
        self.out.flush()
    }
}

fn record(row: &Value, columns: &[String]) -> Vec<String> {
    match row {
        Value::Object(row) => columns.iter().map(|name| cells::record(row.get(name))).collect(),
        Value::Array(items) => items.iter().map(|item| cells::record(Some(item))).collect(),
        plain => vec![cells::record(Some(plain))],
    }
}

struct Csv<W: Write> {
    csv: csv::Writer<W>,
    columns: Vec<String>,
}

impl<W: Write> Rows for Csv<W> {
    fn row(&mut self, row: Value) -> io::Result<()> {
        self.csv.write_record(record(&row, &self.columns)).map_err(io_error)
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.csv.flush()
    }
}

/// Extracts the I/O error below the CSV writer: a closed pipe must stay recognizable.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

struct Tsv<W> {
    out: W,
    columns: Vec<String>,
}

impl<W: Write> Rows for Tsv<W> {
    /// Quotes a cell only if it begins with a quotation mark, which readers take for the start of a
    /// quoted cell, or if it is empty and alone, which would be a line without cells.
    fn row(&mut self, row: Value) -> io::Result<()> {
        let cells = record(&row, &self.columns);
        let is_alone = cells.len() == 1;
        let quoted = |cell: String| match cell.as_bytes().first() {
            Some(b'"') => format!("\"{}\"", cell.replace('"', "\"\"")),
            None if is_alone => "\"\"".to_owned(),
            _ => cell,
        };
        let cells: Vec<String> = cells.into_iter().map(quoted).collect();
        writeln!(self.out, "{}", cells.join("\t"))
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_row_by_row_is_the_list_at_once() {
        let lists = [
            json!([]),
            json!([1]),
            json!([{"a": [1, {"b": null}], "c": "x\ny"}, {}, [], "t", ["u", []], null]),
            json!([{"a": "- b: c"}, {"a": {"b": {"c": []}}}]),
        ];
        let look = Look { width: None, is_whole: false, quiet: true };
        let printed = |format, list: &Value| {
            let mut text = Vec::new();
            let mut rows = rows(format, &mut text, &[], look).unwrap();
            list.as_array().unwrap().iter().cloned().for_each(|row| rows.row(row).unwrap());
            rows.end().unwrap();
            String::from_utf8(text).unwrap()
        };
        for list in &lists {
            assert_eq!(
                printed(Format::Json, list),
                serde_json::to_string_pretty(list).unwrap() + "\n"
            );
            assert_eq!(printed(Format::Yaml, list), yaml::text(list).unwrap());
        }
    }
}
