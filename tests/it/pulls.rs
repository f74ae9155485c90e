//! Pulls: of the platform that is wanted, under names that are kept, into archives that say which tools can load them.

use crate::support::layout::Layout;
use crate::support::memory::Memory;
use crate::support::pulls::{IMAGE, INDEX, image, index, platform, pull};
use crate::support::{finish, json, read_json};
use crate::tests;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

tests![
    an_image_is_of_the_platform_that_is_wanted,
    names_in_a_layout_and_in_archives_are_whole,
    archives_say_which_tools_can_load_them,
    concurrent_pulls_into_one_layout_lose_nothing,
    an_index_whose_manifests_fill_the_memory_is_refused,
];

const NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

fn windows(version: &str) -> Value {
    json!({"os": "windows", "architecture": "amd64", "os.version": version})
}

/// Images of four platforms of Linux and of two versions of Windows.
fn of_each_platform(at: &Memory) -> BTreeMap<&'static str, Value> {
    let mut made = BTreeMap::new();
    for name in ["linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7"] {
        made.insert(name, image(at, "app:x", &platform(name), name));
    }
    for version in ["10.0.17763.1", "10.0.20348.1"] {
        made.insert(version, image(at, "app:x", &windows(version), version));
    }
    made
}

fn an_image_is_of_the_platform_that_is_wanted() {
    let at = Memory::start();
    let made = of_each_platform(&at);
    let attests = json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": made["linux/arm64"]["digest"]});
    let mut attestation = image(&at, "app:x", &platform("unknown/unknown"), "attestation");
    attestation["annotations"] = attests;
    let mut entries: Vec<Value> = made.values().cloned().collect();
    entries.push(attestation.clone());
    index(&at, "app:v1", &entries);
    let inner = index(&at, "app:inner", &entries);
    index(&at, "app:nested", &[inner]);
    // Without a platform in the index, the configuration tells it.
    let bare: Vec<Value> = entries
        .iter()
        .map(|entry| json!({"mediaType": IMAGE, "digest": entry["digest"], "size": entry["size"]}))
        .collect();
    index(&at, "app:bare", &bare);
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut pull_to = |name: &str, platform: &str| {
        count += 1;
        let to = folder.path().join(count.to_string());
        (pull(&at, name, &to, &["--platform", platform]), to)
    };
    for (wanted, expected) in [
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("windows(10.0.20348)/amd64", "10.0.20348.1"),
        ("windows/amd64:10.0.17763.1", "10.0.17763.1"),
    ] {
        for name in ["app:v1", "app:nested", "app:bare"] {
            let (pulled, _) = pull_to(name, wanted);
            assert_eq!(pulled["digest"], made[expected]["digest"], "{wanted} of {name}");
        }
    }
    // Several are an index of these, with what attests them.
    let (pulled, to) = pull_to("app:v1", "linux/amd64,linux/arm64");
    assert_eq!((&pulled["mediaType"], &pulled["manifests"]), (&json!(INDEX), &json!(4)));
    let hex = &pulled["digest"].as_str().unwrap()[7..];
    let whole = read_json(&to.join("blobs/sha256").join(hex));
    let found: Vec<&Value> =
        whole["manifests"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
    let expected =
        [&made["linux/amd64"]["digest"], &made["linux/arm64"]["digest"], &attestation["digest"]];
    assert_eq!(found, expected);
    // No image of another platform is taken for it, from an index or alone.
    image(&at, "single:v1", &platform("linux/amd64"), "single");
    let to = folder.path().join("none");
    for (name, wanted, word) in [
        ("app:v1", "linux/s390x", "linux/arm/v7"),
        ("app:v1", "windows/amd64", "windows(10.0.20348.1)/amd64"),
        ("single:v1", "linux/arm64", "available: linux/amd64"),
        ("single:v1", "linux/amd64,linux/arm64", "available: linux/amd64"),
        ("app:v1", "beos", "not a platform"),
    ] {
        let line = ["pull", &at.at(name), to.to_str().unwrap(), "--platform", wanted];
        let (code, out, err) = finish(&mut at.azimg(&line));
        assert!(code != 0 && err.contains(word), "{wanted}: {out}{err}");
        assert!(!to.exists());
    }
    pull(&at, "single:v1", &to, &["--platform", "linux/amd64"]);
}

/// The names of a layout's images, by digest.
fn names(layout: &Path) -> Vec<(String, Value)> {
    let index = read_json(&layout.join("index.json"));
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| (entry["digest"].as_str().unwrap().to_owned(), entry["annotations"].clone()))
        .collect()
}

