//! The query parameters of the routes. One definition serves both parsing and the `OpenAPI`
//! document.

use crate::catalog::usage::Finding;
use crate::catalog::{self, Filter};
use crate::error::{Error, Result};
use crate::image::names::{
    ARCHITECTURES, ClosedSet, GENERATIONS, IMAGE_KINDS, SECURITY_TYPES, STATUSES, SYSTEMS,
    YES_OR_NO,
};
use crate::pipeline::changes::Change;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;
use time::OffsetDateTime;

/// The type of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Text,
    /// Words of a search.
    Search,
    /// Repeatable, or separated by commas.
    Texts,
    /// Repeatable. A comma is part of the value.
    Features,
    Flag,
    Count,
    Date,
    /// The full name of an image of any kind.
    Id,
    /// As [`Id`](Self::Id), or a reference to the newest of a SKU: an alias, or `latest` in place
    /// of a version.
    Image,
    /// `publisher:offer:sku`, an alias, `gallery/definition`, or the id of a definition.
    Sku,
    /// A name of a closed set, ignoring case.
    OneOf(ClosedSet),
    /// Names of a closed set, ignoring case. Repeatable, or separated by commas.
    AnyOf(ClosedSet),
    Run,
}

impl Value {
    /// Whether the parameter may be repeated.
    fn may_recur(self) -> bool {
        matches!(self, Self::Features) || self.has_commas()
    }

    /// Whether the value may be a list separated by commas.
    fn has_commas(self) -> bool {
        matches!(self, Self::Texts | Self::AnyOf(_))
    }

    /// Validates a value, and returns a name of a closed set in its canonical spelling.
    fn checked(self, given: &str) -> Result<&str> {
        match self {
            Self::OneOf(set) | Self::AnyOf(set) => set.find(given),
            _ => Ok(given),
        }
    }
}

/// A query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) text: &'static str,
}

const fn parameter(name: &'static str, value: Value, text: &'static str) -> Parameter {
    Parameter { name, value, text }
}

/// Default number of rows per page. The maximum is [`LARGEST_PAGE`].
const PAGE: usize = 100;
pub(super) const LARGEST_PAGE: usize = 1_000;

/// Maximum length of a query, in bytes. The platform's own limit is lower; that of a local host is
/// not.
const LONGEST: usize = 8 << 10;

const TOP: Parameter =
    parameter("top", Value::Count, "The number of rows of a page, from 1 to 1000 (default 100)");
const SKIP: Parameter =
    parameter("skipToken", Value::Text, "The page to return, as given by nextLink");
const SUBSCRIPTION: Parameter =
    parameter("subscription", Value::Text, "Part of the subscription id");
const LOCATION: Parameter = parameter(
    "location",
    Value::Texts,
    "A location where the image is available; several, repeated or separated by commas: available \
     in all of them",
);
const PUBLISHER: Parameter = parameter("publisher", Value::Text, "Part of the publisher name");
const OFFER: Parameter = parameter("offer", Value::Text, "Part of the offer name");
const SKU: Parameter = parameter("sku", Value::Text, "Part of the SKU name");
const VERSION: Parameter = parameter("version", Value::Text, "Part of the version");
const ARCHITECTURE: Parameter = parameter(
    "architecture",
    Value::OneOf(ARCHITECTURES),
    "Architecture: x64 or Arm64; for a container image, its own name for it",
);
const OS: Parameter = parameter(
    "os",
    Value::OneOf(SYSTEMS),
    "Operating system: Linux or Windows; for a container image, its own name for it",
);
const IN: Parameter = parameter("in", Value::Texts, "Same as location");
const NOT_IN: Parameter = parameter(
    "notIn",
    Value::Texts,
    "A location where the image is not available; several, repeated or separated by commas: \
     available in none of them",
);
const GENERATION: Parameter =
    parameter("generation", Value::OneOf(GENERATIONS), "Hyper-V generation of the image");
