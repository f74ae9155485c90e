//! `azimg gallery`: galleries in the current snapshot, and operations on them in Azure.

mod change;
mod followed;
mod retire;

use super::empty::nothing_fits;
use super::filter::FilterArgs;
use super::images::{listed, print_listed};
use super::output::Output;
use super::shape::ShapeArgs;
use crate::catalog::{Catalog, Filter};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::gallery::Galleries;
use crate::sink::say;
use followed::Followed;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(clap::Subcommand)]
pub(super) enum GalleryCommand {
    /// List the galleries in the catalog, with the number of definitions and versions in each
    #[command(after_help = "Examples:
  azimg gallery list -o table
  azimg gallery list --subscription 1111 --query '[].gallery'")]
    List(GalleryListArgs),
    /// List the image definitions and managed images in the catalog
    #[command(after_help = "Examples:
  azimg gallery images --os Windows -o table
  azimg gallery images --gallery prod --query '[?endOfLifeAt]'")]
    Images(GalleryListArgs),
    /// List the image versions in the catalog
    #[command(after_help = "Examples:
  azimg gallery versions --gallery prod --definition ubuntu -o table
  azimg gallery versions --status end-of-life --location westeurope")]
    Versions(VersionListArgs),
    /// Show a gallery, a definition with its versions, or one version
    #[command(after_help = "Examples:
  azimg gallery show prod_gallery/ubuntu-base/1.4.0
  azimg gallery show prod_gallery/ubuntu-base --query 'versions[0].id'")]
    Show {
        /// GALLERY, GALLERY/DEFINITION, GALLERY/DEFINITION/VERSION, or a resource id
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Change the changeable properties of a gallery, a definition or a version
    #[command(after_help = "Examples:
  azimg gallery update prod/ubuntu-base/1.4.0 --add-region japaneast=2/Standard_ZRS --dry-run
  azimg gallery update prod/ubuntu-base --end-of-life 2027-06-30 --max-vcpus 32")]
    Update(Box<change::UpdateArgs>),
    /// Share a gallery with subscriptions, tenants or everyone, or show how it is shared
    ///
    /// Without --subscription, --tenant and --community, the command shows how the gallery is
    /// shared.
    #[command(after_help = "Examples:
  azimg gallery share prod --subscription 00000000-0000-0000-0000-000000000000
  azimg gallery share prod")]
    Share(change::ShareArgs),
    /// Stop sharing a gallery with some subscriptions or tenants, or with all
    #[command(after_help = "Examples:
  azimg gallery unshare prod --tenant 00000000-0000-0000-0000-000000000000
  azimg gallery unshare prod --all --dry-run")]
    Unshare(change::UnshareArgs),
    /// Wait for an operation that was started with --no-wait or was interrupted
    #[command(after_help = "Examples:
  azimg gallery wait \"$(azimg gallery update prod/base/1.0.0 --exclude-from-latest true --no-wait --query operation -o tsv)\"
  azimg gallery wait 'https://management.azure.com/subscriptions/…/capsOperations/…'")]
    Wait {
        /// URL of the operation
        #[arg(value_name = "URL")]
        operation: String,
    },
    /// Retire old image versions: plan, review, apply
    #[command(after_help = "Examples:
  azimg gallery retire --keep 3 --older-than 90 --max-percent 75 --action delete --plan retire.json -o table
  azimg gallery retire --apply retire.json")]
    Retire(retire::RetireArgs),
}

/// Filters of a list of versions.
#[derive(clap::Args)]
pub(super) struct VersionListArgs {
    /// Only the latest version of each definition
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    list: GalleryListArgs,
}

/// Filters and order of a list of galleries or their images.
#[derive(clap::Args)]
pub(super) struct GalleryListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub(super) async fn run(
    command: GalleryCommand,
    flags: Flags,
    output: &Output,
) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    match command {
        GalleryCommand::List(args) => Box::pin(galleries(&config, args, output)).await,
        GalleryCommand::Images(args) => {
            let filter = args.filter.of_kinds(IMAGES)?;
            let rows = listed_or_said(&config, &filter, output).await?;
            output.list(args.shape.shape(rows)?, IMAGE_COLUMNS)?;
            Ok(ExitCode::SUCCESS)
        }
        GalleryCommand::Versions(args) => {
            let VersionListArgs { latest, list } = args;
            let filter = Filter { latest, ..list.filter.of_kinds(&["gallery-version"])? };
            Box::pin(print_listed(&config, &filter, &list.shape, output)).await
        }
        GalleryCommand::Show { name } => Box::pin(show(&config, &name, output)).await,
        GalleryCommand::Update(args) => change::update(&config, *args, output).await,
        GalleryCommand::Share(args) => change::share(&config, args, output).await,
        GalleryCommand::Unshare(args) => change::unshare(&config, args, output).await,
        GalleryCommand::Wait { operation } => wait(&config, &operation, output).await,
        GalleryCommand::Retire(args) => Box::pin(retire::run(&config, args, output)).await,
    }
}

