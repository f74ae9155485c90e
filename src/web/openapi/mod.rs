//! The `OpenAPI` document, generated from the route table, the parameters and the record types.

mod headers;

use super::parameters::{
    CHANGES, DISTINCT, LARGEST_PAGE, LATEST, LIST, LOCATIONS, Parameter, RUNS, USAGE, Value,
};
use super::reply;
use super::runs::{HealthReport, RunList};
use super::token::prefix_of;
use crate::catalog::LONGEST_SEARCH;
use crate::catalog::distinct::{LocationCount, OfferCount, PublisherCount, SkuCount};
use crate::catalog::usage::Usage;
use crate::image::KINDS;
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::{self, MarketplaceImage};
use crate::image::registry::{self, RegistryImage};
use crate::pipeline::changes::ChangeRow;
use crate::pipeline::report::RunReport;
use crate::work::{Request, RunId};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::{
    InfoBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr, Required,
    ResponseBuilder,
};

/// An image of any table.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = by_kind)]
#[allow(dead_code, reason = "a schema; answers are written from the index")]
enum Image {
    /// A marketplace image.
    Marketplace(Box<MarketplaceImage>),
    /// An image of a gallery, or a managed image.
    Gallery(Box<GalleryImage>),
    /// A manifest of a container registry.
    Registry(Box<RegistryImage>),
}

/// Distinguishes the tables by the `kind` of a row, so that generated clients deserialize each row
/// as its own type.
fn by_kind(schema: &mut JsonSchemaOf) {
    let of = |name: &str| format!("{SCHEMAS}/{name}");
    let table = |kind: &str| match kind {
        marketplace::KIND => of("MarketplaceImage"),
        registry::KIND => of("RegistryImage"),
        _ => of("GalleryImage"),
    };
    let mapping: BTreeMap<&str, String> = KINDS.iter().map(|kind| (*kind, table(kind))).collect();
    let mut tables: Vec<&String> = mapping.values().collect();
    tables.sort_unstable();
    tables.dedup();
    let tables: Vec<Json> = tables.into_iter().map(|table| json!({"$ref": table})).collect();
    *schema = json_schema!({
        "description": "An image of any table, determined by its kind.",
        "oneOf": tables,
        "discriminator": {"propertyName": "kind", "mapping": mapping},
    });
}

/// Declares the schema of a page of a list.
macro_rules! page_of {
    ($name:ident, $row:ty, $what:literal) => {
        page_of!($name, $row, $what,);
    };
    (of images: $name:ident, $row:ty, $what:literal) => {
        page_of!(
            $name, $row, $what,
            /// The number of further marketplace images, over all pages, that may match but whose
            /// filtered details are not known. Omitted if there are none.
            #[serde(skip_serializing_if = "Option::is_none")]
            unknown: Option<u64>,
        );
    };
    ($name:ident, $row:ty, $what:literal, $($more:tt)*) => {
        #[doc = concat!("A page of ", $what, ".")]
        #[derive(Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        #[allow(dead_code, reason = "a schema")]
        struct $name {
            #[doc = concat!("The ", $what, ".")]
            value: Vec<$row>,
            /// The URL of the next page, if there is one.
            #[serde(skip_serializing_if = "Option::is_none")]
            next_link: Option<String>,
            $($more)*
        }
    };
}

page_of!(of images: ImageList, Image, "images");
page_of!(UsageList, Usage, "machines with the findings of their images");
page_of!(ChangeList, ChangeRow, "changes");
page_of!(of images: PublisherList, PublisherCount, "publishers");
page_of!(of images: OfferList, OfferCount, "offers");
page_of!(of images: SkuList, SkuCount, "SKUs");
page_of!(of images: LocationList, LocationCount, "locations");

