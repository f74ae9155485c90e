//! A caller that sends a registry of the simulated Azure one request at a time, and images for it to upload.

use super::layout::digest;
use super::registries::world;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use azimg::testing::sim::{BlobsLimit, Conditions, Sim};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::runtime::Runtime;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

pub fn image(config: &[u8], layer: &[u8]) -> Value {
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)]})
}

/// An answer.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a refusal.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn is(&self, status: StatusCode, code: &str) -> &Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.code().as_str()), (status.as_u16(), code), "{text}");
        self
    }
}

/// Somebody who asks a registry without a network, and may do everything in some repositories.
pub struct Caller {
    pub sim: Arc<Sim>,
    pub token: String,
    pub server: String,
}

impl Caller {
    pub fn new(limit: u64) -> Self {
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

    pub async fn send(&self, request: axum::http::request::Builder, body: Body) -> Response {
        let answer = self.sim.answer(request.body(body).unwrap()).await;
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Response { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response {
        let mut request =
            Request::builder().method(method).uri(format!("https://{}{path}", self.server));
        request = request.header("authorization", &self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, body.into()).await
    }

    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Response {
        self.with(method, path, &[], body).await
    }

    /// Where an upload that is begun goes on.
    pub async fn begin(&self, repository: &str) -> String {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "").await;
        begun.is(StatusCode::ACCEPTED, "");
        assert_eq!(begun.header("range"), "0-0");
        begun.header("location").to_owned()
    }

    /// Ends an upload with these bytes.
    pub async fn upload(&self, repository: &str, bytes: &[u8]) -> Response {
        let at = self.begin(repository).await;
        self.ask("PUT", &format!("{at}&digest={}", digest(bytes)), bytes.to_vec()).await
    }

    pub async fn put(&self, name: &str, kind: &str, document: &Value) -> Response {
        let path = format!("/v2/{name}");
        self.with("PUT", &path, &[("content-type", kind)], document.to_string()).await
    }

    /// An image of one layer, in `app`, and the answer to its manifest.
    pub async fn image(&self, tag: &str, layer: &[u8]) -> (Value, Response) {
        let config = json!({"architecture": "amd64", "os": "linux", "tag": tag}).to_string();
        for bytes in [layer, config.as_bytes()] {
            self.upload("app", bytes).await.is(StatusCode::CREATED, "");
        }
        let manifest = image(config.as_bytes(), layer);
        let response = self.put(&format!("app/manifests/{tag}"), IMAGE, &manifest).await;
        (manifest, response)
    }
}

pub fn run(work: impl Future<Output = ()>) {
    Runtime::new().unwrap().block_on(work);
}
