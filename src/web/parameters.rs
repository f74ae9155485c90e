//! The parameters of the routes: named once, for reading them and for the `OpenAPI` document.

use crate::catalog::Filter;
use crate::catalog::usage::Finding;
use crate::error::{Error, Result};
use crate::image::{KINDS, Status};
use crate::pipeline::changes::Change;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
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
    /// The whole name of an image of any kind.
    Id,
    /// publisher:offer:sku, an alias, gallery/definition, or the id of a definition.
    Sku,
    /// One of these names, without case.
    OneOf(&'static [&'static str]),
    /// The same; may be given several times.
    AnyOf(&'static [&'static str]),
    Run,
}

impl Value {
    /// Whether a parameter of it may be given several times.
    fn may_recur(self) -> bool {
        matches!(self, Self::Texts | Self::AnyOf(_))
    }
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

/// Of Azure, and those that containers name: Go's names, as the OCI image specification has it
/// (`config.md`, `os`), and `unknown`, which `BuildKit` writes on attestations.
const SYSTEMS: &[&str] = &[
    "Linux",
    "Windows",
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "unknown",
];

/// The same of architectures.
const ARCHITECTURES: &[&str] = &[
    "x64", "Arm64", "386", "amd64", "arm", "loong64", "mips", "mips64", "mips64le", "mipsle",
    "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "unknown",
];

/// Parameters of `images`.
pub(super) const LIST: &[Parameter] = &[
    parameter("publisher", Value::Text, "Part of the publisher's name"),
    parameter("offer", Value::Text, "Part of the offer's name"),
    parameter("sku", Value::Text, "Part of the SKU's name"),
    parameter("version", Value::Text, "Part of the version"),
    LOCATION,
    parameter(
        "architecture",
        Value::OneOf(ARCHITECTURES),
        "Architecture: x64 or Arm64; of a container image, as it names it",
    ),
    parameter(
        "os",
        Value::OneOf(SYSTEMS),
        "Operating system: Linux or Windows; of a container image, as it names it",
    ),
    parameter("status", Value::OneOf(&Status::NAMES), "Where it stands in its life"),
    parameter("kind", Value::OneOf(&KINDS), "Kind of image"),
    parameter("gallery", Value::Text, "Part of a gallery's name"),
    parameter("definition", Value::Text, "Part of an image definition's name"),
    SUBSCRIPTION,
    parameter("registry", Value::Text, "Part of a registry's login server"),
    parameter("repository", Value::Text, "Part of a repository's name"),
    parameter("tag", Value::Text, "Part of a container image's tag"),
    parameter("search", Value::Text, "Words that occur in the names; the best fit comes first"),
    parameter("exact", Value::Flag, "Compare whole names instead of parts"),
    parameter("id", Value::Id, "One image, by its whole name"),
    TOP,
    SKIP,
    parameter(
        "live",
        Value::Flag,
        "Ask Azure now, for marketplace images; needs a publisher and takes seconds",
    ),
];

/// Parameters of `images/latest`.
pub(super) const LATEST: &[Parameter] = &[
    parameter(
        "urn",
        Value::Sku,
        "publisher:offer:sku, an alias such as Ubuntu2404, GALLERY/DEFINITION, or the id of a definition",
    ),
    LOCATION,
    parameter("notDeprecatedBefore", Value::Date, "It must still be deployable on this day"),
];

/// Parameters of `images/usage`.
pub(super) const USAGE: &[Parameter] = &[
    SUBSCRIPTION,
    parameter(
        "finding",
        Value::AnyOf(&Finding::NAMES),
        "How the machine's image stands; repeated: any of them",
    ),
    TOP,
    SKIP,
];

/// Parameters of `runs`.
pub(super) const RUNS: &[Parameter] = &[TOP, SKIP];

/// Parameters of `changes`.
pub(super) const CHANGES: &[Parameter] = &[
    parameter("run", Value::Run, "The snapshot's run; the current one if left out"),
    parameter("search", Value::Text, "Part of an image's name"),
    parameter("change", Value::OneOf(&Change::NAMES), "What happened"),
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
        let mut given: Vec<&str> = Vec::new();
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
            // Of two values one would be left out in silence, and callers differ in which.
            if given.contains(&parameter.name) && !parameter.value.may_recur() {
                return Err(bad(&name, "it is given twice and takes one value"));
            }
            given.push(parameter.name);
            if let Value::OneOf(names) | Value::AnyOf(names) = parameter.value
                && !names.iter().any(|known| known.eq_ignore_ascii_case(&value))
            {
                let wrong: String = value.chars().take(40).collect();
                let wrong = wrong.escape_debug();
                return Err(bad(&name, &format!("'{wrong}' is none of {}", names.join(", "))));
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
            "exact" => filter.exact = flag(&value).ok_or_else(|| bad("true or false"))?,
            "live" => self.live = flag(&value).ok_or_else(|| bad("true or false"))?,
            "id" => self.id = Some(value),
            "urn" => self.urn = Some(value),
            "run" => self.run = Some(value),
            "change" => self.change = Some(value),
            "skipToken" => self.skip = Some(value),
            "top" => {
                self.top = count(&value).ok_or_else(|| bad("a number from 1 to 1000"))?;
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

/// A parameter in the path, as far as it is text.
pub(super) type InPath = Result<Path<String>, PathRejection>;

/// The text of a parameter in the path.
pub(super) fn in_path(given: InPath) -> Result<String> {
    let no_text =
        |_| Error::invalid("the path is no text: what it has percent-encoded is no UTF-8");
    given.map(|Path(text)| text).map_err(no_text)
}

/// A flag, in any case: what writes a value of Python as text writes `True`.
fn flag(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|flag| text.eq_ignore_ascii_case(&flag.to_string()))
}

/// A number of rows as JSON writes it, without sign or leading zero.
fn count(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|count| plain && (1..=LARGEST_PAGE).contains(count))
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
