//! Stores, ledgers, plans and secrets on this machine: nothing of another owner is deleted, overwritten or followed, what
//! is private is its owner's alone whatever the umask is, and what others may write to is refused.

use crate::support::folders::{everything, hidden, is_root, refused, set_mode, under};
use crate::support::{Azure, azimg, finish, temporary};
use crate::tests;
use azimg::testing::files::{self, Folder, Staging};
use azimg::testing::format::ledger::Ledger;
use azimg::testing::scratch::Scratch;
use azimg::testing::sim::{Scale, World, generate};
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

tests![
    a_store_is_writable_by_its_owner_only_under_every_umask,
    a_store_that_others_can_write_is_refused,
    a_ledger_is_private_and_no_other_file_becomes_one,
    a_plan_replaces_a_plan_and_nothing_else,
    a_secret_is_written_once_and_read_only_while_it_is_private,
    the_sweep_deletes_only_files_with_names_of_azimg,
    a_demo_does_not_replace_a_catalog,
];

fn small() -> World {
    generate(Scale::Small, 1)
}

fn a_store_is_writable_by_its_owner_only_under_every_umask() {
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

fn a_store_that_others_can_write_is_refused() {
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
        refuses(&["every user of this machine can write to the store", path]);
    }
    set_mode(&store, 0o755);
    // What an earlier azimg made under the umask 000.
    for below in ["runs", "snapshots"] {
        set_mode(&store.join(below), 0o777);
        let chmod = format!("chmod -R go-w {path}/{below}");
        refused(&mut azimg(&list), &["every user of this machine", &chmod]);
        set_mode(&store.join(below), 0o755);
    }
    // A group: one's own is as good as oneself.
    set_mode(&store, 0o775);
    if is_root() {
        std::os::unix::fs::chown(&store, Some(54_321), Some(54_321)).unwrap();
        assert_eq!(finish(&mut azimg(&list)).0, 0);
        std::os::unix::fs::chown(&store, Some(54_321), Some(54_322)).unwrap();
        refuses(&["its group can write to the store"]);
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
        [("link", "it is a link"), ("dangling", "it is a link"), ("hard", "another name")]
    {
        let error = Ledger::open(&at(name), "PLAN").unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
    assert!(!at("nothing").exists());
    // What is exported before it goes: all of it.
    let undo = at("undo/of/today");
    drop(azimg::testing::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap());
    for (name, (kind, mode, _)) in everything(&at("undo")) {
        assert_eq!(mode, if kind == 'd' { 0o700 } else { 0o600 }, "{name}");
    }
    for left in ["{\"loginSer", "{"] {
        std::fs::write(undo.join("exported.ndjson"), left).unwrap();
        for _ in 0..2 {
            drop(azimg::testing::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap());
            let text = std::fs::read_to_string(undo.join("exported.ndjson")).unwrap();
            assert_eq!(text, format!("{left}\n"), "the next line has its own");
        }
    }
    std::fs::write(undo.join("exported.ndjson"), "my notes\n").unwrap();
    let error =
        azimg::testing::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap_err();
    assert!(error.to_string().contains("--export"), "{error}");
    std::fs::remove_file(undo.join("exported.ndjson")).unwrap();
    symlink(at("victim"), undo.join("exported.ndjson")).unwrap();
    let error =
        azimg::testing::purge::ManifestBackup::open(&undo, "example.azurecr.io").unwrap_err();
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

fn a_secret_is_written_once_and_read_only_while_it_is_private() {
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
        assert!(error.contains("other users can read or change it"), "{error}");
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

fn the_sweep_deletes_only_files_with_names_of_azimg() {
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

fn a_demo_does_not_replace_a_catalog() {
    let azure = Azure::start(small());
    let folder = tempfile::tempdir().unwrap();
    let (real, demo) = (folder.path().join("real"), folder.path().join("demo"));
    let crawl = |store: &Path, more: &[&'static str]| {
        let line = ["crawl", "--source", "gallery", "--details", "none", "--store"];
        azure.azimg(&[&line[..], &[store.to_str().unwrap()], more].concat())
    };
    assert_eq!(finish(&mut crawl(&real, &[])).0, 0);
    let before = everything(&real);
    refused(&mut crawl(&real, &["--demo"]), &["real contains a real catalog", "--store"]);
    assert_eq!(everything(&real), before);
    assert_eq!(finish(&mut crawl(&demo, &["--demo"])).0, 0);
    let before = everything(&demo);
    refused(&mut crawl(&demo, &[]), &["demo contains the catalog of a demo", "--store"]);
    assert_eq!(everything(&demo), before);
    assert_eq!(finish(&mut crawl(&demo, &["--demo"])).0, 0, "a demo can be made again");
}
