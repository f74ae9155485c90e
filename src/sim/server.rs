//! The servers of a simulated Azure: one for the Resource Manager and the identity endpoint, two
//! for each registry.

use super::acr;
use super::arm;
use super::identity;
use super::request::SimRequest;
use super::response::{SimResponse, error_response, json_response};
use super::state::Sim;
use super::tls;
use crate::error::{Error, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// The largest body of a request to the Resource Manager, in bytes; a larger one counts as empty.
const LARGEST_BODY: usize = 1 << 20;

/// The addresses of a running simulated Azure.
#[derive(Debug, Clone)]
pub struct Running {
    /// The address of the Resource Manager.
    pub arm: Url,
    /// The secret of the identity endpoint.
    pub secret: String,
    /// The login servers of the registries.
    pub registries: Vec<String>,
}

impl Running {
    /// The addresses as JSON, for other programs.
    pub fn to_json(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.arm.as_str().trim_end_matches('/'));
        json!({
            "arm": at(""),
            "identity": {"endpoint": at("/msi/token"), "header": self.secret},
            "registries": self.registries,
            "stats": at("/_sim/stats"),
        })
    }
}

impl Sim {
    /// Listens at `address` and serves in the background. With a folder in `tls` it serves https,
    /// and writes the certificate of its authority into that folder.
    pub fn start(self: &Arc<Self>, address: SocketAddr, tls: Option<&Path>) -> Result<Running> {
        let listener = std::net::TcpListener::bind(address)
            .map_err(|e| Error::invalid(format!("cannot listen at {address}: {e}")))?;
        listener.set_nonblocking(true).map_err(|e| Error::io("the listener", e))?;
        let bound = listener.local_addr().map_err(|e| Error::io("the listener", e))?;
        let routes = self.router();
        let scheme = match tls {
            None => {
                let listener = tokio::net::TcpListener::from_std(listener)
                    .map_err(|e| Error::io("the listener", e))?;
                tokio::spawn(async move {
                    if let Err(error) = axum::serve(listener, routes).await {
                        tracing::error!(%error, "the simulated Azure stopped");
                    }
                });
                "http"
            }
            Some(folder) => {
                tls::serve(listener, routes, folder)?;
                "https"
            }
        };
        // Links in responses have the scheme of the server.
        let _ = self.scheme.set(scheme);
        let arm = Url::parse(&format!("{scheme}://{bound}"))
            .map_err(|e| Error::bug("an address of ours").with_source(e))?;
        let registries = self.start_registries(address)?;
        Ok(Running { arm, secret: self.secret.clone(), registries })
    }

    /// Starts two servers for each registry, over http and each at a port of its own: the login
    /// server and the server of blobs. Returns the login servers.
    fn start_registries(self: &Arc<Self>, address: SocketAddr) -> Result<Vec<String>> {
        let count = self.registries().len();
        let mut servers = Vec::with_capacity(count);
        for number in 0..count {
            let at = SocketAddr::new(address.ip(), 0);
            let io = |e| Error::io("a registry's listener", e);
            let listen = |routes: Router| {
                let listener = std::net::TcpListener::bind(at).map_err(io)?;
                listener.set_nonblocking(true).map_err(io)?;
                let server = listener.local_addr().map_err(io)?.to_string();
                let listener = tokio::net::TcpListener::from_std(listener).map_err(io)?;
                tokio::spawn(async move {
                    if let Err(error) = axum::serve(listener, routes).await {
                        tracing::error!(%error, "a simulated registry stopped");
                    }
                });
                Ok::<_, Error>(server)
            };
            let server = listen(acr::registry_routes(self, number))?;
            let mut blobs = listen(acr::blob_routes(self, number))?;
            // The name differs from that of the login server, so that no client takes both for one
            // host and sends it a credential.
            if let Some(port) = blobs.strip_prefix("127.0.0.1:") {
                blobs = format!("localhost:{port}");
            }
            let registry = &mut self.registries()[number];
            (registry.login_server, registry.blob_server) = (server.clone(), blobs);
            servers.push(server);
        }
        Ok(servers)
    }

    /// Answers one request to the Resource Manager, to a registry or to a server of blobs, without
    /// a network.
    pub async fn answer(self: &Arc<Self>, request: Request) -> Response<Body> {
        match acr::answer_directly(self, request).await {
            Ok(response) => response,
            Err(request) => resource_manager(State(Arc::clone(self)), request).await,
        }
    }

    /// The routes of the Resource Manager and of the identity endpoint.
    fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/_sim/stats", get(stats))
            .route("/msi/token", get(identity::token))
            .route("/metadata/endpoints", get(identity::endpoints))
            .fallback(resource_manager)
            .with_state(Arc::clone(self))
    }
}

/// Answers with the statistics.
async fn stats(State(sim): State<Arc<Sim>>) -> SimResponse {
    json_response(StatusCode::OK, &sim.stats.to_json())
}

/// Answers a request to the Resource Manager, with the latency and the faults of the simulation.
async fn resource_manager(State(sim): State<Arc<Sim>>, request: Request) -> SimResponse {
    sim.stats.begin();
    if !sim.latency.is_zero() {
        tokio::time::sleep(sim.latency).await;
    }
    let (request, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST_BODY).await.unwrap_or_default();
    let (operation, response) = serve(&sim, &request, &body);
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = sim.faults.pass(path, response).await;
    if let Ok(id) = HeaderValue::try_from(ulid::Ulid::generate().to_string()) {
        response.headers_mut().insert("x-ms-request-id", id);
    }
    sim.stats.end(operation, response.status());
    response
}

/// Authenticates, parses and answers a request; the first value is the name of its operation.
fn serve(sim: &Sim, request: &Parts, body: &[u8]) -> (&'static str, SimResponse) {
    if let Some(refused) = identity::refusal(&request.headers) {
        sim.stats.no_token();
        return ("Unauthenticated", refused);
    }
    let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
    let Ok(body) = body else {
        let text = "The request content was invalid and could not be deserialized.";
        return ("Unknown", error_response(StatusCode::BAD_REQUEST, "InvalidRequestContent", text));
    };
    let uri = &request.uri;
    let path: Option<Vec<String>> = uri
        .path()
        .trim_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8().ok().map(String::from))
        .collect();
    let Some(path) = path else {
        return (
            "Unknown",
            error_response(StatusCode::BAD_REQUEST, "BadRequest", "The path is no UTF-8."),
        );
    };
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let principal = identity::principal(&request.headers);
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
        _ => format!("{}://{}", sim.scheme.get().unwrap_or(&"http"), host.unwrap_or_default()),
    };
    let query = query.into_owned().collect();
    let method = request.method.clone();
    arm::answer(&SimRequest { path, query, principal, method, body, origin, sim })
}
