//! Writes the files of an artifact into a folder.

use super::digest::hex;
use super::landing::{Destination, StagedBlobs, has, in_the_way, staged_file};
use crate::error::{Error, Result};
use crate::files::{Access, Folder, Kind, OwnFolder};
use std::path::Path;

/// A file of an artifact: its path within the folder, its digest and its size.
pub(super) type Titled = (String, String, u64);

/// The folder for the files of an artifact.
#[derive(Debug)]
pub(super) struct InFolder {
    destination: Destination,
    overwrite: bool,
}

/// Splits a path into its folders and its file name.
fn parts(path: &str) -> (Vec<&str>, &str) {
    let mut folders: Vec<&str> = path.split('/').collect();
    let name = folders.pop().unwrap_or_default();
    (folders, name)
}

/// Resolves a path: the folder that contains it, its name there and its kind. `None` if nothing has
/// that name. No link is followed, and anything else in place of a folder is an error.
fn found<'a>(folder: &Folder, path: &'a str) -> Result<Option<(Folder, &'a str, Kind)>> {
    let (folders, name) = parts(path);
    let mut folder = folder.again()?;
    for part in folders {
        match folder.inner(part)? {
            Some(inner) => folder = inner,
            None => return Ok(None),
        }
    }
    Ok(folder.kind(name)?.map(|kind| (folder, name, kind)))
}

/// Whether the file exists with these bytes.
fn is_there(folder: &Folder, (path, digest, size): &Titled) -> Result<bool> {
    match found(folder, path)? {
        Some((folder, name, Kind::File)) => has(&folder, name, digest, *size),
        _ => Ok(false),
    }
}

impl InFolder {
    /// Checks that files can be written there.
    pub(super) fn look(path: &Path, overwrite: bool, wanted: &[Titled]) -> Result<Self> {
        let destination = Destination::look(path)?;
        if let Destination::There(folder) = &destination {
            for file in wanted {
                let Some((_, _, kind)) = found(folder, &file.0)? else { continue };
                if !is_there(folder, file)? && (!overwrite || kind == Kind::Folder) {
                    return Err(in_the_way(&folder.path(&file.0), kind));
                }
            }
        }
        Ok(Self { destination, overwrite })
    }

    pub(super) fn stage(&self, digest: &str) -> Result<StagedBlobs> {
        self.destination.stage(digest)
    }

    /// Whether the file exists with its bytes.
    pub(super) fn has(&self, file: &Titled) -> Result<bool> {
        match &self.destination {
            Destination::New { .. } => Ok(false),
            Destination::There(folder) => is_there(folder, file),
        }
    }

    /// Moves the staged files into place.
    pub(super) fn put(self, staged: StagedBlobs, wanted: &[Titled]) -> Result<()> {
        let root = staged.parts().inner("files")?;
        root.clear()?;
        let mut fetched: Vec<&Titled> = Vec::new();
        for file in wanted {
            if !self.has(file)? {
                fetched.push(file);
            }
        }
        for (at, (path, digest, _)) in fetched.iter().enumerate() {
            let (folders, name) = parts(path);
            let mut inner = None;
            for part in folders {
                inner = Some(inner.as_ref().unwrap_or(&root).inner(part)?);
            }
            let named = inner.as_ref().unwrap_or(&root);
            // Several files may share one blob.
            if fetched[at + 1..].iter().any(|other| other.1 == *digest) {
                copy(staged.blobs(), hex(digest), named, name)?;
            } else {
                staged.blobs().rename(hex(digest), named, name)?;
            }
        }
        match &self.destination {
            Destination::New { parent, name } => {
                if !staged.parts().move_to("files", parent, name, false)? {
                    return Err(in_the_way(&parent.path(name), Kind::Folder));
                }
            }
            Destination::There(folder) => {
                for (path, ..) in fetched {
                    self.put_one(&root, folder, path)?;
                }
            }
        }
        staged.remove()
    }

    fn put_one(&self, root: &OwnFolder, folder: &Folder, path: &str) -> Result<()> {
        let (folders, name) = parts(path);
        let (mut from, mut to) = (None, folder.again()?);
        for part in folders {
            from = Some(from.as_ref().unwrap_or(root).inner(part)?);
            to = to.make_inner(part, Access::Readable)?;
        }
        let replaces = to.kind(name)?.is_some() && self.overwrite;
        if from.as_ref().unwrap_or(root).move_to(name, &to, name, replaces)? {
            return Ok(());
        }
        Err(in_the_way(&to.path(name), Kind::File))
    }
}

/// Whether two files cannot be in one folder on every operating system: they have the same name,
/// ignoring case, or one is a folder of the other.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let is_in = |path: &str, folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_in(&one, &other) || is_in(&other, &one)
}

fn copy(from: &OwnFolder, name: &str, to: &OwnFolder, new: &str) -> Result<()> {
    let mut from = staged_file(from, name)?;
    let mut to = to.create_replacing(new, Access::Readable)?;
    let copied = std::io::copy(&mut from, &mut to).and_then(|_| to.sync_data());
    copied.map_err(|e| Error::io(new, e))
}
