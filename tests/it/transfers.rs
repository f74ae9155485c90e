//! Images up and down, against a real registry: whole, resumed, verified; `skopeo` reads what was
//! pushed, and what it pushes is read.

use crate::support::layout::{Layout, MANIFEST, digest, noise};
use crate::support::needs::Need;
use crate::support::oci::{How, Oci};
use crate::support::{debian, finish, json, read_json};
use crate::tests;
use axum::http::Method;
use azimg::testing::files::{Access, Folder, Staging};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

tests![
    an_index_is_pushed_and_pulled_unchanged needs [Registry],
    a_blob_that_is_deleted_comes_back_with_the_next_push needs [Registry],
    what_skopeo_pushes_is_pulled_and_what_docker_saves_is_pushed needs [Registry],
    files_are_an_artifact_and_may_refer_to_an_image needs [Registry],
    an_interrupted_upload_is_resumed needs [Registry],
    an_interrupted_download_resumes_and_wrong_bytes_are_discarded needs [Registry],
];

fn succeed(command: &mut Command) -> Value {
    let (code, out, err) = finish(command);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or(Value::Null)
}

fn skopeo(oci: &Oci, arguments: &[&str]) -> Value {
    let mut command = Command::new("skopeo");
    debian::on_path(&mut command, Need::Registry, &[]);
    command.arg("--insecure-policy").args(arguments).env("HOME", oci.folder.path());
    command.env("XDG_RUNTIME_DIR", oci.folder.path());
    succeed(&mut command)
}

/// An index of two platforms with a layer in common, 20 MiB in all.
fn two_platforms(root: &Path) -> Layout {
    let layout = Layout::new(root);
    let base = noise(1, 18 << 20);
    let amd = layout.image("amd64", &[&base, &noise(2, 1 << 20)], &Value::Null);
    let arm = layout.image("arm64", &[&base, &noise(3, 1 << 20)], &Value::Null);
    let whole = layout.index(&[amd, arm]);
    layout.tag(&whole, "v1");
    layout
}

fn an_index_is_pushed_and_pulled_unchanged() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let source = two_platforms(&folder.path().join("source"));
    let at = oci.at("team/app:v1");
    let path = source.0.to_str().unwrap();
    let planned = json(&mut oci.azimg(&["registry", "push", &at, path, "--dry-run", "-o", "json"]));
    assert_eq!((oci.count("POST", ""), &planned["blobs"]), (0, &json!(5)));
    let line = ["registry", "push", &at, path, "--tag", "latest", "-o", "json"];
    let pushed = json(&mut oci.azimg(&line));
    assert_eq!((&pushed["uploaded"], &pushed["skipped"]), (&json!(5), &json!(0)));
    assert_eq!(pushed["tags"], json!(["v1", "latest"]));
    assert_eq!(pushed["digest"], planned["digest"]);
    // Again: nothing is sent that is there.
    let again = json(&mut oci.azimg(&line));
    assert_eq!((&again["uploaded"], &again["digest"]), (&json!(0), &pushed["digest"]));
    // To another repository: the layers are taken over.
    let sent = oci.count("PATCH", "");
    let other = oci.at("team/other:v1");
    let mounted = ["registry", "push", &other, path, "--mount-from", "team/app", "-o", "json"];
    assert_eq!(json(&mut oci.azimg(&mounted))["uploaded"], 0);
    assert_eq!(oci.count("PATCH", ""), sent);
    // All of it comes down, in a layout and in an archive; of one platform, only that.
    let to = folder.path().join("all");
    let pulled =
        json(&mut oci.azimg(&["registry", "pull", &at, to.to_str().unwrap(), "-o", "json"]));
    assert_eq!((&pulled["digest"], &pulled["manifests"]), (&pushed["digest"], &json!(3)));
    assert_eq!(Layout(to.clone()).blobs(), source.blobs());
    let index = read_json(&to.join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], pushed["digest"]);
    let one = folder.path().join("one");
    let line = ["registry", "pull", &at, one.to_str().unwrap(), "--platform", "linux/arm64"];
    succeed(&mut oci.azimg(&line));
    assert_eq!(Layout(one).blobs().len(), 4);
    // skopeo reads it, from the registry and from the archive.
    let credentials = oci.credentials();
    let image = format!("docker://{at}");
    let seen =
        skopeo(&oci, &["inspect", "--raw", "--tls-verify=false", "--creds", &credentials, &image]);
    assert_eq!(seen["manifests"].as_array().unwrap().len(), 2);
    let tar = folder.path().join("one.tar");
    let line = ["registry", "pull", &at, tar.to_str().unwrap(), "--platform", "linux/amd64"];
    succeed(&mut oci.azimg(&line));
    let seen = skopeo(&oci, &["inspect", &format!("docker-archive:{}", tar.display())]);
    assert_eq!((&seen["Architecture"], &seen["Labels"]["a"]), (&json!("amd64"), &json!("b")));
    // What is left over is nothing.
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(names, Vec::<String>::new());
    // The archive goes up again, under its own digest.
    let again = oci.at("team/again:v1");
    let pushed =
        json(&mut oci.azimg(&["registry", "push", &again, tar.to_str().unwrap(), "-o", "json"]));
    let amd = &read_json(&blob(&source, index["manifests"][0]["digest"].as_str().unwrap()));
    assert_eq!(pushed["digest"], amd["manifests"][0]["digest"]);
}

