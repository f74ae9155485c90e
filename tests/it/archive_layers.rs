//! Layers of archives: links, compression, and digests that are compared.

use crate::support::archives::{
    Case, LAYER, Packed, bzip2, config, digests, gzip, layers, linked, named, saved, tar, unpacked,
};
use crate::support::layout::{Layout, digest};
use crate::support::{finish, json};
use crate::tests;
use serde_json::{Value, json};

tests![
    layers_may_be_links,
    layers_may_be_compressed_in_any_way_and_are_compared,
    layers_of_a_layout_are_compared_with_their_diff_ids,
    uncompressed_layers_are_compressed_during_a_push,
    layers_with_foreign_urls_are_not_sent,
];

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
        case.refused(&path, &[], &["d/layer.tar is missing"]);
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
        case.refused(&path, &[], &["does not match the image configuration", "l.tar.gz"]);
        let more = config("amd64", &[&one, &two]);
        let path = case.write("fewer.tar", &saved(&more, &[("l.tar.gz", &bytes)], &Value::Null));
        case.refused(&path, &[], &["1 layers", "configuration names 2"]);
        let cut = &bytes[..bytes.len() / 2];
        let path = case.write("cut.tar", &saved(&of, &[("l.tar.gz", cut)], &Value::Null));
        case.refused(&path, &[], &["l.tar.gz"]);
    }
}

fn layers_of_a_layout_are_compared_with_their_diff_ids() {
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
        let words = [wrong.as_str(), "does not match the image configuration"];
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
    case.refused(&torn, &["--as", "index"], &["does not match the image configuration"]);
    // Nobody without the key can say what is in it.
    let mut sealed = Packed::new();
    let entry = sealed.image("amd64", &one, &format!("{kind}+encrypted"), |_| b"sealed".to_vec());
    sealed.index(&[entry]);
    case.push(&case.write("sealed.tar", &sealed.bytes()), &[]);
}

fn uncompressed_layers_are_compressed_during_a_push() {
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

fn layers_with_foreign_urls_are_not_sent() {
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
        assert!(err.contains("is available elsewhere"), "{err}");
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
