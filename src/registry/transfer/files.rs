//! Files as an artifact: each is a layer, named by an annotation. A name that comes from a registry is
//! a stranger's, and is taken only when it can be nothing but the name of a file.

use super::package::{Blob, Lies, Package, Packed};
use crate::error::{Error, Result};
use crate::format::hex;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The annotation that names a file.
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// What a file is, when nobody says.
const FILE: &str = "application/vnd.oci.image.layer.v1.tar";
const ANY: &str = "application/octet-stream";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";
const LONGEST: usize = 255;

/// Packs files as an artifact of that type.
pub(super) fn pack(paths: &[PathBuf], kind: Option<&str>) -> Result<Package> {
    let mut package = Package::default();
    let mut layers = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !path.is_file() || !safe_name(&name) {
            return Err(Error::invalid(format!("{}: no file that can be pushed", path.display())));
        }
        if names.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
            return Err(Error::invalid(format!("two files have the name {name}")));
        }
        let (digest, size) = digest_of(path)?;
        let is_archive = path.extension().is_some_and(|end| end == "tar");
        let media_type = if is_archive { FILE } else { ANY };
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size,
            "annotations": {TITLE: name}}));
        names.push(name);
        package.add(Blob { digest, size, lies: Lies::In(Arc::new(path.clone()), 0) });
    }
    let config = Blob::here("{}".as_bytes().to_vec());
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "artifactType": kind.unwrap_or(UNKNOWN),
        "config": {"mediaType": EMPTY, "digest": config.digest, "size": config.size},
        "layers": layers});
    package.add(config);
    package.manifests.push(Packed::new(manifest.to_string().into_bytes().into(), IMAGE)?);
    Ok(package)
}

/// A file's digest and size.
pub(super) fn digest_of(path: &Path) -> Result<(String, u64)> {
    let failed = |e| Error::io(path.display(), e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok((format!("sha256:{}", hex(&hash.finalize())), size));
        }
        hash.update(&piece[..count]);
        size += count as u64;
    }
}

/// Whether a name can be nothing but the name of a file in a folder, on any system.
pub fn safe_name(name: &str) -> bool {
    const DEVICES: [&str; 22] = [
        "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
        "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
    ];
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with('.')
        && !name.ends_with(['.', ' '])
        && !name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|'])
        && !name.chars().any(char::is_control)
        && !DEVICES.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::safe_name;

    #[test]
    fn names_that_lead_anywhere_are_no_names() {
        for good in ["sbom.json", "a b", "Übersicht.pdf", "x.tar.gz", "console.log"] {
            assert!(safe_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "C:x",
            ".ssh",
            "x.",
            "x ",
            "nul",
            "NUL.txt",
            "com1.log",
            "a\0b",
            "a\nb",
        ] {
            assert!(!safe_name(bad), "{bad}");
        }
    }
}
