//! Images from one real registry to another, and within one: whole, with what refers to them, nothing twice.

use crate::support::layout::{Layout, noise};
use crate::support::oci::{How, Oci, PASSWORD};
use crate::support::{finish, json};
use crate::tests;
use axum::http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

tests![
    a_copy_includes_an_index_and_signatures_and_sends_nothing_twice needs [Registry],
    a_copy_within_a_registry_mounts_blobs needs [Registry],
    a_copy_resumes_after_either_side_breaks_off needs [Registry],
    a_failed_read_names_the_source_registry_and_the_blob needs [Registry],
    blobs_with_a_wrong_digest_are_not_published needs [Registry],
    a_copy_that_fails_before_its_tags_is_not_visible_by_name needs [Registry],
    the_password_of_one_registry_is_not_sent_to_the_other needs [Registry],
    a_tag_is_set_without_a_pull needs [Registry],
    files_are_attached_to_an_image_and_say_what_they_are needs [Registry],
];

const SIGNATURE: &str = "application/vnd.example.signature";

/// Pushes what is tagged in a layout.
fn push(oci: &Oci, layout: &Layout, at: &str) {
    json(&mut oci.azimg(&[
        "registry",
        "push",
        &oci.at(at),
        layout.0.to_str().unwrap(),
        "-o",
        "json",
    ]));
}

/// Pushes something that has `subject` as its subject; its digest.
fn refer(oci: &Oci, folder: &Path, repository: &str, subject: &Value, what: &str) -> String {
    let layout = Layout::new(&folder.join(what));
    let subject = json!({"mediaType": subject["mediaType"], "digest": subject["digest"],
        "size": subject["size"]});
    let more = json!({"artifactType": SIGNATURE, "subject": subject});
    let entry = layout.image(what, &[what.as_bytes()], &more);
    layout.tag(&entry, "x");
    push(oci, &layout, repository);
    entry["digest"].as_str().unwrap().to_owned()
}

/// From one registry to another, as the same user of each.
fn copy(from: (&Oci, &str), to: (&Oci, &str), more: &[&str]) -> Command {
    let (source, target) = (from.0.at(from.1), to.0.at(to.1));
    let line = ["registry", "copy", &source, &target, "--from-username", "admin", "-o", "json"];
    let mut command = to.0.azimg(&[&line[..], more].concat());
    command.env("AZIMG_FROM_REGISTRY_PASSWORD", PASSWORD);
    command
}

fn referrers(oci: &Oci, at: &str) -> Vec<String> {
    let found = json(&mut oci.azimg(&["registry", "inspect", &oci.at(at), "-o", "json"]));
    let found = found["referrers"].as_array().unwrap().iter();
    found.map(|referrer| referrer["digest"].as_str().unwrap().to_owned()).collect()
}

fn a_copy_includes_an_index_and_signatures_and_sends_nothing_twice() {
    let (from, to) = (Oci::start(), Oci::start());
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let base = noise(1, 3 << 20);
    let images =
        ["amd64", "arm64"].map(|name| layout.image(name, &[&base, name.as_bytes()], &Value::Null));
    let whole = layout.index(&images);
    layout.tag(&whole, "v1");
    push(&from, &layout, "team/app:v1");
    let of_amd = refer(&from, folder.path(), "team/app", &images[0], "sig-amd");
    let of_index = refer(&from, folder.path(), "team/app", &whole, "sbom");
    // A signature of a signature, and one that cosign finds by its tag.
    let signature = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": of_amd, "size": 1});
    let of_signature = refer(&from, folder.path(), "team/app", &signature, "countersigned");
    let cosign = Layout::new(&folder.path().join("cosign"));
    let by_tag = cosign.image("cosign", &[b"signed"], &Value::Null);
    cosign.tag(&by_tag, "x");
    let name = images[1]["digest"].as_str().unwrap().replacen(':', "-", 1);
    push(&from, &cosign, &format!("team/app:{name}.sig"));

    let source = (&from, "team/app:v1");
    let more = ["--with-referrers"];
    let planned = json(&mut copy(source, (&to, "mirror/app"), &["--with-referrers", "--dry-run"]));
    assert_eq!((&planned["manifests"], &planned["referrers"]), (&json!(3), &json!(4)));
    assert_eq!(to.count("P", ""), 0, "nothing was sent");
    let copied = json(&mut copy(source, (&to, "mirror/app"), &more));
    assert_eq!(copied["digest"], whole["digest"]);
    assert_eq!((&copied["tags"], &copied["referrers"]), (&json!(["v1"]), &json!(4)));
    // Base, two layers, two configurations; a layer and a configuration of each of four.
    assert_eq!((&copied["sent"], &copied["skipped"]), (&json!(13), &json!(0)), "{copied}");
    assert_eq!(copied["bytes"], planned["bytes"]);
    let at = |digest: &Value| format!("mirror/app@{}", digest.as_str().unwrap());
    assert_eq!(referrers(&to, "mirror/app:v1"), [of_index]);
    assert_eq!(referrers(&to, &at(&images[0]["digest"])), std::slice::from_ref(&of_amd));
    assert_eq!(referrers(&to, &at(&json!(of_amd))), [of_signature]);
    let there = to.at(&format!("mirror/app:{name}.sig"));
    let there = json(&mut to.azimg(&["registry", "show", &there, "-o", "json"]));
    assert_eq!(there["digest"], by_tag["digest"]);
    // All bytes are the same.
    let down = folder.path().join("down");
    let pull = ["registry", "pull", &to.at("mirror/app:v1"), down.to_str().unwrap(), "-o", "json"];
    json(&mut to.azimg(&pull));
    assert_eq!(Layout(down).blobs(), layout.blobs());
    // The tags came last.
    let log = to.front.log.lock().unwrap().clone();
    let puts: Vec<&String> = log.iter().filter(|line| line.starts_with("PUT")).collect();
    assert!(puts.last().unwrap().contains("/manifests/v1"), "{puts:?}");

    let again = json(&mut copy(source, (&to, "mirror/app"), &more));
    assert_eq!((&again["sent"], &again["skipped"]), (&json!(0), &json!(13)));
    // Without what refers to it, and of one platform only that.
    let one = json(&mut copy(source, (&to, "one/app:arm"), &["--platform", "linux/arm64"]));
    assert_eq!((&one["digest"], &one["referrers"]), (&images[1]["digest"], &json!(0)));
    assert_eq!((&one["manifests"], &one["tags"]), (&json!(1), &json!(["arm"])));
}

