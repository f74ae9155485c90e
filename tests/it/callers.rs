//! Who is answered: the embedded host's callers by Host, Origin and key, the handler's by the form of what they send.

use crate::support::callers::{asked, runs};
use crate::support::fleet::{Direct, app};
use crate::support::http::{Nowhere, invocation, stage};
use crate::support::web::Host;
use crate::support::{Azure, finish, json, threads};
use crate::tests;
use async_trait::async_trait;
use axum::body::Body;
use azimg::handler::{Handler, MessageSender, Ready};
use azimg::sim::{Conditions, Scale, Sim, generate};
use azimg::store::memory::MemoryStore;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json as value};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

tests![
    no_route_answers_for_another_host_or_another_page,
    a_request_that_names_two_hosts_or_none_is_refused,
    what_starts_something_takes_the_key_and_nothing_else_does,
    a_key_is_made_once_and_is_its_owners_alone,
    a_host_without_a_key_says_what_it_gives_up,
    pages_of_named_origins_may_read_and_start_and_no_others,
    a_proxy_has_a_name_of_its_own,
    a_body_is_json_by_its_type_behind_both_hosts,
    only_what_the_functions_host_sends_is_an_invocation,
    what_is_proxied_is_answered_and_for_no_page_by_the_program,
];

/// All paths of the document, with what is in it, and paths that nothing is at.
async fn paths(host: &Host) -> Vec<String> {
    let document = Client::new().get(format!("{}/openapi.json", host.address));
    let document: Value =
        serde_json::from_slice(&document.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let routes = document["paths"].as_object().unwrap().keys();
    let routes = routes.map(|route| {
        route.replace("{urn}", "a:b:c:1.0.0").replace("{run}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    });
    let nothing =
        ["/", "/nothing", "/api", "/api/", "/api/nothing", "/api/%ff", "/start", "/crawl"];
    let paths: Vec<String> = routes.chain(nothing.map(str::to_owned)).collect();
    assert!(paths.len() > 15, "{paths:?}");
    paths
}

fn error_code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    body["error"]["code"].as_str().unwrap().to_owned()
}

/// The status and the code of a refusal, which has the form of every error and is for no page.
async fn refused(answer: Response) -> (u16, String) {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    assert!(
        headers.keys().all(|name| !name.as_str().starts_with("access-control-")),
        "{headers:?}"
    );
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert!(headers.contains_key("x-ms-request-id"));
    let code = headers["x-ms-error-code"].to_str().unwrap().to_owned();
    let body = answer.bytes().await.unwrap();
    if !body.is_empty() {
        assert_eq!(error_code(&body), code);
    }
    (status, code)
}

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

fn what_starts_something_takes_the_key_and_nothing_else_does() {
    let (azure, folder, host) = stage(503);
    let (before, runs_before) = (asked(&azure), runs(folder.path()));
    let wrong = format!("{}x", host.key);
    threads(async {
        let (client, at) = (Client::new(), |path: &str| format!("{}/{path}", host.address));
        let post =
            |url: String| client.post(url).header("content-type", "application/json").body("{}");
        for answer in [
            post(at("runs")).send().await.unwrap(),
            post(at(&format!("runs?code={wrong}"))).send().await.unwrap(),
            post(at("runs?code=")).send().await.unwrap(),
            post(at("runs")).header("x-functions-key", &wrong).send().await.unwrap(),
            post(at("runs")).header("x-functions-key", &host.key[1..]).send().await.unwrap(),
            post(at("runs")).header("authorization", &host.key).send().await.unwrap(),
            // The header comes before the address, as in Azure.
            post(at(&format!("runs?code={}", host.key)))
                .header("x-functions-key", "")
                .send()
                .await
                .unwrap(),
            client.put(at("images")).send().await.unwrap(),
            client.delete(at("runs")).send().await.unwrap(),
            client.get(at("images/usage")).send().await.unwrap(),
            client.head(at("images/usage?top=1")).send().await.unwrap(),
            client
                .get(at("images?live=true&publisher=debian&location=eastus"))
                .send()
                .await
                .unwrap(),
            client.get(at("images?publisher=debian&%6Cive=TRUE")).send().await.unwrap(),
        ] {
            let at = answer.url().to_string();
            assert!(answer.headers().contains_key("www-authenticate"), "{at}");
            let text = refused(answer).await;
            assert_eq!(text, (401, "AuthenticationFailed".into()), "{at}");
        }
        let answer = post(at("runs")).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("host.key") && answer.contains("x-functions-key"), "{answer}");
        assert!(!answer.contains(folder.path().to_str().unwrap()), "{answer}");
        // Whatever can be read without it, nothing of it asks Azure.
        for path in paths(&host).await {
            for query in
                ["", "?top=1", "?urn=Ubuntu2404", "?live=true&publisher=debian&location=eastus"]
            {
                let url = format!("http://{}{path}{query}", host.authority());
                let answer = client.get(&url).send().await.unwrap();
                let takes = path.ends_with("/usage")
                    || (path.ends_with("/images") && query.contains("live"));
                assert_eq!(answer.status() == 401, takes, "{url}");
            }
        }
        assert_eq!((asked(&azure), runs(folder.path())), (before, runs_before.clone()));
        // With it: in the header, or in the address under a name of any case.
        let started =
            client.post(at("runs")).headers(host.starting()).body("{\"locations\":[\"eastus\"]}");
        assert_eq!(started.send().await.unwrap().status(), 202);
        let started = post(at(&format!("runs?Code={}", host.key))).body("{\"force\":true}");
        assert_eq!(started.send().await.unwrap().status(), 202);
        let usage = client.get(at(&format!("images/usage?code={}", host.key)));
        assert_ne!(usage.send().await.unwrap().status(), 401);
    });
    assert_eq!(runs(folder.path()).len(), runs_before.len() + 2);
    assert!(asked(&azure) > before);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn a_key_is_made_once_and_is_its_owners_alone() {
    let azure = Azure::start(generate(Scale::Small, 504));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = store.join("host.key");
    let first = Host::start(&azure, &store);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!((kept.trim_end(), mode(&file)), (first.key.as_str(), 0o600));
    assert!(first.key.len() >= 43, "{}", first.key);
    assert!(
        first.said.iter().any(|line| line.contains(file.to_str().unwrap())),
        "{:?}",
        first.said
    );
    drop(first);
    let again = Host::start(&azure, &store);
    assert_eq!(again.key, kept.trim_end(), "the next start takes the same");
    drop(again);
    // Another store has another.
    let other = Host::start(&azure, &folder.path().join("other"));
    assert_ne!(other.key, kept.trim_end());
    drop(other);

    let refuses = |why: &str| {
        let (code, _, stderr) = finish(&mut Host::command(&azure, &store));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("host.key") && stderr.contains(why), "{stderr}");
        let what_to_do = ["emove the file", "name the file that it leads to"];
        assert!(what_to_do.iter().any(|text| stderr.contains(text)), "{stderr}");
        assert!(
            !stderr.contains(kept.trim_end()) && !stderr.contains("functions are at"),
            "{stderr}"
        );
    };
    for others in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(others)).unwrap();
        refuses("others may read or change it");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    for text in [
        "",
        "short\n",
        "x".repeat(300).as_str(),
        "a key with spaces in it is no key at all, or is it\n",
    ] {
        std::fs::write(&file, text).unwrap();
        refuses("32 to 256");
    }
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, &kept).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    refuses("it is a link");
    std::fs::remove_file(&file).unwrap();
    symlink(folder.path().join("nothing"), &file).unwrap();
    refuses("it is a link");
    assert!(!folder.path().join("nothing").exists(), "nothing is made through a link");
    // A key of one's own, where one wants it.
    std::fs::remove_file(&file).unwrap();
    let mut command = Host::command(&azure, &store);
    let host = Host::of(command.args(["--key-file", elsewhere.to_str().unwrap()]));
    assert_eq!((host.key.as_str(), file.exists()), (kept.trim_end(), false));
}

fn a_host_without_a_key_says_what_it_gives_up() {
    let azure = Azure::start(generate(Scale::Small, 505));
    let folder = tempfile::tempdir().unwrap();
    let host = Host::of(Host::command(&azure, folder.path()).arg("--no-key"));
    let said = host.said.join("\n");
    assert!(said.contains("--no-key") && said.contains("every user of this machine"), "{said}");
    assert!(host.key.is_empty() && !folder.path().join("host.key").exists());
    threads(async {
        let start = || Client::new().post(format!("{}/runs", host.address));
        let foreign = start().header("origin", "http://evil.example").send().await.unwrap();
        assert_eq!(refused(foreign).await.0, 403, "pages are refused all the same");
        let form = start().header("content-type", "text/plain").body("{}").send().await.unwrap();
        assert_eq!(form.status(), 415);
        assert_eq!(start().send().await.unwrap().status(), 202);
    });
    let help = finish(&mut azure.azimg(&["host", "--help"])).1;
    for word in
        ["--no-key", "x-functions-key", "curl -X POST", "host.key", "AZIMG_CORS_ORIGINS", "--name"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
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
fn what_is_proxied_is_answered_and_for_no_page_by_the_program() {
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
