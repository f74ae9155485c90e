//! Settings in files: who comes before whom, what is told of them, and what a file that somebody left in a folder
//! cannot do to whoever starts azimg there.

use crate::support::azurite::free_port;
use crate::support::{Azure, azimg, finish, json, temporary, wait_for};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

tests![
    settings_are_taken_from_flag_environment_folder_file_and_user_file,
    an_untrusted_settings_file_redirects_no_command,
    an_untrusted_settings_file_that_is_not_plain_text_is_refused,
    a_settings_file_that_others_can_write_is_refused,
    an_unknown_key_is_refused_with_the_nearest_name,
    no_secret_is_shown_and_none_is_taken_from_a_file,
    a_settings_file_does_not_change_the_output_of_scripts,
    a_deployed_handler_reads_no_file,
    a_misspelt_variable_is_reported,
];

/// A folder to start azimg in, and a home.
struct Seat {
    folder: tempfile::TempDir,
}

impl Seat {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(temporary()).unwrap();
        std::fs::create_dir_all(folder.path().join("home/.config/azimg")).unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work/azimg.toml")
    }

    fn own(&self) -> PathBuf {
        self.folder.path().join("home/.config/azimg/azimg.toml")
    }

    fn seat(&self, command: &mut Command) {
        command.current_dir(self.folder.path().join("work"));
        command.env_remove("XDG_CONFIG_HOME").env("HOME", self.folder.path().join("home"));
    }

    fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = azimg(arguments);
        self.seat(&mut command);
        command
    }
}

/// What `config show` tells of a setting: its value, and where that is from.
fn reported(command: &mut Command, setting: &str) -> (Value, String) {
    let rows = json(command);
    let row = rows.as_array().unwrap().iter().find(|row| row["setting"] == setting).unwrap();
    (row["value"].clone(), row["from"].as_str().unwrap().to_owned())
}

const SHOW: [&str; 4] = ["config", "show", "-o", "json"];

fn settings_are_taken_from_flag_environment_folder_file_and_user_file() {
    let seat = Seat::new();
    let locations = |command: &mut Command| reported(command, "locations");
    assert_eq!(locations(&mut seat.azimg(&SHOW)), (Value::Null, "default".to_owned()));
    std::fs::write(seat.own(), "locations = ['own']\nstore = './own'\nkeep-snapshots = 5\n")
        .unwrap();
    let own = seat.own().display().to_string();
    assert_eq!(locations(&mut seat.azimg(&SHOW)), ("own".into(), own.clone()));
    std::fs::write(seat.work(), "locations = ['eastus', 'westus2']\n").unwrap();
    let folders = ("eastus,westus2".into(), "./azimg.toml".to_owned());
    assert_eq!(locations(&mut seat.azimg(&SHOW)), folders);
    let set = ("said".into(), "environment".to_owned());
    assert_eq!(locations(seat.azimg(&SHOW).env("AZIMG_LOCATIONS", "said")), set);
    // What the folder's file does not say is the user's to say.
    assert_eq!(reported(&mut seat.azimg(&SHOW), "keep-snapshots"), ("5".into(), own.clone()));
    assert_eq!(reported(&mut seat.azimg(&SHOW), "store"), ("./own".into(), own));
    let flagged = [&SHOW[..], &["--store", "./flag"]].concat();
    let mut flagged = seat.azimg(&flagged);
    assert_eq!(
        reported(flagged.env("AZIMG_STORE", "./said"), "store"),
        ("./flag".into(), "flag".into())
    );
    // It is what a crawl takes: one location, and no other is asked for.
    let azure = Azure::start(generate(Scale::Small, 91));
    std::fs::write(seat.work(), "locations = ['westus2']\nsources = ['marketplace']\n").unwrap();
    let mut crawl = azure.azimg(&["crawl", "--details", "none", "-o", "json", "--quiet"]);
    seat.seat(&mut crawl);
    json(&mut crawl);
    let mut lines = seat.azimg(&["images", "list", "--query", "[].locations[]", "-o", "tsv"]);
    let (code, stdout, stderr) = finish(&mut lines);
    assert!(
        code == 0 && !stdout.is_empty() && stdout.lines().all(|name| name == "westus2"),
        "{stderr}"
    );
    // In the folder of the user's own file that is no stranger's.
    std::fs::write(seat.own(), "store = './x'\n").unwrap();
    let mut at_home = seat.azimg(&SHOW);
    at_home.current_dir(seat.own().parent().unwrap());
    assert_eq!(reported(&mut at_home, "store").0, "./x");
}

