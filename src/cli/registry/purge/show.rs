//! Displays a plan: what is deleted, what stays, and why.

use super::args::PurgeArgs;
use crate::cli::output::Output;
use crate::error::Result;
use crate::purge::{PurgePlan, RepositoryPlan};
use crate::sink::say;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The maximum number of lines of each kind in a summary. The plan contains all.
const MOST: usize = 12;

/// Prints how much is deleted, each repository that is left alone, and each reason to keep
/// something.
pub(super) fn summary(whole: &PurgePlan) {
    say!(
        "{} of {} manifests and {} more tags are deleted; {} are freed.",
        whole.deletions,
        whole.manifests,
        whole.untaggings,
        indicatif::HumanBytes(whole.bytes_freed),
    );
    for note in &whole.notes {
        say!("Note: {note}.");
    }
    let left_alone = |one: &RepositoryPlan| {
        let why = one.left_alone.as_ref()?;
        Some(format!("{}: left alone: {why}", one.repository))
    };
    lines(whole.repositories.iter().filter_map(left_alone).collect());
    let protected = |one: &RepositoryPlan| -> Vec<String> {
        let line = |name: &str, why: &str| format!("{}{name} is kept: {why}", one.repository);
        let of_it = one.protected.iter().map(|row| match row.tags.first() {
            Some(tag) => line(&format!(":{tag}"), &row.protected_by),
            None => line(&format!("@{}", row.digest), &row.protected_by),
        });
        of_it.collect()
    };
    lines(whole.repositories.iter().flat_map(protected).collect());
    lines(whole.repositories.iter().flat_map(kept).collect());
}

/// What the rules keep in a repository, grouped by reason.
fn kept(one: &RepositoryPlan) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &one.kept {
        by_reason.entry(&row.reason).or_default().push(&row.tag);
    }
    let line = |(reason, tags): (&str, Vec<&str>)| {
        let few = tags.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = tags.len().saturating_sub(3);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}: {few}{more} are kept by {reason}", one.repository)
    };
    by_reason.into_iter().map(line).collect()
}

fn lines(all: Vec<String>) {
    let more = all.len().saturating_sub(MOST);
    for line in all.into_iter().take(MOST) {
        say!("  {line}");
    }
    if more > 0 {
        say!("  and {more} more of this kind in the plan");
    }
}

/// Prints the plan: a row for each thing that is deleted or stays, or the plan itself as JSON.
pub(super) fn show(
    whole: &PurgePlan,
    value: Value,
    args: &PurgeArgs,
    output: &Output,
) -> Result<()> {
    if !output.quiet {
        summary(whole);
        if args.apply.is_none() {
            match &args.plan {
                Some(file) => say!(
                    "Nothing was deleted. Apply the plan with: azimg registry purge {} --apply {}",
                    args.registry,
                    file.display()
                ),
                None => say!("Nothing was deleted. --plan FILE writes the plan to a file."),
            }
        }
    }
    if !output.is_table() {
        return output.one(value);
    }
    let rows = whole.repositories.iter().flat_map(rows).collect();
    output.list(rows, &["repository", "does", "tags", "digest", "changedAt", "frees", "reason"])
}

fn rows(one: &RepositoryPlan) -> Vec<Value> {
    let repository = &one.repository;
    let row = |does: &str, (digest, tags): (&str, Value), (at, frees): (Value, u64), why: &str| {
        json!({"repository": repository, "does": does, "digest": digest, "tags": tags,
            "changedAt": at, "frees": frees, "reason": why})
    };
    let at = |at: Option<time::OffsetDateTime>| {
        let text = at.map(|at| at.format(&time::format_description::well_known::Rfc3339));
        json!(text.and_then(std::result::Result::ok))
    };
    let mut rows = Vec::new();
    rows.extend(
        one.left_alone.iter().map(|why| row("keep", ("", json!([])), (Value::Null, 0), why)),
    );
    rows.extend(one.deletions.iter().map(|d| {
        row("delete", (&d.digest, json!(d.tags)), (at(d.changed_at), d.frees), &d.reason)
    }));
    rows.extend(one.untaggings.iter().map(|u| {
        let why = format!("{}; {}", u.reason, u.protected_by);
        row("untag", (&u.digest, json!([u.tag])), (at(u.changed_at), 0), &why)
    }));
    rows.extend(
        one.protected.iter().map(|p| {
            row("keep", (&p.digest, json!(p.tags)), (at(p.changed_at), 0), &p.protected_by)
        }),
    );
    rows.extend(
        one.kept
            .iter()
            .map(|k| row("keep", (&k.digest, json!([k.tag])), (at(k.changed_at), 0), &k.reason)),
    );
    rows
}
