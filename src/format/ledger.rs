//! The ledger of a plan: records the start and the end of each part, so that a later process knows
//! what was done.

use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Locked};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The state of one part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// The request is about to be sent.
    Begun,
    /// The part is done.
    Done,
    /// Azure refused the request, or it failed.
    Failed,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    plan: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    id: String,
    state: PartState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// The ledger of one plan: an append-only file of JSON lines, synced after each write.
#[derive(Debug)]
pub struct Ledger {
    file: Locked,
    path: PathBuf,
    plan: String,
    states: BTreeMap<String, PartState>,
}

/// The first bytes of every line of a ledger.
const BEGINNING: &[u8] = br#"{"plan":"#;

impl Ledger {
    /// Opens the ledger of `plan`, or creates it. Returns an error while another process has it
    /// open. A truncated line, cut at any byte, is the mark of a crash and is skipped. A line of
    /// another plan is an error.
    pub fn open(path: &Path, plan: &str) -> Result<Self> {
        let io = |e| Error::io(path.display(), e);
        // Two processes that apply one plan would each send what the other has begun.
        let mut file =
            Locked::exclusive(files::open_private(path)?).map_err(io)?.ok_or_else(|| {
                let text =
                    format!("{} is in use: this plan is already being applied", path.display());
                Error::new(ErrorKind::Conflict, text)
            })?;
        let mut text = Vec::new();
        file.file().read_to_end(&mut text).map_err(io)?;
        if !files::has_lines_of(&text, BEGINNING) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} is not a ledger, and is not changed: use another with --ledger",
                    path.display()
                ),
            ));
        }
        let mut states = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            if line.plan != plan {
                return Err(Error::invalid(format!(
                    "{} is the ledger of another plan ({}): move it away, or use another with \
                     --ledger",
                    path.display(),
                    line.plan
                )));
            }
            states.insert(line.id.to_ascii_lowercase(), line.state);
        }
        // End a truncated line, so that the next one is not appended to it.
        if text.last().is_some_and(|byte| *byte != b'\n') {
            file.file().write_all(b"\n").map_err(io)?;
        }
        Ok(Self { file, path: path.to_owned(), plan: plan.to_owned(), states })
    }

    /// The recorded state of a part. Ids are compared without case.
    pub fn state(&self, id: &str) -> Option<PartState> {
        self.states.get(&id.to_ascii_lowercase()).copied()
    }

    /// Records the state of a part. The record is on disk when this returns.
    pub fn write(&mut self, id: &str, state: PartState, reason: &str) -> Result<()> {
        self.write_all([(id, reason)].into_iter(), state)
    }

    /// Records the state of several parts, with a reason for each.
    pub fn write_all<'a>(
        &mut self,
        parts: impl Iterator<Item = (&'a str, &'a str)>,
        state: PartState,
    ) -> Result<()> {
        let mut text = Vec::new();
        for (id, reason) in parts {
            let line = Line {
                plan: self.plan.clone(),
                at: OffsetDateTime::now_utc(),
                id: id.to_owned(),
                state,
                reason: reason.to_owned(),
            };
            serde_json::to_writer(&mut text, &line).map_err(|e| Error::bug(e.to_string()))?;
            text.push(b'\n');
            self.states.insert(id.to_ascii_lowercase(), state);
        }
        let io = |e| Error::io(self.path.display(), e);
        self.file.file().write_all(&text).map_err(io)?;
        self.file.file().sync_data().map_err(io)
    }
}
