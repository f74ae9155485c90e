//! The options of `azimg registry purge`, and the rules made from them.

use crate::cli::registry::LoginArgs;
use crate::error::{Error, Result};
use crate::purge::{DeletionLimit, Pattern, Rule, Rules, Span};
use std::path::PathBuf;

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(in crate::cli) struct PurgeArgs {
    /// A login server, or a registry's name
    pub(super) registry: String,
    /// Rules in a TOML or JSON file, instead of those that flags make
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans"])]
    pub(super) rules: Option<PathBuf>,
    /// Repositories, by a glob ('*' is any text, slashes too) or by regex:EXPRESSION
    #[arg(long, value_name = "PATTERN")]
    pub(super) repository: Option<Pattern>,
    /// Tags, by a glob or regex:EXPRESSION [default: all, where --keep or --older-than is said]
    #[arg(long, value_name = "PATTERN")]
    pub(super) tags: Option<Pattern>,
    /// So many of the newest images that these tags point at stay, however old they are. An index and its tagged
    /// platforms are one; build caches and signatures are counted apart; what is protected is not counted
    #[arg(long, value_name = "N")]
    pub(super) keep: Option<usize>,
    /// Only what was last changed longer ago than this, such as 30d
    #[arg(long, value_name = "SPAN")]
    pub(super) older_than: Option<Span>,
    /// Tags that stay in any case; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) keep_tags: Vec<Pattern>,
    /// Manifests without a tag, too
    #[arg(long)]
    pub(super) untagged: bool,
    /// Signatures, attestations and the like, too, whose image is gone
    #[arg(long)]
    pub(super) orphans: bool,
    /// Nothing that has no tag goes before it was pushed so long ago [default: 1h, or what the rules say]
    #[arg(long, value_name = "SPAN")]
    pub(super) grace: Option<Span>,
    /// What runs stays: a list of images or digests, or what 'kubectl get pods -A -o json' says; '-' is standard
    /// input; may be repeated [also: the files in `AZIMG_IN_USE`]
    #[arg(long, value_name = "FILE")]
    pub(super) in_use: Vec<PathBuf>,
    /// A list of what runs that is older than this stops the purge
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub(super) in_use_max_age: Span,
    /// Write the plan into this file
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// The plan can be applied for so long
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub(super) expires: Span,
    /// Do what this plan says, or go on with it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "repository", "tags", "keep", "older_than", "keep_tags", "untagged", "orphans", "grace", "plan", "yes"])]
    pub(super) apply: Option<PathBuf>,
    /// Plan and apply at once, without a review
    #[arg(long)]
    pub(super) yes: bool,
    /// Do nothing when the plan takes more than so many manifests, or more than this part of them
    #[arg(long, value_name = "N|PERCENT%")]
    pub(super) max_delete: Option<DeletionLimit>,
    /// Keep manifests in this folder before they go
    #[arg(long, value_name = "FOLDER")]
    pub(super) export: Option<PathBuf>,
    /// Put back what was kept in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["rules", "repository", "apply", "yes", "plan"])]
    pub(super) undo: Option<PathBuf>,
    /// Do not ask Resource Graph what is in use
    #[arg(long)]
    pub(super) ignore_use: bool,
    /// Where what was done is written down [default: the plan's name with .ledger behind it]
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Check the plan, and delete nothing
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
            Error::invalid("which repositories? Say --repository (such as 'ci/*'), or --rules FILE")
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
