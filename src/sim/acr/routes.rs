//! The routes of simulated registries: quota, authorization and operation of each request.

use super::blobs::serve_blob;
use super::body::{drain, read_at_most};
use super::claims::bearer_claims;
use super::manifests::{LARGEST_MANIFEST, too_large};
use super::response::{name_unknown, not_found, unknown_parameter};
use super::server::SimRegistryServer;
use super::target::RegistryTarget;
use super::tokens::challenge;
use crate::sim::registries::SimRegistry;
use crate::sim::response::{SimResponse, json_response};
use crate::sim::state::Sim;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most tags in the description of a manifest. A maintainer of ACR says that there is a limit
/// (Azure/acr#529); descriptions of images with more than ten tags lack some
/// (Azure/azure-cli#7438).
const MOST_TAGS: usize = 10;
/// The routes of a registry.
pub(in crate::sim) fn registry_routes(sim: &Arc<Sim>, number: usize) -> Router {
    Router::new().fallback(serve).with_state(SimRegistryServer { sim: Arc::clone(sim), number })
}

/// Answers a request to a registry or to its server of blobs without a network. The error is the
/// request, when it is for another host.
pub(in crate::sim) async fn answer_directly(
    sim: &Arc<Sim>,
    request: Request,
) -> Result<SimResponse, Request> {
    let host = request.uri().host().unwrap_or_default();
    let found = sim.registries().iter().enumerate().find_map(|(number, registry)| {
        let is_blobs = registry.blob_server == host;
        (registry.login_server == host || is_blobs).then_some((number, is_blobs))
    });
    let Some((number, is_blobs)) = found else { return Err(request) };
    let at = State(SimRegistryServer { sim: Arc::clone(sim), number });
    Ok(if is_blobs { serve_blob(at, request).await } else { serve(at, request).await })
}

/// Answers a request to a registry, with the latency, the quota and the faults of the simulation.
async fn serve(State(server): State<SimRegistryServer>, request: Request) -> SimResponse {
    server.sim.stats.begin();
    if !server.sim.latency.is_zero() {
        tokio::time::sleep(server.sim.latency).await;
    }
    let (parts, body) = request.into_parts();
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let class = class(&parts.method, &path);
    let refused = {
        let login_server = server.sim.registries()[server.number].login_server.clone();
        server.sim.quota.count_registry(&login_server, class)
    };
    let (operation, response) = match refused {
        Some(refused) => {
            drain(body).await;
            ("Registry", refused)
        }
        None => server.answer(&parts, &path, body).await,
    };
    let name = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = server.sim.faults.pass(name, response).await;
    if !path.starts_with("/oauth2/") {
        // On every response, refusals too (recorded).
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
    }
    server.sim.stats.end(operation, response.status());
    response
}

/// The class of a request in the quota.
fn class(method: &Method, path: &str) -> &'static str {
    match *method {
        _ if path.starts_with("/oauth2/") => "oauth",
        _ if path.contains("/referrers/") => "referrers",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD => "read",
        _ => "write",
    }
}

/// The routes of a server of blobs.
pub(in crate::sim) fn blob_routes(sim: &Arc<Sim>, number: usize) -> Router {
    Router::new()
        .fallback(serve_blob)
        .with_state(SimRegistryServer { sim: Arc::clone(sim), number })
}

