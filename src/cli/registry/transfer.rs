//! `azimg registry push` and `pull`.

use super::{LoginArgs, open_reference};
use crate::cli::output::Output;
use crate::cli::progress::Bytes;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::registry::Name;
use crate::registry::transfer::{Moved, Package, PullTo, ReadAs};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What is pushed.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// A folder in the OCI image layout, or an archive of images
    Image,
    /// Files, as they are
    Artifact,
}

#[derive(clap::Args)]
pub(in crate::cli) struct PushArgs {
    /// LOGINSERVER/REPOSITORY:TAG
    reference: String,
    /// A folder in the OCI image layout, what `docker save` wrote, or files
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// A further tag; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// What the source is [default: what it looks like]
    #[arg(long = "as", value_name = "WHAT")]
    read_as: Option<From>,
    /// Which image of a layout or an archive with several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The type of an artifact, such as application/spdx+json
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// A repository of the registry whose layers are taken over instead of sent; may be repeated
    #[arg(long, value_name = "REPOSITORY")]
    mount_from: Vec<String>,
    /// Only say what would be pushed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

/// What an image is made into.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A folder in the OCI image layout
    Layout,
    /// An archive, which `docker load` reads
    Archive,
    /// The files of an artifact
    Files,
}

#[derive(clap::Args)]
pub(in crate::cli) struct PullArgs {
    /// LOGINSERVER/REPOSITORY:TAG or @DIGEST
    reference: String,
    /// Where to: a folder, or a file whose name ends in .tar
    destination: PathBuf,
    /// What it is made into [default: an archive where the destination ends in .tar, else a layout]
    #[arg(long, value_name = "FORM")]
    to: Option<To>,
    /// Only the image of this platform, such as linux/amd64 [default: all of an index]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<String>,
    /// Only say what would be pulled
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

pub(super) async fn push(config: &Config, args: PushArgs, output: &Output) -> Result<()> {
    let read_as = match (args.read_as, &args.artifact_type) {
        (Some(From::Image), None) => ReadAs::Image,
        (Some(From::Image), Some(_)) => {
            return Err(Error::invalid("--artifact-type: an image has its own type"));
        }
        (Some(From::Artifact), kind) => ReadAs::Artifact(kind.clone()),
        (None, Some(kind)) => ReadAs::Artifact(Some(kind.clone())),
        (None, None) => ReadAs::Guessed,
    };
    let (source, name) = (args.source.clone(), args.name.clone());
    let read = move || Package::read(&source, &read_as, name.as_deref());
    let package = tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| Error::bug("reading what is to be pushed panicked").with_source(e))??;
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    let mut tags = match name {
        Name::Tag(tag) => vec![tag],
        Name::Whole => Vec::new(),
        Name::Digest(_) => {
            return Err(Error::invalid("a digest follows from what is pushed: name a tag"));
        }
    };
    tags.extend(args.tag);
    tags.dedup();
    if let Some(bad) = tags.iter().find(|tag| !crate::registry::is_tag(tag)) {
        return Err(Error::invalid(format!("'{bad}' is no tag")));
    }
    if args.dry_run {
        let whole = package.manifests.last();
        return output.one(json!({"reference": args.reference, "tags": tags,
            "digest": whole.map(|whole| &whole.digest), "manifests": package.manifests.len(),
            "blobs": package.blobs.len(), "bytes": package.size()}));
    }
    let moved = Moved::default();
    let shown = Bytes::show(&moved, output.quiet);
    let pushed = registry.push(&repository, &package, &tags, &args.mount_from, &moved).await;
    drop(shown);
    let pushed = serde_json::to_value(pushed?).map_err(|e| Error::bug(e.to_string()))?;
    output.one(pushed)
}

pub(super) async fn pull(config: &Config, args: PullArgs, output: &Output) -> Result<()> {
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    if name == Name::Whole {
        let text = format!("'{}' names no image: add :TAG or @DIGEST", args.reference);
        return Err(Error::invalid(text));
    }
    let is_archive = |path: &Path| path.extension().is_some_and(|end| end == "tar");
    let form = match args.to {
        Some(To::Archive) => PullTo::Archive,
        Some(To::Files) => PullTo::Files,
        None if is_archive(&args.destination) => PullTo::Archive,
        Some(To::Layout) | None => PullTo::Layout,
    };
    let platform = args.platform.as_deref();
    let to = args.destination.as_path();
    if args.dry_run {
        let found = registry.measure(&repository, &name, platform).await?;
        return output.one(serde_json::to_value(found).map_err(|e| Error::bug(e.to_string()))?);
    }
    let moved = Moved::default();
    let shown = Bytes::show(&moved, output.quiet);
    let pulled = registry.pull(&repository, &name, platform, (to, form), &moved).await;
    drop(shown);
    let pulled = serde_json::to_value(pulled?).map_err(|e| Error::bug(e.to_string()))?;
    output.one(pulled)
}
