//! `--query`: a `JMESPath` expression as az accepts it, with its size checked before it is parsed.
//!
//! A parser of our own, because no crate behaves like az: strings between backticks, the order of
//! members, integers that stay integers, strings compared with `<`. It copies nothing of the
//! document, and can be evaluated row by row.

mod found;
mod function;
mod functions;
mod lexer;
mod parser;
mod rows;
mod search;
mod tree;

pub(super) use found::{Found, Kept};
pub(super) use rows::ByRow;

use crate::error::{Error, Result};
use lexer::SyntaxError;
use serde_json::Value;
use tree::Tree;

/// The maximum length of a query, in bytes.
const LONGEST: usize = 8 << 10;
/// The maximum number of characters that begin or continue a nested expression. The parser and the
/// evaluation recurse for each: a query of 20,000 brackets crashed the process.
const MOST_NESTING: usize = 400;
/// The maximum depth of a query's tree, because evaluation recurses once per level. 7 KiB of stack
/// were measured per level in an unoptimized build. The smallest stack is that of a program's first
/// thread on Windows, 1 MiB.
const DEEPEST: usize = 100;

/// A compiled query.
#[derive(Debug, Clone)]
pub(super) struct Query {
    tree: Tree,
    by_row: ByRow,
}

impl Query {
    pub(super) fn compile(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid(format!("--query: it is longer than {LONGEST} bytes")));
        }
        let nesting = text.matches(['[', '(', '{', '!', '&', '|', '.', '=', '<', '>']).count();
        if nesting > MOST_NESTING {
            return Err(Error::invalid(format!(
                "--query: it has {nesting} brackets, dots and operators; the limit is {MOST_NESTING}. \
                 Simplify it, or process the JSON with jq"
            )));
        }
        let tree = parser::parse(text).map_err(|wrong| bad(&wrong, text))?;
        let depth = tree.depth();
        if depth > DEEPEST {
            return Err(Error::invalid(format!(
                "--query: it has {depth} nested or chained steps; the limit is {DEEPEST}. \
                 Simplify it, or process the JSON with jq"
            )));
        }
        Ok(Self { by_row: rows::split(&tree), tree })
    }

    /// Evaluates the query against a value.
    pub(super) fn search<'a>(&'a self, value: &'a Value) -> Result<Found<'a>> {
        self.tree.search(&Found::Of(value))
    }

    /// The same query, for evaluation row by row.
    pub(super) fn by_row(&self) -> &ByRow {
        &self.by_row
    }
}

/// The error of a query whose result is an expression, which cannot be printed.
pub(super) fn nothing_to_print() -> Error {
    Error::invalid(
        "--query: '&' is valid only before an argument of a function, such as sort_by(@, &id)",
    )
}

