//! House rules that a compiler does not know: who may use whom, how files begin, how long they get.

use crate::support::arrows::Arrows;
use crate::support::root;
use crate::tests;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

tests![
    modules_use_only_what_the_map_allows,
    source_files_have_no_cycles,
    cycles_are_found_and_reexports_are_no_cycles,
    every_source_file_has_a_first_line_and_at_most_400_lines_of_code,
    test_files_are_small_and_use_no_other_test_file,
    what_modules_share_is_documented,
    given_up_words_do_not_come_back,
    only_one_file_reads_the_environment,
    error_prone_calls_are_made_in_one_file_each,
    only_the_files_module_writes_files,
    function_folders_and_the_function_table_agree,
    no_test_depends_on_the_clock,
];

/// The files below a folder of the project, with their texts.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    assert!(found.len() > 30);
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    files("src")
}

/// The module at the top that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The table in ARCHITECTURE.md: `| module | may use |`.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, uses, _] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let uses = uses.split([',', ' ']).map(|one| one.trim_matches('`').to_owned());
        Some((name.to_owned(), uses.filter(|one| !one.is_empty() && one != "–").collect()))
    });
    rows.collect()
}

fn modules_use_only_what_the_map_allows() {
    let table = table();
    for (path, text) in sources() {
        let own = module(&path);
        if own == "main" || own == "lib" {
            continue;
        }
        let allowed = table.get(&own).unwrap_or_else(|| panic!("{own} is not on the map"));
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                if line.trim_start().starts_with("//") || line[..at].ends_with('$') {
                    continue;
                }
                let rest = &line[at + "crate::".len()..];
                let used: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fits = used == own || used.is_empty() || allowed.contains(&used);
                assert!(fits, "{}:{}: {own} may not use {used}", path.display(), number + 1);
            }
        }
    }
    for (name, uses) in &table {
        for used in uses {
            assert!(table.contains_key(used), "{name} may use {used}, which is not on the map");
            let back = table[used].contains(name);
            assert!(!back, "{name} and {used} may use each other");
        }
    }
}

/// A file can be read and changed without those that build on it: what two files need of each other is in a third.
fn source_files_have_no_cycles() {
    let source = root().join("src");
    let files: Vec<(String, String)> = sources()
        .into_iter()
        .map(|(path, text)| {
            (path.strip_prefix(&source).unwrap().to_str().unwrap().replace('\\', "/"), text)
        })
        .collect();
    let arrows = Arrows::between(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let circles: Vec<String> =
        arrows.circles().into_iter().map(|circle| circle.join("\n  ")).collect();
    assert!(circles.is_empty(), "files use each other:\n  {}", circles.join("\n\n  "));
}

fn cycles_are_found_and_reexports_are_no_cycles() {
    let circles = |files: &[(&str, &str)]| Arrows::between(files.iter().copied()).circles();
    let lib = ("lib.rs", "pub mod a; pub mod b;");
    let parent = ("a/mod.rs", "mod child; mod other; pub use child::{Child, more as much};");
    // What is handed on is taken from where it is defined, in a comment or in quotes there is nothing, and a
    // visibility is none.
    let other =
        "use super::{Child, much}; // crate::b::B\nconst QUOTED: &str = r#\"\"crate::b::B\"#;";
    let child = "pub struct Child; pub(in crate::a) fn more() {} const QUOTE: char = '\"';";
    let b = "use crate::a::Child as _; pub struct B;";
    let open = [lib, parent, ("a/child.rs", child), ("a/other.rs", other), ("b.rs", b)];
    assert_eq!(circles(&open), Vec::<Vec<String>>::new());
    let by_use =
        [lib, parent, ("a/child.rs", "use crate::{b::{self, B}}; pub struct Child;"), ("b.rs", b)];
    let by_path = "pub struct Child(super::super::b::B);";
    let by_path = [lib, parent, ("a/child.rs", by_path), ("b.rs", b)];
    let (there, back) = ("a/child.rs -> b.rs: ", "b.rs -> a/child.rs: Child");
    assert_eq!(circles(&by_use), [[format!("{there}B, b"), back.to_owned()]]);
    assert_eq!(circles(&by_path), [[format!("{there}B"), back.to_owned()]]);
    let of_parent = "pub mod child; use child::Child; pub struct Parent;";
    let below = [("a/mod.rs", of_parent), ("a/child.rs", "use super::Parent; pub struct Child;")];
    assert_eq!(circles(&below).len(), 1);
}

fn every_source_file_has_a_first_line_and_at_most_400_lines_of_code() {
    for (path, text) in sources() {
        let name = path.display();
        let head = text.lines().next().unwrap_or_default();
        let documented = head.starts_with("//!") || head.starts_with("#![doc");
        assert!(documented, "{name} does not begin with what it is");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//"));
        let count = code.count();
        assert!(count <= 400, "{name} has {count} lines of code; split it");
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            assert!(line.trim_end() == line, "{name}:{number}: space at the end of the line");
            assert!(!line.contains("todo!("), "{name}:{number}");
        }
    }
}

