//! What is written on this machine: nothing of somebody else is deleted, overwritten or followed, what is private is
//! its owner's alone whatever the umask is, and what others may write to is refused.

use crate::support::answering::token;
use crate::support::layout::digest;
use crate::support::{Azure, azimg, finish, json, temporary, wait_for};
use crate::tests;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use azimg::files::{self, Access, Folder, MadeFile, Staging};
use azimg::format::ledger::Ledger;
use azimg::scratch::Scratch;
use azimg::sim::{Scale, World, generate};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;

tests![
    a_package_takes_nothing_of_somebody_elses_away,
    what_was_made_before_is_made_anew_and_nothing_else,
    an_authority_of_somebody_else_is_not_overwritten,
    an_interrupted_pull_is_private_and_is_gone_on_with,
    nothing_that_is_planted_where_a_pull_stages_is_written_to,
    a_second_image_has_nothing_of_the_first,
    what_is_there_is_pulled_over_only_when_that_is_said,
    an_index_that_is_cut_or_too_large_stays,
    links_where_a_pull_lands_are_not_followed,
    two_that_pull_the_same_do_not_write_into_each_other,
    a_store_is_its_owners_alone_to_write_to_whatever_the_umask_is,
    a_store_that_others_may_write_to_is_refused,
    a_ledger_is_private_and_no_other_file_becomes_one,
    a_plan_replaces_a_plan_and_nothing_else,
    a_secret_is_written_once_and_read_only_while_it_is_one,
    what_is_swept_has_a_name_that_azimg_gave,
    a_demo_does_not_take_a_catalogs_place,
];

/// What lies below a folder, by its name there: what it is, its mode, and its bytes or where it leads.
type Lying = BTreeMap<String, (char, u32, Vec<u8>)>;

/// Everything below a folder.
fn everything(root: &Path) -> Lying {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mode = meta.permissions().mode() & 0o7777;
            let (kind, bytes) = if meta.is_symlink() {
                ('l', std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
            } else if meta.is_dir() {
                folders.push(path);
                ('d', Vec::new())
            } else {
                ('f', std::fs::read(&path).unwrap())
            };
            found.insert(name, (kind, mode, bytes));
        }
    }
    found
}

fn hidden(root: &Path) -> Vec<String> {
    everything(root)
        .into_keys()
        .filter(|name| name.split('/').any(|part| part.starts_with('.')))
        .collect()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command under a umask.
fn under(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

fn refused(command: &mut Command, words: &[&str]) {
    let (code, _, err) = finish(command);
    assert_ne!(code, 0, "{words:?}");
    for word in words {
        assert!(err.contains(word), "'{word}' is not in: {err}");
    }
}

/* Packages */

fn package(out: &Path) -> Command {
    let program = out.with_file_name("program");
    std::fs::write(&program, "a program").unwrap();
    azimg(&["package", "--out", out.to_str().unwrap(), "--binary", program.to_str().unwrap()])
}

fn a_package_takes_nothing_of_somebody_elses_away() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("app/src")).unwrap();
    std::fs::write(project.join("app/src/main.py"), "my work").unwrap();
    let before = everything(&project);
    // A folder app, as many projects have one; an archive; both behind links.
    refused(&mut package(&project), &["app/src/main.py", "--out", "move it away"]);
    assert_eq!(everything(&project), before);
    let archive = folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    std::fs::write(archive.join("azimg.zip"), "mine").unwrap();
    let before = everything(&archive);
    refused(&mut package(&archive), &["azimg.zip", "--out"]);
    assert_eq!(everything(&archive), before);
    let linked = folder.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    symlink(project.join("app"), linked.join("app")).unwrap();
    let before = (everything(&linked), everything(&project));
    refused(&mut package(&linked), &["linked/app is there, a link"]);
    assert_eq!((everything(&linked), everything(&project)), before);
    // A record that somebody wrote makes nothing azimg's that has other bytes.
    let record = json!({"madeByAzimg": {"app/src/main.py": [digest(b"other")[7..]]}});
    std::fs::write(project.join(".azimg-package"), record.to_string()).unwrap();
    let before = everything(&project);
    refused(&mut package(&project), &["app/src/main.py"]);
    assert_eq!(everything(&project), before);
    // Beside what has other names there is room.
    let beside = folder.path().join("beside");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("README.md"), "mine").unwrap();
    json(&mut package(&beside));
    assert_eq!(std::fs::read(beside.join("README.md")).unwrap(), b"mine");
    assert_eq!(hidden(&beside), [".azimg-package"]);
    // What it made, it makes anew; what was changed or added since is somebody's.
    let first = everything(&beside);
    json(&mut package(&beside));
    assert_eq!(everything(&beside), first);
    std::fs::write(beside.join("app/local.settings.json"), "mine").unwrap();
    let before = everything(&beside);
    refused(&mut package(&beside), &["app/local.settings.json"]);
    assert_eq!(everything(&beside), before);
    std::fs::remove_file(beside.join("app/local.settings.json")).unwrap();
    std::fs::write(beside.join("app/host.json"), "changed").unwrap();
    refused(&mut package(&beside), &["app/host.json"]);
    assert_eq!(std::fs::read(beside.join("app/host.json")).unwrap(), b"changed");
}

