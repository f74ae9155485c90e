//! The deployable function app: its files, the same bytes every time, and what the Functions host would refuse without a
//! message.

use crate::support::azurite::free_port;
use crate::support::packages::{package, packaged};
use crate::support::{Azure, azimg, finish, json, read_json, root, wait_for};
use crate::tests;
use azimg::testing::files::{Access, MadeFile};
use azimg::testing::sim::{Scale, generate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

tests![
    the_package_has_exactly_the_files_of_the_host_byte_for_byte,
    a_binary_that_azure_cannot_run_is_reported,
    the_host_finds_nothing_to_refuse,
    the_profile_that_is_deployed_is_the_one_that_is_named,
    behind_a_sign_in_lookups_need_no_key_and_all_else_does,
    a_handler_with_unprotected_lookups_answers_none,
];

/// Every file below a folder with its mode.
fn files(folder: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, mode);
            }
        }
    }
    found
}

fn the_package_has_exactly_the_files_of_the_host_byte_for_byte() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // What an earlier azimg packaged is not in it.
    let old = MadeFile { name: "app/old/function.json", bytes: b"{}", access: Access::Readable };
    azimg::testing::files::put_made(one.path(), ".azimg-package", "--out", &[old]).unwrap();
    assert!(one.path().join("app/old/function.json").exists());
    let packaged = package(one.path());
    package(other.path());
    let zip = |folder: &Path| std::fs::read(folder.join("azimg.zip")).unwrap();
    assert!(zip(one.path()) == zip(other.path()), "the zip differs from one time to the next");

    let mut wanted: BTreeMap<String, u32> = azimg::testing::functions::FUNCTIONS
        .iter()
        .map(|function| (format!("{}/function.json", function.name), 0o644))
        .collect();
    wanted.insert("host.json".into(), 0o644);
    wanted.insert("azimg".into(), 0o755);
    wanted.insert("azimg.cdx.json".into(), 0o644);
    assert_eq!(files(&one.path().join("app")), wanted);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip(one.path()))).unwrap();
    let mut zipped = BTreeMap::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let name = file.name().unwrap().into_owned();
        zipped.insert(name.clone(), file.unix_mode().unwrap() & 0o777);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == std::fs::read(one.path().join("app").join(name)).unwrap());
    }
    assert_eq!(zipped, wanted);
    // This executable is for tests, and that is said.
    let doubts: Vec<&str> = packaged["doubts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|doubt| doubt.as_str().unwrap())
        .collect();
    assert!(doubts.contains(&"it needs shared libraries"), "{doubts:?}");
    assert!(doubts.contains(&"it contains the simulated Azure"), "{doubts:?}");
}

fn a_binary_that_azure_cannot_run_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let out = folder.path().join("out");
    let (code, stderr) = packaged(&script, &out);
    assert_eq!(code, 0);
    assert!(
        stderr.contains("not a program for Linux on x86-64") && stderr.contains("--profile dist"),
        "{stderr}"
    );
    assert!(stderr.contains("it does not list its dependencies"), "{stderr}");
    assert!(!out.join("app/azimg.cdx.json").exists());
}

/// What the host's source demands (facts of the Functions host §2, §4, §5), on the packaged app.
fn the_host_finds_nothing_to_refuse() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let app = folder.path().join("app");
    let host = read_json(&app.join("host.json"));
    check_host(&host, &app);
    let mut routes = BTreeSet::new();
    for entry in std::fs::read_dir(&app).unwrap().map(|entry| entry.unwrap()) {
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        // Directly beside host.json, and nothing but the wiring in it.
        let inside: Vec<_> =
            std::fs::read_dir(entry.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(inside, ["function.json"], "{name}");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain),
            "{name}"
        );
        assert!(name.len() <= 128 && name != "host", "{name}");
        check_function(&name, &read_json(&entry.path().join("function.json")), &mut routes);
    }
    assert_eq!(routes.len(), 3, "start, page and web");
}

