//! A registry in memory, as strict as docker-registry: a blob is what its digest says, and a manifest is taken when all
//! that it points at is there.

use super::answering::{reply, token};
use super::layout::digest;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// What is in it.
#[derive(Default)]
pub struct Held {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// By digest: media type and bytes.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// By `repository:tag`.
    pub tags: BTreeMap<String, String>,
    uploads: HashMap<usize, Vec<u8>>,
    /// What ACR's own API answers, by path.
    pub acr: BTreeMap<String, Value>,
    /// Referrers on a page; none for a registry without that API.
    pub page: Option<usize>,
    /// Method and path of every request.
    pub log: Vec<String>,
}

/// A running registry.
pub struct Memory {
    pub address: String,
    pub held: Arc<Mutex<Held>>,
    _runtime: Runtime,
}

impl Memory {
    pub fn start() -> Self {
        let held: Arc<Mutex<Held>> = Arc::default();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&held));
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, held, _runtime: runtime }
    }

    /// The executable, which signs in as nobody.
    #[allow(clippy::unused_self, reason = "asked as the other registries are")]
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        crate::support::azimg(&[&["registry"], arguments, &["--anonymous", "-o", "json"]].concat())
    }

    /// `SERVER/name`.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The manifest that a tag points at.
    pub fn manifest(&self, name: &str) -> Value {
        let held = self.held.lock().unwrap();
        let digest = held.tags.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        serde_json::from_slice(&held.manifests[digest].1).unwrap()
    }

    pub fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.held.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Puts a manifest there, whatever it points at.
    pub fn put(&self, name: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut held = self.held.lock().unwrap();
        held.manifests.insert(digest.clone(), (media_type.to_owned(), bytes.to_vec()));
        held.tags.insert(name.to_owned(), digest.clone());
        digest
    }
}

fn refused(status: u16, code: &str) -> Response {
    reply(status, &[], &json!({"errors": [{"code": code, "message": code}]}).to_string())
}

impl Held {
    /// What a manifest points at that is not there.
    pub fn missing(&self, document: &Value) -> Option<String> {
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let mut all = [list("layers"), list("blobs"), list("manifests")].concat();
        all.push(document["config"].clone());
        let missing = |part: &&Value| {
            let digest = part["digest"].as_str().unwrap_or_default();
            let kind = part["mediaType"].as_str().unwrap_or_default();
            let is_foreign = kind.contains("foreign") && part["urls"].is_array();
            !digest.is_empty()
                && !is_foreign
                && !self.blobs.contains_key(digest)
                && !self.manifests.contains_key(digest)
        };
        all.iter().find(missing).map(|part| part["digest"].to_string())
    }

    pub fn referrers(&self, subject: &str, query: &str) -> Response {
        let Some(page) = self.page else { return refused(404, "NOT_FOUND") };
        let all: Vec<Value> = self
            .manifests
            .iter()
            .filter_map(|(own, (media_type, bytes))| {
                let document: Value = serde_json::from_slice(bytes).ok()?;
                (document["subject"]["digest"] == subject).then(|| {
                    json!({"mediaType": media_type, "digest": own, "size": bytes.len(),
                        "artifactType": document["artifactType"]})
                })
            })
            .collect();
        let from: usize = query.trim_start_matches("from=").parse().unwrap_or(0);
        let to = all.len().min(from + page);
        let link = format!("<?from={to}>; rel=\"next\"");
        let headers = if to < all.len() { vec![("link", link)] } else { Vec::new() };
        reply(200, &headers, &json!({"schemaVersion": 2, "manifests": all[from..to]}).to_string())
    }

    fn put_manifest(&mut self, name: &str, reference: &str, kind: &str, body: &[u8]) -> Response {
        let own = digest(body);
        if reference.starts_with("sha256:") && reference != own {
            return refused(400, "DIGEST_INVALID");
        }
        let document: Value = serde_json::from_slice(body).unwrap();
        if self.missing(&document).is_some() {
            return refused(400, "MANIFEST_BLOB_UNKNOWN");
        }
        self.manifests.insert(own.clone(), (kind.to_owned(), body.to_vec()));
        if !reference.starts_with("sha256:") {
            self.tags.insert(format!("{name}:{reference}"), own.clone());
        }
        reply(201, &[("docker-content-digest", own)], "")
    }

    pub fn manifest(&self, name: &str, reference: &str) -> Response {
        let digest =
            self.tags.get(&format!("{name}:{reference}")).map_or(reference, String::as_str);
        match self.manifests.get(digest) {
            Some((kind, bytes)) => Response::builder()
                .header("content-type", kind)
                .body(Body::from(bytes.clone()))
                .unwrap(),
            None => refused(404, "MANIFEST_UNKNOWN"),
        }
    }

    pub fn upload(
        &mut self,
        method: &Method,
        name: &str,
        id: usize,
        query: &str,
        body: &[u8],
    ) -> Response {
        let at = |id: usize| ("location", format!("/v2/{name}/blobs/uploads/{id}"));
        if *method == Method::POST {
            let id = self.uploads.len() + 1;
            self.uploads.insert(id, Vec::new());
            return reply(202, &[at(id)], "");
        }
        let Some(upload) = self.uploads.get_mut(&id) else {
            return refused(404, "BLOB_UPLOAD_UNKNOWN");
        };
        upload.extend_from_slice(body);
        let range = ("range", format!("0-{}", upload.len().saturating_sub(1)));
        if *method == Method::PATCH {
            return reply(202, &[at(id), range], "");
        }
        let wanted = query.trim_start_matches("digest=").replace("%3A", ":");
        let bytes = self.uploads.insert(id, Vec::new()).unwrap();
        if digest(&bytes) != wanted {
            return refused(400, "DIGEST_INVALID");
        }
        self.blobs.insert(wanted, bytes);
        reply(201, &[], "")
    }
}

async fn answer(State(held): State<Arc<Mutex<Held>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path().replace("%3A", ":").replace("%2F", "/");
    let query = parts.uri.query().unwrap_or_default();
    let mut held = held.lock().unwrap();
    held.log.push(format!("{} {path}", parts.method));
    if let Some(token) = token(&path) {
        return token;
    }
    if let Some(reported) = held.acr.get(&path) {
        return reply(200, &[], &reported.to_string());
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return refused(404, "NOT_FOUND") };
    if let Some((name, id)) = rest.split_once("/blobs/uploads/") {
        return held.upload(&parts.method, name, id.parse().unwrap_or(0), query, &body);
    }
    if let Some((_, digest)) = rest.split_once("/referrers/") {
        return held.referrers(digest, query);
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        return match held.blobs.get(digest) {
            Some(bytes) => Response::new(Body::from(bytes.clone())),
            None => refused(404, "BLOB_UNKNOWN"),
        };
    }
    let Some((name, reference)) = rest.split_once("/manifests/") else {
        return refused(404, "NOT_FOUND");
    };
    if parts.method == Method::PUT {
        let kind = parts.headers["content-type"].to_str().unwrap();
        return held.put_manifest(name, reference, kind, &body);
    }
    held.manifest(name, reference)
}
