//! Tables for people. Rows are printed as they come: the first [`LOOKED_AT`] rows determine the
//! widths and which columns fit the terminal. Later cells are shortened to these widths.

use super::cells;
use super::fields::all_names;
use super::format::Rows;
use crate::image::KINDS;
use crate::sink::{self, say};
use serde_json::{Map, Value};
use std::io::{self, Write};
use unicode_width::UnicodeWidthChar;
use unicode_width::UnicodeWidthStr;

/// The number of rows that determine the widths of columns.
const LOOKED_AT: usize = 1_000;
/// Columns are narrowed to this width before one is left out.
const NARROWEST: usize = 14;
/// The same for the names in a list of several kinds.
const NARROWEST_NAME: usize = 32;
/// The separator between columns.
const GAP: &str = "  ";

/// The layout of a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Look {
    /// The width of the terminal. `None` without a terminal.
    pub(super) width: Option<usize>,
    /// Whether nothing is shortened.
    pub(super) is_whole: bool,
    /// Whether the message about columns left out is suppressed.
    pub(super) quiet: bool,
}

/// A cell, and whether it is a number.
type Cell = (String, bool);

struct Column {
    name: String,
    width: usize,
    is_number: bool,
}

/// A table that is printed row by row.
pub(super) struct Table<W> {
    out: W,
    look: Look,
    /// The names of the columns. If empty, they are taken from the rows.
    names: Vec<String>,
    looked_at: Vec<Value>,
    columns: Option<Vec<Column>>,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, names: &[String], look: Look) -> Self {
        Self { out, look, names: names.to_vec(), looked_at: Vec::new(), columns: None }
    }

    fn cell(&self, name: &str, value: Option<&Value>) -> Cell {
        let is_number = matches!(value, Some(Value::Number(_)));
        let text = if self.look.is_whole { cells::whole(value) } else { cells::short(name, value) };
        (text, is_number)
    }

    /// The cells of a row.
    fn cells(&self, row: &Value) -> Vec<Cell> {
        match row {
            Value::Object(members) => self
                .names
                .iter()
                .map(|name| match (members.get(name), name.as_str()) {
                    (None, NAME) => self.cell(NAME, Some(&name_of(members).into())),
                    (value, name) => self.cell(name, value),
                })
                .collect(),
            Value::Array(items) => items.iter().map(|value| self.cell("", Some(value))).collect(),
            plain => vec![self.cell("", Some(plain))],
        }
    }

    /// Computes the columns from the rows collected, and prints these.
    fn begin(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.looked_at);
        if self.names.is_empty() {
            self.names = all_names(&rows);
        }
        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| self.cells(row)).collect();
        let count = rows.iter().map(Vec::len).max().unwrap_or(0).max(self.names.len());
        let mut columns: Vec<Column> = (0..count)
            .map(|at| {
                let name = self.names.get(at).cloned().unwrap_or_default();
                let cells = || rows.iter().filter_map(|row| row.get(at));
                let widest = cells().map(|(text, _)| text.width()).max().unwrap_or(0);
                // Rows are ordered by kind, so the longest kind may be in a later row.
                let kinds =
                    if name == "kind" && rows.len() == LOOKED_AT { &KINDS[..] } else { &[] };
                let widest = kinds.iter().map(|kind| kind.len()).fold(widest, usize::max);
                let mut filled = cells().filter(|(text, _)| !text.is_empty()).peekable();
                Column {
                    width: widest.max(title(&name).width()),
                    is_number: filled.peek().is_some() && filled.all(|(_, is_number)| *is_number),
                    name,
                }
            })
            .collect();
        if let Some(width) = self.look.width {
            let left_out = fit(&mut columns, width);
            if !left_out.is_empty() && !self.look.quiet {
                say!(
                    "Columns that do not fit are left out: {}. -o wide shows all.",
                    left_out.join(", ")
                );
            }
        }
        if !self.names.is_empty() {
            let titles: Vec<Cell> =
                columns.iter().map(|column| (title(&column.name), false)).collect();
            self.line(&titles, &columns)?;
        }
        for row in &rows {
            self.line(row, &columns)?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn line(&mut self, cells: &[Cell], columns: &[Column]) -> io::Result<()> {
        let mut line = String::new();
        for (at, column) in columns.iter().enumerate() {
            let text = cells.get(at).map_or("", |(text, _)| text);
            let text = match self.look.width {
                Some(_) => shortened(text, column.width),
                None => text.to_owned(),
            };
            let blanks = " ".repeat(column.width.saturating_sub(text.width()));
            if at > 0 {
                line.push_str(GAP);
            }
            if column.is_number {
                line.push_str(&blanks);
            }
            line.push_str(&text);
            if !column.is_number {
                line.push_str(&blanks);
            }
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

impl<W: Write> Rows for Table<W> {
    fn row(&mut self, row: Value) -> io::Result<()> {
        if let Some(columns) = self.columns.take() {
            let cells = self.cells(&row);
            self.line(&cells, &columns)?;
            self.columns = Some(columns);
            return Ok(());
        }
        self.looked_at.push(row);
        if self.looked_at.len() == LOOKED_AT { self.begin() } else { Ok(()) }
    }

    fn end(mut self: Box<Self>) -> io::Result<()> {
        if self.columns.is_none() && !self.looked_at.is_empty() {
            self.begin()?;
        }
        self.out.flush()
    }
}

/// The column that names an image of any kind. It is derived if rows have no member of that name.
pub(in crate::cli) const NAME: &str = "name";

/// The name of an image of any kind, in the form that lookup commands accept.
fn name_of(row: &Map<String, Value>) -> String {
    let part = |name: &str| row.get(name).and_then(Value::as_str);
    let text = |name: &str| part(name).unwrap_or_default().to_owned();
    if let (Some(server), Some(repository)) = (part("loginServer"), part("repository")) {
        let tag = row.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
        return match (tag, part("digest")) {
            (Some(tag), _) => format!("{server}/{repository}:{tag}"),
            (None, Some(digest)) => format!("{server}/{repository}@{digest}"),
            (None, None) => format!("{server}/{repository}"),
        };
    }
    match (part("gallery"), part("definition"), part("version")) {
        (Some(gallery), Some(definition), Some(version)) => {
            format!("{gallery}/{definition}/{version}")
        }
        (Some(gallery), Some(definition), None) => format!("{gallery}/{definition}"),
        (None, Some(definition), _) => definition.to_owned(),
        _ => text("id"),
    }
}

impl Column {
    /// The minimum width before other columns are left out. Columns whose values would become
    /// indistinguishable keep their width.
    fn narrowest(&self) -> usize {
        self.width.min(match self.name.as_str() {
            "kind" | "status" | "digest" => self.width,
            NAME => NARROWEST_NAME,
            _ => NARROWEST,
        })
    }
}

/// Narrows columns to fit `width`. Returns the names of those left out.
fn fit(columns: &mut Vec<Column>, width: usize) -> Vec<String> {
    let total = |columns: &[Column], of: fn(&Column) -> usize| {
        columns.iter().map(|column| of(column) + GAP.len()).sum::<usize>().saturating_sub(GAP.len())
    };
    let mut left_out = Vec::new();
    while columns.len() > 1 && total(columns, Column::narrowest) > width {
        left_out.extend(columns.pop().map(|column| column.name));
    }
    left_out.reverse();
    while total(columns, |column| column.width) > width {
        let wide = columns.iter_mut().filter(|column| column.width > column.narrowest());
        match wide.max_by_key(|column| column.width) {
            Some(column) => column.width -= 1,
            // A single column.
            None => columns.iter_mut().for_each(|column| column.width = width.max(1)),
        }
    }
    left_out
}

/// Shortens a text to `width`: a sentence at its end, a name in its middle, because both ends
/// distinguish it from others.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let tail = if text.contains(' ') { 0 } else { room / 2 };
    let head = taken(text.chars(), room - tail);
    let tail: String = taken(text.chars().rev(), tail).chars().rev().collect();
    format!("{head}…{tail}")
}

/// The leading characters that fit into `room` columns.
fn taken(characters: impl Iterator<Item = char>, room: usize) -> String {
    let mut left = room;
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    characters.take_while(fits).collect()
}

/// Converts `isLatest` to `LATEST`, `createdAt` to `CREATED`, `excludedLocations` to `EXCLUDED
/// LOCATIONS`.
fn title(name: &str) -> String {
    let begins = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_uppercase());
    let name = name.strip_prefix("is").filter(begins).unwrap_or(name);
    let name = name.strip_suffix("At").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let name = name.strip_prefix("hyperV").filter(begins).unwrap_or(name);
    let mut title = String::new();
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            title.push(' ');
        }
        title.push(c.to_ascii_uppercase());
    }
    sink::line(&title).into_owned()
}

