//! Simulated container registries: the token service, ACR's own API and manifests. Strict: a token of
//! another scope, a method or path that is none, and a name that cannot be are refused as ACR does.

mod answers;
mod tokens;

use super::registries::SimRegistry;
use super::state::{Sim, json as answer};
use answers::{accepted, locked_answer};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::sync::Arc;
use tokens::{challenge, claims, is_over};

/// Rows of a page when nobody says how many, and the most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;
/// So many tags are told with a manifest. That there is a limit is said by a maintainer of ACR (Azure/acr#529);
/// images of more than ten tags are seen to lack some (Azure/azure-cli#7438).
const TAGS_TOLD: usize = 10;

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
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap_or_default();
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let class = class(&parts.method, &path);
    let refused = {
        let server = at.sim.registries()[at.number].login_server.clone();
        at.sim.quota.count_registry(&server, class)
    };
    let (operation, response) = match refused {
        Some(refused) => ("Registry", refused),
        None => at.answer(&parts, &path, &body),
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

impl At {
    fn answer(
        &self,
        parts: &axum::http::request::Parts,
        path: &str,
        body: &[u8],
    ) -> (&'static str, Response<Body>) {
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let method = &parts.method;
        if let Some(which) = path.strip_prefix("/oauth2/") {
            let form: Vec<(String, String)> =
                url::form_urlencoded::parse(body).into_owned().collect();
            return match (method, which) {
                (&Method::POST, "exchange") => ("ExchangeToken", self.exchange(&form)),
                (&Method::POST, "token") => ("IssueToken", self.token(&form)),
                _ => ("Unknown", unknown("UNSUPPORTED", "unsupported")),
            };
        }
        let mut registries = self.sim.registries();
        let registry = &mut registries[self.number];
        let Some(wanted) = Wanted::read(method, path) else {
            // As ACR answers names that cannot be: plain text.
            let mut plain = Response::new(Body::from("404 page not found"));
            *plain.status_mut() = StatusCode::NOT_FOUND;
            return ("Unknown", plain);
        };
        let granted = claims(&parts.headers);
        if !wanted.is_granted(method, &granted, &registry.login_server) {
            return (wanted.operation(method), challenge(registry, &wanted, method));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        (wanted.operation(method), wanted.answer(registry, method, &query, &body))
    }
}

/// What a request is about.
enum Wanted {
    /// Whether the second version of Docker's API is spoken.
    Version,
    Catalog,
    /// The same as Docker has it.
    Names,
    /// A repository's tags, as Docker has them.
    TagNames(String),
    Repository(String),
    Tags(String),
    Tag(String, String),
    Manifests(String),
    Manifest(String, String),
    Content(String, String),
    Blob(String, String),
    Referrers(String, String),
}

impl Wanted {
    fn read(method: &Method, path: &str) -> Option<Self> {
        let reads = *method == Method::GET;
        let changes = *method == Method::PATCH;
        let deletes = *method == Method::DELETE;
        if let Some(rest) = path.strip_prefix("/v2/") {
            let is_read = reads || *method == Method::HEAD;
            match (rest, rest.strip_suffix("/tags/list")) {
                ("", _) => return is_read.then_some(Self::Version),
                ("_catalog", _) => return reads.then_some(Self::Names),
                (_, Some(name)) => return reads.then(|| Self::TagNames(name.to_owned())),
                _ => {}
            }
            let part = |(name, digest): (&str, &str)| (name.to_owned(), digest.to_owned());
            if let Some((name, digest)) = rest.rsplit_once("/blobs/").map(part) {
                return reads.then_some(Self::Blob(name, digest));
            }
            if let Some((name, digest)) = rest.rsplit_once("/referrers/").map(part) {
                return reads.then_some(Self::Referrers(name, digest));
            }
            let (name, reference) = rest.rsplit_once("/manifests/")?;
            return (is_read || deletes)
                .then(|| Self::Content(name.to_owned(), reference.to_owned()));
        }
        let rest = path.strip_prefix("/acr/v1/")?;
        if rest == "_catalog" {
            return reads.then_some(Self::Catalog);
        }
        if rest.chars().any(|c| c.is_ascii_uppercase() && !rest.contains("/_tags/")) {
            return None;
        }
        if let Some(name) = rest.strip_suffix("/_tags") {
            return reads.then(|| Self::Tags(name.to_owned()));
        }
        if let Some(name) = rest.strip_suffix("/_manifests") {
            return reads.then(|| Self::Manifests(name.to_owned()));
        }
        if let Some((name, tag)) = rest.split_once("/_tags/") {
            let known = reads || changes || deletes;
            return known.then(|| Self::Tag(name.to_owned(), tag.to_owned()));
        }
        if let Some((name, digest)) = rest.split_once("/_manifests/") {
            let known = reads || changes;
            return known.then(|| Self::Manifest(name.to_owned(), digest.to_owned()));
        }
        (reads || changes || deletes).then(|| Self::Repository(rest.to_owned()))
    }

    fn operation(&self, method: &Method) -> &'static str {
        let deletes = *method == Method::DELETE;
        match self {
            Self::Version => "ApiVersion",
            Self::Catalog | Self::Names => "ListRepositories",
            Self::Repository(_) if deletes => "DeleteRepository",
            Self::Repository(_) => "Repository",
            Self::Tags(_) | Self::TagNames(_) => "ListTags",
            Self::Tag(..) if deletes => "DeleteTag",
            Self::Tag(..) => "Tag",
            Self::Manifests(_) => "ListManifests",
            Self::Manifest(..) => "Manifest",
            Self::Content(..) if deletes => "DeleteManifest",
            Self::Content(..) => "GetManifest",
            Self::Blob(..) => "GetBlob",
            Self::Referrers(..) => "ListReferrers",
        }
    }

    /// What a token must grant: kind, name and action; nothing where any token will do.
    fn scope(&self, method: &Method) -> Option<(&'static str, &str, &'static str)> {
        let (name, reads) = match self {
            Self::Version => return None,
            Self::Catalog | Self::Names => return Some(("registry", "catalog", "*")),
            Self::Content(name, _)
            | Self::Blob(name, _)
            | Self::Referrers(name, _)
            | Self::TagNames(name) => (name, "pull"),
            Self::Repository(name)
            | Self::Tags(name)
            | Self::Manifests(name)
            | Self::Tag(name, _)
            | Self::Manifest(name, _) => (name, "metadata_read"),
        };
        let action = match *method {
            Method::DELETE => "delete",
            Method::PATCH => "metadata_write",
            _ => reads,
        };
        Some(("repository", name, action))
    }

    fn is_granted(&self, method: &Method, claims: &Value, service: &str) -> bool {
        if is_over(claims) || claims["aud"] != service {
            return false;
        }
        let Some((kind, name, action)) = self.scope(method) else { return true };
        claims["access"].as_array().into_iter().flatten().any(|access| {
            let actions = access["actions"].as_array().into_iter().flatten();
            access["type"] == kind
                && access["name"] == name
                && actions.filter_map(Value::as_str).any(|granted| granted == action)
        })
    }

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
        let Some((_, name, _)) = self.scope(method) else { return no_name() };
        let deletes = *method == Method::DELETE;
        if let (Self::Repository(name), true) = (self, deletes) {
            return registry.remove(name);
        }
        if let Self::Blob(_, digest) = self {
            return registry.blob(digest);
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
            Self::Tag(_, tag) => {
                let Some(found) = repository.tags.get_mut(tag) else {
                    return unknown("TAG_UNKNOWN", "the specified tag does not exist");
                };
                if deletes {
                    if found.attributes.is_locked() {
                        return locked_answer();
                    }
                    repository.tags.remove(tag);
                    return accepted();
                }
                if *method == Method::PATCH {
                    found.attributes.patch(body);
                }
                let value = found.to_json(tag);
                head("tag", value)
            }
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
            Self::Version | Self::Catalog | Self::Names | Self::Blob(..) => no_name(),
        }
    }
}

fn no_name() -> Response<Body> {
    unknown("NAME_UNKNOWN", "repository name not known to registry")
}

/// Where blobs lie: whoever sends a credential there is refused, as storage does.
pub(super) fn blobs(sim: &Arc<Sim>, number: usize) -> Router {
    Router::new().fallback(serve_blob).with_state(At { sim: Arc::clone(sim), number })
}

async fn serve_blob(State(at): State<At>, request: Request) -> Response<Body> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let text = "Authentication information is not given in the correct format.";
        return error(StatusCode::BAD_REQUEST, "InvalidAuthenticationInfo", text);
    }
    let digest = request.uri().path().trim_start_matches('/').to_owned();
    match at.sim.registries()[at.number].blobs.get(&digest) {
        Some(bytes) => Response::new(Body::from(bytes.clone())),
        None => unknown("BlobNotFound", "The specified blob does not exist."),
    }
}
