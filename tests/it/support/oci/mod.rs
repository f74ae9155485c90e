//! A real registry (`docker-registry` of Debian) behind a proxy that adds what ACR adds: its token
//! service, its API under `/acr/v1`, and locks. Blobs, uploads and manifests are handled by the
//! real registry.

mod acr;
mod tokens;

use super::azurite::free_port;
use super::needs::Need;
use super::{debian, wait_for};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// A fault for requests with this method whose path matches. It occurs `times` times.
#[derive(Clone)]
pub struct Mischief {
    pub method: Method,
    pub path: &'static str,
    pub times: usize,
    pub how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only this many bytes of the request reach the registry, then the connection breaks.
    CutRequest(usize),
    /// Only this many bytes of the response arrive, then the connection breaks.
    CutAnswer(usize),
    /// The registry handles the request, and the response is lost.
    LoseAnswer,
    /// The proxy responds with this status. The registry does not receive the request.
    Answer(u16),
    /// One byte of the response is changed.
    Flip,
}

pub struct Front {
    upstream: String,
    key: KeyPair,
    certificate: String,
    /// Its own address.
    pub server: String,
    root: PathBuf,
    attributes: Mutex<HashMap<String, Value>>,
    pub mischief: Mutex<Vec<Mischief>>,
    /// Method and path of every request, with the size of its body if that was given.
    pub log: Mutex<Vec<String>>,
    client: reqwest::Client,
    /// The lifetime of access tokens, in seconds.
    pub lasting: std::sync::atomic::AtomicI64,
}

/// A running registry. Stops when dropped.
pub struct Oci {
    child: Child,
    pub front: Arc<Front>,
    pub folder: tempfile::TempDir,
    runtime: Runtime,
}

impl Drop for Oci {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const ADMIN: &str = "admin";
pub const PASSWORD: &str = "correct horse";

impl Oci {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::new(vec!["front".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let bundle = folder.path().join("roots.pem");
        std::fs::write(&bundle, certificate.pem()).unwrap();
        let (port, root) = (free_port(), folder.path().join("storage"));
        let config = json!({"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": root}, "delete": {"enabled": true}},
            "http": {"addr": format!("127.0.0.1:{port}"), "relativeurls": true, "secret": "x"},
            "auth": {"token": {"realm": format!("http://{server}/oauth2/token"),
                "service": server, "issuer": "front", "rootcertbundle": bundle}}});
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut registry = Command::new("docker-registry");
        debian::on_path(&mut registry, Need::Registry, &[]);
        let child = registry
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for("docker-registry", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let front = Arc::new(Front {
            upstream: format!("http://127.0.0.1:{port}"),
            certificate: STANDARD.encode(certificate.der()),
            key,
            server,
            root,
            attributes: Mutex::default(),
            mischief: Mutex::default(),
            log: Mutex::default(),
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            lasting: 4_500.into(),
        });
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&front));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
        Self { child, front, folder, runtime }
    }

    /// The executable, signed in as the admin user, with this registry's folder as working
    /// directory.
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = super::azimg(arguments);
        command.args(["--username", ADMIN]).env("AZIMG_REGISTRY_PASSWORD", PASSWORD);
        command.current_dir(self.folder.path());
        command
    }

    /// Serves the same registry over https, for clients that sign in over https only. The
    /// certificate of its authority is written to `tls/ca.pem` in its folder.
    pub fn secure(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&self.front));
        let _entered = self.runtime.enter();
        azimg::testing::sim::tls::serve(listener, routes, &self.folder.path().join("tls")).unwrap();
        address
    }

    /// `SERVER/name`.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.front.server)
    }

    /// The number of requests with this method whose path contains `path`.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let log = self.front.log.lock().unwrap();
        log.iter().filter(|line| line.starts_with(method) && line.contains(path)).count()
    }

    pub fn plays(&self, method: Method, path: &'static str, times: usize, how: How) {
        self.front.mischief.lock().unwrap().push(Mischief { method, path, times, how });
    }

    /// The credentials with which skopeo signs in.
    pub fn credentials(&self) -> String {
        format!("00000000-0000-0000-0000-000000000000:{}", self.front.refresh())
    }
}

