//! Simulated container registries: the token service, ACR's own API, manifests, and blobs on their way in and out. Strict:
//! a token of another scope, a method or path that is none, and a name that cannot be are refused as ACR does.

mod answers;
mod blobs;
mod manifests;
mod tokens;
mod uploads;
mod wanted;

use super::registries::SimRegistry;
use super::state::{Sim, json as answer};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use blobs::serve_blob;
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::sync::Arc;
use tokens::{challenge, claims};
use wanted::Wanted;

/// Rows of a page when nobody says how many, and the most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;
/// So many tags are told with a manifest. That there is a limit is said by a maintainer of ACR (Azure/acr#529);
/// images of more than ten tags are seen to lack some (Azure/azure-cli#7438).
const TAGS_TOLD: usize = 10;
/// ACR takes no larger manifest.
const LARGEST_MANIFEST: usize = 4 << 20;
/// So much of a body that is refused is read: whoever still sends would see the connection break, and no answer.
const DRAINED: usize = 64 << 20;

/// One registry of a simulated Azure, as its server has it.
#[derive(Clone)]
struct At {
    sim: Arc<Sim>,
    number: usize,
}

/// The routes of one registry.
pub(super) fn routes(sim: &Arc<Sim>, number: usize) -> Router {
    Router::new().fallback(serve).with_state(At { sim: Arc::clone(sim), number })
}

/// Answers a request to a registry, or to where its blobs lie, without a network; none where it is for
/// another host.
pub(super) async fn answer_directly(
    sim: &Arc<Sim>,
    request: Request,
) -> Result<Response<Body>, Request> {
    let host = request.uri().host().unwrap_or_default();
    let found = sim.registries().iter().enumerate().find_map(|(number, registry)| {
        let is_blobs = registry.blob_server == host;
        (registry.login_server == host || is_blobs).then_some((number, is_blobs))
    });
    let Some((number, is_blobs)) = found else { return Err(request) };
    let at = State(At { sim: Arc::clone(sim), number });
    Ok(if is_blobs { serve_blob(at, request).await } else { serve(at, request).await })
}

async fn serve(State(at): State<At>, request: Request) -> Response<Body> {
    at.sim.stats.begin();
    if !at.sim.latency.is_zero() {
        tokio::time::sleep(at.sim.latency).await;
    }
    let (parts, body) = request.into_parts();
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let class = class(&parts.method, &path);
    let refused = {
        let server = at.sim.registries()[at.number].login_server.clone();
        at.sim.quota.count_registry(&server, class)
    };
    let (operation, response) = match refused {
        Some(refused) => {
            drain(body).await;
            ("Registry", refused)
        }
        None => at.answer(&parts, &path, body).await,
    };
    let name = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = at.sim.faults.pass(name, response).await;
    if !path.starts_with("/oauth2/") {
        // On every answer, refusals too (recorded).
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
    }
    at.sim.stats.end(operation, response.status());
    response
}

/// The class that a request is counted in.
fn class(method: &Method, path: &str) -> &'static str {
    match *method {
        _ if path.starts_with("/oauth2/") => "oauth",
        _ if path.contains("/referrers/") => "referrers",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD => "read",
        _ => "write",
    }
}

/// An error in the data plane's shape.
fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    answer(status, &json!({"errors": [{"code": code, "message": message}]}))
}

fn unknown(code: &str, message: &str) -> Response<Body> {
    error(StatusCode::NOT_FOUND, code, message)
}

/// The refusal of a parameter that is none, where there is one.
fn unknown_parameter(query: &[(String, String)], known: &[&str]) -> Option<Response<Body>> {
    let (name, _) = query.iter().find(|(name, _)| !known.contains(&name.as_str()))?;
    let text = format!("the parameter '{name}' is not known here");
    Some(error(StatusCode::BAD_REQUEST, "UNSUPPORTED", &text))
}

/// Reads what nobody wants.
async fn drain(body: Body) {
    let _ = read_at_most(body, 0).await;
}

/// A body of so many bytes at most; none where it is larger, or breaks off.
async fn read_at_most(body: Body, most: usize) -> Option<Vec<u8>> {
    let (mut read, mut came) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        came += piece.len();
        if came > most.max(DRAINED) {
            return None;
        }
        if came <= most {
            read.extend_from_slice(&piece);
        }
    }
    (came <= most).then_some(read)
}

