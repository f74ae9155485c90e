//! The HTTP API as clients meet it: methods, headers, errors, and the parameters that it refuses.

use crate::support::fleet::{Direct, app};
use crate::support::http::{Nowhere, get, headers, invocation, parsed, stage};
use crate::support::web::Host;
use crate::support::{Azure, threads};
use crate::tests;
use axum::body::Body;
use azimg::testing::handler::{Handler, Ready};
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::memory::MemoryStore;
use reqwest::{Method, Response};
use serde_json::{Value, json as value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

tests![
    head_and_304_have_the_headers_of_get,
    the_allow_header_lists_the_methods_that_work,
    starting_a_run_returns_the_same_headers_behind_both_hosts,
    the_handler_answers_every_request_with_json,
    every_error_is_json_with_a_code,
    requests_that_exclude_every_coding_get_406_with_a_message,
    repeated_and_invalid_parameters_are_refused_by_name,
];

fn head_and_304_have_the_headers_of_get() {
    let (_azure, _folder, host) = stage(93);
    threads(async {
        let client = host.caller();
        for path in
            ["images?top=3", "images/latest?urn=Ubuntu2404", "runs", "openapi.json", "nothing"]
        {
            for coding in ["gzip", "zstd", "identity"] {
                let url = format!("{}/{path}", host.address);
                let ask = |method| client.request(method, &url).header("accept-encoding", coding);
                let whole = ask(Method::GET).send().await.unwrap();
                let head = ask(Method::HEAD).send().await.unwrap();
                assert_eq!(head.status(), whole.status());
                let (mut expected, found) = (headers(&whole), headers(&head));
                // How it travels is of the answer that travels.
                expected.remove("transfer-encoding");
                assert_eq!(found, expected, "{path} {coding}");
                assert_eq!(found["vary"], "accept-encoding");
                let packed = found.contains_key("content-encoding");
                assert_ne!(packed, found.contains_key("content-length"), "{path} {coding}");
                assert!(head.bytes().await.unwrap().is_empty());
                let Some(tag) = whole.headers().get("etag") else { continue };
                let known = ask(Method::GET).header("if-none-match", tag).send().await.unwrap();
                assert_eq!(known.status(), 304);
                let known = headers(&known);
                for name in ["etag", "vary", "cache-control", "last-modified"] {
                    assert_eq!(known.get(name), expected.get(name), "{path} {name}");
                }
            }
        }
    });
}

fn the_allow_header_lists_the_methods_that_work() {
    let (_azure, folder, host) = stage(94);
    let run = crate::support::read_json(&folder.path().join("current.json"));
    let run = run["run"].as_str().unwrap();
    threads(async {
        let client = host.caller();
        let one = format!("runs/{run}");
        for path in ["images", "images/aliases", "changes", "runs", &one, "health", "openapi.json"]
        {
            let url = format!("{}/{path}", host.address);
            let ask = |method| client.request(method, &url).send();
            let allowed = |answer: &Response| {
                let text = answer.headers().get("allow")?.to_str().unwrap();
                Some(text.split(',').map(str::to_owned).collect::<BTreeSet<_>>())
            };
            let said = allowed(&ask(Method::OPTIONS).await.unwrap()).unwrap();
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
                let answer = ask(method.parse().unwrap()).await.unwrap();
                let status = answer.status();
                assert_eq!(status == 405, !said.contains(method), "{method} {path}: {status}");
                match method {
                    "OPTIONS" => assert_eq!(allowed(&answer), Some(said.clone())),
                    _ if status == 405 => {
                        assert_eq!(allowed(&answer), Some(said.clone()), "{method} {path}");
                        assert_eq!(answer.headers()["x-ms-error-code"], "MethodNotAllowed");
                    }
                    _ => assert_eq!(allowed(&answer), None, "{method} {path}"),
                }
            }
            let nowhere = format!("{}/nowhere", host.address);
            let answer = client.request(Method::OPTIONS, nowhere).send().await.unwrap();
            assert_eq!((answer.status().as_u16(), allowed(&answer)), (404, None));
        }
    });
}

/// What the handler answers to the function `start`, as its caller gets it: the status and the headers.
async fn invoked(handler: &Arc<Handler>, body: &str) -> (u16, BTreeMap<String, String>) {
    let envelope = value!({"Data": {"req": {"Method": "POST", "Body": body,
        "Headers": {"Content-Type": ["application/json"]}}}, "Metadata": {}});
    let request = invocation("/start", "an-invocation").body(Body::from(envelope.to_string()));
    let request = request.unwrap();
    let response = handler.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    let reply = &answer["Outputs"]["res"];
    let headers = reply["headers"].as_object().unwrap().iter();
    let headers =
        headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned()));
    (reply["statusCode"].as_str().unwrap().parse().unwrap(), headers.collect())
}

