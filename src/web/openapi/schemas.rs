//! The schemas of the records that operations return.

use crate::catalog::distinct::{Facets, LocationCount, OfferCount, PublisherCount, SkuCount};
use crate::catalog::usage::Usage;
use crate::catalog::{RepositoryStorage, Suggestion};
use crate::image::KINDS;
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::{self, MarketplaceImage};
use crate::image::registry::{self, RegistryImage};
use crate::pipeline::changes::ChangeRow;
use crate::pipeline::coverage_groups::CoverageGroups;
use crate::pipeline::report::RunReport;
use crate::reference::snippets::Snippets;
use crate::web::runs::{HealthReport, RunList};
use crate::work::{Request, RunId};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Location of the record schemas in the document.
const SCHEMAS: &str = "#/components/schemas";

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
    (of images: $name:ident, $row:ty, $what:literal $(, $($more:tt)*)?) => {
        page_of!(
            $name, $row, $what,
            $($($more)*)?
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
page_of!(
    of images: SkuList, SkuCount, "SKUs",
    /// The number of SKUs over all pages, if `count` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// The number of their images over all pages, if `count` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<u64>,
    /// Counts for the values of each filter, if `facets` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    facets: Option<Facets>,
);
page_of!(of images: LocationList, LocationCount, "locations");
page_of!(SuggestionList, Suggestion, "suggestions");
page_of!(StorageList, RepositoryStorage, "repositories");

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
pub(super) fn schemas() -> Json {
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
        add::<SuggestionList>,
        add::<StorageList>,
        add::<CoverageGroups>,
        add::<Snippets>,
    ] {
        add(&mut generator);
    }
    let mut schemas = json!(generator.definitions());
    names(&mut schemas);
    schemas["Document"] = json!({"type": "object"});
    schemas
}