/// Formats a syntax error with the text that follows it.
fn bad(wrong: &SyntaxError, text: &str) -> Error {
    /// The number of characters shown of that text.
    const SHOWN: usize = 30;
    let rest: String = text.chars().skip(wrong.at).take(SHOWN).collect();
    let place = match (wrong.at, rest.as_str()) {
        (_, "") => "at its end".to_owned(),
        (at, rest) => format!("at character {}, '{rest}'", at + 1),
    };
    Error::invalid(format!("--query: {place}: {}", wrong.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries with az's results, as values and as TSV. A test verifies the file against az's own
    /// libraries.
    fn queries() -> Value {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/queries.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    /// The result of a query, as a value and as lines of TSV.
    fn printed(found: Found<'_>) -> Option<(Value, String)> {
        let plain = |text: &str| text.to_owned();
        let lines: Vec<String> = match found.clone().items() {
            Some(items) => items.into_iter().map(|item| item.tsv(plain) + "\n").collect(),
            None if found.is_null() => Vec::new(),
            None => vec![found.clone().tsv(plain) + "\n"],
        };
        Some((found.into_value()?, lines.concat()))
    }

    #[test]
    fn a_query_finds_and_prints_what_az_does() {
        let all = queries();
        let mut failed = Vec::new();
        for case in all["queries"].as_array().unwrap() {
            let text = case["query"].as_str().unwrap();
            let document = &all["documents"][case["of"].as_str().unwrap()];
            let query = Query::compile(text);
            let found = query.as_ref().ok().and_then(|query| printed(query.search(document).ok()?));
            let expected = (case["fails"] != true)
                .then(|| (case["finds"].clone(), case["tsv"].as_str().unwrap().to_owned()));
            if found != expected {
                failed.push(format!("{text}\n   found {found:?}\nexpected {expected:?}"));
            }
        }
        assert!(failed.is_empty(), "{} differ:\n{}", failed.len(), failed.join("\n"));
    }

    #[test]
    fn a_query_row_by_row_finds_what_it_finds_in_the_whole_list() {
        let all = queries();
        let rows = all["documents"]["images"].as_array().unwrap();
        let (mut streamed, mut cut, mut counted) = (0, 0, 0);
        for case in all["queries"].as_array().unwrap().iter().filter(|case| case["of"] == "images")
        {
            let text = case["query"].as_str().unwrap();
            let Ok(query) = Query::compile(text) else { continue };
            let by_row = query.by_row();
            let most = by_row.most().filter(|_| by_row.is_sure()).unwrap_or(usize::MAX);
            let ask = || -> Result<_> {
                let mut kept = Vec::new();
                for row in rows {
                    if kept.len() >= most {
                        break;
                    }
                    for found in by_row.search(Found::Of(row))? {
                        kept.push(found.keep().ok_or_else(nothing_to_print)?);
                    }
                }
                if by_row.is_length() {
                    return Ok(printed(Found::Made(kept.len().into())));
                }
                let list = Found::List(kept.iter().map(Kept::found).collect());
                Ok(printed(by_row.answer(list)?))
            };
            let whole = query.search(&all["documents"]["images"]).ok().and_then(printed);
            assert_eq!(ask().ok().flatten(), whole, "{text}");
            assert!(!by_row.is_sure() || whole.is_some() || !by_row.is_all(), "{text}");
            streamed += usize::from(by_row.is_all() && by_row.is_sure());
            cut += usize::from(most < rows.len());
            counted += usize::from(by_row.is_length());
        }
        assert!(streamed > 30 && cut > 10 && counted == 4, "{streamed} {cut} {counted}");
    }

    /// The maximum depth, on a thread with the smallest stack that a thread of azimg has on any
    /// platform.
    #[test]
    fn a_query_that_nests_as_deep_as_is_allowed_is_answered() {
        let (within, behind) = (63, DEEPEST - 2);
        let deep = [
            format!("{}a{}", "(".repeat(within), ")".repeat(within)),
            format!("{}a{}", "[".repeat(within), "]".repeat(within)),
            format!("{}a", "!".repeat(within)),
            vec!["a"; 398].join("."),
            vec!["a"; behind].join("||"),
            vec!["a"; behind].join("|"),
            format!("a{}", "[]".repeat(behind / 2)),
            format!("{}a{}", "{a:".repeat(within), "}".repeat(within)),
            format!("{}a{}", "[?".repeat(within), "]".repeat(within)),
            format!("{}a{}", "not_null(".repeat(within), ")".repeat(within)),
        ];
        let ask = move || {
            for text in deep {
                let query = Query::compile(&text);
                let query = query.map_err(|error| format!("{text}: {error}")).unwrap();
                let value = serde_json::json!({"a": [1]});
                assert!(query.search(&value).is_ok(), "{text}");
                assert!(query.by_row().search(Found::Of(&value)).is_ok(), "{text}");
            }
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(ask).unwrap().join().unwrap();
    }

    #[test]
    fn a_query_that_nests_deeper_is_refused() {
        for text in
            ["[".repeat(20_000), "(".repeat(8_000), "!".repeat(401), vec!["a"; 402].join(".")]
        {
            let error = Query::compile(&text).unwrap_err().to_string();
            assert!(error.contains("--query: it"), "{error}");
        }
        for text in
            ["(".repeat(64) + "a", vec!["a"; 101].join("|"), "a".to_owned() + &"[]".repeat(60)]
        {
            let error = Query::compile(&text).unwrap_err().to_string();
            assert!(error.contains("the limit is"), "{error}");
        }
        assert!(Query::compile("[?").unwrap_err().to_string().starts_with("--query: "));
    }
}