const IMAGE_COLUMNS: &[&str] = &[
    "kind",
    "gallery",
    "definition",
    "publisher",
    "offer",
    "sku",
    "os",
    "osState",
    "hyperVGeneration",
    "architecture",
    "endOfLifeAt",
];

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// The key of a gallery in the catalog.
fn gallery_key(row: &Value) -> [String; 3] {
    ["subscriptionId", "resourceGroup", "gallery"].map(|name| text(row, name))
}

/// The kinds of images in galleries.
const IN_GALLERIES: &[&str] = &["gallery-definition", "gallery-version"];

/// The kinds of images that machines are created from, without versions of definitions.
const IMAGES: &[&str] = &["gallery-definition", "managed-image"];

/// The images that `filter` accepts. If there are none, reports why.
async fn listed_or_said(config: &Config, filter: &Filter, output: &Output) -> Result<Vec<Value>> {
    let rows = listed(config, filter).await?;
    if rows.is_empty() && !output.quiet {
        say!("{}", nothing_fits(config, filter, false, OffsetDateTime::now_utc()).await);
    }
    Ok(rows)
}

async fn galleries(config: &Config, args: GalleryListArgs, output: &Output) -> Result<ExitCode> {
    let rows = listed_or_said(config, &args.filter.of_kinds(IN_GALLERIES)?, output).await?;
    let mut all: Vec<(Vec<String>, Map<String, Value>)> = Vec::new();
    for row in rows {
        let key = gallery_key(&row).to_vec();
        if all.last().is_none_or(|(last, _)| *last != key) {
            let fields = ["gallery", "sharing", "subscriptionId", "resourceGroup"];
            let mut one: Map<String, Value> =
                fields.iter().map(|name| ((*name).to_owned(), row[*name].clone())).collect();
            for count in ["definitions", "versions", "endOfLife"] {
                one.insert(count.to_owned(), 0.into());
            }
            all.push((key, one));
        }
        let Some((_, gallery)) = all.last_mut() else { continue };
        let mut count = |name: &str| {
            let before = gallery.get(name).and_then(Value::as_u64).unwrap_or(0);
            gallery.insert(name.to_owned(), (before + 1).into());
        };
        count(if row["version"].is_null() { "definitions" } else { "versions" });
        if row["status"] == "end-of-life" && !row["version"].is_null() {
            count("endOfLife");
        }
    }
    let rows: Vec<Value> = all.into_iter().map(|(_, gallery)| gallery.into()).collect();
    let columns = ["gallery", "sharing", "subscriptionId", "definitions", "versions", "endOfLife"];
    output.list(args.shape.shape(rows)?, &columns)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a gallery, definition or version in the catalog, with its children.
async fn show(config: &Config, name: &str, output: &Output) -> Result<ExitCode> {
    let store = config.store()?;
    let not_found = || Error::not_found(format!("{name} is not in the catalog"));
    let says_latest = name.rsplit('/').next().is_some_and(|l| l.eq_ignore_ascii_case("latest"));
    if name.starts_with('/') || says_latest {
        let catalog = Catalog::open_with_others(store.as_ref()).await?;
        let now = OffsetDateTime::now_utc();
        let found = catalog.named(name, now)?;
        output.one(catalog.values(&found, now)?.remove(0))?;
        return Ok(ExitCode::SUCCESS);
    }
    let parts: Vec<&str> = name.split('/').collect();
    let part = |at: usize| parts.get(at).map(|part| (*part).to_owned());
    let filter = Filter {
        gallery: part(0),
        definition: part(1),
        version: part(2),
        kinds: IN_GALLERIES[..if part(2).is_none() { 1 } else { 2 }]
            .iter()
            .map(|kind| (*kind).to_owned())
            .collect(),
        exact: true,
        ..Filter::default()
    };
    let rows = listed(config, &filter).await?;
    let mut galleries: Vec<[String; 3]> = rows.iter().map(gallery_key).collect();
    galleries.sort();
    galleries.dedup();
    if galleries.len() > 1 {
        let all: Vec<String> =
            galleries.iter().map(|[s, group, _]| format!("{s}/{group}")).collect();
        let text =
            format!("several galleries have this name, in {}: give a resource id", all.join(", "));
        return Err(Error::invalid(text));
    }
    let first = rows.first().ok_or_else(not_found)?.clone();
    let value = match parts.len() {
        1 => json!({"gallery": first["gallery"], "sharing": first["sharing"],
            "subscriptionId": first["subscriptionId"], "resourceGroup": first["resourceGroup"],
            "definitions": rows}),
        2 => {
            let filter = Filter { kinds: vec!["gallery-version".to_owned()], ..filter };
            let mut value = first;
            let mut versions = listed(config, &filter).await?;
            versions.reverse();
            value["versions"] = versions.into();
            value
        }
        _ => first,
    };
    output.one(value)?;
    Ok(ExitCode::SUCCESS)
}

async fn wait(config: &Config, operation: &str, output: &Output) -> Result<ExitCode> {
    let galleries = Galleries::new(config.client()?);
    let operation = galleries.operation(operation)?;
    let followed = Followed::new("the operation", output.quiet).at(operation.clone());
    let tell = |step| followed.step(step);
    followed.to_end(galleries.follow(&operation, &tell)).await?;
    output.one(json!({"state": "succeeded"}))?;
    Ok(ExitCode::SUCCESS)
}
