//! The parameters of the routes: named once, for reading them and for the `OpenAPI` document.

use crate::catalog::Filter;
use crate::error::{Error, Result};
use axum::http::Uri;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a parameter's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Text,
    /// May be given several times.
    Texts,
    Flag,
    Count,
    Date,
    /// publisher:offer:sku:version.
    Urn,
    /// publisher:offer:sku, an alias, or gallery/definition.
    Sku,
    /// May be given several times.
    Findings,
    Run,
    Change,
}

/// A parameter in the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) text: &'static str,
}

const fn parameter(name: &'static str, value: Value, text: &'static str) -> Parameter {
    Parameter { name, value, text }
}

/// A page has so many rows unless told otherwise, and never more than [`LARGEST_PAGE`].
const PAGE: usize = 100;
pub(super) const LARGEST_PAGE: usize = 1_000;

/// The platform's own limit is below this; a machine's is not.
const LONGEST: usize = 8 << 10;

const TOP: Parameter = parameter("top", Value::Count, "Rows of a page, 1 to 1000 (100)");
const SKIP: Parameter = parameter("skipToken", Value::Text, "As a nextLink has it");
const SUBSCRIPTION: Parameter =
    parameter("subscription", Value::Text, "Part of a subscription's id");
const LOCATION: Parameter =
    parameter("location", Value::Texts, "A location that has it; repeated: all of them");

/// What every route takes for the Functions host, and makes nothing of: a key and its name
/// (`AuthenticationLevelHandler` in the host's source leaves both in the query), and the version that
/// Azure's own clients send. The host compares names of parameters without case.
const OF_THE_HOST: [&str; 3] = ["code", "clientId", "api-version"];

/// Whether a parameter is the host's, and so is part of no list's name, no cache and no log.
pub(super) fn is_of_the_host(name: &str) -> bool {
    OF_THE_HOST.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What `uri` asks for, as it is written, without what is the host's.
pub(super) fn asked(uri: &Uri) -> String {
    let mut asked = uri.path().to_owned();
    let mut mark = '?';
    for part in uri.query().unwrap_or_default().split('&') {
        let name = url::form_urlencoded::parse(part.as_bytes()).next();
        if name.is_some_and(|(name, _)| !is_of_the_host(&name)) {
            asked.push(mark);
            asked.push_str(part);
            mark = '&';
        }
    }
    asked
}

/// Parameters of `images`.
pub(super) const LIST: &[Parameter] = &[
    parameter("publisher", Value::Text, "Part of the publisher's name"),
    parameter("offer", Value::Text, "Part of the offer's name"),
    parameter("sku", Value::Text, "Part of the SKU's name"),
    parameter("version", Value::Text, "Part of the version"),
    LOCATION,
    parameter("architecture", Value::Text, "x64 or Arm64"),
    parameter("os", Value::Text, "Linux or Windows"),
    parameter("status", Value::Text, "active, scheduled, deprecated or end-of-life"),
    parameter(
        "kind",
        Value::Text,
        "Kind of image: marketplace, gallery-version, container-manifest",
    ),
    parameter("gallery", Value::Text, "Part of a gallery's name"),
    parameter("definition", Value::Text, "Part of an image definition's name"),
    SUBSCRIPTION,
    parameter("registry", Value::Text, "Part of a registry's login server"),
    parameter("repository", Value::Text, "Part of a repository's name"),
    parameter("tag", Value::Text, "Part of a container image's tag"),
    parameter("search", Value::Text, "Words that occur in the names; the best fit comes first"),
    parameter("exact", Value::Flag, "Compare whole names instead of parts"),
    parameter("id", Value::Text, "One image, by its whole name"),
    TOP,
    SKIP,
    parameter("live", Value::Flag, "Ask Azure now; needs a publisher and takes seconds"),
];

/// Parameters of `images/latest`.
pub(super) const LATEST: &[Parameter] = &[
    parameter(
        "urn",
        Value::Sku,
        "publisher:offer:sku, an alias such as Ubuntu2404, or GALLERY/DEFINITION",
    ),
    LOCATION,
    parameter("notDeprecatedBefore", Value::Date, "It must still be deployable on this day"),
];

/// Parameters of `images/usage`.
pub(super) const USAGE: &[Parameter] = &[
    SUBSCRIPTION,
    parameter(
        "finding",
        Value::Findings,
        "gone, deprecated, end-of-life, scheduled, not-latest, current or unknown; repeated: any",
    ),
    TOP,
    SKIP,
];

/// Parameters of `changes`.
pub(super) const CHANGES: &[Parameter] = &[
    parameter("run", Value::Run, "The snapshot's run; the current one if left out"),
    parameter("search", Value::Text, "Part of an image's name"),
    parameter(
        "change",
        Value::Change,
        "added, removed, status, locations, latest, tags, attributes or dates",
    ),
    TOP,
    SKIP,
];

/// The values of a query, each checked by name.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) filter: Filter,
    pub(super) id: Option<String>,
    pub(super) urn: Option<String>,
    pub(super) run: Option<String>,
    pub(super) change: Option<String>,
    pub(super) findings: Vec<String>,
    pub(super) top: usize,
    pub(super) skip: Option<String>,
    pub(super) live: bool,
    pub(super) not_deprecated_before: Option<OffsetDateTime>,
}

