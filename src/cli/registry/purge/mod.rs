//! `azimg registry purge`: plan, review, apply, and restore from an export.

mod args;
mod known;
mod show;

pub(super) use args::PurgeArgs;

use super::open;
use crate::cli::PARTIAL;
use crate::cli::output::{Output, as_json};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::plan::ledger_path;
use crate::purge::{
    Applied, Ledger, ManifestBackup, Plan, PurgePlan, PurgeTarget, RepositoryPlan, RepositoryState,
    Rules, apply, count_bytes, notes, plan, undo,
};
use crate::registry::Registry;
use crate::sink::say;
use futures::{StreamExt, stream};
use known::{FromCatalog, add_elsewhere, in_use};
use serde_json::{Value, json};
use show::{show, summary};
use std::path::Path;
use std::process::ExitCode;
use time::OffsetDateTime;

/// The number of repositories examined concurrently.
const AT_ONCE: usize = 4;

pub(super) async fn run(config: &Config, args: PurgeArgs, output: &Output) -> Result<ExitCode> {
    let registry = open(config, &args.registry, &args.login).await?;
    if let Some(folder) = &args.undo {
        return put_back(&registry, folder, output).await;
    }
    let (whole, file) = if let Some(file) = &args.apply {
        (PurgePlan::read(file)?, file.clone())
    } else {
        let whole = make(config, &registry, &args, output).await?;
        let name = format!("purge-{}.json", whole.plan);
        (whole, args.plan.clone().unwrap_or_else(|| name.into()))
    };
    if whole.login_server != registry.login_server() {
        let (of, at) = (&whole.login_server, registry.login_server());
        return Err(Error::invalid(format!("the plan is for {of}, not for {at}")));
    }
    let value = as_json(&whole)?;
    if args.apply.is_none() && (args.plan.is_some() || (args.yes && !args.dry_run)) {
        whole.write(&file)?;
    }
    if let Some(limit) = args.max_delete {
        whole.check_limit(limit)?;
    }
    if args.dry_run || (args.apply.is_none() && !args.yes) {
        show(&whole, value, &args, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    done(config, &registry, &whole, &file, &args, output).await
}

async fn make(
    config: &Config,
    registry: &Registry,
    args: &PurgeArgs,
    output: &Output,
) -> Result<PurgePlan> {
    let rules = args.rules()?;
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
    let mut planned: Vec<(RepositoryState, RepositoryPlan)> = states
        .into_iter()
        .map(|state| {
            let planned = plan(&state, &rules, &in_use.uses.of(&state), now);
            (state, planned)
        })
        .collect();
    let bytes_freed = count_bytes(&mut planned, &catalog.blobs_beside(&names));
    let repositories: Vec<RepositoryPlan> =
        planned.into_iter().map(|(_, planned)| planned).collect();
    Ok(PurgePlan {
        schema_version: PurgePlan::VERSION,
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

/// The states of the repositories. Repositories deleted in the meantime are left out.
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
            say!("{} of {count} repositories examined", number + 1);
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
    whole.check_time(OffsetDateTime::now_utc())?;
    let path = ledger_path(args.ledger.as_ref(), file);
    let in_use = in_use(config, registry, args).await?;
    if !whole.in_use.is_empty() && in_use.lists.is_empty() {
        let lists = whole.in_use.join(", ");
        return Err(Error::invalid(format!(
            "the plan was made with --in-use {lists}: add --in-use with a list of what runs now"
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
        .map(|folder| ManifestBackup::open(folder, registry.login_server()))
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
        say!("Resume with: azimg registry purge {} --apply {}", args.registry, file.display());
    }
    output.one(report(whole, &applied, (file, &path))?)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}

/// The result of a purge, with what was left alone and why.
fn report(whole: &PurgePlan, applied: &Applied, (plan, ledger): (&Path, &Path)) -> Result<Value> {
    let mut value = as_json(&applied)?;
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