fn what_was_made_before_is_made_anew_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let put = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| MadeFile { name, bytes: text.as_bytes(), access: Access::Readable })
            .collect();
        files::put_made(&out, ".made", "--out", &files)
    };
    put(&[("app/a/old", "1"), ("app/b", "2")]).unwrap();
    put(&[("app/b", "3")]).unwrap();
    assert!(!out.join("app/a").exists(), "what it made before is gone");
    assert_eq!(std::fs::read(out.join("app/b")).unwrap(), b"3");
    // A file with a second name is replaced, and not written into.
    let second = folder.path().join("second");
    std::fs::hard_link(out.join("app/b"), &second).unwrap();
    put(&[("app/b", "4")]).unwrap();
    assert_eq!(std::fs::read(&second).unwrap(), b"3");
    // A record that is none is somebody's file.
    std::fs::write(out.join(".made"), "mine").unwrap();
    let error = put(&[("app/b", "5")]).unwrap_err().to_string();
    assert!(error.contains(".made") && error.contains("--out"), "{error}");
    assert_eq!(std::fs::read(out.join(".made")).unwrap(), b"mine");
}

fn an_authority_of_somebody_else_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |folder: &Path| {
        let runtime = Runtime::new().unwrap();
        let _entered = runtime.enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        azimg::sim::tls::serve(listener, Router::new(), folder)
    };
    let own = folder.path().join("own");
    serve(&own).unwrap();
    let first = std::fs::read(own.join("ca.pem")).unwrap();
    serve(&own).unwrap();
    assert_ne!(std::fs::read(own.join("ca.pem")).unwrap(), first);
    std::fs::write(own.join("ca.pem"), "our company's authority").unwrap();
    let error = serve(&own).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("--tls"), "{error}");
    assert_eq!(std::fs::read(own.join("ca.pem")).unwrap(), b"our company's authority");
}

/* Pulls */

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

/// A registry of images in memory, which holds half of one blob back as long as it is told to.
struct Images {
    address: String,
    at: Arc<Held>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Held {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    slow: String,
    holds: AtomicBool,
    asked: std::sync::Mutex<Vec<String>>,
}

/// Bytes of a layer that takes its time.
const SLOW: usize = 3 << 20;

impl Images {
    /// The images one and two of a layer each, and an artifact of two files; one has a further layer, which is slow.
    fn start() -> Self {
        let mut held = Held { holds: AtomicBool::new(true), ..Held::default() };
        let mut blob = |bytes: &[u8]| {
            held.blobs.insert(digest(bytes), bytes.to_vec());
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(bytes),
                "size": bytes.len()})
        };
        let slow = vec![b's'; SLOW];
        let slow_layer = blob(&slow);
        let named = |mut layer: Value, name: &str| {
            layer["annotations"] = json!({ TITLE: name });
            layer
        };
        let images = [
            ("one", vec![blob(b"a secret of image one"), slow_layer.clone()]),
            ("two", vec![blob(b"of image two")]),
            ("files", vec![named(blob(b"notes"), "notes.txt"), named(slow_layer, "slow.bin")]),
            ("notes", vec![named(blob(b"other notes"), "notes.txt")]),
        ];
        let mut manifests = HashMap::new();
        for (name, layers) in images {
            let mut config = blob(json!({"os": "linux", "of": name}).to_string().as_bytes());
            config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
                "layers": layers});
            manifests.insert(name.to_owned(), manifest.to_string().into_bytes());
        }
        held.manifests = manifests;
        held.slow = digest(&slow);
        let at = Arc::new(held);
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&at));
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, at, _runtime: runtime }
    }

    fn pull(&self, name: &str, to: &Path, more: &[&str]) -> Command {
        let at = format!("{}/{name}:v1", self.address);
        let line = ["registry", "pull", &at, to.to_str().unwrap(), "--anonymous", "-o", "json"];
        azimg(&[&line, more].concat())
    }

    /// Begins a pull of what has the slow layer, and ends the process with half of that written; the names that are
    /// there then, below `beside`.
    fn interrupted(&self, command: &mut Command, beside: &Path) -> Vec<String> {
        self.at.holds.store(true, Ordering::SeqCst);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut child = Ended(child);
        let halves = |name: &str, file: &(char, u32, Vec<u8>)| {
            name.contains("part") && file.2.len() >= SLOW / 3
        };
        wait_for("half of a layer", || {
            assert!(child.0.try_wait().unwrap().is_none(), "it ended before");
            let found = settled(beside)?;
            found.iter().any(|(name, file)| halves(name, file)).then_some(())
        });
        drop(child);
        self.at.holds.store(false, Ordering::SeqCst);
        everything(beside).into_keys().collect()
    }
}

