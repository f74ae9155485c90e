//! Settings that may hold a secret: whatever is wrong with one, and whatever is asked for then, nobody is told its
//! value. Neither is a caller over HTTP told where files of this machine lie.

use crate::support::azurite::free_port;
use crate::support::{Azure, finish, temporary, wait_for};
use crate::tests;
use azimg::testing::config::{Config, Flags, GuardedSetting, HiddenValue, PlainSetting};
use azimg::testing::sim::{Scale, generate};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::process::Command;

tests![
    errors_never_show_the_value_of_a_guarded_setting
        slow "what is not there is tried several times",
    no_response_shows_a_guarded_setting
        slow "what is not there is tried several times",
    each_setting_is_either_plain_or_guarded,
    no_path_of_this_machine_reaches_a_caller,
];

/// Stands in for what opens something.
const SECRET: &str = "Xq7ZpL0vMarkerR3dW";

/// How a value may be wrong, or lead to what is not there. Nothing but this machine is asked by any of them.
fn values(setting: GuardedSetting) -> Vec<String> {
    let mut shapes = vec![
        "http://user:S@127.0.0.1:9/",
        "https://user:S@127.0.0.1:9/x?sv=1&sig=S",
        "https://127.0.0.1:9/x?sv=1&sig=S",
        "127.0.0.1:9/azimg?sv=1&sig=S",
        "//127.0.0.1:9/azimg?sv=1&sig=S",
        "https:/127.0.0.1:9/azimg?sig=S",
        "http://[S",
        "https://127.0.0.1:S/",
        "sv=1&se=2&sig=S",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=S;EndpointSuffix=core.windows.net",
        "BlobEndpoint=https://127.0.0.1:9/;SharedAccessSignature=sv=1&sig=S",
        "AccountName=devstoreaccount1;AccountKey=S;BlobEndpoint=http://127.0.0.1:9/a;QueueEndpoint=S",
    ];
    if setting == GuardedSetting::STORE {
        shapes.extend([
            "https://127.0.0.1:9/S",
            "a.blob.core.windows.net/azimg?sv=1&sig=S",
            "a.blob.core.windows.net/azimg?sv=1&se=2&sp=r&SIG=S",
            "file://a.blob.core.windows.net/azimg?sig=S",
            "http://a.blob.core.windows.net/azimg?sig=S",
        ]);
    } else {
        shapes.extend(["S", "S\nS", "https://S@", "authorization=Bearer S,x=S"]);
    }
    let is_place =
        |at: usize, shape: &str| !shape[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic());
    let fill = |shape: &&str| {
        // An S that stands alone, and not one within a word.
        let mut filled = String::new();
        for (at, c) in shape.char_indices() {
            if c == 'S' && is_place(at, shape) { filled.push_str(SECRET) } else { filled.push(c) }
        }
        filled
    };
    shapes.iter().map(fill).collect()
}

/// The settings that a proxy is named by lead each request away, so that each is tried once.
fn is_proxy(setting: GuardedSetting) -> bool {
    setting.name().ends_with("_PROXY")
}

/// A command under one wrong setting, with all else as it should be.
fn command(
    azure: &Azure,
    store: &Path,
    line: &[&str],
    setting: GuardedSetting,
    value: &str,
) -> Command {
    let mut command = azure.azimg(line);
    if setting != GuardedSetting::STORE {
        command.env("AZIMG_STORE", store);
    }
    match setting {
        GuardedSetting::STORAGE_QUEUES
        | GuardedSetting::STORAGE_ACCOUNT
        | GuardedSetting::STORE => {}
        // Queues that are an emulator's which is not there.
        _ => {
            command.env("AzimgStorage__queueServiceUri", "https://127.0.0.1:9/");
        }
    }
    if matches!(setting, GuardedSetting::CLIENT_SECRET | GuardedSetting::AUTHORITY_HOST) {
        let id = "11111111-1111-4111-8111-111111111111";
        command.env("AZURE_TENANT_ID", id).env("AZURE_CLIENT_ID", id);
        command.env("AZURE_CLIENT_SECRET", "not-a-secret-of-anybody");
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
    }
    command.env(setting.name(), value);
    command
}

fn errors_never_show_the_value_of_a_guarded_setting() {
    let azure = Azure::start(generate(Scale::Small, 31));
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let reported = |what: &str, text: &str| {
        assert!(!text.contains(SECRET), "{what} tells it: {text}");
        assert!(!text.contains("panicked"), "{what}: {text}");
    };
    std::thread::scope(|scope| {
        for setting in GuardedSetting::ALL.iter().copied() {
            let (azure, reported) = (&azure, &reported);
            let store = folder.path().join(setting.name());
            scope.spawn(move || {
                let many = !is_proxy(setting);
                for value in values(setting) {
                    let lines: [&[&str]; 5] = [
                        &["images", "list"],
                        &["runs", "verify", "-v"],
                        &["registry", "tags", "127.0.0.1:9/app", "--username", "me"],
                        &["doctor", "-o", "json"],
                        &["crawl", "-vv", "--source", "marketplace", "--location", "eastus"],
                    ];
                    for line in &lines[..if many { 5 } else { 3 }] {
                        let mut command = command(azure, &store, line, setting, &value);
                        let output = command.output().unwrap();
                        let text = [output.stdout, output.stderr].concat();
                        let what = format!("{} of {}={value}", line.join(" "), setting.name());
                        reported(&what, &String::from_utf8_lossy(&text));
                    }
                }
            });
        }
    });
    // As a flag it is the same.
    for value in values(GuardedSetting::STORE) {
        let (code, stdout, stderr) =
            finish(&mut azure.azimg(&["images", "list", "--store", &value]));
        assert_ne!(code, 0, "{value}");
        reported(&value, &format!("{stdout}{stderr}"));
        assert!(
            stderr.contains("--store or AZIMG_STORE") || !stderr.contains("is not a store"),
            "{stderr}"
        );
    }
}

