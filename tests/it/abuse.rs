//! Callers that mean no good, and names that are no names.

use crate::support::web::Host;
use crate::support::{Azure, azimg, finish, json, threads, write_rows};
use crate::tests;
use async_trait::async_trait;
use axum::body::Body;
use azimg::testing::config::{Config, Flags};
use azimg::testing::handler::{Handler, MessageSender, Ready};
use azimg::testing::sim::{Scale, SimCredential, World, generate};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json as value};
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

tests![
    a_request_for_a_run_reaches_no_other_host,
    the_names_of_a_request_are_checked_before_anything_is_asked,
    oversized_requests_and_parameters_are_refused,
    errors_contain_no_path_and_no_stack,
    stored_markup_is_served_as_text,
];

struct Stage {
    azure: Azure,
    host: Host,
    client: Client,
    folder: tempfile::TempDir,
}

/// A host whose catalog was crawled from `world`.
fn stage(world: World) -> Stage {
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, &store);
    Stage { azure, host, client: Client::new(), folder }
}

fn parsed(answer: Response) -> Value {
    serde_json::from_str(&answer.text().unwrap()).unwrap_or_default()
}

impl Stage {
    fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.host.address)).send().unwrap()
    }

    fn start(&self, body: &str) -> (u16, Value) {
        let posted = self.client.post(format!("{}/runs", self.host.address));
        let posted = posted.headers(self.host.starting()).body(body.to_owned());
        let answer = posted.send().unwrap();
        (answer.status().as_u16(), parsed(answer))
    }
}

fn a_request_for_a_run_reaches_no_other_host() {
    let stage = stage(generate(Scale::Small, 301));
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let host = elsewhere.local_addr().unwrap().to_string();
    let asked = stage.azure.asked("ListSubscriptions");
    let names = [
        format!("http://{host}/"),
        format!("//{host}/"),
        format!("1@{host}"),
        "../../metadata/instance".to_owned(),
        "a?api-version=1#".to_owned(),
        "x%2f..%2fy".to_owned(),
        "a\r\nHost: evil".to_owned(),
        "..".to_owned(),
        String::new(),
    ];
    for name in &names {
        for member in ["subscriptions", "locations"] {
            let (status, answer) = stage.start(&value!({ member: [name] }).to_string());
            assert_eq!(status, 400, "{member} {name}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().starts_with(member), "{answer}");
        }
    }
    // Nobody is asked who else could be meant.
    for body in
        ["{\"store\":\"https://evil.example/c\"}", "{\"endpoint\":\"x\"}", "[]", "{", "\"x\""]
    {
        assert_eq!(stage.start(body).0, 400, "{body}");
    }
    assert!(elsewhere.accept().is_err(), "somebody connected");
    assert_eq!(stage.azure.asked("ListSubscriptions"), asked);
}

/// A way past the host that leads nowhere.
struct Nowhere;

#[async_trait]
impl MessageSender for Nowhere {
    async fn send(&self, _: &str, _: &str, _: Duration) -> azimg::testing::error::Result<()> {
        Ok(())
    }
}

/// What a caller of the function app gets for a request for a run.
async fn asked_for(handler: &Arc<Handler>, body: &str) -> Value {
    let headers = value!({"Content-Type": ["application/json"]});
    let envelope = value!({"Data": {"req": {"Method": "POST", "Body": body, "Headers": headers}}, "Metadata": {}});
    let request = crate::support::http::invocation("/start", "an-invocation");
    let request = request.body(Body::from(envelope.to_string())).unwrap();
    let answer = handler.router().oneshot(request).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    answer["Outputs"]["res"].clone()
}

fn the_names_of_a_request_are_checked_before_anything_is_asked() {
    let azure = Azure::start(generate(Scale::Small, 304));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let flags = Flags { store: Some(store.to_str().unwrap().into()), ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let config = config.with_resource_manager(azure.running.arm.clone(), Arc::new(SimCredential));
    let app = config.app().unwrap().0;
    let handler = Handler::with(Ready { app, later: Arc::new(Nowhere) });
    let id = azure.sim.subscriptions[0].as_str();
    let cases = [
        (value!({"sources": ["moon"]}), "sources"),
        (value!({"locations": ["eastus", "east/us"]}), "locations"),
        (value!({"locations": [" eastus"]}), "locations"),
        (value!({"locations": ["x".repeat(91)]}), "locations"),
        (value!({"subscriptions": [id, "mine"]}), "subscriptions"),
        (value!({"subscriptions": [format!("{id}/")]}), "subscriptions"),
        (value!({"publishers": ["a b"]}), "publishers"),
        (value!({"publishers": ["'; drop table"]}), "publishers"),
        (value!({"publishers": ["\u{202e}lacinonac"]}), "publishers"),
        (value!({"publishers": ["x".repeat(257)]}), "publishers"),
        (value!({"details": "some"}), "details"),
        (value!({"offersMaxAge": u64::MAX}), "offersMaxAge"),
        (value!({"registries": ["evil.example"]}), "registries"),
    ];
    threads(async {
        for (body, member) in cases {
            let answer = asked_for(&handler, &body.to_string()).await;
            assert_eq!(answer["statusCode"], "400", "{body}: {answer}");
            assert_eq!(answer["headers"]["x-ms-error-code"], "InvalidParameter", "{body}");
            assert_eq!(answer["headers"]["x-ms-request-id"], "an-invocation", "{body}");
            let error: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            let error = &error["error"];
            assert_eq!(
                (&error["code"], &error["target"]),
                (&"InvalidParameter".into(), &member.into())
            );
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(member) && message.replace('…', "").is_ascii(), "{message}");
        }
        assert_eq!(azure.sim.stats.to_json()["requests"], 0);
        assert!(!store.exists(), "nothing was begun");
        let whole =
            value!({"locations": ["East US"], "subscriptions": [id], "publishers": ["canonical"]});
        let answer = asked_for(&handler, &whole.to_string()).await;
        assert_eq!(answer["statusCode"], "202", "{answer}");
        assert_eq!(answer["headers"]["x-ms-request-id"], "an-invocation");
    });
}

fn oversized_requests_and_parameters_are_refused() {
    let stage = stage(generate(Scale::Small, 302));
    let long = "x".repeat(9 << 10);
    let answer = stage.get(&format!("/images?publisher={long}"));
    assert_eq!(answer.status(), 400);
    assert!(answer.text().unwrap().contains("longer than 8 KiB"));
    for path in ["/images?top=0", "/images?top=1001", "/images?top=-1", "/images?skipToken=%00"] {
        assert_eq!(stage.get(path).status(), 400, "{path}");
    }
    let many = value!({"publishers": vec!["some publisher"; 20_000]}).to_string();
    let (status, answer) = stage.start(&many);
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("256 KiB"), "{answer}");
    let (status, _) = stage.start(&format!("{{\"publishers\":[{long:?}]}}"));
    assert_eq!(status, 400);
    // Few enough for the body, and too many for a queue's message: the member and the bound are named.
    let names: Vec<String> = (0..2_600).map(|n| format!("some-publisher-{n:04}")).collect();
    for member in ["publishers", "subscriptions", "locations"] {
        let (status, answer) = stage.start(&value!({member: names}).to_string());
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!((status, &answer["error"]["target"]), (400, &member.into()), "{answer}");
        assert!(message.starts_with(member) && message.contains("20 KiB"), "{message}");
    }
    assert_eq!(
        stage
            .client
            .delete(format!("{}/runs", stage.host.address))
            .headers(stage.host.keyed())
            .send()
            .unwrap()
            .status(),
        405
    );
    assert_eq!(stage.get("/health").status(), 200, "it serves on");
}

