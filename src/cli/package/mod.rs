//! `azimg package`: the deployable function app.

mod levels;
mod sbom;

use super::output::Output;
use crate::config::SignIn;
use crate::error::{Error, Result};
use crate::files::{self, Access, MadeFile};
use crate::functions::{FUNCTIONS, HOST_JSON};
use crate::sink::say;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use zip::write::SimpleFileOptions;

/// In bytes. A larger executable is slow to fetch and start on each new instance.
const LARGEST: usize = 25 << 20;
/// The app's folder, its archive, and the record of what azimg wrote to them.
const APP: &str = "app";
const ARCHIVE: &str = "azimg.zip";
const RECORD: &str = ".azimg-package";
/// How to build a suitable executable.
const BUILD: &str = "Build one with: RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile dist \
                     --no-default-features --features otlp --target x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg package                                            into ./azimg-package
  azimg package --binary target/release/azimg --out dist   with another build of azimg
  azimg package --sign-in entra                            lookups without a key, behind Entra ID

The folder app and the file azimg.zip in DIR are written anew. If they exist and azimg did not write them, or if they
were changed since, nothing is written. .azimg-package in DIR lists what azimg wrote.")]
pub(super) struct PackageArgs {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "azimg-package")]
    out: PathBuf,
    /// Executable to package [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How callers authenticate: with a function key, or with Entra ID in front of the app
    ///
    /// With Entra ID, lookups need no key.
    #[arg(long, value_enum, default_value_t)]
    sign_in: SignIn,
}

pub(super) fn run(args: &PackageArgs, output: &Output) -> Result<ExitCode> {
    let own = std::env::current_exe().map_err(|e| Error::io("finding this executable", e))?;
    let binary = args.binary.clone().unwrap_or(own);
    let binary = std::fs::read(&binary)
        .map_err(|e| Error::io(format!("reading {}", binary.display()), e))?;
    let mut doubts = doubts(&binary);
    let bill = sbom::bill(&binary)?;
    if bill.is_none() {
        doubts.push(
            "it does not list its dependencies, so the package has no bill of materials".to_owned(),
        );
    }
    for doubt in &doubts {
        say!("azimg: this executable is not suitable for Azure: {doubt}");
    }
    if !doubts.is_empty() {
        say!("{BUILD}");
    }
    let binary_bytes = binary.len();
    let mut files: Vec<(String, Vec<u8>, Access)> = vec![
        ("azimg".to_owned(), binary, Access::Program),
        ("host.json".to_owned(), HOST_JSON.as_bytes().to_vec(), Access::Readable),
    ];
    for function in &FUNCTIONS {
        let name = format!("{}/function.json", function.name);
        let declared = levels::declaration(function, args.sign_in)?;
        files.push((name, declared.into_bytes(), Access::Readable));
    }
    files.extend(bill.map(|bill| (sbom::NAME.to_owned(), bill, Access::Readable)));
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes = zip(&files)?;
    let app = args.out.join(APP);
    let archive = args.out.join(ARCHIVE);
    let named: Vec<(String, &[u8], Access)> = files
        .iter()
        .map(|(name, bytes, access)| (format!("{APP}/{name}"), &bytes[..], *access))
        .collect();
    let mut made: Vec<MadeFile<'_>> = named
        .iter()
        .map(|(name, bytes, access)| MadeFile { name, bytes, access: *access })
        .collect();
    made.push(MadeFile { name: ARCHIVE, bytes: &bytes, access: Access::Readable });
    files::put_made(&args.out, RECORD, "--out", &made)?;
    output.one(json!({
        "app": app.display().to_string(),
        "zip": archive.display().to_string(),
        "zipBytes": bytes.len(),
        "binaryBytes": binary_bytes,
        "doubts": doubts,
        "files": files.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Reasons not to deploy an executable: Azure's machines run x86-64 Linux with shared libraries of
/// their own, and the simulated Azure must not be deployed.
fn doubts(binary: &[u8]) -> Vec<String> {
    let mut doubts = Vec::new();
    match elf(binary) {
        Some(true) => {}
        Some(false) => doubts.push("it needs shared libraries".to_owned()),
        None => doubts.push("it is not a program for Linux on x86-64".to_owned()),
    }
    // In two pieces, so that this function does not match itself.
    let sim = ["/_sim", "stats"].join("/");
    if memchr::memmem::find(binary, sim.as_bytes()).is_some() {
        doubts.push("it contains the simulated Azure".to_owned());
    }
    if binary.len() > LARGEST {
        doubts.push(format!("it has {} MiB and starts slowly", binary.len() >> 20));
    }
    doubts
}

/// Whether an executable for Linux on x86-64 needs no shared libraries. `None` if it is not such an
/// executable (ELF-64: the program headers name an interpreter if it needs any).
fn elf(binary: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    const X86_64: u16 = 62;
    let half = |at: usize| Some(u16::from_le_bytes(binary.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(binary.get(at..at + 4)?.try_into().ok()?));
    if !binary.starts_with(b"\x7fELF\x02\x01") || half(18)? != X86_64 {
        return None;
    }
    let headers = u64::from_le_bytes(binary.get(32..40)?.try_into().ok()?);
    let (headers, size, count) = (usize::try_from(headers).ok()?, half(54)?, half(56)?);
    let mut kinds = (0..usize::from(count)).map(|at| word(headers + at * usize::from(size)));
    Some(!kinds.any(|kind| kind == Some(INTERPRETER)))
}

/// Builds the zip. The same files give the same bytes: entries in order, no timestamps, permissions
/// kept.
fn zip(files: &[(String, Vec<u8>, Access)]) -> Result<Vec<u8>> {
    let failed = |e: zip::result::ZipError| Error::bug(format!("writing the zip: {e}"));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes, access) in files {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(access.of_file().into());
        zip.start_file(name.as_str(), options).map_err(failed)?;
        zip.write_all(bytes).map_err(|e| Error::io("writing the zip", e))?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}
