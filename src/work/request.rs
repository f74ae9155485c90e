//! The request for a run, and its validation.
//!
//! Names in a request become parts of URLs and messages. Names that cannot exist at Azure are
//! refused before any request is sent, with the member that contains them.

use super::{Details, SourceName};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Maximum size of the names of one member, in bytes of JSON. Each item of a location contains the
/// names of its publishers and subscriptions, and must fit into a message.
const LARGEST_NAMES: usize = 20 << 10;
/// Maximum length of a name, and of the reason why a value is wrong, in an error; in characters.
const LONGEST_NAME: usize = 40;
const LONGEST_REASON: usize = 200;
/// Maximum length of location and publisher names, in bytes. Azure's longest location name has 18
/// letters, with spaces 24; no publisher name has more than 100.
const LONGEST_LOCATION: usize = 90;
const LONGEST_PUBLISHER: usize = 256;
/// Maximum of `offersMaxAge`, in seconds: a hundred years.
const LONGEST_AGE: u64 = 100 * 366 * 24 * 3_600;

/// The request for a run; the body of `POST runs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Request {
    /// The sources to crawl; empty means all configured ones.
    pub sources: Vec<SourceName>,
    /// The locations to crawl; empty means the configured ones, or else all. `-francesouth`
    /// excludes a location, from the specified ones or from all.
    pub locations: Vec<String>,
    /// Only publishers whose name contains one of these, case-insensitive.
    pub publishers: Vec<String>,
    /// The subscriptions to query; empty means the configured ones, or else all that are visible.
    pub subscriptions: Vec<String>,
    /// Which details to query.
    pub details: Option<Details>,
    /// List the offers of every publisher, even if they were listed recently.
    pub full: bool,
    /// Offers listed less than this number of seconds ago may be taken from the last snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offers_max_age: Option<u64>,
    /// Start another run, even if one with the same request is in progress.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Splits names into parts, each of at most the size that a request permits, so that it fits into a
/// message.
pub fn in_parts(names: &[String]) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut bytes = usize::MAX;
    for name in names {
        // With its quotes and a comma.
        let more = name.len() + 3;
        bytes = bytes.saturating_add(more);
        if let Some(part) = parts.last_mut().filter(|_| bytes < LARGEST_NAMES) {
            part.push(name.clone());
        } else {
            parts.push(vec![name.clone()]);
            bytes = more;
        }
    }
    parts
}

