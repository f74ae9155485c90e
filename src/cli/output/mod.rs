//! Prints results: format, `JMESPath` query, fields, and a stdout that may be closed early.
//!
//! Invariant: a list that comes row by row is printed row by row, in every format. Only rows of
//! which a query needs the whole list are kept.

mod cells;
mod fields;
mod format;
mod rows;
mod table;
mod yaml;

pub(super) use fields::{camel, check};
pub(super) use format::Format;
pub(super) use table::NAME;

use super::query::{Found, Kept, Query, nothing_to_print};
use crate::error::{Error, Result};
use crate::sink::{self, Notation};
use format::Rows;
use rows::rows;
use serde_json::Value;
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use table::Look;

/// The columns of a list, known before its rows.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// The columns that a table shows.
    pub(super) short: Vec<String>,
    /// The columns that rows may have: those of CSV, TSV and a wide table.
    pub(super) all: Vec<String>,
    /// Further columns that may be named, which only rows of other lists have.
    pub(super) elsewhere: Vec<String>,
}

/// A callback for each row, as JSON. It returns whether it wants another row.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>;

/// A value as it is printed.
pub(super) fn as_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::bug(e.to_string()))
}

/// How this command prints.
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) quiet: bool,
    query: Option<Query>,
    fields: Vec<String>,
}

impl Output {
    pub(super) fn new(
        format: Option<Format>,
        query: Option<&str>,
        fields: &[String],
        quiet: bool,
    ) -> Result<Self> {
        let default = if sink::stdout_is_terminal() { Format::Table } else { Format::Json };
        let query = query.map(Query::compile).transpose()?;
        let fields = fields.iter().map(|field| fields::camel(field.trim())).collect();
        Ok(Self { format: format.unwrap_or(default), quiet, query, fields })
    }

    /// Whether the format is a table, for people.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Prints a list. A table shows `columns` unless fields are named.
    pub(super) fn list(&self, rows: Vec<Value>, columns: &[&str]) -> Result<()> {
        if let Some(query) = &self.query {
            let whole = Value::Array(rows);
            return self.found(query.search(&whole)?);
        }
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        self.values(rows, &columns)
    }

    /// Prints a single value.
    pub(super) fn one(&self, value: Value) -> Result<()> {
        match &self.query {
            Some(query) => self.found(query.search(&value)?),
            None => self.value(value),
        }
    }

    /// Prints a JSON document: as JSON, unless a format other than a table was requested.
    pub(super) fn document(&self, value: &Value) -> Result<()> {
        let format = if self.is_table() { Format::Json } else { self.format };
        Self { format, quiet: self.quiet, query: self.query.clone(), fields: self.fields.clone() }
            .one(value.clone())
    }

