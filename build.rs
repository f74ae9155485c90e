//! Puts into the program what it was built of, in the form of `cargo auditable`: the section `.dep-v0`, which holds
//! JSON in a zlib stream. Auditors read it (`cargo audit bin`, Trivy, Syft, Grype), and `azimg package` makes the bill of
//! materials of it, so each package also has its licence and the checksum of its archive: members that the form's
//! readers pass over.
//!
//! A section of one's own takes `unsafe` in Rust, which this project forbids: it comes from an object file that the C
//! compiler makes, which other crates need anyway. Only ELF has it, as Azure does; other programs go without.
//!
//! And it has the relocations of a static program packed.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script all by its environment")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What keeps the section in a program though nobody refers to it, by the name that `cargo auditable` gives it.
const SYMBOL: &str = "AUDITABLE_VERSION_INFO";
/// Whoever has a problem with the list builds without it; `azimg package` says that it is missing.
const WITHOUT: &str = "the program does not say what it was built of";

/// A package by its name and its version.
type Id = (String, String);

/// What is known of a package.
#[derive(Default)]
struct Package {
    licence: String,
    /// `crates.io`, `local`, `git` or `registry`.
    source: &'static str,
    needs: BTreeSet<Id>,
}

fn main() -> Result<()> {
    for file in ["build.rs", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={file}");
    }
    pack_relocations();
    let is_elf = set("CARGO_CFG_UNIX") && env::var("CARGO_CFG_TARGET_VENDOR")? != "apple";
    if !is_elf {
        return Ok(());
    }
    match list() {
        Ok(list) => embed(&list),
        Err(error) => {
            println!("cargo::warning={WITHOUT}: {error}");
            Ok(())
        }
    }
}

/// The addresses that a static program corrects in itself when it starts are a twentieth of it; packed they are nearly
/// nothing. The C library that is linked into it must know that form: glibc does since 2.36.
fn pack_relocations() {
    let is_static =
        env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.contains("crt-static"));
    let is_glibc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|name| name == "gnu");
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|name| name == "linux");
    if is_static && is_glibc && is_linux && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, which is what is linked; none where that is not known.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("ldd").arg("--version").output().ok()?.stdout;
    let line = String::from_utf8(told).ok()?.lines().next()?.to_owned();
    let (major, minor) = line.rsplit(' ').next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn set(name: &str) -> bool {
    env::var_os(name).is_some()
}

/// The JSON of what the program is built of.
fn list() -> Result<String> {
    // What is built by packages of macros runs in the compiler, and is not in the program.
    let (root, inside) = tree("normal,no-proc-macro")?;
    let (_, all) = tree("normal,build")?;
    let checksums = checksums(&std::fs::read_to_string("Cargo.lock")?);
    let places: BTreeMap<&Id, usize> = all.keys().enumerate().map(|(at, id)| (id, at)).collect();
    let mut packages = Vec::new();
    for (id, package) in &all {
        let (name, version) = (quoted(&id.0)?, quoted(&id.1)?);
        let mut json =
            format!("{{\"name\":{name},\"version\":{version},\"source\":\"{}\"", package.source);
        if !inside.contains_key(id) {
            json += ",\"kind\":\"build\"";
        }
        let needs: Vec<String> = package.needs.iter().map(|id| places[id].to_string()).collect();
        if !needs.is_empty() {
            write!(json, ",\"dependencies\":[{}]", needs.join(","))?;
        }
        if *id == root {
            json += ",\"root\":true";
        }
        if !package.licence.is_empty() {
            write!(json, ",\"license\":{}", quoted(&package.licence)?)?;
        }
        if let Some(checksum) = checksums.get(id) {
            write!(json, ",\"checksum\":{}", quoted(checksum)?)?;
        }
        packages.push(json + "}");
    }
    Ok(format!("{{\"packages\":[{}]}}", packages.join(",")))
}

/// The packages along such edges from azimg with the features and for the target of this build, with azimg's own
/// name in front. Cargo tells it itself: nothing else knows how it chooses features.
fn tree(edges: &str) -> Result<(Id, BTreeMap<Id, Package>)> {
    let text = match cargo(edges, &["--offline"]) {
        Ok(text) => text,
        // What was never fetched may still be had.
        Err(_) => cargo(edges, &[])?,
    };
    let mut packages: BTreeMap<Id, Package> = BTreeMap::new();
    // The way from the root to the line before.
    let mut way: Vec<Id> = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.trim_end_matches(" (*)").splitn(3, '|').collect();
        let [depth, package, licence] = parts[..] else {
            return Err(format!("cargo tree said '{line}'").into());
        };
        let mut words = package.splitn(3, ' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let version = version.trim_start_matches('v');
        let id = (name.to_owned(), version.to_owned());
        way.truncate(depth.parse()?);
        if let Some(above) = way.last() {
            packages.entry(above.clone()).or_default().needs.insert(id.clone());
        }
        let known = packages.entry(id.clone()).or_default();
        known.source = source(words.next().unwrap_or_default());
        known.licence = licence.replace(" / ", " OR ").replace('/', " OR ");
        way.push(id);
    }
    let root = way.into_iter().next().ok_or("cargo tree said nothing")?;
    Ok((root, packages))
}

/// Where a package comes from, by what cargo says behind its version.
fn source(told: &str) -> &'static str {
    let told = told.trim_start_matches("(proc-macro)").trim();
    match told {
        "" => "crates.io",
        _ if told.starts_with("(registry") => "registry",
        _ if told.contains("://") => "git",
        _ => "local",
    }
}

/// Runs `cargo tree`.
fn cargo(edges: &str, more: &[&str]) -> Result<String> {
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .collect();
    let mut tree = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    tree.args(["tree", "--locked", "--quiet", "--prefix", "depth", "--format", "|{p}|{l}"])
        .args(["--edges", edges, "--target", &env::var("TARGET")?])
        .args(["--no-default-features", "--features", &features.join(",")])
        .args(more);
    let output = tree.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("cargo tree: {}", said.split_whitespace().collect::<Vec<_>>().join(" ")).into())
}

/// The SHA-256 of each package's archive, of `Cargo.lock`.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let member = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    let known = packages.filter_map(|package| {
        let id = (member(package, "name")?, member(package, "version")?);
        Some((id, member(package, "checksum")?))
    });
    known.collect()
}

/// A text as JSON. Names, versions and licences are plain: anything else is no reason to write something wrong.
fn quoted(text: &str) -> Result<String> {
    let is_plain =
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    if is_plain { Ok(format!("\"{text}\"")) } else { Err(format!("'{text}' is no name").into()) }
}

/// Links the list into the program, to stay though it is stripped and what nobody refers to goes.
fn embed(list: &str) -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(list.as_bytes(), 9);
    let mut code =
        format!("__attribute__((section(\".dep-v0\"), used))\nconst unsigned char {SYMBOL}[] = {{");
    for byte in packed {
        write!(code, "{byte},")?;
    }
    code += "};\n";
    write_changed(&out.join("dependencies.c"), &code)?;
    let objects = cc::Build::new()
        .cargo_metadata(false)
        .debug(false)
        .out_dir(&out)
        .file(out.join("dependencies.c"))
        .try_compile_intermediates()?;
    for object in objects {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
    println!("cargo::rustc-link-arg-bins=-Wl,--undefined={SYMBOL}");
    Ok(())
}

fn write_changed(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Ok(std::fs::write(path, text)?)
}
