//! Files of every tool on their way up: each is pushed as what it is, with its own digest where it has one, or refused in
//! words before anything is sent.

use crate::support::archives::{
    CONFIG, Case, IMAGE, INDEX, LAYER, Packed, at, config, digests, gzip, layers, linked, named,
    saved, tar, unpacked,
};
use crate::support::layout::digest;
use crate::support::{finish, root};
use crate::tests;
use serde_json::{Value, json};
use std::io::Read;

tests![
    an_archive_is_the_same_image_however_it_is_compressed,
    truncated_archives_and_other_files_are_refused_before_any_upload,
    manifest_json_is_read_where_the_index_is_unusable,
    file_names_of_other_tools_and_systems_are_read,
];

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/registry").join(name)).unwrap()
}

fn an_archive_is_the_same_image_however_it_is_compressed() {
    let case = Case::new();
    let mut plain = Vec::new();
    bzip2::read::BzDecoder::new(&fixture("docker-save.tar.bz2")[..])
        .read_to_end(&mut plain)
        .unwrap();
    let (pushed, manifest) = case.push(&case.write("docker-save.tar", &plain), &[]);
    assert_eq!((&pushed["pushedAs"], &pushed["mediaType"]), (&json!("image"), &json!(IMAGE)));
    let held = case.registry.held.lock().unwrap();
    let inside: Vec<String> =
        digests(&manifest).into_iter().map(|layer| digest(&unpacked(&held.blobs[layer]))).collect();
    let config = &held.blobs[manifest["config"]["digest"].as_str().unwrap()];
    let config: Value = serde_json::from_slice(config).unwrap();
    drop(held);
    assert_eq!((inside.len(), json!(inside)), (2, config["rootfs"]["diff_ids"].clone()));
    let all = [
        ("a.tar.gz", gzip(&plain)),
        ("a.tar.zst", zstd::encode_all(&plain[..], 3).unwrap()),
        ("a.tar.bz2", fixture("docker-save.tar.bz2")),
        ("a.tar.xz", fixture("docker-save.tar.xz")),
        // What a file is its bytes tell, and not its name.
        ("backup.bin", gzip(&plain)),
    ];
    for (name, bytes) in all {
        let path = case.write(name, &bytes);
        assert_eq!(case.push(&path, &[]).0["digest"], pushed["digest"], "{name}");
        // Cut, it is none.
        let cut = case.write(&format!("cut-{name}"), &bytes[..bytes.len() * 2 / 3]);
        case.refused(&cut, &[], &[cut.to_str().unwrap()]);
    }
}

fn truncated_archives_and_other_files_are_refused_before_any_upload() {
    let case = Case::new();
    let [one, two] = layers();
    let image = config("amd64", &[&one, &two]);
    let whole = saved(&image, &[("a/layer.tar", &one), ("b/layer.tar", &two)], &json!(["app:1"]));
    let files = tar(&[("bin/sh", b"#!"), ("etc/passwd", b"root:x:0:0")]);
    let old = tar(&[("aa/VERSION", b"1.0"), ("aa/layer.tar", &one), ("repositories", b"{}")]);
    let at = |name: &str, bytes: &[u8]| case.write(name, bytes);
    for (path, words) in [
        (at("empty.tar", b""), &["truncated", "empty"][..]),
        (at("at-the-end.tar", &whole[..1024]), &["truncated", "manifest.json"]),
        (at("within.tar", &whole[..6_000]), &["truncated", "b/layer.tar"]),
        (at("export.tar", &files), &["not an archive of images", "docker export", "--as artifact"]),
        (at("export.tar.gz", &gzip(&files)), &["not an archive of images", "--as artifact"]),
        (at("old.tar", &old), &["before Docker 1.10", "--as artifact"]),
        (at("zeros.tar", &[0; 10_240]), &["not an archive of images"]),
        (at("named.tgz", b"just a text"), &["not an archive", "--as artifact"]),
        (at("rows.csv.gz", &gzip(b"a,b\n1,2\n")), &["not an archive of images", "--as artifact"]),
    ] {
        case.refused(&path, &[], words);
        case.refused(&path, &["--as", "image"], &[]);
    }
    // A folder is a layout, or what somebody says that it is.
    case.refused(case.folder.path(), &[], &["oci-layout", "--as artifact"]);
    // Two archives are no image either.
    let (one, two) = (at("one.tar", &files), at("two.tar", &files));
    case.refused(&one, &[two.to_str().unwrap()], &["may be an image", "--as artifact"]);
    // Who says so may push any of them.
    for more in [&["--as", "artifact"][..], &["--artifact-type", "application/vnd.example+tar"]] {
        let (pushed, manifest) = case.push(&one, more);
        assert_eq!(pushed["pushedAs"], "artifact");
        assert_eq!(digests(&manifest), [digest(&files)]);
    }
    // A file that is no archive is one for sure; it is said what it is pushed as.
    for (name, bytes) in [("empty.txt", &b""[..]), ("notes.txt", b"hello")] {
        let path = at(name, bytes);
        let (code, out, err) = finish(&mut case.registry.azimg(&[
            "push",
            &case.registry.at("app:v1"),
            path.to_str().unwrap(),
        ]));
        assert_eq!(code, 0, "{err}");
        assert!(
            out.contains("\"pushedAs\":\"artifact\"") || out.contains("\"pushedAs\": \"artifact\""),
            "{out}"
        );
        assert!(err.contains("artifact"), "{err}");
    }
}

