//! The page's modules, by the type checker and a linter of JavaScript.

use crate::support::{cache, finish, root};
use crate::tests;
use std::process::Command;

tests![modules_of_the_page_are_typed_and_without_findings needs [Languages]];

fn modules_of_the_page_are_typed_and_without_findings() {
    let modules = cache("languages").join("node_modules");
    let page = root().join("src/web/page");
    let mut check = Command::new("node");
    check.arg(modules.join("typescript/bin/tsc")).arg("--project").arg(&page);
    let (code, stdout, stderr) = finish(&mut check);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let mut lint = Command::new("node");
    lint.arg(modules.join("oxlint/bin/oxlint")).args(["-D", "correctness", "-D", "suspicious"]);
    // Their replacements are of 2023, and some browsers are older.
    lint.args(["-A", "no-array-sort", "-A", "no-array-reverse"]);
    let (code, stdout, stderr) = finish(lint.arg(&page));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let files = std::fs::read_dir(&page).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let count = paths.filter(|path| path.extension().is_some_and(|end| end == "js")).count();
    assert!(stdout.contains(&format!(" {count} files ")), "{stdout}");
}