/// Prints a single value with a line for each member. Nested objects are indented below their name,
/// lists of objects are printed as tables.
pub(super) fn thing(out: &mut dyn Write, value: &Value, look: Look) -> io::Result<()> {
    match value {
        Value::Object(members) => lines(out, members, look, 0),
        plain => writeln!(out, "{}", member("", plain, look)),
    }
}

fn member(name: &str, value: &Value, look: Look) -> String {
    let text = match value {
        // A single value is printed with its full digests.
        Value::String(text) if !look.is_whole => {
            cells::moment(text).unwrap_or_else(|| text.clone())
        }
        Value::Array(items) if !look.is_whole => {
            let items: Vec<_> = items.iter().map(|item| member(name, item, look)).collect();
            return items.join(" ");
        }
        Value::Bool(_) | Value::Number(_) if !look.is_whole => cells::shown(name, Some(value)),
        value => cells::text(Some(value)),
    };
    sink::line(&text).into_owned()
}

fn lines(
    out: &mut dyn Write,
    members: &Map<String, Value>,
    look: Look,
    indent: usize,
) -> io::Result<()> {
    let is_nested = |value: &Value| match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    };
    let blanks = " ".repeat(indent);
    let names: Vec<_> = members.keys().map(|name| sink::line(name)).collect();
    let plain = names.iter().zip(members.values()).filter(|(_, value)| !is_nested(value));
    let width = plain.map(|(name, _)| name.width()).max().unwrap_or(0);
    for ((key, value), name) in members.iter().zip(&names) {
        let padding = " ".repeat(width.saturating_sub(name.width()));
        match value {
            Value::Object(inner) if is_nested(value) => {
                writeln!(out, "{blanks}{name}")?;
                lines(out, inner, look, indent + 2)?;
            }
            Value::Array(items) if is_nested(value) => {
                writeln!(out, "{blanks}{name}")?;
                let room = look.width.map(|width| width.saturating_sub(indent + 2).max(1));
                let mut text = Vec::new();
                let mut table = Box::new(Table::new(&mut text, &[], Look { width: room, ..look }));
                items.iter().cloned().try_for_each(|item| table.row(item))?;
                table.end()?;
                for line in String::from_utf8_lossy(&text).lines() {
                    writeln!(out, "{blanks}  {line}")?;
                }
            }
            value => {
                let line = format!("{blanks}{name}{padding}{GAP}{}", member(key, value, look));
                writeln!(out, "{}", line.trim_end())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(rows: &[Value], names: &[&str], width: Option<usize>, is_whole: bool) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut text = Vec::new();
        let look = Look { width, is_whole, quiet: true };
        let mut table = Box::new(Table::new(&mut text, &names, look));
        rows.iter().cloned().for_each(|row| table.row(row).unwrap());
        table.end().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let rows = [
            json!({"id": "Canonical:ubuntu-24_04-lts:server:24.4.20260901", "bytes": 2048, "isLatest": true,
                "reason": "it is past the end of its life", "os": "Linux"}),
            json!({"id": "漢字漢字漢字漢字漢字漢字漢字漢字", "bytes": 1, "isLatest": false, "reason": null}),
        ];
        let names = ["id", "bytes", "isLatest", "reason", "os"];
        let whole = "\
ID                                                  BYTES  LATEST  REASON                          OS
Canonical:ubuntu-24_04-lts:server:24.4.20260901  2.00 KiB  yes     it is past the end of its life  Linux
漢字漢字漢字漢字漢字漢字漢字漢字                      1 B  no
";
        assert_eq!(printed(&rows, &names, None, false), whole);
        for width in 1..120 {
            let text = printed(&rows, &names, Some(width), false);
            let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap();
            assert!(widest <= width.max(1), "{width}: {text}");
        }
        let narrow = printed(&rows, &names, Some(58), false);
        assert!(narrow.contains("Canon") && narrow.contains("0901"), "{narrow}");
        assert!(narrow.contains("it is past t") && narrow.contains('…'), "{narrow}");
        assert!(printed(&rows, &names, None, true).contains("2048"));
    }

    #[test]
    fn what_is_wider_than_what_was_looked_at_is_cut_on_a_terminal_and_whole_elsewhere() {
        let mut rows = vec![json!({"a": "x", "b": "y"}); LOOKED_AT];
        rows.push(json!({"a": "long-long-long", "b": "z"}));
        let lines = |width| printed(&rows, &["a", "b"], width, false);
        assert_eq!(lines(None).lines().last(), Some("long-long-long  z"));
        assert_eq!(lines(Some(80)).lines().last(), Some("…  z"));
        assert_eq!(lines(None).lines().count(), LOOKED_AT + 2);
    }

    #[test]
    fn each_kind_of_image_has_a_name() {
        let rows = [
            json!({"id": "p:o:s:1"}),
            json!({"id": "/x", "gallery": "prod", "definition": "base", "version": "1.0.0"}),
            json!({"id": "/x", "gallery": "prod", "definition": "base", "version": null}),
            json!({"id": "/x", "gallery": null, "definition": "old"}),
            json!({"loginServer": "r.io", "repository": "a/b", "tags": ["v1", "v2"], "digest": "sha256:1"}),
            json!({"loginServer": "r.io", "repository": "a/b", "tags": [], "digest": "sha256:1"}),
            json!({"name": "its own"}),
        ];
        let text = printed(&rows, &["name"], None, false);
        let names: Vec<&str> = text.lines().collect();
        assert_eq!(
            names,
            [
                "NAME",
                "p:o:s:1",
                "prod/base/1.0.0",
                "prod/base",
                "old",
                "r.io/a/b:v1",
                "r.io/a/b@sha256:1",
                "its own"
            ]
        );
    }

    #[test]
    fn one_thing_shows_what_is_in_it() {
        let value = json!({"digest": "sha256:1", "bytes": 2048, "tags": ["a", "b"], "empty": [],
            "platform": {"os": "linux", "createdAt": "2027-01-01T00:00:00Z"},
            "layers": [{"digest": "sha256:2", "size": 1024}, {"digest": "sha256:3", "size": 5}]});
        let mut text = Vec::new();
        thing(&mut text, &value, Look { width: Some(60), is_whole: false, quiet: true }).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "digest  sha256:1\nbytes   2.00 KiB\ntags    a b\nempty\nplatform\n  os         linux\n  createdAt  2027-01-01\n\
             layers\n  DIGEST        SIZE\n  sha256:2  1.00 KiB\n  sha256:3       5 B\n"
        );
    }
}