impl At {
    async fn answer(
        &self,
        parts: &Parts,
        path: &str,
        body: Body,
    ) -> (&'static str, Response<Body>) {
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
                _ => ("Unknown", unknown("UNSUPPORTED", "unsupported")),
            };
        }
        let Some(wanted) = Wanted::read(method, path) else {
            drain(body).await;
            // As ACR answers names that cannot be: plain text.
            let mut plain = Response::new(Body::from("404 page not found"));
            *plain.status_mut() = StatusCode::NOT_FOUND;
            return ("Unknown", plain);
        };
        let operation = wanted.operation(method);
        if let Some(refused) = self.refusal(&wanted, parts, &query) {
            drain(body).await;
            return (operation, refused);
        }
        if matches!(wanted, Wanted::Uploads(_) | Wanted::Upload(..)) {
            return (operation, self.upload(&wanted, parts, &query, body).await);
        }
        let body = read_at_most(body, LARGEST_MANIFEST).await;
        let mut registries = self.sim.registries();
        let registry = &mut registries[self.number];
        if let (Wanted::Content(name, reference), &Method::PUT) = (&wanted, method) {
            let refused = unknown_parameter(&query, &[]);
            let answer = refused.unwrap_or_else(|| match &body {
                Some(body) => registry.put(name, reference, &parts.headers, body),
                None => manifests::too_large(),
            });
            return (operation, answer);
        }
        let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        (operation, wanted.answer(registry, method, &query, &body))
    }

    /// The refusal of a token that does not grant what is wanted.
    fn refusal(
        &self,
        wanted: &Wanted,
        parts: &Parts,
        query: &[(String, String)],
    ) -> Option<Response<Body>> {
        let registry = &self.sim.registries()[self.number];
        let granted = claims(&parts.headers);
        let method = &parts.method;
        (!wanted.is_granted(method, query, &granted, &registry.login_server))
            .then(|| challenge(registry, &wanted.scopes(method, query)))
    }
}

impl Wanted {
    fn answer(
        &self,
        registry: &mut SimRegistry,
        method: &Method,
        query: &[(String, String)],
        body: &Value,
    ) -> Response<Body> {
        let server = registry.login_server.clone();
        let most_tags = registry.most_tags.unwrap_or(TAGS_TOLD);
        match self {
            Self::Version => return answer(StatusCode::OK, &json!({})),
            Self::Catalog => return registry.list(query, "/acr/v1/_catalog"),
            Self::Names => return registry.list(query, "/v2/_catalog"),
            _ => {}
        }
        let Some(name) = self.repository() else { return no_name() };
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
        let Some(repository) = registry.repositories.get_mut(name) else { return no_name() };
        let head = |part: &str, value: Value| {
            let mut body = json!({"registry": server, "imageName": name});
            body[part] = value;
            answer(StatusCode::OK, &body)
        };
        match self {
            Self::Repository(..) => {
                if *method == Method::PATCH {
                    repository.attributes.patch(body);
                }
                answer(StatusCode::OK, &repository.to_json(&server, name))
            }
            Self::Tags(_) => repository.list_tags(&server, name, query),
            Self::TagNames(_) => repository.list_tag_names(name, query),
            Self::Manifests(_) => repository.list_manifests(&server, name, query, most_tags),
            Self::Tag(_, tag) => match repository.tag(tag, method, body) {
                Ok(value) => head("tag", value),
                Err(answer) => *answer,
            },
            Self::Manifest(_, digest) => {
                let Some(found) = repository.manifests.get_mut(digest) else {
                    return unknown("MANIFEST_UNKNOWN", "manifest unknown");
                };
                if *method == Method::PATCH {
                    found.attributes.patch(body);
                }
                let value = repository.manifest_json(digest, most_tags);
                head("manifest", value)
            }
            Self::Content(_, reference) => repository.content(reference, method),
            Self::Referrers(_, digest) => repository.referrers(name, digest, query),
            Self::Version
            | Self::Catalog
            | Self::Names
            | Self::Blob(..)
            | Self::Uploads(_)
            | Self::Upload(..) => no_name(),
        }
    }
}

fn no_name() -> Response<Body> {
    unknown("NAME_UNKNOWN", "repository name not known to registry")
}

/// Where blobs lie.
pub(super) fn blobs(sim: &Arc<Sim>, number: usize) -> Router {
    Router::new().fallback(serve_blob).with_state(At { sim: Arc::clone(sim), number })
}
