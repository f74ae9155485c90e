//! An attacker who controls a registry, a Resource Manager that a link leads to, a storage account
//! and a web page, and records every request to them. A test can direct a program there, and then
//! check which credentials arrived.
//!
//! Each is reachable on a loopback address over http, and by its names over https through the proxy
//! that [`Attacker::leads`] sets, so the names need no DNS.

use super::secrets;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The registry's name, which begins like a name in Azure.
pub const REGISTRY: &str = "mycompany.azurecr.io.attacker.example";
pub const MANAGER: &str = "manager.attacker.example";
pub const PAGE: &str = "page.attacker.example";
/// Anybody can create a storage account.
pub const BLOBS: &str = "attackers.blob.core.windows.net";

/// Further names of the registry, each similar to a trusted one.
pub const LOOKALIKES: [&str; 9] = [
    "azurecr.io.attacker.example",
    "attacker.example",
    "mycompany-azurecr.io",
    "mycompanyazurecr.io",
    "azurecr.io",
    "mycompany.azurecr.cn",
    "mycompany.azurecr.us",
    "mycompany.westeurope.data.azurecr.io",
    "a.b.azurecr.io",
];

/// The token issued by the attacker's own registry. Sending it back there discloses nothing.
const ISSUED: &str = "issued-by-the-attacker";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = r#"{"os":"linux","architecture":"amd64"}"#;

/// The part of the attacker that received a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Registry,
    Manager,
    Blobs,
    Page,
    /// The proxy that leads to the others by name.
    Proxy,
}

/// How the registry tries to mislead a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// It does not: it serves an image like any registry.
    Serves,
    /// It demands a token with a challenge like ACR's.
    Challenges,
    /// Its challenge names the web page as the token service.
    RealmElsewhere,
    /// It redirects every request to the web page.
    Redirects,
    /// It redirects requests for tokens to the web page.
    RedirectsTokens,
    /// The next page of each list is at the Resource Manager.
    LinksElsewhere,
    /// Blobs are downloaded from, and uploaded to, the storage account.
    BlobsElsewhere,
}

impl Trick {
    pub const ALL: [Self; 7] = [
        Self::Serves,
        Self::Challenges,
        Self::RealmElsewhere,
        Self::Redirects,
        Self::RedirectsTokens,
        Self::LinksElsewhere,
        Self::BlobsElsewhere,
    ];
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Received {
    pub role: Role,
    /// The host, method, path and query.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    /// The first credential in the request: any value of a header that carries credentials, except
    /// the attacker's own token on its way back, or anything that is recognizable as a credential
    /// elsewhere.
    fn credential(&self) -> Option<String> {
        const CARRIERS: [&str; 7] = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-functions-key",
            "x-identity-header",
            "x-ms-authorization-auxiliary",
            "x-ms-token",
        ];
        let own = format!("Bearer {ISSUED}");
        let is_own = |value: &str| self.role == Role::Registry && value == own;
        let mut text = format!("{}\n{}\n", self.line, decoded(&self.body));
        for (name, value) in &self.headers {
            if CARRIERS.contains(&name.as_str()) && !is_own(value) {
                return Some(format!("{name}: {value}"));
            }
            if !is_own(value) {
                writeln!(text, "{name}: {value}").unwrap();
            }
        }
        secrets::first(&text)
    }
}

fn decoded(form: &str) -> String {
    percent_encoding::percent_decode_str(form).decode_utf8_lossy().into_owned()
}

struct Shared {
    trick: Mutex<Trick>,
    log: Mutex<Vec<Received>>,
    /// The loopback addresses of the registry, the manager, the blobs and the page.
    addresses: OnceLock<[SocketAddr; 4]>,
    /// Further texts that must not arrive, although they do not look like credentials.
    secrets: Mutex<Vec<String>>,
}

