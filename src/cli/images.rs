//! `azimg images`: lookups in the current snapshot, or in Azure itself.

use super::filter::FilterArgs;
use super::output::Output;
use crate::catalog::usage::{self, Finding, Usage};
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
    List(Box<ListArgs>),
    /// Show everything about one image
    #[command(after_help = "Examples:
  azimg images show Canonical:ubuntu-24_04-lts:server:24.8.20260901
  azimg images show Canonical:ubuntu-24_04-lts:server:24.8.20260901 --query locations")]
    Show {
        /// publisher:offer:sku:version, or the id of an image of a gallery or registry
        #[arg(value_name = "URN|ID")]
        urn: String,
    },
    /// The newest version of a SKU that can be deployed in all named locations
    #[command(after_help = "Examples:
  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus --location westus2
  azimg images latest prod_gallery/ubuntu-base --not-deprecated-before 2027-01-01 -o tsv --query '[].id'")]
    Latest(LatestArgs),
    /// What runs on which image: machines and scale sets on images that are deprecated, past their end
    /// of life, gone, or not the latest
    #[command(after_help = "Examples:
  azimg images usage -o table
  azimg images usage --finding gone --finding deprecated -o csv > replace.csv")]
    Usage(UsageArgs),
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
    #[command(flatten)]
    filter: FilterArgs,
    /// Kind of image: marketplace, gallery-version, gallery-definition, managed-image or
    /// container-manifest
    #[arg(long)]
    kind: Option<String>,
    /// Ask Azure now; no snapshot is needed
    #[arg(long)]
    live: bool,
}

#[derive(clap::Args)]
pub(super) struct LatestArgs {
    /// publisher:offer:sku, an alias such as Ubuntu2404, GALLERY/DEFINITION or a definition's id; may
    /// be repeated
    #[arg(required = true, value_name = "IMAGE")]
    urn: Vec<String>,
    /// A location that must have it; may be repeated
    #[arg(long)]
    location: Vec<String>,
    /// It must still be deployable on this day
    #[arg(long, value_name = "DATE")]
    not_deprecated_before: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct UsageArgs {
    /// Only machines of this subscription; may be repeated [default: all, or `AZIMG_SUBSCRIPTIONS`]
    #[arg(long, value_name = "ID")]
    subscription: Vec<String>,
    /// Only machines whose image stands so: gone, deprecated, end-of-life, scheduled, not-latest,
    /// current or unknown; may be repeated [default: all but current]
    #[arg(long, value_name = "FINDING")]
    finding: Vec<Finding>,
    /// All machines
    #[arg(long, conflicts_with = "finding")]
    all: bool,
}

/// What is shown of images of galleries.
pub(super) const GALLERY_COLUMNS: &[&str] = &[
    "kind",
    "gallery",
    "definition",
    "version",
    "status",
    "isLatest",
    "os",
    "architecture",
    "locations",
    "endOfLifeAt",
];

/// What is shown of images of registries.
const CONTAINER_COLUMNS: &[&str] = &[
    "loginServer",
    "repository",
    "tags",
    "digest",
    "isLatest",
    "platforms",
    "bytes",
    "createdAt",
    "findings",
];

const USAGE_COLUMNS: &[&str] =
    &["subscriptionId", "name", "location", "finding", "image", "version", "endsAt", "moveTo"];

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
    let config = Config::load(flags.clone())?;
    match command {
        ImagesCommand::List(args) => list(&config, *args, output).await,
        ImagesCommand::Show { urn } => show(&config, &urn, output).await,
        ImagesCommand::Latest(args) => latest(&config, &args, output).await,
        ImagesCommand::Usage(args) => usage_of(flags, args, output).await,
        ImagesCommand::Aliases { az } => aliases(&config, az, output).await,
    }
}

fn values(rows: &[MarketplaceImage]) -> Result<Vec<Value>> {
    rows.iter()
        .map(|row| serde_json::to_value(row).map_err(|e| Error::bug(e.to_string())))
        .collect()
}

