//! The package that `azimg package` makes, and what it says when it makes none.

use super::{azimg, finish, json};
use serde_json::Value;
use std::path::Path;

pub fn package(folder: &Path) -> Value {
    json(&mut azimg(&["package", "--out", folder.to_str().unwrap(), "-o", "json"]))
}

/// The exit code of packaging a program, and what is said about it.
pub fn packaged(program: &Path, out: &Path) -> (i32, String) {
    let arguments =
        ["package", "--binary", program.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (code, _, stderr) = finish(&mut azimg(&arguments));
    (code, stderr)
}

pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member}: {value}"))
}