/// Each key that a stranger may not set, with what would lead to their server or do harm.
fn wishes(port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("store", format!("'https://127.0.0.1:{port}/azimg'")),
        ("store", "'./theirs'".to_owned()),
        ("registries", format!("['127.0.0.1:{port}']")),
        ("registry-username", "'me'".to_owned()),
        ("registry-password", "'theirs'".to_owned()),
        ("cloud", "'custom'".to_owned()),
        ("arm-endpoint", format!("'http://127.0.0.1:{port}'")),
        ("arm-audience", format!("'http://127.0.0.1:{port}'")),
        ("subscriptions", "['99999999-9999-4999-8999-999999999999']".to_owned()),
        ("community-galleries", "['Theirs-1']".to_owned()),
        ("cors-origins", "['https://theirs.example']".to_owned()),
        ("schedule", "'* * * * * *'".to_owned()),
        ("keep-snapshots", "1".to_owned()),
        ("run-deadline", "'1s'".to_owned()),
        ("offers-max-age", "'1s'".to_owned()),
        ("log", "'trace'".to_owned()),
        ("sign-in", "'entra'".to_owned()),
        // The names of variables, of programs, and of what other tools have in such files.
        ("AZIMG_STORE", "'./x'".to_owned()),
        ("AZURE_AUTHORITY_HOST", format!("'https://127.0.0.1:{port}'")),
        ("HTTPS_PROXY", format!("'http://127.0.0.1:{port}'")),
        ("pager", "'touch taken-over'".to_owned()),
        ("alias", "{ crawl = '!touch taken-over' }".to_owned()),
        ("include", "'/etc/passwd'".to_owned()),
    ]
}

fn an_untrusted_settings_file_redirects_no_command() {
    let azure = Azure::start(generate(Scale::Small, 92));
    let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
    theirs.set_nonblocking(true).unwrap();
    let port = theirs.local_addr().unwrap().port();
    let seat = Seat::new();
    let before = azure.sim.stats.to_json();
    for (key, value) in wishes(port) {
        std::fs::write(seat.work(), format!("{key} = {value}\n")).unwrap();
        let at = format!("127.0.0.1:{port}/app");
        let lines: [&[&str]; 5] = [
            &["crawl", "--location", "eastus"],
            &["images", "list"],
            &["doctor"],
            &["registry", "tags", &at],
            &["config", "show"],
        ];
        for line in lines {
            let mut command = azure.azimg(line);
            seat.seat(&mut command);
            command.env("AZIMG_REGISTRY_PASSWORD", "Xq7ZpL0vMarker");
            let (code, stdout, stderr) = finish(&mut command);
            assert_eq!((code, stdout.as_str()), (2, ""), "{key} {line:?}: {stderr}");
            assert!(stderr.starts_with("azimg: ./azimg.toml: "), "{key}: {stderr}");
            assert!(stderr.contains(&format!("'{key}'")), "{key}: {stderr}");
        }
    }
    assert_eq!(azure.sim.stats.to_json(), before, "nothing was asked");
    assert!(theirs.accept().is_err(), "nobody came to theirs");
    assert!(!seat.folder.path().join("work/taken-over").exists());
    let left: Vec<_> = std::fs::read_dir(seat.work().parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was written: {left:?}");
}

fn an_untrusted_settings_file_that_is_not_plain_text_is_refused() {
    let seat = Seat::new();
    let refused = |what: &str, says: &str| {
        let (code, stdout, stderr) = finish(&mut seat.azimg(&["config", "show"]));
        assert_eq!(stdout, "", "{what}");
        assert!(code != 0 && stderr.contains(says), "{what}: {stderr}");
        assert!(!stderr.contains(|c: char| c.is_control() && c != '\n'), "{what}: {stderr:?}");
        assert!(!stderr.contains("Xq7"), "{what} is reported: {stderr}");
        std::fs::remove_file(seat.work()).unwrap();
    };
    let secret = seat.folder.path().join("secret");
    std::fs::write(&secret, "password = Xq7ZpL0v\n").unwrap();
    std::os::unix::fs::symlink(&secret, seat.work()).unwrap();
    refused("a link", "it is a link");
    assert!(Command::new("mkfifo").arg(seat.work()).status().unwrap().success());
    refused("a pipe", "it is not a regular file");
    std::fs::write(seat.work(), "#".repeat(100_000)).unwrap();
    refused("a long file", "longer than 65536 bytes");
    std::fs::write(seat.work(), [0xff, 0xfe]).unwrap();
    refused("no text", "not UTF-8 text");
    std::fs::write(seat.work(), "a = \"Xq7\n").unwrap();
    refused("no TOML", "line 1");
    std::fs::write(seat.work(), "\"\\u001b[2J\\u202e\" = 1\n").unwrap();
    refused("escapes", "there is no setting");
    std::fs::write(seat.work(), format!("a = {}", "[".repeat(60_000))).unwrap();
    refused("brackets", "line 1");
}

fn a_settings_file_that_others_can_write_is_refused() {
    let seat = Seat::new();
    std::fs::write(seat.own(), "registries = ['registry.example.com']\n").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&seat.own(), 0o666);
    let (code, _, stderr) = finish(&mut seat.azimg(&SHOW));
    assert!(code == 1 && stderr.contains("every user of this machine can change it"), "{stderr}");
    mode(&seat.own(), 0o644);
    assert_eq!(reported(&mut seat.azimg(&SHOW), "registries").0, "registry.example.com");
    // Such files are kept elsewhere, and linked.
    let kept = seat.folder.path().join("kept.toml");
    std::fs::rename(seat.own(), &kept).unwrap();
    std::os::unix::fs::symlink(&kept, seat.own()).unwrap();
    assert_eq!(reported(&mut seat.azimg(&SHOW), "registries").0, "registry.example.com");
}

