//! `azimg registry purge`: plan, review, apply; and put back what was exported.

mod known;
mod show;

use super::{LoginArgs, open};
use crate::cli::output::Output;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;
use crate::purge::{
    Applied, Brake, Exported, Ledger, PLAN_VERSION, Pattern, Planned, PurgePlan, RepositoryState,
    Rule, Rules, Shelf, Span, apply, count_bytes, notes, plan, undo,
};
use crate::registry::Registry;
use crate::sink::say;
use futures::{StreamExt, stream};
use known::{FromCatalog, add_elsewhere, in_use};
use serde_json::{Value, json};
use show::{show, summary};
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans"])]
    rules: Option<PathBuf>,
    /// Repositories, by a glob ('*' is any text, slashes too) or by regex:EXPRESSION
    #[arg(long, value_name = "PATTERN")]
    repository: Option<Pattern>,
    /// Tags, by a glob or regex:EXPRESSION [default: all, where --keep or --older-than is said]
    #[arg(long, value_name = "PATTERN")]
    tags: Option<Pattern>,
    /// So many of the newest images that these tags point at stay, however old they are. An index and its tagged
    /// platforms are one; build caches and signatures are counted apart; what is protected is not counted
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
    /// Signatures, attestations and the like, too, whose image is gone
    #[arg(long)]
    orphans: bool,
    /// Nothing that has no tag goes before it was pushed so long ago [default: 1h, or what the rules say]
    #[arg(long, value_name = "SPAN")]
    grace: Option<Span>,
    /// What runs stays: a list of images or digests, or what 'kubectl get pods -A -o json' says; '-' is standard
    /// input; may be repeated [also: the files in `AZIMG_IN_USE`]
    #[arg(long, value_name = "FILE")]
    in_use: Vec<PathBuf>,
    /// A list of what runs that is older than this stops the purge
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    in_use_max_age: Span,
    /// Write the plan into this file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// The plan can be applied for so long
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    expires: Span,
    /// Do what this plan says, or go on with it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans", "grace", "plan", "yes"])]
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
        let is_plan =
            |text: &[u8]| std::str::from_utf8(text).is_ok_and(|t| PurgePlan::parse(t).is_ok());
        files::write_document(&file, &text, "--plan", is_plan)?;
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
        let rules = Rules::parse(&text)?;
        return Ok(Rules { grace: args.grace.or(rules.grace), ..rules });
    }
    let repositories = args.repository.clone().ok_or_else(|| {
        Error::invalid("which repositories? Say --repository (such as 'ci/*'), or --rules FILE")
    })?;
    let tags = match &args.tags {
        None if args.keep.is_some()
            || (args.older_than.is_some() && !args.untagged && !args.orphans) =>
        {
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
        orphans: args.orphans,
    };
    let rules = Rules { grace: args.grace, rules: vec![rule] };
    rules.check()?;
    Ok(rules)
}

async fn make(
    config: &Config,
    registry: &Registry,
    args: &PurgeArgs,
    output: &Output,
) -> Result<PurgePlan> {
    let rules = rules(args)?;
    let now = OffsetDateTime::now_utc();
    let in_use = in_use(config, registry, args).await?;
    let mut catalog = FromCatalog::read(config, registry.login_server()).await?;
    let all = registry.repositories().await?;
    let names: Vec<String> =
        all.iter().filter(|name| rules.of(name).next().is_some()).cloned().collect();
    if names.is_empty() {
        let why = notes(&rules, &all, &[]).join("; ");
        return Err(Error::not_found(format!("{}: {why}", registry.login_server())));
    }
    let mut states = looked_at(registry, &mut catalog, &names, &rules, output).await?;
    in_use.check(&states, &catalog)?;
    add_elsewhere(&mut states);
    let notes = notes(&rules, &all, &states.iter().collect::<Vec<_>>());
    let mut planned: Vec<(RepositoryState, Planned)> = states
        .into_iter()
        .map(|state| {
            let planned = plan(&state, &rules, &in_use.uses.of(&state), now);
            (state, planned)
        })
        .collect();
    let bytes_freed = count_bytes(&mut planned, &catalog.blobs_beside(&names));
    let repositories: Vec<Planned> = planned.into_iter().map(|(_, planned)| planned).collect();
    Ok(PurgePlan {
        schema_version: PLAN_VERSION,
        plan: ulid::Ulid::generate().to_string(),
        login_server: registry.login_server().to_owned(),
        made_at: now,
        expires_at: args.expires.after(now),
        catalog_run: catalog.run,
        rules,
        uses_known: !args.ignore_use,
        in_use: in_use.lists.into_iter().map(|list| list.source).collect(),
        notes,
        manifests: repositories.iter().map(|one| one.manifests).sum(),
        deletions: repositories.iter().map(|one| one.deletions.len()).sum(),
        untaggings: repositories.iter().map(|one| one.untaggings.len()).sum(),
        bytes_freed,
        repositories,
    })
}

