//! `azimg registry purge`: plan, review, apply; and put back what was exported.

use super::{LoginArgs, open};
use crate::catalog::{Catalog, Filter};
use crate::cli::output::Output;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::{KIND, RegistryImage};
use crate::registry::Registry;
use crate::registry::purge::{
    Brake, Exported, KnownContent, Ledger, Live, PLAN_VERSION, Pattern, PurgePlan, Rule, Rules,
    Shelf, Span, Uses, apply, bytes_freed, plan, undo,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::OffsetDateTime;

/// Repositories that are looked at at once.
const AT_ONCE: usize = 4;
/// Some of the scopes of a plan were not done.
const PARTIAL: u8 = 3;

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(in crate::cli) struct PurgeArgs {
    /// A login server, or a registry's name
    registry: String,
    /// Rules in a TOML or JSON file, instead of those that flags make
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repository", "tags", "keep", "older_than", "keep_tags", "untagged"])]
    rules: Option<PathBuf>,
    /// Repositories, by a glob ('*' is any text, slashes too) or by regex:EXPRESSION
    #[arg(long, value_name = "PATTERN")]
    repository: Option<Pattern>,
    /// Tags, by a glob or regex:EXPRESSION [default: all, where --keep or --older-than is said]
    #[arg(long, value_name = "PATTERN")]
    tags: Option<Pattern>,
    /// So many of the newest images that these tags point at stay, however old they are
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Only what was last changed longer ago than this, such as 30d
    #[arg(long, value_name = "SPAN")]
    older_than: Option<Span>,
    /// Tags that stay in any case; may be repeated
    #[arg(long, value_name = "PATTERN")]
    keep_tags: Vec<Pattern>,
    /// Manifests without a tag, too
    #[arg(long)]
    untagged: bool,
    /// Write the plan into this file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// The plan can be applied for so long
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    expires: Span,
    /// Do what this plan says, or go on with it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "repository", "tags", "keep", "older_than", "keep_tags", "untagged", "plan", "yes"])]
    apply: Option<PathBuf>,
    /// Plan and apply at once, without a review
    #[arg(long)]
    yes: bool,
    /// Do nothing when the plan takes more than so many manifests, or more than this part of them
    #[arg(long, value_name = "N|PERCENT%")]
    max_delete: Option<Brake>,
    /// Keep manifests in this folder before they go
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
    /// Put back what was kept in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["rules", "repository", "apply", "yes", "plan"])]
    undo: Option<PathBuf>,
    /// Do not ask Resource Graph what is in use
    #[arg(long)]
    ignore_use: bool,
    /// Where what was done is written down [default: the plan's name with .ledger behind it]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Check the plan, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

pub(super) async fn run(config: &Config, args: PurgeArgs, output: &Output) -> Result<ExitCode> {
    let registry = open(config, &args.registry, &args.login).await?;
    if let Some(folder) = &args.undo {
        return put_back(&registry, folder, output).await;
    }
    let (whole, file) = if let Some(file) = &args.apply {
        let text = std::fs::read_to_string(file).map_err(|e| Error::io(file.display(), e))?;
        (PurgePlan::parse(&text)?, file.clone())
    } else {
        let whole = make(config, &registry, &args, output).await?;
        let name = format!("purge-{}.json", whole.plan);
        (whole, args.plan.clone().unwrap_or_else(|| name.into()))
    };
    if whole.login_server != registry.login_server() {
        let (of, at) = (&whole.login_server, registry.login_server());
        return Err(Error::invalid(format!("the plan is of {of}, and not of {at}")));
    }
    let value = serde_json::to_value(&whole).map_err(|e| Error::bug(e.to_string()))?;
    if args.apply.is_none() && (args.plan.is_some() || (args.yes && !args.dry_run)) {
        let text = serde_json::to_vec_pretty(&value).map_err(|e| Error::bug(e.to_string()))?;
        std::fs::write(&file, text).map_err(|e| Error::io(file.display(), e))?;
    }
    if let Some(brake) = args.max_delete {
        brake.check(&whole)?;
    }
    if args.dry_run || (args.apply.is_none() && !args.yes) {
        show(&whole, value, &args, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    done(config, &registry, &whole, &file, &args, output).await
}

/// The rules that a file or the flags make.
fn rules(args: &PurgeArgs) -> Result<Rules> {
    if let Some(file) = &args.rules {
        let text = std::fs::read_to_string(file).map_err(|e| Error::io(file.display(), e))?;
        return Rules::parse(&text);
    }
    let repositories = args.repository.clone().ok_or_else(|| {
        Error::invalid("which repositories? Say --repository (such as 'ci/*'), or --rules FILE")
    })?;
    let tags = match &args.tags {
        None if args.keep.is_some() || (args.older_than.is_some() && !args.untagged) => {
            Some("*".parse()?)
        }
        tags => tags.clone(),
    };
    let rule = Rule {
        repositories,
        tags,
        older_than: args.older_than,
        keep: args.keep,
        keep_tags: args.keep_tags.clone(),
        untagged: args.untagged,
    };
    let rules = Rules { rules: vec![rule] };
    rules.check()?;
    Ok(rules)
}

/// What the catalog tells of a registry, so that it need not be read again.
struct FromCatalog {
    run: Option<String>,
    known: HashMap<String, KnownContent>,
    /// The blobs of each repository.
    blobs: HashMap<String, BTreeSet<String>>,
}

async fn from_catalog(config: &Config, login_server: &str) -> Result<FromCatalog> {
    let mut found = FromCatalog { run: None, known: HashMap::new(), blobs: HashMap::new() };
    let store = config.store()?;
    let catalog = match Catalog::open(store.as_ref()).await {
        Ok(catalog) => catalog,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let table = catalog.others(store.as_ref()).await?;
    let filter = Filter {
        kind: Some(KIND.to_owned()),
        registry: Some(login_server.to_owned()),
        exact: true,
        ..Filter::default()
    };
    for row in table.list(&filter, 0, usize::MAX).0 {
        let row: RegistryImage = table.row(row)?;
        found.run = Some(catalog.manifest.run.to_string());
        let blobs = found.blobs.entry(row.repository.clone()).or_default();
        blobs.extend(row.layers.keys().cloned());
        if row.is_content_known {
            let known =
                KnownContent { parts: row.manifests, subject: row.subject, blobs: row.layers };
            found.known.insert(format!("{}@{}", row.repository, row.digest), known);
        }
    }
    Ok(found)
}

async fn uses(config: &Config, registry: &Registry, args: &PurgeArgs) -> Result<Uses> {
    if args.ignore_use {
        return Ok(Uses::default());
    }
    let asked = async { Uses::ask(&config.client()?, registry.login_server()).await };
    asked.await.map_err(|error| {
        error.context(
            "what is in use cannot be known; --ignore-use goes without (what runs on an image that \
             goes cannot be started again)",
        )
    })
}

async fn make(
    config: &Config,
    registry: &Registry,
    args: &PurgeArgs,
    output: &Output,
) -> Result<PurgePlan> {
    let rules = rules(args)?;
    let now = OffsetDateTime::now_utc();
    let uses = uses(config, registry, args).await?;
    let mut catalog = from_catalog(config, registry.login_server()).await?;
    let mut names = registry.repositories().await?;
    names.retain(|name| rules.of(name).next().is_some());
    if names.is_empty() {
        let at = registry.login_server();
        return Err(Error::not_found(format!("no repository of {at} fits the rules")));
    }
    for name in &names {
        catalog.blobs.remove(name);
    }
    let live = Live { registry, known: std::mem::take(&mut catalog.known) };
    let count = names.len();
    let looked = names.iter().map(|name| live.state(name));
    let looked: Vec<_> = looked.collect();
    let mut looked = stream::iter(looked).buffered(AT_ONCE).enumerate();
    let mut states = Vec::new();
    while let Some((number, state)) = looked.next().await {
        if !output.quiet && number % 100 == 99 {
            eprintln!("{} of {count} repositories looked at", number + 1);
        }
        let Some(state) = state? else { continue };
        let planned = plan(&state, &rules, &uses.of(&state), now);
        states.push((state, planned));
    }
    drop(looked);
    let elsewhere = catalog.blobs.into_values().flatten().collect();
    let bytes_freed = bytes_freed(&states, &elsewhere);
    let repositories: Vec<_> = states.into_iter().map(|(_, planned)| planned).collect();
    Ok(PurgePlan {
        schema_version: PLAN_VERSION,
        plan: ulid::Ulid::generate().to_string(),
        login_server: registry.login_server().to_owned(),
        made_at: now,
        expires_at: now + args.expires.0,
        catalog_run: catalog.run,
        rules,
        uses_known: !args.ignore_use,
        manifests: repositories.iter().map(|one| one.manifests).sum(),
        deletions: repositories.iter().map(|one| one.deletions.len()).sum(),
        untaggings: repositories.iter().map(|one| one.untaggings.len()).sum(),
        bytes_freed,
        repositories,
    })
}

/// The plan, a line for each thing that goes or is protected; as JSON, the plan itself.
fn show(whole: &PurgePlan, value: Value, args: &PurgeArgs, output: &Output) -> Result<()> {
    if !output.quiet {
        eprintln!(
            "{} of {} manifests and {} more tags go; {} are freed.",
            whole.deletions,
            whole.manifests,
            whole.untaggings,
            indicatif::HumanBytes(whole.bytes_freed),
        );
        if args.apply.is_none() {
            match &args.plan {
                Some(file) => eprintln!(
                    "Nothing was deleted. To do it: azimg registry purge {} --apply {}",
                    args.registry,
                    file.display()
                ),
                None => eprintln!("Nothing was deleted. --plan FILE writes the plan down."),
            }
        }
    }
    if !output.is_table() {
        return output.one(value);
    }
    let mut rows = Vec::new();
    for one in &whole.repositories {
        let repository = &one.repository;
        rows.extend(one.left_alone.iter().map(|reason| {
            json!({"repository": repository, "does": "keep", "digest": null, "tags": [],
                "bytes": 0, "reason": reason})
        }));
        rows.extend(one.deletions.iter().map(|d| {
            json!({"repository": repository, "does": "delete", "digest": d.digest,
                "tags": d.tags, "bytes": d.bytes, "reason": d.reason})
        }));
        rows.extend(one.untaggings.iter().map(|u| {
            json!({"repository": repository, "does": "untag", "digest": u.digest,
                "tags": [u.tag], "bytes": 0, "reason": format!("{}; {}", u.reason, u.protected_by)})
        }));
        rows.extend(one.protected.iter().map(|p| {
            json!({"repository": repository, "does": "keep", "digest": p.digest,
                "tags": p.tags, "bytes": 0, "reason": p.protected_by})
        }));
    }
    output.list(rows, &["repository", "does", "tags", "digest", "bytes", "reason"])
}

async fn done(
    config: &Config,
    registry: &Registry,
    whole: &PurgePlan,
    file: &Path,
    args: &PurgeArgs,
    output: &Output,
) -> Result<ExitCode> {
    whole.check_age(OffsetDateTime::now_utc())?;
    let path = args.ledger.clone().unwrap_or_else(|| {
        let mut name = file.as_os_str().to_owned();
        name.push(".ledger");
        name.into()
    });
    let uses = uses(config, registry, args).await?;
    let known = from_catalog(config, registry.login_server()).await?.known;
    let mut ledger = Ledger::open(&path, &whole.plan)?;
    let mut export = args
        .export
        .as_ref()
        .map(|folder| Exported::open(folder, registry.login_server()))
        .transpose()?;
    let live = Live { registry, known };
    let (shown, quiet) = (std::sync::Mutex::new(std::time::Instant::now()), output.quiet);
    let tell = |repository: &str, count: usize| {
        let mut at = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !quiet && at.elapsed().as_secs() >= 10 {
            *at = std::time::Instant::now();
            eprintln!("{count} of {} manifests deleted; at {repository}", whole.deletions);
        }
    };
    let applied = apply(&live, whole, &uses, &mut ledger, export.as_mut(), &tell).await?;
    let is_whole = applied.skipped.is_empty() && applied.failed.is_empty();
    if !output.quiet && !applied.failed.is_empty() {
        eprintln!("To go on: azimg registry purge {} --apply {}", args.registry, file.display());
    }
    let mut value = serde_json::to_value(&applied).map_err(|e| Error::bug(e.to_string()))?;
    value["plan"] = file.display().to_string().into();
    output.one(value)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}

async fn put_back(registry: &Registry, folder: &Path, output: &Output) -> Result<ExitCode> {
    let (count, lost) = undo(registry, folder).await?;
    let is_whole = lost.is_empty();
    let lost: Vec<Value> = lost
        .into_iter()
        .map(|(name, error)| json!({"name": name, "reason": error.to_string()}))
        .collect();
    output.one(json!({"back": count, "lost": lost}))?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}