/// The details of an error.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "a schema")]
struct ErrorDetail {
    /// The code of the error, for programs; also in the header `x-ms-error-code`.
    code: String,
    /// The message of the error, for people.
    message: String,
    /// The parameter or member that is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// An error response.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "a schema")]
struct ErrorBody {
    /// The error.
    error: ErrorDetail,
}

/// The run that was started.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "a schema; the function start answers")]
struct Started {
    /// The name of the run.
    run: RunId,
    /// The state of the run.
    #[schemars(extend("const" = "running"))]
    state: String,
    /// The number of work items at the start.
    items: usize,
}

/// A JSON document whose members are not specified here.
#[derive(Serialize, JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code, reason = "a schema")]
struct Document(serde_json::Map<String, Json>);

/// An operation.
struct Route {
    method: HttpMethod,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    in_path: Option<(&'static str, &'static str, Value)>,
    query: &'static [Parameter],
    answers: (&'static str, &'static str),
    errors: &'static [u16],
    /// Whether the operation is answered from one snapshot, so that it supports conditional
    /// requests.
    cached: bool,
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

fn routes() -> impl Iterator<Item = Route> {
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
            query: DISTINCT,
            errors: LISTS,
            ..lookup("/api/skus", "listSkus", "SkuList")
        },
        Route {
            summary: "The locations of the images that match all filters, with counts",
            query: LOCATIONS,
            errors: LISTS,
            ..lookup("/api/locations", "listLocations", "LocationList")
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

/// `publisher:offer:sku`, an alias, `gallery/definition`, or the id of a definition.
const SKU: &str = "^([^:]+:[^:]+:[^:]+(:latest)?|[A-Z][A-Za-z0-9]+|[^/:]+/[^/:]+|/[^:]+)$";

/// A URN, the id of a gallery image or managed image (the leading slash is optional), or a manifest
/// of a repository.
const ID: &str = "^([^:/]+:[^:/]+:[^:/]+:[^:/]+\
|/?(subscriptions|SharedGalleries|CommunityGalleries)/[^:]+\
|[^/@]+/[^@]+@[^@:/]+:[^@:/]+)$";

/// An alias of a SKU, which stands for its newest image.
const ALIAS: &str = "^[A-Z][A-Za-z0-9]+$";

/// Location of the record schemas in the document.
const SCHEMAS: &str = "#/components/schemas";

fn schema_of(value: Value) -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    match value {
        Value::Text => text().build().into(),
        Value::Search => text().max_length(Some(LONGEST_SEARCH)).build().into(),
        Value::Texts | Value::Features => ArrayBuilder::new().items(text()).build().into(),
        Value::Flag => ObjectBuilder::new().schema_type(Type::Boolean).build().into(),
        Value::Count => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(LARGEST_PAGE))
            .build()
            .into(),
        Value::Id => text().pattern(Some(ID)).build().into(),
        Value::Image => text().pattern(Some(format!("{ID}|{ALIAS}"))).build().into(),
        Value::Sku => text().pattern(Some(SKU)).build().into(),
        Value::Run => text().pattern(Some("^[0-7][0-9A-HJKMNP-TV-Z]{25}$")).build().into(),
        Value::OneOf(set) => text().enum_values(Some(set.names.iter().copied())).build().into(),
        Value::AnyOf(set) => {
            let one = text().enum_values(Some(set.names.iter().copied()));
            ArrayBuilder::new().items(one).build().into()
        }
        Value::Date => {
            text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).build().into()
        }
    }
}

fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

