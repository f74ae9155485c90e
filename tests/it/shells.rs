//! What stands around the commands: completions, the manual, colours, how commands end, and what lists say that have
//! nothing in them.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, azimg, finish, json, temporary, wait_for, write_rows};
use crate::tests;
use azimg::testing::sim::{Scale, World, generate};
use serde_json::{Value, json as value};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

tests![
    completions_propose_catalog_names_without_shell_syntax,
    every_shell_gets_a_script_that_asks_this_program,
    the_manual_has_a_page_for_each_command_and_is_rewritten,
    a_simulated_azure_prints_the_variables_that_select_it,
    runs_without_a_process_are_interrupted_and_others_running,
    a_limit_that_stops_a_plan_is_not_wrong_usage,
    an_empty_list_says_so,
    a_host_refuses_an_invalid_schedule_before_any_output,
];

fn folder() -> TempDir {
    tempfile::tempdir_in(temporary()).unwrap()
}

fn text(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

/// What a shell is told that asks for the last word of a line.
fn proposed(store: &Path, line: &[&str]) -> Vec<String> {
    let mut words = vec!["--", "azimg"];
    words.extend(line);
    let mut command = azimg(&words);
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", line.len().to_string());
    command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9").env("AZIMG_STORE", store);
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stderr.as_str()), (0, ""), "{line:?}");
    stdout.lines().map(str::to_owned).collect()
}

fn completions_propose_catalog_names_without_shell_syntax() {
    let folder = folder();
    let file = folder.path().join("catalog.ndjson");
    let names = [
        "Canonical",
        "canonical-test",
        "c$(touch taken-over)",
        "c;id",
        "c d",
        "c\u{1b}[2J",
        "other",
    ];
    let row =
        |name: &&str| value!({"publisher": name, "offer": "o", "sku": "s", "version": "1.0.0"});
    write_rows(&file, &names.iter().map(row).collect::<Vec<_>>());
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let crawl =
        ["crawl", "--store", store.to_str().unwrap(), "--details", "none", "-o", "json", "--quiet"];
    let run = json(&mut azure.azimg(&crawl))["run"].as_str().unwrap().to_owned();
    assert_eq!(
        proposed(&store, &["images", "list", "--publisher", "C"]),
        ["Canonical", "canonical-test"]
    );
    assert_eq!(proposed(&store, &["runs", "show", ""])[0], run);
    assert_eq!(proposed(&store, &["images", "usage", "--finding", "g"]), ["gone"]);
    assert_eq!(proposed(&store, &["crawl", "--source", "m"]), ["marketplace"]);
    assert_eq!(proposed(&store, &["schema", "man"]), ["manifest"]);
    assert_eq!(proposed(&store, &["images", "list", "--status", "sch"]), ["scheduled"]);
    let locations = proposed(&store, &["images", "list", "--location", ""]);
    let is_in = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric());
    assert!(!locations.is_empty() && locations.iter().all(is_in), "{locations:?}");
    // The store of the line counts; where there is none, or it is no folder, nobody is asked and nothing is said.
    let elsewhere = folder.path().join("elsewhere");
    let named = ["--store", store.to_str().unwrap(), "images", "list", "--publisher", "can"];
    assert_eq!(proposed(&elsewhere, &named).len(), 2);
    assert!(proposed(&elsewhere, &named[2..]).is_empty());
    assert!(!elsewhere.exists());
    assert!(proposed(Path::new("https://127.0.0.1:9/azimg"), &named[2..]).is_empty());
    assert!(proposed(&store, &["imag"]).contains(&"images".to_owned()));
}

fn every_shell_gets_a_script_that_asks_this_program() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, _) = finish(&mut azimg(&["completions", shell]));
        assert!(code == 0 && script.contains("COMPLETE"), "{shell}: {script}");
        assert!(!script.contains(env!("CARGO_MANIFEST_DIR")), "{shell}: {script}");
    }
}

