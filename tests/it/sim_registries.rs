//! The registries of the simulated Azure as somebody uses them: pushed to and pulled from, copied, locked, purged and put
//! back, and as strict as a real one.

use crate::support::layout::{Layout, digest, noise};
use crate::support::needs::Need;
use crate::support::registries::world;
use crate::support::{Azure, debian, finish, json, paused, read_json};
use crate::tests;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use azimg::sim::{BlobsLimit, Conditions, Sim};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

tests![
    an_index_goes_up_and_comes_down_and_is_in_the_catalog,
    a_copy_takes_along_what_was_attached,
    a_purge_is_put_back_from_what_it_exported,
    locks_hold_until_they_are_taken_off,
    generated_images_can_be_moved_and_put_back_but_have_no_layers,
    uploads_are_taken_in_order_and_by_their_digest,
    a_blob_is_taken_over_from_where_it_is_by_whoever_may_read_there,
    a_manifest_is_taken_when_all_that_it_names_is_there,
    blobs_lie_at_a_host_of_their_own,
    what_is_pushed_is_kept_up_to_a_limit,
    an_upload_that_was_given_up_makes_room,
    skopeo_pushes_and_pulls needs [Registry],
];

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

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

fn an_index_goes_up_and_comes_down_and_is_in_the_catalog() {
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

fn a_copy_takes_along_what_was_attached() {
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

fn a_purge_is_put_back_from_what_it_exported() {
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
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["back"]), (3, &json!(2)), "{told}");
    assert_eq!(told["lost"].as_array().unwrap().len(), 1, "{told}");
    // What was kept is of no use when the blobs are gone, too.
    place.azimg(&["delete", &place.at(0, "app"), "--yes"]);
    let (code, out, _) = finish(&mut place.command(&["purge", &server, "--undo", &undo]));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["back"]), (3, &json!(0)), "{told}");
    let mut lost = told["lost"].as_array().unwrap().iter();
    let is_refused =
        |row: &Value| row["reason"].as_str().unwrap().contains("MANIFEST_BLOB_UNKNOWN");
    assert!(lost.any(is_refused), "{told}");
}

fn locks_hold_until_they_are_taken_off() {
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

fn generated_images_can_be_moved_and_put_back_but_have_no_layers() {
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

/// An answer.
struct Told {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a refusal.
    fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn is(&self, status: StatusCode, code: &str) -> &Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.code().as_str()), (status.as_u16(), code), "{text}");
        self
    }
}

/// Somebody who asks a registry without a network, and may do everything in some repositories.
struct Caller {
    sim: Arc<Sim>,
    token: String,
    server: String,
}

impl Caller {
    fn new(limit: u64) -> Self {
        let blobs = BlobsLimit::new(limit);
        let sim = Sim::new(world(2), Conditions { blobs, ..Conditions::default() });
        let server = sim.registries()[0].login_server.clone();
        let all = json!(["pull", "push", "delete", "metadata_read"]);
        let of = |name: &str| json!({"type": "repository", "name": name, "actions": all});
        let mut access: Vec<Value> = ["app", "other"].map(of).to_vec();
        access.push(json!({"type": "repository", "name": "read", "actions": ["pull"]}));
        let claims = json!({"aud": server, "exp": 4_000_000_000_u64, "access": access});
        let token = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        Self { sim, token, server }
    }

