//! Invocations of the handler: only requests of the Functions host are taken, and a body is JSON by its type.

use crate::support::callers::{error_code, header, runs};
use crate::support::fleet::{Direct, app};
use crate::support::http::{Nowhere, invocation, stage};
use crate::support::threads;
use crate::support::web::Host;
use crate::tests;
use axum::body::Body;
use azimg::testing::handler::{Handler, Ready};
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::memory::MemoryStore;
use reqwest::Client;
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

tests![
    a_body_is_json_by_its_type_behind_both_hosts,
    only_what_the_functions_host_sends_is_an_invocation,
    proxied_requests_are_answered_without_cors_headers,
];

/// A handler of a simulated Azure, and its store.
fn handler(seed: u64) -> Arc<Handler> {
    let sim = Sim::new(generate(Scale::Small, seed), Conditions::default());
    let wire = Arc::new(Direct { sim, latency: Duration::ZERO, random: None });
    let app = Arc::new(app(wire, Arc::new(MemoryStore::default()), "http://127.0.0.1:1/"));
    Handler::with(Ready { app, later: Arc::new(Nowhere) })
}

/// What the handler answers: the status, and the body.
async fn answered(handler: &Arc<Handler>, request: axum::http::Request<Body>) -> (u16, Value) {
    let answer = handler.router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn a_body_is_json_by_its_type_behind_both_hosts() {
    let (_azure, folder, host) = stage(508);
    let handler = handler(508);
    let before = runs(folder.path());
    let body = "{\"locations\":[\"eastus\"]}";
    threads(async {
        for (types, status) in [
            (&["text/plain"][..], 415),
            (&["text/plain; charset=application/json"], 415),
            (&["application/x-www-form-urlencoded"], 415),
            (&["multipart/form-data; boundary=x"], 415),
            (&["application/json, text/plain"], 415),
            (&["application/json", "text/plain"], 415),
            (&["application/octet-stream"], 415),
            (&[], 415),
            (&["application/json"], 202),
        ] {
            let ask = client_with(&host, types).body(body).send().await.unwrap();
            assert_eq!(ask.status(), status, "{types:?}");
            let code = header(ask.headers(), "x-ms-error-code").to_owned();
            assert_eq!(code == "UnsupportedMediaType", status == 415, "{types:?}: {code}");
            let headers =
                if types.is_empty() { value!({}) } else { value!({"Content-Type": types}) };
            let envelope = value!({"Data": {"req": {"Method": "POST", "Body": body, "Headers": headers}},
                                   "Metadata": {}});
            let request = invocation("/start", "x").body(Body::from(envelope.to_string())).unwrap();
            let (invoked, answer) = answered(&handler, request).await;
            let reply = &answer["Outputs"]["res"];
            assert_eq!(
                (invoked, &reply["statusCode"]),
                (200, &status.to_string().into()),
                "{types:?}"
            );
            if status == 415 {
                assert_eq!(reply["headers"]["x-ms-error-code"], "UnsupportedMediaType");
                assert_eq!(
                    error_code(reply["body"].as_str().unwrap().as_bytes()),
                    "UnsupportedMediaType"
                );
                assert_eq!(answer["Outputs"].get("work"), None, "{types:?}");
            }
        }
    });
    assert_eq!(runs(folder.path()).len(), before.len() + 1);
}

fn client_with(host: &Host, types: &[&str]) -> reqwest::RequestBuilder {
    let ask = Client::new().post(format!("{}/runs", host.address)).headers(host.keyed());
    types.iter().fold(ask, |ask, one| ask.header("content-type", *one))
}

fn only_what_the_functions_host_sends_is_an_invocation() {
    let handler = handler(509);
    let request = value!({"Method": "POST", "Body": "{\"locations\":[\"eastus\"]}",
                          "Headers": {"Content-Type": ["application/json"]}});
    let start = value!({"Data": {"req": request}, "Metadata": {}}).to_string();
    let changed = |name: &str, values: &[&str]| {
        let mut request = invocation("/start", "11111111-2222-3333-4444-555555555555");
        let headers = request.headers_mut().unwrap();
        headers.remove(name);
        for value in values {
            headers.append(axum::http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        request
    };
    threads(async {
        for (name, values, body, status, code) in [
            ("origin", &["http://evil.example"][..], start.as_str(), 403, "OriginNotAllowed"),
            ("origin", &["null"], &start, 403, "OriginNotAllowed"),
            ("origin", &["http://127.0.0.1:7000"], &start, 403, "OriginNotAllowed"),
            ("sec-fetch-site", &["same-origin"], &start, 403, "OriginNotAllowed"),
            ("host", &["evil.example:7000"], &start, 421, "HostNotServed"),
            ("host", &["127.0.0.1.evil.example"], &start, 421, "HostNotServed"),
            ("host", &["127.0.0.1:7000", "127.0.0.1:7000"], &start, 421, "HostNotServed"),
            ("host", &[], &start, 421, "HostNotServed"),
            ("content-type", &["text/plain"], &start, 415, "UnsupportedMediaType"),
            ("content-type", &["multipart/form-data"], &start, 415, "UnsupportedMediaType"),
            ("content-type", &[], &start, 415, "UnsupportedMediaType"),
            ("x-azure-functions-invocationid", &[], &start, 400, "InvalidInvocation"),
            ("x-azure-functions-invocationid", &[""], &start, 400, "InvalidInvocation"),
            ("x-azure-functions-invocationid", &["a\" b"], &start, 400, "InvalidInvocation"),
            ("accept", &["*/*"], "", 400, "InvalidInvocation"),
            ("accept", &["*/*"], "not json", 400, "InvalidInvocation"),
            ("accept", &["*/*"], "[]", 400, "InvalidInvocation"),
            ("accept", &["*/*"], "{}", 400, "InvalidInvocation"),
            ("accept", &["*/*"], "{\"Data\":{}}", 400, "InvalidInvocation"),
            ("accept", &["*/*"], "{\"Data\":[],\"Metadata\":{}}", 400, "InvalidInvocation"),
        ] {
            let request = changed(name, values).body(Body::from(body.to_owned())).unwrap();
            let (found, answer) = answered(&handler, request).await;
            assert_eq!(
                (found, answer["error"]["code"].as_str()),
                (status, Some(code)),
                "{name} {values:?} {body}"
            );
        }
        // As newer and older hosts send it, and with what .NET and a collector add.
        for (name, value) in [
            ("host", "127.0.0.1:54321"),
            ("host", "localhost:54321"),
            ("content-type", "application/json; charset=utf-8"),
            ("content-type", "application/json"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("request-id", "|4bf92f3577b34da6a3ce929d0e0e4736."),
            ("correlation-context", "a=b"),
        ] {
            let request = changed(name, &[value]).body(Body::from(start.clone())).unwrap();
            let (found, answer) = answered(&handler, request).await;
            let status = &answer["Outputs"]["res"]["statusCode"];
            assert!(
                found == 200 && ["200", "202"].contains(&status.as_str().unwrap()),
                "{name}: {answer}"
            );
        }
    });
}

/// What is proxied keeps whatever its caller sent.
fn proxied_requests_are_answered_without_cors_headers() {
    let handler = handler(510);
    threads(async {
        for path in ["/api/health", "/api/images", "/api/openapi.json"] {
            let request = axum::http::Request::get(path)
                .header("host", "app.example")
                .header("origin", "https://portal.example")
                .header("sec-fetch-site", "cross-site")
                .header("x-azure-functions-invocationid", "x");
            let answer =
                handler.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert!([200, 404, 503].contains(&answer.status().as_u16()), "{path}");
            let mut names = answer.headers().keys().map(axum::http::HeaderName::as_str);
            assert!(names.all(|name| !name.starts_with("access-control-")), "{path}");
        }
    });
}
