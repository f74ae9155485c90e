//! The answers of each role: a registry, a Resource Manager, a web page and a storage account.

use super::{BLOBS, CONFIG, ISSUED, MANAGER, PAGE, Received, Role, Shared, Trick};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The addresses of the parts, in the form (http or https) in which this request reached the
/// attacker.
struct Places {
    own: String,
    manager: String,
    blobs: String,
    page: String,
}

pub(super) async fn serve(
    State((shared, role)): State<(Arc<Shared>, Option<Role>)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default().to_owned();
    let is_secure = role.is_none();
    let role = role.unwrap_or(match host.as_str() {
        MANAGER => Role::Manager,
        BLOBS => Role::Blobs,
        PAGE => Role::Page,
        _ => Role::Registry,
    });
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    shared.log.lock().unwrap().push(Received {
        role,
        line: format!("{host} {} {path}", parts.method),
        headers: all(&parts.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let [_, manager, blobs, page] = *shared.addresses.get().unwrap();
    let places = if is_secure {
        let at = |name: &str| format!("https://{name}");
        Places { own: at(&host), manager: at(MANAGER), blobs: at(BLOBS), page: at(PAGE) }
    } else {
        let at = |address: SocketAddr| format!("http://{address}");
        let own = format!("http://{host}");
        Places { own, manager: at(manager), blobs: at(blobs), page: at(page) }
    };
    let trick = *shared.trick.lock().unwrap();
    match role {
        Role::Registry => registry(trick, &parts.method, parts.uri.path(), &places),
        Role::Manager => json_of(200, &json!({"value": []})),
        Role::Blobs => reply(200, &[], CONFIG),
        Role::Page | Role::Proxy => {
            let kind = ("content-type", "text/html".to_owned());
            reply(200, &[kind], "<!doctype html><title>a page of the attacker's</title>")
        }
    }
}

fn all(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn reply(status: u16, headers: &[(&str, String)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

fn json_of(status: u16, body: &Value) -> Response {
    let kind = ("content-type", "application/json".to_owned());
    reply(status, &[kind], &body.to_string())
}

fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn manifest() -> String {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest(CONFIG), "size": CONFIG.len()});
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []}).to_string()
}

/// A response of the attacker's registry.
fn registry(trick: Trick, method: &Method, path: &str, places: &Places) -> Response {
    let Places { own, manager, blobs, page } = places;
    let is_token = path.starts_with("/oauth2/");
    let challenge = |realm: &str| {
        let service = own.trim_start_matches("https://").trim_start_matches("http://");
        let text = format!(
            "Bearer realm=\"{realm}/oauth2/token\",service=\"{service}\",scope=\"registry:catalog:*\""
        );
        reply(401, &[("www-authenticate", text)], "{}")
    };
    match trick {
        Trick::RedirectsTokens if is_token => {
            return reply(308, &[("location", format!("{page}{path}"))], "");
        }
        _ if is_token => {
            return json_of(200, &json!({"refresh_token": ISSUED, "access_token": ISSUED}));
        }
        Trick::Challenges => return challenge(own),
        Trick::RealmElsewhere => return challenge(page),
        Trick::Redirects => return reply(307, &[("location", format!("{page}{path}"))], ""),
        Trick::BlobsElsewhere if path.contains("/blobs/") => {
            let (status, to) =
                if path.contains("/uploads") { (202, "/upload") } else { (307, "/blob") };
            return reply(status, &[("location", format!("{blobs}{to}"))], "");
        }
        _ => {}
    }
    let link = (trick == Trick::LinksElsewhere)
        .then(|| ("link", format!("<{manager}{path}?last=app&n=1>; rel=\"next\"")));
    served(method, path, link.as_ref())
}

/// An image as served by a regular registry. Every change is accepted.
fn served(method: &Method, path: &str, link: Option<&(&str, String)>) -> Response {
    let manifest = manifest();
    let id = digest(&manifest);
    let open = json!({"deleteEnabled": true, "writeEnabled": true, "readEnabled": true,
        "listEnabled": true});
    let then = "2026-01-01T00:00:00Z";
    let row = json!({"digest": id, "mediaType": IMAGE, "tags": ["v1"], "createdTime": then,
        "lastUpdateTime": then, "imageSize": 1, "changeableAttributes": open});
    let tag = json!({"name": "v1", "digest": id, "createdTime": then, "lastUpdateTime": then,
        "changeableAttributes": open});
    let list = |body: &Value| {
        let kind = ("content-type", "application/json".to_owned());
        let headers: Vec<_> = std::iter::once(kind).chain(link.cloned()).collect();
        reply(200, &headers, &body.to_string())
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method.as_str(), &parts[..]) {
        ("DELETE", _) => reply(202, &[], ""),
        ("POST", _) => reply(202, &[("location", "/v2/app/blobs/uploads/1".to_owned())], ""),
        ("PUT" | "PATCH", ["v2", ..]) => reply(201, &[], ""),
        (_, ["acr", "v1", "_catalog"]) => list(&json!({"repositories": ["app"]})),
        (_, ["acr", "v1", "app"]) => json_of(
            200,
            &json!({"imageName": "app", "manifestCount": 1, "tagCount": 1,
                "changeableAttributes": open}),
        ),
        (_, ["acr", "v1", "app", "_tags"]) => list(&json!({"imageName": "app", "tags": [tag]})),
        (_, ["acr", "v1", "app", "_tags", _]) => json_of(200, &json!({"tag": tag})),
        (_, ["acr", "v1", "app", "_manifests"]) => {
            list(&json!({"imageName": "app", "manifests": [row]}))
        }
        (_, ["acr", "v1", "app", "_manifests", _]) => json_of(200, &json!({"manifest": row})),
        (_, ["v2", "app", "manifests", _]) => {
            let kind = ("content-type", IMAGE.to_owned());
            reply(200, &[kind, ("docker-content-digest", id)], &manifest)
        }
        ("GET", ["v2", "app", "blobs", _]) => reply(200, &[], CONFIG),
        (_, ["v2", "app", "referrers", _]) => list(&json!({"schemaVersion": 2, "manifests": []})),
        _ => json_of(404, &json!({"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]})),
    }
}
