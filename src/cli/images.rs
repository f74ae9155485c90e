//! `azimg images`: lookups in the current snapshot, or in Azure itself.

use super::output::Output;
use crate::catalog::{Catalog, Filter, LatestQuestion, live};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::image::Urn;
use crate::image::marketplace::MarketplaceImage;
use serde_json::Value;
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(clap::Subcommand)]
pub(super) enum ImagesCommand {
    /// List images
    #[command(after_help = "Examples:
  azimg images list --publisher canonical --architecture arm64 -o table
  azimg images list --live --publisher canonical --location eastus")]
    List(ListArgs),
    /// Show everything about one image
    #[command(after_help = "Examples:
  azimg images show Canonical:ubuntu-24_04-lts:server:24.8.20260901
  azimg images show Canonical:ubuntu-24_04-lts:server:24.8.20260901 --query locations")]
    Show {
        /// publisher:offer:sku:version
        urn: String,
    },
    /// The newest version of a SKU that can be deployed in all named locations
    #[command(after_help = "Examples:
  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus --location westus2
  azimg images latest Debian:debian-12:12-gen2 --not-deprecated-before 2027-01-01 -o tsv --query '[].id'")]
    Latest(LatestArgs),
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Part of the publisher's name
    #[arg(long)]
    publisher: Option<String>,
    /// Part of the offer's name
    #[arg(long)]
    offer: Option<String>,
    /// Part of the SKU's name
    #[arg(long)]
    sku: Option<String>,
    /// Part of the version
    #[arg(long)]
    version: Option<String>,
    /// A location that has it, as a whole name; may be repeated
    #[arg(long)]
    location: Vec<String>,
    /// x64 or Arm64
    #[arg(long)]
    architecture: Option<String>,
    /// Linux or Windows
    #[arg(long)]
    os: Option<String>,
    /// active, scheduled or deprecated
    #[arg(long)]
    status: Option<String>,
    /// Kind of image, such as marketplace
    #[arg(long)]
    kind: Option<String>,
    /// Words that all occur in the names
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Compare whole names instead of parts
    #[arg(long)]
    exact: bool,
    /// Ask Azure now; no snapshot is needed
    #[arg(long)]
    live: bool,
}

#[derive(clap::Args)]
pub(super) struct LatestArgs {
    /// publisher:offer:sku; may be repeated
    #[arg(required = true)]
    urn: Vec<String>,
    /// A location that must have it; may be repeated
    #[arg(long)]
    location: Vec<String>,
    /// It must still be deployable on this day
    #[arg(long, value_name = "DATE")]
    not_deprecated_before: Option<String>,
}

const COLUMNS: &[&str] = &[
    "publisher",
    "offer",
    "sku",
    "version",
    "status",
    "isLatest",
    "architecture",
    "hyperVGeneration",
    "os",
    "locations",
];

pub(super) async fn run(command: ImagesCommand, flags: Flags, output: &Output) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    match command {
        ImagesCommand::List(args) => list(&config, args, output).await,
        ImagesCommand::Show { urn } => show(&config, &urn, output).await,
        ImagesCommand::Latest(args) => latest(&config, &args, output).await,
    }
}

fn values(rows: &[MarketplaceImage]) -> Result<Vec<Value>> {
    rows.iter()
        .map(|row| serde_json::to_value(row).map_err(|e| Error::bug(e.to_string())))
        .collect()
}

async fn list(config: &Config, args: ListArgs, output: &Output) -> Result<ExitCode> {
    let filter = Filter {
        publisher: args.publisher,
        offer: args.offer,
        sku: args.sku,
        version: args.version,
        locations: args.location,
        architecture: args.architecture,
        os: args.os,
        status: args.status,
        kind: args.kind,
        search: args.search,
        exact: args.exact,
    };
    let rows = if args.live {
        let (app, _) = config.app()?;
        let now = OffsetDateTime::now_utc();
        live::images(&app.sources, config.request(), &filter, now).await?
    } else {
        Catalog::open(config.store()?.as_ref(), &filter).await?.rows
    };
    if rows.is_empty() && !output.quiet {
        eprintln!("{}", nothing_fits(config, &filter, args.live).await);
    }
    output.list(values(&rows)?, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

/// Why a list is empty, and what to try: a word that is no publisher is often an offer.
async fn nothing_fits(config: &Config, filter: &Filter, live: bool) -> String {
    let words: Vec<&str> = [&filter.publisher, &filter.offer, &filter.sku]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let search = words.join(" ");
    let wider = Filter { search: Some(search.clone()), ..Filter::default() };
    let found = match (live || search.is_empty(), config.store()) {
        (false, Ok(store)) => {
            Catalog::open(store.as_ref(), &wider).await.map_or(0, |c| c.rows.len())
        }
        _ => 0,
    };
    match found {
        0 => "No image fits. Names are compared in part and without case.".to_owned(),
        found => format!(
            "No image fits, but {found} have '{search}' somewhere in their names: \
             azimg images list --search '{search}'"
        ),
    }
}

async fn show(config: &Config, text: &str, output: &Output) -> Result<ExitCode> {
    let urn: Urn = text.parse()?;
    let filter = Filter {
        publisher: Some(urn.publisher.clone()),
        offer: Some(urn.offer.clone()),
        sku: Some(urn.sku.clone()),
        exact: true,
        ..Filter::default()
    };
    let catalog = Catalog::open(config.store()?.as_ref(), &filter).await?;
    let found = catalog.rows.iter().find(|row| row.version.eq_ignore_ascii_case(&urn.version));
    let Some(row) = found else {
        let known = match catalog.rows.iter().rev().find(|row| row.is_latest) {
            Some(latest) => format!("; the latest of this SKU is {}", latest.version),
            None => String::new(),
        };
        return Err(Error::not_found(format!("{urn} is not in the catalog{known}")));
    };
    output.one(serde_json::to_value(row).map_err(|e| Error::bug(e.to_string()))?)?;
    Ok(ExitCode::SUCCESS)
}

async fn latest(config: &Config, args: &LatestArgs, output: &Output) -> Result<ExitCode> {
    let before = args
        .not_deprecated_before
        .as_ref()
        .map(|text| {
            crate::web::date(text).ok_or_else(|| {
                Error::invalid(format!("'{text}' is no date: give one such as 2027-01-01"))
            })
        })
        .transpose()?;
    let questions = args
        .urn
        .iter()
        .map(|urn| LatestQuestion::parse(urn, &args.location, before))
        .collect::<Result<Vec<_>>>()?;
    let store = config.store()?;
    let mut rows = Vec::new();
    for question in &questions {
        let catalog = Catalog::open(store.as_ref(), &question.filter()).await?;
        rows.push(question.answer(&catalog.rows)?.clone());
    }
    output.list(values(&rows)?, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}
