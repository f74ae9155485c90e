//! Python packages from `PyPI`, pinned, in virtual environments in the cache folder.

use super::needs;
use std::path::PathBuf;
use std::process::Command;

/// The Azure CLI, and the SDKs that list from the simulated Azure and from registries.
const AZURE: &[&str] =
    &["azure-cli==2.91.0", "azure-identity==1.27.0", "azure-mgmt-resourcegraph==8.0.1"];

/// The SDKs with the same calls as azimg, at their newest versions. The Azure CLI requires older
/// ones.
const NEWEST: &[&str] = &[
    "azure-identity==1.27.0",
    "azure-mgmt-compute==39.0.0",
    "azure-mgmt-containerregistry==15.0.0",
    "azure-mgmt-resource==26.0.0",
    "azure-mgmt-resource-subscriptions==1.0.0",
    "azure-mgmt-resourcegraph==8.0.1",
];

/// The SDK's client of registries, which requires an older core than the Azure CLI.
const REGISTRY: &[&str] = &["azure-containerregistry==1.2.0"];

/// A client that stores files in registries.
const ORAS: &[&str] = &["oras==0.2.43"];

/// Readers of snapshots and of bills of materials.
const READERS: &[&str] = &[
    "duckdb==2.0.0",
    "pandas==3.1.1",
    "polars==2.1.0",
    "pyarrow==26.0.1",
    "jsonschema[format]==4.26.0",
    "pytz==2026.6",
    "zstandard==0.25.0",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

/// A tester of HTTP APIs by their `OpenAPI` document.
const SCHEMATHESIS: &[&str] = &["schemathesis==4.32.5"];

/// A generator of clients from such a document, with the libraries that these need.
const CLIENTS: &[&str] = &["openapi-python-client==0.29.1"];

/// Parsers of Bicep and `PowerShell`, and a checker of Bicep.
const INFRASTRUCTURE: &[&str] = &[
    "checkov==3.3.30",
    "tree-sitter==0.26.1",
    "tree-sitter-bicep==1.1.0",
    "tree-sitter-powershell==0.26.4",
];

/// Ansible, and readers of YAML, Bicep and `PowerShell`.
const LANGUAGES: &[&str] = &[
    "ansible-core==2.19.14",
    "pyyaml==6.0.4",
    "pycep-parser==0.7.1",
    "tree-sitter==0.26.1",
    "tree-sitter-bicep==1.1.0",
    "tree-sitter-powershell==0.26.4",
];

/// Spark, which is large and needs a Java runtime.
const SPARK: &[&str] = &["pyspark==4.3.0", "setuptools"];

type Folder = Result<PathBuf, String>;

/// The folder of the executables that list from Azure. See [`registry`] for the client of
/// registries.
pub fn azure() -> Folder {
    registry()?;
    newest()?;
    environment("python", AZURE)
}

/// The folder of the newest SDKs' executables.
pub fn newest() -> Folder {
    environment("python-newest", NEWEST)
}

/// The folder of the executables that use registries.
pub fn registry() -> Folder {
    environment("python-registry", REGISTRY)
}

/// The folder of the executables that store files in registries.
pub fn oras() -> Folder {
    environment("python-oras", ORAS)
}

/// The folder of the executables that read the languages of deployments.
pub fn languages() -> Folder {
    environment("python-languages", LANGUAGES)
}

/// The folder of the executables that read and check Bicep.
pub fn infrastructure() -> Folder {
    environment("python-infrastructure", INFRASTRUCTURE)
}

/// The folder of the executables that read azimg's output.
pub fn readers() -> Folder {
    environment("python-readers", READERS)
}

/// The folder of the executables that test an HTTP API with generated requests.
pub fn schemathesis() -> Folder {
    environment("python-schemathesis", SCHEMATHESIS)
}

/// The folder of the executables that generate clients of an HTTP API.
pub fn clients() -> Folder {
    environment("python-clients", CLIENTS)
}

/// The folder of Spark's executables.
pub fn spark() -> Folder {
    let hint = "Spark needs a Java runtime (apt-get install default-jre-headless)";
    needs::step(Command::new("java").arg("-version"), hint)?;
    environment("python-spark", SPARK)
}

fn environment(name: &str, packages: &[&str]) -> Folder {
    let wanted = packages.join(" ");
    let folder = needs::once(name, &wanted, &format!("from PyPI: {wanted}"), |folder| {
        let hint = "it needs Python 3 with venv (apt-get install python3-venv)";
        needs::step(Command::new("python3").args(["-m", "venv"]).arg(folder), hint)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages);
        needs::step(&mut pip, "it needs PyPI")
    })?;
    Ok(folder.join("bin"))
}