async fn list(config: &Config, args: ListArgs, output: &Output) -> Result<ExitCode> {
    let filter = args.filter.of_kind(args.kind);
    let rows = if args.live {
        let (app, _) = config.app()?;
        let now = OffsetDateTime::now_utc();
        values(&live::images(&app.sources, config.request(), &filter, now).await?)?
    } else {
        listed(config, &filter).await?
    };
    if rows.is_empty() && !output.quiet {
        eprintln!("{}", nothing_fits(config, &filter, args.live).await);
    }
    let columns = match filter {
        _ if filter.wants_marketplace() => COLUMNS,
        _ if filter.wants_containers_only() => CONTAINER_COLUMNS,
        _ => GALLERY_COLUMNS,
    };
    output.list(rows, columns)?;
    Ok(ExitCode::SUCCESS)
}

/// All images of the current snapshot that `filter` accepts.
pub(super) async fn listed(config: &Config, filter: &Filter) -> Result<Vec<Value>> {
    let store = config.store()?;
    let catalog = Catalog::open(store.as_ref()).await?;
    catalog.prepare(store.as_ref(), filter).await?;
    catalog.values(&catalog.list(filter, 0, usize::MAX))
}

async fn usage_of(flags: Flags, args: UsageArgs, output: &Output) -> Result<ExitCode> {
    let config = Config::load(Flags { subscriptions: args.subscription, ..flags })?;
    let store = config.store()?;
    let catalog = Catalog::open(store.as_ref()).await?;
    let (app, _) = config.app()?;
    let machines = usage::machines(&app.sources, config.request()).await?;
    let mut rows = usage::usage(&catalog, store.as_ref(), &machines).await?;
    let count = rows.len();
    rows.retain(|row| match args.finding[..] {
        [] => args.all || row.finding != Finding::Current,
        _ => args.finding.contains(&row.finding),
    });
    rows.sort_by(|a, b| {
        let key = |row: &Usage| (row.subscription_id.clone(), row.finding, row.machine.clone());
        key(a).cmp(&key(b))
    });
    if !output.quiet {
        eprintln!("{} of {count} machines and scale sets", rows.len());
    }
    let rows = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    output.list(rows.map_err(|e| Error::bug(e.to_string()))?, USAGE_COLUMNS)?;
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
    let store = config.store()?;
    let catalog = Catalog::open(store.as_ref()).await?;
    if text.contains('/') {
        catalog.others(store.as_ref()).await?;
        let found = catalog.find_id(text);
        let found =
            found.ok_or_else(|| Error::not_found(format!("{text} is not in the catalog")))?;
        output.one(catalog.values(&found)?.remove(0))?;
        return Ok(ExitCode::SUCCESS);
    }
    let urn: Urn = text.parse()?;
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
    output.one(catalog.read(found)?)?;
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
    // Wrong names are told before anything is read.
    let mut questions = Vec::new();
    for image in &args.urn {
        let is_definition = image.contains('/');
        let sku = || LatestQuestion::parse(image, &args.location, before);
        questions.push((image, if is_definition { None } else { Some(sku()?) }));
    }
    let store = config.store()?;
    let catalog = Catalog::open(store.as_ref()).await?;
    let mut rows: Vec<Value> = Vec::new();
    for (image, question) in questions {
        if let Some(question) = question {
            rows.push(catalog.read(catalog.at(question.answer(&catalog.index)?))?);
            continue;
        }
        let row = catalog.others(store.as_ref()).await?.latest(image, &args.location, before)?;
        rows.push(serde_json::to_value(row).map_err(|e| Error::bug(e.to_string()))?);
    }
    let galleries = rows.iter().all(|row| row["kind"] == "gallery-version");
    let columns = if galleries { GALLERY_COLUMNS } else { COLUMNS };
    output.list(rows, columns)?;
    Ok(ExitCode::SUCCESS)
}