fn names_in_a_layout_and_in_archives_are_whole() {
    let at = Memory::start();
    let folder = tempfile::tempdir().unwrap();
    let one = image(&at, "team/one:v1", &platform("linux/amd64"), "one");
    let two = image(&at, "team/two:v1", &platform("linux/amd64"), "two");
    let layout = folder.path().join("layout");
    pull(&at, "team/one:v1", &layout, &[]);
    pull(&at, "team/two:v1", &layout, &[]);
    let (first, second) = (at.at("team/one:v1"), at.at("team/two:v1"));
    let text = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
    assert_eq!(
        names(&layout),
        [
            (text(&one), json!({FULL_NAME: first, NAME: "v1"})),
            (text(&two), json!({FULL_NAME: second, NAME: second})),
        ]
    );
    // Either is pushed by its name, and the tag has moved in one of them alone.
    for (name, expected) in [(&first, &one), (&second, &two)] {
        let line = ["push", &at.at("again:v1"), layout.to_str().unwrap(), "--name", name];
        assert_eq!(json(&mut at.azimg(&line))["digest"], expected["digest"]);
    }
    let moved = image(&at, "team/one:v1", &platform("linux/amd64"), "moved");
    pull(&at, "team/one:v1", &layout, &[]);
    let found: Vec<String> = names(&layout).into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(found, [text(&two), text(&moved)]);
    // An archive has the name that whoever loads it gives the image; by digest it has none.
    let tar = folder.path().join("one.tar");
    let pulled = pull(&at, "team/one:v1", &tar, &[]);
    assert_eq!((&pulled["name"], &pulled["dockerLoad"]), (&json!(first), &json!("image")));
    let inside = unpacked(&tar);
    assert_eq!(inside["manifest.json"][0]["RepoTags"], json!([first]));
    let entry = &inside["index.json"]["manifests"][0];
    assert_eq!(entry["annotations"], json!({FULL_NAME: first, NAME: "v1"}));
    let name = format!("team/two@{}", text(&two));
    pull(&at, &name, &tar, &["--overwrite"]);
    let inside = unpacked(&tar);
    assert_eq!(inside["manifest.json"][0]["RepoTags"], Value::Null);
    assert_eq!(
        inside["index.json"]["manifests"],
        json!([{"mediaType": IMAGE,
        "digest": two["digest"], "size": two["size"]}])
    );
    // Nothing of the image before is left in it: a manifest, a configuration and a layer.
    let blobs = inside.keys().filter(|name| name.starts_with("blobs/")).count();
    assert_eq!((blobs, inside.len()), (3, 6), "{:?}", inside.keys());
}

/// The files of an archive, as far as they are JSON.
fn unpacked(path: &Path) -> BTreeMap<String, Value> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&bytes).unwrap_or_default())
        })
        .collect()
}

