//! The operations of the HTTP API: path, parameters, response and errors.

use crate::web::parameters::{
    CHANGES, DISTINCT, LATEST, LIST, LOCATIONS, Parameter, RUNS, SKUS, SNIPPETS, STORAGE,
    SUGGESTIONS, USAGE, Value,
};
use utoipa::openapi::path::HttpMethod;

/// An operation.
pub(super) struct Route {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) in_path: Option<(&'static str, &'static str, Value)>,
    pub(super) query: &'static [Parameter],
    pub(super) answers: (&'static str, &'static str),
    pub(super) errors: &'static [u16],
    /// Whether the operation is answered from one snapshot, so that it supports conditional
    /// requests.
    pub(super) cached: bool,
}

const fn get(path: &'static str, id: &'static str, answer: &'static str) -> Route {
    Route {
        method: HttpMethod::Get,
        path,
        id,
        summary: "",
        in_path: None,
        query: &[],
        answers: ("200", answer),
        errors: &[400, 404, 500, 503],
        cached: false,
    }
}

/// Like [`get`], for an operation that is answered from one snapshot.
const fn lookup(path: &'static str, id: &'static str, answer: &'static str) -> Route {
    Route { cached: true, ..get(path, id, answer) }
}

/// Description of the path parameter that names an image.
const IMAGE: &str = "publisher:offer:sku:version, with latest for the newest version; an alias such as \
                     Ubuntu2404, for the same; or an id";

/// Error statuses of a list from one snapshot, including 410 for a page whose snapshot no longer
/// exists.
const LISTS: &[u16] = &[400, 404, 410, 500, 503];

pub(super) fn routes() -> impl Iterator<Item = Route> {
    lookups().into_iter().chain(names_and_counts())
}

/// Routes that list distinct names of images.
fn names_and_counts() -> Vec<Route> {
    vec![
        Route {
            summary: "The publishers of the images that match all filters, with counts",
            query: DISTINCT,
            errors: LISTS,
            ..lookup("/api/publishers", "listPublishers", "PublisherList")
        },
        Route {
            summary: "The offers of the images that match all filters, with counts",
            query: DISTINCT,
            errors: LISTS,
            ..lookup("/api/offers", "listOffers", "OfferList")
        },
        Route {
            summary: "The SKUs of the images that match all filters, with counts and the latest \
                      version of each",
            query: SKUS,
            errors: LISTS,
            ..lookup("/api/skus", "listSkus", "SkuList")
        },
        Route {
            summary: "The locations of the images that match all filters, with counts",
            query: LOCATIONS,
            errors: LISTS,
            ..lookup("/api/locations", "listLocations", "LocationList")
        },
        Route {
            summary: "Names that a search may mean, best first",
            query: SUGGESTIONS,
            ..lookup("/api/suggestions", "listSuggestions", "SuggestionList")
        },
        Route {
            summary: "The repositories of container registries with the storage that they use, \
                      most bytes first",
            query: STORAGE,
            errors: LISTS,
            ..lookup("/api/registries/storage", "listStorage", "StorageList")
        },
    ]
}

/// Routes for images, changes and runs.
fn lookups() -> Vec<Route> {
    vec![
        Route {
            summary: "The images that match all filters",
            query: LIST,
            errors: &[400, 401, 404, 410, 429, 500, 502, 503],
            ..lookup("/api/images", "listImages", "ImageList")
        },
        Route {
            summary: "The newest version of a SKU that is available in all given locations",
            query: LATEST,
            ..lookup("/api/images/latest", "latestImage", "Image")
        },
        Route {
            summary: "The aliases of images with their newest versions, in the form that the Azure \
                      CLI reads",
            ..lookup("/api/images/aliases", "listAliases", "Document")
        },
        Route {
            summary: "Machines and scale sets, with the findings of the images that they use",
            query: USAGE,
            errors: &[400, 401, 404, 410, 429, 500, 502, 503],
            ..get("/api/images/usage", "listUsage", "UsageList")
        },
        Route {
            summary: "One image",
            in_path: Some(("urn", IMAGE, Value::Image)),
            ..lookup("/api/images/{urn}", "getImage", "Image")
        },
        Route {
            summary: "One image in the languages that deploy it, with notes on its use",
            in_path: Some(("urn", IMAGE, Value::Image)),
            query: SNIPPETS,
            ..lookup("/api/images/{urn}/snippets", "getSnippets", "Snippets")
        },
        Route {
            summary: "The changes between a snapshot and the previous one",
            query: CHANGES,
            errors: LISTS,
            ..lookup("/api/changes", "listChanges", "ChangeList")
        },
        Route {
            summary: "Runs, newest first",
            query: RUNS,
            ..get("/api/runs", "listRuns", "RunList")
        },
        Route {
            summary: "One run: its progress, or the outcomes of its scopes",
            in_path: Some(("run", "The name of the run", Value::Run)),
            ..get("/api/runs/{run}", "getRun", "RunReport")
        },
        Route {
            summary: "The coverage of a run in groups, and what could not be listed by reason",
            in_path: Some(("run", "The name of the run, or current", Value::RunOrCurrent)),
            ..lookup("/api/runs/{run}/coverage", "getCoverage", "CoverageGroups")
        },
        Route {
            method: HttpMethod::Post,
            summary: "Start a run",
            answers: ("202", "Started"),
            errors: &[400, 401, 409, 413, 415, 429, 500, 502, 503],
            ..get("/api/runs", "startRun", "Started")
        },
        Route {
            summary: "Whether the catalog is fresh",
            errors: &[400, 500],
            ..get("/api/health", "health", "HealthReport")
        },
        Route { summary: "This document", ..get("/api/openapi.json", "openapi", "Document") },
    ]
}