impl Query {
    /// Reads the query of `uri`, in which only `allowed` may occur.
    pub(super) fn parse(uri: &Uri, allowed: &[Parameter]) -> Result<Self> {
        let mut query = Self { top: PAGE, ..Self::default() };
        let text = uri.query().unwrap_or_default();
        if text.len() > LONGEST {
            return Err(Error::invalid(format!("the query is longer than {} KiB", LONGEST >> 10)));
        }
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if is_of_the_host(&name) {
                continue;
            }
            let Some(parameter) = allowed.iter().find(|known| known.name == name) else {
                return Err(unknown(&name, allowed));
            };
            if value.contains('\0') {
                return Err(bad(&name, "no name has a NUL"));
            }
            query.take(parameter.name, value.into_owned())?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: String) -> Result<()> {
        let bad = |why: &str| bad(name, why);
        let filter = &mut self.filter;
        match name {
            "publisher" => filter.publisher = Some(value),
            "offer" => filter.offer = Some(value),
            "sku" => filter.sku = Some(value),
            "version" => filter.version = Some(value),
            "location" => filter.locations.push(value),
            "architecture" => filter.architecture = Some(value),
            "os" => filter.os = Some(value),
            "status" => filter.status = Some(value),
            "kind" => filter.kind = Some(value),
            "gallery" => filter.gallery = Some(value),
            "definition" => filter.definition = Some(value),
            "registry" => filter.registry = Some(value),
            "repository" => filter.repository = Some(value),
            "tag" => filter.tag = Some(value),
            "subscription" => filter.subscription = Some(value),
            "finding" => self.findings.push(value),
            "search" => filter.search = Some(value),
            "exact" => filter.exact = value.parse().map_err(|_| bad("true or false"))?,
            "live" => self.live = value.parse().map_err(|_| bad("true or false"))?,
            "id" => self.id = Some(value),
            "urn" => self.urn = Some(value),
            "run" => self.run = Some(value),
            "change" => self.change = Some(value),
            "skipToken" => self.skip = Some(value),
            "top" => {
                let top = value.parse().ok().filter(|top| (1..=LARGEST_PAGE).contains(top));
                self.top = top.ok_or_else(|| bad("a number from 1 to 1000"))?;
            }
            "notDeprecatedBefore" => {
                let date = date(&value).ok_or_else(|| bad("a date, such as 2027-01-01"))?;
                self.not_deprecated_before = Some(date);
            }
            _ => return Err(bad("not served")),
        }
        Ok(())
    }
}

fn bad(name: &str, why: &str) -> Error {
    Error::invalid(format!("parameter '{name}': {why}")).with_target(name)
}

fn unknown(name: &str, allowed: &[Parameter]) -> Error {
    let names: Vec<&str> = allowed.iter().map(|parameter| parameter.name).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let text = format!("there is no parameter '{name}' here; there are {there}");
    Error::invalid(text).with_target(name)
}

/// A date, with or without a time.
pub(crate) fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339))
        .ok()
}