const FEATURE: Parameter = parameter(
    "feature",
    Value::Features,
    "A feature of the image: NAME or NAME=VALUE, compared as a whole; repeated: all of them",
);
const SECURITY_TYPE: Parameter = parameter(
    "securityType",
    Value::OneOf(SECURITY_TYPES),
    "The value of the feature SecurityType",
);
const PLAN: Parameter =
    parameter("plan", Value::OneOf(YES_OR_NO), "Whether the image has a purchase plan");
const ENDS_BEFORE: Parameter = parameter(
    "endsBefore",
    Value::Date,
    "The image is deprecated, or reaches its end of life, before this day",
);
const FIRST_SEEN_AFTER: Parameter = parameter(
    "firstSeenAfter",
    Value::Date,
    "The image was first seen by a run that started after the beginning of this day",
);
const STATUS: Parameter = parameter(
    "status",
    Value::AnyOf(STATUSES),
    "The lifecycle status of the image; several: any of them",
);
const KIND: Parameter =
    parameter("kind", Value::AnyOf(IMAGE_KINDS), "The kind of image; several: any of them");
const LATEST_ONLY: Parameter =
    parameter("latest", Value::Flag, "Only the latest image of each SKU, definition or repository");
const SEARCH: Parameter = parameter(
    "search",
    Value::Search,
    "Words that occur in the names, at most 16, or aliases such as Ubuntu2404; '-', '_' and '.' \
     are equivalent; best match first",
);
const EXACT: Parameter = parameter("exact", Value::Flag, "Compare whole names instead of parts");

/// Parameters that every route accepts for the Functions host and ignores: a key and its name
/// (`AuthenticationLevelHandler` in the host's source leaves both in the query), and the version
/// that Azure's own clients send. The host compares parameter names ignoring case.
const OF_THE_HOST: [&str; 3] = ["code", "clientId", "api-version"];

