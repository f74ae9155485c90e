//! Simulated container registries: the token service, ACR's own API and manifests. Strict: a token of
//! another scope, a method or path that is none, and a name that cannot be are refused as ACR does.

mod tokens;

use super::registries::{SimManifest, SimRegistry, SimRepository, SimTag, digest};
use super::state::{Sim, json as answer};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokens::{challenge, claims, is_over};

/// Rows of a page when nobody says how many, and the most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

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
pub(super) async fn answer_directly(sim: &Arc<Sim>, request: Request) -> Result<Response<Body>, Request> {
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
    let (operation, response) = at.answer(&parts, &path, &body);
    let name = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let response = at.sim.faults.pass(name, response).await;
    at.sim.stats.end(operation, response.status());
    response
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
    Catalog,
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
            let part = |(name, digest): (&str, &str)| (name.to_owned(), digest.to_owned());
            if let Some((name, digest)) = rest.rsplit_once("/blobs/").map(part) {
                return reads.then_some(Self::Blob(name, digest));
            }
            if let Some((name, digest)) = rest.rsplit_once("/referrers/").map(part) {
                return reads.then_some(Self::Referrers(name, digest));
            }
            let (name, reference) = rest.rsplit_once("/manifests/")?;
            let is_one = reads || *method == Method::HEAD || deletes;
            return is_one.then(|| Self::Content(name.to_owned(), reference.to_owned()));
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
            Self::Catalog => "ListRepositories",
            Self::Repository(_) if deletes => "DeleteRepository",
            Self::Repository(_) => "Repository",
            Self::Tags(_) => "ListTags",
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

    /// What a token must grant: kind, name and action.
    fn scope(&self, method: &Method) -> (&'static str, &str, &'static str) {
        let (name, reads) = match self {
            Self::Catalog => return ("registry", "catalog", "*"),
            Self::Content(name, _) | Self::Blob(name, _) | Self::Referrers(name, _) => {
                (name, "pull")
            }
            Self::Repository(name)
            | Self::Tags(name)
            | Self::Manifests(name)
            | Self::Tag(name, _)
            | Self::Manifest(name, _) => (name, "metadata_read"),
        };
        match *method {
            Method::DELETE => ("repository", name, "delete"),
            Method::PATCH => ("repository", name, "metadata_write"),
            _ => ("repository", name, reads),
        }
    }

    fn is_granted(&self, method: &Method, claims: &Value, service: &str) -> bool {
        let (kind, name, action) = self.scope(method);
        if is_over(claims) || claims["aud"] != service {
            return false;
        }
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
        if matches!(self, Self::Catalog) {
            return registry.list(query);
        }
        let (_, name, _) = self.scope(method);
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
            Self::Manifests(_) => repository.list_manifests(&server, name, query),
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
                let value = repository.manifest_json(digest);
                head("manifest", value)
            }
            Self::Content(_, reference) => repository.content(reference, method),
            Self::Referrers(_, digest) => repository.referrers(digest),
            Self::Catalog | Self::Blob(..) => no_name(),
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

impl SimRegistry {
    fn blob(&self, digest: &str) -> Response<Body> {
        if !self.blobs.contains_key(digest) {
            return unknown("BLOB_UNKNOWN", "blob unknown to registry");
        }
        let mut redirect = Response::new(Body::empty());
        *redirect.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        // In Azure over https; on this machine, at a port of its own.
        let scheme = if self.blob_server.contains(':') { "http" } else { "https" };
        let to = format!("{scheme}://{}/{digest}?sig=SIGNATURE", self.blob_server);
        if let Ok(value) = HeaderValue::try_from(to) {
            redirect.headers_mut().insert(header::LOCATION, value);
        }
        redirect
    }

    fn list(&self, query: &[(String, String)]) -> Response<Body> {
        let listed = self.repositories.iter().filter(|(_, repository)| repository.attributes.list);
        let names: Vec<&String> = listed.map(|(name, _)| name).collect();
        let body = |page: &[&String]| json!({ "repositories": page });
        page(&names, query, "/acr/v1/_catalog", |name| name, body)
    }

    fn remove(&mut self, name: &str) -> Response<Body> {
        let locked = |r: &SimRepository| {
            r.attributes.is_locked() || r.manifests.values().any(|m| m.attributes.is_locked())
        };
        match self.repositories.get(name) {
            None => no_name(),
            Some(repository) if locked(repository) => locked_answer(),
            Some(_) => {
                let gone = self.repositories.remove(name).unwrap_or_default();
                let manifests: Vec<&String> = gone.manifests.keys().collect();
                let tags: Vec<&String> = gone.tags.keys().collect();
                let body = json!({"manifestsDeleted": manifests, "tagsDeleted": tags});
                answer(StatusCode::ACCEPTED, &body)
            }
        }
    }
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn locked_answer() -> Response<Body> {
    let text = "The operation is disallowed on this registry, repository or image.";
    error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", text)
}

/// A page of `all` behind `last`, with the link to the next one: relative, as ACR has it.
fn page<T>(
    all: &[T],
    query: &[(String, String)],
    path: &str,
    name: impl Fn(&T) -> &str,
    body: impl Fn(&[T]) -> Value,
) -> Response<Body> {
    let of = |wanted: &str| query.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.as_str());
    let count = of("n").and_then(|n| n.parse().ok()).unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let from = of("last").map_or(0, |last| all.partition_point(|row| name(row) <= last));
    let rows = &all[from..all.len().min(from + count)];
    let mut response = answer(StatusCode::OK, &body(rows));
    if let (Some(last), true) = (rows.last(), from + count < all.len()) {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.append_pair("last", name(last)).append_pair("n", &count.to_string());
        let link = format!("<{path}?{}&orderby=>; rel=\"next\"", next.finish());
        if let Ok(value) = HeaderValue::try_from(link) {
            response.headers_mut().insert(header::LINK, value);
        }
    }
    response
}

impl SimTag {
    fn to_json(&self, name: &str) -> Value {
        json!({"name": name, "digest": self.digest, "createdTime": self.created,
            "lastUpdateTime": self.created, "signed": false,
            "changeableAttributes": self.attributes.to_json()})
    }
}

impl SimRepository {
    fn to_json(&self, server: &str, name: &str) -> Value {
        let created = self.manifests.values().map(|m| m.created.as_str()).min();
        let updated = self.manifests.values().map(|m| m.created.as_str()).max();
        json!({"registry": server, "imageName": name, "createdTime": created,
            "lastUpdateTime": updated, "manifestCount": self.manifests.len(),
            "tagCount": self.tags.len(), "changeableAttributes": self.attributes.to_json()})
    }

    fn manifest_json(&self, name: &str) -> Value {
        let tags = self.tags.iter().filter(|(_, tag)| tag.digest == name);
        self.manifest_with(name, tags.map(|(tag, _)| tag.as_str()).collect())
    }

    fn manifest_with(&self, name: &str, tags: Vec<&str>) -> Value {
        let Some(found) = self.manifests.get(name) else { return Value::Null };
        let SimManifest { media_type, size, created, platform, attributes, .. } = found;
        let mut value = json!({"digest": name, "imageSize": size, "createdTime": created,
            "lastUpdateTime": created, "mediaType": media_type,
            "changeableAttributes": attributes.to_json()});
        if let Some((architecture, os)) = platform {
            value["architecture"] = (*architecture).into();
            value["os"] = (*os).into();
        }
        if !tags.is_empty() {
            value["tags"] = json!(tags);
        }
        value
    }

    fn list_tags(&self, server: &str, name: &str, query: &[(String, String)]) -> Response<Body> {
        let digest = query.iter().find(|(n, _)| n == "digest").map(|(_, v)| v.as_str());
        let all: Vec<(&String, &SimTag)> = self
            .tags
            .iter()
            .filter(|(_, tag)| tag.attributes.list && digest.is_none_or(|d| d == tag.digest))
            .collect();
        page(
            &all,
            query,
            &format!("/acr/v1/{name}/_tags"),
            |(tag, _)| tag,
            |page| {
                let tags: Vec<Value> = page.iter().map(|(name, tag)| tag.to_json(name)).collect();
                json!({"registry": server, "imageName": name, "tags": tags})
            },
        )
    }

    fn list_manifests(
        &self,
        server: &str,
        name: &str,
        query: &[(String, String)],
    ) -> Response<Body> {
        let listed = self.manifests.iter().filter(|(_, manifest)| manifest.attributes.list);
        let all: Vec<&String> = listed.map(|(digest, _)| digest).collect();
        let mut tags: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, tag) in &self.tags {
            tags.entry(&tag.digest).or_default().push(name);
        }
        let row = |digest: &&String| {
            self.manifest_with(digest, tags.get(digest.as_str()).cloned().unwrap_or_default())
        };
        page(
            &all,
            query,
            &format!("/acr/v1/{name}/_manifests"),
            |digest| digest,
            |page| {
                let rows: Vec<Value> = page.iter().map(row).collect();
                json!({"registry": server, "imageName": name, "manifests": rows})
            },
        )
    }

    fn referrers(&self, of: &str) -> Response<Body> {
        let of_it = self.manifests.iter().filter_map(|(name, manifest)| {
            let content: Value = serde_json::from_slice(&manifest.content).ok()?;
            (content["subject"]["digest"] == of).then(|| {
                json!({"mediaType": manifest.media_type, "digest": name,
                    "size": manifest.content.len(), "artifactType": content["artifactType"]})
            })
        });
        let body = json!({"schemaVersion": 2, "mediaType": super::registries::INDEX,
            "manifests": of_it.collect::<Vec<Value>>()});
        answer(StatusCode::OK, &body)
    }

    fn content(&mut self, reference: &str, method: &Method) -> Response<Body> {
        let deletes = *method == Method::DELETE;
        let name = match self.tags.get(reference) {
            Some(tag) if !deletes => tag.digest.clone(),
            _ => reference.to_owned(),
        };
        let Some(found) = self.manifests.get(&name) else {
            let text = format!("manifest {reference} is not found");
            return unknown("MANIFEST_UNKNOWN", &text);
        };
        if deletes {
            let tags = self.tags.values().filter(|tag| tag.digest == name);
            if found.attributes.is_locked() || tags.clone().any(|tag| tag.attributes.is_locked()) {
                return locked_answer();
            }
            self.manifests.remove(&name);
            self.tags.retain(|_, tag| tag.digest != name);
            return accepted();
        }
        let body = if *method == Method::HEAD { Vec::new() } else { found.content.clone() };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(found.media_type));
        if let Ok(value) = HeaderValue::try_from(digest(&found.content)) {
            headers.insert("docker-content-digest", value);
        }
        response
    }
}