/// A process that is ended with whoever has it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything below a folder in which something is going on; none when something went meanwhile.
fn settled(root: &Path) -> Option<Lying> {
    let root = root.to_owned();
    std::panic::catch_unwind(move || everything(&root)).ok()
}

async fn answer(State(at): State<Arc<Held>>, request: Request) -> Response {
    let path = request.uri().path().replace("%3A", ":");
    at.asked.lock().unwrap().push(path.clone());
    if let Some(token) = token(&path) {
        return token;
    }
    let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
    match parts[..] {
        [name, "manifests", _] => {
            let bytes = at.manifests[name].clone();
            Response::builder().header("content-type", MANIFEST).body(Body::from(bytes)).unwrap()
        }
        [_, "blobs", name] => {
            let bytes = bytes::Bytes::from(at.blobs[name].clone());
            let range = request.headers().get("range").and_then(|range| range.to_str().ok());
            let from = range.map_or(0, |range| {
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
            });
            let response = Response::builder().status(if from > 0 { 206 } else { 200 });
            if name != at.slow || !at.holds.load(Ordering::SeqCst) {
                return response.body(Body::from(bytes.slice(from..))).unwrap();
            }
            let half = futures::stream::iter([Ok(bytes.slice(from..SLOW * 2 / 3))]);
            let never = futures::stream::pending::<std::io::Result<bytes::Bytes>>();
            response.body(Body::from_stream(futures::StreamExt::chain(half, never))).unwrap()
        }
        _ => Response::builder().status(404).body(Body::from("{}")).unwrap(),
    }
}

/// The entries of an archive with their bytes.
fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        found.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
    }
    found
}

/// The forms that something with a slow layer is pulled to: the image, the target, flags.
const FORMS: [(&str, &str, &[&str]); 3] =
    [("one", "app.tar", &[]), ("one", "layout", &[]), ("files", "files", &["--to", "files"])];

/// What is in a target that is whole: true when nothing else is.
fn is_whole(images: &Images, form: &str, target: &Path) -> bool {
    let blobs: BTreeSet<String> = match form {
        "app.tar" => unpacked(target).into_keys().collect(),
        _ => everything(target).into_keys().collect(),
    };
    let slow = &images.at.slow[7..];
    // What was planted beside it stays.
    let found: BTreeSet<String> = blobs.into_iter().filter(|name| !name.starts_with('.')).collect();
    match form {
        "files" => found == BTreeSet::from(["notes.txt".to_owned(), "slow.bin".to_owned()]),
        _ => found.contains(&format!("blobs/sha256/{slow}")) && found.contains("index.json"),
    }
}

fn an_interrupted_pull_is_private_and_is_gone_on_with() {
    let images = Images::start();
    for (image, form, more) in FORMS {
        for is_there in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join(form);
            if is_there && form != "app.tar" {
                std::fs::create_dir(&target).unwrap();
            }
            let command = images.pull(image, &target, more);
            images.interrupted(&mut under("000", &command), folder.path());
            // All that is there lies in one folder that nobody else may look into.
            let found = everything(folder.path());
            let staging: Vec<_> = found.iter().filter(|(name, _)| is_staging(name)).collect();
            let [(staging, (_, mode, _))] = staging[..] else {
                panic!("{form}: {:?}", found.keys())
            };
            assert_eq!(*mode, 0o700, "{form}");
            let outside = |name: &&String| {
                !name.starts_with(staging.as_str()) && (*name != form || !is_there)
            };
            assert_eq!(found.keys().find(outside), None, "{form}");
            assert!(!target.exists() || is_there);
            // The next one has less to fetch, and leaves nothing beside it.
            images.at.asked.lock().unwrap().clear();
            let pulled = json(&mut under("000", &command));
            assert_eq!(
                (&pulled["resumed"], &pulled["restarted"]),
                (&json!(1), &json!(0)),
                "{form}"
            );
            assert!(is_whole(&images, form, &target), "{form}");
            assert_eq!(hidden(folder.path()), Vec::<String>::new(), "{form}");
            // Whoever has the umask 000 does not mean that everybody may change an image.
            for (name, (kind, mode, _)) in everything(folder.path()) {
                assert!(kind == 'l' || mode & 0o022 == 0, "{form}: {name} {mode:o}");
            }
        }
    }
}

fn is_staging(name: &str) -> bool {
    name.rsplit('/').next().unwrap().starts_with(".azimg-staging-")
}

/// Names that a pull gives when all has been fetched, and those that it gave before there was a staging folder.
const LATER: [&str; 6] =
    ["archive.tar", "image/index.json", "image/oci-layout", "files", "files/notes.txt", "lock"];
