//! `azimg images`: lookups in the current snapshot, or in Azure itself.

use super::output::Output;
use crate::catalog::{Catalog, Filter, LatestQuestion, aliases, live, short_name};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::image::Urn;
use crate::image::marketplace::MarketplaceImage;
use serde_json::{Value, json};
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
    /// Short names of images, as az takes them, with their newest versions
    #[command(after_help = "Examples:
  azimg images aliases
  azimg images aliases --az > aliases.json")]
    Aliases {
        /// Print the document that az reads its aliases from
        #[arg(long)]
        az: bool,
    },
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
    /// Words that all occur in the names; the best fit comes first
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
    /// publisher:offer:sku, or an alias such as Ubuntu2404; may be repeated
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
        ImagesCommand::Aliases { az } => aliases(&config, az, output).await,
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
        values(&live::images(&app.sources, config.request(), &filter, now).await?)?
    } else {
        let catalog = Catalog::open(config.store()?.as_ref()).await?;
        let found = catalog.list(&filter, 0, usize::MAX).rows;
        found.into_iter().map(|found| catalog.parse(found)).collect::<Result<_>>()?
    };
    if rows.is_empty() && !output.quiet {
        eprintln!("{}", nothing_fits(config, &filter, args.live).await);
    }
    output.list(rows, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

/// Why a list is empty, and what to try: a word that is no publisher is often an offer, and a location
/// may be misspelled.
async fn nothing_fits(config: &Config, filter: &Filter, live: bool) -> String {
    let nothing = "No image fits. Names are compared in part and without case.".to_owned();
    let (false, Ok(store)) = (live, config.store()) else { return nothing };
    let Ok(catalog) = Catalog::open(store.as_ref()).await else { return nothing };
    let known = catalog.locations();
    if let Some(other) = filter.locations.iter().find(|name| !known.contains(&short_name(name))) {
        return format!("No image is in '{other}'; the catalog has {}.", known.join(", "));
    }
    let words = [&filter.publisher, &filter.offer, &filter.sku].into_iter().flatten();
    let search = words.map(String::as_str).collect::<Vec<_>>().join(" ");
    let wider = Filter { search: Some(search.clone()), ..Filter::default() };
    match catalog.list(&wider, 0, usize::MAX).rows.len() {
        0 => nothing,
        _ if search.is_empty() => nothing,
        found => format!(
            "No image fits, but {found} have '{search}' somewhere in their names: \
             azimg images list --search '{search}'"
        ),
    }
}

async fn show(config: &Config, text: &str, output: &Output) -> Result<ExitCode> {
    let urn: Urn = text.parse()?;
    let catalog = Catalog::open(config.store()?.as_ref()).await?;
    let Some(found) = catalog.find(&urn) else {
        let sku = format!("{}:{}:{}", urn.publisher, urn.offer, urn.sku);
        let latest = LatestQuestion::parse(&sku, &[], None)?.answer(&catalog.index);
        let known = match latest {
            Ok(row) => {
                let version = catalog.index.row(row).version();
                format!("; the latest of this SKU is {}", catalog.index.versions().get(version))
            }
            Err(_) => String::new(),
        };
        return Err(Error::not_found(format!("{urn} is not in the catalog{known}")));
    };
    output.one(catalog.parse(found)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn aliases(config: &Config, az: bool, output: &Output) -> Result<ExitCode> {
    let catalog = Catalog::open(config.store()?.as_ref()).await?;
    if az {
        output.document(&aliases::document(&catalog)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for (alias, row) in aliases::resolve(&catalog)? {
        let mut value = json!({"alias": alias.name});
        if let (Some(into), Value::Object(row)) = (value.as_object_mut(), row) {
            into.extend(row);
        }
        rows.push(value);
    }
    output.list(rows, &["alias", "id", "status", "scheduledDeprecationAt", "architecture"])?;
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
    let catalog = Catalog::open(config.store()?.as_ref()).await?;
    let mut rows = Vec::new();
    for question in &questions {
        rows.push(catalog.value(question.answer(&catalog.index)?)?);
    }
    output.list(rows, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}
