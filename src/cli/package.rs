//! `azimg package`: the deployable function app.

use super::output::Output;
use crate::error::{Error, Result};
use crate::functions::{FUNCTIONS, HOST_JSON};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zip::write::SimpleFileOptions;

/// A larger one takes longer to be fetched and started by each new instance.
const LARGEST: usize = 25 << 20;
/// How to make one that is.
const BUILD: &str = "Build one with: RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile dist \
                     --no-default-features --features otlp --target x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg package                                            into ./azimg-package
  azimg package --binary target/release/azimg --out dist   with another build of azimg")]
pub(super) struct PackageArgs {
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = "azimg-package")]
    out: PathBuf,
    /// The executable to put in [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub(super) fn run(args: &PackageArgs, output: &Output) -> Result<ExitCode> {
    let own = std::env::current_exe().map_err(|e| Error::io("finding this executable", e))?;
    let binary = args.binary.clone().unwrap_or(own);
    let binary = std::fs::read(&binary)
        .map_err(|e| Error::io(format!("reading {}", binary.display()), e))?;
    let doubts = doubts(&binary);
    for doubt in &doubts {
        eprintln!("azimg: this executable is not for Azure: {doubt}. {BUILD}");
    }
    let binary_bytes = binary.len();
    let mut files: Vec<(String, Vec<u8>, u32)> = vec![
        ("azimg".to_owned(), binary, 0o755),
        ("host.json".to_owned(), HOST_JSON.as_bytes().to_vec(), 0o644),
    ];
    for function in &FUNCTIONS {
        let name = format!("{}/function.json", function.name);
        files.push((name, function.json.as_bytes().to_vec(), 0o644));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let app = args.out.join("app");
    if app.exists() {
        std::fs::remove_dir_all(&app)
            .map_err(|e| Error::io(format!("clearing {}", app.display()), e))?;
    }
    for (name, bytes, mode) in &files {
        write(&app.join(name), bytes, *mode)?;
    }
    let archive = args.out.join("azimg.zip");
    let bytes = zip(&files)?;
    write(&archive, &bytes, 0o644)?;
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

/// What speaks against an executable's being deployed: Azure's machines are x86-64 Linux with libraries of
/// their own, and nobody should find a simulated Azure there.
fn doubts(binary: &[u8]) -> Vec<String> {
    let mut doubts = Vec::new();
    match elf(binary) {
        Some(true) => {}
        Some(false) => doubts.push("it needs shared libraries".to_owned()),
        None => doubts.push("it is no program for Linux on x86-64".to_owned()),
    }
    // In two pieces, so that this one is not found.
    let sim = ["/_sim", "stats"].join("/");
    if memchr::memmem::find(binary, sim.as_bytes()).is_some() {
        doubts.push("it has the simulated Azure in it".to_owned());
    }
    if binary.len() > LARGEST {
        doubts.push(format!("it has {} MiB, and starts slowly", binary.len() >> 20));
    }
    doubts
}

/// Whether a program for Linux on x86-64 does without shared libraries; none if it is none (ELF-64: the
/// program headers name an interpreter when it needs any).
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

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let io = |e| Error::io(format!("writing {}", path.display()), e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    std::fs::write(path, bytes).map_err(io)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io)?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    Ok(())
}

/// The zip, the same bytes for the same files: entries in order, no times, the run bit kept.
fn zip(files: &[(String, Vec<u8>, u32)]) -> Result<Vec<u8>> {
    let failed = |e: zip::result::ZipError| Error::bug(format!("writing the zip: {e}"));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes, mode) in files {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(*mode);
        zip.start_file(name.as_str(), options).map_err(failed)?;
        zip.write_all(bytes).map_err(|e| Error::io("writing the zip", e))?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}
