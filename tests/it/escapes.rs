//! What is pushed and pulled goes where it should, and nowhere else: no credential and no byte leaves
//! for where an upload or a blob is said to lie, and no file is written but those that were asked for.

use crate::support::answering::{Answer, reply, server, token};
use crate::support::finish;
use crate::support::layout::{Layout, digest};
use crate::support::oci::Oci;
use crate::support::registries::entra;
use crate::tests;
use azimg::testing::registry::{Name, Registry};
use azimg::testing::transfer::{ImageChoice, Package, PullTo, ReadAs, TransferProgress};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tokio::runtime::Runtime;

tests![
    an_upload_continues_within_its_registry_or_fails,
    wrong_or_misdirected_blobs_leave_no_files,
    endless_deep_and_inflated_responses_are_refused,
    file_names_of_an_artifact_cannot_leave_the_folder needs [Registry],
    an_archive_is_read_and_never_unpacked needs [Registry],
];

/// Answers to the beginning of an upload that would lead it elsewhere, or nowhere.
const UPLOADS: [(&str, Answer); 7] = [
    ("a place elsewhere", |path, other| begin(path, Some(format!("http://{other}/v2/x?u=1")))),
    ("a place without a scheme", |path, other| begin(path, Some(format!("//{other}/v2/x")))),
    ("a place with a user", |path, other| begin(path, Some(format!("http://me:pw@{other}/x")))),
    ("another scheme", |path, other| begin(path, Some(format!("ftp://{other}/x")))),
    ("no place", |path, _| begin(path, None)),
    ("no address", |path, _| begin(path, Some("http://[::".to_owned()))),
    ("a redirect", |path, other| {
        if path.contains("uploads") {
            return reply(307, &[("location", format!("http://{other}/v2/x"))], "");
        }
        begin(path, None)
    }),
];

fn begin(path: &str, location: Option<String>) -> axum::response::Response {
    token(path).unwrap_or_else(|| {
        if !path.contains("uploads") {
            return reply(404, &[], "");
        }
        let headers: Vec<(&str, String)> =
            location.into_iter().map(|location| ("location", location)).collect();
        reply(202, &headers, "")
    })
}

fn an_upload_continues_within_its_registry_or_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret.txt");
    std::fs::write(&file, "a secret text").unwrap();
    Runtime::new().unwrap().block_on(async {
        for (what, answer) in UPLOADS {
            let attacker = server(|_, _| reply(201, &[], ""), String::new()).await;
            let evil = server(answer, attacker.address.clone()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let package = Package::read(
                std::slice::from_ref(&file),
                &ReadAs::Guessed,
                &ImageChoice::default(),
            )
            .unwrap();
            let tags = ["v1".to_owned()];
            let pushed =
                registry.push("app", &package, &tags, &[], &TransferProgress::default()).await;
            let error = pushed.unwrap_err().to_string();
            assert!(attacker.seen.lock().unwrap().is_empty(), "{what}: {:?}", attacker.seen);
            assert!(!error.contains("ACCESS") && !error.contains("pw"), "{what}: {error}");
            let seen = evil.seen.lock().unwrap().clone();
            assert!(seen.iter().all(|asked| !asked.contains("a secret text")), "{what}: {seen:?}");
        }
    });
}

/// A registry with one image of one layer, whose bytes are what `blob` says.
fn one_layer(path: &str, blob: axum::response::Response) -> axum::response::Response {
    token(path).unwrap_or_else(|| {
        if path.contains("/manifests/") {
            let layer = digest(b"0123456789");
            let manifest = json!({"schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 10,
                    "digest": layer},
                "layers": []})
            .to_string();
            let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
            return reply(200, &[("content-type", kind)], &manifest);
        }
        blob
    })
}

