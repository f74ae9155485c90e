//! A real browser that a script drives.

use super::debian;
use super::needs::{Need, folder};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Runs `script` with Node.js and returns the JSON that it prints. Its argument is `task` as JSON,
/// and `CHROMIUM` names the browser. It can import the packages of the peer `Browser`.
pub fn drive(name: &str, script: &str, task: &Value) -> Value {
    let own = tempfile::tempdir().unwrap();
    let path = folder(Need::Browser).join(name);
    // Renamed when it is complete: two tests may write it at the same time.
    let part = folder(Need::Browser).join(format!("{name}-{}.part", ulid::Ulid::generate()));
    std::fs::write(&part, script).unwrap();
    std::fs::rename(&part, &path).unwrap();
    let mut command = Command::new("node");
    command.arg(&path).arg(task.to_string()).env_clear().env("HOME", own.path());
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("TMPDIR", own.path());
    debian::with_browser(&mut command);
    let output = command.stdin(Stdio::null()).output().expect("it needs Node.js 20 or later");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
