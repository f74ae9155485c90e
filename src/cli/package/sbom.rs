//! The bill of materials of a packaged program (`CycloneDX`). It is made from the dependency list
//! embedded in the program, so it describes that program regardless of its builder, and the same
//! program gives the same bytes.

use crate::error::{Error, Result};
use flate2::read::ZlibDecoder;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::Read;

/// Its file name in a package, with the extension defined by `CycloneDX`.
pub(super) const NAME: &str = "azimg.cdx.json";
/// In bytes. A list of 10,000 packages has 2 MiB; a larger one is invalid.
const LARGEST: u64 = 8 << 20;

/// The content of the section `.dep-v0` of a program (`cargo auditable`), with the additions of
/// `build.rs`.
#[derive(Deserialize)]
struct List {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: String,
    /// `build` for a package used only at build time.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    dependencies: Vec<usize>,
    #[serde(default)]
    root: bool,
    license: Option<String>,
    checksum: Option<String>,
}

impl Package {
    /// The package URL, by which vulnerability databases are searched.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }

    fn component(&self, kind: &str, hash: Option<&str>) -> Value {
        let mut component = json!({
            "type": kind,
            "bom-ref": self.purl(),
            "name": self.name,
            "version": self.version,
        });
        if kind == "library" {
            component["scope"] = if self.kind == "build" { "excluded" } else { "required" }.into();
        }
        if let Some(hash) = hash {
            component["hashes"] = json!([{"alg": "SHA-256", "content": hash}]);
        }
        if let Some(license) = &self.license {
            component["licenses"] = json!([{"expression": license}]);
        }
        if self.source == "crates.io" || self.root {
            component["purl"] = self.purl().into();
        }
        component
    }
}

/// The bill of materials of a program. `None` if the program does not list its dependencies.
pub(super) fn bill(program: &[u8]) -> Result<Option<Vec<u8>>> {
    let Ok(packed) = auditable_extract::raw_auditable_data(program) else { return Ok(None) };
    let damaged =
        |why: String| Error::invalid(format!("the list of dependencies in this executable: {why}"));
    let mut text = Vec::new();
    ZlibDecoder::new(packed)
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|e| damaged(format!("cannot be unpacked: {e}")))?;
    let list: List = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    let packages = &list.packages;
    let is_whole = |package: &Package| package.dependencies.iter().all(|at| *at < packages.len());
    let roots: Vec<&Package> = packages.iter().filter(|package| package.root).collect();
    let [root] = roots[..] else {
        return Err(damaged(format!(
            "{} packages are marked as the program, instead of one",
            roots.len()
        )));
    };
    if !packages.iter().all(is_whole) {
        return Err(damaged("a package depends on one that is not listed".to_owned()));
    }
    let digest = hex(&Sha256::digest(program));
    let mut parts: Vec<&Package> = packages.iter().filter(|package| !package.root).collect();
    parts.sort_by_key(|package| (&package.name, &package.version));
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&digest),
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": root.component("application", Some(&digest)),
        },
        "components": parts
            .iter()
            .map(|package| package.component("library", package.checksum.as_deref()))
            .collect::<Vec<_>>(),
        "dependencies": packages.iter().map(|package| needs(package, packages)).collect::<Vec<_>>(),
    });
    let mut bytes = serde_json::to_vec_pretty(&bill)
        .map_err(|e| Error::bug("writing the bill of materials").with_source(e))?;
    bytes.push(b'\n');
    Ok(Some(bytes))
}

fn needs(package: &Package, packages: &[Package]) -> Value {
    let mut on: Vec<String> =
        package.dependencies.iter().filter_map(|at| Some(packages.get(*at)?.purl())).collect();
    on.sort_unstable();
    on.dedup();
    json!({"ref": package.purl(), "dependsOn": on})
}

/// A serial number derived from the program's SHA-256: a UUID of version 8, the version for custom
/// derivations.
fn serial(digest: &str) -> String {
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    let (time, low, mid) = (part(0, 8), part(8, 12), part(13, 16));
    format!("urn:uuid:{time}-{low}-8{mid}-a{}-{}", part(17, 20), part(20, 32))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