fn blob(layout: &Layout, digest: &str) -> PathBuf {
    layout.0.join("blobs/sha256").join(&digest[7..])
}

fn a_blob_that_is_deleted_comes_back_with_the_next_push() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let source = Layout::new(&folder.path().join("source"));
    source.tag(&source.image("amd64", &[b"a layer"], &Value::Null), "v1");
    let at = oci.at("app:v1");
    let push = || {
        let line = ["registry", "push", &at, source.0.to_str().unwrap(), "-o", "json"];
        json(&mut oci.azimg(&line))
    };
    push();
    let lost = format!("{}@{}", oci.at("app"), digest(b"a layer"));
    for (yes, expected) in [("--quiet", 2), ("--yes", 0), ("--yes", 4)] {
        let line = ["registry", "delete", &lost, "--blob", yes];
        assert_eq!(finish(&mut oci.azimg(&line)).0, expected, "{yes}");
    }
    assert_eq!(push()["uploaded"], 1);
}

fn what_skopeo_pushes_is_pulled_and_what_docker_saves_is_pushed() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let layer = {
        // A layer that is a real archive, for those who look into it.
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        archive.append_data(&mut header, "hello", &b"world"[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let mut entry = layout.image("amd64", &[], &json!({}));
    let mut manifest = read_json(&blob(&layout, entry["digest"].as_str().unwrap()));
    let mut of = layout.blob(&layer);
    of["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    manifest["layers"] = json!([of]);
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let mut config = layout.blob(config.to_string().as_bytes());
    config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    manifest["config"] = config;
    entry = layout.blob(manifest.to_string().as_bytes());
    entry["mediaType"] = MANIFEST.into();
    layout.tag(&entry, "v1");
    let from = format!("oci:{}:v1", layout.0.display());
    let credentials = oci.credentials();
    let to = format!("docker://{}", oci.at("by-skopeo:v1"));
    let line = ["copy", "--dest-tls-verify=false", "--dest-creds", &credentials, &from, &to];
    skopeo(&oci, &line);
    let pulled = folder.path().join("pulled");
    let at = oci.at("by-skopeo:v1");
    succeed(&mut oci.azimg(&["registry", "pull", &at, pulled.to_str().unwrap()]));
    assert!(Layout(pulled.clone()).blobs().len() >= 3);
    let inspected = json(&mut oci.azimg(&["registry", "inspect", &at, "-o", "json"]));
    assert_eq!(inspected["config"]["os"], "linux", "{inspected}");
    // What `docker save` wrote before it wrote layouts.
    let saved = folder.path().join("saved.tar");
    let to = format!("docker-archive:{}:example/app:v2", saved.display());
    skopeo(&oci, &["copy", &from, &to]);
    let at = oci.at("saved:v2");
    let pushed =
        json(&mut oci.azimg(&["registry", "push", &at, saved.to_str().unwrap(), "-o", "json"]));
    assert_eq!(pushed["uploaded"], 2, "{pushed}");
    let image = format!("docker://{at}");
    let seen = skopeo(&oci, &["inspect", "--tls-verify=false", "--creds", &credentials, &image]);
    assert_eq!(seen["Os"], "linux");
    let back = format!("oci:{}:v2", folder.path().join("back").display());
    skopeo(&oci, &["copy", "--src-tls-verify=false", "--src-creds", &credentials, &image, &back]);
}

fn files_are_an_artifact_and_may_refer_to_an_image() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let sbom = folder.path().join("app.spdx.json");
    std::fs::write(&sbom, b"{\"spdxVersion\":\"SPDX-2.3\"}").unwrap();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, b"hello").unwrap();
    let at = oci.at("sbom:1");
    let line = [
        "registry",
        "push",
        &at,
        sbom.to_str().unwrap(),
        notes.to_str().unwrap(),
        "--artifact-type",
        "application/spdx+json",
        "-o",
        "json",
    ];
    let pushed = json(&mut oci.azimg(&line));
    assert_eq!(pushed["mediaType"], MANIFEST);
    let to = folder.path().join("down");
    let line = ["registry", "pull", &at, to.to_str().unwrap(), "--to", "files", "-o", "json"];
    let pulled = json(&mut oci.azimg(&line));
    assert_eq!(pulled["files"], json!(["app.spdx.json", "notes.txt"]));
    assert_eq!(std::fs::read(to.join("notes.txt")).unwrap(), b"hello");
    // A signature that a layout has beside its image: the registry does not keep track of subjects,
    // and a tag stands in for that.
    let layout = Layout::new(&folder.path().join("signed"));
    let image = layout.image("amd64", &[b"layer"], &Value::Null);
    layout.tag(&image, "v1");
    let path = layout.0.to_str().unwrap().to_owned();
    succeed(&mut oci.azimg(&["registry", "push", &oci.at("signed:v1"), &path]));
    let subject = json!({"mediaType": MANIFEST, "digest": image["digest"], "size": image["size"]});
    let more = json!({"artifactType": "application/vnd.example.signature", "subject": subject});
    let signature = layout.image("amd64", &[b"signature"], &more);
    layout.tag(&signature, "signature");
    succeed(&mut oci.azimg(&["registry", "push", &oci.at("signed"), &path]));
    let inspected =
        json(&mut oci.azimg(&["registry", "inspect", &oci.at("signed:v1"), "-o", "json"]));
    assert_eq!(inspected["referrers"][0]["digest"], signature["digest"], "{inspected}");
    assert_eq!(inspected["referrers"][0]["artifactType"], "application/vnd.example.signature");
}

fn an_interrupted_upload_is_resumed() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let size = 40 << 20;
    let entry = layout.image("amd64", &[&noise(7, size)], &Value::Null);
    layout.tag(&entry, "v1");
    let path = layout.0.to_str().unwrap();
    let push = |name: &str| {
        let at = oci.at(name);
        json(&mut oci.azimg(&["registry", "push", &at, path, "-o", "json"]))
    };
    let sent = || -> usize {
        let log = std::mem::take(&mut *oci.front.log.lock().unwrap());
        let chunks = log.iter().filter(|line| line.starts_with("PATCH"));
        chunks.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
    };
    // A chunk that the registry would not take now: it is asked what it has, and gets the rest.
    oci.plays(Method::PATCH, "busy/blobs", 1, How::Answer(429));
    let pushed = push("busy:v1");
    assert_eq!((&pushed["resumed"], &pushed["restarted"]), (&json!(1), &json!(0)), "{pushed}");
    assert_eq!(oci.count("GET", "busy/blobs/uploads"), 1);
    let config = 1_000;
    assert!(sent() < size + (16 << 20) + config);
    // A chunk that breaks off within, and an answer that is lost: this registry (and ACR) closes the
    // session then, and the blob is begun again; asked before it has seen that the chunk broke off, it
    // still goes on.
    for (name, how) in [("cut", How::CutRequest(5 << 20)), ("lost", How::LoseAnswer)] {
        let path: &'static str = format!("{name}/blobs").leak();
        oci.plays(Method::PATCH, path, 1, how);
        let pushed = push(&format!("{name}:v1"));
        let again = ["resumed", "restarted"].map(|how| pushed[how].as_u64().unwrap());
        assert!(again == [0, 1] || (name == "cut" && again == [1, 0]), "{pushed}");
        assert!(sent() < size + (16 << 20) + config);
    }
    // The session is gone: from the beginning.
    oci.plays(Method::PATCH, "gone/blobs", 1, How::Answer(404));
    let pushed = push("gone:v1");
    assert_eq!((&pushed["resumed"], &pushed["restarted"]), (&json!(0), &json!(1)), "{pushed}");
    // Throttled everywhere, and the last answer of all lost.
    for (method, path) in [(Method::POST, "late/"), (Method::PUT, "late/"), (Method::HEAD, "late/")]
    {
        oci.plays(method, path, 1, How::Answer(429));
    }
    oci.plays(Method::PUT, "late/blobs", 1, How::LoseAnswer);
    let pushed = push("late:v1");
    assert_eq!(pushed["digest"], entry["digest"]);
    // It is all there.
    for name in ["busy", "cut", "lost", "gone", "late"] {
        let to = folder.path().join(name);
        let at = oci.at(&format!("{name}:v1"));
        succeed(&mut oci.azimg(&["registry", "pull", &at, to.to_str().unwrap()]));
        assert_eq!(Layout(to).blobs(), layout.blobs());
    }
}

