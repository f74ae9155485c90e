//! Files that azimg generates into a folder, and can generate again: a record beside them has the
//! SHA-256 of each. A file with another name or other bytes is not azimg's.

use super::folder::Folder;
use super::staging::{OwnFolder, Staging};
use super::{Access, Kind, at, foreign, sha256};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// In bytes. The most that is read of a record.
const LONGEST: u64 = 1 << 20;
/// In bytes. The most that is read of a generated file.
const LARGEST: u64 = 1 << 30;
/// The deepest nesting of generated folders.
const DEPTH: u32 = 8;

/// A file to be generated.
#[derive(Debug)]
pub struct File<'a> {
    /// Its name, with `/` between folders.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
    /// Its permissions.
    pub access: Access,
}

/// The record: for each name, the SHA-256 digests of what azimg wrote there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeRecord {
    #[serde(rename = "madeByAzimg")]
    made: BTreeMap<String, BTreeSet<String>>,
}

/// Writes files into a folder, replacing those that an earlier run wrote. A top-level folder is
/// replaced with everything in it. If anything there was not written by azimg, or was changed
/// since, the error names it, and nothing changes. `record` is the name of the record, and `option`
/// the option that names another folder.
pub fn put(path: &Path, record: &str, option: &str, files: &[File<'_>]) -> Result<()> {
    let folder = Folder::make(path, Access::Readable)?;
    let mut known = read(&folder, record, option)?;
    let tops: BTreeSet<&str> = files.iter().map(|file| top(file.name)).collect();
    for name in &tops {
        check(&folder, name, name, &known, option, DEPTH)?;
    }
    let staging = Staging::open(folder.again()?, record, "made")?;
    let own = staging.root().inner("made")?;
    own.clear()?;
    for file in files {
        stage(&own, file)?;
        known.made.entry(file.name.to_owned()).or_default().insert(sha256(file.bytes));
    }
    // The record is written first, so that a run that is killed afterwards leaves files that are
    // known to be azimg's.
    write(&staging, &folder, record, &known)?;
    for name in &tops {
        remove(&folder, name, name, &known, option, DEPTH)?;
        if !own.move_to(name, &folder, name, false)? {
            return Err(foreign(&folder.path(name), Kind::File, option));
        }
    }
    let made = |file: &File<'_>| (file.name.to_owned(), BTreeSet::from([sha256(file.bytes)]));
    known.made.retain(|name, _| !tops.contains(top(name)));
    known.made.extend(files.iter().map(made));
    write(&staging, &folder, record, &known)?;
    staging.remove()
}

/// The first component of a name.
fn top(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn read(folder: &Folder, record: &str, option: &str) -> Result<MadeRecord> {
    let Some(kind) = folder.kind(record)? else { return Ok(MadeRecord::default()) };
    let refused = || foreign(&folder.path(record), kind, option);
    if kind != Kind::File {
        return Err(refused());
    }
    let mut text = Vec::new();
    if let Some(file) = folder.read(record)? {
        file.take(LONGEST).read_to_end(&mut text).map_err(|e| folder.failed(record, e))?;
    }
    serde_json::from_slice(&text).map_err(|_| refused())
}

fn write(staging: &Staging, folder: &Folder, record: &str, known: &MadeRecord) -> Result<()> {
    let text = serde_json::to_vec_pretty(known).map_err(|e| Error::bug(e.to_string()))?;
    staging.root().write(record, &text, Access::Readable)?;
    staging.root().move_to(record, folder, record, true).map(drop)
}

fn stage(own: &OwnFolder, file: &File<'_>) -> Result<()> {
    match file.name.split_once('/') {
        None => own.write_as(file.name, file.bytes, file.access),
        Some((first, rest)) => stage(&own.inner(first)?, &File { name: rest, ..*file }),
    }
}

/// Checks that azimg wrote everything of that name. `own` is the last component of `name`.
fn check(
    folder: &Folder,
    own: &str,
    name: &str,
    known: &MadeRecord,
    option: &str,
    depth: u32,
) -> Result<()> {
    let Some(kind) = folder.kind(own)? else { return Ok(()) };
    match kind {
        Kind::File if is_made(folder, own, name, known)? => Ok(()),
        Kind::Folder if depth > 0 => {
            let Some(inner) = folder.inner(own)? else { return Ok(()) };
            inner.names()?.iter().try_for_each(|below| {
                let Some(below) = below.to_str() else {
                    return Err(foreign(&inner.path(below), kind, option));
                };
                check(&inner, below, &format!("{name}/{below}"), known, option, depth - 1)
            })
        }
        kind => Err(foreign(&folder.path(own), kind, option)),
    }
}

fn is_made(folder: &Folder, own: &str, name: &str, known: &MadeRecord) -> Result<bool> {
    let (Some(digests), Some(file)) = (known.made.get(name), folder.read(own)?) else {
        return Ok(false);
    };
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|e| folder.failed(own, e))?;
    Ok(digests.contains(&sha256(&bytes)))
}

/// Removes what azimg wrote. Each file is checked again.
fn remove(
    folder: &Folder,
    own: &str,
    name: &str,
    known: &MadeRecord,
    option: &str,
    depth: u32,
) -> Result<()> {
    let failed = |e| folder.failed(own, e);
    match folder.kind(own)? {
        None => Ok(()),
        Some(Kind::File) if is_made(folder, own, name, known)? => {
            at::remove_file(&folder.held, OsStr::new(own)).map_err(failed)
        }
        Some(Kind::Folder) if depth > 0 => {
            if let Some(inner) = folder.inner(own)? {
                for below in inner.names()? {
                    let below = below.to_string_lossy();
                    let name = format!("{name}/{below}");
                    remove(&inner, &below, &name, known, option, depth - 1)?;
                }
            }
            at::remove_folder(&folder.held, OsStr::new(own)).map_err(failed)
        }
        Some(kind) => Err(foreign(&folder.path(own), kind, option)),
    }
}