fn wrong_or_misdirected_blobs_leave_no_files() {
    let cases: [(&str, Answer, &str); 5] = [
        (
            "too long",
            |path, _| one_layer(path, reply(200, &[], &"x".repeat(1 << 20))),
            "longer than the expected 10",
        ),
        ("too short", |path, _| one_layer(path, reply(200, &[], "0123")), "truncated"),
        ("another", |path, _| one_layer(path, reply(200, &[], "9876543210")), "it was removed"),
        (
            "elsewhere",
            |path, other| {
                let to = [("location", format!("http://user:pw@{other}:1/x"))];
                one_layer(path, reply(307, &to, ""))
            },
            "blob location",
        ),
        (
            "at the metadata service",
            |path, _| {
                let to = [("location", "http://169.254.169.254/metadata/identity".to_owned())];
                one_layer(path, reply(307, &to, ""))
            },
            "redirect is not followed",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let evil = server(answer, "registry.example".to_owned()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("to");
            let name = Name::Tag("v1".into());
            let target = (to.as_path(), PullTo::Layout);
            let pulled =
                registry.pull("app", &name, &[], target, &TransferProgress::default()).await;
            let error = pulled.unwrap_err().to_string();
            assert!(
                error.contains(expected) || error.contains("redirect is not followed"),
                "{what}: {error}"
            );
            // At most a part, which the next run goes on with; never under its name.
            let left = files(folder.path());
            let is_part = |name: &String| {
                Path::new(name).extension().is_some_and(|end| end == "part")
                    || name.ends_with("/lock")
            };
            assert!(left.iter().all(is_part), "{what}: {left:?}");
            assert!(!to.exists());
        }
    });
}

/// Bytes without end.
fn endless(kind: &str) -> axum::response::Response {
    let piece = bytes::Bytes::from(vec![b' '; 1 << 20]);
    let forever = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
    let body = axum::body::Body::from_stream(forever);
    axum::response::Response::builder().header("content-type", kind).body(body).unwrap()
}

/// A listing that is a thousand times longer than it travels.
fn bomb() -> axum::response::Response {
    use std::io::Write;
    let mut small = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        small.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let body = axum::body::Body::from(small.finish().unwrap());
    axum::response::Response::builder().header("content-encoding", "gzip").body(body).unwrap()
}

fn endless_deep_and_inflated_responses_are_refused() {
    const KIND: &str = "application/vnd.oci.image.manifest.v1+json";
    let manifests: [(&str, Answer, &str); 3] = [
        ("endless", |path, _| token(path).unwrap_or_else(|| endless(KIND)), "longer than 4 MiB"),
        (
            "deep",
            |path, _| {
                let kind = [("content-type", KIND.to_owned())];
                token(path).unwrap_or_else(|| reply(200, &kind, &"[".repeat(100_000)))
            },
            "not JSON",
        ),
        (
            "a layer of more bytes than there are",
            |path, _| {
                token(path).unwrap_or_else(|| {
                    if !path.contains("/manifests/") {
                        return reply(404, &[], "");
                    }
                    let layer = format!(
                        "{{\"mediaType\": \"x\", \"digest\": \"{}\", \"size\": {}}}",
                        digest(b""),
                        u64::MAX
                    );
                    let kind = [("content-type", KIND.to_owned())];
                    let text = format!("{{\"mediaType\": \"{KIND}\", \"layers\": [{layer}]}}");
                    reply(200, &kind, &text)
                })
            },
            "404",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in manifests {
            let evil = server(answer, String::new()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let target = (folder.path(), PullTo::Layout);
            let name = Name::Tag("v1".into());
            let pulled =
                registry.pull("app", &name, &[], target, &TransferProgress::default()).await;
            let error = pulled.unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
        let evil = server(|path, _| token(path).unwrap_or_else(bomb), String::new()).await;
        let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
        let error = registry.repositories().await.unwrap_err().to_string();
        assert!(error.contains("longer than 16 MiB"), "{error}");
    });
}

/// Every file below a folder.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

fn file_names_of_an_artifact_cannot_leave_the_folder() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let artifact = |names: &[&str], tag: &str| {
        let layout = Layout::new(&folder.path().join(format!("source-{tag}")));
        let mut layers = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let mut layer = layout.blob(format!("{number}").as_bytes());
            layer["mediaType"] = "application/octet-stream".into();
            layer["annotations"] = json!({"org.opencontainers.image.title": name,
                "io.deis.oras.content.unpack": "true"});
            layers.push(layer);
        }
        let entry = layout.image("amd64", &[], &json!({ "layers": layers }));
        layout.tag(&entry, "x");
        let at = oci.at(&format!("files:{tag}"));
        let line = ["registry", "push", &at, layout.0.to_str().unwrap()];
        assert_eq!(finish(&mut oci.azimg(&line)).0, 0);
        at
    };
    let bad: [&[&str]; 8] = [
        &["../up"],
        &["/tmp/absolute"],
        &["a/../../b"],
        &["C:\\x"],
        &["..\\up"],
        &["a", "a/b"],
        &["fine", "Fine"],
        &["CON"],
    ];
    for (number, names) in bad.iter().enumerate() {
        let at = artifact(names, &format!("bad{number}"));
        let inner = folder.path().join(format!("to-{number}/inner"));
        let line = ["registry", "pull", &at, inner.to_str().unwrap(), "--to", "files"];
        let (code, _, err) = finish(&mut oci.azimg(&line));
        assert_eq!(code, 1, "{names:?} {err}");
        assert!(!folder.path().join(format!("to-{number}")).exists(), "{names:?}");
    }
    // Links in the way are replaced when that is said, and not followed.
    let at = artifact(&["notes.txt"], "good");
    let (to, outside) = (folder.path().join("to"), folder.path().join("outside"));
    std::fs::create_dir(&to).unwrap();
    std::fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, to.join("notes.txt")).unwrap();
    let line = ["registry", "pull", &at, to.to_str().unwrap(), "--to", "files"];
    let (code, _, err) = finish(&mut oci.azimg(&line));
    assert!(code == 1 && err.contains("notes.txt already exists"), "{err}");
    assert!(to.join("notes.txt").is_symlink());
    assert_eq!(finish(oci.azimg(&line).arg("--overwrite")).0, 0);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(to.join("notes.txt")).unwrap(), "0");
    assert_eq!(files(&to), BTreeSet::from(["notes.txt".to_owned()]));
}

