//! Files as an artifact: each is a layer, named by an annotation. A name that comes from a registry
//! is untrusted, and is accepted only if it can be nothing but the name of a file.

use super::digest::digest_of;
use super::package::{Blob, BlobSource, Package, PackedManifest};
use crate::error::{Error, Result};
use crate::registry::Descriptor;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The annotation that names a file.
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// The media type of a file without an explicit one: a tar, or any other.
const FILE: &str = "application/vnd.oci.image.layer.v1.tar";
const ANY: &str = "application/octet-stream";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";
/// The longest name, and the longest path, in bytes.
const LONGEST: usize = 255;
const LONGEST_PATH: usize = 1_024;
/// The prefix of azimg's own staging folders.
const STAGING: &str = ".azimg-staging-";

/// The most files of one artifact.
const MOST_FILES: usize = 10_000;
/// The deepest nesting of folders.
const DEEPEST: usize = 32;

/// The properties of an artifact, apart from its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifact {
    /// The artifact type; unknown if not given.
    pub kind: Option<String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// The file that is its configuration, with its media type. Without one, the configuration is
    /// empty.
    pub config: Option<(PathBuf, String)>,
    /// Media types of some of its files, by path or by name in the artifact.
    pub types: Vec<(String, String)>,
    /// The manifest that it refers to: for a signature or an SBOM, the image.
    pub subject: Option<Descriptor>,
}

impl Artifact {
    /// The given media type of a file.
    fn type_of(&self, path: &Path, name: &str) -> Option<&str> {
        let is_it = |typed_name: &&(String, String)| {
            typed_name.0 == name || Path::new(&typed_name.0) == path
        };
        self.types.iter().find(is_it).map(|(_, kind)| kind.as_str())
    }

    /// Builds the manifest, and the blob of its configuration.
    fn manifest(&self, layers: &[Value]) -> Result<(Blob, Value)> {
        let (config, kind) = match &self.config {
            Some((path, kind)) => {
                let (digest, size) = digest_of(path)?;
                let source = BlobSource::In(Arc::new(path.clone()), 0);
                (Blob { digest, size, source }, kind.as_str())
            }
            None => (Blob::here("{}".as_bytes().to_vec()), EMPTY),
        };
        let mut manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
            "config": {"mediaType": kind, "digest": config.digest, "size": config.size},
            "layers": layers});
        // With a configuration, the artifact type may be left to the type of that.
        let kind = self.kind.as_deref().or_else(|| self.config.is_none().then_some(UNKNOWN));
        if let Some(kind) = kind {
            manifest["artifactType"] = kind.into();
        }
        if let Some(subject) = &self.subject {
            manifest["subject"] = json!({"mediaType": subject.media_type,
                "digest": subject.digest, "size": subject.size});
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        Ok((config, manifest))
    }
}

/// Packs files as an artifact. A file is named by its file name, and those of a folder by their
/// paths within it.
pub(super) fn pack(paths: &[PathBuf], artifact: &Artifact) -> Result<Package> {
    let mut package = Package::default();
    let mut typed = HashSet::new();
    let mut layers = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for (path, name) in named(paths)? {
        if !safe_path(&name) {
            let text = format!("{}: not a valid name for a file of an artifact", path.display());
            return Err(Error::invalid(text));
        }
        if !names.insert(name.to_lowercase()) {
            return Err(Error::invalid(format!(
                "two files have the name {name}: push a folder that contains both"
            )));
        }
        let (digest, size) = digest_of(&path)?;
        let is_archive = path.extension().is_some_and(|end| end == "tar");
        let given_type = artifact.type_of(&path, &name);
        typed.extend(given_type.map(|_| name.clone()));
        let media_type = given_type.unwrap_or(if is_archive { FILE } else { ANY });
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size,
            "annotations": {TITLE: name}}));
        package.add(Blob { digest, size, source: BlobSource::In(Arc::new(path), 0) });
    }
    if typed.len() < artifact.types.len() {
        let known: Vec<&str> = layers
            .iter()
            .filter_map(|layer: &Value| layer["annotations"][TITLE].as_str())
            .take(5)
            .collect();
        let all: Vec<&str> = artifact.types.iter().map(|(file, _)| file.as_str()).collect();
        return Err(Error::invalid(format!(
            "media types are given for {}, but not all of these are files of the artifact ({}{})",
            all.join(", "),
            known.join(", "),
            if layers.len() > known.len() { ", …" } else { "" }
        )));
    }
    let (config, manifest) = artifact.manifest(&layers)?;
    package.add(config);
    package.manifests.push(PackedManifest::new(manifest.to_string().into_bytes().into(), IMAGE)?);
    Ok(package)
}

/// The files of an artifact, each with its name.
fn named(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, "", DEEPEST, &mut found)?;
            if found.is_empty() {
                return Err(Error::invalid(format!(
                    "{}: the folder contains no file",
                    path.display()
                )));
            }
        } else if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((path.clone(), name));
        } else {
            return Err(Error::invalid(format!(
                "{}: not a file that can be pushed",
                path.display()
            )));
        }
    }
    Ok(found)
}

/// Adds the files below a folder, sorted by name. Links are not followed: they may lead to files
/// that were not meant.
fn walk(folder: &Path, above: &str, left: usize, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let failed = |e| Error::io(folder.display(), e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(failed)?;
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        if kind.is_dir() && left > 0 {
            walk(&entry.path(), &format!("{name}/"), left - 1, found)?;
        } else if kind.is_file() && found.len() < MOST_FILES {
            found.push((entry.path(), name));
        } else {
            let why = match (kind.is_file(), kind.is_dir()) {
                (true, _) => format!("more than {MOST_FILES} files"),
                (_, true) => format!("folders more than {DEEPEST} deep"),
                _ => "a link or a device, which an artifact cannot contain".to_owned(),
            };
            return Err(Error::invalid(format!("{}: {why}", entry.path().display())));
        }
    }
    Ok(())
}

/// Whether a path can only lead to a file in a folder, or in folders of that, on any operating
/// system: `.env` and `src/model.py` do. Paths with `..`, absolute paths, and names that are
/// special on some system do not.
pub fn safe_path(path: &str) -> bool {
    path.len() <= LONGEST_PATH
        && path.split('/').count() <= DEEPEST
        && path.split('/').all(safe_name)
}

fn safe_name(name: &str) -> bool {
    const DEVICES: [&str; 22] = [
        "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
        "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
    ];
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with(STAGING)
        && !name.ends_with(['.', ' '])
        && !name.contains(['\\', ':', '*', '?', '"', '<', '>', '|'])
        && !name.chars().any(char::is_control)
        && !DEVICES.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::safe_path;

    #[test]
    fn unsafe_file_names_are_refused() {
        for accepted in [
            "sbom.json",
            "a b",
            "Übersicht.pdf",
            "x.tar.gz",
            "console.log",
            ".env",
            "src/model.py",
            ".github/workflows/ci.yml",
            "a/.b/..c",
        ] {
            assert!(safe_path(accepted), "{accepted}");
        }
        let deep = vec!["a"; 40].join("/");
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "/etc/passwd",
            "a//b",
            "a/",
            "a\\b",
            "C:x",
            "x.",
            "x ",
            "nul",
            "NUL.txt",
            "a/com1.log",
            "a\0b",
            "a\nb",
            ".azimg-staging-0/x",
            &deep,
        ] {
            assert!(!safe_path(bad), "{bad}");
        }
    }
}
