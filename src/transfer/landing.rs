//! Destinations of a pull. The destination is checked before anything is fetched. What is fetched
//! is staged in a folder beside it, or in it if it is an existing folder, and is moved into place
//! when complete.
//!
//! Invariant: only what the image's manifests refer to is moved into place, and nothing else from
//! the staging folder.

use super::digest::{digest_of_file, hex};
use super::index::{self, index_of, index_with};
use super::layout::VERSION;
use super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Access, Folder, Kind, OwnFolder, Staging};
use crate::registry::Content;
use crate::registry::sha256;
use bytes::Bytes;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;

const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
const ARCHIVE: &str = "archive.tar";

/// A staging folder with the present parts of an image: complete blobs under their own names, and
/// others with the suffix `.part`.
#[derive(Debug)]
pub(super) struct StagedBlobs {
    staging: Staging,
    image: OwnFolder,
    blobs: OwnFolder,
}

impl StagedBlobs {
    fn open(parent: Folder, target: &OsStr, digest: &str) -> Result<Self> {
        let staging = Staging::open(parent, target, digest)?;
        let image = staging.root().inner("image")?;
        let blobs = image.inner("blobs")?.inner("sha256")?;
        Ok(Self { staging, image, blobs })
    }

    /// The folder of incomplete blobs.
    pub(super) fn parts(&self) -> &OwnFolder {
        self.staging.root()
    }

    /// The folder of complete blobs.
    pub(super) fn blobs(&self) -> &OwnFolder {
        &self.blobs
    }

    /// Removes the staging folder, after its content was moved into place.
    pub(super) fn remove(self) -> Result<()> {
        self.staging.remove()
    }

    fn write_manifests(&self, image: &Image) -> Result<()> {
        image
            .manifests
            .iter()
            .try_for_each(|(name, bytes)| self.blobs.write(name, bytes, Access::Readable))
    }

    fn write_index(&self, before: Option<Value>, image: &Image) -> Result<()> {
        let text = index_with(before, image.entry.clone()).to_string();
        if text.len() as u64 > index::LARGEST {
            let most = index::LARGEST >> 20;
            let text =
                format!("the {INDEX} of the layout would exceed {most} MiB: use another layout");
            return Err(Error::invalid(text));
        }
        self.image.write(LAYOUT, VERSION.as_bytes(), Access::Readable)?;
        self.image.write(INDEX, text.as_bytes(), Access::Readable)
    }
}

/// An image to be moved into place.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The digest of the root manifest.
    pub(super) digest: String,
    /// The manifests by their names in a layout, the innermost first.
    pub(super) manifests: Vec<(String, Bytes)>,
    /// The names of the other blobs.
    pub(super) blobs: Vec<String>,
    /// The entry in the index of a layout.
    pub(super) entry: Value,
}

impl Image {
    pub(super) fn of(manifests: &[Content], blobs: Vec<String>, entry: Value) -> Self {
        let digest = manifests.first().map(|first| first.digest.clone()).unwrap_or_default();
        let manifests = manifests.iter().rev();
        let manifests = manifests.map(|one| (hex(&one.digest).to_owned(), one.bytes.clone()));
        Self { digest, manifests: manifests.collect(), blobs, entry }
    }
}

/// The folder that an image or files are written to.
#[derive(Debug)]
pub(super) enum Destination {
    /// It does not exist, and is created from the staging folder.
    New { parent: Folder, name: OsString },
    /// It exists.
    There(Folder),
}

impl Destination {
    pub(super) fn look(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(path.display(), e);
        match (std::fs::symlink_metadata(path), path.file_name()) {
            (Ok(_), _) => Folder::open(path).map(Self::There),
            (Err(error), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = Folder::make(parent(path), Access::Readable)?;
                Ok(Self::New { parent, name: name.to_owned() })
            }
            (Err(error), _) => Err(failed(error)),
        }
    }

