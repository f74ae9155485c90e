//! How a source is read.

use super::files::Artifact;

/// How a source is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAs {
    /// Detected, if the kind is certain: a folder with `oci-layout` in it, an archive of images, or
    /// files that are no archive.
    Guessed,
    /// One image or one index, from a folder in the OCI image layout or from an archive.
    Image,
    /// Everything that `index.json` of a layout lists, as one index.
    Index,
    /// Files, as an artifact.
    Artifact(Box<Artifact>),
}
