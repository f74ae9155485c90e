//! Writes archives of a layout, which `docker load` reads, too.

use serde_json::{Value, json};
use std::fs::File;
use std::io;

/// An archive that is being written.
pub(super) struct Writer(tar::Builder<io::BufWriter<File>>);

impl Writer {
    /// Begins an archive. `image` is the manifest of one image, which `docker load` tags with
    /// `names`.
    pub(super) fn begin(to: File, names: &[String], image: Option<&Value>) -> io::Result<Self> {
        let mut archive = tar::Builder::new(io::BufWriter::new(to));
        archive.mode(tar::HeaderMode::Deterministic);
        if let Some(document) = image {
            let at = |blob: &Value| {
                let digest = blob["digest"].as_str().unwrap_or_default();
                format!("blobs/{}", digest.replacen(':', "/", 1))
            };
            let layers: Vec<String> =
                document["layers"].as_array().into_iter().flatten().map(at).collect();
            let names = if names.is_empty() { Value::Null } else { json!(names) };
            let saved =
                json!([{"Config": at(&document["config"]), "RepoTags": names, "Layers": layers}]);
            let bytes = saved.to_string().into_bytes();
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, "manifest.json", bytes.as_slice())?;
        }
        Ok(Self(archive))
    }

    /// Adds a file under a name.
    pub(super) fn add(&mut self, name: &str, file: &mut File) -> io::Result<()> {
        self.0.append_file(name, file)
    }

    /// Ends the archive.
    pub(super) fn end(self) -> io::Result<File> {
        self.0.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