fn a_copy_within_a_registry_mounts_blobs() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let entry = layout.image("amd64", &[&noise(5, 1 << 20), b"small"], &Value::Null);
    layout.tag(&entry, "v1");
    push(&oci, &layout, "ci/app:v1");
    let (sent, got) = (oci.count("PATCH", ""), oci.count("GET", "/blobs/"));
    let (from, to) = (oci.at("ci/app:v1"), oci.at("app"));
    let line = ["registry", "copy", &from, &to, "--tag", "latest,stable", "-o", "json"];
    let copied = json(&mut oci.azimg(&line));
    assert_eq!(copied["tags"], json!(["v1", "latest", "stable"]));
    assert_eq!((&copied["sent"], &copied["skipped"]), (&json!(0), &json!(3)));
    assert_eq!((oci.count("PATCH", ""), oci.count("GET", "/blobs/")), (sent, got));
    let line = ["registry", "copy", &from, &to, "--from-anonymous"];
    let (code, _, stderr) = finish(&mut oci.azimg(&line));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("within one registry"), "{stderr}");
}

fn a_copy_resumes_after_either_side_breaks_off() {
    let (from, to) = (Oci::start(), Oci::start());
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let big = noise(9, 40 << 20);
    let entry = layout.image("amd64", &[&big, b"one", b"two"], &Value::Null);
    layout.tag(&entry, "v1");
    push(&from, &layout, "app:v1");
    // Two of three layers are there: one is sent, in one answer of the source whatever the chunks.
    let few = Layout::new(&folder.path().join("few"));
    let part = few.image("arm64", &[b"one", b"two"], &Value::Null);
    few.tag(&part, "v0");
    push(&to, &few, "some/app:v0");
    let got = from.count("GET", "/blobs/");
    let copied = json(&mut copy((&from, "app:v1"), (&to, "some/app"), &[]));
    assert_eq!((&copied["sent"], &copied["skipped"]), (&json!(2), &json!(2)), "{copied}");
    assert_eq!(from.count("GET", "/blobs/") - got, 2, "the layer and the configuration, once each");
    // The source breaks off in the middle, is busy, and gives no more than a part; the target is busy, too.
    for (number, (at, method, how)) in [
        (&from, Method::GET, How::CutAnswer(20 << 20)),
        (&from, Method::GET, How::Answer(503)),
        (&to, Method::PATCH, How::Answer(429)),
        (&to, Method::PATCH, How::CutRequest(3 << 20)),
    ]
    .into_iter()
    .enumerate()
    {
        at.plays(method, "/blobs/", 1, how);
        let target = format!("cut{number}/app");
        let copied = json(&mut copy((&from, "app:v1"), (&to, &target), &[]));
        assert_eq!(copied["digest"], entry["digest"], "{number}");
        let down = folder.path().join(format!("down{number}"));
        let target = to.at(&format!("{target}:v1"));
        json(&mut to.azimg(&["registry", "pull", &target, down.to_str().unwrap(), "-o", "json"]));
        assert_eq!(Layout(down).blobs(), layout.blobs(), "{number}");
    }
}

