//! The commands of docs/operations.md, as they stand there, from an empty folder to a crawl on a schedule.

use crate::support::{cache, root, secrets};
use crate::tests;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

tests![
    from_an_empty_folder_to_a_crawl_on_a_schedule_by_the_commands_of_the_documentation
        needs [Operations] slow "it builds azimg",
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

/// Lends the dependencies that are built already, as links: the commands build azimg itself, apart from
/// the one that other tests run.
fn lend(target: &Path) {
    let own = Path::new(env!("CARGO_BIN_EXE_azimg")).parent().unwrap();
    std::fs::create_dir_all(target).unwrap();
    for part in ["deps", "build", ".fingerprint"] {
        // Where that cannot be done all is built, which takes longer.
        let _ = Command::new("cp").arg("-al").arg(own.join(part)).arg(target).status();
    }
}

fn from_an_empty_folder_to_a_crawl_on_a_schedule_by_the_commands_of_the_documentation() {
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
    for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            shell.env(name, value);
        }
    }
    let home = std::env::var_os("HOME").unwrap();
    shell.env("HOME", folder.path()).env("npm_config_cache", cache("npm"));
    // Where cargo and rustup keep what they fetched: the commands build, and do not fetch it all again.
    for (name, below) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if std::env::var_os(name).is_none() {
            shell.env(name, Path::new(&home).join(below));
        }
    }
    let target = folder.path().join("target");
    lend(&target.join("debug"));
    shell.env("CARGO_TARGET_DIR", &target);
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
