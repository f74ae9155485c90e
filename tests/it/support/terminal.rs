//! A terminal (tmux) that shows what a program printed, and Python's reading of a table.

use super::needs::Need;
use super::{debian, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A terminal with one pane.
pub struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Opens a terminal that is wide enough to break few lines, and keeps all of them.
    pub fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        let settings = this.folder.path().join("tmux.conf");
        std::fs::write(&settings, "set -g history-limit 200000\nset -g allow-rename on\n").unwrap();
        this.tmux(&["new-session", "-d", "-x", "4000", "-y", "100", "exec cat"]);
        this
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        debian::on_path(&mut command, Need::Terminal, &[]);
        let at = |name: &str| self.folder.path().join(name);
        command.arg("-u").arg("-S").arg(at("socket")).arg("-f").arg(at("tmux.conf"));
        command.env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh").env("PS1", "").env_remove("TMUX");
        command
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Shows a file. Returns the content of the terminal afterwards, and its state.
    pub fn show(&self, file: &Path) -> (String, String) {
        let done: PathBuf = self.folder.path().join("done");
        let line = format!("cat '{}'; touch '{}'; exec cat", file.display(), done.display());
        self.tmux(&["clear-history"]);
        self.tmux(&["respawn-pane", "-k", &line]);
        wait_for("the end of the file", || done.exists().then_some(()));
        std::fs::remove_file(&done).unwrap();
        // The last output may not be displayed yet: it is complete when it no longer changes.
        let mut before = String::new();
        let shown = wait_for("what is shown", || {
            let now = self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]);
            let is_whole = now == before && !now.trim().is_empty();
            before.clone_from(&now);
            is_whole.then_some(now)
        });
        let state = "#{pane_title} #{alternate_on} #{window_bell_flag} #{cursor_x} #{pane_in_mode}";
        (shown, self.tmux(&["display-message", "-p", state]))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

/// The number of cells in each row of a file, as read by Python's `csv`. `dialect` is `excel` or
/// `excel-tab`.
pub fn cells(file: &Path, dialect: &str) -> Vec<usize> {
    let script = "import csv, sys\n\
                  csv.field_size_limit(1 << 30)\n\
                  with open(sys.argv[1], newline='', encoding='utf-8') as file:\n    \
                      for row in csv.reader(file, sys.argv[2]): print(len(row))";
    let output =
        Command::new("python3").args(["-c", script]).arg(file).arg(dialect).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}
