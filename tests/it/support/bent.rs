//! A wire whose answers to changes a test alters, and the states of what was changed.

use super::changes::SIZE;
use super::fleet::Direct;
use super::galleries::tenant;
use axum::body::Bytes;
use azimg::testing::client::{Client, Tokens, Wire, WireRequest, WireResponse};
use azimg::testing::error::{Error, Result};
use azimg::testing::gallery::{Changes, Galleries, Name};
use azimg::testing::sim::organisation::{SimGallery, SimVersion};
use azimg::testing::sim::{Conditions, Sim, SimCredential};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

pub type Bend = dyn Fn(&WireRequest, WireResponse) -> Result<WireResponse> + Send + Sync;

/// A wire on which everything arrives, and some answers are others.
pub struct Bent {
    pub inner: Direct,
    bend: Box<Bend>,
    pub changes: AtomicUsize,
}

impl std::fmt::Debug for Bent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bent")
    }
}

#[async_trait::async_trait]
impl Wire for Bent {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        if is_change(request) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
        let answer = self.inner.send(request, authorized).await?;
        (self.bend)(request, answer)
    }
}

pub fn is_change(request: &WireRequest) -> bool {
    request.method != Method::GET && !request.url.path().contains("Graph")
}

pub fn is_version(request: &WireRequest) -> bool {
    request.method == Method::GET && request.url.path().contains("/versions/")
}

pub fn is_operation(request: &WireRequest) -> bool {
    request.url.path().contains("capsOperations")
}

pub fn lost() -> Error {
    Error::transient("the connection broke")
}

pub fn bent(
    sim: &Arc<Sim>,
    bend: impl Fn(&WireRequest, WireResponse) -> Result<WireResponse> + Send + Sync + 'static,
) -> (Galleries, Arc<Bent>) {
    let inner = Direct { sim: Arc::clone(sim), latency: Duration::from_millis(50), random: None };
    let wire = Arc::new(Bent { inner, bend: Box::new(bend), changes: AtomicUsize::new(0) });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let identities = vec![Tokens::of(SimCredential)];
    let over = Arc::clone(&wire) as Arc<dyn Wire>;
    let client = Client::over(over, endpoint, "scope".into(), identities).unwrap();
    (Galleries::new(client), wire)
}

pub fn sim() -> Arc<Sim> {
    Sim::new(tenant(SIZE), Conditions::default())
}

pub fn with_body(answer: WireResponse, body: impl Into<Bytes>) -> WireResponse {
    WireResponse { status: StatusCode::OK, body: body.into(), ..answer }
}

/// The same answer, with another provisioning state.
pub fn in_state(answer: WireResponse, state: &str) -> WireResponse {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["properties"]["provisioningState"] = state.into();
    with_body(answer, body.to_string())
}

pub fn gallery_of<T>(sim: &Sim, name: &Name, change: impl FnOnce(&mut SimGallery) -> T) -> T {
    let gallery = Name { own: name.own.clone(), definition: None, version: None };
    let id = gallery.id().to_lowercase();
    change(sim.organisation().galleries.get_mut(&id).unwrap())
}

pub fn version_of<T>(sim: &Sim, name: &Name, change: impl FnOnce(&mut SimVersion) -> T) -> T {
    let (definition, version) = (name.definition.clone().unwrap(), name.version.clone().unwrap());
    gallery_of(sim, name, |gallery| {
        let definition = gallery.definitions.get_mut(&definition.to_lowercase()).unwrap();
        change(definition.versions.get_mut(&version).unwrap())
    })
}

/// A change that no version shows yet.
pub fn ended() -> Changes {
    Changes { end_of_life: Some(Some(OffsetDateTime::UNIX_EPOCH)), ..Changes::default() }
}

pub const TENANT: &str = "22345678-1234-4234-8234-123456789012";

pub const FAILED: &str = "{\"status\":\"Failed\",\"error\":{\"code\":\"Bad\",\"message\":\"See details.\",\
     \"details\":[{\"code\":\"Full\",\"message\":\"East US has no room.\"}]}}";
