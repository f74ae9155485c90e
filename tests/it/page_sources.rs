//! The page's modules, by the type checker and a linter of JavaScript; and its views by Lighthouse.

use crate::support::lists::stage;
use crate::support::needs::{Need, folder};
use crate::support::web::Host;
use crate::support::{cache, debian, finish, root};
use crate::tests;
use serde_json::Value;
use std::process::Command;

tests![
    modules_of_the_page_are_typed_and_without_findings needs [Languages],
    lighthouse_has_no_complaint_about_access_and_practice needs [Browser],
];

fn modules_of_the_page_are_typed_and_without_findings() {
    let modules = cache("languages").join("node_modules");
    let page = root().join("src/web/page");
    let mut check = Command::new("node");
    check.arg(modules.join("typescript/bin/tsc")).arg("--project");
    check.arg(root().join("tests/it/page.tsconfig.json"));
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

/// Its score of performance depends on the machine, so it is measured and not tested.
fn lighthouse_has_no_complaint_about_access_and_practice() {
    let (azure, store) = stage();
    let host = Host::start(azure, store.path());
    let own = tempfile::tempdir().unwrap();
    for view in ["#/images", "#/registries", "#/run?run=current"] {
        let mut inspect = Command::new("sh");
        inspect.args(["-c", "CHROME_PATH=$CHROMIUM exec node \"$@\"", "sh"]);
        inspect.arg(folder(Need::Browser).join("node_modules/lighthouse/cli/index.js"));
        inspect.arg(format!("http://{}/{view}", host.authority()));
        inspect.args(["--quiet", "--output=json", "--output-path=stdout"]);
        inspect.arg("--chrome-flags=--headless=new --no-sandbox");
        inspect.arg("--only-categories=accessibility,best-practices");
        inspect.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        debian::with_browser(inspect.env("HOME", own.path()).env("TMPDIR", own.path()));
        let (code, stdout, stderr) = finish(&mut inspect);
        assert_eq!(code, 0, "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        for category in ["accessibility", "best-practices"] {
            let score = &report["categories"][category]["score"];
            let audits = report["audits"].as_object().unwrap().values();
            let failed: Vec<&Value> = audits.filter(|audit| audit["score"] == 0).collect();
            assert_eq!(score.as_f64(), Some(1.0), "{view}: {category}: {failed:#?}");
        }
    }
}
