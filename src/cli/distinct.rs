//! `azimg publishers`, `offers`, `skus` and `locations`: distinct names in the current snapshot,
//! with counts.

use super::choice::OneOf;
use super::empty::{nothing_in, say_unknown};
use super::filter::{ImageArgs, PlaceArgs, checked};
use super::output::Output;
use super::shape::ShapeArgs;
use crate::catalog::{Catalog, Filter, distinct};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::image::names::IMAGE_KINDS;
use serde::Serialize;
use serde_json::Value;
use std::process::ExitCode;
use time::OffsetDateTime;

/// Images whose publishers, offers or SKUs are listed.
#[derive(clap::Args)]
pub(super) struct NamesArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Words that must all occur in an image's names, or aliases such as Ubuntu2404
    ///
    /// The characters '-', '_' and '.' are equivalent. The best match comes first.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only the latest version of each SKU
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Images whose locations are listed.
#[derive(clap::Args)]
pub(super) struct LocationsArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Kinds of images, comma-separated: marketplace, gallery-version, gallery-definition,
    /// managed-image or container-manifest
    #[arg(long, value_delimiter = ',', value_parser = OneOf(IMAGE_KINDS), hide_possible_values = true)]
    kind: Vec<String>,
    /// Words that must all occur in the location's name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only the latest image of each SKU, definition or repository
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

const PUBLISHER_COLUMNS: &[&str] = &["publisher", "offers", "skus", "images", "locations"];
const OFFER_COLUMNS: &[&str] = &["publisher", "offer", "skus", "images", "locations"];
const SKU_COLUMNS: &[&str] = &["publisher", "offer", "sku", "latest", "images", "locations"];
const LOCATION_COLUMNS: &[&str] = &["location", "publishers", "marketplace", "gallery", "registry"];

fn values(rows: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<Value>> {
    let rows = rows.into_iter().map(serde_json::to_value).collect::<Result<_, _>>();
    rows.map_err(|e| Error::bug(e.to_string()))
}

/// Makes the rows of a list from the images that match a filter at a moment.
type Rows = fn(&Catalog, &Filter, OffsetDateTime) -> Result<Vec<Value>>;

pub(super) async fn publishers(args: NamesArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let rows: Rows =
        |catalog, filter, now| values(distinct::publishers(&catalog.index, filter, now));
    names(args, flags, output, rows, PUBLISHER_COLUMNS).await
}

pub(super) async fn offers(args: NamesArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let rows: Rows = |catalog, filter, now| values(distinct::offers(&catalog.index, filter, now));
    names(args, flags, output, rows, OFFER_COLUMNS).await
}

pub(super) async fn skus(args: NamesArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let rows: Rows = |catalog, filter, now| values(distinct::skus(&catalog.index, filter, now));
    names(args, flags, output, rows, SKU_COLUMNS).await
}

async fn names(
    args: NamesArgs,
    flags: Flags,
    output: &Output,
    rows: Rows,
    columns: &[&str],
) -> Result<ExitCode> {
    let NamesArgs { image, place, search, latest, shape } = args;
    let filter = checked(Filter { latest, search, ..place.filter(image.filter()?) })?;
    let catalog = Catalog::open(Config::load(flags)?.store()?.as_ref()).await?;
    catalog.check_places(&filter, false)?;
    let now = OffsetDateTime::now_utc();
    let found = (rows(&catalog, &filter, now)?, catalog.unknown(&filter, now));
    print(found, columns, &shape, output, || nothing_in(&catalog, &filter))
}

pub(super) async fn locations(
    args: LocationsArgs,
    flags: Flags,
    output: &Output,
) -> Result<ExitCode> {
    let LocationsArgs { image, kind, search, latest, shape } = args;
    let filter = checked(Filter { kinds: kind, search, latest, ..image.filter()? })?;
    let store = Config::load(flags)?.store()?;
    let catalog = Catalog::open_for(store.as_ref(), &filter).await?;
    catalog.listed(store.as_ref()).await?;
    let now = OffsetDateTime::now_utc();
    let rows = values(distinct::locations(&catalog, &filter, now))?;
    // The search text applies to names of locations, not of images.
    let unknown = catalog.unknown(&Filter { search: None, ..filter.clone() }, now);
    print((rows, unknown), LOCATION_COLUMNS, &shape, output, || nothing_in(&catalog, &filter))
}

/// Prints rows, and reports how many images could not be decided.
fn print(
    (rows, unknown): (Vec<Value>, u64),
    columns: &[&str],
    shape: &ShapeArgs,
    output: &Output,
    nothing: impl FnOnce() -> String,
) -> Result<ExitCode> {
    if unknown == 0 {
        output.unless_empty(&rows, nothing);
    }
    say_unknown(unknown);
    output.list(shape.shape(rows)?, columns)?;
    Ok(ExitCode::SUCCESS)
}
