//! A stand-in for the Resource Manager that serves recorded responses only.

use super::needs::{self, Need};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The subscription id that replaces real ones in recordings.
pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

/// The folder of the recordings.
pub fn recordings() -> &'static Path {
    needs::folder(Need::Recordings)
}

/// A recorded exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub method: String,
    /// The path in lower case, with `*` for the subscription.
    pub path: String,
    pub query: String,
    pub at: String,
    /// The body of the request.
    pub request: String,
    pub status: u16,
    pub body: String,
}

impl Exchange {
    /// The parts of the path after `/locations/{location}/publishers`.
    pub fn below_publishers(&self, location: &str) -> Option<Vec<&str>> {
        let (_, rest) = self.path.split_once(&format!("/locations/{location}/publishers"))?;
        Some(rest.split('/').filter(|part| !part.is_empty()).collect())
    }

    pub fn names(&self) -> Vec<String> {
        let value: Value = serde_json::from_str(&self.body).unwrap();
        let entries = value.as_array().unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// All exchanges in a normalized file.
pub fn exchanges(folder: &std::path::Path, file: &str) -> Vec<Exchange> {
    let raw = std::fs::File::open(folder.join("normalized").join(file)).unwrap();
    let lines = BufReader::new(MultiGzDecoder::new(raw)).lines();
    let read = lines.map(|line| {
        let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let url = text("url");
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        Exchange {
            method: text("method"),
            path: fold(path.split_once("management.azure.com").map_or(path, |(_, path)| path)),
            query: query.to_owned(),
            at: text("at"),
            request: text("req_body"),
            status: u16::try_from(value["status"].as_u64().unwrap()).unwrap(),
            body: text("body"),
        }
    });
    read.collect()
}

/// A path in lower case, with `*` for the subscription.
fn fold(path: &str) -> String {
    let path = percent_encoding::percent_decode_str(path).decode_utf8().unwrap().to_lowercase();
    let parts: Vec<&str> = path.split('/').collect();
    let folded: Vec<&str> = parts
        .iter()
        .enumerate()
        .map(|(i, part)| if i > 0 && parts[i - 1] == "subscriptions" { "*" } else { part })
        .collect();
    folded.join("/")
}

/// A running stand-in.
pub struct Replay {
    pub address: String,
    _runtime: Runtime,
}

type Answers = HashMap<String, (u16, String)>;

impl Replay {
    /// Serves the newest complete listing recorded of each path.
    pub fn start(exchanges: &[Exchange]) -> Self {
        Self::start_with(exchanges, |one, other| one.at >= other.at)
    }

    /// Serves the best listing of each path, according to `better`.
    pub fn start_with(
        exchanges: &[Exchange],
        better: impl Fn(&Exchange, &Exchange) -> bool,
    ) -> Self {
        let mut chosen: HashMap<&str, &Exchange> = HashMap::new();
        for exchange in exchanges.iter().filter(|e| e.method == "GET" && !e.query.contains("top")) {
            let best = chosen.entry(&exchange.path).or_insert(exchange);
            if better(exchange, best) {
                *best = exchange;
            }
        }
        let answers: Answers = chosen
            .into_iter()
            .map(|(path, e)| (path.to_owned(), (e.status, e.body.clone())))
            .collect();
        let runtime = Runtime::new().unwrap();
        let routes = Router::new().fallback(answer).with_state(Arc::new(answers));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, _runtime: runtime }
    }
}

async fn answer(State(answers): State<Arc<Answers>>, request: Request) -> Response {
    let reply = |status: u16, body: String| {
        let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
        (StatusCode::from_u16(status).unwrap(), kind, body).into_response()
    };
    let query = request.uri().query().unwrap_or_default();
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return reply(
            401,
            r#"{"error":{"code":"AuthenticationFailed","message":"no token"}}"#.into(),
        );
    }
    if !query.contains("api-version=") {
        let body = r#"{"error":{"code":"MissingApiVersionParameter","message":"no version"}}"#;
        return reply(400, body.into());
    }
    match answers.get(&fold(request.uri().path())) {
        Some((status, body)) => reply(*status, body.clone()),
        None => {
            let body =
                r#"{"error":{"code":"NotFound","message":"Artifact: VMImage was not found."}}"#;
            reply(404, body.into())
        }
    }
}
