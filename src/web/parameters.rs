//! The query parameters of the routes. One definition serves both parsing and the `OpenAPI`
//! document.

use crate::catalog::distinct::SkuOrder;
use crate::catalog::usage::Finding;
use crate::error::Result;
use crate::image::names::{
    ARCHITECTURES, ClosedSet, GENERATIONS, IMAGE_KINDS, SECURITY_TYPES, STATUSES, SYSTEMS,
    YES_OR_NO,
};
use crate::pipeline::changes::Change;
use crate::reference::snippets::FORMS;
use axum::http::Uri;

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
    /// A run, or `current` for that of the snapshot that is served.
    RunOrCurrent,
}

impl Value {
    /// Whether the parameter may be repeated.
    pub(super) fn may_recur(self) -> bool {
        matches!(self, Self::Features) || self.has_commas()
    }

    /// Whether the value may be a list separated by commas.
    pub(super) fn has_commas(self) -> bool {
        matches!(self, Self::Texts | Self::AnyOf(_))
    }

    /// Validates a value, and returns a name of a closed set in its canonical spelling.
    pub(super) fn checked(self, given: &str) -> Result<&str> {
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
pub(super) const PAGE: usize = 100;
pub(super) const LARGEST_PAGE: usize = 1_000;

/// Maximum length of a query, in bytes. The platform's own limit is lower; that of a local host is
/// not.
pub(super) const LONGEST: usize = 8 << 10;

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
const REGISTRY: Parameter =
    parameter("registry", Value::Text, "Part of the login server of the registry");
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
    REGISTRY,
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

/// Parameters of `publishers` and `offers`.
pub(super) const DISTINCT: &[Parameter] =
    parameters![NAMES, PLACES, PROPERTIES, &[LATEST_ONLY, SEARCH, EXACT, TOP, SKIP]];

/// Parameters of `skus`.
pub(super) const SKUS: &[Parameter] = parameters![
    DISTINCT,
    &[
        parameter(
            "sort",
            Value::OneOf(SkuOrder::SET),
            "The order: relevance (the default with a search), name (the default without one), \
             images or locations (most first), or ends (first to end first)",
        ),
        parameter(
            "count",
            Value::Flag,
            "Also return the number of SKUs and of images, total and images"
        ),
        parameter(
            "facets",
            Value::Flag,
            "Also return facets: for each value, the number of SKUs that match all other filters",
        ),
    ],
];

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

/// Default number of suggestions.
pub(super) const SUGGESTED: usize = 10;

/// Parameters of `suggestions`.
pub(super) const SUGGESTIONS: &[Parameter] = &[
    parameter(
        "search",
        Value::Search,
        "Words that occur in the name, or in the names above it, at most 16; without words there \
         are no suggestions",
    ),
    parameter("top", Value::Count, "The number of suggestions, from 1 to 1000 (default 10)"),
];

/// Parameters of `images/{id}/snippets`.
pub(super) const SNIPPETS: &[Parameter] = &[parameter(
    "as",
    Value::OneOf(FORMS),
    "Only this form; 404 if the image cannot be written so (default: all forms)",
)];

/// Parameters of `registries/storage`.
pub(super) const STORAGE: &[Parameter] = &[REGISTRY, TOP, SKIP];

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