    async fn send(&self, request: axum::http::request::Builder, body: Body) -> Told {
        let answer = self.sim.answer(request.body(body).unwrap()).await;
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Told { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Told {
        let mut request =
            Request::builder().method(method).uri(format!("https://{}{path}", self.server));
        request = request.header("authorization", &self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, body.into()).await
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Told {
        self.with(method, path, &[], body).await
    }

    /// Where an upload that is begun goes on.
    async fn begin(&self, repository: &str) -> String {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "").await;
        begun.is(StatusCode::ACCEPTED, "");
        assert_eq!(begun.header("range"), "0-0");
        begun.header("location").to_owned()
    }

    /// Ends an upload with these bytes.
    async fn upload(&self, repository: &str, bytes: &[u8]) -> Told {
        let at = self.begin(repository).await;
        self.ask("PUT", &format!("{at}&digest={}", digest(bytes)), bytes.to_vec()).await
    }

    async fn put(&self, name: &str, kind: &str, document: &Value) -> Told {
        let path = format!("/v2/{name}");
        self.with("PUT", &path, &[("content-type", kind)], document.to_string()).await
    }

    /// An image of one layer, in `app`, and the answer to its manifest.
    async fn image(&self, tag: &str, layer: &[u8]) -> (Value, Told) {
        let config = json!({"architecture": "amd64", "os": "linux", "tag": tag}).to_string();
        for bytes in [layer, config.as_bytes()] {
            self.upload("app", bytes).await.is(StatusCode::CREATED, "");
        }
        let manifest = image(config.as_bytes(), layer);
        let told = self.put(&format!("app/manifests/{tag}"), IMAGE, &manifest).await;
        (manifest, told)
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

fn image(config: &[u8], layer: &[u8]) -> Value {
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)]})
}

fn run(work: impl Future<Output = ()>) {
    Runtime::new().unwrap().block_on(work);
}