fn starting_a_run_returns_the_same_headers_behind_both_hosts() {
    let azure = Azure::start(generate(Scale::Small, 95));
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&azure, folder.path());
    threads(async {
        let client = host.caller();
        let sim = Sim::new(generate(Scale::Small, 95), Conditions::default());
        let wire = Arc::new(Direct { sim, latency: Duration::ZERO, random: None });
        let app = Arc::new(app(wire, Arc::new(MemoryStore::default()), "http://127.0.0.1:1/"));
        let handler = Handler::with(Ready { app, later: Arc::new(Nowhere) });
        for (body, status, code) in [
            ("{\"locations\":[\"eastus\"]}", 202, None),
            ("{\"colour\":\"red\"}", 400, Some("InvalidParameter")),
            ("[]", 400, Some("InvalidParameter")),
        ] {
            let url = format!("{}/runs", host.address);
            let answer = client.post(url).headers(host.starting()).body(body);
            let answer = answer.send().await.unwrap();
            let embedded = (answer.status().as_u16(), headers(&answer));
            let id = answer.headers()["x-ms-request-id"].to_str().unwrap().to_owned();
            assert!(!id.is_empty());
            let answer = parsed(answer).await;
            let (behind, mut found) = invoked(&handler, body).await;
            assert_eq!(found.remove("x-ms-request-id").unwrap(), "an-invocation");
            for (from, (found_status, headers)) in
                [("handler", (behind, found)), ("host", embedded)]
            {
                assert_eq!(found_status, status, "{from} {body}");
                assert_eq!(headers["content-type"], "application/json; charset=utf-8", "{from}");
                assert_eq!(headers["x-content-type-options"], "nosniff", "{from}");
                assert_eq!(headers.get("x-ms-error-code").map(String::as_str), code, "{from}");
                let location = headers.get("location").map(|at| at.starts_with("/api/runs/"));
                assert_eq!(location, (status == 202).then_some(true), "{from}");
                if let (Some(location), "host") = (headers.get("location"), from) {
                    assert_eq!(*location, format!("/api/runs/{}", answer["run"].as_str().unwrap()));
                }
            }
        }
    });
}

fn the_handler_answers_every_request_with_json() {
    threads(async {
        let handler =
            Handler::new(|| Box::pin(async { Err(azimg::testing::error::Error::bug("no app")) }));
        for (method, path, body, status) in [
            ("GET", "/", &b""[..], 200),
            ("GET", "/crawl", b"", 405),
            ("PUT", "/crawl", b"{}", 405),
            ("POST", "/", b"{}", 405),
            ("POST", "/nothing", b"{}", 404),
            ("POST", "/%ff", b"{}", 404),
            ("GET", "/far/away", b"", 404),
            ("POST", "/crawl", b"\xff", 400),
            ("POST", "/crawl", b"{}", 400),
            ("POST", "/crawl", b"{\"Data\":{},\"Metadata\":{}}", 500),
        ] {
            let request = invocation(path, "an-invocation").method(method);
            let request = request.body(Body::from(body.to_vec())).unwrap();
            let answer = handler.router().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            let kind = answer.headers()["content-type"].to_str().unwrap();
            assert!(kind.starts_with("application/json"), "{method} {path}: {kind}");
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"]["code"].is_string(), status != 200, "{method} {path}: {body}");
        }
    });
}

