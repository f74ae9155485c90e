//! Python packages from `PyPI`, pinned, in a virtual environment in the cache folder.

use super::prepare_once;
use std::path::PathBuf;
use std::process::Command;

/// The Azure SDK and the Azure CLI that list from the simulated Azure, and a Parquet reader.
const PACKAGES: &[&str] = &["azure-cli==2.91.0", "azure-identity==1.27.0", "pyarrow==26.0.1"];

/// The folder of the environment's executables.
pub fn bin() -> PathBuf {
    let stamp = PACKAGES.join(" ");
    let folder = prepare_once("python", &stamp, |folder| {
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
            Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(PACKAGES),
            "pip could not fetch the packages",
        );
    });
    folder.join("bin")
}