fn the_manual_has_a_page_for_each_command_and_is_rewritten() {
    let folder = folder();
    let pages = folder.path().join("man");
    let line = ["man", pages.to_str().unwrap(), "-o", "json"];
    let made = json(&mut azimg(&line));
    let names: Vec<&str> =
        made["pages"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for command in crate::support::commands::commands() {
        let name = format!("azimg-{}.1", command.replace(' ', "-"));
        assert!(names.contains(&name.as_str()), "{name}");
    }
    let page = std::fs::read_to_string(pages.join("azimg-images-list.1")).unwrap();
    for part in
        [".SH NAME", "azimg\\-images\\-list", "\\-\\-publisher", "GLOBAL OPTIONS", "Examples:"]
    {
        assert!(page.to_uppercase().contains(&part.to_uppercase()), "{part}: {page}");
    }
    json(&mut azimg(&line));
    // What somebody changed is theirs.
    std::fs::write(pages.join("azimg.1"), "mine").unwrap();
    let (code, _, stderr) = finish(&mut azimg(&line));
    assert!(code == 1 && stderr.contains("azimg.1"), "{stderr}");
    assert_eq!(std::fs::read_to_string(pages.join("azimg.1")).unwrap(), "mine");
}

fn a_simulated_azure_prints_the_variables_that_select_it() {
    let folder = folder();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let file = |path: &Path| std::fs::File::create(path).unwrap();
    let mut sim =
        azimg(&["sim", "--scale", "small"]).stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
    let at: Value = wait_for("the simulated Azure", || {
        serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).ok()
    });
    let said = std::fs::read_to_string(&err).unwrap();
    // As somebody would paste them.
    let script = format!("{said}\nexec {} registry list -o json", env!("CARGO_BIN_EXE_azimg"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).env_clear().env("PATH", std::env::var("PATH").unwrap());
    let listed = json(&mut shell);
    assert_eq!(listed.as_array().unwrap().len(), at["registries"].as_array().unwrap().len());
    let id = sim.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(sim.wait().unwrap().code(), Some(130));
}

fn runs_without_a_process_are_interrupted_and_others_running() {
    let held = vec![Fault::new("/publishers/debian/", usize::MAX, How::Held)];
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 98)), held);
    let folder = folder();
    let store = text(&folder);
    let crawl = ["crawl", "--store", store, "--source", "marketplace", "--details", "none"];
    let mut child =
        faulty.azimg(&crawl).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the first outcome", || {
        let mut runs = std::fs::read_dir(folder.path().join("runs")).ok()?.flatten();
        runs.find(|run| run.path().join("outcomes").exists())
    });
    let states = || {
        let runs = json(&mut azimg(&["runs", "list", "--store", store, "-o", "json"]));
        let run = runs[0]["run"].as_str().unwrap().to_owned();
        let shown = json(&mut azimg(&["runs", "show", &run, "--store", store, "-o", "json"]));
        assert_eq!(shown["state"], runs[0]["state"]);
        (runs[0]["state"].as_str().unwrap().to_owned(), run, shown["reason"].clone())
    };
    assert_eq!(states().0, "running");
    child.kill().unwrap();
    child.wait().unwrap();
    let (state, run, reason) = states();
    assert_eq!(state, "interrupted");
    assert_eq!(reason, format!("resume it with azimg crawl --resume {run}"));
    faulty.release();
    let resume = ["crawl", "--resume", &run, "--store", store, "--quiet", "-o", "json"];
    json(&mut faulty.azimg(&resume));
    assert_eq!(states().0, "complete");
}

fn a_limit_that_stops_a_plan_is_not_wrong_usage() {
    let azure = Azure::start(generate(Scale::Small, 99));
    let retire =
        ["gallery", "retire", "--keep", "1", "--max-percent", "1", "--filter", "gallery_000"];
    let (code, stdout, stderr) = finish(&mut azure.azimg(&retire));
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("--max-percent"), "{stderr}");
    let server = azure.sim.registries()[0].login_server.clone();
    let folder = folder();
    let purge = ["registry", "purge", &server, "--repository", "*", "--keep", "1", "--untagged"];
    let planned = [&purge[..], &["--plan", "plan.json"]].concat();
    let (code, _, stderr) = finish(azure.azimg(&planned).current_dir(folder.path()));
    assert_eq!(code, 0, "{stderr}");
    let apply = ["registry", "purge", &server, "--apply", "plan.json", "--max-delete", "1"];
    let (code, _, stderr) = finish(azure.azimg(&apply).current_dir(folder.path()));
    assert!(code == 1 && stderr.contains("--max-delete allows 1: nothing was deleted"), "{stderr}");
}

fn an_empty_list_says_so() {
    let azure = Azure::start(generate(Scale::Small, 94));
    let (folder, empty) = (folder(), folder());
    let store = text(&folder);
    json(
        &mut azure
            .azimg(&["crawl", "--store", store, "--source", "gallery", "-o", "json", "--quiet"]),
    );
    azure.sim.registries().clear();
    for (line, says) in [
        (&["runs", "list", "--store", text(&empty)][..], "azimg crawl publishes one"),
        (&["gallery", "list", "--version", "99.9", "--store", store], "Nothing in the galleries"),
        (
            &["gallery", "images", "--gallery", "nosuch", "--store", store],
            "no gallery with 'nosuch'",
        ),
        (
            &["gallery", "versions", "--version", "99.9", "--store", store],
            "Nothing in the galleries",
        ),
        (&["images", "list", "--version", "99.9", "--store", store], "No image matches"),
        (&["images", "aliases", "--store", store], "no image for which az has an alias"),
        (&["registry", "list"], "No registry is visible"),
    ] {
        for format in ["json", "table"] {
            let (code, stdout, stderr) = finish(azure.azimg(line).args(["-o", format]));
            let data = if format == "json" { "[]\n" } else { "" };
            assert_eq!((code, stdout.as_str()), (0, data), "{line:?}: {stderr}");
            assert!(stderr.contains(says), "{line:?}: {stderr}");
        }
        let (_, _, stderr) = finish(azure.azimg(line).arg("--quiet"));
        assert_eq!(stderr, "", "{line:?}");
    }
}

fn a_host_refuses_an_invalid_schedule_before_any_output() {
    let folder = folder();
    let mut host = azimg(&["host", "--store", text(&folder), "--port", "0"]);
    let (code, stdout, stderr) = finish(host.env("AZIMG_SCHEDULE", "weekly"));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("weekly") && !stderr.contains("crawls at"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