/// Formats untrusted text for an error: at most `most` of its characters, with all but printable
/// ASCII escaped.
fn shown(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(most) {
        if c.is_ascii_graphic() || c == ' ' {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// The location to exclude, if a request names it as such: `-francesouth`.
pub fn left_out(name: &str) -> Option<&str> {
    name.strip_prefix('-')
}

/// Whether a text can be the name or display name of a location (`eastus2`, `East US 2`), possibly
/// one to exclude.
fn is_location(name: &str) -> bool {
    let name = left_out(name).unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= LONGEST_LOCATION
        && name.chars().all(plain)
}

/// Whether a text is a subscription id: a GUID as Azure writes it.
fn is_subscription(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a text can be part of a publisher's name.
fn is_in_publisher(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !name.is_empty() && name.len() <= LONGEST_PUBLISHER && name.chars().all(plain)
}

/// The valid form of the names of one member: the member, the check, and the text of the error.
type Form = (&'static str, fn(&str) -> bool, &'static str);

const FORMS: [Form; 3] = [
    (
        "locations",
        is_location,
        "is not a location: use names such as eastus, or -eastus to exclude it",
    ),
    (
        "subscriptions",
        is_subscription,
        "is not a subscription id: use GUIDs (az account list --query [].id)",
    ),
    (
        "publishers",
        is_in_publisher,
        "cannot be part of a publisher name, which consists of letters, digits and . _ -",
    ),
];

impl Request {
    /// Whether `other` requests the same. Case, order and duplicates of names do not matter, nor
    /// does `force`.
    pub fn is_like(&self, other: &Self) -> bool {
        self.ordered() == other.ordered()
    }

    fn ordered(&self) -> Self {
        let names = |names: &[String]| {
            let names: BTreeSet<String> =
                names.iter().map(|name| name.to_ascii_lowercase()).collect();
            names.into_iter().collect()
        };
        let mut sources = self.sources.clone();
        sources.sort_unstable();
        sources.dedup();
        Self {
            sources,
            locations: names(&self.locations),
            publishers: names(&self.publishers),
            subscriptions: names(&self.subscriptions),
            force: false,
            ..*self
        }
    }

    /// Parses the body of `POST runs`. The target of an error is the invalid member.
    pub fn parse(body: &str) -> Result<Self> {
        let what = "the body is not a run request";
        // Deserialization would accept an array as the members in their order.
        let is_object = body.trim_start().starts_with('{');
        let read = match serde_json::from_str(body) {
            Ok(request) if is_object => return Ok(request),
            read => read.err(),
        };
        let Ok(members) = serde_json::from_str::<Map<String, Value>>(body) else {
            let position = read.map(|e| format!(" (line {}, column {})", e.line(), e.column()));
            let text = format!("{what}: it must be a JSON object{}", position.unwrap_or_default());
            return Err(Error::invalid(text));
        };
        let all = Self { offers_max_age: Some(0), force: true, ..Self::default() };
        let known = serde_json::to_value(all).unwrap_or_default();
        for (name, value) in members {
            if known.get(&name).is_none() {
                let names = known.as_object().into_iter().flat_map(Map::keys);
                let names: Vec<&str> = names.map(String::as_str).collect();
                let (name, names) = (shown(&name, LONGEST_NAME), names.join(", "));
                let text = format!("{what}: unknown member '{name}'; the members are {names}");
                return Err(Error::invalid(text).with_target(name));
            }
            let alone = Value::from_iter([(name.clone(), value)]);
            if let Err(error) = serde_json::from_value::<Self>(alone) {
                let why = shown(&error.to_string(), LONGEST_REASON);
                return Err(Error::invalid(format!("{what}: {name}: {why}")).with_target(name));
            }
        }
        // Each member is valid alone, so one occurs twice.
        let why = read.map(|e| shown(&e.to_string(), LONGEST_REASON)).unwrap_or_default();
        Err(Error::invalid(format!("{what}: {why}")))
    }

    fn names(&self, member: &str) -> &[String] {
        match member {
            "locations" => &self.locations,
            "subscriptions" => &self.subscriptions,
            _ => &self.publishers,
        }
    }

    /// Refuses names that cannot exist at Azure, since they would become parts of URLs, and more
    /// names than messages can hold. The target of the error is the member.
    pub fn check(&self) -> Result<()> {
        for (member, ..) in FORMS {
            let names = self.names(member);
            let bytes = serde_json::to_string(names).map_or(usize::MAX, |text| text.len());
            if bytes > LARGEST_NAMES {
                let most = LARGEST_NAMES >> 10;
                let text = format!(
                    "{member}: the names have {bytes} bytes, and the limit of a run is {most} KiB"
                );
                return Err(Error::invalid(text).with_target(member));
            }
        }
        for (member, fits, why) in FORMS {
            if let Some(name) = self.names(member).iter().find(|name| !fits(name)) {
                let name = shown(name, LONGEST_NAME);
                let text = format!("{member}: '{name}' {why}");
                return Err(Error::invalid(text).with_target(member));
            }
        }
        if self.offers_max_age.is_some_and(|age| age > LONGEST_AGE) {
            let text = "offersMaxAge: exceeds a hundred years (the value is in seconds)";
            return Err(Error::invalid(text).with_target("offersMaxAge"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (String, Option<String>) {
        let read = Request::parse(body).and_then(|request| request.check());
        let error = read.unwrap_err();
        (error.to_string(), error.target().map(str::to_owned))
    }

    #[test]
    fn request_error_names_the_invalid_member() {
        for (body, target, part) in [
            (
                r#"{"colour": 1}"#,
                Some("colour"),
                "unknown member 'colour'; the members are sources, loc",
            ),
            (
                "{\"a\\n\\u001b[31m\u{202e}\": 1}",
                Some("a\\n\\u{1b}[31m\\u{202e}"),
                "unknown member",
            ),
            (r#"{"sources": ["moon"]}"#, Some("sources"), "unknown variant"),
            (r#"{"sources": "gallery"}"#, Some("sources"), "invalid type"),
            (r#"{"details": "some\n"}"#, Some("details"), "unknown variant `some\\n`"),
            (r#"{"full": "yes"}"#, Some("full"), "invalid type"),
            (r#"{"offersMaxAge": -1}"#, Some("offersMaxAge"), "invalid value"),
            (r#"{"offersMaxAge": 99999999999}"#, Some("offersMaxAge"), "hundred years"),
            (r#"{"locations": [1]}"#, Some("locations"), "invalid type"),
            (r#"{"locations": ["-"]}"#, Some("locations"), "is not a location"),
            (r#"{"locations": [" "]}"#, Some("locations"), "is not a location"),
            (r#"{"locations": ["a/b"]}"#, Some("locations"), "is not a location"),
            (r#"{"subscriptions": ["mine"]}"#, Some("subscriptions"), "use GUIDs"),
            (
                r#"{"subscriptions": ["11111111-1111-4111-8111-11111111111g"]}"#,
                Some("subscriptions"),
                "use GUIDs",
            ),
            (r#"{"publishers": [""]}"#, Some("publishers"), "a publisher name"),
            (r#"{"publishers": ["a\u0000"]}"#, Some("publishers"), "'a\\u{0}' cannot be"),
            (r#"{"publishers": ["ａ"]}"#, Some("publishers"), "a publisher name"),
            (r#"{"full": true, "full": true}"#, None, "duplicate field"),
            ("[]", None, "must be a JSON object"),
            ("{", None, "must be a JSON object"),
        ] {
            let (text, found) = refused(body);
            assert_eq!(found.as_deref(), target, "{body}: {text}");
            assert!(text.contains(part), "{body}: {text}");
            assert!(!text.contains(char::is_control), "{body}: {text}");
        }
    }

    #[test]
    fn azure_names_are_accepted() {
        let body = r#"{"locations": ["eastus2", "East US 2", "microsoftlosangeles1"],
            "subscriptions": ["11111111-1111-4111-8111-1111111111aF"],
            "publishers": ["Canonical", "Microsoft.Azure", "a_b-c", "2"], "offersMaxAge": 0}"#;
        Request::parse(body).unwrap().check().unwrap();
    }
}