/// What two test files need is in `tests/it/support`.
fn test_files_are_small_and_use_no_other_test_file() {
    let folder = root().join("tests/it");
    let files = files("tests/it");
    let own = |path: &Path| {
        let first = path.strip_prefix(&folder).unwrap().iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    };
    let mut modules: BTreeSet<String> = files.iter().map(|(path, _)| own(path)).collect();
    modules.retain(|name| !["main", "harness", "support"].contains(&name.as_str()));
    for (path, text) in &files {
        let name = path.display();
        assert!(text.starts_with("//!"), "{name} does not begin with what it is");
        let count = text.lines().count();
        assert!(count <= 400, "{name} has {count} lines; split it");
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let used: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_path = rest[used.len()..].starts_with("::");
                let is_other = is_path && used != own(path) && modules.contains(&used);
                assert!(!is_other, "{name}:{}: {used} is another test file", number + 1);
            }
        }
    }
}

/// Words and phrases that say too little: a name, a number or a unit takes their place.
const REFUSED_WORDS: [&str; 17] = [
    "whoever",
    "somebody",
    "shelf",
    "brake",
    "untold",
    "so many",
    "so long",
    "so often",
    "for good",
    "the like",
    "goes on",
    "told of",
    "is told",
    "is had",
    "lies in",
    "at once",
    "of one's own",
];

fn given_up_words_do_not_come_back() {
    let mut texts = sources();
    texts
        .extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "src/ARCHITECTURE.md"].map(
            |name| (PathBuf::from(name), std::fs::read_to_string(root().join(name)).unwrap()),
        ));
    for folder in ["docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                texts.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '_');
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            let words = format!(" {} ", words.join(" "));
            for refused in REFUSED_WORDS {
                let is_there = words.contains(&format!(" {refused} "));
                assert!(!is_there, "{}:{}: '{refused}'", path.display(), number + 1);
            }
        }
    }
}

/// All modules are private, so the compiler does not ask for it.
fn what_modules_share_is_documented() {
    let kinds =
        ["fn", "async fn", "const fn", "struct", "enum", "trait", "const", "static", "type"];
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(item) = line.strip_prefix("pub ") else { continue };
            if !kinds.iter().any(|kind| item.starts_with(&format!("{kind} "))) {
                continue;
            }
            // Attributes may stand between, over several lines.
            let above = lines[..number].iter().rev();
            let mut above = above.take_while(|l| !l.is_empty() && !l.ends_with(['{', '}', ';']));
            let name = path.display();
            assert!(above.any(|l| l.starts_with("///")), "{name}:{}: {line}", number + 1);
        }
    }
}

fn only_one_file_reads_the_environment() {
    for (path, text) in sources() {
        if !path.ends_with("config/mod.rs") {
            for call in ["std::env::var", "env::var("] {
                assert!(!text.contains(call), "{}: {call}", path.display());
            }
        }
    }
}