/// The repositories as they are; those that went meanwhile are none.
async fn looked_at(
    registry: &Registry,
    catalog: &mut FromCatalog,
    names: &[String],
    rules: &Rules,
    output: &Output,
) -> Result<Vec<RepositoryState>> {
    let seeks = rules.rules.iter().any(|rule| rule.orphans);
    let live = catalog.live(registry).seeking_subjects(seeks);
    let count = names.len();
    let looked: Vec<_> = names.iter().map(|name| live.state(name)).collect();
    let mut looked = stream::iter(looked).buffered(AT_ONCE).enumerate();
    let mut states = Vec::new();
    while let Some((number, state)) = looked.next().await {
        if !output.quiet && number % 100 == 99 {
            say!("{} of {count} repositories looked at", number + 1);
        }
        states.extend(state?);
    }
    Ok(states)
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
    let in_use = in_use(config, registry, args).await?;
    if !whole.in_use.is_empty() && in_use.lists.is_empty() {
        let lists = whole.in_use.join(", ");
        return Err(Error::invalid(format!(
            "the plan was made with --in-use {lists}: give such a list again, of what runs now"
        )));
    }
    let seeks = whole.rules.rules.iter().any(|rule| rule.orphans);
    let mut catalog = FromCatalog::read(config, registry.login_server()).await?;
    let live = catalog.live(registry).seeking_subjects(seeks);
    if !output.quiet {
        summary(whole);
    }
    let mut ledger = Ledger::open(&path, &whole.plan)?;
    let mut export = args
        .export
        .as_ref()
        .map(|folder| Exported::open(folder, registry.login_server()))
        .transpose()?;
    let (shown, quiet) = (std::sync::Mutex::new(std::time::Instant::now()), output.quiet);
    let tell = |repository: &str, count: usize| {
        let mut at = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !quiet && at.elapsed().as_secs() >= 10 {
            *at = std::time::Instant::now();
            say!("{count} of {} manifests deleted; at {repository}", whole.deletions);
        }
    };
    let applied = apply(&live, whole, &in_use.uses, &mut ledger, export.as_mut(), &tell).await?;
    let is_whole = applied.skipped.is_empty() && applied.failed.is_empty();
    if !output.quiet && !applied.failed.is_empty() {
        say!("To go on: azimg registry purge {} --apply {}", args.registry, file.display());
    }
    output.one(told(whole, &applied, (file, &path))?)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}

/// What was done, with what was left alone and why.
fn told(whole: &PurgePlan, applied: &Applied, (plan, ledger): (&Path, &Path)) -> Result<Value> {
    let mut value = serde_json::to_value(applied).map_err(|e| Error::bug(e.to_string()))?;
    let mut left = Vec::new();
    for one in &whole.repositories {
        let name = &one.repository;
        left.extend(one.left_alone.iter().map(|why| json!({"name": name, "reason": why})));
        left.extend(one.protected.iter().map(|row| {
            let name = format!("{name}@{}", row.digest);
            json!({"name": name, "tags": row.tags, "reason": row.protected_by})
        }));
        left.extend(
            one.kept
                .iter()
                .map(|row| json!({"name": format!("{name}:{}", row.tag), "reason": row.reason})),
        );
    }
    value["leftAlone"] = left.into();
    value["plan"] = plan.display().to_string().into();
    value["ledger"] = ledger.display().to_string().into();
    Ok(value)
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