fn a_failed_read_names_the_source_registry_and_the_blob() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, _), to) = (pushed(folder.path()), Oci::start());
    from.plays(Method::GET, "/blobs/", 100, How::Answer(404));
    let (code, _, stderr) = finish(&mut copy((&from, "app:v1"), (&to, "app"), &[]));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains(&from.front.server) && stderr.contains("/blobs/"), "{stderr}");
    assert!(!stderr.contains(&to.front.server), "{stderr}");
    assert_eq!(to.count("PUT", "/manifests/"), 0, "no manifest without its blobs");
}

/// One image with a layer of a megabyte, in a registry of its own.
fn pushed(folder: &Path) -> (Oci, Value) {
    let from = Oci::start();
    let layout = Layout::new(&folder.join("source"));
    let entry = layout.image("amd64", &[&noise(9, 1 << 20)], &Value::Null);
    layout.tag(&entry, "v1");
    push(&from, &layout, "app:v1");
    (from, entry)
}

fn blobs_with_a_wrong_digest_are_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, entry), to) = (pushed(folder.path()), Oci::start());
    from.plays(Method::GET, "/blobs/", 1, How::Flip);
    let copied = json(&mut copy((&from, "app:v1"), (&to, "once/app"), &[]));
    assert_eq!((&copied["digest"], &copied["restarted"]), (&entry["digest"], &json!(1)));
    from.plays(Method::GET, "/blobs/", 1_000, How::Flip);
    let (code, _, stderr) = finish(&mut copy((&from, "app:v1"), (&to, "always/app"), &[]));
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(to.count("PUT", "/v2/always/app/manifests/"), 0, "{stderr}");
}

fn a_copy_that_fails_before_its_tags_is_not_visible_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let ((from, entry), to) = (pushed(folder.path()), Oci::start());
    let signature = refer(&from, folder.path(), "app", &entry, "signed");
    to.plays(Method::PUT, "/manifests/v1", 1, How::Answer(400));
    let more = ["--with-referrers"];
    let (code, _, stderr) = finish(&mut copy((&from, "app:v1"), (&to, "app"), &more));
    assert_eq!(code, 1, "{stderr}");
    let show = ["registry", "show", &to.at("app:v1")];
    assert_eq!(finish(&mut to.azimg(&show)).0, 4, "nobody finds it by its name");
    // Again: what is there is not sent.
    let copied = json(&mut copy((&from, "app:v1"), (&to, "app"), &more));
    assert_eq!((&copied["sent"], &copied["tags"]), (&json!(0), &json!(["v1"])));
    assert_eq!(referrers(&to, "app:v1"), [signature]);
}

fn the_password_of_one_registry_is_not_sent_to_the_other() {
    let (from, to) = (Oci::start(), Oci::start());
    let (source, target) = (from.at("app:v1"), to.at("app"));
    let (code, _, stderr) = finish(&mut to.azimg(&["registry", "copy", &source, &target]));
    assert_ne!(code, 0);
    assert_eq!(*from.front.log.lock().unwrap(), [""; 0], "{stderr}");
    let line = ["registry", "copy", &source, &target, "--from-username", "admin"];
    let (code, _, stderr) = finish(&mut to.azimg(&line));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("AZIMG_FROM_REGISTRY_PASSWORD"), "{stderr}");
    assert_eq!(*from.front.log.lock().unwrap(), [""; 0], "{stderr}");
}

