//! Other programs and azimg at one registry. The Azure SDK for Python lists, locks, uploads, downloads and deletes the
//! same; what skopeo, podman, buildah, umoci and oras make goes up and comes down as it is.

use crate::support::layout::Layout;
use crate::support::memory::Memory;
use crate::support::needs::Need;
use crate::support::oci::Oci;
use crate::support::{debian, finish, json, python, read_json, root};
use crate::tests;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

tests![
    the_sdk_and_azimg_agree_on_a_registry needs [Registry, Azure],
    images_of_other_tools_are_pushed_and_pulled needs [Registry, Containers],
    files_of_oras_are_pushed_and_pulled needs [Containers],
];

/// What the SDK says when it does that.
fn sdk(oci: &Oci, endpoint: &str, line: &[&str]) -> Value {
    let authority = oci.folder.path().join("tls/ca.pem");
    let mut command = Command::new(python::registry().unwrap().join("python"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", oci.folder.path());
    command.env("REQUESTS_CA_BUNDLE", &authority).env("SSL_CERT_FILE", &authority);
    command.arg(root().join("tests/fixtures/registry_peer.py")).arg(endpoint).args(line);
    let (code, out, err) = finish(&mut command);
    assert_eq!(code, 0, "{line:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn azimg(oci: &Oci, line: &[&str]) -> Value {
    json(&mut oci.azimg(&[&["registry"], line, &["-o", "json"]].concat()))
}

/// What azimg lists, as far as the SDK says it, too.
fn everything(oci: &Oci) -> Value {
    let mut all = serde_json::Map::new();
    for row in azimg(oci, &["repositories", &oci.front.server]).as_array().unwrap() {
        let name = row["repository"].as_str().unwrap();
        let at = oci.at(name);
        let whole = azimg(oci, &["show", &at]);
        let only = |rows: Value, columns: &[&str]| -> Vec<Value> {
            let rows = rows.as_array().unwrap().iter().map(|row| {
                let of = |column: &&str| ((*column).to_owned(), row[*column].clone());
                let mut row: serde_json::Map<String, Value> = columns.iter().map(of).collect();
                // Python's moments end with microseconds.
                let time = row["lastUpdateTime"].as_str().unwrap();
                let (seconds, part) = time.trim_end_matches('Z').split_once('.').unwrap();
                let part = format!("{part:0<6}");
                row["lastUpdateTime"] = format!("{seconds}.{}", &part[..6]).into();
                Value::Object(row)
            });
            rows.collect()
        };
        let tags = ["name", "digest", "lastUpdateTime", "changeableAttributes"];
        let manifests = ["digest", "imageSize", "tags", "lastUpdateTime", "changeableAttributes"];
        all.insert(
            name.to_owned(),
            json!({"manifestCount": whole["manifestCount"], "tagCount": whole["tagCount"],
                "changeableAttributes": whole["changeableAttributes"],
                "tags": only(azimg(oci, &["tags", &at]), &tags),
                "manifests": only(azimg(oci, &["manifests", &at]), &manifests)}),
        );
    }
    Value::Object(all)
}

fn push(oci: &Oci, name: &str, folder: &Path, seed: &str) -> Value {
    let layout = Layout::new(folder);
    let image = layout.image("amd64", &[seed.as_bytes()], &Value::Null);
    layout.tag(&image, "x");
    azimg(oci, &["push", &oci.at(name), layout.0.to_str().unwrap()])
}

fn the_sdk_and_azimg_agree_on_a_registry() {
    let oci = Oci::start();
    let endpoint = oci.secure();
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in
        ["a", "team/b:v1", "team/b:v2", "team/b:v3", "c:latest"].iter().enumerate()
    {
        push(&oci, name, &folder.path().join(number.to_string()), name);
    }
    // What one pushes, the other pulls; and they see the same.
    let by_sdk = sdk(&oci, &endpoint, &["push", "sdk/app", "v1"]);
    let to = folder.path().join("pulled");
    let pulled = azimg(&oci, &["pull", &oci.at("sdk/app:v1"), to.to_str().unwrap()]);
    assert_eq!(pulled["digest"], by_sdk["digest"]);
    assert_eq!(Layout(to).blobs().len(), 3);
    let inspected = azimg(&oci, &["inspect", &oci.at("sdk/app:v1")]);
    assert_eq!(inspected["config"]["labels"]["by"], "sdk", "{inspected}");
    let seen = sdk(&oci, &endpoint, &["pull", "team/b", "v2"]);
    let shown = azimg(&oci, &["show", &oci.at("team/b:v2")]);
    assert_eq!(seen["digest"], shown["digest"]);
    let (ours, theirs) = (everything(&oci), sdk(&oci, &endpoint, &["list"]));
    assert_eq!(ours, theirs);
    assert_eq!(ours["team/b"]["tags"].as_array().unwrap().len(), 3);
    // What one locks, the other may not delete.
    sdk(&oci, &endpoint, &["lock", "team/b", "v1"]);
    let (code, _, err) = finish(&mut oci.azimg(&["registry", "delete", &oci.at("team/b:v1")]));
    assert!(code != 0 && err.contains("locked"), "{err}");
    let line = ["set", &oci.at("team/b:v1"), "--delete-enabled", "true", "--write-enabled", "true"];
    azimg(&oci, &line);
    assert_eq!(everything(&oci), sdk(&oci, &endpoint, &["list"]));
    // Deleted by the one or the other, it is gone for both.
    sdk(&oci, &endpoint, &["delete-tag", "team/b", "v1"]);
    azimg(&oci, &["delete", &oci.at("team/b:v2")]);
    let digest = by_sdk["digest"].as_str().unwrap();
    sdk(&oci, &endpoint, &["delete-manifest", "sdk/app", digest]);
    sdk(&oci, &endpoint, &["delete-repository", "c"]);
    azimg(&oci, &["delete", &oci.at("a"), "--yes"]);
    let left = everything(&oci);
    assert_eq!(left, sdk(&oci, &endpoint, &["list"]));
    let names: Vec<&String> = left.as_object().unwrap().keys().collect();
    assert_eq!(names, ["sdk/app", "team/b"]);
    assert_eq!(left["team/b"]["tagCount"], 1);
    assert_eq!(left["team/b"]["manifestCount"], 3, "tags go, manifests stay");
}

/// Podman, buildah, umoci and skopeo in a folder of their own.
struct Tools {
    oci: Oci,
    folder: tempfile::TempDir,
}

impl Tools {
    fn new() -> Self {
        let (oci, folder) = (Oci::start(), tempfile::tempdir().unwrap());
        let at = |name: &str| folder.path().join(name);
        let root = debian::containers().unwrap();
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        std::fs::create_dir_all(at(".config/containers")).unwrap();
        std::fs::write(at(".config/containers/policy.json"), policy).unwrap();
        // Nothing here needs a kernel's file system of layers, or to be root.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n\
             [storage.options.vfs]\nignore_chown_errors = \"true\"\n",
            at("run").display(),
            at("graph").display()
        );
        std::fs::write(at("storage.conf"), storage).unwrap();
        let engine = format!(
            "[engine]\nevents_logger = \"none\"\ncgroup_manager = \"cgroupfs\"\nconmon_path = [\"{}\"]\n\
             [engine.runtimes]\ncrun = [\"{}\"]\n",
            root.join("usr/bin/conmon").display(),
            root.join("usr/bin/crun").display()
        );
        std::fs::write(at("containers.conf"), engine).unwrap();
        Self { oci, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        debian::on_path(&mut command, Need::Containers, &[]);
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command.env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf"));
        command.env("CONTAINERS_CONF", self.folder.path().join("containers.conf"));
        command.env("BUILDAH_ISOLATION", "chroot");
        let (code, out, err) = finish(&mut command);
        assert_eq!(code, 0, "{program} {arguments:?}: {out}{err}");
        out
    }

    fn azimg(&self, line: &[&str]) -> Value {
        azimg(&self.oci, line)
    }

    /// What skopeo reads of an image in the registry.
    fn inspect(&self, name: &str, more: &[&str]) -> Value {
        let (credentials, image) =
            (self.oci.credentials(), format!("docker://{}", self.oci.at(name)));
        let line = ["inspect", "--tls-verify=false", "--creds", &credentials];
        let out = self.run("skopeo", &[&line[..], more, &[&image]].concat());
        serde_json::from_str(&out).unwrap()
    }

    /// The names of an image that podman has, after it has loaded an archive; by its id.
    fn loaded(&self, archive: &str, id: &str) -> Vec<String> {
        self.run("podman", &["load", "-i", archive]);
        let out = self.run("podman", &["image", "inspect", id.trim_start_matches("sha256:")]);
        let found: Value = serde_json::from_str(&out).unwrap();
        let mut names: Vec<String> =
            serde_json::from_value(found[0]["RepoTags"].clone()).unwrap_or_default();
        names.sort();
        names
    }

    /// Makes an image with one file in it; its name is what buildah knows it by.
    fn build(&self, name: &str, text: &str, architecture: &str) {
        std::fs::write(self.folder.path().join("hello"), text).unwrap();
        let container = self.run("buildah", &["from", "scratch"]);
        let container = container.trim();
        self.run("buildah", &["copy", "--quiet", container, "hello", "/hello"]);
        let config = ["config", "--cmd", "/hello", "--arch", architecture, "--os", "linux"];
        self.run("buildah", &[&config[..], &[container]].concat());
        self.run("buildah", &["commit", "--quiet", container, name]);
        self.run("buildah", &["rm", container]);
    }
}

/// The digest of the one image of a layout.
fn own_digest(layout: &str) -> Value {
    read_json(&Path::new(layout).join("index.json"))["manifests"][0]["digest"].clone()
}

fn images_of_other_tools_are_pushed_and_pulled() {
    let tools = Tools::new();
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    tools.build("localhost/built:1", "hello", machine);
    let at = |name: &str| tools.path(name);
    tools.run("podman", &["save", "--quiet", "-o", &at("podman.tar"), "localhost/built:1"]);
    for form in ["oci-archive", "oci-dir"] {
        let to = at(&format!("podman-{form}"));
        tools.run("podman", &["save", "--quiet", "--format", form, "-o", &to, "localhost/built:1"]);
    }
    let image = "containers-storage:localhost/built:1";
    tools.run(
        "buildah",
        &["push", "--quiet", "localhost/built:1", &format!("oci:{}:1", at("buildah"))],
    );
    for form in ["oci", "oci-archive", "docker-archive"] {
        let to = format!("{form}:{}:example/built:1", at(&format!("skopeo-{form}")));
        tools.run("skopeo", &["copy", "--quiet", image, &to]);
    }
    tools.run("umoci", &["init", "--layout", &at("umoci")]);
    let umoci = format!("{}:1", at("umoci"));
    tools.run("umoci", &["new", "--image", &umoci]);
    tools.run("umoci", &["insert", "--rootless", "--image", &umoci, &at("hello"), "/hello"]);
    let sources = [
        "podman.tar",
        "podman-oci-archive",
        "podman-oci-dir",
        "buildah",
        "skopeo-oci",
        "skopeo-oci-archive",
        "skopeo-docker-archive",
        "umoci",
    ];
    for (number, source) in sources.iter().enumerate() {
        let name = format!("by-{source}:v1");
        let pushed = tools.azimg(&["push", &tools.oci.at(&name), &at(source)]);
        assert_eq!(pushed["pushedAs"], "image", "{source}");
        assert_eq!(tools.inspect(&name, &[])["Digest"], pushed["digest"], "{source}");
        if Path::new(&at(source)).is_dir() {
            assert_eq!(own_digest(&at(source)), pushed["digest"], "{source}");
        }
        // Down again, it is the same; podman gives what it loads the right name, and loses none.
        let down = at(&format!("down-{number}"));
        let pulled = tools.azimg(&["pull", &tools.oci.at(&name), &down]);
        assert_eq!(
            (&pulled["digest"], own_digest(&down)),
            (&pushed["digest"], pushed["digest"].clone())
        );
        let archive = format!("{down}.tar");
        tools.azimg(&["pull", &tools.oci.at(&name), &archive]);
        let config =
            tools.inspect(&name, &["--raw"])["config"]["digest"].as_str().unwrap().to_owned();
        let names = tools.loaded(&archive, &config);
        assert!(names.contains(&tools.oci.at(&name)), "{source}: {names:?}");
    }
    an_index_of_buildah(&tools, machine);
}

/// An index of two platforms, from buildah and back: whole, and what is loaded of it is this machine's.
fn an_index_of_buildah(tools: &Tools, machine: &str) {
    let at = |name: &str| tools.path(name);
    let other = if machine == "amd64" { "arm64" } else { "amd64" };
    tools.build("localhost/other:1", "other", other);
    tools.run(
        "buildah",
        &["manifest", "create", "localhost/both:1", "localhost/built:1", "localhost/other:1"],
    );
    let to = format!("oci:{}:1", at("both"));
    tools.run("buildah", &["manifest", "push", "--quiet", "--all", "localhost/both:1", &to]);
    let pushed = tools.azimg(&["push", &tools.oci.at("both:v1"), &at("both")]);
    assert_eq!(
        (&pushed["pushedAs"], &pushed["digest"]),
        (&json!("index"), &own_digest(&at("both")))
    );
    assert_eq!(tools.inspect("both:v1", &["--raw"])["manifests"].as_array().unwrap().len(), 2);
    let archive = at("both.tar");
    let pulled = tools.azimg(&["pull", &tools.oci.at("both:v1"), &archive]);
    assert_eq!(pulled["dockerLoad"], format!("linux/{machine}"));
    let by = format!("docker-archive:{archive}");
    let seen: Value = serde_json::from_str(&tools.run("skopeo", &["inspect", &by])).unwrap();
    assert_eq!(seen["Architecture"], machine);
}

fn files_of_oras_are_pushed_and_pulled() {
    let registry = Memory::start();
    let folder = tempfile::tempdir().unwrap();
    let oras = |line: &[&str]| {
        let mut command = Command::new(python::oras().unwrap().join("python"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", folder.path()).current_dir(folder.path());
        command.arg(root().join("tests/fixtures/oras_peer.py")).args(line);
        let (code, out, err) = finish(&mut command);
        assert_eq!(code, 0, "{line:?}: {out}{err}");
        serde_json::from_str::<Value>(out.lines().last().unwrap_or_default()).unwrap()
    };
    std::fs::create_dir(folder.path().join("src")).unwrap();
    for (name, text) in [("sbom.json", "{}"), ("src/model.py", "pass")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    // What oras pushes azimg pulls, and pushes again as it is.
    let pushed = oras(&["push", &registry.at("by-oras:1"), "sbom.json", "src/model.py"]);
    let to = folder.path().join("files");
    let line = ["pull", &registry.at("by-oras:1"), to.to_str().unwrap(), "--to", "files"];
    let pulled = json(&mut registry.azimg(&line));
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_eq!(std::fs::read(to.join("sbom.json")).unwrap(), b"{}");
    // It names a file without the folder that it is in.
    assert_eq!(pulled["files"], json!(["sbom.json", "model.py"]));
    let layout = folder.path().join("layout");
    json(&mut registry.azimg(&["pull", &registry.at("by-oras:1"), layout.to_str().unwrap()]));
    let again =
        json(&mut registry.azimg(&["push", &registry.at("again:1"), layout.to_str().unwrap()]));
    assert_eq!((&again["digest"], &again["pushedAs"]), (&pushed["digest"], &json!("artifact")));
    // And the other way round, with a file in a folder.
    std::fs::create_dir(to.join("src")).unwrap();
    std::fs::rename(to.join("model.py"), to.join("src/model.py")).unwrap();
    let line = ["push", &registry.at("by-azimg:1"), to.to_str().unwrap(), "--artifact-type", "a/b"];
    json(&mut registry.azimg(&line));
    let back = folder.path().join("back");
    oras(&["pull", &registry.at("by-azimg:1"), back.to_str().unwrap()]);
    assert_eq!(std::fs::read(back.join("src/model.py")).unwrap(), b"pass");
}