fn an_unknown_key_is_refused_with_the_nearest_name() {
    let seat = Seat::new();
    for file in [seat.work(), seat.own()] {
        for (text, says) in [
            ("location = ['eastus']", "there is no setting 'location'; the nearest is 'locations'"),
            ("publisher = 'x'", "the nearest is 'publishers'"),
            ("[azimg]\nstore = 'x'", "there is no setting 'azimg'"),
        ] {
            std::fs::write(&file, text).unwrap();
            let (code, _, stderr) = finish(&mut seat.azimg(&["images", "list"]));
            assert!(code == 2 && stderr.contains(says), "{stderr}");
            assert!(stderr.contains("azimg.toml: "), "{stderr}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}

fn no_secret_is_shown_and_none_is_taken_from_a_file() {
    let seat = Seat::new();
    let mark = "Xq7ZpL0vMarkerR3dW";
    for format in ["json", "table", "csv"] {
        let mut show = seat.azimg(&["config", "show", "-o", format]);
        show.env("AZIMG_STORE", format!("https://a.blob.core.windows.net/azimg?sv=1&sig={mark}"));
        show.env("AZIMG_ARM_ENDPOINT", format!("https://me:{mark}@127.0.0.1/"));
        show.env("AZIMG_REGISTRY_PASSWORD", mark).env("AZURE_CLIENT_SECRET", mark);
        let (code, stdout, stderr) = finish(&mut show);
        assert!(code == 0 && !format!("{stdout}{stderr}").contains(mark), "{stdout}{stderr}");
        assert!(stdout.contains("https://a.blob.core.windows.net/azimg"), "{stdout}");
        assert!(stdout.contains("(set, not shown)"), "{stdout}");
    }
    for text in [
        format!("registry-password = '{mark}'"),
        format!("store = 'https://a.blob.core.windows.net/azimg?sig={mark}'"),
        format!("arm-endpoint = 'https://me:{mark}@127.0.0.1/'"),
    ] {
        std::fs::write(seat.own(), &text).unwrap();
        let (code, _, stderr) = finish(&mut seat.azimg(&SHOW));
        assert!(code == 2 && stderr.contains("not kept in a file: set AZIMG_"), "{stderr}");
        assert!(!stderr.contains(mark), "{stderr}");
    }
}

fn a_settings_file_does_not_change_the_output_of_scripts() {
    let seat = Seat::new();
    std::fs::write(seat.work(), "output = 'table'\n").unwrap();
    let (_, stdout, _) = finish(&mut seat.azimg(&["config", "show"]));
    assert!(serde_json::from_str::<Value>(&stdout).is_ok(), "{stdout}");
    let (_, stdout, _) = finish(seat.azimg(&["config", "show"]).env("AZIMG_OUTPUT", "CSV"));
    assert!(stdout.starts_with("setting,value,from,variable"), "{stdout}");
    let mut wrong = seat.azimg(&["config", "show"]);
    let (code, _, stderr) = finish(wrong.env("AZIMG_OUTPUT", "xml"));
    assert!(
        code == 2 && stderr.contains("AZIMG_OUTPUT: 'xml' is not a format; there are table"),
        "{stderr}"
    );
    let mut flagged = seat.azimg(&SHOW);
    json(flagged.env("AZIMG_OUTPUT", "xml"));
}

fn a_deployed_handler_reads_no_file() {
    let seat = Seat::new();
    std::fs::write(seat.work(), "store = 'theirs'\n").unwrap();
    std::fs::write(seat.own(), "nonsense\n").unwrap();
    let port = free_port();
    let mut serve = seat.azimg(&["serve", "--port", &port.to_string()]);
    serve.env("AzimgStorage__queueServiceUri", "https://127.0.0.1:9/");
    let said = seat.folder.path().join("said");
    let file = std::fs::File::create(&said).unwrap();
    let mut child = serve.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    wait_for("the handler", || {
        let text = || std::fs::read_to_string(&said).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it ended: {}", text());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_misspelt_variable_is_reported() {
    let seat = Seat::new();
    let (code, _, stderr) = finish(seat.azimg(&SHOW).env("AZIMG_LOCATION", "eastus"));
    assert_eq!(code, 0);
    assert!(
        stderr.contains(
            "AZIMG_LOCATION is not a setting and is ignored; did you mean AZIMG_LOCATIONS?"
        ),
        "{stderr}"
    );
    // Another program's are its own.
    let (_, _, stderr) = finish(seat.azimg(&SHOW).env("AZIMG_PEERS", "1"));
    assert_eq!(stderr, "");
}