fn a_tag_is_set_without_a_pull() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for name in ["v1", "v2"] {
        let layout = Layout::new(&folder.path().join(name));
        let entry = layout.image("amd64", &[name.as_bytes()], &Value::Null);
        layout.tag(&entry, name);
        push(&oci, &layout, &format!("app:{name}"));
        digests.push(entry["digest"].clone());
    }
    let tag = |at: &str, tags: &[&str]| {
        let at = oci.at(at);
        oci.azimg(&[&["registry", "tag", &at, "-o", "json"], tags].concat())
    };
    let first = json(&mut tag("app:v1", &["latest", "1"]));
    let row =
        |tag: &str, to: usize, was: Value| json!({"tag": tag, "digest": digests[to], "was": was});
    assert_eq!(first, json!([row("latest", 0, Value::Null), row("1", 0, Value::Null)]));
    let planned = json(&mut tag("app:v2", &["latest", "--dry-run"]));
    assert_eq!(planned, json!([row("latest", 1, digests[0].clone())]));
    let puts = oci.count("PUT", "");
    assert_eq!(json(&mut tag("app:v2", &["latest"])), planned);
    assert_eq!(oci.count("PUT", ""), puts + 1, "the dry run put nothing");
    assert_eq!((oci.count("GET", "/blobs/"), oci.count("HEAD", "/blobs/")), (0, 4));
    // By digest; and what is there is not put again.
    let by_digest = format!("app@{}", digests[1].as_str().unwrap());
    assert_eq!(json(&mut tag(&by_digest, &["latest"]))[0]["was"], digests[1]);
    assert_eq!(oci.count("PUT", ""), puts + 1);
    for (line, code, said) in [
        (tag("app:v1", &["no/tag"]), 2, "'no/tag' is not a tag"),
        (tag("app:nothing", &["x"]), 4, "app/manifests/nothing"),
        (tag("app", &["x"]), 2, "names no image"),
    ] {
        let mut line = line;
        let (got, _, stderr) = finish(&mut line);
        assert_eq!(got, code, "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    // A lock keeps a tag where it is.
    let locked = ["registry", "set", &oci.at("app:v1"), "--write-enabled", "false"];
    assert_eq!(finish(&mut oci.azimg(&locked)).0, 0);
    let (code, _, stderr) = finish(&mut tag("app:v2", &["v1"]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("locked"), "{stderr}");
}

fn files_are_attached_to_an_image_and_say_what_they_are() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("source"));
    let entry = layout.image("amd64", &[b"layer"], &Value::Null);
    layout.tag(&entry, "v1");
    push(&oci, &layout, "app:v1");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (list, module) = (write("app.spdx.json", "{}"), write("app.wasm", "code"));
    let config = write("config.json", "{\"a\":1}");
    let (at, kind) = (oci.at("app:v1"), "application/spdx+json");
    let attach = |more: &[&str]| {
        let line = ["registry", "attach", &at, &list, "--artifact-type", kind, "-o", "json"];
        oci.azimg(&[&line[..], more].concat())
    };
    let noted = ["--annotation", "org.example.by=me", "--media-type", "app.spdx.json:text/spdx"];
    let planned = json(&mut attach(&[&noted[..], &["--dry-run"]].concat()));
    assert_eq!(planned["subject"]["digest"], entry["digest"]);
    assert_eq!(referrers(&oci, "app:v1"), [""; 0]);
    let attached = json(&mut attach(&noted));
    assert_eq!(attached["digest"], planned["digest"]);
    // The same once more is the same.
    let again = json(&mut attach(&noted));
    assert_eq!((&again["digest"], &again["uploaded"]), (&attached["digest"], &json!(0)));
    let inspected = json(&mut oci.azimg(&["registry", "inspect", &at, "-o", "json"]));
    let found = &inspected["referrers"];
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(
        (&found[0]["digest"], &found[0]["artifactType"]),
        (&attached["digest"], &json!(kind))
    );
    let digest = attached["digest"].as_str().unwrap();
    let shown = ["registry", "pull", &oci.at(&format!("app@{digest}")), "down", "--to", "layout"];
    assert_eq!(finish(&mut oci.azimg(&shown)).0, 0);
    let hex = digest.trim_start_matches("sha256:");
    let manifest = oci.folder.path().join("down/blobs/sha256").join(hex);
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["annotations"], json!({"org.example.by": "me"}));
    assert_eq!(manifest["layers"][0]["mediaType"], "text/spdx");
    // An artifact that is of its configuration's type.
    let to = oci.at("wasm:v1");
    let reported = format!("{config}:application/vnd.wasm.config.v0+json");
    let line = ["registry", "push", &to, &module, "--as", "artifact", "--config", &reported];
    let wasm = ["--media-type", "app.wasm:application/wasm", "-o", "json"];
    json(&mut oci.azimg(&[&line[..], &wasm].concat()));
    let inspected = json(&mut oci.azimg(&["registry", "inspect", &to, "-o", "json"]));
    let text = inspected.to_string();
    assert!(text.contains("application/vnd.wasm.config.v0+json"), "{text}");
    assert!(text.contains("application/wasm") && !text.contains("unknown"), "{text}");
    for (more, said) in [
        (&["--media-type", "other.json:text/plain"][..], "app.spdx.json"),
        (&["--media-type", "app.spdx.json"], "FILE:TYPE/SUBTYPE"),
        (&["--config", "nothing.json"], "nothing.json"),
    ] {
        let (code, _, stderr) = finish(&mut attach(more));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let image = ["registry", "push", &oci.at("app:v2"), layout.0.to_str().unwrap()];
    let (code, _, stderr) = finish(&mut oci.azimg(&[&image[..], &noted].concat()));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("for artifacts"), "{stderr}");
}
