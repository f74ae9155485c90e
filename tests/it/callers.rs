//! Which callers the embedded host answers, by Host and Origin: its own pages and named origins, and no others.

use crate::support::callers::{header, paths, refused, runs};
use crate::support::http::stage;
use crate::support::web::Host;
use crate::support::{Azure, finish, json, threads};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use std::io::{Read, Write};
use std::net::TcpStream;

tests![
    no_route_answers_for_another_host_or_another_page,
    a_request_that_names_two_hosts_or_none_is_refused,
    pages_of_named_origins_may_read_and_start_and_no_others,
    a_proxy_has_a_name_of_its_own,
];

/// Names that are not those of a host at `port`.
fn other_hosts(port: &str) -> [String; 10] {
    [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
        "127.0.0.1:1".to_owned(),
        "localhost".to_owned(),
        format!("127.0.0.2:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("evil.localhost:{port}"),
        format!("0.0.0.0:{port}"),
    ]
}

/// Origins of pages that are not those of 127.0.0.1 at `port`.
fn other_origins(port: &str) -> [String; 10] {
    [
        "null".to_owned(),
        String::new(),
        "http://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        "http://127.0.0.1:1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}.evil.example"),
        format!("http://127.0.0.1:{port}/"),
        format!("chrome-extension://127.0.0.1:{port}"),
        format!("http://evil.example, http://127.0.0.1:{port}"),
    ]
}

fn no_route_answers_for_another_host_or_another_page() {
    let (azure, folder, host) = stage(501);
    let port = host.authority().split_once(':').unwrap().1.to_owned();
    let (hosts, origins) = (other_hosts(&port), other_origins(&port));
    let runs_before = runs(folder.path());
    threads(async {
        // With the key: it opens nothing for a page.
        let client = host.caller();
        let origin = format!("http://{}", host.authority());
        for path in paths(&host).await {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "ODD"] {
                let ask = || {
                    client.request(
                        Method::from_bytes(method.as_bytes()).unwrap(),
                        format!("{origin}{path}"),
                    )
                };
                let at = format!("{method} {path}");
                for name in &hosts {
                    let answer = ask().header("host", name).send().await.unwrap();
                    assert_eq!(refused(answer).await, (421, "HostNotServed".into()), "{at} {name}");
                }
                for page in &origins {
                    let answer = ask().header("origin", page).send().await.unwrap();
                    assert_eq!(
                        refused(answer).await,
                        (403, "OriginNotAllowed".into()),
                        "{at} {page}"
                    );
                }
                for site in ["cross-site", "same-site", "odd"] {
                    let answer = ask().header("sec-fetch-site", site).send().await.unwrap();
                    assert_eq!(
                        refused(answer).await,
                        (403, "OriginNotAllowed".into()),
                        "{at} {site}"
                    );
                }
            }
        }
        own_pages_and_links_are_answered(&host, &client).await;
    });
    assert_eq!(runs(folder.path()), runs_before);
    drop(azure);
}

/// Its own names, its own page, and a link that somebody follows.
async fn own_pages_and_links_are_answered(host: &Host, client: &Client) {
    let port = host.authority().split_once(':').unwrap().1;
    let own = [
        ("host", format!("localhost:{port}")),
        ("host", format!("[::1]:{port}")),
        ("host", format!("LOCALHOST:{port}")),
        ("origin", format!("http://127.0.0.1:{port}")),
        ("sec-fetch-site", "same-origin".into()),
        ("sec-fetch-site", "none".into()),
    ];
    for (name, text) in own {
        let answer = client.get(format!("{}/images", host.address)).header(name, &text);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name} {text}");
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin");
        let names: Vec<&str> =
            answer.headers().keys().map(axum::http::HeaderName::as_str).collect();
        assert!(names.iter().all(|name| !name.starts_with("access-control-")), "{names:?}");
    }
    let follow = |path: &str, to: &str| {
        let ask =
            client.get(format!("{}/{path}", host.address)).header("sec-fetch-site", "cross-site");
        ask.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", to).send()
    };
    assert_eq!(follow("images?top=1", "document").await.unwrap().status(), 200);
    assert_eq!(follow("images?top=1", "iframe").await.unwrap().status(), 403);
    assert_eq!(
        follow("images?live=true&publisher=debian", "document").await.unwrap().status(),
        403
    );
}

/// What a host answers to bytes that are sent to it: the status, and all of it.
fn sent(host: &Host, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host.authority()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{request:?}: {answer}"));
    (status.parse().unwrap(), answer)
}

fn a_request_that_names_two_hosts_or_none_is_refused() {
    let (_azure, _folder, host) = stage(502);
    let own = host.authority();
    let end = "Connection: close\r\n\r\n";
    for (line, headers, status) in [
        ("GET /api/runs HTTP/1.1", format!("Host: {own}\r\n"), 200),
        ("GET /api/runs HTTP/1.1", String::new(), 400),
        ("GET /api/runs HTTP/1.0", String::new(), 400),
        ("GET /api/runs HTTP/1.1", format!("Host: {own}\r\nHost: evil.example\r\n"), 400),
        ("GET /api/runs HTTP/1.1", format!("Host: evil.example\r\nHost: {own}\r\n"), 400),
        ("GET /api/runs HTTP/1.1", format!("Host: {own}\r\nHost: {own}\r\n"), 400),
        ("GET /api/runs HTTP/1.1", format!("Host: {own}, evil.example\r\n"), 400),
        ("GET /api/runs HTTP/1.1", format!("Host: evil@{own}\r\n"), 400),
        ("GET /api/runs HTTP/1.1", "Host: \r\n".to_owned(), 400),
        ("GET http://evil.example/api/runs HTTP/1.1", format!("Host: {own}\r\n"), 421),
        (&format!("GET http://{own}/api/runs HTTP/1.1"), "Host: evil.example\r\n".to_owned(), 421),
        (&format!("GET http://{own}/api/runs HTTP/1.1"), format!("Host: {own}\r\n"), 200),
        (
            "GET /api/runs HTTP/1.1",
            format!("Host: {own}\r\nOrigin: http://{own}\r\nOrigin: null\r\n"),
            403,
        ),
    ] {
        let (found, answer) = sent(&host, &format!("{line}\r\n{headers}{end}"));
        assert_eq!(found, status, "{line} {headers}: {answer}");
    }
}

