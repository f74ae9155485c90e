//! What a source is read as.

use super::files::Artifact;

/// What a source is read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAs {
    /// What it is for sure: a folder with `oci-layout` in it, an archive of images, or files that are no archive.
    Guessed,
    /// One image, or one index, of a folder in the OCI image layout or of an archive.
    Image,
    /// All that `index.json` of a layout lists, as one index.
    Index,
    /// Files, as an artifact.
    Artifact(Box<Artifact>),
}
