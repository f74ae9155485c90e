//! A stand-in for the Resource Manager that serves one small tenant from a file: the marketplace,
//! the galleries and the machines of a case in `tests/fixtures/vm`. `refused` lists parts of paths,
//! in lower case; access below them is denied. `errors` are returned to requests that match (a
//! regular expression on `METHOD path?query body`), `times` times. Patches are delayed until
//! `patchTogether` of them have arrived.

mod tables;

use super::{azimg, root};
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tables::{gallery, graph, marketplace, shared};
use tokio::runtime::Runtime;

/// The subscription of each case that names none.
pub const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";

/// A running stand-in.
pub struct Case {
    pub address: String,
    served: Arc<Served>,
    _runtime: Runtime,
}

/// The tenant, and the number of PATCH requests received.
struct Served(Mutex<Value>, AtomicUsize);

impl Case {
    /// Serves the case of that name.
    pub fn start(name: &str) -> Self {
        Self::serve(tenant(name))
    }

    /// Serves a tenant.
    pub fn serve(tenant: Value) -> Self {
        let runtime = Runtime::new().unwrap();
        let tenant = Arc::new(Served(Mutex::new(tenant), AtomicUsize::new(0)));
        let routes = Router::new().fallback(served).with_state(Arc::clone(&tenant));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, served: tenant, _runtime: runtime }
    }

    /// The current state of the tenant.
    pub fn tenant(&self) -> Value {
        self.served.0.lock().unwrap().clone()
    }

    /// The executable, directed to this stand-in.
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = azimg(arguments);
        command.env("AZIMG_CLOUD", "custom").env("AZIMG_ARM_ENDPOINT", &self.address);
        command.env("IDENTITY_ENDPOINT", format!("{}/token", self.address));
        command.env("IDENTITY_HEADER", "one");
        command
    }
}

/// The tenant in the file of a case.
pub fn tenant(name: &str) -> Value {
    // The dot in a case name does not begin an extension.
    let path = root().join("tests/fixtures/vm").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

type Reply = (u16, Value);

fn reply(body: Value) -> Reply {
    (200, body)
}

fn refused(code: &str) -> Reply {
    (404, json!({"error": {"code": code, "message": code}}))
}

/// A [`Wire`] to a tenant in this process.
#[derive(Debug)]
pub struct Tenant(pub Value);

#[async_trait]
impl Wire for Tenant {
    async fn send(
        &self,
        request: &WireRequest,
        _: Option<HeaderValue>,
    ) -> azimg::testing::error::Result<WireResponse> {
        let (url, body) = (&request.url, request.body.clone().unwrap_or_default());
        let query = url.query().unwrap_or_default();
        let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().unwrap();
        let (status, body) = answer(&self.0, request.method.as_str(), &path, query, &body);
        let status = StatusCode::from_u16(status).unwrap();
        Ok(WireResponse { status, headers: HeaderMap::new(), body: body.to_string().into() })
    }
}

fn all<'a>(tenant: &'a Value, member: &str) -> &'a [Value] {
    tenant[member].as_array().map_or(&[], Vec::as_slice)
}

fn id(resource: &Value) -> String {
    resource["id"].as_str().unwrap().to_lowercase()
}

/// The resource with its name, which files omit, and without what only a GET with `$expand`
/// returns.
fn shown(resource: &Value) -> Value {
    let mut shown = resource.clone();
    shown["name"] = resource["id"].as_str().unwrap().rsplit('/').next().unwrap().into();
    shown.as_object_mut().unwrap().remove("replicationStatus");
    shown
}

