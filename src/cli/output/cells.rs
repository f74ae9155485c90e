//! Formats values as cells: complete for programs, short for people.

use crate::sink;
use indicatif::HumanBytes;
use serde_json::Value;
use std::borrow::Cow;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, Time, UtcOffset};

/// The maximum width of a table cell, in characters: every row is padded to the widest one.
const WIDEST: usize = 1_000;
/// Longer lists are shown as a count.
const LONGEST_LIST: usize = 3;
/// The number of digits shown of a digest: enough to distinguish it in practice.
const DIGITS: usize = 12;
/// The digests that are shortened, with the number of their hexadecimal digits.
const DIGESTS: [(&str, usize); 2] = [("sha256:", 64), ("sha512:", 128)];

/// Formats a value as plain text.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| text(Some(item))).collect();
            items.join(" ")
        }
        Some(Value::Object(map)) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}={}", text(Some(v)))).collect();
            pairs.join("; ")
        }
        Some(other) => other.to_string(),
    }
}

/// A cell of CSV or TSV. Numbers stay numbers, including negative ones.
pub(super) fn record(value: Option<&Value>) -> String {
    match value {
        Some(Value::Number(number)) => number.to_string(),
        value => sink::cell(&text(value)).into_owned(),
    }
}

/// A cell of a wide table. Only text too wide to be read is cut, since it would widen every line.
pub(super) fn whole(value: Option<&Value>) -> String {
    cut(sink::line(&text(value)).into_owned())
}

/// A cell of a table in the column `name`: readable sizes and times, shortened digests, and long
/// lists as a count.
pub(super) fn short(name: &str, value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(items)) if items.len() > LONGEST_LIST => {
            format!("{} in all", items.len())
        }
        value => cut(sink::line(&shown(name, value)).into_owned()),
    }
}

/// Formats a value for people.
pub(super) fn shown(name: &str, value: Option<&Value>) -> String {
    match value {
        Some(Value::Bool(yes)) => (if *yes { "yes" } else { "no" }).to_owned(),
        Some(Value::Number(number)) if is_size(name) => match number.as_u64() {
            Some(bytes) => HumanBytes(bytes).to_string(),
            None => number.to_string(),
        },
        Some(Value::String(text)) => {
            moment(text).unwrap_or_else(|| without_digests(text).into_owned())
        }
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| shown(name, Some(item))).collect();
            items.join(" ")
        }
        Some(Value::Object(map)) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{}={}", without_digests(key), shown(key, Some(value)))
            };
            map.iter().map(pair).collect::<Vec<_>>().join("; ")
        }
        value => text(value),
    }
}

/// Whether a column contains sizes in bytes.
fn is_size(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("bytes") || name.ends_with("size") || name == "exclusive" || name == "shared"
}

/// Formats a timestamp in UTC to the minute. Midnight is shown as the date only.
pub(super) fn moment(text: &str) -> Option<String> {
    if text.len() < "2026-01-01T00:00:00Z".len() || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    let date = moment.date();
    if moment.time() == Time::MIDNIGHT {
        return Some(date.to_string());
    }
    Some(format!("{date} {:02}:{:02}", moment.hour(), moment.minute()))
}

/// Shortens the digests in a text.
fn without_digests(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    for (algorithm, digits) in DIGESTS {
        let mut from = 0;
        while let Some(at) = shown.get(from..).and_then(|rest| rest.find(algorithm)) {
            let start = from + at + algorithm.len();
            let is_digest = shown
                .get(start..start + digits)
                .is_some_and(|digest| digest.bytes().all(|b| b.is_ascii_hexdigit()));
            from = start;
            if is_digest {
                shown.to_mut().replace_range(start + DIGITS..start + digits, "");
            }
        }
    }
    shown
}

/// Cuts a cell that is too wide, and states its original number of characters.
fn cut(cell: String) -> String {
    let count = cell.chars().count();
    if count <= WIDEST {
        return cell;
    }
    let shown: String = cell.chars().take(WIDEST).collect();
    format!("{shown}… ({count} characters)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_people_read_is_short() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        for (name, value, cell) in [
            ("bytes", json!(150_646_305), "143.67 MiB"),
            ("imageSize", json!(512), "512 B"),
            ("versions", json!(150_646_305), "150646305"),
            ("createdAt", json!("2026-09-01T12:34:56.7890123Z"), "2026-09-01 12:34"),
            ("createdAt", json!("2026-09-01T01:30:00+02:00"), "2026-08-31 23:30"),
            ("endOfLifeAt", json!("2027-01-01T00:00:00Z"), "2027-01-01"),
            ("version", json!("2026-09-01T"), "2026-09-01T"),
            ("digest", json!(digest), "sha256:0123456789ab"),
            ("digest", json!("sha256:0123"), "sha256:0123"),
            (
                "id",
                json!(format!("r.example/a@{digest} {digest}")),
                "r.example/a@sha256:0123456789ab sha256:0123456789ab",
            ),
            ("referrers", json!({ digest.as_str(): "signature" }), "sha256:0123456789ab=signature"),
            ("isLatest", json!(true), "yes"),
            ("isLatest", json!(false), "no"),
            ("os", Value::Null, ""),
            ("locations", json!(["a", "b", "c"]), "a b c"),
            ("locations", json!(["a", "b", "c", "d"]), "4 in all"),
        ] {
            assert_eq!(short(name, Some(&value)), cell, "{name}");
        }
        let wide = "a".repeat(WIDEST + 1);
        assert_eq!(whole(Some(&json!(wide))), format!("{}… (1001 characters)", "a".repeat(WIDEST)));
        assert_eq!(whole(Some(&json!(digest))), digest);
    }
}
