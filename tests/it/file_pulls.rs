//! Folders that images are pulled into: files of others are neither deleted nor overwritten nor followed, and what an
//! interrupted pull leaves is private.

use crate::support::folders::{everything, hidden, is_root, refused, set_mode, under};
use crate::support::images::{Ended, Images, settled};
use crate::support::layout::digest;
use crate::support::{azimg, finish, json, wait_for};
use crate::tests;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;

tests![
    an_interrupted_pull_is_private_and_is_resumed,
    files_planted_in_a_staging_folder_are_not_written_to,
    a_pull_uses_nothing_of_another_image_staged_before,
    existing_files_are_overwritten_only_with_the_option,
    an_unreadable_layout_index_is_not_overwritten,
    links_where_a_pull_lands_are_not_followed,
    two_pulls_of_one_image_do_not_share_files,
];

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

fn an_interrupted_pull_is_private_and_is_resumed() {
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

fn files_planted_in_a_staging_folder_are_not_written_to() {
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

fn a_pull_uses_nothing_of_another_image_staged_before() {
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

fn existing_files_are_overwritten_only_with_the_option() {
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
    refused(&mut images.pull("two", &tar, &[]), &["app.tar already exists", "--overwrite"]);
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
        &["notes.txt already exists", "--overwrite"],
    );
    assert_eq!(everything(&to), before);
    json(&mut images.pull("notes", &to, &["--to", "files", "--overwrite"]));
    assert_eq!(std::fs::read(to.join("notes.txt")).unwrap(), b"other notes");
    assert_eq!(std::fs::read(to.join("mine")).unwrap(), b"mine");
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
}

fn an_unreadable_layout_index_is_not_overwritten() {
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
    refused(&mut images.pull("two", &project, &[]), &["index.json", "oci-layout is missing"]);
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
        refused(&mut images.pull("two", &tar, &[]), &["already exists", "--overwrite"]);
        assert!(tar.is_symlink());
        json(&mut images.pull("two", &tar, &["--overwrite"]));
        assert!(!tar.is_symlink() && unpacked(&tar).contains_key("index.json"));
        assert_eq!(everything(&victim), untouched);
    }
    // A file of an artifact.
    std::fs::create_dir(at("files")).unwrap();
    symlink(victim.join("file"), at("files").join("notes.txt")).unwrap();
    let to = at("files");
    refused(&mut images.pull("notes", &to, &["--to", "files"]), &["notes.txt already exists"]);
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
        refused(&mut images.pull("two", &at("foreign"), &[]), &["another user created"]);
    }
    symlink(victim.join("file"), at("a file")).unwrap();
    refused(&mut images.pull("two", &at("a file"), &[]), &["a file is not a folder"]);
    assert_eq!(everything(&victim), untouched);
}

fn two_pulls_of_one_image_do_not_share_files() {
    let images = Images::start();
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    let mut first = images.pull("one", &tar, &[]);
    let first = Ended(first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for("the first", || {
        settled(folder.path())?.keys().any(|name| name.contains("part")).then_some(())
    });
    refused(&mut images.pull("one", &tar, &[]), &["app.tar: another process is writing"]);
    // Another image does not take away what the first is at work on.
    json(&mut images.pull("two", &tar, &[]));
    assert!(!hidden(folder.path()).is_empty());
    drop(first);
    images.at.holds.store(false, Ordering::SeqCst);
    json(&mut images.pull("one", &tar, &["--overwrite"]));
    assert_eq!(hidden(folder.path()), Vec::<String>::new());
}
