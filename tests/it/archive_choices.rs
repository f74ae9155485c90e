//! Archives of several images and of several platforms, build caches, and folders of files.

use crate::support::archives::{
    Case, IMAGE, INDEX, LAYER, Packed, at, config, gzip, layers, named, tar,
};
use crate::support::layout::{Layout, digest};
use crate::support::{finish, json};
use crate::tests;
use serde_json::{Value, json};

tests![
    one_of_several_images_in_an_archive_is_chosen,
    one_of_several_images_without_an_index_is_chosen,
    an_index_is_pushed_whole_or_by_platform,
    buildkit_caches_are_pushed_and_pulled,
    files_of_a_folder_are_named_by_their_paths,
    files_with_names_outside_the_folder_are_not_written,
];

fn one_of_several_images_in_an_archive_is_chosen() {
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

fn one_of_several_images_without_an_index_is_chosen() {
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
    case.refused(&path, &["--as", "index"], &["requires an OCI layout"]);
}

fn config_and_layer(architecture: &str, layer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (config(architecture, &[layer]), layer.to_vec())
}

fn an_index_is_pushed_whole_or_by_platform() {
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
        &["is not a platform", "linux/amd64"],
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
    case.refused(&layout, &[], &["linux/arm64", "neither in the source nor in the registry"]);
}

fn buildkit_caches_are_pushed_and_pulled() {
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

fn files_with_names_outside_the_folder_are_not_written() {
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