/// A running attacker. Stops when dropped.
pub struct Attacker {
    /// Its registry, as a login server on this machine.
    pub registry: String,
    /// Its Resource Manager, as an address on this machine.
    pub manager: String,
    proxy: String,
    authority: PathBuf,
    shared: Arc<Shared>,
    _folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Attacker {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            trick: Mutex::new(Trick::Serves),
            log: Mutex::default(),
            addresses: OnceLock::new(),
            secrets: Mutex::default(),
        });
        let runtime = Runtime::new().unwrap();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let roles = [Role::Registry, Role::Manager, Role::Blobs, Role::Page];
        let addresses = roles.map(|role| {
            let listener = bind();
            let address = listener.local_addr().unwrap();
            let routes = routes(&shared, Some(role));
            runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
            address
        });
        shared.addresses.set(addresses).unwrap();
        let secure = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        secure.set_nonblocking(true).unwrap();
        let to = secure.local_addr().unwrap();
        let names = [&[REGISTRY, MANAGER, PAGE, BLOBS][..], &LOOKALIKES].concat();
        {
            let _entered = runtime.enter();
            let (routes, folder) = (routes(&shared, None), folder.path());
            azimg::sim::tls::serve_as(&names, secure, routes, folder).unwrap();
        }
        let listener = bind();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(lead(listener, to, Arc::clone(&shared)));
        Self {
            registry: addresses[0].to_string(),
            manager: format!("http://{}", addresses[1]),
            proxy,
            authority: folder.path().join("ca.pem"),
            shared,
            _folder: folder,
            _runtime: runtime,
        }
    }

    /// Directs a program to the attacker for every host name. Loopback addresses are reached
    /// directly.
    pub fn leads(&self, command: &mut Command) {
        command.env("HTTPS_PROXY", &self.proxy).env("NO_PROXY", "127.0.0.1,localhost");
        command.env("SSL_CERT_FILE", &self.authority);
    }

    /// Sets what its registry does from now on.
    pub fn plays(&self, trick: Trick) {
        *self.shared.trick.lock().unwrap() = trick;
    }

    /// Adds a text that must not arrive, such as the password of a test.
    pub fn must_not_hear(&self, secret: &str) {
        self.shared.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// The requests received so far.
    pub fn log(&self) -> Vec<Received> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The credentials received, with the part that received each.
    pub fn credentials(&self) -> Vec<(Role, String)> {
        let secrets = self.shared.secrets.lock().unwrap().clone();
        let said = |received: &Received| {
            let all = format!("{received:?}{}", decoded(&received.body));
            secrets.iter().find(|secret| all.contains(*secret)).cloned()
        };
        let of = |received: &Received| received.credential().or_else(|| said(received));
        let log = self.log();
        log.iter().filter_map(|received| Some((received.role, of(received)?))).collect()
    }

    /// Fails if any credential arrived.
    pub fn assert_no_credential(&self, what: &str) {
        assert_eq!(self.credentials(), [], "{what}");
    }

    /// Fails if any request arrived.
    pub fn assert_untouched(&self, what: &str) {
        let log = self.log();
        assert!(log.is_empty(), "{what}: {log:?}");
    }

    /// Clears the requests received.
    pub fn forget(&self) {
        self.shared.log.lock().unwrap().clear();
    }
}

fn routes(shared: &Arc<Shared>, role: Option<Role>) -> Router {
    Router::new().fallback(serve).with_state((Arc::clone(shared), role))
}

/// A proxy that connects every request to the attacker, whatever its host.
async fn lead(listener: TcpListener, to: SocketAddr, shared: Arc<Shared>) {
    while let Ok((mut caller, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = caller.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut lines = head.lines();
            let line = lines.next().unwrap_or_default().to_owned();
            let header = |line: &str| {
                line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            };
            let headers = lines.filter_map(header).collect();
            let received = Received { role: Role::Proxy, line, headers, body: String::new() };
            shared.log.lock().unwrap().push(received);
            let Ok(mut server) = TcpStream::connect(to).await else { return };
            if caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
            }
        });
    }
}

/// The addresses of the parts, in the form (http or https) in which this request reached the
/// attacker.
struct Places {
    own: String,
    manager: String,
    blobs: String,
    page: String,
}

async fn serve(
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
