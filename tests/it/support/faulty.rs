//! A simulated Azure behind a proxy that injects faults.

use super::Azure;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// A fault for requests whose path contains `on`. It occurs the first `times` times.
pub struct Fault {
    pub on: &'static str,
    pub times: usize,
    pub how: How,
    met: AtomicUsize,
}

/// The kinds of faults.
pub enum How {
    /// A response with this status, these headers and this body.
    Answer(u16, &'static [(&'static str, &'static str)], &'static str),
    /// The true response, cut in half.
    Cut,
    /// No response.
    Never,
    /// The true response, delayed until [`Faulty::release`].
    Held,
}

impl Fault {
    pub fn new(on: &'static str, times: usize, how: How) -> Self {
        Self { on, times, how, met: AtomicUsize::new(0) }
    }
}

/// A proxy in front of a simulated Azure.
pub struct Faulty {
    pub azure: Azure,
    pub address: String,
    /// The paths of all requests received.
    pub seen: Arc<Mutex<Vec<String>>>,
    faults: Arc<Vec<Fault>>,
    gate: Arc<Semaphore>,
    _runtime: Runtime,
}

struct Wire {
    arm: String,
    faults: Arc<Vec<Fault>>,
    seen: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    client: reqwest::Client,
}

impl Faulty {
    pub fn start(azure: Azure, faults: Vec<Fault>) -> Self {
        let faults = Arc::new(faults);
        let arm = azure.running.arm.to_string();
        let client = reqwest::Client::builder().build().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let gate = Arc::new(Semaphore::new(0));
        let wire = Wire {
            arm,
            faults: Arc::clone(&faults),
            seen: Arc::clone(&seen),
            gate: Arc::clone(&gate),
            client,
        };
        let runtime = Runtime::new().unwrap();
        let routes = Router::new().fallback(pass).with_state(Arc::new(wire));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { azure, address, seen, faults, gate, _runtime: runtime }
    }

    /// The executable, directed to the proxy.
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = self.azure.azimg(arguments);
        command.env("AZIMG_ARM_ENDPOINT", &self.address);
        command
    }

    /// Releases delayed responses, and delays no more.
    pub fn release(&self) {
        self.gate.close();
    }

    /// The number of requests that matched a fault.
    pub fn met(&self, fault: usize) -> usize {
        self.faults[fault].met.load(Ordering::Relaxed)
    }
}

async fn pass(State(wire): State<Arc<Wire>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    wire.seen.lock().unwrap().push(path.clone());
    let fault = wire.faults.iter().find(|fault| {
        path.to_lowercase().contains(fault.on)
            && fault.met.fetch_add(1, Ordering::Relaxed) < fault.times
    });
    if let Some(Fault { how: How::Answer(status, headers, body), .. }) = fault {
        let mut response = Response::builder().status(*status);
        for (name, value) in *headers {
            response = response.header(*name, *value);
        }
        return response.body(Body::from(*body)).unwrap();
    }
    if let Some(Fault { how: How::Never, .. }) = fault {
        std::future::pending::<()>().await;
    }
    if let Some(Fault { how: How::Held, .. }) = fault {
        // A closed semaphore returns an error.
        let _ = wire.gate.acquire().await;
    }
    let url = format!("{}{path}", wire.arm.trim_end_matches('/'));
    let (parts, body) = request.into_parts();
    let mut through = wire.client.request(parts.method, url);
    if let Some(token) = parts.headers.get(header::AUTHORIZATION) {
        through = through.header(header::AUTHORIZATION, token);
    }
    // The host is passed on so that links lead back to this proxy.
    if let Some(host) = parts.headers.get(header::HOST) {
        through = through.header(header::HOST, host);
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let answer = through.body(body).send().await.unwrap();
    let status = answer.status();
    let links = answer.headers().clone();
    let mut bytes = answer.bytes().await.unwrap();
    if matches!(fault, Some(Fault { how: How::Cut, .. })) {
        bytes.truncate(bytes.len() / 2);
    }
    let kind = (header::CONTENT_TYPE, "application/json; charset=utf-8");
    let mut response = Response::builder().status(status).header(kind.0, kind.1);
    for name in ["azure-asyncoperation", "location", "retry-after"] {
        if let Some(value) = links.get(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(bytes)).unwrap()
}

/// The address of a server that answers every request alike, until the test's runtime ends.
pub async fn answering(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: String,
) -> url::Url {
    let answer = move || {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Body::from(body.clone())).unwrap();
        async move { response }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes: Router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    address.parse().unwrap()
}
