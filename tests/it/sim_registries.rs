//! The registries of the simulated Azure: pushed to and pulled from, copied, locked, purged and restored, as strict as a
//! real one.

use crate::support::layout::{Layout, digest, noise};
use crate::support::needs::Need;
use crate::support::registries::world;
use crate::support::uploads::{IMAGE, image};
use crate::support::{Azure, debian, finish, json, read_json};
use crate::tests;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

tests![
    an_index_is_pushed_pulled_and_in_the_catalog,
    a_copy_includes_attachments,
    a_purge_is_undone_from_its_export,
    locks_hold_until_they_are_removed,
    generated_images_are_moved_and_restored_without_layers,
    skopeo_pushes_and_pulls needs [Registry],
];

/// An Azure with two registries of two repositories, and a folder.
struct Place {
    azure: Azure,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { azure: Azure::start(world(2)), folder: tempfile::tempdir().unwrap() }
    }

    /// The name of something in a registry.
    fn at(&self, registry: usize, name: &str) -> String {
        format!("{}/{name}", self.azure.running.registries[registry])
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = self.azure.azimg(&[&["registry"], line, &["-o", "json"]].concat());
        command.current_dir(self.folder.path());
        command
    }

    fn azimg(&self, line: &[&str]) -> Value {
        json(&mut self.command(line))
    }

    /// What is refused, with its exit code and a part of what is said.
    fn refused(&self, line: &[&str], code: i32, part: &str) {
        let (found, out, err) = finish(&mut self.command(line));
        assert!(found == code && err.contains(part), "{line:?}: {found}: {out}{err}");
    }

    /// An image with a layer of its own, pushed.
    fn push(&self, name: &str, seed: u64) -> Value {
        let layout = Layout::new(&self.folder.path().join(format!("layout-{seed}")));
        layout.tag(&layout.image("amd64", &[&noise(seed, 4_000)], &Value::Null), "x");
        self.azimg(&["push", &self.at(0, name), layout.0.to_str().unwrap()])
    }

    /// Manifests and tags that a repository counts.
    fn counts(&self, name: &str) -> (u64, u64) {
        let shown = self.azimg(&["show", &self.at(0, name)]);
        (shown["manifestCount"].as_u64().unwrap(), shown["tagCount"].as_u64().unwrap())
    }
}

/// An index of two platforms that have a layer in common, which takes two chunks.
fn two_platforms(root: &Path) -> Layout {
    let layout = Layout::new(root);
    let base = noise(1, 17 << 20);
    let amd = layout.image("amd64", &[&base, &noise(2, 9_000)], &Value::Null);
    let arm = layout.image("arm64", &[&base, &noise(3, 9_000)], &Value::Null);
    let whole = layout.index(&[amd, arm]);
    layout.tag(&whole, "v1");
    layout
}