/// Starts what answers at a port, asks it, and ends it: all that was said by it and to its callers.
fn asked(mut command: Command, port: u16, folder: &Path) -> String {
    let log = folder.join(format!("{port}.log"));
    let file = File::create(&log).unwrap();
    let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let mut ended = || child.try_wait().unwrap().is_some();
    wait_for("a server, or its end", || {
        (ended() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).then_some(())
    });
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let mut heard = String::new();
    let envelope = r#"{"Data":{"req":{"Body":"{}","Method":"POST"}},"Metadata":{}}"#;
    let message = r#"{"Data":{"message":"{}"},"Metadata":{"DequeueCount":"1"}}"#;
    for (path, body) in [
        ("api/images", None),
        ("api/health", None),
        ("api/runs", None),
        ("api/runs", Some("{}")),
        ("start", Some(envelope)),
        ("sweep", Some(r#"{"Data":{"timer":{}},"Metadata":{}}"#)),
        ("publish", Some(message)),
    ] {
        let at = format!("http://127.0.0.1:{port}/{path}");
        let request = match body {
            Some(body) => client.post(at).header("content-type", "application/json").body(body),
            None => client.get(at),
        };
        // It may be gone already: then nothing is told.
        if let Ok(text) = request.send().and_then(reqwest::blocking::Response::text) {
            heard.push_str(&text);
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    heard + &std::fs::read_to_string(log).unwrap()
}

fn no_response_shows_a_guarded_setting() {
    let azure = Azure::start(generate(Scale::Small, 32));
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    std::thread::scope(|scope| {
        let named = [
            GuardedSetting::STORE,
            GuardedSetting::STORAGE,
            GuardedSetting::STORAGE_QUEUES,
            GuardedSetting::STORAGE_ACCOUNT,
            GuardedSetting::ARM_ENDPOINT,
            GuardedSetting::IDENTITY_ENDPOINT,
        ];
        for setting in named {
            let (azure, folder) = (&azure, folder.path());
            scope.spawn(move || {
                let store = folder.join(setting.name());
                for value in values(setting) {
                    for role in ["host", "serve"] {
                        let port = free_port();
                        let number = port.to_string();
                        let line = [role, "--port", &number, "-v"];
                        let command = command(azure, &store, &line, setting, &value);
                        let text = asked(command, port, folder);
                        let what = format!("{role} of {}={value}", setting.name());
                        assert!(!text.contains(SECRET), "{what} tells it: {text}");
                    }
                }
            });
        }
    });
}

fn each_setting_is_either_plain_or_guarded() {
    let plain: BTreeSet<&str> = PlainSetting::ALL.iter().map(|setting| setting.name()).collect();
    let guarded: BTreeSet<&str> =
        GuardedSetting::ALL.iter().map(|setting| setting.name()).collect();
    assert!(plain.is_disjoint(&guarded));
    for part in ["PASSWORD", "SECRET", "KEY", "TOKEN_FILE_CONTENT", "HEADER", "ENDPOINT", "STORE"] {
        assert!(plain.iter().all(|name| !name.contains(part)), "{part} is no plain setting");
    }
    // What may hold a secret cannot be printed at all.
    assert_eq!(format!("{:?}", HiddenValue::from(SECRET)), "…");
    let flags = Flags { store: Some(SECRET.into()), ..Flags::default() };
    assert!(!format!("{flags:?}").contains(SECRET));
    // A plain one is told, since that helps.
    let environment = HashMap::from([("AZIMG_CLOUD".to_owned(), "Mars".to_owned())]);
    let error = Config::from(environment, Flags::default()).unwrap().client().err().unwrap();
    assert!(error.to_string().contains("AZIMG_CLOUD: 'Mars'"), "{error}");
    // The names that are documented are the names that are read.
    for name in plain.iter().chain(&guarded).filter(|name| name.starts_with("AZIMG_")) {
        let root = crate::support::root();
        let files = [
            "README.md",
            "docs/azure.md",
            "docs/identity.md",
            "docs/registries.md",
            "docs/operations.md",
            "docs/galleries.md",
        ];
        let texts = files.map(|file| std::fs::read_to_string(root.join(file)).unwrap());
        assert!(texts.iter().any(|text| text.contains(name)), "{name} is documented nowhere");
    }
}

fn no_path_of_this_machine_reaches_a_caller() {
    let azure = Azure::start(generate(Scale::Small, 33));
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let file = folder.path().join("no folder");
    std::fs::write(&file, "").unwrap();
    for (name, from) in [("private-place", folder.path()), ("./private-place", folder.path())] {
        let port = free_port();
        let mut command = azure.azimg(&["serve", "--port", &port.to_string(), "--store", name]);
        command.current_dir(from).env("AzimgStorage__queueServiceUri", "https://127.0.0.1:9/");
        let log = folder.path().join("log");
        let mut child = command
            .stdout(File::create(&log).unwrap())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the handler", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        for path in ["api/images", "api/runs", "api/health", "api/changes"] {
            let answer = reqwest::blocking::get(format!("http://127.0.0.1:{port}/{path}")).unwrap();
            let (status, text) = (answer.status(), answer.text().unwrap());
            assert!(!text.contains("private-place"), "{path}: {status} {text}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