/// Blocking work keeps its span and its error, spans of time are bounded, nothing that a stranger wrote acts where it is
/// shown, and who may have an identity's token is said: each in the one file that sees to it.
fn error_prone_calls_are_made_in_one_file_each() {
    let places = [
        ("spawn_blocking", &["src/blocking.rs"][..]),
        ("humantime::parse_duration", &["src/span.rs"]),
        ("find_next_occurrence", &["src/host/schedule.rs"]),
        ("print!(", &[]),
        ("println!(", &[]),
        ("dbg!(", &[]),
        ("io::stdout", &["src/sink/mod.rs", "src/sink/log.rs"]),
        ("io::stderr", &["src/sink/mod.rs", "src/sink/log.rs"]),
        ("::stdout()", &["src/sink/mod.rs", "src/sink/log.rs"]),
        // A bar of numbers.
        ("::stderr()", &["src/sink/mod.rs", "src/sink/log.rs", "src/cli/progress.rs"]),
        ("/dev/tty", &[]),
        ("csv::", &["src/cli/output/rows.rs"]),
        ("with_writer(", &["src/telemetry/mod.rs"]),
        ("Cli::parse()", &[]),
        ("globset::", &["src/purge/rules.rs"]),
        ("Regex::new", &[]),
        // Whom the operator trusts; a host that a command or a message names is none of them.
        (".naming(", &["src/config/registries.rs"]),
        (
            "TrustSource::ResourceManager",
            &["src/registry/trust.rs", "src/config/registries.rs", "src/cli/registry/mod.rs"],
        ),
    ];
    for (path, text) in sources() {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (call, files) in places {
            let is_its_place = files.iter().any(|file| path.ends_with(file));
            assert!(is_its_place || !text.contains(call), "{}: {call}", path.display());
        }
    }
}

/// What deletes, overwrites or makes files goes through `files`, which does not take what azimg did not make; the store
/// in a folder and the temporary folders have names of their own.
fn only_the_files_module_writes_files() {
    const CALLS: [&str; 21] = [
        "remove_dir",
        "remove_file",
        "fs::write",
        "fs::rename",
        "fs::copy",
        "fs::hard_link",
        "hard_link(",
        "symlink(",
        "set_permissions",
        "create_dir",
        "create_new",
        "DirBuilder",
        "File::create",
        "File::options",
        "OpenOptions",
        "tempfile::",
        ".persist(",
        "persist_noclobber",
        "rustix::fs",
        "unlinkat",
        "renameat",
    ];
    let named: [(&str, &[&str]); 2] = [
        ("src/scratch.rs", &["remove_dir", "remove_file", "tempfile::"]),
        (
            "src/store/local.rs",
            &["remove_dir", "remove_file", "tempfile::", ".persist(", "persist_noclobber"],
        ),
    ];
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if module(&path) == "files" {
            continue;
        }
        let allowed =
            named.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, calls)| calls);
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in
            text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for call in CALLS.iter().filter(|call| line.contains(**call)) {
                assert!(allowed.contains(call), "{name}:{}: {call}: use crate::files", number + 1);
                seen.insert((name.to_owned(), *call));
            }
        }
    }
    // An exception that nobody needs is none.
    for (file, calls) in named {
        for call in calls {
            assert!(seen.contains(&(file.to_owned(), *call)), "{file} has no {call} any more");
        }
    }
}

fn function_folders_and_the_function_table_agree() {
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let table: BTreeSet<String> = azimg::testing::functions::FUNCTIONS
        .iter()
        .map(|function| function.name.to_owned())
        .collect();
    assert_eq!(folders, table);
}

/// A test that sleeps, or asks how long something took, fails on a slow machine or on a fast one. They wait for
/// what they need instead (`support::wait_for`), or run on a clock of their own.
fn no_test_depends_on_the_clock() {
    // The first five run under a paused clock, the sixth tells how long tests took.
    let exempt = [
        "simulation.rs",
        "graph.rs",
        "hangups.rs",
        "tokens.rs",
        "refused_tokens.rs",
        "harness.rs",
        "architecture.rs",
    ];
    for (path, text) in files("tests/it") {
        let support = path.components().any(|part| part.as_os_str() == "support");
        if support || exempt.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for call in ["sleep(", ".elapsed()", "Instant::now()", "timeout("] {
                assert!(!line.contains(call), "{}:{}: {call}", path.display(), number + 1);
            }
        }
    }
}