/// Whether a parameter is the host's. Such parameters are excluded from list identities, cache keys
/// and logs.
pub(super) fn is_of_the_host(name: &str) -> bool {
    OF_THE_HOST.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The path and query of `uri` as written, without the parameters of the host.
pub(super) fn path_and_query(uri: &Uri) -> String {
    let mut path_and_query = uri.path().to_owned();
    let mut mark = '?';
    for part in uri.query().unwrap_or_default().split('&') {
        let name = url::form_urlencoded::parse(part.as_bytes()).next();
        if name.is_some_and(|(name, _)| !is_of_the_host(&name)) {
            path_and_query.push(mark);
            path_and_query.push_str(part);
            mark = '&';
        }
    }
    path_and_query
}

/// Parameters for the names of an image.
const NAMES: &[Parameter] = &[PUBLISHER, OFFER, SKU, VERSION];

/// Parameters for the locations of an image.
const PLACES: &[Parameter] = &[LOCATION, IN, NOT_IN];

/// Parameters for the properties and the status of an image.
const PROPERTIES: &[Parameter] = &[
    ARCHITECTURE,
    OS,
    GENERATION,
    FEATURE,
    SECURITY_TYPE,
    PLAN,
    STATUS,
    ENDS_BEFORE,
    FIRST_SEEN_AFTER,
];

/// Parameters for other kinds of image, and for the search.
const OF_OTHERS: &[Parameter] = &[
    KIND,
    LATEST_ONLY,
    parameter("gallery", Value::Text, "Part of the gallery name"),
    parameter("definition", Value::Text, "Part of the image definition name"),
    SUBSCRIPTION,
    parameter("registry", Value::Text, "Part of the login server of the registry"),
    parameter("repository", Value::Text, "Part of the repository name"),
    parameter(
        "tag",
        Value::Text,
        "Part of a container image tag; or a resource tag, NAME or NAME=VALUE",
    ),
    SEARCH,
    EXACT,
];

const fn length(lists: &[&[Parameter]]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < lists.len() {
        sum += lists[at].len();
        at += 1;
    }
    sum
}

/// Concatenates lists of parameters.
const fn joined<const N: usize>(lists: &[&[Parameter]]) -> [Parameter; N] {
    let mut all = [TOP; N];
    let (mut list, mut at, mut number) = (0, 0, 0);
    while list < lists.len() {
        if at == lists[list].len() {
            (list, at) = (list + 1, 0);
            continue;
        }
        all[number] = lists[list][at];
        (at, number) = (at + 1, number + 1);
    }
    all
}

/// Concatenates lists of parameters into a constant.
macro_rules! parameters {
    ($($list:expr),+ $(,)?) => {
        &joined::<{ length(&[$($list),+]) }>(&[$($list),+])
    };
}

/// Parameters of `images`.
pub(super) const LIST: &[Parameter] = parameters![
    NAMES,
    PLACES,
    PROPERTIES,
    OF_OTHERS,
    &[
        parameter("id", Value::Id, "One image, by its full id"),
        TOP,
        SKIP,
        parameter(
            "live",
            Value::Flag,
            "List marketplace images from Azure instead of the catalog; requires a publisher and \
             takes seconds",
        ),
    ],
];

/// Parameters of `publishers`, `offers` and `skus`.
pub(super) const DISTINCT: &[Parameter] =
    parameters![NAMES, PLACES, PROPERTIES, &[LATEST_ONLY, SEARCH, EXACT, TOP, SKIP]];

/// Parameters of `locations`.
pub(super) const LOCATIONS: &[Parameter] = parameters![
    NAMES,
    PROPERTIES,
    &[
        KIND,
        LATEST_ONLY,
        parameter("search", Value::Search, "Parts of the location name, at most 16"),
        EXACT,
        TOP,
        SKIP,
    ],
];

/// Parameters of `images/latest`.
pub(super) const LATEST: &[Parameter] = parameters![
    &[
        parameter(
            "urn",
            Value::Sku,
            "publisher:offer:sku, an alias such as Ubuntu2404, GALLERY/DEFINITION, the id of a \
             definition, or a pattern for names of managed images such as myapp-*; the version may \
             be given as latest",
        ),
        parameter(
            "notDeprecatedBefore",
            Value::Date,
            "The image must still be deployable on this day"
        ),
    ],
    NAMES,
    PLACES,
    PROPERTIES,
    OF_OTHERS,
];

/// Parameters of `images/usage`.
pub(super) const USAGE: &[Parameter] = &[
    SUBSCRIPTION,
    parameter(
        "finding",
        Value::AnyOf(Finding::SET),
        "The finding for the image of the machine; several: any of them",
    ),
    parameter(
        "endsBefore",
        Value::Date,
        "The image is deprecated, or reaches its end of life, before this day",
    ),
    LOCATION,
    TOP,
    SKIP,
];

/// Parameters of `runs`.
pub(super) const RUNS: &[Parameter] = &[TOP, SKIP];

/// Parameters of `changes`.
pub(super) const CHANGES: &[Parameter] = &[
    parameter("run", Value::Run, "The run of the snapshot; default: the current one"),
    parameter("search", Value::Search, "Part of the image name"),
    parameter("change", Value::AnyOf(Change::SET), "The kind of change; several: any of them"),
    TOP,
    SKIP,
];

/// The parsed values of a query.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) filter: Filter,
    pub(super) id: Option<String>,
    pub(super) urn: Option<String>,
    pub(super) run: Option<String>,
    pub(super) changes: Vec<String>,
    pub(super) findings: Vec<String>,
    pub(super) top: usize,
    pub(super) skip: Option<String>,
    pub(super) live: bool,
    pub(super) not_deprecated_before: Option<OffsetDateTime>,
    /// The image's life must end before this time.
    pub(super) ends_before: Option<OffsetDateTime>,
}

