//! The options of `azimg registry purge`, and the rules made from them.

use crate::cli::registry::LoginArgs;
use crate::error::{Error, Result};
use crate::purge::{DeletionLimit, Pattern, Rule, Rules, Span};
use std::path::PathBuf;

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(in crate::cli) struct PurgeArgs {
    /// Login server or name of a registry
    pub(super) registry: String,
    /// TOML or JSON file with rules, instead of rules from flags
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans"])]
    pub(super) rules: Option<PathBuf>,
    /// Repositories, as a glob ('*' matches any text, including slashes) or regex:EXPRESSION
    #[arg(long, value_name = "PATTERN")]
    pub(super) repository: Option<Pattern>,
    /// Tags, as a glob or regex:EXPRESSION [default: all, if --keep or --older-than is given]
    #[arg(long, value_name = "PATTERN")]
    pub(super) tags: Option<Pattern>,
    /// Number of the newest images with these tags to keep, whatever their age
    ///
    /// An index and its tagged platforms count as one image. Build caches and signatures are
    /// counted separately. Protected images are not counted.
    #[arg(long, value_name = "N")]
    pub(super) keep: Option<usize>,
    /// Only images that were last changed longer ago than this, such as 30d
    #[arg(long, value_name = "SPAN")]
    pub(super) older_than: Option<Span>,
    /// Tags to keep in any case; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) keep_tags: Vec<Pattern>,
    /// Also delete manifests without a tag
    #[arg(long)]
    pub(super) untagged: bool,
    /// Also delete signatures, attestations and other referrers whose image no longer exists
    #[arg(long)]
    pub(super) orphans: bool,
    /// Keep manifests without a tag for this long after their push [default: that of the rules,
    /// else 1h]
    #[arg(long, value_name = "SPAN")]
    pub(super) grace: Option<Span>,
    /// File that lists running images, which are kept; '-' is standard input; may be repeated
    /// [also: the files in `AZIMG_IN_USE`]
    ///
    /// A list of images or digests, or the output of 'kubectl get pods -A -o json'.
    #[arg(long, value_name = "FILE")]
    pub(super) in_use: Vec<PathBuf>,
    /// Maximum age of a list of running images; an older list stops the purge
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub(super) in_use_max_age: Span,
    /// Write the plan to this file
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// Time after which the plan can no longer be applied
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub(super) expires: Span,
    /// Apply this plan, or resume its application
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans", "grace", "plan", "yes"])]
    pub(super) apply: Option<PathBuf>,
    /// Plan and apply in one step, without a review
    #[arg(long)]
    pub(super) yes: bool,
    /// Delete nothing if the plan deletes more than this number or percentage of manifests
    #[arg(long, value_name = "N|PERCENT%")]
    pub(super) max_delete: Option<DeletionLimit>,
    /// Save manifests to this folder before they are deleted
    #[arg(long, value_name = "FOLDER")]
    pub(super) export: Option<PathBuf>,
    /// Restore the manifests that were saved to this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["rules", "repository", "apply", "yes", "plan"])]
    pub(super) undo: Option<PathBuf>,
    /// Do not query Resource Graph for the images in use
    #[arg(long)]
    pub(super) ignore_use: bool,
    /// File that records each step of the application [default: the plan's name followed by
    /// .ledger]
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Check the plan and delete nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) login: LoginArgs,
}

impl PurgeArgs {
    /// The rules from the file, or from the options.
    pub(super) fn rules(&self) -> Result<Rules> {
        if let Some(file) = &self.rules {
            let text = std::fs::read_to_string(file).map_err(|e| Error::io(file.display(), e))?;
            let rules = Rules::parse(&text)?;
            return Ok(Rules { grace: self.grace.or(rules.grace), ..rules });
        }
        let repositories = self.repository.clone().ok_or_else(|| {
            Error::invalid(
                "no repositories are selected: add --repository (such as 'ci/*') or --rules FILE",
            )
        })?;
        let tags = match &self.tags {
            None if self.keep.is_some()
                || (self.older_than.is_some() && !self.untagged && !self.orphans) =>
            {
                Some("*".parse()?)
            }
            tags => tags.clone(),
        };
        let rule = Rule {
            repositories,
            tags,
            older_than: self.older_than,
            keep: self.keep,
            keep_tags: self.keep_tags.clone(),
            untagged: self.untagged,
            orphans: self.orphans,
        };
        let rules = Rules { grace: self.grace, rules: vec![rule] };
        rules.check()?;
        Ok(rules)
    }
}
