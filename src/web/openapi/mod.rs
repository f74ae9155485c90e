//! The `OpenAPI` document, generated from the route table, the parameters and the record types.

mod headers;
mod routes;
mod schemas;

use super::parameters::{LARGEST_PAGE, Value};
use super::reply;
use super::token::prefix_of;
use crate::catalog::LONGEST_SEARCH;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use routes::{Route, routes};
use schemas::schemas;
use serde_json::{Value as Json, json};
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

/// `publisher:offer:sku`, an alias, `gallery/definition`, or the id of a definition.
const SKU: &str = "^([^:]+:[^:]+:[^:]+(:latest)?|[A-Z][A-Za-z0-9]+|[^/:]+/[^/:]+|/[^:]+)$";

/// A URN, the id of a gallery image or managed image (the leading slash is optional), or a manifest
/// of a repository.
const ID: &str = "^([^:/]+:[^:/]+:[^:/]+:[^:/]+\
|/?(subscriptions|SharedGalleries|CommunityGalleries)/[^:]+\
|[^/@]+/[^@]+@[^@:/]+:[^@:/]+)$";

/// An alias of a SKU, which stands for its newest image.
const ALIAS: &str = "^[A-Z][A-Za-z0-9]+$";

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
        Value::RunOrCurrent => {
            text().pattern(Some("^([0-7][0-9A-HJKMNP-TV-Z]{25}|current)$")).build().into()
        }
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
    if let Err(error) = super::query::Query::parse(&uri, &[]) {
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