    pub(super) fn stage(&self, digest: &str) -> Result<StagedBlobs> {
        match self {
            Self::New { parent, name } => StagedBlobs::open(parent.again()?, name, digest),
            Self::There(folder) => StagedBlobs::open(folder.again()?, OsStr::new("."), digest),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file in a folder has these bytes.
pub(super) fn has(folder: &Folder, name: &str, digest: &str, size: u64) -> Result<bool> {
    if folder.kind(name)? != Some(Kind::File) {
        return Ok(false);
    }
    let Some(file) = folder.read(name)? else { return Ok(false) };
    let found = digest_of_file(file).map_err(|e| Error::io(folder.path(name).display(), e))?;
    Ok(found == (digest.to_owned(), size))
}

/// The error for an existing file or folder that must not be replaced.
pub(super) fn in_the_way(path: &Path, kind: Kind) -> Error {
    let text = match kind {
        Kind::Folder => {
            format!("{} is a folder: move it away, or pull to another path", path.display())
        }
        _ => format!(
            "{} already exists and is not replaced: replace it with --overwrite, or pull to \
             another path",
            path.display()
        ),
    };
    Error::new(ErrorKind::Conflict, text)
}

/// A layout that an image is added to, or that is created for it.
#[derive(Debug)]
pub(super) struct InLayout {
    destination: Destination,
    /// The blobs of an existing layout.
    blobs: Option<Folder>,
    is_layout: bool,
}

impl InLayout {
    /// Checks that an image can be written there.
    pub(super) fn look(path: &Path) -> Result<Self> {
        let destination = Destination::look(path)?;
        let Destination::There(folder) = &destination else {
            return Ok(Self { destination, blobs: None, is_layout: false });
        };
        let is_layout = index_of(folder)?.is_layout;
        let blobs =
            folder.inner("blobs")?.map(|blobs| blobs.inner("sha256")).transpose()?.flatten();
        Ok(Self { destination, blobs, is_layout })
    }

    pub(super) fn stage(&self, image: &Image) -> Result<StagedBlobs> {
        self.destination.stage(&image.digest)
    }

    /// Whether the layout has a blob.
    pub(super) fn has(&self, digest: &str, size: u64) -> Result<bool> {
        self.blobs.as_ref().map_or(Ok(false), |blobs| has(blobs, hex(digest), digest, size))
    }

    /// Moves an image into place. Its entry in the index is written last.
    pub(super) fn put(self, staged: StagedBlobs, image: &Image) -> Result<()> {
        match &self.destination {
            Destination::New { parent, name } => {
                staged.write_manifests(image)?;
                staged.write_index(None, image)?;
                if !staged.staging.root().move_to("image", parent, name, false)? {
                    // It was created concurrently: the image is added to it, if it is a layout.
                    let Some(Kind::Folder) = parent.kind(name)? else {
                        return Err(in_the_way(&parent.path(name), Kind::File));
                    };
                    let there = parent.inner(name)?;
                    let there =
                        there.ok_or_else(|| in_the_way(&parent.path(name), Kind::Folder))?;
                    if !index_of(&there)?.is_layout {
                        return Err(in_the_way(&parent.path(name), Kind::Folder));
                    }
                    add(&there, &staged, image, true)?;
                }
            }
            Destination::There(folder) => add(folder, &staged, image, self.is_layout)?,
        }
        staged.staging.remove()
    }
}

/// Adds an image to an existing folder. `is_layout` says whether it is already a layout.
fn add(folder: &Folder, staged: &StagedBlobs, image: &Image, is_layout: bool) -> Result<()> {
    let blobs = folder.make_inner("blobs", Access::Readable)?;
    let blobs = blobs.make_inner("sha256", Access::Readable)?;
    // Innermost first: nothing refers to what is missing.
    for name in &image.blobs {
        // A blob that was present with the right bytes was not staged.
        if staged.blobs.folder().kind(name)?.is_some() {
            add_blob(&blobs, staged, name, is_layout)?;
        }
    }
    for (name, bytes) in &image.manifests {
        if !has(&blobs, name, &sha256(bytes), bytes.len() as u64)? {
            staged.blobs.write(name, bytes, Access::Readable)?;
            add_blob(&blobs, staged, name, is_layout)?;
        }
    }
    staged.image.write(LAYOUT, VERSION.as_bytes(), Access::Readable)?;
    staged.image.move_to(LAYOUT, folder, LAYOUT, false)?;
    // From here on under the lock, so that concurrent additions are not lost.
    let _turn = turn(folder)?;
    let before = index_of(folder)?;
    let replaces = before.index.is_some();
    staged.write_index(before.index, image)?;
    if staged.image.move_to(INDEX, folder, INDEX, replaces)? {
        return Ok(());
    }
    Err(in_the_way(&folder.path(INDEX), Kind::File))
}

/// Locks the index of a layout until the returned file is dropped. The lock is on `oci-layout`,
/// which is never replaced. On a file system without locks there is no lock.
fn turn(folder: &Folder) -> Result<Option<File>> {
    let Some(file) = folder.read(LAYOUT)? else { return Ok(None) };
    match file.lock() {
        Ok(()) => Ok(Some(file)),
        Err(error) => {
            tracing::debug!(%error, "the layout's file system does not support locks");
            Ok(None)
        }
    }
}

/// Adds a blob to a layout. One that is present there with other bytes than its name says is
/// damaged, and is replaced.
fn add_blob(blobs: &Folder, staged: &StagedBlobs, name: &str, is_layout: bool) -> Result<()> {
    if staged.blobs.move_to(name, blobs, name, is_layout)? {
        return Ok(());
    }
    // The same blob may have been added concurrently.
    let staged = staged.blobs.folder().read(name)?.map(digest_of_file).transpose();
    let (digest, size) =
        staged.map_err(|e| Error::io(blobs.path(name).display(), e))?.unwrap_or_default();
    if has(blobs, name, &digest, size)? {
        return Ok(());
    }
    Err(in_the_way(&blobs.path(name), Kind::File))
}

/// An archive that an image is written to.
#[derive(Debug)]
pub(super) struct InArchive {
    folder: Folder,
    name: OsString,
    replaces: bool,
}

impl InArchive {
    pub(super) fn look(path: &Path, overwrite: bool) -> Result<Self> {
        let name = path.file_name();
        let name =
            name.ok_or_else(|| Error::invalid(format!("{}: not a file name", path.display())))?;
        let folder = Folder::make(parent(path), Access::Readable)?;
        match folder.kind(name)? {
            Some(kind) if !overwrite || kind == Kind::Folder => Err(in_the_way(path, kind)),
            there => Ok(Self { folder, name: name.to_owned(), replaces: there.is_some() }),
        }
    }

    pub(super) fn stage(&self, image: &Image) -> Result<StagedBlobs> {
        StagedBlobs::open(self.folder.again()?, &self.name, &image.digest)
    }

    /// Writes the archive and moves it into place. `names` and `document` are for `docker load`.
    pub(super) fn put(
        self,
        staged: StagedBlobs,
        image: &Image,
        names: &[String],
        document: Option<&Value>,
    ) -> Result<()> {
        staged.write_manifests(image)?;
        staged.write_index(None, image)?;
        let manifests = image.manifests.iter().map(|(name, _)| name);
        let mut blobs: Vec<&String> = manifests.chain(&image.blobs).collect();
        blobs.sort();
        blobs.dedup();
        let file = staged.parts().create_replacing(ARCHIVE, Access::Readable)?;
        let failed = |e| Error::io(self.folder.path(&self.name).display(), e);
        let mut archive = Writer::begin(file, names, document).map_err(failed)?;
        for name in [LAYOUT, INDEX] {
            archive.add(name, &mut staged_file(&staged.image, name)?).map_err(failed)?;
        }
        for name in blobs {
            let mut blob = staged_file(&staged.blobs, name)?;
            archive.add(&format!("blobs/sha256/{name}"), &mut blob).map_err(failed)?;
        }
        archive.end().and_then(|file| file.sync_data()).map_err(failed)?;
        let Self { folder, name, replaces } = &self;
        if !staged.parts().move_to(ARCHIVE, folder, name, *replaces)? {
            return Err(in_the_way(&folder.path(name), Kind::File));
        }
        staged.staging.remove()
    }
}

/// Opens a staged file.
pub(super) fn staged_file(from: &OwnFolder, name: &str) -> Result<File> {
    from.folder().read(name)?.ok_or_else(|| Error::bug(format!("{name} was not staged")))
}