    /// Prints a list whose rows come one by one from `feed`, which stops when no more rows are
    /// wanted.
    pub(super) fn stream(
        &self,
        columns: &Columns,
        feed: impl FnOnce(Visit<'_>) -> Result<()>,
    ) -> Result<()> {
        let known: Vec<String> = columns.all.iter().chain(&columns.elsewhere).cloned().collect();
        let Some(query) = &self.query else {
            fields::check("--fields", &self.fields, &known)?;
            let names = self.names(&columns.all, &columns.short);
            let is_raw = self.format == Format::Ndjson && self.fields.is_empty();
            let mut printer = Printer::new(self, &names)?;
            feed(&mut |row| if is_raw { printer.raw(row) } else { printer.row(parsed(row)?) })?;
            return printer.end();
        };
        let by_row = query.by_row();
        let names = by_row.names().or_else(|| by_row.is_whole_rows().then_some(known));
        let is_known = names.is_some() || (self.format != Format::Csv && self.fields.is_empty());
        if !by_row.is_all() || !by_row.is_sure() || !is_known {
            return self.collected(query, feed);
        }
        if let Some(names) = &names {
            fields::check("--fields", &self.fields, names)?;
        }
        let all =
            if by_row.is_whole_rows() { columns.all.clone() } else { names.unwrap_or_default() };
        let names = self.names(&all, &[]);
        let mut printer = Printer::new(self, &names)?;
        feed(&mut |row| {
            let row = parsed(row)?;
            for found in by_row.search(Found::Of(&row))? {
                if printer.found(found)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        printer.end()
    }

    /// Prints the result of a query that needs more than one row at a time.
    fn collected(&self, query: &Query, feed: impl FnOnce(Visit<'_>) -> Result<()>) -> Result<()> {
        let by_row = query.by_row();
        let most = by_row.most().filter(|_| by_row.is_sure()).unwrap_or(usize::MAX);
        let (is_length, mut length, mut kept) = (by_row.is_length(), 0_u64, Vec::<Kept>::new());
        feed(&mut |row| {
            if kept.len() >= most {
                return Ok(ControlFlow::Break(()));
            }
            let row = parsed(row)?;
            for found in by_row.search(Found::Of(&row))? {
                length += 1;
                if !is_length {
                    kept.push(found.keep().ok_or_else(nothing_to_print)?);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if is_length {
            return self.found(Found::Made(length.into()));
        }
        let list = Found::List(kept.iter().map(Kept::found).collect());
        self.found(by_row.answer(list)?)
    }

    /// Prints the result of a query.
    fn found(&self, found: Found<'_>) -> Result<()> {
        if self.is_az_tsv() {
            if found.is_null() {
                return Ok(());
            }
            let items = if found.kind() == "array" { found.items() } else { Some(vec![found]) };
            let mut printer = Printer::new(self, &[])?;
            for item in items.unwrap_or_default() {
                if printer.found(item)?.is_break() {
                    break;
                }
            }
            return printer.end();
        }
        match found.into_value().ok_or_else(nothing_to_print)? {
            Value::Array(rows) => self.values(rows, &[]),
            value => self.value(value),
        }
    }

    fn values(&self, rows: Vec<Value>, short: &[String]) -> Result<()> {
        let all = fields::all_names(&rows);
        if !all.is_empty() {
            fields::check("--fields", &self.fields, &all)?;
        }
        let mut printer = Printer::new(self, &self.names(&all, short))?;
        for row in rows {
            if printer.row(row)?.is_break() {
                break;
            }
        }
        printer.end()
    }

    fn value(&self, value: Value) -> Result<()> {
        if let (Value::Object(members), false) = (&value, self.fields.is_empty()) {
            let names: Vec<String> = members.keys().cloned().collect();
            fields::check("--fields", &self.fields, &names)?;
        }
        let value = if self.fields.is_empty() { value } else { fields::pick(value, &self.fields) };
        let mut out = self.out();
        let written = match self.format {
            Format::Json => serde_json::to_writer_pretty(&mut out, &value)
                .map_err(Into::into)
                .and_then(|()| writeln!(out)),
            Format::Yaml => yaml::text(&value).and_then(|text| out.write_all(text.as_bytes())),
            Format::Table | Format::Wide => table::thing(&mut out, &value, self.look()),
            Format::Ndjson | Format::Tsv | Format::Csv => return self.values(vec![value], &[]),
        };
        closed_is_fine(written.and_then(|()| out.flush()))
    }

    /// The column names in this format: the named fields if any, the short columns for a table,
    /// otherwise all columns that rows may have, because programs select for themselves.
    fn names(&self, all: &[String], short: &[String]) -> Vec<String> {
        match self.format {
            _ if !self.fields.is_empty() => self.fields.clone(),
            Format::Table => short.to_vec(),
            _ => all.to_vec(),
        }
    }

    /// Whether lines have the form that az prints: the result of a query, as TSV.
    fn is_az_tsv(&self) -> bool {
        self.format == Format::Tsv && self.query.is_some() && self.fields.is_empty()
    }

    fn look(&self) -> Look {
        let is_whole = self.format == Format::Wide;
        let width = if is_whole { None } else { sink::stdout_width() };
        Look { width, is_whole, quiet: self.quiet }
    }

    fn out(&self) -> impl Write + use<> {
        sink::stdout(match self.format {
            Format::Json | Format::Ndjson => Notation::Json,
            Format::Yaml => Notation::Yaml,
            Format::Table | Format::Wide | Format::Tsv | Format::Csv => Notation::Text,
        })
    }
}

fn parsed(row: &[u8]) -> Result<Value> {
    serde_json::from_slice(row)
        .map_err(|e| Error::corrupt(format!("a row of the snapshot cannot be read ({e})")))
}

/// A list being printed.
struct Printer<'a> {
    output: &'a Output,
    to: To,
    is_closed: bool,
}

/// The destination: rows in a format, or complete lines.
enum To {
    Rows(Box<dyn Rows>),
    Lines(Box<dyn Write>),
}

impl<'a> Printer<'a> {
    fn new(output: &'a Output, names: &[String]) -> Result<Self> {
        let is_raw =
            output.format == Format::Ndjson && output.query.is_none() && output.fields.is_empty();
        let to = if is_raw || output.is_az_tsv() {
            To::Lines(Box::new(output.out()))
        } else {
            let rows = rows(output.format, output.out(), names, output.look());
            To::Rows(rows.map_err(|e| Error::io("writing to stdout", e))?)
        };
        Ok(Self { output, to, is_closed: false })
    }

    /// Converts the result of a write. A closed pipe (`| head -1`) ends the list without an error.
    fn gone_on(&mut self, written: io::Result<()>) -> Result<ControlFlow<()>> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(ControlFlow::Break(()))
            }
            Err(error) => Err(Error::io("writing to stdout", error)),
            Ok(()) => Ok(ControlFlow::Continue(())),
        }
    }

    /// Prints a row that is already one line of JSON.
    fn raw(&mut self, row: &[u8]) -> Result<ControlFlow<()>> {
        let written = match &mut self.to {
            To::Lines(out) => out.write_all(row).and_then(|()| out.write_all(b"\n")),
            To::Rows(_) => return self.row(parsed(row)?),
        };
        self.gone_on(written)
    }

    fn row(&mut self, row: Value) -> Result<ControlFlow<()>> {
        let fields = &self.output.fields;
        let row = if fields.is_empty() { row } else { fields::pick(row, fields) };
        let written = match &mut self.to {
            To::Rows(rows) => rows.row(row),
            To::Lines(out) => writeln!(out, "{row}"),
        };
        self.gone_on(written)
    }

    /// Prints a result of a query.
    fn found(&mut self, found: Found<'_>) -> Result<ControlFlow<()>> {
        if let To::Lines(out) = &mut self.to {
            let written = writeln!(out, "{}", found.tsv(|text| sink::cell(text).into_owned()));
            return self.gone_on(written);
        }
        self.row(found.into_value().ok_or_else(nothing_to_print)?)
    }

    fn end(self) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        closed_is_fine(match self.to {
            To::Rows(rows) => rows.end(),
            To::Lines(mut out) => out.flush(),
        })
    }
}

/// Prints trusted text.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = sink::stdout(Notation::Text);
    closed_is_fine(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A reader that closes the pipe (`| head -1`) is not an error.
fn closed_is_fine(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::io("writing to stdout", e)),
        Ok(()) => Ok(()),
    }
}
