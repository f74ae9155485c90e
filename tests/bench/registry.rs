//! Registries: transfers of a gigabyte compared with `skopeo`, long lists compared with the Azure
//! SDK, and the inventory of a large registry compared with the minimum number of requests.

use crate::memory::peak_of;
use crate::support::needs::{self, Need};
use crate::support::oci::{ADMIN, Oci, PASSWORD};
use crate::support::{Azure, debian, finish, json, python, root};
use crate::{row, table};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use azimg::testing::sim::registries::{
    SimAttributes, SimManifest, SimRegistry, SimRepository, SimTag,
};
use azimg::testing::sim::{Conditions, Scale, World, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The number of layers of the transferred image, and their size in bytes.
const LAYERS: usize = 8;
const LAYER: usize = 128 << 20;

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

pub fn run() {
    transfers();
    lists();
    inventory();
}

/// Writes a layout with one image of random bytes.
fn layout(root: &Path) {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let write = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len(),
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"})
    };
    let mut bytes = vec![0_u8; LAYER];
    let mut layers = Vec::new();
    for _ in 0..LAYERS {
        random.fill(&mut bytes[..]);
        layers.push(write(&bytes));
    }
    let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let mut config = write(config.to_string().as_bytes());
    config["mediaType"] = CONFIG.into();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers});
    let mut entry = write(manifest.to_string().as_bytes());
    entry["mediaType"] = IMAGE.into();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(root.join("index.json"), index.to_string()).unwrap();
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// The duration of a command in seconds, and its peak memory in MiB.
fn timed(command: &mut Command) -> (f64, u64) {
    let begun = Instant::now();
    let peak = peak_of(&mut command.spawn().unwrap());
    (begun.elapsed().as_secs_f64(), peak)
}

/// Durations in seconds and peak memory in MiB of transfers, by name.
type Times = BTreeMap<&'static str, Vec<(f64, u64)>>;

/// Pushes, pulls and copies an image with azimg and with skopeo. Each has registries of its own,
/// because skopeo remembers which repository of a registry has a blob, and mounts it from there.
fn transfer(folder: &Path, source: &str, times: &mut Times) {
    let (ours, theirs, our_mirror, their_mirror) =
        (Oci::start(), Oci::start(), Oci::start(), Oci::start());
    let skopeo = |line: &[&str]| {
        let mut command = Command::new("skopeo");
        debian::on_path(&mut command, Need::Registry, &[]);
        command.arg("--insecure-policy").arg("copy").args(line).env("HOME", folder);
        timed(command.stdout(Stdio::null()))
    };
    let azimg = |registry: &Oci, line: &[&str]| {
        let mut command = registry.azimg(&[&["--quiet", "registry"], line].concat());
        command.env("AZIMG_FROM_REGISTRY_PASSWORD", PASSWORD);
        timed(command.stdout(Stdio::null()))
    };
    let mut took = |what, found| times.entry(what).or_default().push(found);
    let down = folder.join("down");
    let down = down.to_str().unwrap();
    let (at, mirror) = (ours.at("app:v1"), our_mirror.at("mirror/app:v1"));
    took("push azimg", azimg(&ours, &["push", &at, source]));
    took("pull azimg", azimg(&ours, &["pull", &at, down]));
    std::fs::remove_dir_all(down).unwrap();
    let line = ["copy", &at, &mirror, "--from-username", ADMIN];
    took("copy azimg", azimg(&our_mirror, &line));
    let (source, into) = (format!("oci:{source}:v1"), format!("oci:{down}:v1"));
    let at = format!("docker://{}", theirs.at("app:v1"));
    let mirror = format!("docker://{}", their_mirror.at("mirror/app:v1"));
    let (from, to) = (theirs.credentials(), their_mirror.credentials());
    let down_from = ["--src-tls-verify=false", "--src-creds", &from];
    let up_to = |credentials| ["--dest-tls-verify=false", "--dest-creds", credentials];
    took("push skopeo", skopeo(&[&up_to(&from)[..], &[&source, &at]].concat()));
    took("pull skopeo", skopeo(&[&down_from[..], &[&at, &into]].concat()));
    std::fs::remove_dir_all(down).unwrap();
    took("copy skopeo", skopeo(&[&down_from[..], &up_to(&to), &[&at, &mirror]].concat()));
}

