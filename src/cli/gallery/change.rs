//! `azimg gallery update`, `share` and `unshare`: a single change each, with an optional dry run.

use super::followed::Followed;
use crate::cli::output::Output;
use crate::client::Change;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gallery::{
    ChangeOutcome, Changes, Galleries, Name, ProvisioningState, Region, ShareWith, SharingChange,
};
use crate::sink::say;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(in crate::cli) struct UpdateArgs {
    /// GALLERY, GALLERY/DEFINITION, GALLERY/DEFINITION/VERSION, or a resource id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Description of a gallery or definition
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// End-of-life date of a definition or version, or none to remove it
    #[arg(long, value_name = "DATE")]
    end_of_life: Option<String>,
    /// URL of a definition's release notes
    #[arg(long, value_name = "URL")]
    release_notes: Option<String>,
    /// Minimum number of vCPUs that a definition recommends
    #[arg(long, value_name = "N")]
    min_vcpus: Option<u32>,
    /// Maximum number of vCPUs that a definition recommends
    #[arg(long, value_name = "N")]
    max_vcpus: Option<u32>,
    /// Minimum memory that a definition recommends, in GB
    #[arg(long, value_name = "GB")]
    min_memory: Option<u32>,
    /// Maximum memory that a definition recommends, in GB
    #[arg(long, value_name = "GB")]
    max_memory: Option<u32>,
    /// Target regions of a version, which replace the existing ones; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "REGION[=REPLICAS[/STORAGE]]", conflicts_with_all = ["add_region", "remove_region"])]
    target_region: Vec<Region>,
    /// Target regions of a version to add or change; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "REGION[=REPLICAS[/STORAGE]]")]
    add_region: Vec<Region>,
    /// Target regions to remove from a version; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "REGION")]
    remove_region: Vec<String>,
    /// Whether a version is excluded from latest
    #[arg(long, value_name = "true|false")]
    exclude_from_latest: Option<bool>,
    /// Whether replicas of a version may be removed from target regions
    #[arg(long, value_name = "true|false")]
    allow_replicated_location_deletion: Option<bool>,
    /// Whether Azure blocks the deletion of a version before its end of life
    #[arg(long, value_name = "true|false")]
    block_deletion_before_end_of_life: Option<bool>,
    /// Tag to set; an empty value removes the tag; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    #[command(flatten)]
    frozen: Frozen,
    #[command(flatten)]
    how: How,
}

/// Properties that Azure does not change after creation. They are accepted so that the error can
/// say what to do instead.
#[derive(clap::Args)]
struct Frozen {
    #[arg(long, hide = true)]
    os: Option<String>,
    #[arg(long, hide = true)]
    os_state: Option<String>,
    #[arg(long, hide = true)]
    hyper_v_generation: Option<String>,
    #[arg(long, hide = true)]
    architecture: Option<String>,
    #[arg(long, hide = true)]
    publisher: Option<String>,
    #[arg(long, hide = true)]
    offer: Option<String>,
    #[arg(long, hide = true)]
    sku: Option<String>,
    #[arg(long, hide = true)]
    security_type: Option<String>,
    #[arg(long, hide = true)]
    storage_type: Option<String>,
    #[arg(long, hide = true)]
    replication_mode: Option<String>,
    #[arg(long, hide = true)]
    source: Option<String>,
}

impl Frozen {
    fn check(&self) -> Result<()> {
        let definition = "create a new definition";
        let version = "create a new version";
        let frozen = [
            ("--os", &self.os, definition),
            ("--os-state", &self.os_state, definition),
            ("--hyper-v-generation", &self.hyper_v_generation, definition),
            ("--architecture", &self.architecture, definition),
            ("--publisher", &self.publisher, definition),
            ("--offer", &self.offer, definition),
            ("--sku", &self.sku, definition),
            ("--security-type", &self.security_type, definition),
            ("--storage-type", &self.storage_type, "set it for a region: REGION=REPLICAS/STORAGE"),
            ("--replication-mode", &self.replication_mode, version),
            ("--source", &self.source, version),
        ];
        match frozen.iter().find(|(_, given, _)| given.is_some()) {
            Some((name, _, instead)) => Err(Error::invalid(format!(
                "{name} cannot be changed: Azure fixes it when the image is created; {instead}"
            ))),
            None => Ok(()),
        }
    }
}

