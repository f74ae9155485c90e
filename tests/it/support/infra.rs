//! The files of `infra/` and `azure.yaml`, read as text, and the hooks run.

use super::{finish, read_json, root};
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Where settings are read.
pub const CONFIG: [&str; 5] = [
    "src/config/mod.rs",
    "src/config/cloud.rs",
    "src/config/identity.rs",
    "src/config/sign_in.rs",
    "src/config/settings.rs",
];

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All files of `infra/`, with their names.
pub fn bicep() -> Vec<(String, String)> {
    let modules = std::fs::read_dir(root().join("infra/modules")).unwrap();
    let mut names: Vec<String> = modules
        .map(|entry| format!("infra/modules/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.push("infra/main.bicep".into());
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// What stands between quotes and looks like a GUID.
pub fn guids(text: &str) -> BTreeSet<String> {
    let is_guid = |word: &&str| {
        let parts: Vec<usize> = word.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    text.split(['\'', '`', '"']).filter(is_guid).map(str::to_owned).collect()
}

/// The app settings that are deployed, with what each is set to.
pub fn app_settings() -> BTreeMap<String, String> {
    let deployed = read("infra/main.bicep") + &read("infra/modules/app.bicep");
    let setting = Regex::new(r"(?m)^ +((?:AZIMG_|AzimgStorage|AZURE_|OTEL_)\w*): (.+)$").unwrap();
    let settings = setting.captures_iter(&deployed).map(|found| {
        let [name, value] = found.extract().1;
        (name.to_owned(), value.to_owned())
    });
    settings.collect()
}

/// The parameters that azd fills in, by name, with the variable of each.
pub fn variables() -> BTreeMap<String, String> {
    let parameters = read_json(&root().join("infra/main.parameters.json"));
    let variable = |value: &Value| {
        let text = value["value"].as_str().unwrap().trim_start_matches("${").to_owned();
        text.split(['=', '}']).next().unwrap().to_owned()
    };
    let parameters = parameters["parameters"].as_object().unwrap();
    parameters.iter().map(|(name, value)| (name.clone(), variable(value))).collect()
}

/// A hook of azd, in its two forms.
pub struct Hook {
    pub name: String,
    pub posix: String,
    pub windows: String,
}

/// The hooks of `azure.yaml`, which is written so that its indentation tells all.
pub fn hooks() -> Vec<Hook> {
    let text = read("azure.yaml");
    let lines = &text.lines().collect::<Vec<_>>()[..];
    let depth = |line: &str| line.len() - line.trim_start().len();
    let below = |at: usize| {
        let body = lines[at + 1..].iter().copied();
        body.take_while(move |line| depth(line) > depth(lines[at]))
    };
    let form = |at: usize, system: &str, shell: &str| {
        let of_it: Vec<&str> = below(at).collect();
        let begin = of_it.iter().position(|line| line.trim() == format!("{system}:"));
        let begin = begin.unwrap_or_else(|| panic!("{} has no form for {system}", lines[at]));
        assert_eq!(of_it[begin + 1].trim(), format!("shell: {shell}"), "{}", lines[at]);
        assert_eq!(of_it[begin + 2].trim(), "run: |", "{}", lines[at]);
        let run = of_it[begin + 2];
        let body = of_it[begin + 3..].iter().take_while(|line| depth(line) > depth(run));
        body.map(|line| format!("{}\n", &line[depth(run) + 2..])).collect::<String>()
    };
    let is_hook = |line: &str| {
        let name = line.trim().trim_end_matches(':');
        line.ends_with(':') && (name.starts_with("pre") || name.starts_with("post"))
    };
    let hooks = (0..lines.len()).filter(|at| is_hook(lines[*at]));
    let hook = |at: usize| Hook {
        name: lines[at].trim().trim_end_matches(':').to_owned(),
        posix: form(at, "posix", "sh"),
        windows: form(at, "windows", "pwsh"),
    };
    hooks.map(hook).collect()
}

pub fn hook(name: &str) -> Hook {
    hooks().into_iter().find(|hook| hook.name == name).unwrap()
}

/// Runs a hook's form for Linux and macOS in `folder`, where every program but the shell's own is one that
/// writes down how it was called, and `uname` says what it is told to; its exit code, and the calls.
pub fn run_hook(
    hook: &Hook,
    folder: &Path,
    system: &str,
    variables: &[(&str, &str)],
) -> (i32, String) {
    use std::os::unix::fs::PermissionsExt;
    let bin = folder.join("bin");
    let built = folder.join("target/x86_64-unknown-linux-gnu/dist");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&built).unwrap();
    let note = "echo \"${0##*/} $* [$RUSTFLAGS]\" >> calls; printf %s \"$SAYS\"; exit ${FAILS:-0}";
    let note = note.to_owned();
    let programs = [
        (bin.join("az"), note.clone()),
        (bin.join("cargo"), note.clone()),
        (bin.join("docker"), note.clone()),
        (built.join("azimg"), note),
        (bin.join("uname"), format!("echo {system}")),
        (bin.join("sh"), "exec /bin/sh \"$@\"".to_owned()),
        (bin.join("grep"), "exec /bin/grep \"$@\"".to_owned()),
    ];
    for (path, body) in programs {
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let _ = std::fs::remove_file(folder.join("calls"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &hook.posix]).current_dir(folder).env_clear().env("PATH", &bin);
    let (code, _, _) = finish(shell.envs(variables.iter().copied()));
    (code, std::fs::read_to_string(folder.join("calls")).unwrap_or_default())
}