fn an_archive_is_read_and_never_unpacked() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        // The names as they are: a builder would refuse them.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    };
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
        "diff_ids": [digest(b"layer")]}})
    .to_string();
    let saved = json!([{"Config": "../../config.json", "RepoTags": ["a:b"],
        "Layers": ["/layer.tar"]}])
    .to_string();
    add("blobs", tar::EntryType::Symlink, b"");
    add("manifest.json", tar::EntryType::Regular, saved.as_bytes());
    add("../../config.json", tar::EntryType::Regular, config.as_bytes());
    add("/layer.tar", tar::EntryType::Regular, b"layer");
    add("../../../evil", tar::EntryType::Regular, b"evil");
    archive.into_inner().unwrap();
    let before = files(folder.path());
    let line = ["registry", "push", &oci.at("evil:1"), path.to_str().unwrap(), "-o", "json"];
    let (code, out, err) = finish(&mut oci.azimg(&line));
    assert_eq!(code, 0, "{err}");
    let pushed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pushed["uploaded"], 2);
    assert_eq!(files(folder.path()), before);
    // The last layer is cut, or is another one than the configuration names: nothing is pushed.
    let whole = std::fs::read(&path).unwrap();
    let at = whole.windows(5).rposition(|bytes| bytes == b"layer").unwrap();
    let mut other = whole.clone();
    other[at] = b'L';
    for bytes in [&whole[..at + 2], &other] {
        std::fs::write(&path, bytes).unwrap();
        let line = ["registry", "push", &oci.at("wrong:1"), path.to_str().unwrap()];
        let (code, _, err) = finish(&mut oci.azimg(&line));
        assert!(code != 0 && err.contains("layer.tar"), "{err}");
    }
    assert_eq!(oci.count("POST", "wrong"), 0);
    std::fs::write(&path, &whole).unwrap();
    // What is cut, or is no archive at all, is an error, and no panic.
    for cut in [0, 100, 300, 700, 1_600, whole.len() / 2] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let line = ["registry", "push", &oci.at("cut:1"), path.to_str().unwrap(), "--as", "image"];
        let (code, _, err) = finish(&mut oci.azimg(&line));
        assert_ne!(code, 0, "{cut}: {err}");
        assert!(!err.contains("panicked"), "{err}");
    }
}
