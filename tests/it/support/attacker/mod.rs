//! An attacker who controls a registry, a Resource Manager that a link leads to, a storage account
//! and a web page, and records every request to them. A test can direct a program there, and then
//! check which credentials arrived.
//!
//! Each is reachable on a loopback address over http, and by its names over https through the proxy
//! that [`Attacker::leads`] sets, so the names need no DNS.

mod replies;

use super::secrets;
use axum::Router;
use replies::serve;
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
            azimg::testing::sim::tls::serve_as(&names, secure, routes, folder).unwrap();
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