fn errors_contain_no_path_and_no_stack() {
    let stage = stage(generate(Scale::Small, 303));
    let store = stage.folder.path().join("store");
    let here = stage.folder.path().to_str().unwrap();
    // What is served from memory still is; what has to be read anew cannot be.
    for entry in std::fs::read_dir(store.join("snapshots")).unwrap() {
        let folder = entry.unwrap().path();
        std::fs::write(folder.join("coverage.json"), "{").unwrap();
        std::fs::write(folder.join("gallery.ndjson.zst"), "no rows").unwrap();
        std::fs::write(folder.join("changes.ndjson.zst"), "no rows").unwrap();
    }
    let runs = parsed(stage.get("/runs"));
    let run = runs["value"][0]["run"].as_str().unwrap().to_owned();
    std::fs::write(store.join("current.json"), "{\"run\":").unwrap();
    let mut failed = 0;
    for path in [
        format!("/runs/{run}"),
        "/changes".to_owned(),
        "/images?kind=gallery-version".to_owned(),
        "/runs".to_owned(),
        "/health".to_owned(),
        "/nothing/here".to_owned(),
        "/images/x:y:z:1".to_owned(),
    ] {
        let answer = stage.get(&path);
        failed += u32::from(answer.status().is_server_error());
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        let text = answer.text().unwrap();
        let reported = [here, "/root", "src/", ".rs:", "panicked", "stack backtrace"];
        assert!(reported.iter().all(|word| !text.contains(word)), "{path}: {text}");
    }
    assert!(failed >= 3, "the store was not damaged enough to try it");
}

fn stored_markup_is_served_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    let names = [
        "<script>alert(1)</script>",
        "=HYPERLINK(\"http://evil\")",
        "@SUM(1)",
        "+1",
        "-1+2",
        "\t=1",
    ];
    let rows: Vec<Value> = names
        .iter()
        .map(|name| value!({"publisher": name, "offer": "o", "sku": "s", "version": "1.0.0"}))
        .collect();
    write_rows(&file, &rows);
    let stage = stage(World::load(&[&file]).unwrap());
    let answer = stage.get("/images");
    assert_eq!(answer.headers()["content-type"], "application/json; charset=utf-8");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let found = parsed(answer);
    assert_eq!(found["value"].as_array().unwrap().len(), names.len());
    let store = stage.folder.path().join("store");
    for format in ["csv", "tsv"] {
        let arguments = ["images", "list", "--store", store.to_str().unwrap(), "-o", format];
        let (code, stdout, _) = finish(&mut azimg(&arguments));
        assert_eq!(code, 0);
        let between = if format == "csv" { ',' } else { '\t' };
        for cell in stdout.lines().flat_map(|line| line.split(between)) {
            let cell = cell.trim_start_matches('"');
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{format}: {cell}");
        }
    }
}
