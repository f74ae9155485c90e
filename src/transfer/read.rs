//! Reads what is to be pushed: files, folders in the OCI image layout, archives of images.

use super::archive::{self, Archive};
use super::choice::ImageChoice;
use super::files::{self, Artifact};
use super::package::Package;
use super::read_as::ReadAs;
use super::{layout, saved};
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

impl Package {
    /// Reads a package from `paths`. `wanted` chooses among several images of a layout or an
    /// archive.
    pub fn read(paths: &[PathBuf], read_as: &ReadAs, wanted: &ImageChoice) -> Result<Self> {
        if let ReadAs::Artifact(artifact) = read_as {
            return files::pack(paths, artifact);
        }
        let [path] = paths else {
            return match read_as {
                ReadAs::Guessed => of_files(paths),
                _ => Err(Error::invalid("an image must be one folder or one archive")),
            };
        };
        if path.is_dir() {
            if path.join("oci-layout").is_file() {
                return layout::read(path, read_as, wanted);
            }
            return Err(Error::invalid(format!(
                "{}: not an OCI image layout (a folder that contains 'oci-layout'); --as artifact \
                 pushes its files",
                path.display()
            )));
        }
        if *read_as == ReadAs::Guessed && is_plain_file(path)? {
            return of_files(paths);
        }
        of_archive(path, read_as, wanted)
    }
}

/// Whether a file is certainly a plain file: it is neither an archive nor compressed, and not named
/// like one.
fn is_plain_file(path: &Path) -> Result<bool> {
    let kind = archive::kind(path)?;
    let is_other = matches!(kind, archive::Kind::Empty | archive::Kind::File);
    Ok(is_other && !archive::has_archive_name(path))
}

/// Packs files without an explicit `--as artifact`. Each must certainly be a plain file.
fn of_files(paths: &[PathBuf]) -> Result<Package> {
    for path in paths {
        if path.is_dir() || !is_plain_file(path)? {
            return Err(Error::invalid(format!(
                "{}: this may be an image; {}",
                path.display(),
                archive::HINT
            )));
        }
    }
    let mut package = files::pack(paths, &Artifact::default())?;
    package.notes.push(
        "pushed as an artifact of unknown type, because it is not an image: set the type with \
         --artifact-type"
            .to_owned(),
    );
    Ok(package)
}

/// Reads the chosen image of an archive, or the only one.
///
/// `manifest.json` is used if the index is unusable: `docker save` has written indexes that are
/// empty, that list images without layers (moby#47065), and that list platforms which are missing.
fn of_archive(path: &Path, read_as: &ReadAs, wanted: &ImageChoice) -> Result<Package> {
    let archive = Archive::open(path)?;
    if let (Some(why), true) = (&archive.cut, archive.ends_within) {
        return Err(Error::corrupt(format!("{}: truncated: {why}", path.display())));
    }
    let mut package = if archive.has("oci-layout") && archive.has("index.json") {
        of_index(&archive, read_as, wanted)
    } else if *read_as == ReadAs::Index {
        let text = format!("{}: --as index requires an OCI layout with an index", path.display());
        return Err(Error::invalid(text));
    } else if archive.has("manifest.json") {
        saved::read(&archive, wanted)
    } else {
        return Err(archive.no_image());
    }?;
    package.scratch.extend(archive.scratch);
    Ok(package)
}

/// Reads the image of an archive that has the index of a layout.
fn of_index(archive: &Archive, read_as: &ReadAs, wanted: &ImageChoice) -> Result<Package> {
    let bytes = archive.document("index.json")?;
    let by_index = layout::package(archive, &bytes, read_as, wanted, &archive.at());
    if *read_as == ReadAs::Index || !archive.has("manifest.json") {
        return by_index;
    }
    match by_index {
        Ok(package) if package.elsewhere.is_empty() => saved::compressed(package, wanted),
        // An ambiguous choice is left to the user.
        Err(error) if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            Err(error)
        }
        by_index => saved::in_place_of(archive, wanted).or_else(|error| {
            tracing::debug!(%error, "manifest.json is not usable either");
            by_index
        }),
    }
}
