//! The user's browser. What differs between operating systems is in this file.

use crate::sink::say;
use std::process::{Command, Stdio};

/// The command that opens a URL in the user's browser.
fn opener(url: &str) -> Command {
    let (program, arguments): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        // Not `start`, which is a command of a shell that interprets the URL.
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(url);
    command
}

/// Opens `url` in the user's browser. Without one, says that the user has to open it.
pub(super) fn open(url: &str) {
    let mut command = opener(url);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        let program = command.get_program().to_string_lossy();
        say!("azimg: the browser was not opened ({program}: {error}): open {url} yourself");
    }
}