fn check_host(host: &Value, app: &Path) {
    assert_eq!(host["version"], "2.0");
    let handler = &host["customHandler"]["description"];
    let executable = app.join(handler["defaultExecutablePath"].as_str().unwrap());
    assert_eq!(executable.metadata().unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(handler["arguments"], serde_json::json!(["serve"]));
    // Bindings for queues come from the bundle; 4 is the only line that is kept up.
    assert_eq!(host["extensionBundle"]["version"], "[4.*, 5.0.0)");
    let queues = &host["extensions"]["queues"];
    let batch = queues["batchSize"].as_u64().unwrap();
    assert!((1..=32).contains(&batch));
    assert_ne!(queues["visibilityTimeout"], "00:00:00", "zero is a hot loop");
    assert_eq!(queues["messageEncoding"], "base64", "as messages are written past the host");
    assert_ne!(host["functionTimeout"], "-1", "an item that hangs would hang for ever");
    // A caller's request as it is, streamed both ways; lookups are answered with any status.
    assert_eq!(host["customHandler"]["enableProxyingHttpRequest"], true);
    // A host of before April 2025 knows that one not, and would post JSON to `web` without this one.
    assert_eq!(host["customHandler"]["enableForwardingHttpRequest"], true);
    assert!(host["customHandler"]["http"].is_null(), "an app with function.json files is refused");
}

/// A timer that fails is not fired again before its next time, unless it says so; nothing else but a few other
/// triggers may say so (`Utility.ValidateRetryOptions` in the host's source).
fn check_retry(name: &str, function: &Value) {
    let retry = &function["retry"];
    let triggers = function["bindings"].as_array().unwrap().iter();
    let timer = triggers.clone().find(|binding| binding["type"] == "timerTrigger");
    let Some(schedule) = timer.map(|timer| timer["schedule"].as_str().unwrap()) else {
        assert!(retry.is_null(), "{name}: the host refuses to retry it");
        return;
    };
    if !schedule.starts_with('%') {
        assert!(retry.is_null(), "{name}: it comes round by itself");
        return;
    }
    assert_eq!(retry["strategy"], "fixedDelay", "{name}: what fails waits for the next night");
    assert!((1..=10).contains(&retry["maxRetryCount"].as_u64().unwrap()), "{name}: {retry}");
    let delay = retry["delayInterval"].as_str().unwrap();
    let parts: Vec<u64> = delay.split(':').map(|part| part.parse().unwrap()).collect();
    assert!(
        parts.len() == 3 && parts.iter().any(|part| *part > 0),
        "{name}: {delay} is a hot loop"
    );
}

fn check_function(name: &str, function: &Value, routes: &mut BTreeSet<String>) {
    check_retry(name, function);
    assert!(function["scriptFile"].is_null(), "{name}: a custom handler has none");
    let bindings = function["bindings"].as_array().unwrap();
    let text =
        |binding: &Value, member: &str| binding[member].as_str().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = bindings.iter().map(|binding| text(binding, "name")).collect();
    assert_eq!(names.len(), bindings.len(), "{name}: two bindings of one name");
    let triggers = bindings.iter().filter(|b| text(b, "type").ends_with("Trigger")).count();
    assert_eq!(triggers, 1, "{name}");
    let known = azimg::testing::functions::Function::named(name).unwrap();
    for binding in bindings {
        let kind = text(binding, "type");
        let is_trigger = kind.ends_with("Trigger");
        assert_eq!(text(binding, "direction"), if is_trigger { "in" } else { "out" }, "{name}");
        match kind.as_str() {
            "timerTrigger" => {
                let schedule = text(binding, "schedule");
                let setting = schedule.starts_with('%') && schedule.ends_with('%');
                assert!(setting || schedule.split(' ').count() == 6, "{name}: {schedule}");
                assert_eq!(binding["runOnStartup"], false, "{name}: every restart would start one");
            }
            "queueTrigger" | "queue" => {
                let queue = text(binding, "queueName");
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                assert!(
                    queue.chars().all(plain) && (3..=56).contains(&queue.len()),
                    "{name}: {queue}"
                );
                assert_eq!(text(binding, "connection"), "AzimgStorage", "{name}");
            }
            "httpTrigger" => {
                // A lookup may cost the quota of a subscription; the page's files hold no data.
                let level = if name == "page" { "anonymous" } else { "function" };
                assert_eq!(text(binding, "authLevel"), level, "{name}");
                assert!(routes.insert(text(binding, "route")), "{name}: a route twice");
                // What is proxied is not invoked, and what is invoked is not proxied.
                assert_eq!(bindings.len() == 2, known.run.is_none(), "{name}");
            }
            "http" => {}
            other => panic!("{name}: {other} is no binding that is served"),
        }
    }
}

fn the_profile_that_is_deployed_is_the_one_that_is_named() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let build = "cargo build --profile dist --no-default-features --features otlp --target x86_64-unknown-linux-gnu";
    assert!(read("Cargo.toml").contains("[profile.dist]"));
    for file in ["azure.yaml", ".ci/run", "docs/operations.md"] {
        let text = read(file).replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(build), "{file} builds another program");
    }
}

