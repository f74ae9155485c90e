//! The output formats, and the interface for printing a list in one of them.

use serde_json::Value;
use std::io;

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// Table for people, with as many columns as fit the terminal
    Table,
    /// Table with every column and nothing shortened
    Wide,
    /// One JSON document
    Json,
    /// One JSON document per line
    Ndjson,
    /// Tab-separated values
    Tsv,
    /// Comma-separated values with a header
    Csv,
    /// YAML
    Yaml,
}

/// A list that is printed row by row.
pub(super) trait Rows {
    /// Prints a row.
    fn row(&mut self, row: Value) -> io::Result<()>;
    /// Ends the list.
    fn end(self: Box<Self>) -> io::Result<()>;
}
