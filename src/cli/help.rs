//! The commands as shown by `--help`, the manual and completions.
//!
//! The text of each command is its doc comment, in Markdown; a terminal shows plain text.

use super::Cli;
use super::completion;
use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};

/// The maximum width of a line of an example, in characters: terminals are rarely narrower.
const WIDEST: usize = 78;

/// All commands, with plain-text help and with completers for names from the catalog.
pub(super) fn commands() -> Command {
    completion::completed(readable(Cli::command()))
}

/// Removes the Markdown markup from a text.
fn plain(text: &StyledStr) -> String {
    text.to_string().replace('`', "").replace("<https://", "https://").replace(">,", ",")
}

fn readable(command: Command) -> Command {
    let (about, long) = (command.get_about().map(plain), command.get_long_about().map(plain));
    let command = about.into_iter().fold(command, Command::about);
    let command = long.into_iter().fold(command, Command::long_about);
    let examples = command.get_after_help().map(|text| folded(&text.to_string()));
    let command = examples.into_iter().fold(command, Command::after_help);
    command.mut_args(readable_argument).mut_subcommands(readable)
}

fn readable_argument(argument: Arg) -> Arg {
    let (help, long) = (argument.get_help().map(plain), argument.get_long_help().map(plain));
    let argument = help.into_iter().fold(argument, Arg::help);
    long.into_iter().fold(argument, Arg::long_help)
}

/// Folds long examples in the text after the options so that each can be pasted: a long line is
/// continued after a backslash instead of being broken at the terminal's edge, and its description
/// becomes a comment above it.
fn folded(text: &str) -> String {
    let lines = text.lines().flat_map(|line| {
        let is_long = line.chars().count() > WIDEST && line.starts_with("  ");
        if is_long { folded_example(line) } else { vec![line.to_owned()] }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn folded_example(line: &str) -> Vec<String> {
    let (command, said) = line.trim_start().split_once("  ").unwrap_or((line.trim_start(), ""));
    let said = Some(said.trim()).filter(|said| !said.is_empty());
    let mut lines: Vec<String> = said.map(|said| format!("  # {said}")).into_iter().collect();
    let mut now = String::from(" ");
    for word in words(command) {
        // Leaves room for the backslash.
        if now.chars().count() + word.chars().count() + 3 > WIDEST && now.trim() != "" {
            lines.push(format!("{now} \\"));
            now = String::from("     ");
        }
        now.push(' ');
        now.push_str(word);
    }
    lines.push(now);
    lines
}

/// Splits a line at the blanks outside quotation marks, which it keeps. A double-quoted command
/// substitution is split, too: a line may be continued inside it.
fn words(line: &str) -> Vec<&str> {
    let quotes: &[char] = if line.contains("\"$(") { &['\''] } else { &['\'', '"'] };
    let mut quote = None;
    line.split(|c: char| {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, c) if quotes.contains(&c) => quote = Some(c),
            _ => {}
        }
        c == ' ' && quote.is_none()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_example_is_folded_so_that_a_shell_takes_it_whole() {
        let short = "Examples:\n  azimg runs list\n  azimg crawl --demo      a simulated Azure";
        assert_eq!(folded(short), short);
        let query = "'[?a == `b c`].{d: e, f: g} | [0:10]'";
        let line = format!(
            "  azimg images list --publisher canonical --offer ubuntu --query {query}  of one"
        );
        let folded_line = folded(&line);
        let lines: Vec<&str> = folded_line.lines().collect();
        assert_eq!(lines[0], "  # of one");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDEST), "{folded_line}");
        assert!(lines[1].ends_with(" \\") && lines[2].trim().ends_with(query), "{folded_line}");
    }
}
