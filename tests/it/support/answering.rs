//! A server whose answers a test writes, and that keeps the requests it received.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::{Arc, Mutex};

/// A server that answers as it is told, and keeps what it was sent.
pub struct Server {
    pub address: String,
    pub seen: Arc<Mutex<Vec<String>>>,
}

pub type Answer = fn(&str, &str) -> Response;

pub async fn server(answer: Answer, other: String) -> Server {
    #[derive(Clone)]
    struct At {
        answer: Answer,
        other: String,
        seen: Arc<Mutex<Vec<String>>>,
    }
    async fn serve(State(at): State<At>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let path = parts.uri.path_and_query().unwrap().to_string();
        let text = format!(
            "{} {path} {:?} {}",
            parts.method,
            parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()),
            String::from_utf8_lossy(&body)
        );
        at.seen.lock().unwrap().push(text);
        (at.answer)(&path, &at.other)
    }
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let at = At { answer, other, seen: Arc::clone(&seen) };
    let routes = Router::new().fallback(serve).with_state(at);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Server { address, seen }
}

pub fn reply(status: u16, headers: &[(&str, String)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

pub fn token(path: &str) -> Option<Response> {
    match path {
        "/oauth2/exchange" => Some(reply(200, &[], r#"{"refresh_token":"REFRESH"}"#)),
        "/oauth2/token" => Some(reply(200, &[], r#"{"access_token":"ACCESS"}"#)),
        _ => None,
    }
}