fn transfers() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    layout(&source);
    let mut times = Times::new();
    needs::prepare([Need::Registry].iter());
    for _ in 0..3 {
        transfer(folder.path(), source.to_str().unwrap(), &mut times);
    }
    let best = |name: &str| {
        let all = &times[name];
        let took = all.iter().map(|(took, _)| *took).fold(f64::MAX, f64::min);
        (took, all.iter().map(|(_, peak)| *peak).max().unwrap())
    };
    let gib = (LAYERS * LAYER) as f64 / f64::from(1 << 30);
    let mut rows =
        vec![row([&"", &"azimg", &"skopeo", &"ratio (≥ 1.0)", &"azimg's memory (≤ 64 MiB)"])];
    for what in ["push", "pull", "copy"] {
        let (ours, peak) = best(&format!("{what} azimg"));
        let (theirs, _) = best(&format!("{what} skopeo"));
        rows.push(row([
            &what,
            &format!("{ours:.2} s"),
            &format!("{theirs:.2} s"),
            &format!("{:.2}", theirs / ours),
            &format!("{peak} MiB"),
        ]));
    }
    table(
        &format!("An image of {gib:.0} GiB in {LAYERS} layers, docker-registry on this machine"),
        &rows,
    );
}

fn manifest(content: Vec<u8>, tagged: bool) -> (String, SimManifest) {
    let name = digest(&content);
    let manifest = SimManifest {
        media_type: IMAGE,
        content,
        size: 1_000_000,
        created: format!("2026-0{}-02T03:04:05.1234567Z", if tagged { 5 } else { 4 }),
        platform: Some(("amd64".to_owned(), "linux".to_owned())),
        attributes: SimAttributes::default(),
    };
    (name, manifest)
}

/// A registry whose repositories have these numbers of tagged and untagged images.
fn registry(repositories: &[(usize, usize)]) -> SimRegistry {
    let mut registry = azimg::testing::sim::registries::generate_registry(0, 0, 1);
    for (number, (tagged, untagged)) in repositories.iter().enumerate() {
        let mut repository = SimRepository::default();
        for at in 0..tagged + untagged {
            let config =
                json!({"architecture": "amd64", "os": "linux", "n": [number, at]}).to_string();
            let config_digest = digest(config.as_bytes());
            let content = json!({"schemaVersion": 2, "mediaType": IMAGE,
                "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1000,
                    "digest": digest(format!("{}", at % 7).as_bytes())}]});
            registry.blobs.insert(config_digest, config.into_bytes());
            let (name, found) = manifest(content.to_string().into_bytes(), at < *tagged);
            if at < *tagged {
                let (created, attributes) = (found.created.clone(), SimAttributes::default());
                let (digest, updated) = (name.clone(), created.clone());
                let tag = SimTag { digest, created, updated, attributes };
                repository.tags.insert(format!("1.{at}"), tag);
            }
            repository.manifests.insert(name, found);
        }
        registry.repositories.insert(format!("team{}/app-{number}", number % 100), repository);
    }
    registry
}

fn azure(registry: SimRegistry) -> Azure {
    let World { locations, .. } = generate(Scale::Small, 1);
    let mut world = World::new(locations, Vec::new());
    world.registries = vec![registry];
    Azure::under(world, Conditions::default(), None)
}