fn every_error_is_json_with_a_code() {
    let (_azure, _folder, host) = stage(96);
    let origin = host.address.trim_end_matches("/api");
    let large = vec![b' '; (2 << 20) + 1];
    let cases: [(&str, &str, &[u8], u16, &str); 13] = [
        ("GET", "/api/images/%ff", b"", 400, "InvalidParameter"),
        ("GET", "/api/runs/%ff", b"", 400, "InvalidParameter"),
        ("GET", "/api/runs/x", b"", 400, "InvalidParameter"),
        ("POST", "/api/runs", b"\xff\xfe", 400, "InvalidParameter"),
        ("POST", "/api/runs", &large, 413, "RequestBodyTooLarge"),
        ("GET", "/api/images", &large, 413, "RequestBodyTooLarge"),
        ("GET", "/api/%ff", b"", 404, "NotFound"),
        ("GET", "/api", b"", 404, "NotFound"),
        ("GET", "/api/", b"", 404, "NotFound"),
        ("GET", "/nothing", b"", 404, "NotFound"),
        ("POST", "/start", b"{}", 404, "NotFound"),
        ("POST", "/", b"", 405, "MethodNotAllowed"),
        ("PUT", "/api/images/a:b:c:d", b"", 405, "MethodNotAllowed"),
    ];
    threads(async {
        let client = host.caller();
        for (method, path, body, status, code) in cases {
            let request = client.request(method.parse().unwrap(), format!("{origin}{path}"));
            let answer = request.body(body.to_vec()).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            let headers = headers(&answer);
            assert_eq!(headers["content-type"], "application/json; charset=utf-8", "{path}");
            assert_eq!(headers["x-ms-error-code"], code, "{method} {path}");
            assert!(answer.headers().contains_key("x-ms-request-id"), "{method} {path}");
            let error = parsed(answer).await;
            assert_eq!(error["error"]["code"], code, "{method} {path}");
            assert!(!error["error"]["message"].as_str().unwrap().is_empty());
        }
        assert_eq!(get(&client, &format!("{origin}/api/health")).await.0, 200, "it serves on");
    });
}

fn requests_that_exclude_every_coding_get_406_with_a_message() {
    let (_azure, _folder, host) = stage(97);
    threads(async {
        let client = host.caller();
        for coding in ["gzip;q=0, identity;q=0", "*;q=0", "identity;q=0, br"] {
            for path in ["images?top=3", "health", "runs"] {
                let url = format!("{}/{path}", host.address);
                let ask = client.get(&url).header("accept-encoding", coding);
                let answer = ask.send().await.unwrap();
                assert_eq!(answer.status(), 406, "{coding}");
                let headers = headers(&answer);
                for name in ["etag", "last-modified", "cache-control", "content-encoding"] {
                    assert!(!headers.contains_key(name), "{coding} {path}: {name}");
                }
                assert_eq!(headers["x-ms-error-code"], "NotAcceptable");
                assert_eq!(parsed(answer).await["error"]["code"], "NotAcceptable");
            }
        }
    });
}

fn repeated_and_invalid_parameters_are_refused_by_name() {
    let (_azure, _folder, host) = stage(98);
    threads(async {
        let client = host.caller();
        for (query, target) in [
            ("images?publisher=a&publisher=canonical", "publisher"),
            ("images?top=1&top=2", "top"),
            ("images?top=1&publisher=a&top=1", "top"),
            ("images?exact=true&exact=true", "exact"),
            ("images?top=%2B5", "top"),
            ("images?top=05", "top"),
            ("images?top=5.0", "top"),
            ("images?top=", "top"),
            ("images?exact=1", "exact"),
            ("images?live=yes", "live"),
            ("images?status=actve", "status"),
            ("images?kind=vm", "kind"),
            ("images?os=Linus", "os"),
            ("images?architecture=x46", "architecture"),
            ("images/latest?urn=Ubuntu2404&urn=Debian12", "urn"),
            ("images/latest?urn=Hv", "urn"),
            ("images/usage?finding=odd", "finding"),
            ("changes?run=x", "run"),
            ("changes?change=odd", "change"),
            ("runs?top=1&top=1", "top"),
        ] {
            let (status, refused) = get(&client, &format!("{}/{query}", host.address)).await;
            assert_eq!((status, &refused["error"]["target"]), (400, &target.into()), "{query}");
        }
        let list = |query: &str| {
            let url = format!("{}/images?top=5&{query}", host.address);
            let client = client.clone();
            async move {
                let (status, page) = get(&client, &url).await;
                assert_eq!(status, 200, "{url}: {page}");
                page["value"].clone()
            }
        };
        let exact = list("publisher=Canonical&exact=true").await;
        assert_ne!(exact, value!([]));
        for flag in ["True", "TRUE", "true"] {
            assert_eq!(list(&format!("publisher=Canonical&exact={flag}")).await, exact, "{flag}");
            let part = list(&format!("publisher=Canonica&exact={flag}")).await;
            assert_eq!(part, value!([]), "{flag}");
        }
        assert_eq!(list("publisher=Canonical&exact=False").await, exact);
        // These may be repeated, and names of a set are taken in any case.
        list("location=eastus&location=westus2&status=Active&architecture=ARM64&os=linux").await;
    });
}