fn uploads_are_taken_in_order_and_by_their_digest() {
    let caller = Caller::new(1 << 30);
    run(async {
        let whole = digest(b"hello world");
        let begun = caller.begin("app").await;
        let chunk = |at: String, range: &'static str, bytes: &'static str| {
            let caller = &caller;
            async move { caller.with("PATCH", &at, &[("content-range", range)], bytes).await }
        };
        // Not there, not so long, not of that type, and not by another address.
        chunk(begun.clone(), "5-9", "later")
            .await
            .is(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
        let headers = [("content-range", "0-9"), ("content-length", "5")];
        let told = caller.with("PATCH", &begun, &headers, "short").await;
        told.is(StatusCode::BAD_REQUEST, "SIZE_INVALID");
        chunk(begun.clone(), "zero", "x").await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        let told = caller.with("PATCH", &begun, &[("content-type", "text/plain")], "x").await;
        told.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        let bare = begun.split('?').next().unwrap();
        caller.ask("PATCH", bare, "x").await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        caller
            .ask("PATCH", &format!("{begun}&force=1"), "x")
            .await
            .is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        let elsewhere = begun.replace("/v2/app/", "/v2/other/");
        caller.ask("GET", &elsewhere, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // In order, it stands where it should.
        let told = chunk(begun, "0-5", "hello ").await;
        assert_eq!((told.status, told.header("range")), (202, "0-5"));
        let at = told.header("location").to_owned();
        let told = caller.ask("GET", &at, "").await;
        assert_eq!((told.status, told.header("range")), (204, "0-5"));
        // A stream, as Docker sends it, and the end.
        let told = caller.ask("PATCH", &at, "world").await;
        let old = at;
        let at = told.header("location").to_owned();
        caller.ask("PUT", &at, "").await.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let told = caller.ask("PUT", &format!("{at}&digest={whole}"), "").await;
        told.is(StatusCode::CREATED, "");
        assert_eq!(told.header("docker-content-digest"), whole);
        assert_eq!(told.header("location"), format!("/v2/app/blobs/{whole}"));
        caller.ask("GET", &old, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // At once; with a wrong digest it is gone, and so it is by an address of before.
        let at_once = format!("/v2/other/blobs/uploads/?digest={whole}");
        let told = caller.ask("POST", &at_once, "hello world").await;
        told.is(StatusCode::CREATED, "");
        let at = caller.begin("app").await;
        let told = caller.ask("PUT", &format!("{at}&digest={whole}"), "hello").await;
        told.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        caller.ask("GET", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        let at = caller.begin("app").await;
        caller.ask("PATCH", &at, "hello").await.is(StatusCode::ACCEPTED, "");
        caller
            .ask("PATCH", &at, "hello")
            .await
            .is(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
        caller.ask("PATCH", &at, "hello").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // A body that breaks off ends its upload.
        let at = caller.begin("app").await;
        let pieces = [Ok(Bytes::from_static(b"he")), Err(std::io::Error::other("it broke off"))];
        let body = Body::from_stream(futures::stream::iter(pieces));
        caller.ask("PATCH", &at, body).await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        caller.ask("GET", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // One that nobody wants is taken back; whoever may only read begins none.
        let at = caller.begin("app").await;
        assert_eq!(caller.ask("DELETE", &at, "").await.status, 204);
        caller.ask("DELETE", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        let told = caller.ask("POST", "/v2/read/blobs/uploads/", "").await;
        told.is(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        assert!(told.header("www-authenticate").ends_with("scope=\"repository:read:pull,push\""));
        for path in ["/v2/App/blobs/uploads/", "/v2/app/blobs/uploads", "/v2/a//b/blobs/uploads/"] {
            let told = caller.ask("POST", path, "").await;
            assert_eq!((told.status, &told.body[..]), (404, &b"404 page not found"[..]), "{path}");
        }
    });
}

fn a_blob_is_taken_over_from_where_it_is_by_whoever_may_read_there() {
    let caller = Caller::new(1 << 30);
    run(async {
        let blob = digest(b"shared");
        caller.upload("app", b"shared").await.is(StatusCode::CREATED, "");
        let head = format!("/v2/other/blobs/{blob}");
        caller.ask("GET", &head, "").await.is(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        let mount = |from: &str| format!("/v2/other/blobs/uploads/?mount={blob}&from={from}");
        // Not from where it is not, and not from where one may not look.
        let told = caller.ask("POST", &mount("read"), "").await;
        assert_eq!((told.status, told.header("range")), (202, "0-0"));
        let told = caller.ask("POST", &mount("secret"), "").await;
        told.is(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        let scopes = "repository:other:pull,push repository:secret:pull";
        assert!(told.header("www-authenticate").contains(scopes));
        let told = caller.ask("POST", "/v2/other/blobs/uploads/?mount=none&from=app", "").await;
        told.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let told = caller.ask("POST", &mount("app"), "").await;
        told.is(StatusCode::CREATED, "");
        assert_eq!(told.header("location"), head);
        assert_eq!(caller.ask("GET", &head, "").await.status, 307);
        // One that is deleted in one repository is still in the other; then it is nowhere.
        let own = format!("/v2/app/blobs/{blob}");
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.ask("DELETE", &own, "").await.is(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        assert_eq!(caller.ask("GET", &head, "").await.status, 307);
        assert_eq!(caller.ask("DELETE", &head, "").await.status, 202);
        assert_eq!(caller.ask("HEAD", &head, "").await.status, 404);
    });
}

fn a_manifest_is_taken_when_all_that_it_names_is_there() {
    let caller = Caller::new(1 << 30);
    run(async {
        let (manifest, told) = caller.image("1", b"layer").await;
        told.is(StatusCode::CREATED, "");
        let own = digest(manifest.to_string().as_bytes());
        assert_eq!(told.header("docker-content-digest"), own);
        assert_eq!(told.header("oci-subject"), "");
        let told = caller.ask("GET", "/v2/app/manifests/1", "").await;
        assert_eq!(told.header("content-type"), IMAGE);
        assert_eq!(told.body, manifest.to_string());
        // What is not there, is something else, or cannot be.
        let mut lacks = manifest.clone();
        lacks["layers"] = json!([descriptor(LAYER, b"nowhere"), descriptor(LAYER, b"layer")]);
        let told = caller.put("app/manifests/2", IMAGE, &lacks).await;
        told.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        let body: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(body["errors"][0]["detail"], digest(b"nowhere"));
        assert_eq!(body["errors"].as_array().unwrap().len(), 1);
        let told = caller.put("other/manifests/1", IMAGE, &manifest).await;
        told.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        let wrong = format!("app/manifests/{}", digest(b"wrong"));
        caller.put(&wrong, IMAGE, &manifest).await.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        for (kind, document) in
            [(INDEX, &manifest), ("text/plain", &manifest), (IMAGE, &json!("text"))]
        {
            let told = caller.put("app/manifests/2", kind, document).await;
            told.is(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        }
        let mut large = manifest.clone();
        large["annotations"] = json!({"a": "x".repeat(4 << 20)});
        let told = caller.put("app/manifests/2", IMAGE, &large).await;
        told.is(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        let told = caller.put("app/manifests/2?force=1", IMAGE, &manifest).await;
        told.is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        assert_eq!(caller.put("app/manifests/.2", IMAGE, &manifest).await.status, 404);
        // An index of it, and one of what is not there.
        let bytes = manifest.to_string();
        let index = |of: &[u8]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, of)]});
        let told = caller.put("app/manifests/all", INDEX, &index(bytes.as_bytes())).await;
        told.is(StatusCode::CREATED, "");
        let told = caller.put("app/manifests/all", INDEX, &index(b"nowhere")).await;
        told.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        // Old layers of Windows are in no registry.
        let mut windows = manifest.clone();
        let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        windows["layers"] = json!([{"mediaType": kind, "size": 9, "digest": digest(b"windows"),
            "urls": ["https://example.com/base"]}]);
        caller.put("app/manifests/windows", IMAGE, &windows).await.is(StatusCode::CREATED, "");
        let foreign = format!("/v2/app/blobs/{}", digest(b"windows"));
        assert_eq!(caller.ask("HEAD", &foreign, "").await.status, 404);
        // What refers to it is told of, by its type.
        let mut signature = manifest.clone();
        signature["subject"] = descriptor(IMAGE, bytes.as_bytes());
        let told = caller.put("app/manifests/typeless", IMAGE, &signature).await;
        assert_eq!(told.header("oci-subject"), own);
        signature["artifactType"] = "a/signature".into();
        signature["annotations"] = json!({"by": "me"});
        caller.put("app/manifests/signed", IMAGE, &signature).await.is(StatusCode::CREATED, "");
        for (kind, count) in [("", 2), ("?artifactType=a/signature", 1), ("?artifactType=a/b", 0)] {
            let path = format!("/v2/app/referrers/{own}{kind}");
            let told = caller.ask("GET", &path, "").await;
            let body: Value = serde_json::from_slice(&told.body).unwrap();
            let rows = body["manifests"].as_array().unwrap();
            assert_eq!((rows.len(), told.header("content-type")), (count, INDEX), "{kind}");
            let by_type = rows.iter().any(|row| row["artifactType"] == CONFIG);
            assert_eq!(by_type, kind.is_empty());
            assert!(count != 1 || rows[0]["annotations"]["by"] == "me");
        }
        let told = caller.ask("GET", "/v2/app/referrers/latest", "").await;
        told.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    });
}

fn blobs_lie_at_a_host_of_their_own() {
    let caller = Caller::new(1 << 30);
    run(async {
        let bytes = noise(5, 200_000);
        let at = caller.begin("app").await;
        let pieces: Vec<_> = bytes.chunks(7_001).map(Bytes::copy_from_slice).collect();
        let body = Body::from_stream(futures::stream::iter(
            pieces.into_iter().map(Ok::<_, std::io::Error>),
        ));
        let told = caller.ask("PUT", &format!("{at}&digest={}", digest(&bytes)), body).await;
        told.is(StatusCode::CREATED, "");
        let blob = format!("/v2/app/blobs/{}", digest(&bytes));
        let told = caller.ask("HEAD", &blob, "").await;
        assert_eq!((told.status, told.header("content-length")), (200, "200000"));
        let told = caller.ask("GET", &blob, "").await;
        let place = told.header("location").to_owned();
        assert_eq!((told.status, place.contains(&caller.server)), (307, false));
        let get = |range: &'static str| {
            let request = Request::builder().uri(&place);
            caller.send(
                if range.is_empty() { request } else { request.header("range", range) },
                Body::empty(),
            )
        };
        let told = get("").await;
        assert_eq!((told.status, &told.body[..]), (200, &bytes[..]));
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=6999-14003", 6_999, 14_004),
            ("bytes=199990-", 199_990, 200_000),
            ("bytes=-5", 199_995, 200_000),
        ] {
            let told = get(range).await;
            let said = format!("bytes {from}-{}/200000", to - 1);
            assert_eq!((told.status, told.header("content-range")), (206, said.as_str()));
            assert_eq!(&told.body[..], &bytes[from..to], "{range}");
        }
        assert_eq!(get("bytes=200000-").await.status, 416);
        // Nobody gets it with a token, or without a signature.
        let request = Request::builder().uri(&place).header("authorization", &caller.token);
        assert_eq!(caller.send(request, Body::empty()).await.status, 400);
        let bare = place.split('?').next().unwrap();
        assert_eq!(caller.send(Request::builder().uri(bare), Body::empty()).await.status, 403);
        let told = caller.ask("GET", &format!("{blob}?part=1"), "").await;
        told.is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        let told = caller.ask("GET", "/v2/app/blobs/sha256:0", "").await;
        told.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    });
}

fn what_is_pushed_is_kept_up_to_a_limit() {
    let caller = Caller::new(10_000);
    run(async {
        let (first, told) = caller.image("1", &noise(1, 6_000)).await;
        told.is(StatusCode::CREATED, "");
        // There is no room, and nothing is left of what was refused.
        for _ in 0..3 {
            let told = caller.upload("other", &noise(2, 6_000)).await;
            told.is(StatusCode::FORBIDDEN, "DENIED");
            let text = String::from_utf8_lossy(&told.body).into_owned();
            assert!(text.contains("10000 bytes") && text.contains("--blobs-limit"), "{text}");
        }
        caller.upload("other", &noise(3, 3_000)).await.is(StatusCode::CREATED, "");
        // The same bytes once more take no room.
        caller.upload("other", &noise(4, 300)).await.is(StatusCode::CREATED, "");
        caller.upload("app", &noise(4, 300)).await.is(StatusCode::CREATED, "");
        // What no manifest has any more stays until its place is needed.
        let own = format!("/v2/app/manifests/{}", digest(first.to_string().as_bytes()));
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.put("app/manifests/1", IMAGE, &first).await.is(StatusCode::CREATED, "");
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::CREATED, "");
        let told = caller.put("app/manifests/1", IMAGE, &first).await;
        told.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
    });
}

fn an_upload_that_was_given_up_makes_room() {
    let caller = Caller::new(10_000);
    paused(async {
        let at = caller.begin("app").await;
        let begun = caller.ask("PATCH", &at, noise(1, 8_000)).await;
        begun.is(StatusCode::ACCEPTED, "");
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::FORBIDDEN, "DENIED");
        tokio::time::advance(Duration::from_mins(59)).await;
        let told = caller.ask("GET", begun.header("location"), "").await;
        assert_eq!((told.status, told.header("range")), (204, "0-7999"));
        tokio::time::advance(Duration::from_mins(2)).await;
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::CREATED, "");
        let told = caller.ask("GET", begun.header("location"), "").await;
        told.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // A blob that no manifest took up goes the same way.
        caller.upload("app", &noise(3, 6_000)).await.is(StatusCode::FORBIDDEN, "DENIED");
        tokio::time::advance(Duration::from_mins(61)).await;
        caller.upload("app", &noise(3, 6_000)).await.is(StatusCode::CREATED, "");
    });
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