/// Whether an answer is kept for the origin that asked, and no other.
fn varies(headers: &HeaderMap) -> bool {
    headers.get_all("vary").iter().any(|value| value.to_str().unwrap().contains("origin"))
}

/// What a browser is told that asks whether a page of `origin` may ask.
async fn may_ask(client: &Client, host: &Host, origin: &str) {
    for (path, methods) in [("images", "GET,HEAD,OPTIONS"), ("runs", "GET,HEAD,OPTIONS,POST")] {
        let ask = client.request(Method::OPTIONS, format!("{}/{path}", host.address));
        let ask = ask.header("origin", origin).header("access-control-request-method", "POST");
        let answer =
            ask.header("access-control-request-headers", "content-type").send().await.unwrap();
        let headers = answer.headers();
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(header(headers, "access-control-allow-origin"), origin);
        assert_eq!(header(headers, "access-control-allow-methods"), methods);
        let taken = header(headers, "access-control-allow-headers");
        assert!(taken.contains("content-type") && taken.contains("x-functions-key"), "{taken}");
        assert!(varies(headers) && headers.contains_key("access-control-max-age"));
    }
}

fn pages_of_named_origins_may_read_and_start_and_no_others() {
    let azure = Azure::start(generate(Scale::Small, 506));
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    for wrong in ["*", "null", "https://portal.example/path", "portal.example"] {
        let mut command = Host::command(&azure, folder.path());
        let (code, _, stderr) = finish(command.env("AZIMG_CORS_ORIGINS", wrong));
        assert!(code == 2 && stderr.contains("AZIMG_CORS_ORIGINS"), "{wrong}: {code} {stderr}");
    }
    let mut command = Host::command(&azure, folder.path());
    let named = "https://portal.example, http://localhost:8080";
    let host = Host::of(command.env("AZIMG_CORS_ORIGINS", named));
    threads(async {
        let client = Client::new();
        for origin in ["https://portal.example", "http://localhost:8080"] {
            let url = format!("{}/images?top=1", host.address);
            let answer =
                client.get(url).header("origin", origin).header("sec-fetch-site", "cross-site");
            let answer = answer.send().await.unwrap();
            let headers = answer.headers();
            assert_eq!(answer.status(), 200);
            assert_eq!(header(headers, "access-control-allow-origin"), origin);
            assert!(
                varies(headers)
                    && header(headers, "access-control-expose-headers").contains("etag")
            );
            assert!(!headers.contains_key("access-control-allow-credentials"));
            may_ask(&client, &host, origin).await;
            // It reads why it was refused, and starts nothing without the key.
            let start = || client.post(format!("{}/runs", host.address)).header("origin", origin);
            let answer = start().send().await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(header(answer.headers(), "access-control-allow-origin"), origin);
            let answer =
                start().headers(host.starting()).body("{\"force\":true}").send().await.unwrap();
            assert_eq!(answer.status(), 202);
        }
        for origin in [
            "https://portal.example.evil.example",
            "http://portal.example",
            "https://portal.example:8443",
            "null",
        ] {
            for method in [Method::GET, Method::OPTIONS, Method::POST] {
                let ask = client
                    .request(method, format!("{}/runs", host.address))
                    .header("origin", origin);
                let answer =
                    ask.header("access-control-request-method", "GET").send().await.unwrap();
                assert!(varies(answer.headers()), "what is kept for one is not for another");
                assert_eq!(refused(answer).await.0, 403, "{origin}");
            }
        }
        let plain = client.get(format!("{}/images", host.address)).send().await.unwrap();
        assert!(
            varies(plain.headers()) && !plain.headers().contains_key("access-control-allow-origin")
        );
    });
}

fn a_proxy_has_a_name_of_its_own() {
    let azure = Azure::start(generate(Scale::Small, 507));
    let folder = tempfile::tempdir().unwrap();
    for wrong in ["http://x.example", "x.example/api", "a b", "", "me@x.example", "*"] {
        let mut command = Host::command(&azure, folder.path());
        let (code, _, stderr) = finish(command.args(["--name", wrong]));
        assert!(code == 2 && stderr.contains("--name"), "{wrong}: {code} {stderr}");
    }
    let mut command = Host::command(&azure, folder.path());
    let names = ["--name", "catalog.example.com,inner.example.com:8443"];
    let host = Host::of(command.args(names));
    threads(async {
        for (name, origin, status) in [
            ("catalog.example.com", "https://catalog.example.com", 200),
            ("Catalog.Example.com:443", "https://catalog.example.com:443", 200),
            ("catalog.example.com", "https://inner.example.com:8443", 403),
            ("catalog.example.com:8443", "", 421),
            ("inner.example.com:8443", "https://inner.example.com:8443", 200),
            ("inner.example.com", "", 421),
            ("sub.catalog.example.com", "", 421),
            (host.authority(), "", 200),
        ] {
            let ask = Client::new().get(format!("{}/runs", host.address)).header("host", name);
            let ask = if origin.is_empty() { ask } else { ask.header("origin", origin) };
            assert_eq!(ask.send().await.unwrap().status(), status, "{name} {origin}");
        }
    });
}