fn behind_a_sign_in_lookups_need_no_key_and_all_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let packaged = |sign_in: &str| {
        let out = folder.path().join(sign_in);
        let arguments = ["package", "--out", out.to_str().unwrap(), "--sign-in", sign_in];
        json(azimg(&arguments).args(["-o", "json"]));
        out.join("app")
    };
    let (keys, entra) = (packaged("keys"), packaged("entra"));
    let plain = folder.path().join("plain");
    package(&plain);
    for function in &azimg::testing::functions::FUNCTIONS {
        let file = format!("{}/function.json", function.name);
        let read = |app: &Path| std::fs::read_to_string(app.join(&file)).unwrap();
        assert_eq!(read(&keys), function.json, "{file}");
        assert_eq!(read(&plain.join("app")), function.json, "keys are the default: {file}");
        if function.run.is_some() || function.name == "page" {
            assert_eq!(read(&entra), function.json, "{file}");
            continue;
        }
        // Nothing but the level is another.
        assert!(read(&entra).contains("\"authLevel\": \"anonymous\""), "{file}");
        let mut declared = read_json(&entra.join(&file));
        declared["bindings"][0]["authLevel"] = "function".into();
        assert_eq!(declared, serde_json::from_str::<Value>(function.json).unwrap(), "{file}");
    }
    let start = read_json(&entra.join("start/function.json"));
    assert_eq!(start["bindings"][0]["authLevel"], "function", "who may read may not start runs");
    let (code, _, stderr) = finish(&mut azimg(&["package", "--sign-in", "anonymous"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("keys") && stderr.contains("entra"), "{stderr}");
}

/// A handler at work, until it is dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(azure: &Azure, app: &Path, store: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut serve = azure.azimg(&["serve", "--store", store.to_str().unwrap()]);
        serve.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).current_dir(app);
        serve.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        let address = format!("http://127.0.0.1:{port}");
        let serving = Self { child: serve.spawn().unwrap(), address };
        wait_for("the handler", || (serving.status("/")? == 200).then_some(()));
        serving
    }

    /// None while nobody listens.
    fn status(&self, path: &str) -> Option<u16> {
        let answer = reqwest::blocking::get(format!("{}{path}", self.address)).ok()?;
        Some(answer.status().as_u16())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A package and the settings of its app are deployed, and rolled back, one without the other.
fn a_handler_with_unprotected_lookups_answers_none() {
    let azure = Azure::start(generate(Scale::Small, 96));
    let folder = tempfile::tempdir().unwrap();
    let packaged = |sign_in: &str| {
        let out = folder.path().join(sign_in);
        let arguments = ["package", "--out", out.to_str().unwrap(), "--sign-in", sign_in];
        json(azimg(&arguments).args(["-o", "json"]));
        out.join("app")
    };
    let (keys, entra) = (packaged("keys"), packaged("entra"));
    let store = folder.path().join("store");
    let answers = |app: &Path, settings: &[(&str, &str)]| {
        let serving = Serving::start(&azure, app, &store, settings);
        // The state of the catalog may be asked for by everybody: there is none yet.
        assert_eq!(serving.status("/api/health"), Some(503));
        let statuses = ["/api/openapi.json", "/api/images?top=1", "/api/runs"]
            .map(|path| serving.status(path).unwrap());
        // What the host invokes by itself is invoked: there is no such function.
        let client = reqwest::blocking::Client::new();
        let invoked = client.post(format!("{}/none", serving.address)).body("{}").send().unwrap();
        assert!(!invoked.text().unwrap().contains("SignInMissing"));
        let missing = reqwest::blocking::get(format!("{}/api/openapi.json", serving.address));
        let refused = missing.unwrap().text().unwrap().contains("SignInMissing");
        assert_eq!(refused, statuses == [503; 3], "{statuses:?}");
        !refused
    };
    let root = entra.to_str().unwrap();
    let signed_in = ("AZIMG_SIGN_IN", "entra");
    assert!(answers(&keys, &[]));
    assert!(answers(&keys, &[signed_in]), "a key is asked for, too");
    assert!(!answers(&entra, &[]), "it was rolled forward before its settings");
    assert!(!answers(&entra, &[("AZIMG_SIGN_IN", "keys")]));
    assert!(
        !answers(folder.path(), &[("FUNCTIONS_APP_ROOT_PATH", root)]),
        "it is started elsewhere"
    );
    assert!(answers(&entra, &[signed_in]));
    assert!(answers(&entra, &[signed_in, ("WEBSITE_AUTH_ENABLED", "True")]));
    assert!(
        !answers(&entra, &[signed_in, ("WEBSITE_AUTH_ENABLED", "False")]),
        "it is switched off"
    );
    // What is neither is no word for a default.
    let store = store.to_str().unwrap();
    let arguments = ["serve", "--port", "0", "--store", store];
    let (code, _, stderr) =
        finish(azure.azimg(&arguments).env("AZIMG_SIGN_IN", "Entra").current_dir(&entra));
    assert_ne!(code, 0);
    assert!(stderr.contains("neither keys nor entra"), "{stderr}");
}