fn an_index_is_pushed_pulled_and_in_the_catalog() {
    let place = Place::new();
    let layout = two_platforms(&place.folder.path().join("source"));
    let source = layout.0.to_str().unwrap();
    let at = place.at(0, "team/new:v1");
    let pushed = place.azimg(&["push", &at, source, "--tag", "latest"]);
    assert_eq!((&pushed["uploaded"], &pushed["skipped"]), (&json!(5), &json!(0)), "{pushed}");
    assert_eq!((&pushed["resumed"], &pushed["restarted"]), (&json!(0), &json!(0)));
    assert_eq!(place.azimg(&["push", &at, source])["uploaded"], 0);
    assert_eq!(place.counts("team/new"), (3, 2));
    // Its platforms are told of, as their configurations say.
    let listed = place.azimg(&["manifests", &place.at(0, "team/new")]);
    let mut platforms: Vec<_> = listed.as_array().unwrap().iter().collect();
    platforms.sort_by_key(|row| row["architecture"].to_string());
    assert_eq!(platforms[0]["architecture"], "amd64");
    assert_eq!((&platforms[1]["os"], &platforms[2]["os"]), (&json!("linux"), &Value::Null));
    // To another repository nothing is sent.
    let sent = place.azure.asked("SendChunk");
    let other = place.at(0, "team/other:v1");
    let mounted = place.azimg(&["push", &other, source, "--mount-from", "team/new"]);
    assert_eq!((&mounted["uploaded"], place.azure.asked("SendChunk")), (&json!(0), sent));
    // It comes down as it went up.
    let to = place.path("down");
    let pulled = place.azimg(&["pull", &at, &to]);
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_eq!(Layout(to.into()).blobs(), layout.blobs());
    let tar = place.path("one.tar");
    place.azimg(&["pull", &other, &tar, "--platform", "linux/arm64"]);
    let again = place.azimg(&["push", &place.at(0, "again:v1"), &tar]);
    let index =
        read_json(&layout.0.join("blobs/sha256").join(&pushed["digest"].as_str().unwrap()[7..]));
    assert_eq!(again["digest"], index["manifests"][1]["digest"]);
    // Files go up and come down, too.
    std::fs::write(place.path("notes.txt"), "hello").unwrap();
    let notes = place.at(0, "notes:1");
    place.azimg(&["push", &notes, &place.path("notes.txt"), "--artifact-type", "text/plain"]);
    place.azimg(&["pull", &notes, &place.path("files"), "--to", "files"]);
    assert_eq!(std::fs::read(place.path("files/notes.txt")).unwrap(), b"hello");
    // A crawl finds it, with what it is made of.
    let store = place.path("store");
    let crawl = ["crawl", "--source", "registry", "--store", &store, "-o", "json", "--quiet"];
    assert_eq!(json(&mut place.azure.azimg(&crawl))["state"], "complete");
    let digest = pushed["digest"].as_str().unwrap();
    let list = ["images", "list", "--kind", "container-manifest", "--store", &store, "-o", "json"];
    let rows = json(&mut place.azure.azimg(&list));
    let id = format!("{}@{digest}", place.at(0, "team/new"));
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == id.as_str()).unwrap();
    assert_eq!((&row["tags"], &row["isContentKnown"]), (&json!(["latest", "v1"]), &json!(true)));
    assert_eq!(row["manifests"].as_array().unwrap().len(), 2, "{row}");
}

fn a_copy_includes_attachments() {
    let place = Place::new();
    place.push("app:1.4.0", 1);
    std::fs::write(place.path("app.spdx.json"), "{\"spdxVersion\":\"SPDX-2.3\"}").unwrap();
    let app = place.at(0, "app:1.4.0");
    let sbom = place.path("app.spdx.json");
    let kind = ["--artifact-type", "application/spdx+json"];
    let attached = place.azimg(&[&["attach", &app, &sbom], &kind[..]].concat());
    let inspected = place.azimg(&["inspect", &app]);
    assert_eq!(inspected["config"]["os"], "linux");
    assert_eq!(inspected["referrers"][0]["digest"], attached["digest"], "{inspected}");
    assert_eq!(inspected["referrers"][0]["artifactType"], "application/spdx+json");
    // The registry keeps track of it: there is no tag that stands in for that.
    assert_eq!(place.counts("app"), (2, 1));
    let to = place.at(1, "mirror/app");
    let copied = place.azimg(&["copy", &app, &to, "--with-referrers"]);
    assert_eq!((&copied["referrers"], &copied["tags"]), (&json!(1), &json!(["1.4.0"])), "{copied}");
    assert!(copied["sent"].as_u64().unwrap() >= 3, "{copied}");
    let inspected = place.azimg(&["inspect", &format!("{to}:1.4.0")]);
    assert_eq!(inspected["referrers"][0]["digest"], attached["digest"]);
    // Within a registry nothing is sent.
    let within = place.azimg(&["copy", &app, &place.at(0, "production/app"), "--with-referrers"]);
    assert_eq!(within["sent"], 0, "{within}");
    let tagged = place.azimg(&["tag", &app, "1.4", "latest"]);
    assert_eq!(tagged.as_array().unwrap().len(), 2);
    assert_eq!(place.counts("app"), (2, 3));
}

