//! The options that describe an artifact besides its files, and `azimg registry attach`.

use super::{LoginArgs, open_reference};
use crate::blocking::blocking;
use crate::cli::output::{Output, as_json};
use crate::cli::progress::Bytes;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::registry::{Descriptor, Name};
use crate::transfer::{Artifact, ImageChoice, Package, ReadAs, TransferProgress};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The media type of a configuration if none is given.
const CONFIG: &str = "application/vnd.unknown.config.v1+json";

#[derive(clap::Args, Clone)]
pub(super) struct ArtifactArgs {
    /// Annotation of the artifact, such as org.opencontainers.image.version=1.4.0; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// File with the artifact's configuration, and its media type, such as
    /// config.json:application/vnd.example.config+json
    #[arg(long, value_name = "FILE[:TYPE]")]
    config: Option<String>,
    /// Media type of one of the files, such as app.wasm:application/wasm; may be repeated [default:
    /// application/octet-stream]
    #[arg(long, value_name = "FILE:TYPE")]
    media_type: Vec<String>,
}

impl ArtifactArgs {
    /// Whether no option is given.
    pub(super) fn is_empty(&self) -> bool {
        self.annotation.is_empty() && self.config.is_none() && self.media_type.is_empty()
    }

    /// An artifact of type `kind`, with these options.
    pub(super) fn artifact(&self, kind: Option<&str>) -> Result<Artifact> {
        if let Some(kind) = kind.filter(|kind| !is_media_type(kind)) {
            return Err(not_a_type("--artifact-type", kind));
        }
        let mut annotations = BTreeMap::new();
        for text in &self.annotation {
            let (name, value) =
                text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                    Error::invalid(format!("--annotation {text}: write it as NAME=VALUE"))
                })?;
            if annotations.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(Error::invalid(format!("--annotation {name}: it is given twice")));
            }
        }
        let config = self.config.as_ref().map(|text| match text.rsplit_once(':') {
            Some((file, kind)) if is_media_type(kind) => (PathBuf::from(file), kind.to_owned()),
            _ => (PathBuf::from(text), CONFIG.to_owned()),
        });
        if let Some((file, _)) = config.as_ref().filter(|(file, _)| !file.is_file()) {
            return Err(Error::invalid(format!(
                "--config {}: there is no such file",
                file.display()
            )));
        }
        let types = self.media_type.iter().map(|text| match text.rsplit_once(':') {
            Some((file, kind)) if is_media_type(kind) => Ok((file.to_owned(), kind.to_owned())),
            _ => Err(not_a_type("--media-type", text)),
        });
        let types = types.collect::<Result<_>>()?;
        Ok(Artifact { kind: kind.map(str::to_owned), annotations, config, types, subject: None })
    }
}

fn not_a_type(flag: &str, text: &str) -> Error {
    let form = if flag == "--media-type" { "FILE:TYPE/SUBTYPE" } else { "TYPE/SUBTYPE" };
    Error::invalid(format!(
        "{flag} {text}: write it as {form}, such as {}application/spdx+json",
        if flag == "--media-type" { "app.spdx.json:" } else { "" }
    ))
}

/// Whether a text is a media type (RFC 6838: two names of letters, digits and a few punctuation
/// characters).
fn is_media_type(text: &str) -> bool {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 127
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    text.split_once('/').is_some_and(|(kind, of)| name(kind) && name(of))
}

#[derive(clap::Args)]
pub(in crate::cli) struct AttachArgs {
    /// Image to attach the files to: LOGINSERVER/REPOSITORY:TAG or @DIGEST
    reference: String,
    /// Files or folders of files to attach
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Artifact type of the files, such as application/spdx+json
    #[arg(long, value_name = "TYPE")]
    artifact_type: String,
    #[command(flatten)]
    artifact: ArtifactArgs,
    /// Print what would be attached and attach nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

impl AttachArgs {
    /// The image to attach to, as given.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }
}

pub(super) async fn attach(config: &Config, args: &AttachArgs, output: &Output) -> Result<()> {
    let artifact = args.artifact.artifact(Some(&args.artifact_type))?;
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    if name == Name::Whole {
        let text = format!("'{}' names no image: add :TAG or @DIGEST", args.reference);
        return Err(Error::invalid(text));
    }
    let to = registry.content(&repository, &name).await?;
    let subject = Descriptor {
        media_type: to.media_type,
        digest: to.digest,
        size: to.bytes.len() as u64,
        artifact_type: None,
        annotations: serde_json::Value::Null,
        platform: serde_json::Value::Null,
        urls: Vec::new(),
    };
    let subject_json = json!(subject);
    let artifact = Artifact { subject: Some(subject), ..artifact };
    let files = args.files.clone();
    let read = move || {
        Package::read(&files, &ReadAs::Artifact(Box::new(artifact)), &ImageChoice::default())
    };
    let package = blocking("reading the files to attach", read).await?;
    if args.dry_run {
        let whole = package.manifests.last();
        return output.one(json!({"subject": subject_json, "artifactType": args.artifact_type,
            "digest": whole.map(|whole| &whole.digest), "blobs": package.blobs.len(),
            "bytes": package.size()}));
    }
    let moved = TransferProgress::default();
    let shown = Bytes::show(&moved, output.quiet);
    let pushed = registry.push(&repository, &package, &[], &[], &moved).await;
    drop(shown);
    let mut pushed = as_json(&pushed?)?;
    pushed["subject"] = subject_json;
    pushed["artifactType"] = args.artifact_type.as_str().into();
    output.one(pushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_an_artifact_are_taken_or_refused_with_a_reason() {
        let args = |annotation: &[&str], media_type: &[&str]| ArtifactArgs {
            annotation: annotation.iter().map(|text| (*text).to_owned()).collect(),
            config: None,
            media_type: media_type.iter().map(|text| (*text).to_owned()).collect(),
        };
        let taken = args(&["a=b=c", "empty="], &[r"C:\x.wasm:application/wasm"]);
        let taken = taken.artifact(Some("application/spdx+json")).unwrap();
        assert_eq!(taken.annotations["a"], "b=c");
        assert_eq!(taken.annotations["empty"], "");
        assert_eq!(taken.types, [(r"C:\x.wasm".to_owned(), "application/wasm".to_owned())]);
        for (bad, said) in [
            (args(&["a"], &[]), "--annotation a"),
            (args(&["=b"], &[]), "--annotation =b"),
            (args(&["a=1", "a=2"], &[]), "given twice"),
            (args(&[], &["x.wasm"]), "--media-type x.wasm"),
            (args(&[], &["x.wasm:wasm"]), "FILE:TYPE/SUBTYPE"),
        ] {
            let error = bad.artifact(None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = args(&[], &[]).artifact(Some("sbom")).unwrap_err().to_string();
        assert!(error.contains("--artifact-type sbom"), "{error}");
    }
}