impl Query {
    /// Parses the query of `uri`. Parameters that are not in `allowed` are errors.
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
                return Err(bad(&name, "the value contains a NUL character"));
            }
            // One of two values would be ignored silently, and clients differ in which.
            if given.contains(&parameter.name) && !parameter.value.may_recur() {
                return Err(bad(&name, "specified twice, but accepts one value"));
            }
            given.push(parameter.name);
            let parts: Vec<&str> = if parameter.value.has_commas() {
                value.split(',').collect()
            } else {
                vec![&value]
            };
            for part in parts {
                let part = parameter.value.checked(part);
                let part = part.map_err(|error| bad(&name, &error.to_string()))?;
                query.take(parameter.name, part.to_owned())?;
            }
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
            "location" | "in" => filter.locations.push(value),
            "notIn" => filter.not_locations.push(value),
            "generation" => filter.generation = Some(value),
            "securityType" => filter.security_type = Some(value),
            "plan" => filter.plan = Some(value.eq_ignore_ascii_case("yes")),
            "feature" => {
                filter.features.push(value);
                filter.check_features().map_err(|error| bad(&error.to_string()))?;
            }
            "architecture" => filter.architecture = Some(value),
            "os" => filter.os = Some(value),
            "status" => filter.statuses.push(value),
            "kind" => filter.kinds.push(value),
            "latest" => {
                filter.latest =
                    flag(&value).ok_or_else(|| bad("the value must be true or false"))?;
            }
            "gallery" => filter.gallery = Some(value),
            "definition" => filter.definition = Some(value),
            "registry" => filter.registry = Some(value),
            "repository" => filter.repository = Some(value),
            "tag" => filter.tag = Some(value),
            "subscription" => filter.subscription = Some(value),
            "finding" => self.findings.push(value),
            "search" => {
                filter.search = Some(value);
                filter.check_search().map_err(|error| bad(&error.to_string()))?;
            }
            "exact" => {
                filter.exact =
                    flag(&value).ok_or_else(|| bad("the value must be true or false"))?;
            }
            "live" => {
                self.live = flag(&value).ok_or_else(|| bad("the value must be true or false"))?;
            }
            "id" => self.id = Some(value),
            "urn" => self.urn = Some(value),
            "run" => self.run = Some(value),
            "change" => self.changes.push(value),
            "skipToken" => self.skip = Some(value),
            "top" => {
                self.top = count(&value)
                    .ok_or_else(|| bad("the value must be a number from 1 to 1000"))?;
            }
            "endsBefore" => {
                let date = catalog::date(&value)
                    .ok_or_else(|| bad("the value must be a date, such as 2027-01-01"))?;
                (self.ends_before, filter.ends_before) = (Some(date), Some(date));
            }
            "firstSeenAfter" => {
                let date = catalog::date(&value)
                    .ok_or_else(|| bad("the value must be a date, such as 2027-01-01"))?;
                filter.first_seen_after = Some(date);
            }
            "notDeprecatedBefore" => {
                let date = catalog::date(&value)
                    .ok_or_else(|| bad("the value must be a date, such as 2027-01-01"))?;
                self.not_deprecated_before = Some(date);
            }
            _ => return Err(bad("not supported")),
        }
        Ok(())
    }
}

/// A path parameter, or the reason why it is not text.
pub(super) type InPath = Result<Path<String>, PathRejection>;

/// Returns the text of a path parameter.
pub(super) fn in_path(given: InPath) -> Result<String> {
    let no_text = |_| Error::invalid("the percent-encoded path is not UTF-8");
    given.map(|Path(text)| text).map_err(no_text)
}

/// Parses a flag, ignoring case: Python formats its Booleans as `True` and `False`.
fn flag(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|flag| text.eq_ignore_ascii_case(&flag.to_string()))
}

/// Parses a number of rows as JSON writes it, without a sign or leading zeros.
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
    let text = format!("unknown parameter '{name}'; the parameters are {there}");
    Error::invalid(text).with_target(name)
}