fn archives_say_which_tools_can_load_them() {
    let at = Memory::start();
    let folder = tempfile::tempdir().unwrap();
    let pulled = |name: &str, more: &[&str]| {
        let to = folder.path().join(format!("{}.tar", name.replace(':', "-")));
        let line = ["pull", &at.at(name), to.to_str().unwrap(), "--overwrite"];
        let (code, out, err) = finish(&mut at.azimg(&[&line[..], more].concat()));
        assert_eq!(code, 0, "{err}");
        (serde_json::from_str::<Value>(&out).unwrap(), err, unpacked(&to))
    };
    let both =
        ["linux/amd64", "linux/arm64"].map(|name| image(&at, "app:x", &platform(name), name));
    let whole = index(&at, "app:both", &both);
    let (reported, err, inside) = pulled("app:both", &[]);
    let own = usize::from(cfg!(target_arch = "aarch64"));
    let machine = ["linux/amd64", "linux/arm64"][own];
    assert_eq!((&reported["dockerLoad"], &reported["digest"]), (&json!(machine), &whole["digest"]));
    assert!(err.contains("OCI archive of all platforms") && err.contains(machine), "{err}");
    let hex = &both[own]["digest"].as_str().unwrap()[7..];
    let manifest = &inside[&format!("blobs/sha256/{hex}")];
    let config = manifest["config"]["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(inside["manifest.json"][0]["Config"], format!("blobs/{config}"));
    assert_eq!(inside["manifest.json"][0]["RepoTags"], json!([at.at("app:both")]));
    // All of it goes up again, with its own digest.
    let tar = folder.path().join("app-both.tar");
    let again = json(&mut at.azimg(&["push", &at.at("again:v1"), tar.to_str().unwrap()]));
    assert_eq!(again["digest"], whole["digest"]);
    // Of other platforms alone nothing is for docker load, and it is said.
    let others =
        ["linux/s390x", "linux/ppc64le"].map(|name| image(&at, "app:x", &platform(name), name));
    index(&at, "app:others", &others);
    let (reported, err, inside) = pulled("app:others", &[]);
    assert_eq!(reported["dockerLoad"], Value::Null);
    assert!(err.contains("--platform") && !inside.contains_key("manifest.json"), "{err}");
    let (reported, err, _) = pulled("app:others", &["--platform", "linux/s390x"]);
    assert_eq!(reported["dockerLoad"], "image");
    assert!(err.contains("'docker load' accepts"), "{err}");
    // What is no image is for nobody but who reads OCI archives.
    let artifact = json!({"schemaVersion": 2, "mediaType": IMAGE, "artifactType": "a/b", "layers": [],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": at.blob(b"{}")}});
    at.put("app:artifact", IMAGE, artifact.to_string().as_bytes());
    let (reported, _, inside) = pulled("app:artifact", &[]);
    assert!(reported["dockerLoad"].is_null() && !inside.contains_key("manifest.json"));
}

fn concurrent_pulls_into_one_layout_lose_nothing() {
    let at = Memory::start();
    let folder = tempfile::tempdir().unwrap();
    let count = 12;
    let mut expected: Vec<String> = (0..count)
        .map(|number| {
            let name = format!("team/{number}:v1");
            let made = image(&at, &name, &platform("linux/amd64"), &name);
            made["digest"].as_str().unwrap().to_owned()
        })
        .collect();
    let layout = folder.path().join("layout");
    // From the beginning, when nobody has made the folder yet.
    let running: Vec<_> = (0..count)
        .map(|number| {
            let name = at.at(&format!("team/{number}:v1"));
            let mut pull = at.azimg(&["pull", &name, layout.to_str().unwrap()]);
            pull.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            pull.spawn().unwrap()
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut found: Vec<String> = names(&layout).into_iter().map(|(digest, _)| digest).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(Layout(layout).blobs().len(), 3 * count);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn an_index_whose_manifests_fill_the_memory_is_refused() {
    let at = Memory::start();
    let entries: Vec<Value> = (0..20)
        .map(|number: u32| {
            let padding = "x".repeat((39 << 20) / 10);
            let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": [],
                "annotations": {"number": number.to_string(), "padding": padding}})
            .to_string();
            let digest = at.put(&format!("app:{number}"), IMAGE, manifest.as_bytes());
            json!({"mediaType": IMAGE, "digest": digest, "size": manifest.len()})
        })
        .collect();
    index(&at, "app:all", &entries);
    let all = at.at("app:all");
    for line in [&["pull", &all, "down", "--dry-run"][..], &["copy", &all, &at.at("other")]] {
        let (code, _, stderr) = finish(&mut at.azimg(line));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("more than 64 MiB"), "{stderr}");
    }
    assert!(!at.held.lock().unwrap().log.iter().any(|line| line.contains("/v2/other/")));
}
