//! A registry of images in memory that holds back half of one blob until a test releases it.

use super::answering::token;
use super::folders::{Lying, everything};
use super::layout::digest;
use super::{azimg, wait_for};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

/// A registry of images in memory, which holds half of one blob back as long as it is told to.
pub struct Images {
    pub address: String,
    pub at: Arc<Held>,
    _runtime: Runtime,
}

#[derive(Default)]
pub struct Held {
    pub blobs: HashMap<String, Vec<u8>>,
    pub manifests: HashMap<String, Vec<u8>>,
    pub slow: String,
    pub holds: AtomicBool,
    pub asked: std::sync::Mutex<Vec<String>>,
}

/// Bytes of a layer that takes its time.
const SLOW: usize = 3 << 20;

impl Images {
    /// The images one and two of a layer each, and an artifact of two files; one has a further layer, which is slow.
    pub fn start() -> Self {
        let mut held = Held { holds: AtomicBool::new(true), ..Held::default() };
        let mut blob = |bytes: &[u8]| {
            held.blobs.insert(digest(bytes), bytes.to_vec());
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(bytes),
                "size": bytes.len()})
        };
        let slow = vec![b's'; SLOW];
        let slow_layer = blob(&slow);
        let named = |mut layer: Value, name: &str| {
            layer["annotations"] = json!({ TITLE: name });
            layer
        };
        let images = [
            ("one", vec![blob(b"a secret of image one"), slow_layer.clone()]),
            ("two", vec![blob(b"of image two")]),
            ("files", vec![named(blob(b"notes"), "notes.txt"), named(slow_layer, "slow.bin")]),
            ("notes", vec![named(blob(b"other notes"), "notes.txt")]),
        ];
        let mut manifests = HashMap::new();
        for (name, layers) in images {
            let mut config = blob(json!({"os": "linux", "of": name}).to_string().as_bytes());
            config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
                "layers": layers});
            manifests.insert(name.to_owned(), manifest.to_string().into_bytes());
        }
        held.manifests = manifests;
        held.slow = digest(&slow);
        let at = Arc::new(held);
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&at));
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, at, _runtime: runtime }
    }

    pub fn pull(&self, name: &str, to: &Path, more: &[&str]) -> Command {
        let at = format!("{}/{name}:v1", self.address);
        let line = ["registry", "pull", &at, to.to_str().unwrap(), "--anonymous", "-o", "json"];
        azimg(&[&line, more].concat())
    }

    /// Begins a pull of what has the slow layer, and ends the process with half of that written; the names that are
    /// there then, below `beside`.
    pub fn interrupted(&self, command: &mut Command, beside: &Path) -> Vec<String> {
        self.at.holds.store(true, Ordering::SeqCst);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut child = Ended(child);
        let halves = |name: &str, file: &(char, u32, Vec<u8>)| {
            name.contains("part") && file.2.len() >= SLOW / 3
        };
        wait_for("half of a layer", || {
            assert!(child.0.try_wait().unwrap().is_none(), "it ended before");
            let found = settled(beside)?;
            found.iter().any(|(name, file)| halves(name, file)).then_some(())
        });
        drop(child);
        self.at.holds.store(false, Ordering::SeqCst);
        everything(beside).into_keys().collect()
    }
}

/// A process that is ended with whoever has it.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything below a folder in which something is going on; none when something went meanwhile.
pub fn settled(root: &Path) -> Option<Lying> {
    let root = root.to_owned();
    std::panic::catch_unwind(move || everything(&root)).ok()
}

async fn answer(State(at): State<Arc<Held>>, request: Request) -> Response {
    let path = request.uri().path().replace("%3A", ":");
    at.asked.lock().unwrap().push(path.clone());
    if let Some(token) = token(&path) {
        return token;
    }
    let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
    match parts[..] {
        [name, "manifests", _] => {
            let bytes = at.manifests[name].clone();
            Response::builder().header("content-type", MANIFEST).body(Body::from(bytes)).unwrap()
        }
        [_, "blobs", name] => {
            let bytes = bytes::Bytes::from(at.blobs[name].clone());
            let range = request.headers().get("range").and_then(|range| range.to_str().ok());
            let from = range.map_or(0, |range| {
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
            });
            let response = Response::builder().status(if from > 0 { 206 } else { 200 });
            if name != at.slow || !at.holds.load(Ordering::SeqCst) {
                return response.body(Body::from(bytes.slice(from..))).unwrap();
            }
            let half = futures::stream::iter([Ok(bytes.slice(from..SLOW * 2 / 3))]);
            let never = futures::stream::pending::<std::io::Result<bytes::Bytes>>();
            response.body(Body::from_stream(futures::StreamExt::chain(half, never))).unwrap()
        }
        _ => Response::builder().status(404).body(Body::from("{}")).unwrap(),
    }
}
