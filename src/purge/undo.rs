//! Backup of manifests before their deletion, and restoration. A manifest can be restored until the
//! registry has collected its blobs.

use super::target::PurgeTarget;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Access, Folder, Staging};
use crate::registry::Registry;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

const LIST: &str = "exported.ndjson";
const MANIFESTS: &str = "manifests";
/// The beginning of every line of the list.
const BEGINNING: &[u8] = br#"{"loginServer":"#;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    login_server: String,
    repository: String,
    digest: String,
    media_type: String,
    tags: Vec<String>,
}

/// A folder with backups of manifests.
#[derive(Debug)]
pub struct ManifestBackup {
    manifests: Folder,
    list: File,
    path: PathBuf,
    login_server: String,
}

impl ManifestBackup {
    /// Opens the folder for manifests of a registry, or creates it.
    pub fn open(folder: &Path, login_server: &str) -> Result<Self> {
        let folder = Folder::make(folder, Access::Private)?;
        let manifests = folder.make_inner(MANIFESTS, Access::Private)?;
        let path = folder.path(LIST);
        let mut list = files::open_private(&path)?;
        let failed = |e| Error::io(path.display(), e);
        let mut text = Vec::new();
        list.read_to_end(&mut text).map_err(failed)?;
        if !files::has_lines_of(&text, BEGINNING) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} is not a list of exported manifests, and is not changed: use another \
                     folder with --export",
                    path.display()
                ),
            ));
        }
        // A line that was cut off must not merge with the next one.
        if text.last().is_some_and(|byte| *byte != b'\n') {
            list.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { manifests, list, path, login_server: login_server.to_owned() })
    }

    /// Backs up a manifest. It is synced to disk when this returns.
    pub(super) async fn keep(
        &mut self,
        registry: &dyn PurgeTarget,
        repository: &str,
        digest: &str,
        tags: &[String],
    ) -> Result<()> {
        let content = match registry.content(repository, digest).await {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.context("it cannot be exported, so it is not deleted")),
        };
        self.keep_bytes(digest, &content.bytes)?;
        let line = Line {
            login_server: self.login_server.clone(),
            repository: repository.to_owned(),
            digest: digest.to_owned(),
            media_type: content.media_type,
            tags: tags.to_vec(),
        };
        let mut text = serde_json::to_vec(&line).map_err(|e| Error::bug(e.to_string()))?;
        text.push(b'\n');
        let written = self.list.write_all(&text).and_then(|()| self.list.sync_data());
        written.map_err(|e| Error::io(self.path.display(), e))
    }

    /// Writes the bytes of a manifest under its digest, atomically. An existing file is
    /// overwritten, since its bytes may be damaged.
    fn keep_bytes(&self, digest: &str, bytes: &[u8]) -> Result<()> {
        let name = file_name(digest);
        let staging = Staging::open(self.manifests.again()?, &name, digest)?;
        staging.root().write(&name, bytes, Access::Private)?;
        let is_there = self.manifests.kind(&name)?.is_some();
        staging.root().move_to(&name, &self.manifests, &name, is_there)?;
        staging.remove()
    }
}

fn file_name(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

/// Restores the manifests of a folder and their tags, the last deleted first. Returns the number of
/// restored manifests, and those that failed.
pub async fn undo(registry: &Registry, folder: &Path) -> Result<(usize, Vec<(String, Error)>)> {
    let failed = |e| Error::io(folder.join(LIST).display(), e);
    let list = BufReader::new(File::open(folder.join(LIST)).map_err(failed)?);
    let mut lines = Vec::new();
    for line in list.lines() {
        // A line that was cut off is from a crash before the manifest was deleted.
        let Ok(line) = serde_json::from_str::<Line>(&line.map_err(failed)?) else { continue };
        if line.login_server != registry.login_server() {
            return Err(Error::invalid(format!(
                "{} was exported from {}",
                folder.display(),
                line.login_server
            )));
        }
        // A manifest may be backed up several times, but is deleted once.
        lines.retain(|kept: &Line| {
            (&kept.repository, &kept.digest) != (&line.repository, &line.digest)
        });
        lines.push(line);
    }
    let (mut count, mut missing) = (0, Vec::new());
    // Parts were deleted after their indexes, and are restored before them.
    for line in lines.into_iter().rev() {
        let path = folder.join(MANIFESTS).join(file_name(&line.digest));
        let put = async {
            let bytes = std::fs::read(&path).map_err(|e| Error::io(path.display(), e))?;
            let (repository, kind) = (&line.repository, &line.media_type);
            registry.put_back(repository, bytes.into(), kind, &line.digest, &line.tags).await
        };
        match put.await {
            Ok(()) => count += 1,
            Err(error) => missing.push((format!("{}@{}", line.repository, line.digest), error)),
        }
    }
    Ok((count, missing))
}
