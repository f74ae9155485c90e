//! `azimg images`: lookups in the current snapshot, or live in Azure.

use super::choice::OneOf;
use super::columns;
use super::empty::{nothing_fits, say_unknown};
use super::fail;
use super::filter::{FilterArgs, date};
use super::output::{self, Output};
use super::shape::ShapeArgs;
use crate::catalog::usage::{self, Finding, Usage};
use crate::catalog::{
    Catalog, Filter, LatestQuestion, Listing, aliases, is_of_others, live, short_name,
};
use crate::config::{Config, Flags};
use crate::error::{Error, ErrorKind, Result};
use crate::image::marketplace;
use crate::image::names::IMAGE_KINDS;
use crate::reference::snippets::{FORMS, snippets};
use crate::sink::say;
use clap::builder::TypedValueParser;
use serde_json::{Value, json};
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(clap::Subcommand)]
pub(super) enum ImagesCommand {
    /// List images
    #[command(after_help = "Examples:
  azimg images list --os windows --generation V2 --plan no --in eastus --not-in westeurope
  azimg images list -p canonical --architecture arm64 --latest -o table
  azimg images list --search 'ubuntu 24.04' -l eastus,westeurope --top 10
  azimg images list --live --publisher canonical --location eastus")]
    List(Box<ListArgs>),
    /// Show all properties of one image
    #[command(after_help = "Examples:
  azimg images show Canonical:ubuntu-24_04-lts:server:24.04.202610200
  azimg images show Ubuntu2404 --query locations
  azimg images show Ubuntu2404 --as terraform
  azimg images show prod_gallery/ubuntu-base/versions/latest --as bicep")]
    Show {
        /// publisher:offer:sku:version (or latest as the version), an alias such as Ubuntu2404 for
        /// its newest version, or the id of a gallery or registry image
        #[arg(value_name = "URN|ID")]
        urn: String,
        /// Print the code that deploys the image instead: az, powershell, bicep, arm, terraform,
        /// packer, ansible, pulumi or cluster-api; docker, kubernetes or dockerfile for a container
        /// image; oras for another artifact
        #[arg(long, value_name = "FORM", value_parser = OneOf(FORMS), hide_possible_values = true, conflicts_with_all = ["query", "output", "fields"])]
        r#as: Option<String>,
    },
    /// Find the newest version of a SKU or definition that can be deployed in all given locations
    #[command(after_help = "Examples:
  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus --location westus2
  azimg images latest prod_gallery/ubuntu-base --not-deprecated-before 2027-01-01 -o tsv --query '[].id'
  azimg images latest 'myapp-*' --tag RELEASE_STATUS=GA")]
    Latest(Box<LatestArgs>),
    /// List machines and scale sets whose image is deprecated, past its end of life, gone or not
    /// the latest
    #[command(after_help = "Examples:
  azimg images usage -o table
  azimg images usage --finding gone --finding deprecated -o csv > replace.csv
  azimg images usage --ends-before 2027-06-30 -o table")]
    Usage(UsageArgs),
    /// List the image aliases that az accepts, with their newest versions
    #[command(after_help = "Examples:
  azimg images aliases
  azimg images aliases --az > aliases.json")]
    Aliases {
        /// Print the document from which az reads its aliases
        #[arg(long)]
        az: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Kinds of images, comma-separated: marketplace, gallery-version, gallery-definition,
    /// managed-image or container-manifest
    #[arg(long, value_delimiter = ',', value_parser = OneOf(IMAGE_KINDS), hide_possible_values = true)]
    kind: Vec<String>,
    /// Only the latest image of each SKU, definition or repository
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Query Azure now; no snapshot is needed
    #[arg(long)]
    live: bool,
}

#[derive(clap::Args)]
pub(super) struct LatestArgs {
    /// publisher:offer:sku, an alias such as Ubuntu2404, GALLERY/DEFINITION, a definition's id, or
    /// a name pattern of managed images such as 'myapp-*'; may be repeated
    ///
    /// `:latest` and `/versions/latest` may be appended.
    #[arg(required = true, value_name = "IMAGE")]
    urn: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only versions that can still be deployed on this day
    #[arg(long, value_name = "DATE")]
    not_deprecated_before: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct UsageArgs {
    /// Only machines of these subscriptions [default: `AZIMG_SUBSCRIPTIONS`, else all]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    subscription: Vec<String>,
    /// Only machines in one of these locations
    #[arg(short, long, value_delimiter = ',')]
    location: Vec<String>,
    /// Only machines with one of these findings, comma-separated: gone, deprecated, end-of-life,
    /// not-latest, scheduled, ahead, current or unknown [default: all except current]
    #[arg(long, value_name = "FINDING", value_delimiter = ',', value_parser = OneOf(Finding::SET).try_map(|name| name.parse::<Finding>()), hide_possible_values = true)]
    finding: Vec<Finding>,
    /// Only machines whose image ends before this day, or has ended
    #[arg(long, value_name = "DATE")]
    ends_before: Option<String>,
    /// All machines, including those with the finding current
    #[arg(long, conflicts_with = "finding")]
    all: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

const USAGE_COLUMNS: &[&str] = &[
    "subscriptionId",
    "name",
    "location",
    "finding",
    "image",
    "version",
    "endsAt",
    "moveTo",
    "reason",
];

pub(super) async fn run(command: ImagesCommand, flags: Flags, output: &Output) -> Result<ExitCode> {
    if let ImagesCommand::List(args) = &command
        && args.live
    {
        return Box::pin(live_list(&with_azure(flags).await?, args, output)).await;
    }
    let config = Config::load(flags.clone())?;
    match command {
        ImagesCommand::List(args) => Box::pin(list(&config, *args, output)).await,
        ImagesCommand::Show { urn, r#as } => show(&config, &urn, r#as.as_deref(), output).await,
        ImagesCommand::Latest(args) => latest(&config, &args, output).await,
        ImagesCommand::Usage(args) => Box::pin(usage_of(flags, args, output)).await,
        ImagesCommand::Aliases { az } => aliases(&config, az, output).await,
    }
}

/// The configuration; over the catalog of a demo, Azure is the simulated one that was crawled.
#[cfg_attr(
    not(feature = "sim"),
    allow(clippy::unused_async, reason = "only the catalog of a demo needs to be prepared")
)]
async fn with_azure(flags: Flags) -> Result<Config> {
    let config = Config::load(flags)?;
    #[cfg(feature = "sim")]
    let (config, _) = super::demo::of_store(config).await?;
    Ok(config)
}

/// The filter of a list's options.
fn filter_of(args: &ListArgs) -> Result<Filter> {
    let kinds: Vec<&str> = args.kind.iter().map(String::as_str).collect();
    Ok(Filter { latest: args.latest, ..args.filter.clone().of_kinds(&kinds)? })
}

async fn list(config: &Config, args: ListArgs, output: &Output) -> Result<ExitCode> {
    let filter = filter_of(&args)?;
    Box::pin(print_listed(config, &filter, &args.shape, output)).await
}

async fn live_list(config: &Config, args: &ListArgs, output: &Output) -> Result<ExitCode> {
    let filter = filter_of(args)?;
    let now = OffsetDateTime::now_utc();
    let (app, _) = config.app()?;
    let rows = live::images(&app.sources, config.request(), &filter, now).await?;
    if rows.is_empty() && !output.quiet {
        say!("{}", nothing_fits(config, &filter, true, now).await);
    }
    let columns = columns::of_kinds(&[marketplace::KIND]);
    args.shape.print(&columns, output, |visit| {
        for row in &rows {
            let text = serde_json::to_vec(row).map_err(|e| Error::bug(e.to_string()))?;
            if visit(&text)?.is_break() {
                break;
            }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the images of the current snapshot that `filter` accepts while they are read, with their
/// status as of now. Reports why there are none, or how many more may match.
pub(super) async fn print_listed(
    config: &Config,
    filter: &Filter,
    shape: &ShapeArgs,
    output: &Output,
) -> Result<ExitCode> {
    let (store, now) = (config.store()?, OffsetDateTime::now_utc());
    let mut listing = Listing::open(store.as_ref(), filter, now).await?;
    listing.check_places(filter)?;
    // A table leaves out columns that no row has.
    let kinds =
        if output.is_table() { listing.kinds_there(filter)? } else { listing.kinds(filter) };
    let mut is_empty = true;
    shape.print(&columns::of_kinds(&kinds), output, |visit| {
        listing.each(filter, &mut |row| {
            is_empty = false;
            visit(row)
        })
    })?;
    let unknown = listing.unknown(filter);
    if is_empty && unknown == 0 && !output.quiet {
        say!("{}", nothing_fits(config, filter, false, now).await);
    }
    say_unknown(unknown);
    Ok(ExitCode::SUCCESS)
}

/// All images of the current snapshot that `filter` accepts, with their status as of now.
pub(super) async fn listed(config: &Config, filter: &Filter) -> Result<Vec<Value>> {
    let (store, now) = (config.store()?, OffsetDateTime::now_utc());
    let catalog = Catalog::open_for(store.as_ref(), filter).await?;
    catalog.check_places(filter, true)?;
    catalog.values(&catalog.list(filter, 0, usize::MAX, now), now)
}

async fn usage_of(flags: Flags, args: UsageArgs, output: &Output) -> Result<ExitCode> {
    let before = args.ends_before.as_deref().map(date).transpose()?;
    let places: Vec<String> = args.location.iter().map(|name| short_name(name)).collect();
    let config = with_azure(Flags { subscriptions: args.subscription, ..flags }).await?;
    let store = config.store()?;
    let catalog = Catalog::open_with_others(store.as_ref()).await?;
    let (app, _) = config.app()?;
    let machines = usage::machines(&app.sources, config.request()).await?;
    let is_unknown = |place: &&String| machines.iter().all(|one| one.location != **place);
    let unknown: Vec<String> = places.iter().filter(is_unknown).cloned().collect();
    catalog.check_locations(&unknown, true)?;
    let now = OffsetDateTime::now_utc();
    let mut rows = usage::usage(&catalog, store.as_ref(), machines, now).await?;
    let count = rows.len();
    rows.retain(|row| {
        let is_wanted = match args.finding[..] {
            [] => args.all || row.finding != Finding::Current || before.is_some(),
            _ => args.finding.contains(&row.finding),
        };
        let ends = |before| row.ends_at.is_some_and(|ends_at| ends_at < before);
        is_wanted
            && before.is_none_or(ends)
            && (places.is_empty() || places.contains(&row.location))
    });
    rows.sort_by(|a, b| {
        let key = |row: &Usage| (row.subscription_id.clone(), row.finding, row.machine.clone());
        key(a).cmp(&key(b))
    });
    if !output.quiet {
        say!("{} of {count} machines and scale sets", rows.len());
    }
    let rows = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let rows = args.shape.shape(rows.map_err(|e| Error::bug(e.to_string()))?)?;
    output.list(rows, USAGE_COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(
    config: &Config,
    text: &str,
    form: Option<&str>,
    output: &Output,
) -> Result<ExitCode> {
    let (store, now) = (config.store()?, OffsetDateTime::now_utc());
    let (catalog, found) = if is_of_others(text) {
        let catalog = Catalog::open_with_others(store.as_ref()).await?;
        let found = catalog.named(text, now)?;
        (catalog, found)
    } else {
        let catalog = Catalog::open(store.as_ref()).await?;
        let found = catalog.show(text, now)?;
        (catalog, found)
    };
    let row = catalog.values(&found, now)?.remove(0);
    let Some(form) = form else {
        output.one(row)?;
        return Ok(ExitCode::SUCCESS);
    };
    let found = snippets(&row)?.only(form, row["id"].as_str().unwrap_or(text))?;
    for snippet in &found.value {
        output::text(&snippet.text)?;
    }
    for note in found.notes.iter().filter(|_| !output.quiet) {
        say!("{note}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn aliases(config: &Config, az: bool, output: &Output) -> Result<ExitCode> {
    let catalog = Catalog::open(config.store()?.as_ref()).await?;
    let now = OffsetDateTime::now_utc();
    if az {
        output.document(&aliases::document(&catalog, now)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for (alias, row) in aliases::resolve(&catalog, now)? {
        let mut value = json!({"alias": alias.name});
        if let (Some(into), Value::Object(row)) = (value.as_object_mut(), row) {
            into.extend(row);
        }
        rows.push(value);
    }
    output.unless_empty(&rows, || "The catalog has no image for which az has an alias.".to_owned());
    output.list(rows, &["alias", "id", "status", "scheduledDeprecationAt", "architecture"])?;
    Ok(ExitCode::SUCCESS)
}

async fn latest(config: &Config, args: &LatestArgs, output: &Output) -> Result<ExitCode> {
    let before = args.not_deprecated_before.as_deref().map(date).transpose()?;
    let now = OffsetDateTime::now_utc();
    let filter = args.filter.clone().of_kinds(&[])?;
    // Invalid names are reported before anything is read.
    for image in args.urn.iter().filter(|image| !is_of_others(image)) {
        LatestQuestion::parse(image, &filter.locations, before)?;
    }
    let store = config.store()?;
    let catalog = if args.urn.iter().any(|image| is_of_others(image)) {
        Catalog::open_with_others(store.as_ref()).await?
    } else {
        Catalog::open(store.as_ref()).await?
    };
    catalog.check_places(&filter, args.urn.iter().any(|image| is_of_others(image)))?;
    let mut rows: Vec<Value> = Vec::new();
    let mut lacking = None;
    for image in &args.urn {
        let found = catalog.newest(image, &filter, before, now);
        match found.and_then(|found| catalog.values(&found, now)) {
            Ok(found) => rows.extend(found),
            Err(error) if error.kind() == ErrorKind::Corrupt => return Err(error),
            // A missing image does not affect the results of the others.
            Err(error) => {
                let code = fail(&error);
                lacking.get_or_insert(code);
            }
        }
    }
    if let (true, Some(code)) = (rows.is_empty(), lacking) {
        return Ok(code);
    }
    let galleries = rows.iter().all(|row| row["kind"] != "marketplace");
    let columns = if galleries { columns::GALLERY } else { columns::MARKETPLACE };
    output.list(rows, columns)?;
    Ok(lacking.unwrap_or(ExitCode::SUCCESS))
}