const EARLIER: [&str; 5] = [
    ".app.tar.part",
    ".app.tar.layout",
    "layout/.index.json.part",
    "files/.notes.txt.part",
    ".part",
];

fn nothing_that_is_planted_where_a_pull_stages_is_written_to() {
    let images = Images::start();
    for (image, form, more) in FORMS {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("pulls");
        let victim = at.path().join("victim");
        let target = folder.join(form);
        let begin = || {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir(&folder).unwrap();
        };
        begin();
        let names = images.interrupted(&mut images.pull(image, &target, more), &folder);
        let staging = names.iter().find(|name| is_staging(name)).unwrap().clone();
        let mut names: BTreeSet<String> = names.into_iter().collect();
        names.extend(LATER.map(|name| format!("{staging}/{name}")));
        names.extend(
            EARLIER
                .map(str::to_owned)
                .into_iter()
                .filter(|name| !name.contains('/') || name.starts_with(&format!("{form}/"))),
        );
        assert!(names.len() > 12, "{names:?}");
        let _ = std::fs::remove_dir_all(&victim);
        std::fs::create_dir_all(victim.join("folder")).unwrap();
        std::fs::write(victim.join("file"), "mine").unwrap();
        std::fs::write(victim.join("folder/file"), "mine").unwrap();
        let untouched = everything(&victim);
        for name in &names {
            for (what, to) in
                [("link", "file"), ("link", "folder"), ("link", "nothing"), ("hard", "file")]
            {
                begin();
                let path = folder.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                if name != &staging && name.starts_with(&staging) {
                    set_mode(&folder.join(&staging), 0o700);
                }
                match what {
                    "link" => symlink(victim.join(to), &path).unwrap(),
                    _ => std::fs::hard_link(victim.join(to), &path).unwrap(),
                }
                let (code, _, err) = finish(&mut images.pull(image, &target, more));
                assert_eq!(everything(&victim), untouched, "{name}: {what} to {to}");
                assert!(code != 0 || is_whole(&images, form, &target), "{name}: {what} to {to}");
                // What cannot be gone on with is named.
                assert!(
                    code == 0 || err.contains(name.as_str()) || err.contains(form),
                    "{name}: {err}"
                );
            }
        }
        // The folder itself: others may look into it, or it is somebody else's.
        for how in ["open", "foreign"] {
            begin();
            let path = folder.join(&staging);
            std::fs::create_dir(&path).unwrap();
            set_mode(&path, if how == "open" { 0o755 } else { 0o700 });
            if how == "foreign" {
                if !is_root() {
                    continue;
                }
                std::os::unix::fs::chown(&path, Some(54_321), Some(54_321)).unwrap();
            }
            refused(&mut images.pull(image, &target, more), &[staging.as_str(), "remove it"]);
            assert!(!target.exists(), "{how}");
        }
    }
}

fn a_second_image_has_nothing_of_the_first() {
    let images = Images::start();
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    images.interrupted(&mut images.pull("one", &tar, &[]), folder.path());
    assert!(!hidden(folder.path()).is_empty());
    json(&mut images.pull("two", &tar, &[]));
    assert_eq!(hidden(folder.path()), Vec::<String>::new(), "what was left of the first");
    let found = unpacked(&tar);
    let manifest = &images.at.manifests["two"];
    let document: Value = serde_json::from_slice(manifest).unwrap();
    let named = [
        digest(manifest),
        digest(b"of image two"),
        document["config"]["digest"].as_str().unwrap().into(),
    ];
    let blobs = named.iter().map(|digest| format!("blobs/sha256/{}", &digest[7..]));
    let wanted: BTreeSet<String> =
        blobs.chain(["index.json", "manifest.json", "oci-layout"].map(str::to_owned)).collect();
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), wanted);
    let all: Vec<u8> = found.into_values().flatten().collect();
    assert!(!String::from_utf8_lossy(&all).contains("a secret of image one"));
    // Of a layout, too: what is left of the one is not in the other.
    let layout = folder.path().join("layout");
    images.interrupted(&mut images.pull("one", &layout, &[]), folder.path());
    json(&mut images.pull("two", &layout, &[]));
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
    assert_eq!(everything(&layout.join("blobs/sha256")).len(), 3);
}

