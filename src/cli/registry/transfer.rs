//! `azimg registry push` and `pull`.

use super::artifact::ArtifactArgs;
use super::copy::checked_tags;
use super::{LoginArgs, open_reference};
use crate::blocking::blocking;
use crate::cli::output::{Output, as_json};
use crate::cli::progress::Bytes;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::registry::{Name, Platform};
use crate::sink::say;
use crate::transfer::{ImageChoice, Package, PullTo, Pulled, ReadAs, Target, TransferProgress};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Forms of a source.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// One image or index from a folder in the OCI image layout, or from an archive
    Image,
    /// Everything that the index.json of a layout or an archive lists, as one index
    Index,
    /// Files as they are, those of a folder with their relative paths
    Artifact,
}

#[derive(clap::Args)]
pub(in crate::cli) struct PushArgs {
    /// LOGINSERVER/REPOSITORY:TAG
    reference: String,
    /// Folder in the OCI image layout, archive of `docker save` (compressed or not), or files
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// Additional tags; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "TAG")]
    tag: Vec<String>,
    /// Form of the source [default: detected; an archive that is not an image is refused]
    #[arg(long = "as", value_name = "WHAT")]
    read_as: Option<From>,
    /// Image in a layout or an archive with several: name, tag, digest, or @0 for the first
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Platforms of an index to push, such as linux/arm64; comma-separated or repeated [default:
    /// all]
    #[arg(long, value_name = "OS/ARCHITECTURE", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Push uncompressed layers of an archive as they are [default: compress them]
    #[arg(long)]
    keep_layers: bool,
    /// Type of an artifact, such as application/spdx+json
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    #[command(flatten)]
    artifact: ArtifactArgs,
    /// Repositories of the registry from which layers are mounted instead of sent; comma-separated
    /// or repeated
    #[arg(long, value_delimiter = ',', value_name = "REPOSITORY")]
    mount_from: Vec<String>,
    /// Print what would be pushed and push nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

/// Forms of a destination.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A folder in the OCI image layout
    Layout,
    /// An archive that docker load reads
    Archive,
    /// The files of an artifact
    Files,
}

#[derive(clap::Args)]
pub(in crate::cli) struct PullArgs {
    /// LOGINSERVER/REPOSITORY:TAG or @DIGEST
    reference: String,
    /// Destination: a folder, or a file whose name ends in .tar
    destination: PathBuf,
    /// Form of the destination [default: an archive if it ends in .tar, else a layout]
    #[arg(long, value_name = "FORM")]
    to: Option<To>,
    /// Platforms to pull, such as linux/amd64 or windows(10.0.20348)/amd64; comma-separated or
    /// repeated [default: all of an index]
    ///
    /// With one platform its image is pulled, with several an index of them.
    #[arg(long, value_name = "OS/ARCHITECTURE", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Replace an existing archive or existing files
    #[arg(long)]
    overwrite: bool,
    /// Print what would be pulled and pull nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

/// How the source is read.
fn read_as(args: &PushArgs) -> Result<ReadAs> {
    let read_as = match (args.read_as, &args.artifact_type) {
        (Some(From::Image), None) => ReadAs::Image,
        (Some(From::Index), None) => ReadAs::Index,
        (Some(From::Image | From::Index), Some(_)) => {
            return Err(Error::invalid("--artifact-type: an image has its own type"));
        }
        (Some(From::Artifact), kind) => {
            ReadAs::Artifact(Box::new(args.artifact.artifact(kind.as_deref())?))
        }
        (None, Some(kind)) => ReadAs::Artifact(Box::new(args.artifact.artifact(Some(kind))?)),
        (None, None) => ReadAs::Guessed,
    };
    let is_artifact = matches!(read_as, ReadAs::Artifact(_));
    if !is_artifact && !args.artifact.is_empty() {
        return Err(Error::invalid(
            "--annotation, --config and --media-type are for artifacts: add --as artifact or \
             --artifact-type",
        ));
    }
    if is_artifact && (args.name.is_some() || !args.platform.is_empty() || args.keep_layers) {
        return Err(Error::invalid(
            "--name, --platform and --keep-layers are for images, and this is pushed as an artifact",
        ));
    }
    Ok(read_as)
}

/// Prints notes about a package to be pushed on stderr.
fn tell(package: &Package, output: &Output) {
    if output.quiet {
        return;
    }
    for note in &package.notes {
        say!("{note}");
    }
    for layer in &package.left_out {
        say!("{} is not sent: it is available elsewhere ({})", layer.digest, layer.urls.join(", "));
    }
}

pub(super) async fn push(config: &Config, args: PushArgs, output: &Output) -> Result<()> {
    let read_as = read_as(&args)?;
    let wanted = ImageChoice {
        name: args.name.clone(),
        platforms: args.platform.clone(),
        keep_layers: args.keep_layers,
    };
    let source = args.source.clone();
    let read = move || Package::read(&source, &read_as, &wanted);
    let package = blocking("reading the source of the push", read).await?;
    tell(&package, output);
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    let named = match name {
        Name::Tag(tag) => Some(tag),
        Name::Whole => None,
        Name::Digest(_) => {
            return Err(Error::invalid("the digest follows from what is pushed: name a tag"));
        }
    };
    let tags = checked_tags(named.into_iter().chain(args.tag))?;
    if args.dry_run {
        let whole = package.manifests.last();
        return output.one(json!({"reference": args.reference, "tags": tags,
            "digest": whole.map(|whole| &whole.digest), "pushedAs": package.form(),
            "manifests": package.manifests.len(),
            "blobs": package.blobs.len(), "bytes": package.size()}));
    }
    let moved = TransferProgress::default();
    let shown = Bytes::show(&moved, output.quiet);
    let pushed = registry.push(&repository, &package, &tags, &args.mount_from, &moved).await;
    drop(shown);
    let pushed = as_json(&pushed?)?;
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
    let platforms = &args.platform[..];
    let to = args.destination.as_path();
    if args.dry_run {
        let found = registry.measure(&repository, &name, platforms).await?;
        return output.one(as_json(&found)?);
    }
    let moved = TransferProgress::default();
    let shown = Bytes::show(&moved, output.quiet);
    let target = Target { path: to, form, overwrite: args.overwrite };
    let pulled = registry.pull(&repository, &name, platforms, target, &moved).await;
    drop(shown);
    let pulled = pulled?;
    if !output.quiet {
        tell_pulled(&pulled, form);
    }
    let pulled = as_json(&pulled)?;
    output.one(pulled)
}

/// Prints notes about a pulled image on stderr.
fn tell_pulled(pulled: &Pulled, form: PullTo) {
    for layer in &pulled.left_out {
        say!(
            "{} was not pulled: the registry does not have it; it is available elsewhere ({})",
            layer.digest,
            layer.urls.join(", ")
        );
    }
    match (form, pulled.docker_load.as_deref()) {
        (PullTo::Archive, Some("image")) => say!("'docker load' accepts this archive."),
        (PullTo::Archive, Some(platform)) => say!(
            "An OCI archive of all platforms. 'docker load' accepts {platform} of it, and all platforms with \
             containerd's image store."
        ),
        (PullTo::Archive, None) => say!(
            "An OCI archive that 'docker load' accepts only with containerd's image store. It always accepts \
             an image of one platform (--platform)."
        ),
        _ => {}
    }
}
