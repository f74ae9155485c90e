//! The commands that the program has, by its own help.

use super::{azimg, finish};

/// The commands that can be run, by what `--help` says of each.
pub fn commands() -> Vec<String> {
    let mut found = Vec::new();
    let mut groups = vec![String::new()];
    while let Some(group) = groups.pop() {
        let mut line: Vec<&str> = group.split_whitespace().collect();
        line.push("--help");
        let (code, help, _) = finish(&mut azimg(&line));
        assert_eq!(code, 0, "{group}");
        let Some((_, below)) = help.split_once("Commands:\n") else {
            found.push(group);
            continue;
        };
        // A name stands two spaces in; what goes on a line further down stands below what is said of it.
        let names = below.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
            let name = line.strip_prefix("  ")?;
            name.starts_with(|c: char| c.is_ascii_lowercase()).then(|| name.split(' ').next())?
        });
        for name in names.filter(|name| *name != "help") {
            groups.push(format!("{group} {name}").trim().to_owned());
        }
    }
    found
}