/// Serves a registry over https: the SDK signs in over https only.
fn secure(folder: &Path, server: &str) -> (String, tokio::runtime::Runtime) {
    async fn pass(
        State((client, to)): State<(reqwest::Client, String)>,
        request: Request,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let url = format!("http://{to}{}", parts.uri.path_and_query().unwrap());
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let sent = client.request(parts.method, url).headers(parts.headers).body(body);
        let answer = sent.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        *response.headers_mut().unwrap() = answer.headers().clone();
        response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let state = (reqwest::Client::new(), server.to_owned());
    let entered = runtime.enter();
    azimg::testing::sim::tls::serve(
        listener,
        Router::new().fallback(pass).with_state(state),
        folder,
    )
    .unwrap();
    drop(entered);
    (address, runtime)
}

fn lists() {
    const MANIFESTS: usize = 20_000;
    let azure = azure(registry(&[(MANIFESTS, 0)]));
    let server = azure.running.registries[0].clone();
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, _runtime) = secure(folder.path(), &server);
    let mut rows = vec![row([&"", &"azimg", &"SDK", &"SDK ÷ azimg (≥ 5)"])];
    for what in ["tags", "manifests"] {
        let ours = (0..3).map(|_| {
            let begun = Instant::now();
            let at = format!("{server}/team0/app-0");
            let listed = json(&mut azure.azimg(&["registry", what, &at, "-o", "json"]));
            assert_eq!(listed.as_array().unwrap().len(), MANIFESTS);
            begun.elapsed().as_secs_f64()
        });
        let ours = ours.fold(f64::MAX, f64::min);
        let authority = folder.path().join("ca.pem");
        let mut command = Command::new(python::registry().unwrap().join("python"));
        command.env_clear().env("HOME", folder.path()).env("REQUESTS_CA_BUNDLE", authority);
        command.arg(root().join("tests/fixtures/registry_peer.py"));
        let (code, out, err) = finish(command.args([&endpoint, "count", "team0/app-0", what]));
        assert_eq!(code, 0, "{err}");
        let reported: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(reported["count"], MANIFESTS);
        // Measured by the script itself, without the start of Python.
        let theirs = reported["seconds"].as_f64().unwrap();
        let ratio = format!("{:.1}", theirs / ours);
        rows.push(row([&what, &format!("{ours:.2} s"), &format!("{theirs:.2} s"), &ratio]));
    }
    table(&format!("A repository of {MANIFESTS} manifests and tags"), &rows);
}

fn inventory() {
    // 47,000 tags and 45,000 untagged manifests in 9,400 repositories (peers §2.5).
    let shape: Vec<(usize, usize)> =
        (0..9_400).map(|number| (5, if number % 47 < 37 { 5 } else { 4 })).collect();
    let untagged: usize = shape.iter().map(|(_, untagged)| untagged).sum();
    let azure = azure(registry(&shape));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut rows = vec![row([&"", &"took", &"rows", &"requests", &"the fewest", &"memory"])];
    let mut before = 0;
    for (what, details, read) in
        [("lists alone", "none", 0), ("with content", "latest", 47_000), ("again", "latest", 0)]
    {
        let line = [
            "crawl",
            "--quiet",
            "--source",
            "registry",
            "--details",
            details,
            "-o",
            "json",
            "--store",
        ];
        let mut command = azure.azimg(&line);
        command.arg(&store).stdout(Stdio::null());
        let (took, peak) = timed(&mut command);
        let all = azure.sim.stats.to_json()["requests"].as_u64().unwrap();
        let requests = all - before;
        before = all;
        let count = {
            let current = crate::support::read_json(&store.join("current.json"));
            let run = current["run"].as_str().unwrap();
            let manifest = store.join("snapshots").join(run).join("manifest.json");
            let manifest = crate::support::read_json(&manifest);
            let files = manifest["files"].as_array().unwrap().clone();
            files.iter().find(|f| f["name"] == "registry.parquet").unwrap()["rows"].clone()
        };
        // Subscriptions, registries, repositories by the thousand, two lists for each repository,
        // and a manifest with its configuration for each image read.
        let fewest = 2 + 10 + 2 * 9_400 + 2 * read;
        rows.push(row([
            &what,
            &format!("{took:.1} s"),
            &count,
            &requests,
            &fewest,
            &format!("{peak} MiB"),
        ]));
    }
    table(
        &format!("A registry of 9,400 repositories, 47,000 tags and {untagged} untagged manifests"),
        &rows,
    );
}