fn manifest_json_is_read_where_the_index_is_unusable() {
    let case = Case::new();
    let [one, _] = layers();
    // A manifest that lacks the layers of its configuration (moby#47065).
    let mut hollow = Packed::new();
    let of = hollow.blob(CONFIG, &config("amd64", &[&one]));
    let layer = hollow.blob(LAYER, &one);
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": of, "layers": []});
    let entry = hollow.blob(IMAGE, manifest.to_string().as_bytes());
    hollow.index(&[named(&entry, "hello-world:latest")]);
    let alone = case.write("hollow-alone.tar", &hollow.bytes());
    case.refused(&alone, &[], &["0 layers", "configuration has 1"]);
    hollow.file(
        "manifest.json",
        &json!([{"Config": at(&of), "RepoTags": ["hello-world:latest"],
        "Layers": [at(&layer)]}]),
    );
    let (pushed, manifest) = case.push(&case.write("hollow.tar", &hollow.bytes()), &[]);
    assert_eq!((digests(&manifest).len(), &pushed["pushedAs"]), (1, &json!("image")));
    assert_eq!(manifest["config"]["digest"], of["digest"]);
    // An index of platforms of which one is there: that, with its own digest.
    let mut partly = Packed::new();
    let amd = partly.image("amd64", &one, &format!("{LAYER}+gzip"), gzip);
    let mut arm = amd.clone();
    arm["digest"] = digest(b"not there").into();
    arm["platform"]["architecture"] = "arm64".into();
    let whole = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, amd]});
    let whole = partly.blob(INDEX, whole.to_string().as_bytes());
    partly.index(&[named(&whole, "nginx:latest")]);
    let alone = case.write("partly-alone.tar", &partly.bytes());
    case.refused(&alone, &[], &["linux/arm64", "--platform"]);
    assert_eq!(case.push(&alone, &["--platform", "linux/amd64"]).0["digest"], amd["digest"]);
    let config = digest(&config("amd64", &[&one]));
    partly.file("manifest.json", &json!([{"Config": format!("blobs/sha256/{}", &config[7..]),
        "RepoTags": ["nginx:latest"], "Layers": [format!("blobs/sha256/{}", &digest(&gzip(&one))[7..])]}]));
    let partly = case.write("partly.tar", &partly.bytes());
    assert_eq!(case.push(&partly, &[]).0["digest"], amd["digest"]);
    assert_eq!(case.push(&partly, &["--platform", "linux/amd64"]).0["digest"], amd["digest"]);
    case.refused(&partly, &["--platform", "linux/s390x"], &["linux/s390x", "linux/amd64"]);
    // An index that lists nothing.
    let mut empty = Packed::new();
    let of = empty.blob(CONFIG, &self::config("amd64", &[&one]));
    let layer = empty.blob(LAYER, &one);
    empty.index(&[]);
    case.refused(&case.write("empty-alone.tar", &empty.bytes()), &[], &["lists no images"]);
    empty.file(
        "manifest.json",
        &json!([{"Config": at(&of), "RepoTags": null, "Layers": [at(&layer)]}]),
    );
    assert_eq!(digests(&case.push(&case.write("empty.tar", &empty.bytes()), &[]).1).len(), 1);
}

fn file_names_of_other_tools_and_systems_are_read() {
    let case = Case::new();
    let [one, _] = layers();
    let of = config("amd64", &[&one]);
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a\\layer.tar"]}]"#;
    for (layer, other) in [("a/layer.tar", "c.json"), ("./a/layer.tar", "./c.json")] {
        let bytes = tar(&[(layer, &one), (other, &of), ("./manifest.json", manifest)]);
        let (_, manifest) = case.push(&case.write("names.tar", &bytes), &[]);
        assert_eq!(digests(&manifest).len(), 1, "{layer}");
    }
    // A link among the blobs of a layout.
    let mut packed = Packed::new();
    let entry = packed.image("amd64", &one, &format!("{LAYER}+gzip"), gzip);
    packed.index(std::slice::from_ref(&entry));
    let blob = format!("blobs/sha256/{}", &digest(&gzip(&one))[7..]);
    let mut files: Vec<(&str, &[u8])> =
        packed.0.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    for file in &mut files {
        file.0 = if file.0 == blob { "x/copy" } else { file.0 };
    }
    files.sort_by_key(|file| file.0 != "x/copy");
    let path = case.write("blob.tar", &linked(&files, &[(&blob, "x/copy", tar::EntryType::Link)]));
    assert_eq!(case.push(&path, &[]).0["digest"], entry["digest"]);
}
