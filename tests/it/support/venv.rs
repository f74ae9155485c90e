//! Python packages from `PyPI`, pinned, in virtual environments in the cache folder.

use super::prepare_once;
use std::path::PathBuf;
use std::process::Command;

/// The Azure SDK and the Azure CLI, which list from the simulated Azure.
const AZURE: &[&str] =
    &["azure-cli==2.91.0", "azure-identity==1.27.0", "azure-mgmt-resourcegraph==8.0.1"];

/// What reads a snapshot, and what tests HTTP APIs by their `OpenAPI` document.
const READERS: &[&str] = &[
    "duckdb==2.0.0",
    "pandas==3.1.1",
    "polars==2.1.0",
    "pyarrow==26.0.1",
    "schemathesis==4.32.5",
    "jsonschema[format]==4.26.0",
    "pytz==2026.6",
    "zstandard==0.25.0",
];

/// The SDK's client of registries.
const REGISTRY: &[&str] = &["azure-containerregistry==1.2.0"];

/// What reads and checks Bicep.
const INFRASTRUCTURE: &[&str] =
    &["checkov==3.3.30", "tree-sitter==0.26.1", "tree-sitter-bicep==1.1.0"];

/// Spark, which is large and needs a Java runtime.
const SPARK: &[&str] = &["pyspark==4.3.0", "setuptools"];

/// The folder of the executables that list from Azure.
pub fn azure() -> PathBuf {
    environment("python", AZURE)
}

/// The folder of the executables that speak to registries.
pub fn registry() -> PathBuf {
    environment("python-registry", REGISTRY)
}

/// The folder of the executables that read and check Bicep.
pub fn infrastructure() -> PathBuf {
    environment("python-infrastructure", INFRASTRUCTURE)
}

/// The folder of the executables that read what azimg wrote.
pub fn readers() -> PathBuf {
    environment("python-readers", READERS)
}

/// The folder of the executables of Spark, where there is a Java runtime.
pub fn spark() -> Option<PathBuf> {
    let java = Command::new("java").arg("-version").output();
    java.is_ok_and(|java| java.status.success()).then(|| environment("python-spark", SPARK))
}

fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let folder = prepare_once(name, &packages.join(" "), |folder| {
        let run = |command: &mut Command, what: &str| {
            let output = command.output().unwrap_or_else(|e| panic!("{what}: {e}"));
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{what}: {text}");
        };
        run(
            Command::new("python3").args(["-m", "venv"]).arg(folder),
            "these tests need Python 3 with venv (apt-get install python3-venv)",
        );
        run(
            Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(packages),
            "pip could not fetch the packages",
        );
    });
    folder.join("bin")
}
