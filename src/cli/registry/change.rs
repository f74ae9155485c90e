//! `azimg registry set` and `delete`.

use super::depending::{Depending, confirm};
use super::going::going;
use super::{LoginArgs, open_reference};
use crate::cli::output::{Output, as_json};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Attributes, Name, Registry};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(in crate::cli) struct SetArgs {
    /// LOGINSERVER/REPOSITORY, optionally followed by :TAG or @DIGEST
    reference: String,
    /// Whether it can be deleted
    #[arg(long, value_name = "true|false")]
    delete_enabled: Option<bool>,
    /// Whether it can be written
    #[arg(long, value_name = "true|false")]
    write_enabled: Option<bool>,
    /// Whether it appears in lists
    #[arg(long, value_name = "true|false")]
    list_enabled: Option<bool>,
    /// Whether it can be read
    #[arg(long, value_name = "true|false")]
    read_enabled: Option<bool>,
    /// Print what would be set and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(in crate::cli) struct DeleteArgs {
    /// LOGINSERVER/REPOSITORY, optionally followed by :TAG or @DIGEST
    reference: String,
    /// Unlock what is locked before the deletion
    #[arg(long)]
    unlock: bool,
    /// Delete without confirmation: a whole repository, a blob, the tag latest, or what an index
    /// lists
    #[arg(long)]
    yes: bool,
    /// Delete the blob with this digest: a layer or a configuration, without which its images fail
    #[arg(long)]
    blob: bool,
    /// Print what would be deleted and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

impl SetArgs {
    /// The reference to change, as given.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }
}

impl DeleteArgs {
    /// The reference to delete, as given.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }
}

/// The current attributes of a repository, tag or manifest.
pub(super) async fn look(registry: &Registry, repository: &str, name: &Name) -> Result<Value> {
    match name {
        Name::Whole => as_json(&registry.repository(repository).await?),
        Name::Tag(tag) => as_json(&registry.tag(repository, tag).await?),
        Name::Digest(digest) => {
            let mut manifest = registry.manifest(repository, digest).await?;
            let tags = registry.tags(repository, Some(digest)).await?;
            manifest.tags = tags.into_iter().map(|tag| tag.name).collect();
            as_json(&manifest)
        }
    }
}

pub(super) async fn set(config: &Config, args: &SetArgs, output: &Output) -> Result<()> {
    let to = Attributes {
        delete_enabled: args.delete_enabled,
        write_enabled: args.write_enabled,
        list_enabled: args.list_enabled,
        read_enabled: args.read_enabled,
        ..Attributes::default()
    };
    if to == Attributes::default() {
        return Err(Error::invalid(
            "there is nothing to set: give --delete-enabled, --write-enabled, --list-enabled or \
             --read-enabled",
        ));
    }
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    if args.dry_run {
        let now = look(&registry, &repository, &name).await?;
        return output.one(json!({"reference": args.reference,
            "now": now["changeableAttributes"], "then": to}));
    }
    registry.set(&repository, &name, &to).await?;
    output.one(look(&registry, &repository, &name).await?)
}

fn called(name: &Name) -> &str {
    match name {
        Name::Whole => "the repository",
        Name::Tag(name) | Name::Digest(name) => name,
    }
}

async fn delete_blob(
    registry: &Registry,
    repository: &str,
    name: &Name,
    args: &DeleteArgs,
    output: &Output,
) -> Result<()> {
    let Name::Digest(digest) = name else {
        return Err(Error::invalid("--blob: a blob is named by its digest"));
    };
    if !args.yes && !args.dry_run {
        return Err(Error::invalid(
            "--blob: this breaks every image of the repository that contains it; add --yes to delete it",
        ));
    }
    if !args.dry_run {
        registry.delete_blob(repository, digest).await?;
    }
    output.one(json!({"reference": args.reference, "blobsDeleted": [digest]}))
}

pub(super) async fn delete(config: &Config, args: &DeleteArgs, output: &Output) -> Result<()> {
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    if args.blob {
        return delete_blob(&registry, &repository, &name, args, output).await;
    }
    let going = going(&registry, &repository, &name).await?;
    let depends = if args.yes && !args.dry_run {
        Depending::default()
    } else {
        let depends = Depending::on(&registry, &repository, &name).await;
        let unknown = "cannot determine what depends on it; --yes deletes it without this check";
        depends.map_err(|error| error.context(unknown))?
    };
    let locked: Vec<&str> = going.locked.iter().map(called).collect();
    if args.dry_run {
        return output.one(json!({"reference": args.reference, "manifests": going.manifests,
            "tags": going.tags, "locked": locked, "neededBy": depends.indexes,
            "referrers": depends.referrers}));
    }
    if let Some(why) =
        depends.confirmation_reason(&args.reference, &name, &going).filter(|_| !args.yes)
    {
        confirm(&why).await?;
    }
    if !locked.is_empty() && !args.unlock {
        let few = locked.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let text = format!(
            "{}: not deleted, because these are or may be locked: {few}{}; --unlock removes the locks",
            args.reference,
            if locked.len() > 3 {
                format!(" and {} more", locked.len() - 3)
            } else {
                String::new()
            }
        );
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    let open = Attributes {
        delete_enabled: Some(true),
        write_enabled: Some(true),
        ..Attributes::default()
    };
    for name in &going.locked {
        registry.set(&repository, name, &open).await?;
    }
    let deleted = registry.delete(&repository, &name).await?;
    let is_empty = deleted.manifests_deleted.is_empty() && deleted.tags_deleted.is_empty();
    let (manifests, tags) = match name {
        Name::Whole if !is_empty => (deleted.manifests_deleted, deleted.tags_deleted),
        _ => (going.manifests, going.tags),
    };
    output.one(
        json!({"reference": args.reference, "manifestsDeleted": manifests, "tagsDeleted": tags}),
    )
}
