//! The blocks of code in the documentation, and the programs that they make.

use super::debian;
use super::needs::{self, Need};
use std::path::Path;
use std::process::Command;

/// The blocks of a document, with their languages.
pub fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```").filter(|name| !name.is_empty()) else {
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((language.to_owned(), body.join("\n")));
    }
    blocks
}

/// A program of a peer in a folder, with the executable and what the shell needs on its path.
pub fn program(need: Need, name: &str, folder: &Path) -> Command {
    let own = Path::new(env!("CARGO_BIN_EXE_azimg")).parent().unwrap();
    let bin = needs::folder(need);
    let mut command = Command::new(if name == "bash" { name.into() } else { bin.join(name) });
    command.current_dir(folder).env_clear().env("HOME", folder);
    debian::on_path(&mut command, need, &[own, bin]);
    command
}