fn response(text: &str, schema: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(reference(schema))).build();
    ResponseBuilder::new().description(text).content("application/json", content).build()
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.summary))
        .response(route.answers.0, response("The requested resource", route.answers.1));
    if route.cached {
        let unchanged =
            ResponseBuilder::new().description("The cached response of the caller is still valid");
        operation = operation.response("304", unchanged);
    }
    if route.id == "startRun" {
        let joined = "A run in progress with the same request, unless `force` is set";
        operation = operation.response("200", response(joined, "Started"));
    }
    if route.id == "health" {
        operation = operation.response("503", response("The catalog is not fresh", "HealthReport"));
    }
    // Statuses that every operation can return: a page of another origin, a wrong method, a host
    // name that is not served.
    for status in route.errors.iter().chain(&[403, 405, 406, 421]) {
        operation = operation.response(status.to_string(), response("An error", "ErrorBody"));
    }
    if let Some((name, text, value)) = route.in_path {
        let parameter = ParameterBuilder::new()
            .name(name)
            .description(Some(text))
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema_of(value)));
        operation = operation.parameter(parameter);
    }
    for parameter in route.query {
        let parameter = ParameterBuilder::new()
            .name(parameter.name)
            .description(Some(parameter.text))
            .parameter_in(ParameterIn::Query)
            .required(if parameter.name == "urn" { Required::True } else { Required::False })
            .schema(Some(schema_of(parameter.value)));
        operation = operation.parameter(parameter);
    }
    if route.method == HttpMethod::Post {
        let content = ContentBuilder::new().schema(Some(reference("Request"))).build();
        let body = RequestBodyBuilder::new().content("application/json", content).build();
        operation = operation.request_body(Some(body));
    }
    operation
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Rewrites each closed set, a `oneOf` of described constants, as an `enum` with the descriptions
/// joined. Client generators turn an `enum` into a type, but not a `oneOf` of constants.
fn names(schema: &mut Json) {
    if let Json::Array(parts) = schema {
        parts.iter_mut().for_each(names);
    }
    let Json::Object(members) = schema else { return };
    members.values_mut().for_each(names);
    let Some(Json::Array(choice)) = members.get("oneOf") else { return };
    let all: Option<Vec<&str>> = choice.iter().map(|one| one.get("const")?.as_str()).collect();
    let Some(all) = all else { return };
    let meaning = choice.iter().filter_map(|one| {
        Some(format!("- `{}`: {}", one["const"].as_str()?, one["description"].as_str()?))
    });
    let said = members.get("description").and_then(Json::as_str).unwrap_or_default();
    let text: Vec<String> = [said.to_owned(), String::new()].into_iter().chain(meaning).collect();
    *schema = json!({"type": "string", "enum": all, "description": text.join("\n")});
}

/// The schemas of the records that routes return, including the records they contain.
fn schemas() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = SchemaGenerator::new(settings);
    for add in [
        add::<ImageList>,
        add::<ChangeList>,
        add::<ErrorBody>,
        add::<Started>,
        add::<RunList>,
        add::<RunReport>,
        add::<HealthReport>,
        add::<Request>,
        add::<Image>,
        add::<UsageList>,
        add::<PublisherList>,
        add::<OfferList>,
        add::<SkuList>,
        add::<LocationList>,
    ] {
        add(&mut generator);
    }
    let mut schemas = json!(generator.definitions());
    names(&mut schemas);
    schemas["Document"] = json!({"type": "object"});
    schemas
}

/// Where the Functions host looks for a key (`AuthenticationLevelHandler` in its source).
fn keys() -> Json {
    let key = |place: &str, name: &str| json!({"type": "apiKey", "in": place, "name": name});
    json!({"keyInHeader": key("header", "x-functions-key"), "keyInQuery": key("query", "code")})
}

/// Builds the document.
pub fn document() -> Json {
    let mut paths = PathsBuilder::new();
    for route in routes() {
        let item = PathItem::new(route.method.clone(), operation(&route));
        paths = paths.path(route.path, item);
    }
    let about =
        "A catalog of every image deployable on Azure: lists, the newest versions and changes.";
    let document: OpenApi = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("azimg")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(about)),
        )
        .paths(paths)
        .build();
    let mut document = json!(document);
    // Relative to the host that the document was read from.
    document["servers"] = json!([{"url": "/", "description": "This host"}]);
    document["components"] = json!({
        "schemas": schemas(),
        "headers": headers::components(),
        "securitySchemes": keys(),
    });
    for path in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for operation in path.as_object_mut().into_iter().flat_map(|path| path.values_mut()) {
            headers::describe(&mut operation["responses"]);
        }
    }
    // Any one of these suffices. The embedded host requires a key to start a run or to query Azure.
    document["security"] = json!([{"keyInHeader": []}, {"keyInQuery": []}, {}]);
    document
}

pub(super) async fn show(uri: Uri, asked: HeaderMap) -> Response {
    static DOCUMENT: OnceLock<Json> = OnceLock::new();
    if let Err(error) = super::parameters::Query::parse(&uri, &[]) {
        return reply::error(&error);
    }
    let document = DOCUMENT.get_or_init(document);
    let prefix = prefix_of(&asked);
    if prefix.is_empty() {
        return reply::json(StatusCode::OK, document);
    }
    let mut document = document.clone();
    document["servers"][0]["url"] = prefix.into();
    reply::json(StatusCode::OK, &document)
}
