//! Makes text written by others fit for an error or a log: one line, truncated, without possible
//! secrets.

use std::error::Error as StdError;

/// Beginnings of lines that wrapping errors add and that carry no information.
const EMPTY_WORDS: [&str; 6] = [
    "retry policy expired",
    "failed to execute `reqwest` request",
    "error sending request",
    "client error (Connect)",
    "tcp connect error",
    "To troubleshoot, visit",
];

/// Replaces possible secrets in foreign text by `…`: queries of URLs (SAS, signatures), bearer
/// tokens, JSON Web Tokens.
pub fn redact(text: &str) -> String {
    let mut before = "";
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        // The claims of a sign-in policy are no secret, and the user has to pass them to `az`.
        let is_claims = before == "--claims-challenge";
        before = word.trim_end();
        if let Some((head, _)) = word.split_once('?').filter(|(head, _)| head.contains("://")) {
            format!("{head}?… ")
        } else if word.len() > 40 && word.contains("eyJ") && !is_claims {
            "… ".to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect()
}

/// Foreign text in one line, cut to 400 characters.
pub(crate) fn one_line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// An error with all its causes, each once, cut to 1,000 characters. Lines become parts of a
/// sentence, so that commands proposed on separate lines can still be distinguished and copied.
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut joined = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = redact(&lines(&cause.to_string()));
        let text = text.trim();
        if !text.is_empty() && !joined.contains(text) {
            if !joined.is_empty() {
                joined.push_str(": ");
            }
            joined.push_str(text);
        }
        next = cause.source();
    }
    cut(&joined, 1_000)
}

/// Joins the lines that carry information.
fn lines(text: &str) -> String {
    let informative = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !EMPTY_WORDS.iter().any(|words| line.starts_with(words))
    });
    informative.fold(String::new(), |mut all, line| {
        match all.chars().last() {
            None => {}
            Some(':' | '.' | ';' | ',') => all.push(' '),
            Some(_) => all.push_str("; "),
        }
        all.push_str(line.trim_start_matches("ERROR: "));
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn secrets_are_redacted() {
        let text = "GET https://a.blob.core.windows.net/c?sv=1&sig=SECRET failed";
        assert_eq!(redact(text), "GET https://a.blob.core.windows.net/c?… failed");
        let jwt = format!("token eyJ{} refused", "x".repeat(60));
        assert_eq!(redact(&jwt), "token … refused");
        let command = format!("az login --claims-challenge \"eyJ{}\"", "x".repeat(60));
        assert_eq!(redact(&command), command);
    }

    #[test]
    fn each_cause_is_reported_once_and_commands_stay_separate() {
        let inner = Error::invalid("connection refused");
        let outer = Error::invalid("retry policy expired and gave up")
            .with_source(Error::invalid("cannot connect: connection refused").with_source(inner));
        assert_eq!(causes(&outer), "cannot connect: connection refused");
        let az =
            Error::invalid("ERROR: MFA is needed. Please run:\naz logout\naz login --tenant \"t\"");
        assert_eq!(causes(&az), "MFA is needed. Please run: az logout; az login --tenant \"t\"");
    }
}
