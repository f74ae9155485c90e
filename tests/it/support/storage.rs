//! A proxy in front of Azurite that is busy or slow, as real storage is at times.

use super::azurite::{Azurite, connection};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The responses of storage under load, and without permission.
pub const BUSY: Refusal = Some((503, "ServerBusy"));
pub const DENIED: Refusal = Some((403, "AuthorizationPermissionMismatch"));

/// A refusal: its status and its code.
pub type Refusal = Option<(u16, &'static str)>;

/// The delay and the refusal, if any, of the n-th request.
type Luck = Arc<dyn Fn(u64, &str) -> (Duration, Refusal) + Send + Sync>;

/// A running proxy.
pub struct Wire {
    /// The value of the setting `AzimgStorage` for this proxy.
    pub connection: String,
    /// The number of requests refused.
    pub refused: Arc<AtomicU64>,
    _runtime: Runtime,
}

struct Through {
    port: u16,
    luck: Luck,
    count: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    client: reqwest::Client,
}

impl Wire {
    /// Starts a proxy that applies `luck` to the number of a request, and to its method and path.
    pub fn start(
        azurite: &Azurite,
        luck: impl Fn(u64, &str) -> (Duration, Refusal) + Send + Sync + 'static,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let (luck, count, refused): (Luck, _, _) = (Arc::new(luck), Arc::default(), Arc::default());
        let ports = azurite.ports().map(|port| {
            let (luck, count, refused) =
                (Arc::clone(&luck), Arc::clone(&count), Arc::clone(&refused));
            let client = reqwest::Client::new();
            let through = Through { port, luck, count, refused, client };
            let routes = Router::new().fallback(pass).with_state(Arc::new(through));
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let port = listener.local_addr().unwrap().port();
            runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
            port
        });
        Self { connection: connection(ports[0], ports[1]), refused, _runtime: runtime }
    }
}

async fn pass(State(through): State<Arc<Through>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let number = through.count.fetch_add(1, Ordering::Relaxed);
    let (wait, refusal) = (through.luck)(number, &format!("{} {path}", parts.method));
    tokio::time::sleep(wait).await;
    if let Some((status, code)) = refusal {
        through.refused.fetch_add(1, Ordering::Relaxed);
        let body =
            format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code></Error>");
        let refused = Response::builder().status(status).header("x-ms-error-code", code);
        return refused.header("content-type", "application/xml").body(Body::from(body)).unwrap();
    }
    let url = format!("http://127.0.0.1:{}{path}", through.port);
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut headers = parts.headers;
    headers.remove("transfer-encoding");
    let sent = through.client.request(parts.method, url).headers(headers).body(body);
    // Azurite resets connections when the machine is busy.
    let Ok(answer) = sent.send().await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["transfer-encoding", "connection"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