fn a_purge_is_undone_from_its_export() {
    let place = Place::new();
    for seed in 1..=4 {
        place.push(&format!("app:{seed}"), seed);
    }
    let before = place.azimg(&["tags", &place.at(0, "app")]);
    let (server, undo) = (place.azure.running.registries[0].clone(), place.path("undo"));
    let purge = ["purge", &server, "--repository", "app", "--keep", "1", "--export", &undo];
    let purged = place.azimg(&[&purge[..], &["--yes"]].concat());
    assert_eq!(place.counts("app"), (1, 1), "{purged}");
    place.refused(&["pull", &place.at(0, "app:1"), &place.path("gone")], 4, "MANIFEST_UNKNOWN");
    let back = place.azimg(&["purge", &server, "--undo", &undo]);
    assert_eq!(back, json!({"back": 3, "lost": []}));
    let digests = |tags: &Value| -> Vec<Value> {
        let rows = tags.as_array().unwrap().iter();
        rows.map(|row| json!([row["name"], row["digest"]])).collect()
    };
    assert_eq!(digests(&place.azimg(&["tags", &place.at(0, "app")])), digests(&before));
    place.azimg(&["pull", &place.at(0, "app:1"), &place.path("back")]);
    // A file of it that is gone costs itself: all else comes back, and it is named.
    place.azimg(&["delete", &place.at(0, "app"), "--yes"]);
    for seed in 1..=4 {
        place.push(&format!("app:{seed}"), seed);
    }
    place.azimg(&[&purge[..], &["--yes"]].concat());
    let mut files = std::fs::read_dir(Path::new(&undo).join("manifests")).unwrap();
    std::fs::remove_file(files.next().unwrap().unwrap().path()).unwrap();
    let (code, out, _) = finish(&mut place.command(&["purge", &server, "--undo", &undo]));
    let reported: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &reported["back"]), (3, &json!(2)), "{reported}");
    assert_eq!(reported["lost"].as_array().unwrap().len(), 1, "{reported}");
    // What was kept is of no use when the blobs are gone, too.
    place.azimg(&["delete", &place.at(0, "app"), "--yes"]);
    let (code, out, _) = finish(&mut place.command(&["purge", &server, "--undo", &undo]));
    let reported: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &reported["back"]), (3, &json!(0)), "{reported}");
    let mut lost = reported["lost"].as_array().unwrap().iter();
    let is_refused =
        |row: &Value| row["reason"].as_str().unwrap().contains("MANIFEST_BLOB_UNKNOWN");
    assert!(lost.any(is_refused), "{reported}");
}

fn locks_hold_until_they_are_removed() {
    let place = Place::new();
    place.push("app:1", 1);
    place.push("app:2", 2);
    let (app, one) = (place.at(0, "app"), place.at(0, "app:1"));
    let set = |what: &str, write: &str, delete: &str| {
        place.azimg(&["set", what, "--write-enabled", write, "--delete-enabled", delete]);
    };
    // A tag that nobody moves or deletes, in a repository that takes everything else.
    set(&one, "false", "false");
    place.refused(&["tag", &place.at(0, "app:2"), "1"], 1, "UNSUPPORTED");
    place.refused(&["delete", &one], 1, "--unlock");
    place.push("app:3", 3);
    assert_eq!(place.counts("app"), (3, 3));
    // A repository that takes nothing and loses nothing.
    set(&one, "true", "true");
    set(&app, "false", "false");
    let layout = place.path("layout-1");
    place.refused(&["push", &place.at(0, "app:4"), &layout], 1, "405");
    place.refused(&["delete", &place.at(0, "app:2")], 1, "405");
    place.refused(&["delete", &app, "--yes"], 1, "--unlock");
    assert_eq!(place.counts("app"), (3, 3));
    set(&app, "true", "true");
    place.azimg(&["delete", &place.at(0, "app:2")]);
    assert_eq!(place.counts("app"), (3, 2));
    let deleted = place.azimg(&["delete", &app, "--yes"]);
    assert_eq!(deleted["manifestsDeleted"].as_array().unwrap().len(), 3);
    place.refused(&["show", &app], 4, "NAME_UNKNOWN");
}