/// How a change is made.
#[derive(clap::Args)]
struct How {
    /// Print the request and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for completion; print the operation's URL for `azimg gallery wait`
    #[arg(long)]
    no_wait: bool,
}

#[derive(clap::Args)]
pub(in crate::cli) struct ShareArgs {
    /// GALLERY, or its resource id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Subscriptions to share the gallery with; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    subscription: Vec<String>,
    /// Tenants to share the gallery with; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    tenant: Vec<String>,
    /// Publish the gallery to everyone, under the name in its community settings
    #[arg(long, conflicts_with_all = ["subscription", "tenant"])]
    community: bool,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
pub(in crate::cli) struct UnshareArgs {
    /// GALLERY, or its resource id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Subscriptions to stop sharing the gallery with; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "ID", required_unless_present_any = ["tenant", "all"])]
    subscription: Vec<String>,
    /// Tenants to stop sharing the gallery with; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    tenant: Vec<String>,
    /// Stop sharing with all subscriptions, tenants and the community; the gallery becomes private
    ///
    /// Azure cannot share a private gallery with subscriptions or tenants again.
    #[arg(long, conflicts_with_all = ["subscription", "tenant"])]
    all: bool,
    #[command(flatten)]
    how: How,
}

impl UpdateArgs {
    fn changes(&self) -> Result<Changes> {
        let end_of_life = match self.end_of_life.as_deref() {
            None => None,
            Some("none") => Some(None),
            Some(text) => Some(Some(crate::catalog::date(text).ok_or_else(|| {
                Error::invalid(format!(
                    "--end-of-life: '{text}' is not a date: give one such as 2027-01-01, or none"
                ))
            })?)),
        };
        let mut tags = BTreeMap::new();
        for tag in &self.tag {
            let named = tag.split_once('=').filter(|(name, _)| !name.trim().is_empty());
            let (name, value) = named.ok_or_else(|| {
                Error::invalid(format!("--tag: '{tag}' is not a tag: give NAME=VALUE"))
            })?;
            let same = |known: &&String| known.eq_ignore_ascii_case(name);
            if let Some(known) = tags.keys().find(same) {
                return Err(Error::invalid(format!(
                    "--tag: '{known}' and '{name}' are the same tag: tag names are case-insensitive"
                )));
            }
            tags.insert(name.to_owned(), value.to_owned());
        }
        Ok(Changes {
            description: self.description.clone(),
            end_of_life,
            release_notes: self.release_notes.clone(),
            vcpus: (self.min_vcpus, self.max_vcpus),
            memory: (self.min_memory, self.max_memory),
            regions: self.target_region.clone(),
            add_regions: self.add_region.clone(),
            remove_regions: self.remove_region.clone(),
            exclude_from_latest: self.exclude_from_latest,
            allow_location_deletion: self.allow_replicated_location_deletion,
            block_deletion: self.block_deletion_before_end_of_life,
            tags,
        })
    }
}

fn request(change: &Change) -> serde_json::Value {
    json!({"method": change.method.as_str(), "path": format!("/{}", change.path.join("/")),
        "apiVersion": change.version, "body": change.body})
}

/// Prints the outcome of a change: the resource after the change, or the operation to follow.
async fn report(
    galleries: &Galleries,
    name: &Name,
    ended: ChangeOutcome,
    output: &Output,
) -> Result<ExitCode> {
    match ended {
        ChangeOutcome::Done => output.one(galleries.get(name).await?)?,
        ChangeOutcome::Begun(operation) => {
            output.one(json!({"id": name.id(), "operation": operation.as_str()}))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports that there is nothing to send, and prints the resource. If another change to the same
/// values is still under way, waits for it first.
async fn unchanged(
    galleries: &Galleries,
    name: &Name,
    how: &How,
    output: &Output,
) -> Result<ExitCode> {
    let mut thing = galleries.get(name).await?;
    let is_under_way = ProvisioningState::of(&thing) == ProvisioningState::AtWork;
    if !output.quiet {
        let what = if is_under_way {
            "is already being changed as requested"
        } else {
            "is already as requested"
        };
        say!("{}: it {what}", name.id());
    }
    if is_under_way && !how.no_wait && !how.dry_run {
        let followed = Followed::new(name.id(), output.quiet);
        let tell = |step| followed.step(step);
        thing = followed.to_end(galleries.settle(name, &tell)).await?;
    }
    output.one(thing)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn update(config: &Config, args: UpdateArgs, output: &Output) -> Result<ExitCode> {
    args.frozen.check()?;
    let changes = args.changes()?;
    let galleries = Galleries::new(config.client()?);
    let name = galleries.resolve(&args.name, &config.request().subscriptions).await?;
    let Some(planned) = galleries.plan_update(&name, &changes).await? else {
        return unchanged(&galleries, &name, &args.how, output).await;
    };
    if args.how.dry_run {
        output.one(request(&planned.change))?;
        return Ok(ExitCode::SUCCESS);
    }
    let followed = Followed::new(name.id(), output.quiet);
    let tell = |step| followed.step(step);
    let update = galleries.update(&name, &changes, &planned, !args.how.no_wait, &tell);
    let ended = followed.to_end(update).await?;
    report(&galleries, &name, ended, output).await
}

async fn sharing(
    config: &Config,
    name: &str,
    sharing: SharingChange,
    how: &How,
    output: &Output,
) -> Result<ExitCode> {
    let galleries = Galleries::new(config.client()?);
    let name = galleries.resolve(name, &config.request().subscriptions).await?;
    let Some(planned) = galleries.plan_sharing(&name, &sharing).await? else {
        return unchanged(&galleries, &name, how, output).await;
    };
    if how.dry_run {
        output.one(request(&planned.change))?;
        return Ok(ExitCode::SUCCESS);
    }
    let followed = Followed::new(name.id(), output.quiet);
    let tell = |step| followed.step(step);
    let share = galleries.share(&name, &sharing, &planned, !how.no_wait, &tell);
    let ended = followed.to_end(share).await?;
    report(&galleries, &name, ended, output).await
}

pub(super) async fn share(config: &Config, args: ShareArgs, output: &Output) -> Result<ExitCode> {
    let with = ShareWith { subscriptions: args.subscription, tenants: args.tenant };
    if args.community {
        return sharing(config, &args.name, SharingChange::EnableCommunity, &args.how, output)
            .await;
    }
    if with == ShareWith::default() {
        let galleries = Galleries::new(config.client()?);
        let name = galleries.resolve(&args.name, &config.request().subscriptions).await?;
        let gallery = galleries.get(&name).await?;
        let profile = &gallery["properties"]["sharingProfile"];
        let private = json!({"permissions": "Private"});
        output.one(if profile.is_null() { private } else { profile.clone() })?;
        return Ok(ExitCode::SUCCESS);
    }
    sharing(config, &args.name, SharingChange::Add(with), &args.how, output).await
}

pub(super) async fn unshare(
    config: &Config,
    args: UnshareArgs,
    output: &Output,
) -> Result<ExitCode> {
    let with = ShareWith { subscriptions: args.subscription, tenants: args.tenant };
    let what = if args.all { SharingChange::Reset } else { SharingChange::Remove(with) };
    sharing(config, &args.name, what, &args.how, output).await
}
