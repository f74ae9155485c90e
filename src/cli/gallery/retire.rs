//! `azimg gallery retire`: plan, review, apply.

use super::followed::Followed;
use crate::cli::PARTIAL;
use crate::cli::output::{Output, as_json};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::plan::ledger_path;
use crate::gallery::retire::{Action, Ledger, Plan, Planned, RetirePlan, Retired, Rules, plan};
use crate::gallery::{ChangeStep, Galleries};
use crate::sink::say;
use crate::source::locations;
use crate::span::Span;
use crate::work::OwnGallery;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The number of definitions examined concurrently.
const AT_ONCE: usize = 8;

#[derive(clap::Args)]
pub(in crate::cli) struct RetireArgs {
    /// Number of newest versions of each definition to keep
    #[arg(long, value_name = "N", required_unless_present = "apply", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Keep versions that were published less than this number of days ago
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// Only definitions whose GALLERY/DEFINITION contains this text; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    filter: Vec<String>,
    /// Only galleries of these subscriptions [default: `AZIMG_SUBSCRIPTIONS`, else all]
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    subscription: Vec<String>,
    /// What to do with the other versions
    #[arg(long, value_enum, default_value = "exclude")]
    action: Action,
    /// Refuse a plan that retires more than this percentage of a definition's versions
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_percent: u8,
    /// Write the plan to this file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Time after which the plan can no longer be applied
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    expires: Span,
    /// Apply this plan, or resume its application
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keep", "older_than", "filter", "subscription", "plan"])]
    apply: Option<PathBuf>,
    /// File that records each step of the application [default: the plan's name followed by
    /// .ledger]
    #[arg(long, value_name = "FILE", requires = "apply")]
    ledger: Option<PathBuf>,
    /// With --apply: check the plan against the current state in Azure and change nothing
    #[arg(long, requires = "apply")]
    dry_run: bool,
}

pub(super) async fn run(config: &Config, args: RetireArgs, output: &Output) -> Result<ExitCode> {
    let galleries = Galleries::new(config.client()?);
    match &args.apply {
        Some(file) => apply(&galleries, file, &args, output).await,
        None => make(config, &galleries, &args, output).await,
    }
}

fn rules(args: &RetireArgs) -> Rules {
    Rules {
        keep: args.keep.and_then(|keep| usize::try_from(keep).ok()).unwrap_or(usize::MAX),
        older_than_days: args.older_than,
        action: args.action,
        max_percent: args.max_percent,
    }
}

async fn make(
    config: &Config,
    galleries: &Galleries,
    args: &RetireArgs,
    output: &Output,
) -> Result<ExitCode> {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let rules = rules(args);
    let named = if args.subscription.is_empty() {
        &config.request().subscriptions
    } else {
        &args.subscription
    };
    let subscriptions = locations::subscriptions(&config.client()?, named).await?;
    let definitions = galleries.definitions(&subscriptions.usable_ids(), &args.filter).await?;
    if definitions.is_empty() {
        return Err(Error::not_found(
            "no image definition matches: azimg gallery images lists those in the catalog",
        ));
    }
    let planned = planned(galleries, &definitions, (&rules, now), output).await?;
    let restorable_days = galleries.restorable_days(&planned).await?;
    let plan = RetirePlan {
        schema_version: RetirePlan::VERSION,
        plan: ulid::Ulid::generate().to_string(),
        made_at: now,
        expires_at: args.expires.after(now),
        rules,
        definitions: planned,
        restorable_days,
    };
    let value = as_json(&plan)?;
    if let Some(file) = &args.plan {
        plan.write(file)?;
    }
    if !output.quiet {
        let (go, stay) = (plan.retired().count(), plan.definitions.iter().map(|d| d.kept.len()));
        say!(
            "{go} versions would be retired and {} kept, in {} definitions",
            stay.sum::<usize>(),
            plan.definitions.len()
        );
        for (gallery, days) in &plan.restorable_days {
            say!("{gallery} has soft deletion: a deleted version can be restored for {days} days");
        }
        if let Some(file) = &args.plan {
            say!("Review the plan, then run: azimg gallery retire --apply {}", file.display());
        }
    }
    print(&plan, value, output)?;
    Ok(ExitCode::SUCCESS)
}

