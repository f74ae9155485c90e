//! Manifests that are kept before they go, and put back: within reach as long as the registry has not
//! thrown their blobs away.

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
/// What every line of the list begins with.
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

/// A folder that manifests are kept in.
#[derive(Debug)]
pub struct ManifestBackup {
    manifests: Folder,
    list: File,
    path: PathBuf,
    login_server: String,
}

impl ManifestBackup {
    /// Opens a folder for manifests of a registry, or makes it.
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
                    "{} is no list of exported manifests, and nothing is written into it: name another \
                     folder with --export",
                    path.display()
                ),
            ));
        }
        // The next line must not become the end of one that was cut.
        if text.last().is_some_and(|byte| *byte != b'\n') {
            list.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { manifests, list, path, login_server: login_server.to_owned() })
    }

    /// Keeps a manifest; it is on the disk when this returns.
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
            Err(error) => return Err(error.context("it cannot be exported, and is not deleted")),
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

    /// Keeps a manifest's bytes under its digest, whole or not at all; what is there with other bytes is damaged.
    fn keep_bytes(&self, digest: &str, bytes: &[u8]) -> Result<()> {
        let name = file_name(digest);
        let staging = Staging::open(self.manifests.again()?, &name, digest)?;
        staging.root().write(&name, bytes, Access::Private)?;
        let is_there = self.manifests.kind(&name)?.is_some();
        staging.root().into_place(&name, &self.manifests, &name, is_there)?;
        staging.remove()
    }
}

fn file_name(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

/// Puts the manifests of a folder back, the last one that went first, with their tags; how many came
/// back, and those that could not.
pub async fn undo(registry: &Registry, folder: &Path) -> Result<(usize, Vec<(String, Error)>)> {
    let failed = |e| Error::io(folder.join(LIST).display(), e);
    let list = BufReader::new(File::open(folder.join(LIST)).map_err(failed)?);
    let mut lines = Vec::new();
    for line in list.lines() {
        // A line that was cut is the mark of a crash before its manifest went.
        let Ok(line) = serde_json::from_str::<Line>(&line.map_err(failed)?) else { continue };
        if line.login_server != registry.login_server() {
            return Err(Error::invalid(format!(
                "{} was exported from {}",
                folder.display(),
                line.login_server
            )));
        }
        // What was kept more than once went once.
        lines.retain(|kept: &Line| {
            (&kept.repository, &kept.digest) != (&line.repository, &line.digest)
        });
        lines.push(line);
    }
    let (mut count, mut missing) = (0, Vec::new());
    // Parts went after their wholes, and come back before them.
    for line in lines.into_iter().rev() {
        let path = folder.join(MANIFESTS).join(file_name(&line.digest));
        let bytes = std::fs::read(&path).map_err(|e| Error::io(path.display(), e))?;
        let put = registry
            .put_back(&line.repository, bytes.into(), &line.media_type, &line.digest, &line.tags)
            .await;
        match put {
            Ok(()) => count += 1,
            Err(error) => missing.push((format!("{}@{}", line.repository, line.digest), error)),
        }
    }
    Ok((count, missing))
}
