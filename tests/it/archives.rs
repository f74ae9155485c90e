//! Files of every tool on their way up: each is pushed as what it is, with its own digest where it has one, or refused in
//! words before anything is sent.

use crate::support::layout::{Layout, digest};
use crate::support::memory::Memory;
use crate::support::{finish, json, root};
use crate::tests;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

tests![
    an_archive_is_the_same_image_however_it_is_compressed,
    what_is_cut_or_no_image_is_refused_before_anything_is_sent,
    manifest_json_stands_in_where_the_index_is_of_no_use,
    layers_may_be_links,
    layers_may_be_compressed_in_any_way_and_are_compared,
    what_is_in_the_layers_of_a_layout_is_compared,
    names_are_those_of_other_tools_and_systems,
    uncompressed_layers_are_compressed_on_the_way,
    of_several_images_one_is_chosen,
    of_several_images_without_an_index_one_is_chosen,
    an_index_goes_up_as_a_whole_or_by_platform,
    layers_that_have_a_place_elsewhere_are_not_sent,
    caches_of_buildkit_go_up_and_come_down,
    files_of_a_folder_are_named_by_their_paths,
    files_whose_names_lead_elsewhere_are_not_written,
];

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// A tar of files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    linked(files, &[])
}

/// A tar of files, and of links behind the first of them: a name, where it leads, and how.
fn linked(files: &[(&str, &[u8])], links: &[(&str, &str, tar::EntryType)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (number, (name, bytes)) in files.iter().enumerate() {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As others write them, with a dot in front.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
        for (name, target, kind) in links.iter().filter(|_| number == 0) {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_entry_type(*kind);
            archive.append_link(&mut header, name, target).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut into = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    into.write_all(bytes).unwrap();
    into.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut into = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    into.write_all(bytes).unwrap();
    into.finish().unwrap()
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/registry").join(name)).unwrap()
}

/// Two layers, which are archives themselves.
fn layers() -> [Vec<u8>; 2] {
    [tar(&[("hello", b"hello\n")]), tar(&[("world", "world\n".repeat(1_000).as_bytes())])]
}

/// The configuration of an image with these layers.
fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": digests}})
    .to_string()
    .into_bytes()
}

/// What `docker save` wrote before it wrote layouts.
fn saved(config: &[u8], layers: &[(&str, &[u8])], names: &Value) -> Vec<u8> {
    let manifest = json!([{"Config": "c.json", "RepoTags": names,
        "Layers": layers.iter().map(|(name, _)| name).collect::<Vec<_>>()}])
    .to_string();
    let mut files = vec![("c.json", config)];
    files.extend(layers);
    files.push(("manifest.json", manifest.as_bytes()));
    tar(&files)
}

/// A case: a registry, a folder, and what is pushed.
struct Case {
    registry: Memory,
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { registry: Memory::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Pushes to `app:v1`; what was pushed, and its manifest as the registry has it.
    fn push(&self, path: &Path, more: &[&str]) -> (Value, Value) {
        let at = self.registry.at("app:v1");
        let line = [&["push", &at, path.to_str().unwrap()], more].concat();
        let pushed = json(&mut self.registry.azimg(&line));
        (pushed, self.registry.manifest("app:v1"))
    }

    /// Pushes in vain: the exit code says what kind of error it is, and not one request was sent.
    fn refused(&self, path: &Path, more: &[&str], words: &[&str]) -> String {
        self.registry.held.lock().unwrap().log.clear();
        let at = self.registry.at("app:v1");
        let line = [&["push", &at, path.to_str().unwrap()], more].concat();
        let (code, out, err) = finish(&mut self.registry.azimg(&line));
        assert!(code != 0, "{}: {out}", path.display());
        for word in words {
            assert!(err.contains(word), "{}: no '{word}' in {err}", path.display());
        }
        let log = self.registry.held.lock().unwrap().log.clone();
        let is_sent = |line: &String| line.contains("/blobs/") && !line.starts_with("HEAD ");
        assert!(!log.iter().any(is_sent), "{log:?}");
        err
    }
}

fn digests(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap()).collect()
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

fn what_is_cut_or_no_image_is_refused_before_anything_is_sent() {
    let case = Case::new();
    let [one, two] = layers();
    let image = config("amd64", &[&one, &two]);
    let whole = saved(&image, &[("a/layer.tar", &one), ("b/layer.tar", &two)], &json!(["app:1"]));
    let files = tar(&[("bin/sh", b"#!"), ("etc/passwd", b"root:x:0:0")]);
    let old = tar(&[("aa/VERSION", b"1.0"), ("aa/layer.tar", &one), ("repositories", b"{}")]);
    let at = |name: &str, bytes: &[u8]| case.write(name, bytes);
    for (path, words) in [
        (at("empty.tar", b""), &["cut off", "empty"][..]),
        (at("at-the-end.tar", &whole[..1024]), &["cut off", "manifest.json"]),
        (at("within.tar", &whole[..6_000]), &["cut off", "b/layer.tar"]),
        (at("export.tar", &files), &["none of images", "docker export", "--as artifact"]),
        (at("export.tar.gz", &gzip(&files)), &["none of images", "--as artifact"]),
        (at("old.tar", &old), &["before Docker 1.10", "--as artifact"]),
        (at("zeros.tar", &[0; 10_240]), &["none of images"]),
        (at("named.tgz", b"just a text"), &["no archive", "--as artifact"]),
        (at("rows.csv.gz", &gzip(b"a,b\n1,2\n")), &["no archive of images", "--as artifact"]),
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

/// Files of a layout as an archive has them.
struct Packed(Vec<(String, Vec<u8>)>);

impl Packed {
    fn new() -> Self {
        Self(vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())])
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.0.push((format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn file(&mut self, name: &str, document: &Value) {
        self.0.push((name.to_owned(), document.to_string().into_bytes()));
    }

    /// An image of one layer, which lies there as `of` makes it; its entry.
    fn image(
        &mut self,
        architecture: &str,
        layer: &[u8],
        kind: &str,
        of: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Value {
        let config = self.blob(CONFIG, &config(architecture, &[layer]));
        let layer = self.blob(kind, &of(layer));
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer]});
        let mut entry = self.blob(IMAGE, manifest.to_string().as_bytes());
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    }

    fn index(&mut self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.file("index.json", &index);
    }

    fn bytes(&self) -> Vec<u8> {
        let files = self.0.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]));
        tar(&files.collect::<Vec<_>>())
    }

    /// The same in a folder.
    fn folder(&self, root: &Path) -> PathBuf {
        for (name, bytes) in &self.0 {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root.to_owned()
    }
}

fn at(entry: &Value) -> String {
    format!("blobs/{}", entry["digest"].as_str().unwrap().replace(':', "/"))
}

fn named(entry: &Value, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!({FULL_NAME: format!("docker.io/library/{name}"),
        NAME: name.rsplit(':').next().unwrap()});
    entry
}

fn manifest_json_stands_in_where_the_index_is_of_no_use() {
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

fn layers_may_be_links() {
    let case = Case::new();
    let [one, two] = layers();
    // Old versions of `docker save` link a layer to one that is the same.
    let manifest = json!([{"Config": "c.json", "RepoTags": ["app:1"],
        "Layers": ["a/layer.tar", "b/layer.tar", "d/layer.tar"]}])
    .to_string();
    let of = config("amd64", &[&one, &two, &one]);
    let files: [(&str, &[u8]); 4] = [
        ("a/layer.tar", &one),
        ("b/layer.tar", &two),
        ("c.json", &of),
        ("manifest.json", manifest.as_bytes()),
    ];
    for (target, kind) in
        [("../a/layer.tar", tar::EntryType::Symlink), ("a/layer.tar", tar::EntryType::Link)]
    {
        let path = case.write("linked.tar", &linked(&files, &[("d/layer.tar", target, kind)]));
        let (_, manifest) = case.push(&path, &[]);
        let found = digests(&manifest);
        assert_eq!((found.len(), found[0]), (3, found[2]), "{target}");
    }
    // Around in a circle, and to nowhere.
    for target in ["d/layer.tar", "/etc/passwd", "../../../etc/passwd"] {
        let links = [("d/layer.tar", target, tar::EntryType::Symlink)];
        let path = case.write("nowhere.tar", &linked(&files, &links));
        case.refused(&path, &[], &["has no d/layer.tar"]);
    }
}

fn layers_may_be_compressed_in_any_way_and_are_compared() {
    let case = Case::new();
    let [one, two] = layers();
    // No layers at all, in either spelling.
    let scratch = config("amd64", &[]);
    for layers in ["[]", "null"] {
        let manifest =
            format!(r#"[{{"Config":"c.json","RepoTags":["scratch:1"],"Layers":{layers}}}]"#);
        let bytes = tar(&[("c.json", &scratch), ("manifest.json", manifest.as_bytes())]);
        let (_, manifest) = case.push(&case.write("scratch.tar", &bytes), &[]);
        assert!(digests(&manifest).is_empty(), "{layers}");
    }
    // gzip and zstd stay as they are, all else is compressed anew.
    let of = config("amd64", &[&one]);
    let packed = [
        ("gzip", gzip(&one), Some("+gzip")),
        ("zstd", zstd::encode_all(&one[..], 3).unwrap(), Some("+zstd")),
        ("bzip2", bzip2(&one), None),
        ("plain", one.clone(), None),
    ];
    for (name, bytes, end) in packed {
        let path = case.write("layer.tar", &saved(&of, &[("l.tar.gz", &bytes)], &Value::Null));
        let (_, manifest) = case.push(&path, &[]);
        let kind = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert_eq!(kind, format!("{LAYER}{}", end.unwrap_or("+gzip")), "{name}");
        let is_kept = digests(&manifest) == [digest(&bytes)];
        assert_eq!(is_kept, end.is_some(), "{name}");
        // Another layer than the configuration says, and none.
        let other = config("amd64", &[&two]);
        let path = case.write("other.tar", &saved(&other, &[("l.tar.gz", &bytes)], &Value::Null));
        case.refused(&path, &[], &["another layer", "l.tar.gz"]);
        let more = config("amd64", &[&one, &two]);
        let path = case.write("fewer.tar", &saved(&more, &[("l.tar.gz", &bytes)], &Value::Null));
        case.refused(&path, &[], &["1 layers", "configuration 2"]);
        let cut = &bytes[..bytes.len() / 2];
        let path = case.write("cut.tar", &saved(&of, &[("l.tar.gz", cut)], &Value::Null));
        case.refused(&path, &[], &["l.tar.gz"]);
    }
}

fn what_is_in_the_layers_of_a_layout_is_compared() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let [one, two] = layers();
    let zstd: Pack = |bytes| zstd::encode_all(bytes, 3).unwrap();
    let ways: [(&str, Pack); 4] =
        [("+gzip", gzip), ("+zstd", zstd), ("+gzip", <[u8]>::to_vec), ("+gzip", zstd)];
    for (end, pack) in ways {
        let case = Case::new();
        let kind = format!("{LAYER}{end}");
        // The layer of another image, in a folder and in an archive.
        let mut other = Packed::new();
        let entry = other.image("amd64", &one, &kind, |_| pack(&two));
        other.index(&[entry]);
        let wrong = digest(&pack(&two));
        let words = [wrong.as_str(), "another than its configuration says"];
        let folder = tempfile::tempdir().unwrap();
        case.refused(&other.folder(folder.path()), &[], &words);
        case.refused(&case.write("other.tar", &other.bytes()), &[], &words);
        // A bit that a disk lost.
        let mut whole = Packed::new();
        let entry = whole.image("amd64", &one, &kind, pack);
        whole.index(&[entry]);
        let name = format!("blobs/sha256/{}", &digest(&pack(&one))[7..]);
        let at = whole.0.iter().position(|(file, _)| *file == name).unwrap();
        let right = whole.0[at].1.clone();
        *whole.0[at].1.last_mut().unwrap() ^= 1;
        let lost = case.write("lost.tar", &whole.bytes());
        case.refused(&lost, &[], &[&digest(&right)]);
        whole.0[at].1 = right;
        case.push(&case.write("whole.tar", &whole.bytes()), &[]);
        // What the registry has is not read again.
        case.push(&lost, &[]);
    }
    let case = Case::new();
    // One layer, of which two images say different things.
    let kind = format!("{LAYER}+gzip");
    let mut torn = Packed::new();
    let images =
        [torn.image("amd64", &one, &kind, gzip), torn.image("arm64", &two, &kind, |_| gzip(&one))];
    torn.index(&images);
    let torn = case.write("torn.tar", &torn.bytes());
    case.refused(&torn, &["--as", "index"], &["another than its configuration says"]);
    // Nobody without the key can say what is in it.
    let mut sealed = Packed::new();
    let entry = sealed.image("amd64", &one, &format!("{kind}+encrypted"), |_| b"sealed".to_vec());
    sealed.index(&[entry]);
    case.push(&case.write("sealed.tar", &sealed.bytes()), &[]);
}

fn names_are_those_of_other_tools_and_systems() {
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

fn uncompressed_layers_are_compressed_on_the_way() {
    let case = Case::new();
    let [one, _] = layers();
    let mut packed = Packed::new();
    let entry = packed.image("amd64", &one, LAYER, <[u8]>::to_vec);
    packed.index(&[named(&entry, "app:1")]);
    // A layout, and an archive of one, are pushed as they are.
    let bare = case.write("bare.tar", &packed.bytes());
    assert_eq!(case.push(&bare, &[]).0["digest"], entry["digest"]);
    let folder = packed.folder(&case.folder.path().join("layout"));
    assert_eq!(case.push(&folder, &[]).0["digest"], entry["digest"]);
    // What `docker save` wrote is not, unless somebody says so.
    let config = digest(&config("amd64", &[&one]));
    packed.file(
        "manifest.json",
        &json!([{"Config": format!("blobs/sha256/{}", &config[7..]),
        "RepoTags": ["app:1"], "Layers": [format!("blobs/sha256/{}", &digest(&one)[7..])]}]),
    );
    let path = case.write("docker25.tar", &packed.bytes());
    let (pushed, manifest) = case.push(&path, &[]);
    assert_ne!(pushed["digest"], entry["digest"]);
    assert_eq!(manifest["layers"][0]["mediaType"], format!("{LAYER}+gzip"));
    assert_eq!(manifest["config"]["digest"], config);
    let blob = case.registry.held.lock().unwrap().blobs[digests(&manifest)[0]].clone();
    assert_eq!(unpacked(&blob), one);
    assert_eq!(case.push(&path, &["--keep-layers"]).0["digest"], entry["digest"]);
}

fn of_several_images_one_is_chosen() {
    let case = Case::new();
    let [one, two] = layers();
    let gz = format!("{LAYER}+gzip");
    let choose = |packed: &Packed, cases: &[(&[&str], &Value)], refused: &[(&[&str], &str)]| {
        let folder = tempfile::tempdir_in(case.folder.path()).unwrap();
        let layout = packed.folder(&folder.path().join("layout"));
        let archive = case.write("layout.tar", &packed.bytes());
        for path in [&layout, &archive] {
            for (more, expected) in cases {
                assert_eq!(case.push(path, more).0["digest"], expected["digest"], "{more:?}");
            }
            for (more, word) in refused {
                case.refused(path, more, &[word]);
            }
        }
    };
    // One digest under two names is one image.
    let mut packed = Packed::new();
    let amd = packed.image("amd64", &one, &gz, gzip);
    packed.index(&[named(&amd, "app:1"), named(&amd, "app:latest")]);
    choose(&packed, &[(&[], &amd), (&["--name", "latest"], &amd)], &[(&["--name", "2"], "@0")]);
    // Two platforms without names.
    let mut packed = Packed::new();
    let (amd, arm) =
        (packed.image("amd64", &one, &gz, gzip), packed.image("arm64", &two, &gz, gzip));
    let digest_of = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
    packed.index(&[amd.clone(), arm.clone()]);
    let by_digest = digest_of(&arm);
    let index = &packed.0.iter().find(|file| file.0 == "index.json").unwrap().1;
    let whole = json!({"digest": digest(index)});
    choose(
        &packed,
        &[
            (&["--name", &by_digest], &arm),
            (&["--name", "@1"], &arm),
            (&["--platform", "linux/arm64/v8"], &arm),
            (&["--platform", "x86_64"], &amd),
            (&["--as", "index"], &whole),
        ],
        &[
            (&[], "@1 linux/arm64"),
            (&[], "--as index"),
            (&["--name", "@2"], "@1"),
            (&["--name", "v1"], "v1"),
        ],
    );
    assert_eq!(case.registry.manifest("app:v1")["manifests"].as_array().unwrap().len(), 2);
    // Under one name.
    packed.0.retain(|file| file.0 != "index.json");
    packed.index(&[named(&amd, "app:1"), named(&arm, "app:1")]);
    choose(
        &packed,
        &[(&["--name", "app:1", "--platform", "arm64"], &arm)],
        &[(&["--name", "app:1"], "linux/arm64")],
    );
    // A signature beside the image that nobody named.
    let mut packed = Packed::new();
    let image = packed.image("amd64", &one, &gz, gzip);
    let config = packed.blob("application/vnd.oci.empty.v1+json", b"{}");
    let signature = json!({"schemaVersion": 2, "mediaType": IMAGE, "artifactType": "signature/x",
        "config": config, "layers": [], "subject": {"mediaType": IMAGE, "digest": image["digest"],
        "size": image["size"]}});
    let signature = packed.blob(IMAGE, signature.to_string().as_bytes());
    packed.index(&[signature.clone(), image.clone()]);
    let own = digest_of(&signature);
    choose(&packed, &[(&[], &image), (&["--name", &own], &signature)], &[]);
}

fn of_several_images_without_an_index_one_is_chosen() {
    let case = Case::new();
    let [one, two] = layers();
    let (a, b) = (config_and_layer("amd64", &one), config_and_layer("arm64", &two));
    let manifest =
        json!([{"Config": "a.json", "RepoTags": ["app:1", "app:latest"], "Layers": ["a.tar"]},
        {"Config": "b.json", "RepoTags": ["web:1"], "Layers": ["b.tar"]}])
        .to_string();
    let bytes = tar(&[
        ("a.json", &a.0),
        ("a.tar", &a.1),
        ("b.json", &b.0),
        ("b.tar", &b.1),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let path = case.write("multi.tar", &bytes);
    for (more, config) in [
        (&["--name", "app:latest"][..], &a.0),
        (&["--name", "docker.io/library/web:1"], &b.0),
        (&["--name", "@1"], &b.0),
        (&["--name", &digest(&a.0)], &a.0),
        (&["--platform", "linux/arm64"], &b.0),
    ] {
        assert_eq!(case.push(&path, more).1["config"]["digest"], digest(config), "{more:?}");
    }
    case.refused(&path, &[], &["@0", "app:1", "web:1", "--name"]);
    case.refused(&path, &["--name", "1"], &["2 images"]);
    case.refused(&path, &["--as", "index"], &["no index"]);
}

fn config_and_layer(architecture: &str, layer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (config(architecture, &[layer]), layer.to_vec())
}

fn an_index_goes_up_as_a_whole_or_by_platform() {
    let case = Case::new();
    let [one, two] = layers();
    let gz = format!("{LAYER}+gzip");
    let mut packed = Packed::new();
    let (amd, arm) =
        (packed.image("amd64", &one, &gz, gzip), packed.image("arm64", &two, &gz, gzip));
    let windows = packed.image("s390x", &one, &gz, gzip);
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm, windows]});
    let inner = packed.blob(INDEX, inner.to_string().as_bytes());
    let whole = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]});
    let whole = packed.blob(INDEX, whole.to_string().as_bytes());
    packed.index(&[named(&whole, "app:1")]);
    let layout = packed.folder(&case.folder.path().join("layout"));
    let (pushed, _) = case.push(&layout, &[]);
    assert_eq!((&pushed["digest"], &pushed["pushedAs"]), (&whole["digest"], &json!("index")));
    // Within an index of an index, and several of them.
    assert_eq!(case.push(&layout, &["--platform", "linux/arm64"]).0["digest"], arm["digest"]);
    let (_, manifest) = case.push(&layout, &["--platform", "linux/arm64,linux/amd64"]);
    let found: Vec<&Value> =
        manifest["manifests"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(found, [&arm["digest"], &amd["digest"]]);
    case.refused(&layout, &["--platform", "linux/riscv64"], &["linux/riscv64", "linux/s390x"]);
    case.refused(
        &layout,
        &["--platform", "nothing/at/all/here"],
        &["is no platform", "linux/amd64"],
    );
    // An image is of its own platform alone.
    let mut single = Packed::new();
    let amd = single.image("amd64", &one, &gz, gzip);
    single.index(&[json!({"mediaType": IMAGE, "digest": amd["digest"], "size": amd["size"]})]);
    let single = single.folder(&case.folder.path().join("single"));
    assert_eq!(case.push(&single, &["--platform", "linux/amd64"]).0["digest"], amd["digest"]);
    case.refused(
        &single,
        &["--platform", "linux/arm64"],
        &["no image for linux/arm64", "linux/amd64"],
    );
    // What an index lists and a layout lacks may be in the registry.
    let lost = layout.join(at(&arm));
    let bytes = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    assert_eq!(case.push(&layout, &[]).0["digest"], whole["digest"]);
    case.registry.held.lock().unwrap().manifests.remove(&digest(&bytes));
    case.refused(&layout, &[], &["linux/arm64", "neither here nor in the registry"]);
}

fn layers_that_have_a_place_elsewhere_are_not_sent() {
    let case = Case::new();
    let [one, base] = layers();
    let mut packed = Packed::new();
    let config = packed
        .blob("application/vnd.docker.container.image.v1+json", &config("amd64", &[&base, &one]));
    let layer = packed.blob("application/vnd.docker.image.rootfs.diff.tar.gzip", &gzip(&one));
    let foreign = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest(&gzip(&base)), "size": gzip(&base).len(),
        "urls": ["https://go.microsoft.com/fwlink/?linkid=873594"]});
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config,
        "layers": [foreign, layer]});
    let entry = packed.blob(kind, manifest.to_string().as_bytes());
    packed.index(&[named(&entry, "win:ltsc2019")]);
    let layout = packed.folder(&case.folder.path().join("layout"));
    let (pushed, _) = case.push(&layout, &[]);
    assert_eq!(pushed["digest"], entry["digest"]);
    assert_eq!(pushed["leftOut"][0]["digest"], foreign["digest"]);
    // It comes down without that layer, which is said; so is what it cannot be made into.
    let at = case.registry.at("app:v1");
    for name in ["down", "down.tar"] {
        let to = case.folder.path().join(name);
        let mut pull = case.registry.azimg(&["pull", &at, to.to_str().unwrap()]);
        let (code, out, err) = finish(&mut pull);
        assert_eq!(code, 0, "{err}");
        let pulled: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(pulled["leftOut"][0]["urls"], foreign["urls"], "{out}");
        assert!(err.contains("has a place elsewhere"), "{err}");
        assert_eq!(pulled["dockerLoad"], Value::Null);
    }
    assert_eq!(Layout(case.folder.path().join("down")).blobs().len(), 3);
    assert_eq!(case.push(&case.folder.path().join("down"), &[]).0["digest"], entry["digest"]);
    // A registry that has it gives it.
    case.registry.blob(&gzip(&base));
    let to = case.folder.path().join("whole");
    let pulled = json(&mut case.registry.azimg(&["pull", &at, to.to_str().unwrap()]));
    assert_eq!((&pulled["leftOut"], Layout(to).blobs().len()), (&Value::Null, 4));
    let inspected = json(&mut case.registry.azimg(&["inspect", &at]));
    assert_eq!(inspected["layers"][0]["urls"], foreign["urls"]);
}