fn generated_images_are_moved_and_restored_without_layers() {
    let place = Place::new();
    let (name, tag) = {
        let registries = place.azure.sim.registries();
        let found = registries[0].repositories.iter().find(|(_, one)| !one.tags.is_empty());
        let (name, repository) = found.unwrap();
        (name.clone(), repository.tags.keys().next().unwrap().clone())
    };
    let at = place.at(0, &format!("{name}:{tag}"));
    place.azimg(&["tag", &at, "mine"]);
    let copied = place.azimg(&["copy", &at, &place.at(0, "elsewhere")]);
    assert_eq!(copied["sent"], 0, "{copied}");
    place.refused(&["pull", &at, &place.path("down")], 4, "without their layers");
    place.refused(&["copy", &at, &place.at(1, "elsewhere")], 4, "without their layers");
    let (server, undo) = (place.azure.running.registries[0].clone(), place.path("undo"));
    let purge = ["purge", &server, "--repository", "elsewhere", "--keep", "0", "--export", &undo];
    place.azimg(&[&purge[..], &["--yes"]].concat());
    let back = place.azimg(&["purge", &server, "--undo", &undo]);
    assert_eq!(back["lost"], json!([]), "{back}");
}

fn skopeo_pushes_and_pulls() {
    let place = Place::new();
    let skopeo = |line: &[&str]| {
        let mut command = Command::new("skopeo");
        debian::on_path(&mut command, Need::Registry, &[]);
        command.arg("--insecure-policy").args(line).env("HOME", place.folder.path());
        command.env("XDG_RUNTIME_DIR", place.folder.path());
        let (code, out, err) = finish(&mut command);
        assert_eq!(code, 0, "{line:?}: {out}{err}");
        serde_json::from_str::<Value>(&out).unwrap_or_default()
    };
    let server = place.azure.running.registries[0].clone();
    let claims = json!({"aud": server, "exp": 4_000_000_000_u64});
    let refresh = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let user = format!("00000000-0000-0000-0000-000000000000:{refresh}");
    // A layer that is an archive, for whoever looks into it.
    let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let layout = Layout::new(&place.folder.path().join("source"));
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string();
    for bytes in [&layer[..], config.as_bytes()] {
        layout.blob(bytes);
    }
    let mut manifest = image(config.as_bytes(), &layer);
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let mut entry = layout.blob(manifest.to_string().as_bytes());
    entry["mediaType"] = IMAGE.into();
    layout.tag(&entry, "v1");
    let (from, to) = (format!("oci:{}:v1", layout.0.display()), place.at(0, "by-skopeo:v1"));
    let there = format!("docker://{to}");
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", &user, &from, &there]);
    let seen = skopeo(&["inspect", "--tls-verify=false", "--creds", &user, &there]);
    assert_eq!(seen["Architecture"], "amd64");
    let pulled = place.azimg(&["pull", &to, &place.path("pulled")]);
    assert_eq!(pulled["digest"], seen["Digest"]);
    // What azimg pushed comes back over it, from a registry that lets anybody read.
    let pushed = place.azimg(&["push", &place.at(1, "by-azimg:v1"), layout.0.to_str().unwrap()]);
    let there = format!("docker://{}", place.at(1, "by-azimg:v1"));
    let back = format!("dir:{}", place.path("back"));
    skopeo(&["copy", "--src-tls-verify=false", &there, &back]);
    let manifest = std::fs::read(place.path("back/manifest.json")).unwrap();
    assert_eq!(pushed["digest"], digest(&manifest));
}
