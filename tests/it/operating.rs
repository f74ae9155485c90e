//! The commands of docs/operations.md, as they stand there, from an empty folder to a crawl on a schedule.

use crate::support::{cache, root, secrets};
use crate::tests;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

tests![
    the_documented_commands_set_up_a_scheduled_crawl
        needs [Operations],
];

/// The shell commands of a document, in their order.
fn commands(text: &str) -> String {
    let mut found = String::from("set -euo pipefail\n");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            for line in lines.by_ref().take_while(|line| *line != "```") {
                found.push_str(line);
                found.push('\n');
            }
        }
    }
    found
}

/// A `cargo` that takes `cargo build` alone, and puts the program that is built already where that would: building
/// it once more tells nothing that the build of the tests did not.
const CARGO: &str = r#"#!/bin/sh
[ "$*" = build ] || { echo "cargo $*: this test knows 'cargo build' alone" >&2; exit 2; }
mkdir -p "$CARGO_TARGET_DIR/debug"
cp "$BUILT" "$CARGO_TARGET_DIR/debug/azimg"
"#;

/// A folder with that `cargo`, to come first in the path.
fn cargo_in(folder: &Path) -> PathBuf {
    let tools = folder.join("tools");
    std::fs::create_dir(&tools).unwrap();
    let cargo = tools.join("cargo");
    std::fs::write(&cargo, CARGO).unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    tools
}

fn the_documented_commands_set_up_a_scheduled_crawl() {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let commands = commands(&text);
    assert!(commands.lines().count() > 15, "{commands}");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("azimg");
    std::fs::create_dir(&copy).unwrap();
    let copied = Command::new("sh")
        .args(["-c", "tar --exclude=./target --exclude=./.cache -cf - . | tar -xf - -C \"$0\""])
        .arg(&copy)
        .current_dir(root())
        .status();
    assert!(copied.unwrap().success());
    let mut shell = Command::new("bash");
    shell.args(["-c", &commands]).current_dir(&copy).env_clear();
    for name in ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            shell.env(name, value);
        }
    }
    let paths = std::env::var_os("PATH").unwrap();
    let paths = std::iter::once(cargo_in(folder.path())).chain(std::env::split_paths(&paths));
    shell.env("PATH", std::env::join_paths(paths).unwrap());
    shell.env("HOME", folder.path()).env("npm_config_cache", cache("npm"));
    shell.env("CARGO_TARGET_DIR", folder.path().join("target"));
    shell.env("BUILT", env!("CARGO_BIN_EXE_azimg"));
    // A group of its own, so that whatever it starts ends with it.
    let child = shell
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let group = child.id();
    let output = child.wait_with_output().unwrap();
    let _ = Command::new("kill")
        .args(["-9", "--", &format!("-{group}")])
        .stderr(Stdio::null())
        .status();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    secrets::assert_none(&stderr, "stderr");
    assert!(stdout.contains("\ncomplete\n"), "no run was complete: {stdout}\n{stderr}");
    assert!(stdout.contains("Canonical:ubuntu-24_04-lts:server:"), "{stdout}");
    assert!(!stdout.contains(" failed "), "the doctor found something: {stdout}");
}
