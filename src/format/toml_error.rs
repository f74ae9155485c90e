//! One-line messages for TOML errors.

/// The parser's message about `text`, with the line number.
pub fn message(text: &str, error: &toml::de::Error) -> String {
    let why = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    line.map_or_else(|| why.clone(), |line| format!("line {line}: {why}"))
}