fn what_is_there_is_pulled_over_only_when_that_is_said() {
    let images = Images::start();
    images.at.holds.store(false, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let blobs_asked =
        || images.at.asked.lock().unwrap().iter().filter(|p| p.contains("/blobs/")).count();
    // An archive; a file whose second name must not change; a link; a folder.
    let tar = folder.path().join("app.tar");
    let second = folder.path().join("second");
    std::fs::write(&tar, "mine").unwrap();
    std::fs::hard_link(&tar, &second).unwrap();
    refused(&mut images.pull("two", &tar, &[]), &["app.tar is there already", "--overwrite"]);
    assert_eq!(std::fs::read(&tar).unwrap(), b"mine");
    assert_eq!(blobs_asked(), 0, "it is said before anything is fetched");
    json(&mut images.pull("two", &tar, &["--overwrite"]));
    assert!(unpacked(&tar).contains_key("index.json"));
    assert_eq!(std::fs::read(&second).unwrap(), b"mine");
    let taken = folder.path().join("folder.tar");
    std::fs::create_dir(&taken).unwrap();
    refused(&mut images.pull("two", &taken, &["--overwrite"]), &["folder.tar is a folder"]);
    // Files: what has the right bytes is as good, other bytes stay.
    let to = folder.path().join("files");
    json(&mut images.pull("files", &to, &["--to", "files"]));
    std::fs::write(to.join("mine"), "mine").unwrap();
    let before = everything(&to);
    images.at.asked.lock().unwrap().clear();
    json(&mut images.pull("files", &to, &["--to", "files"]));
    assert_eq!((blobs_asked(), everything(&to)), (0, before.clone()));
    refused(
        &mut images.pull("notes", &to, &["--to", "files"]),
        &["notes.txt is there", "--overwrite"],
    );
    assert_eq!(everything(&to), before);
    json(&mut images.pull("notes", &to, &["--to", "files", "--overwrite"]));
    assert_eq!(std::fs::read(to.join("notes.txt")).unwrap(), b"other notes");
    assert_eq!(std::fs::read(to.join("mine")).unwrap(), b"mine");
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
}

fn an_index_that_is_cut_or_too_large_stays() {
    let images = Images::start();
    images.at.holds.store(false, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    json(&mut images.pull("one", &layout, &[]));
    let index = layout.join("index.json");
    let whole = std::fs::read(&index).unwrap();
    let mut large = whole.clone();
    large.resize((4 << 20) + 1, b' ');
    let cases: [(&str, &[u8], &str); 5] = [
        ("cut", &whole[..whole.len() / 2], "EOF"),
        ("empty", b"", "EOF"),
        ("too large", &large, "more than 4 MiB"),
        ("something else", b"{\"name\": \"my-project\"}", "lists no manifests"),
        ("a list", b"[1]", "lists no manifests"),
    ];
    for (what, bytes, why) in cases {
        std::fs::write(&index, bytes).unwrap();
        let before = everything(&layout);
        refused(
            &mut images.pull("two", &layout, &[]),
            &["index.json", why, "move it away", "would be lost"],
        );
        assert!(everything(&layout) == before, "{what}");
    }
    // What it says is done: the other image's blobs are still there.
    std::fs::rename(&index, folder.path().join("index.before")).unwrap();
    images.at.asked.lock().unwrap().clear();
    json(&mut images.pull("one", &layout, &[]));
    assert!(!images.at.asked.lock().unwrap().iter().any(|path| path.contains("/blobs/")));
    // A second image is added; one of the same name is replaced.
    let at = format!("{}/two@{}", images.address, digest(&images.at.manifests["two"]));
    json(&mut azimg(&["registry", "pull", &at, layout.to_str().unwrap(), "--anonymous"]));
    let index: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    // An index.json of a project is not a layout's.
    let project = folder.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("index.json"), "{\"manifests\": []}").unwrap();
    let before = everything(&project);
    refused(&mut images.pull("two", &project, &[]), &["index.json", "no oci-layout beside it"]);
    assert_eq!(everything(&project), before);
}

fn links_where_a_pull_lands_are_not_followed() {
    let images = Images::start();
    images.at.holds.store(false, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "mine").unwrap();
    let untouched = everything(&victim);
    let at = |name: &str| folder.path().join(name);
    // The target of an archive.
    for to in ["file", "nothing"] {
        let tar = at(&format!("{to}.tar"));
        symlink(victim.join(to), &tar).unwrap();
        refused(&mut images.pull("two", &tar, &[]), &["is there already", "--overwrite"]);
        assert!(tar.is_symlink());
        json(&mut images.pull("two", &tar, &["--overwrite"]));
        assert!(!tar.is_symlink() && unpacked(&tar).contains_key("index.json"));
        assert_eq!(everything(&victim), untouched);
    }
    // A file of an artifact.
    std::fs::create_dir(at("files")).unwrap();
    symlink(victim.join("file"), at("files").join("notes.txt")).unwrap();
    let to = at("files");
    refused(&mut images.pull("notes", &to, &["--to", "files"]), &["notes.txt is there already"]);
    json(&mut images.pull("notes", &to, &["--to", "files", "--overwrite"]));
    assert_eq!(std::fs::read(to.join("notes.txt")).unwrap(), b"other notes");
    assert_eq!(everything(&victim), untouched);
    // Parts of a layout.
    for name in ["blobs", "blobs/sha256", "index.json", "oci-layout"] {
        for to in ["", "file"] {
            let layout = at(&format!("layout-{}-{to}", name.replace('/', "-")));
            std::fs::create_dir(&layout).unwrap();
            std::fs::create_dir_all(layout.join(name).parent().unwrap()).unwrap();
            symlink(victim.join(to), layout.join(name)).unwrap();
            refused(&mut images.pull("two", &layout, &[]), &[name, "is a link"]);
            assert_eq!(everything(&victim), untouched, "{name}");
        }
    }
    // A folder behind a link that one has made oneself is meant; one behind a link of somebody else is not.
    std::fs::create_dir(at("large disk")).unwrap();
    symlink(at("large disk"), at("layouts")).unwrap();
    json(&mut images.pull("two", &at("layouts"), &[]));
    assert!(at("large disk/index.json").exists());
    if is_root() {
        symlink(&victim, at("foreign")).unwrap();
        std::os::unix::fs::lchown(at("foreign"), Some(54_321), None).unwrap();
        refused(&mut images.pull("two", &at("foreign"), &[]), &["another user made"]);
    }
    symlink(victim.join("file"), at("a file")).unwrap();
    refused(&mut images.pull("two", &at("a file"), &[]), &["a file is no folder"]);
    assert_eq!(everything(&victim), untouched);
}

fn two_that_pull_the_same_do_not_write_into_each_other() {
    let images = Images::start();
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    let mut first = images.pull("one", &tar, &[]);
    let first = Ended(first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for("the first", || {
        settled(folder.path())?.keys().any(|name| name.contains("part")).then_some(())
    });
    refused(&mut images.pull("one", &tar, &[]), &["app.tar: somebody else is writing"]);
    // Another image does not take away what the first is at work on.
    json(&mut images.pull("two", &tar, &[]));
    assert!(!hidden(folder.path()).is_empty());
    drop(first);
    images.at.holds.store(false, Ordering::SeqCst);
    json(&mut images.pull("one", &tar, &["--overwrite"]));
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
}

/* Stores, ledgers, secrets */

fn small() -> World {
    generate(Scale::Small, 1)
}

fn a_store_is_its_owners_alone_to_write_to_whatever_the_umask_is() {
    let azure = Azure::start(small());
    for umask in ["000", "002", "022", "077"] {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("new/store");
        let line = ["crawl", "--source", "marketplace", "--details", "none", "--store"];
        let command = azure.azimg(&[&line[..], &[store.to_str().unwrap()]].concat());
        for _ in 0..2 {
            let (code, _, err) = finish(&mut under(umask, &command));
            assert_eq!(code, 0, "{umask}: {err}");
        }
        let mask = u32::from_str_radix(umask, 8).unwrap();
        assert_eq!(store.metadata().unwrap().mode() & 0o777, 0o755 & !mask, "{umask}");
        let mut of_runs = 0;
        for (name, (kind, mode, _)) in everything(&store) {
            let is_private = name == "runs" || name.starts_with("runs/") || name.starts_with('.');
            of_runs += usize::from(is_private);
            let wanted = match (kind, is_private) {
                ('d', true) => 0o700,
                ('d', false) => 0o755,
                (_, true) => 0o600,
                _ => 0o644,
            };
            assert_eq!(mode & 0o777, wanted & !mask, "{umask}: {name} {mode:o}");
        }
        assert!(of_runs > 10, "{of_runs}");
    }
    // Where things are made before they are published, nobody else may look.
    let scratch = Scratch::new().unwrap();
    assert_eq!(scratch.path().metadata().unwrap().mode() & 0o777, 0o700);
}

fn a_store_that_others_may_write_to_is_refused() {
    let azure = Azure::start(small());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let path = store.to_str().unwrap();
    let crawl = ["crawl", "--source", "marketplace", "--details", "none", "--store", path];
    let list = ["images", "list", "--store", path];
    assert_eq!(finish(&mut azure.azimg(&crawl)).0, 0);
    let chmod = format!("chmod -R go-w {path}");
    let refuses = |words: &[&str]| {
        let before = everything(&store);
        refused(&mut azure.azimg(&crawl), &[words, &[chmod.as_str(), "--store"]].concat());
        refused(&mut azimg(&list), words);
        assert_eq!(everything(&store), before);
    };
    // Everybody: with the sticky bit, too, since whoever is first to write an outcome decides it.
    for mode in [0o777, 0o1777, 0o702] {
        set_mode(&store, mode);
        refuses(&["everybody on this machine may write to the store", path]);
    }
    set_mode(&store, 0o755);
    // What an earlier azimg made under the umask 000.
    for below in ["runs", "snapshots"] {
        set_mode(&store.join(below), 0o777);
        let chmod = format!("chmod -R go-w {path}/{below}");
        refused(&mut azimg(&list), &["everybody", &chmod]);
        set_mode(&store.join(below), 0o755);
    }
    // A group: one's own is as good as oneself.
    set_mode(&store, 0o775);
    if is_root() {
        std::os::unix::fs::chown(&store, Some(54_321), Some(54_321)).unwrap();
        assert_eq!(finish(&mut azimg(&list)).0, 0);
        std::os::unix::fs::chown(&store, Some(54_321), Some(54_322)).unwrap();
        refuses(&["its group may write to the store"]);
        std::os::unix::fs::chown(&store, Some(0), Some(0)).unwrap();
    }
    // What is said helps, and a folder in it would have, too.
    set_mode(&store, 0o777);
    assert!(Command::new("/bin/sh").args(["-c", &chmod]).status().unwrap().success());
    assert_eq!(finish(&mut azimg(&list)).0, 0);
    set_mode(&store, 0o777);
    let inner = store.join("catalog");
    let line = [
        "crawl",
        "--source",
        "marketplace",
        "--details",
        "none",
        "--store",
        inner.to_str().unwrap(),
    ];
    assert_eq!(finish(&mut under("000", &azure.azimg(&line))).0, 0);
}

fn a_ledger_is_private_and_no_other_file_becomes_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |name: &str| at(name).metadata().unwrap().mode() & 0o777;
    drop(Ledger::open(&at("ledger"), "PLAN").unwrap());
    assert_eq!(mode("ledger"), 0o600);
    // One of an earlier azimg.
    set_mode(&at("ledger"), 0o666);
    drop(Ledger::open(&at("ledger"), "PLAN").unwrap());
    assert_eq!(mode("ledger"), 0o600);
    // What is no ledger.
    for text in ["my notes\n", "{\"a\": 1}\n", "{\n  \"a\": 1\n}\n", "[]"] {
        std::fs::write(at("notes"), text).unwrap();
        let error = Ledger::open(&at("notes"), "PLAN").unwrap_err().to_string();
        assert!(error.contains("notes") && error.contains("--ledger"), "{error}");
        assert_eq!(std::fs::read_to_string(at("notes")).unwrap(), text);
    }
    // Links, symbolic and hard, to what is empty, so that nothing else speaks against it.
    std::fs::write(at("victim"), "").unwrap();
    symlink(at("victim"), at("link")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    std::fs::hard_link(at("victim"), at("hard")).unwrap();
    for (name, word) in
        [("link", "it is a link"), ("dangling", "it is a link"), ("hard", "second name")]
    {
        let error = Ledger::open(&at(name), "PLAN").unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
    assert!(!at("nothing").exists());
    // What is exported before it goes: all of it.
    let undo = at("undo/of/today");
    drop(azimg::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap());
    for (name, (kind, mode, _)) in everything(&at("undo")) {
        assert_eq!(mode, if kind == 'd' { 0o700 } else { 0o600 }, "{name}");
    }
    for left in ["{\"loginSer", "{"] {
        std::fs::write(undo.join("exported.ndjson"), left).unwrap();
        for _ in 0..2 {
            drop(azimg::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap());
            let text = std::fs::read_to_string(undo.join("exported.ndjson")).unwrap();
            assert_eq!(text, format!("{left}\n"), "the next line has its own");
        }
    }
    std::fs::write(undo.join("exported.ndjson"), "my notes\n").unwrap();
    let error = azimg::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap_err();
    assert!(error.to_string().contains("--export"), "{error}");
    std::fs::remove_file(undo.join("exported.ndjson")).unwrap();
    symlink(at("victim"), undo.join("exported.ndjson")).unwrap();
    let error = azimg::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap_err();
    assert!(error.to_string().contains("it is a link"), "{error}");
    assert_eq!(std::fs::read(at("victim")).unwrap(), b"");
}

fn a_plan_replaces_a_plan_and_nothing_else() {
    let azure = Azure::start(small());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = |path: &Path| {
        let line = ["gallery", "retire", "--keep", "100", "--plan", path.to_str().unwrap()];
        under("000", &azure.azimg(&line))
    };
    let (code, _, err) = finish(&mut plan(&at("plan.json")));
    assert_eq!(code, 0, "{err}");
    let first = std::fs::read(at("plan.json")).unwrap();
    assert_eq!(at("plan.json").metadata().unwrap().mode() & 0o777, 0o644);
    assert_eq!(finish(&mut plan(&at("plan.json"))).0, 0);
    assert_ne!(std::fs::read(at("plan.json")).unwrap(), first);
    std::fs::write(at("notes.json"), "{\"mine\": true}").unwrap();
    symlink(at("plan.json"), at("link.json")).unwrap();
    symlink(at("nothing"), at("dangling.json")).unwrap();
    std::fs::create_dir(at("folder.json")).unwrap();
    let before = everything(folder.path());
    for (name, what) in [
        ("notes.json", "a file that azimg did not write"),
        ("link.json", "a link that azimg did not write"),
        ("dangling.json", "a link that azimg did not write"),
        ("folder.json", "a folder that azimg did not write"),
    ] {
        refused(&mut plan(&at(name)), &[name, what, "--plan"]);
    }
    assert_eq!(everything(folder.path()), before);
    // What is open is written to as it is.
    let line =
        ["gallery", "retire", "--keep", "100", "--quiet", "--plan", "/dev/stderr", "-o", "json"];
    let (code, out, err) = finish(&mut azure.azimg(&line));
    assert_eq!(code, 0, "{err}");
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&err).unwrap(), printed);
}

fn a_secret_is_written_once_and_read_only_while_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    assert_eq!(files::read_private(&key).unwrap(), None);
    assert!(files::create_private(&key, b"one").unwrap());
    assert!(!files::create_private(&key, b"two").unwrap());
    assert_eq!(files::read_private(&key).unwrap().unwrap(), b"one");
    assert_eq!(everything(folder.path()).len(), 1);
    assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o666] {
        set_mode(&key, mode);
        let error = files::read_private(&key).unwrap_err().to_string();
        assert!(error.contains("others may read or change it"), "{error}");
    }
    set_mode(&key, 0o600);
    let link = folder.path().join("link");
    symlink(&key, &link).unwrap();
    let error = files::read_private(&link).unwrap_err().to_string();
    assert!(error.contains("it is a link"), "{error}");
    assert!(!files::create_private(&link, b"two").unwrap());
    assert_eq!(std::fs::read(&key).unwrap(), b"one");
    // Of many who make it at once, one does.
    let contended = folder.path().join("contended");
    let made: Vec<bool> = std::thread::scope(|scope| {
        let make = |number: u8| {
            let contended = &contended;
            scope.spawn(move || files::create_private(contended, &[number]).unwrap())
        };
        let makers: Vec<_> = (0..8).map(make).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    let winner = made.iter().position(|made| *made).unwrap();
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    assert_eq!(files::read_private(&contended).unwrap().unwrap(), [u8::try_from(winner).unwrap()]);
    // A staging folder that nothing was put into goes by itself.
    let parent = Folder::open(folder.path()).unwrap();
    drop(Staging::open(parent.again().unwrap(), "x", "y").unwrap());
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
}

fn what_is_swept_has_a_name_that_azimg_gave() {
    let azure = Azure::start(small());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let old = |name: &str| {
        let path = store.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let age = std::time::Duration::from_hours(500);
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
        path
    };
    let theirs: Vec<PathBuf> = [
        ".part-of-the-book",
        "my project/.part-aB3dEf",
        "runs/.part-1-introduction",
        "my project/runs/.part-aB3dEf",
    ]
    .map(old)
    .into();
    let ours: Vec<PathBuf> = [".part-aB3dEf", "runs/x/.part-aB3dEf"].map(old).into();
    let line = ["crawl", "--source", "marketplace", "--details", "none", "--store"];
    let (code, _, err) =
        finish(&mut azure.azimg(&[&line[..], &[store.to_str().unwrap()]].concat()));
    assert_eq!(code, 0, "{err}");
    assert!(theirs.iter().all(|path| path.exists()));
    assert!(!ours.iter().any(|path| path.exists()));
    // The temporary folder is shared: what somebody else made there stays.
    if is_root() {
        let left = temporary().join("azimg-scratch-aB3dEf");
        std::fs::write(&left, "").unwrap();
        let file = std::fs::File::options().write(true).open(&left).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(500))
            .unwrap();
        std::os::unix::fs::chown(&left, Some(54_321), None).unwrap();
        assert_eq!(
            finish(&mut azure.azimg(&[&line[..], &[store.to_str().unwrap()]].concat())).0,
            0
        );
        assert!(left.exists());
        std::fs::remove_file(left).unwrap();
    }
}

fn a_demo_does_not_take_a_catalogs_place() {
    let azure = Azure::start(small());
    let folder = tempfile::tempdir().unwrap();
    let (real, demo) = (folder.path().join("real"), folder.path().join("demo"));
    let crawl = |store: &Path, more: &[&'static str]| {
        let line = ["crawl", "--source", "gallery", "--details", "none", "--store"];
        azure.azimg(&[&line[..], &[store.to_str().unwrap()], more].concat())
    };
    assert_eq!(finish(&mut crawl(&real, &[])).0, 0);
    let before = everything(&real);
    refused(&mut crawl(&real, &["--demo"]), &["real holds a catalog", "--store"]);
    assert_eq!(everything(&real), before);
    assert_eq!(finish(&mut crawl(&demo, &["--demo"])).0, 0);
    let before = everything(&demo);
    refused(&mut crawl(&demo, &[]), &["demo holds the made-up catalog", "--store"]);
    assert_eq!(everything(&demo), before);
    assert_eq!(finish(&mut crawl(&demo, &["--demo"])).0, 0, "a demo can be made again");
}