fn json_answer(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn refused(status: u16, code: &str) -> Response {
    json_answer(status, &json!({"errors": [{"code": code, "message": code.to_lowercase()}]}))
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn is_admin(headers: &HeaderMap) -> bool {
    basic(headers).is_some_and(|given| given == (ADMIN.to_owned(), PASSWORD.to_owned()))
}

async fn serve(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let path = path.into_owned();
    let size = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let line = format!("{} {path} {}", parts.method, size.unwrap_or_default());
    front.log.lock().unwrap().push(line);
    let how = {
        let mut all = front.mischief.lock().unwrap();
        let fits =
            |m: &&mut Mischief| m.times > 0 && m.method == parts.method && path.contains(m.path);
        all.iter_mut().find(fits).map(|mischief| {
            mischief.times -= 1;
            mischief.how
        })
    };
    if let Some(How::Answer(status)) = how {
        // The body is read to its end: a client that is still sending would see a broken connection
        // instead of the response.
        let _ = axum::body::to_bytes(body, usize::MAX).await;
        return refused(
            status,
            if status == 404 { "BLOB_UPLOAD_UNKNOWN" } else { "TOOMANYREQUESTS" },
        );
    }
    if path.starts_with("/oauth2/") || path.starts_with("/acr/v1/") {
        let body = axum::body::to_bytes(body, 8 << 20).await.unwrap_or_default();
        return match path.strip_prefix("/acr/v1/") {
            Some(rest) => front.acr(&parts, rest, &body),
            None => front.tokens(&parts, &body),
        };
    }
    let locked = path.rsplit_once("/manifests/").filter(|_| parts.method == Method::DELETE);
    if let Some((name, digest)) = locked {
        let name = name.trim_start_matches("/v2/");
        if front.attributes(&format!("{name}@{digest}"))["deleteEnabled"] == false {
            return refused(405, "UNSUPPORTED");
        }
    }
    let put = path.rsplit_once("/manifests/").filter(|_| parts.method == Method::PUT);
    if let Some((name, tag)) = put {
        let name = name.trim_start_matches("/v2/");
        if front.attributes(&format!("{name}:{tag}"))["writeEnabled"] == false {
            return refused(405, "UNSUPPORTED");
        }
    }
    front.forward(parts, &path, body, how).await
}

impl Front {
    /// The token for a forwarded request: its own, or for the admin user one with the scopes that
    /// the request needs.
    fn token_for(
        &self,
        parts: &axum::http::request::Parts,
        path: &str,
    ) -> Option<header::HeaderValue> {
        if !is_admin(&parts.headers) {
            return parts.headers.get(header::AUTHORIZATION).cloned();
        }
        let rest = path.trim_start_matches("/v2/");
        let name = ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
            .iter()
            .find_map(|part| rest.split_once(part))
            .map_or("", |(name, _)| name);
        let mut scopes = vec![format!("repository:{name}:pull,push,delete")];
        if let Some(from) = parts.uri.query().and_then(|q| q.split("from=").nth(1)) {
            let from = percent_encoding::percent_decode_str(from.split('&').next().unwrap());
            scopes.push(format!("repository:{}:pull", from.decode_utf8_lossy()));
        }
        format!("Bearer {}", self.access(&scopes)).parse().ok()
    }

    async fn forward(
        &self,
        parts: axum::http::request::Parts,
        path: &str,
        body: Body,
        how: Option<How>,
    ) -> Response {
        let url = format!("{}{}", self.upstream, parts.uri.path_and_query().unwrap());
        let mut through = self.client.request(parts.method.clone(), url);
        for (name, value) in &parts.headers {
            if name != header::AUTHORIZATION && name != header::TRANSFER_ENCODING {
                through = through.header(name, value);
            }
        }
        if let Some(token) = self.token_for(&parts, path) {
            through = through.header(header::AUTHORIZATION, token);
        }
        through = match how {
            Some(How::CutRequest(most)) => cut_request(through, &parts.headers, body, most).await,
            // The SDK sends a whole body to learn that it must sign in, and expects it to be read.
            _ if !parts.headers.contains_key(header::AUTHORIZATION) => {
                through.body(axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default())
            }
            _ => through.body(reqwest::Body::wrap_stream(body.into_data_stream())),
        };
        // The client may stop sending the body.
        let Ok(answer) = through.send().await else { return refused(502, "UNAVAILABLE") };
        if matches!(how, Some(How::LoseAnswer | How::CutRequest(_))) {
            let _ = answer.bytes().await;
            return broken();
        }
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != header::TRANSFER_ENCODING && name != header::CONNECTION {
                response = response.header(name, value);
            }
        }
        let body = match how {
            Some(How::CutAnswer(most)) => {
                let bytes = answer.bytes().await.unwrap();
                let part = Ok(bytes.slice(..most.min(bytes.len())));
                let cut = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                Body::from_stream(futures::stream::iter([part, cut]))
            }
            Some(How::Flip) => {
                let mut bytes = answer.bytes().await.unwrap().to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                Body::from(bytes)
            }
            _ => Body::from_stream(answer.bytes_stream()),
        };
        response.body(body).unwrap()
    }
}

/// Forwards a part of a request's body as if it were the whole.
async fn cut_request(
    through: reqwest::RequestBuilder,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> reqwest::RequestBuilder {
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let part = whole.slice(..most.min(whole.len()));
    let from = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let from: usize =
        from.and_then(|text| text.split_once('-')?.0.parse().ok()).unwrap_or_default();
    let range = format!("{from}-{}", from + part.len().max(1) - 1);
    let headers: HeaderMap = [
        (header::CONTENT_LENGTH, part.len().to_string().parse().unwrap()),
        (header::CONTENT_RANGE, range.parse().unwrap()),
    ]
    .into_iter()
    .collect();
    through.headers(headers).body(part)
}

/// A response that breaks off before its first byte.
fn broken() -> Response {
    let cut = Err::<bytes::Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let mut response = Response::new(Body::from_stream(futures::stream::iter([cut])));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