impl SimRegistryServer {
    /// Answers a request within its quota; the first value is the name of its operation.
    async fn answer(&self, parts: &Parts, path: &str, body: Body) -> (&'static str, SimResponse) {
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let method = &parts.method;
        if let Some(which) = path.strip_prefix("/oauth2/") {
            let body = read_at_most(body, LARGEST_MANIFEST).await.unwrap_or_default();
            let form: Vec<(String, String)> =
                url::form_urlencoded::parse(&body).into_owned().collect();
            return match (method, which) {
                (&Method::POST, "exchange") => ("ExchangeToken", self.exchange(&form)),
                (&Method::POST, "token") => ("IssueToken", self.token(&form)),
                (&Method::GET, "token") => ("IssueToken", self.token_for(&query, &parts.headers)),
                _ => ("Unknown", not_found("UNSUPPORTED", "unsupported")),
            };
        }
        let Some(target) = RegistryTarget::parse(method, path) else {
            drain(body).await;
            // ACR answers invalid names with plain text.
            let mut plain = Response::new(Body::from("404 page not found"));
            *plain.status_mut() = StatusCode::NOT_FOUND;
            return ("Unknown", plain);
        };
        let operation = target.operation(method);
        if let Some(refused) = self.refusal(&target, parts, &query) {
            drain(body).await;
            return (operation, refused);
        }
        if matches!(target, RegistryTarget::Uploads(_) | RegistryTarget::Upload(..)) {
            return (operation, self.upload(&target, parts, &query, body).await);
        }
        let body = read_at_most(body, LARGEST_MANIFEST).await;
        let mut registries = self.sim.registries();
        let registry = &mut registries[self.number];
        if let (RegistryTarget::Content(name, reference), &Method::PUT) = (&target, method) {
            let refused = unknown_parameter(&query, &[]);
            let response = refused.unwrap_or_else(|| match &body {
                Some(body) => registry.put(name, reference, &parts.headers, body),
                None => too_large(),
            });
            return (operation, response);
        }
        let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        (operation, target.answer(registry, method, &query, &body))
    }

    /// Refuses a request whose token does not grant its target.
    fn refusal(
        &self,
        target: &RegistryTarget,
        parts: &Parts,
        query: &[(String, String)],
    ) -> Option<SimResponse> {
        let registry = &self.sim.registries()[self.number];
        let granted = bearer_claims(&parts.headers);
        let method = &parts.method;
        (!target.is_granted(method, query, &granted, &registry.login_server))
            .then(|| challenge(registry, &target.scopes(method, query)))
    }
}

impl RegistryTarget {
    /// The response to a request for the target, except for uploads and pushes of manifests.
    fn answer(
        &self,
        registry: &mut SimRegistry,
        method: &Method,
        query: &[(String, String)],
        body: &Value,
    ) -> SimResponse {
        let server = registry.login_server.clone();
        let most_tags = registry.most_tags.unwrap_or(MOST_TAGS);
        match self {
            Self::Version => return json_response(StatusCode::OK, &json!({})),
            Self::Catalog => return registry.list(query, "/acr/v1/_catalog"),
            Self::Names => return registry.list(query, "/v2/_catalog"),
            _ => {}
        }
        let Some(name) = self.repository() else { return name_unknown() };
        let deletes = *method == Method::DELETE;
        match self {
            Self::Repository(name) if deletes => return registry.remove(name),
            Self::Content(name, digest) if deletes => {
                return registry.delete_manifest(name, digest);
            }
            Self::Blob(name, digest) => {
                let refused = unknown_parameter(query, &[]);
                return refused.unwrap_or_else(|| registry.blob(name, digest, method));
            }
            _ => {}
        }
        let Some(repository) = registry.repositories.get_mut(name) else { return name_unknown() };
        let described = |part: &str, value: Value| {
            let mut body = json!({"registry": server, "imageName": name});
            body[part] = value;
            json_response(StatusCode::OK, &body)
        };
        match self {
            Self::Repository(..) => {
                if *method == Method::PATCH {
                    repository.attributes.patch(body);
                }
                json_response(StatusCode::OK, &repository.to_json(&server, name))
            }
            Self::Tags(_) => repository.list_tags(&server, name, query),
            Self::TagNames(_) => repository.list_tag_names(name, query),
            Self::Manifests(_) => repository.list_manifests(&server, name, query, most_tags),
            Self::Tag(_, tag) => match repository.tag(tag, method, body) {
                Ok(value) => described("tag", value),
                Err(response) => *response,
            },
            Self::Manifest(_, digest) => {
                let Some(found) = repository.manifests.get_mut(digest) else {
                    return not_found("MANIFEST_UNKNOWN", "manifest unknown");
                };
                if *method == Method::PATCH {
                    found.attributes.patch(body);
                }
                let value = repository.manifest_json(digest, most_tags);
                described("manifest", value)
            }
            Self::Content(_, reference) => repository.content(reference, method),
            Self::Referrers(_, digest) => repository.referrers(name, digest, query),
            Self::Version
            | Self::Catalog
            | Self::Names
            | Self::Blob(..)
            | Self::Uploads(_)
            | Self::Upload(..) => name_unknown(),
        }
    }
}