fn an_interrupted_download_resumes_and_wrong_bytes_are_discarded() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let entry = layout.image("amd64", &[&noise(9, 9 << 20)], &Value::Null);
    layout.tag(&entry, "v1");
    let at = oci.at("app:v1");
    succeed(&mut oci.azimg(&["registry", "push", &at, layout.0.to_str().unwrap()]));
    let manifest = read_json(&blob(&layout, entry["digest"].as_str().unwrap()));
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let layer: &'static str = layer.leak();
    let pull = |name: &str| {
        let to = folder.path().join(name);
        let (code, out, err) =
            finish(&mut oci.azimg(&["registry", "pull", &at, to.to_str().unwrap(), "-o", "json"]));
        (code, serde_json::from_str::<Value>(&out).unwrap_or_default(), err, Layout(to))
    };
    oci.plays(Method::GET, layer, 2, How::CutAnswer(3 << 20));
    let (code, reported, err, found) = pull("cut");
    assert_eq!(
        (code, &reported["resumed"], &reported["restarted"]),
        (0, &json!(2), &json!(0)),
        "{err}"
    );
    assert_eq!(found.blobs(), layout.blobs());
    // A byte that is another one: fetched anew.
    oci.plays(Method::GET, layer, 1, How::Flip);
    let (code, reported, err, found) = pull("flipped");
    assert_eq!((code, &reported["restarted"]), (0, &json!(1)), "{err}");
    assert_eq!(found.blobs(), layout.blobs());
    // Again and again: it never gets its name, and nothing wrong is left.
    oci.plays(Method::GET, layer, 9, How::Flip);
    let (code, _, err, found) = pull("lies");
    assert_eq!(code, 1);
    assert!(err.contains("it was removed") && err.contains(layer), "{err}");
    assert!(!found.0.exists());
    oci.front.mischief.lock().unwrap().clear();
    // A run that was killed leaves a part, which the next one goes on with.
    let bytes = std::fs::read(blob(&layout, layer)).unwrap();
    let leave = |name: &str, bytes: &[u8]| {
        let parent = Folder::open(folder.path()).unwrap();
        let left = Staging::open(parent, name, entry["digest"].as_str().unwrap()).unwrap();
        left.root().write(format!("{}.part", &layer[7..]), bytes, Access::Readable).unwrap();
    };
    leave("killed", &bytes[..5 << 20]);
    oci.front.log.lock().unwrap().clear();
    let (code, reported, err, found) = pull("killed");
    assert_eq!((code, &reported["resumed"]), (0, &json!(1)), "{err}");
    assert_eq!(found.blobs(), layout.blobs());
    // A part of something else, shorter or longer, is found out.
    for (name, size) in [("shorter", 2 << 20), ("longer", 12 << 20)] {
        leave(name, &noise(77, size));
        let (code, _, err, found) = pull(name);
        assert_eq!((code, found.blobs()), (0, layout.blobs()), "{err}");
    }
    // What is there already is not fetched, unless it is wrong.
    std::fs::write(blob(&found, layer), b"wrong").unwrap();
    oci.front.log.lock().unwrap().clear();
    let (code, ..) = pull("killed");
    assert_eq!((code, oci.count("GET", "/blobs/")), (0, 1));
    assert_eq!(found.blobs(), layout.blobs());
}