fn caches_of_buildkit_go_up_and_come_down() {
    let case = Case::new();
    let [one, _] = layers();
    let mut packed = Packed::new();
    let layer = packed.blob(&format!("{LAYER}+gzip"), &gzip(&one));
    let records = json!({"layers": [{"blob": layer["digest"], "parent": -1}], "records": []});
    let kind = "application/vnd.buildkit.cacheconfig.v0";
    let config = packed.blob(kind, records.to_string().as_bytes());
    let cache = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [layer, config]});
    let cache = packed.blob(INDEX, cache.to_string().as_bytes());
    packed.index(&[named(&cache, "app:latest")]);
    let layout = packed.folder(&case.folder.path().join("cache"));
    let (pushed, _) = case.push(&layout, &[]);
    assert_eq!((&pushed["digest"], &pushed["pushedAs"]), (&cache["digest"], &json!("index")));
    let at = case.registry.at("app:v1");
    let to = case.folder.path().join("down");
    let pulled = json(&mut case.registry.azimg(&["pull", &at, to.to_str().unwrap()]));
    assert_eq!((&pulled["manifests"], &pulled["blobs"]), (&json!(1), &json!(2)));
    assert_eq!(Layout(to).blobs(), Layout(layout).blobs());
    let inspected = json(&mut case.registry.azimg(&["inspect", &at]));
    let kinds: Vec<&Value> =
        inspected["blobs"].as_array().unwrap().iter().map(|blob| &blob["mediaType"]).collect();
    assert_eq!(kinds, [&layer["mediaType"], &json!(kind)]);
}