/// The plan for each definition. An error if any definition cannot be planned.
async fn planned(
    galleries: &Galleries,
    definitions: &[(OwnGallery, String)],
    (rules, now): (&Rules, OffsetDateTime),
    output: &Output,
) -> Result<Vec<Planned>> {
    let machines = galleries.machines().await?;
    let (mut planned, mut refused) = (Vec::new(), Vec::new());
    let count = definitions.len();
    let worlds = definitions.iter().map(|(own, name)| galleries.world(own, name, &machines, now));
    let worlds: Vec<_> = worlds.collect();
    let mut worlds = stream::iter(worlds).buffered(AT_ONCE).enumerate();
    while let Some((number, world)) = worlds.next().await {
        if !output.quiet && number % 100 == 99 {
            say!("{} of {count} definitions examined", number + 1);
        }
        match plan(&world?, rules, now) {
            Ok(plan) => planned.push(plan),
            Err(error) => refused.push(error),
        }
    }
    match &refused[..] {
        [] => Ok(planned),
        [first] => Err(Error::new(first.kind(), first.to_string())),
        [first, others @ ..] => {
            let text = format!("{first} ({} more definitions are refused)", others.len());
            Err(Error::new(first.kind(), text))
        }
    }
}

/// Prints a plan: as a document for programs, or as a table of versions.
fn print(plan: &RetirePlan, value: Value, output: &Output) -> Result<()> {
    if !output.is_table() {
        return output.one(value);
    }
    let retired =
        plan.retired().map(|r| json!({"id": r.id, "action": r.action, "reason": r.reason}));
    let kept = plan.definitions.iter().flat_map(|planned| &planned.kept);
    let kept = kept.map(|kept| json!({"id": kept.id, "action": "keep", "reason": kept.reason}));
    output.list(retired.chain(kept).collect(), &["id", "action", "reason"])
}

async fn apply(
    galleries: &Galleries,
    file: &Path,
    args: &RetireArgs,
    output: &Output,
) -> Result<ExitCode> {
    let plan = RetirePlan::read(file)?;
    let path = ledger_path(args.ledger.as_ref(), file);
    let mut ledger = Ledger::open(&path, &plan.plan)?;
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    if args.dry_run {
        galleries.check_plan(&plan, &ledger, now).await?;
        output.one(json!({"plan": plan.plan, "state": "can be applied"}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let followed = Followed::new("the plan", output.quiet);
    let quiet = output.quiet;
    let progress =
        |number: usize, all: usize, retired: &Retired, step: Option<ChangeStep>| match step {
            None => {
                followed.begin(format!("{number} of {all}"));
                if !quiet {
                    say!("{number} of {all}: {:?} {}", retired.action, retired.id);
                }
            }
            Some(step) => followed.step(step),
        };
    let applied = followed.to_end(galleries.apply(&plan, &mut ledger, now, &progress)).await?;
    let (done, before) = (applied.done, applied.before);
    let mut ended = json!({"plan": plan.plan, "done": done, "doneBefore": before,
                           "left": applied.left, "ledger": path});
    // The galleries' current policies: they may have changed since the plan was made.
    let restorable = galleries.restorable_days(&plan.definitions).await?;
    for (gallery, days) in restorable {
        let until = Span::new(Duration::from_hours(24 * u64::from(days))).after(now);
        let until = until.format(&Rfc3339).map_err(|e| Error::bug(e.to_string()))?;
        if !output.quiet {
            say!("{gallery} has soft deletion: versions deleted now can be restored until {until}");
        }
        ended["restorableUntil"][gallery] = until.into();
    }
    for left in &applied.left {
        say!("not retired: {}: {}", left.id, left.reason);
    }
    if !applied.left.is_empty() && !output.quiet {
        let (count, file) = (applied.left.len(), file.display());
        say!("{count} versions are not retired; remove the cause, then apply {file} again");
    }
    output.one(ended)?;
    Ok(if applied.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}