async fn served(
    State(served): State<Arc<Served>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = percent_encoding::percent_decode_str(uri.path()).decode_utf8().unwrap();
    let query = uri.query().unwrap_or_default();
    let line = format!("{method} {path}?{query} {}", String::from_utf8_lossy(&body));
    let is_change = [Method::PATCH, Method::DELETE].contains(&method);
    let Served(tenant, patches) = served.as_ref();
    let error = error(&mut tenant.lock().unwrap(), &line);
    if method == Method::PATCH {
        patches.fetch_add(1, Ordering::SeqCst);
        let together = tenant.lock().unwrap()["patchTogether"].as_u64().unwrap_or(1);
        while (patches.load(Ordering::SeqCst) as u64) < together {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let (status, body) = match error {
        Some(error) => error,
        None if is_change => {
            let tag = headers.get(header::IF_MATCH).map(|tag| tag.to_str().unwrap());
            changed(&mut tenant.lock().unwrap(), &method, &path, (&body, tag))
        }
        None => answer(&tenant.lock().unwrap(), method.as_str(), &path, query, &body),
    };
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (StatusCode::from_u16(status).unwrap(), kind, body.to_string()).into_response()
}

/// The error for a request, if the tenant has one.
fn error(tenant: &mut Value, line: &str) -> Option<Reply> {
    let errors = tenant["errors"].as_array_mut()?;
    let matches = |error: &&mut Value| {
        let is_left = error["times"].as_u64() != Some(0);
        is_left && regex::Regex::new(error["match"].as_str().unwrap()).unwrap().is_match(line)
    };
    let error = errors.iter_mut().find(matches)?;
    if let Some(times) = error["times"].as_u64() {
        error["times"] = (times - 1).into();
    }
    Some((u16::try_from(error["status"].as_u64().unwrap()).unwrap(), error["body"].clone()))
}

/// Deletes or patches the resource at a path. If the resource has an `etag`, a patch must name it.
fn changed(
    tenant: &mut Value,
    method: &Method,
    path: &str,
    (body, wanted): (&[u8], Option<&str>),
) -> Reply {
    for kind in ["versions", "definitions", "galleries"] {
        let Some(pool) = tenant[kind].as_array_mut() else { continue };
        let Some(at) = pool.iter().position(|one| id(one) == path.to_lowercase()) else { continue };
        if method == Method::DELETE {
            pool.remove(at);
            return reply(json!({}));
        }
        if let Some(tag) = pool[at]["etag"].as_str().map(str::to_owned) {
            if wanted != Some(tag.as_str()) {
                return (412, json!({"error": {"code": "PreconditionFailed", "message": tag}}));
            }
            pool[at]["etag"] = format!("{tag}+").into();
        }
        merge(&mut pool[at], serde_json::from_slice(body).unwrap());
        return reply(shown(&pool[at]));
    }
    refused("ResourceNotFound")
}

/// Merges objects recursively. Any other value is replaced.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

/// A token that is valid for a day.
fn token() -> Value {
    let seconds = time::OffsetDateTime::now_utc().unix_timestamp() + 86_400;
    json!({"access_token": "e30.e30.e30", "expires_on": seconds.to_string(), "resource": "x",
        "token_type": "Bearer"})
}

/// The subscriptions of a tenant. A case that names none has one.
fn subscriptions(tenant: &Value) -> Value {
    let one = || json!([{"subscriptionId": SUBSCRIPTION, "state": "Enabled"}]);
    tenant.get("subscriptions").cloned().unwrap_or_else(one)
}

/// The galleries or managed images of one subscription.
fn owned(tenant: &Value, subscription: &str, kind: &str) -> Vec<Value> {
    let own = format!("/subscriptions/{subscription}/");
    all(tenant, kind).iter().filter(|one| id(one).starts_with(&own)).map(shown).collect()
}

/// The locations of a tenant. A case without locations has those of its marketplace, or else one.
fn locations(tenant: &Value) -> Vec<Value> {
    let region = |name: &Value| json!({"name": name, "metadata": {"regionType": "Physical"}});
    let named = all(tenant, "locations").to_vec();
    let listed: Vec<Value> = tenant["marketplace"]
        .as_object()
        .map_or_else(|| vec![json!("eastus")], |tree| tree.keys().map(|l| json!(l)).collect());
    let named = if named.is_empty() { listed } else { named };
    named.iter().map(region).collect()
}

/// The response of a tenant to a request.
fn answer(tenant: &Value, method: &str, path: &str, query: &str, body: &[u8]) -> Reply {
    if path == "/token" {
        return reply(token());
    }
    let path = path.to_lowercase();
    if all(tenant, "refused").iter().any(|part| path.contains(part.as_str().unwrap())) {
        let text = "the identity may not do that";
        return (403, json!({"error": {"code": "AuthorizationFailed", "message": text}}));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let is_refused = |error: &&Value| path.contains(error["match"].as_str().unwrap());
    if let Some(error) = all(tenant, "errors").iter().find(is_refused) {
        let status = error["status"].as_u64().unwrap();
        return (u16::try_from(status).unwrap(), error["body"].clone());
    }
    match (method, &parts[..]) {
        ("POST", ["providers", "microsoft.resourcegraph", "resources"]) => {
            graph(tenant, &serde_json::from_slice(body).unwrap())
        }
        ("GET", ["subscriptions"]) => reply(json!({"value": subscriptions(tenant)})),
        ("GET", [_, _, "locations"]) => reply(json!({"value": locations(tenant)})),
        (
            "GET",
            [
                _,
                _,
                "providers",
                "microsoft.compute",
                "locations",
                location,
                "publishers",
                rest @ ..,
            ],
        ) => marketplace(&tenant["marketplace"][*location], rest),
        (
            "GET",
            [_, subscription, "providers", "microsoft.compute", kind @ ("galleries" | "images")],
        ) => reply(json!({"value": owned(tenant, subscription, kind)})),
        ("GET", [_, _, "providers", "microsoft.containerregistry", "registries"]) => {
            reply(json!({"value": []}))
        }
        (
            "GET",
            [
                _,
                _,
                "providers",
                "microsoft.compute",
                "locations",
                location,
                "sharedgalleries",
                rest @ ..,
            ],
        ) => {
            // Galleries shared with the subscription are not those shared with the tenant.
            let to_tenant = query.to_lowercase().contains("sharedto=tenant");
            let galleries = if to_tenant { &Value::Null } else { &tenant["shared"][*location] };
            shared(galleries, rest)
        }
        ("GET", [_, _, "resourcegroups", _, "providers", _, "galleries", _, rest @ ..]) => {
            gallery(tenant, &path, rest, query)
        }
        _ => refused("InvalidResourceType"),
    }
}

fn named<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    tree.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