fn files_of_a_folder_are_named_by_their_paths() {
    let case = Case::new();
    let folder = case.folder.path().join("model");
    for (name, text) in
        [(".env", "A=1"), ("src/model.py", "pass"), ("lib/model.py", "pass"), ("README", "")]
    {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (pushed, manifest) =
        case.push(&folder, &["--artifact-type", "application/vnd.example.model"]);
    assert_eq!(pushed["pushedAs"], "artifact");
    let title = "org.opencontainers.image.title";
    let titles: Vec<&Value> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| &layer["annotations"][title])
        .collect();
    assert_eq!(titles, [".env", "README", "lib/model.py", "src/model.py"]);
    let at = case.registry.at("app:v1");
    let to = case.folder.path().join("down");
    let line = ["pull", &at, to.to_str().unwrap(), "--to", "files"];
    let pulled = json(&mut case.registry.azimg(&line));
    assert_eq!(pulled["files"], json!(titles));
    assert_eq!(std::fs::read(to.join("src/model.py")).unwrap(), b"pass");
    assert_eq!(std::fs::read(to.join(".env")).unwrap(), b"A=1");
    // Again: it is all there. Another file in its place stays, unless it is to be replaced.
    json(&mut case.registry.azimg(&line));
    std::fs::write(to.join("lib/model.py"), "mine").unwrap();
    let (code, _, err) = finish(&mut case.registry.azimg(&line));
    assert!(code != 0 && err.contains("lib/model.py") && err.contains("--overwrite"), "{err}");
    json(&mut case.registry.azimg(&[&line[..], &["--overwrite"]].concat()));
    assert_eq!(std::fs::read(to.join("lib/model.py")).unwrap(), b"pass");
    // A link on the way is not gone through.
    let outside = case.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let elsewhere = case.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&outside, elsewhere.join("src")).unwrap();
    let (code, _, err) = finish(&mut case.registry.azimg(&[
        "pull",
        &at,
        elsewhere.to_str().unwrap(),
        "--to",
        "files",
    ]));
    assert!(code != 0 && err.contains("src is a link"), "{err}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // A link in a folder is no file of it.
    std::os::unix::fs::symlink("/etc/passwd", folder.join("users")).unwrap();
    case.refused(&folder, &["--as", "artifact"], &["users", "a link"]);
}

fn files_whose_names_lead_elsewhere_are_not_written() {
    let case = Case::new();
    let title = "org.opencontainers.image.title";
    // The second half cannot lie beside each other.
    for names in [
        &["../x"][..],
        &["/home/vsts/work/1/a/playbooks.zip"],
        &["a/../../x"],
        &["a.txt", "A.txt"],
        &["a", "a/b"],
    ] {
        let layers: Vec<Value> = names
            .iter()
            .map(|name| {
                let mut layer = json!({"mediaType": "text/plain", "size": name.len(),
                    "digest": case.registry.blob(name.as_bytes())});
                layer["annotations"] = json!({ title: name });
                layer
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": layers,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                "digest": case.registry.blob(b"{}")}});
        case.registry.put("bad:v1", IMAGE, manifest.to_string().as_bytes());
        let to = case.folder.path().join("bad");
        let at = case.registry.at("bad:v1");
        let mut pull = case.registry.azimg(&["pull", &at, to.to_str().unwrap(), "--to", "files"]);
        let (code, _, err) = finish(&mut pull);
        assert!(code != 0 && err.contains("the artifact names"), "{names:?}: {err}");
        assert!(!to.exists());
    }
}
