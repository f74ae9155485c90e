//! Lookups over HTTP from the embedded host.

use crate::support::web::{Host, get};
use crate::support::{Azure, json, threads, wait_until};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use reqwest::Client;
use serde_json::Value;

tests![
    lookups_are_answered_from_the_published_snapshot,
    a_key_in_the_address_is_taken_by_every_route,
    a_killed_host_resumes_its_run,
];

/// Waits until a run is published; what health says then.
async fn healthy(client: &Client, address: &str) -> Value {
    let mut healthy = Value::Null;
    wait_until("a published run", async || {
        let (status, health) = get(client, &format!("{address}/health")).await;
        healthy = health;
        status == 200
    })
    .await;
    healthy
}

fn lookups_are_answered_from_the_published_snapshot() {
    threads(lookups());
}

/// The rows of all pages, by links that are followed as they are.
async fn all_pages(client: &Client, first: String) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = Some(first);
    while let Some(url) = next {
        let (status, page) = get(client, &url).await;
        assert_eq!(status, 200);
        found.extend(page["value"].as_array().unwrap().clone());
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    found
}

async fn lookups() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_owned();
    let (azure, host) = tokio::task::spawn_blocking(move || {
        let azure = Azure::start(generate(Scale::Small, 41));
        let path = store.to_str().unwrap();
        let host = Host::start(&azure, &store);
        // The host has the store to itself; a crawl goes through it.
        let refused = azure.azimg(&["crawl", "--store", path]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("another crawl"));
        (azure, host)
    })
    .await
    .unwrap();
    let client = host.caller();
    let at = |path: &str| format!("{}/{path}", host.address);
    assert_eq!(get(&client, &at("health")).await.0, 503);
    assert_eq!(get(&client, &at("images")).await.0, 404);
    let start = |body: &'static str| client.post(at("runs")).headers(host.starting()).body(body);
    let started = start("{\"details\":\"all\"}").send().await.unwrap();
    assert_eq!(started.status(), 202);
    let refused = start("{\"detail\":\"all\"}").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    healthy(&client, &host.address).await;

    let found = all_pages(&client, at("images?top=100")).await;
    let run = found[0]["observedRun"].as_str().unwrap().to_owned();
    let (_, listed) = get(&client, &at(&format!("runs/{run}"))).await;
    assert_eq!(listed["images"], found.len());
    assert_eq!(listed["state"], "complete");

    let id = found[0]["id"].as_str().unwrap();
    assert_eq!(get(&client, &at(&format!("images/{id}"))).await, (200, found[0].clone()));
    let (status, latest) =
        get(&client, &at("images/latest?urn=Canonical:ubuntu-24_04-lts:server&location=eastus"))
            .await;
    assert_eq!((status, &latest["isLatest"]), (200, &true.into()));
    let (status, error) = get(&client, &at("images/latest?urn=No:such:image")).await;
    assert_eq!((status, &error["error"]["code"]), (404, &"NotFound".into()));
    let (status, error) = get(&client, &at("images?colour=red")).await;
    assert_eq!(status, 400);
    assert!(error["error"]["message"].as_str().unwrap().contains("'colour'"));
    assert_eq!(get(&client, &at("nothing")).await.0, 404);

    let response = client.get(at("images?top=1")).send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    assert!(response.headers().contains_key("x-ms-request-id"));
    let again = client.get(at("images?top=1")).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    asks_as_browsers_and_caches_do(&client, &host.address).await;
    let (status, live) =
        get(&client, &at("images?live=true&publisher=debian&location=eastus&top=5")).await;
    assert_eq!((status, live["value"].as_array().unwrap().len()), (200, 5));
    drop(host);
    tokio::task::spawn_blocking(move || {
        let path = folder.path().to_str().unwrap();
        let runs = json(&mut azure.azimg(&["runs", "list", "--store", path, "-o", "json"]));
        assert_eq!(runs[0]["run"], run);
    })
    .await
    .unwrap();
}

/// HEAD, OPTIONS, conditions, compression, methods that are not served.
async fn asks_as_browsers_and_caches_do(client: &Client, address: &str) {
    let at = |path: &str| format!("{address}/{path}");
    let plain = |request: reqwest::RequestBuilder| request.header("accept-encoding", "identity");
    let get = plain(client.get(at("images?top=3"))).send().await.unwrap();
    let modified = get.headers()["last-modified"].clone();
    let head = plain(client.head(at("images?top=3"))).send().await.unwrap();
    assert_eq!(head.status(), 200);
    for name in ["etag", "last-modified", "content-length", "content-type", "cache-control"] {
        assert_eq!(head.headers()[name], get.headers()[name], "{name}");
    }
    assert!(head.bytes().await.unwrap().is_empty());
    let since = client.get(at("images?top=3")).header("if-modified-since", modified);
    assert_eq!(since.send().await.unwrap().status(), 304);
    let old = "Thu, 01 Jan 2015 00:00:00 GMT";
    let since = client.get(at("images?top=3")).header("if-modified-since", old);
    assert_eq!(since.send().await.unwrap().status(), 200);
    for coding in ["gzip", "zstd"] {
        let as_it_comes = Client::builder().no_gzip().build().unwrap();
        let packed = as_it_comes.get(at("images?top=500")).header("accept-encoding", coding);
        let packed = packed.send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], coding);
        assert_eq!(packed.headers()["vary"], "accept-encoding");
    }
    let methods = client.request(reqwest::Method::OPTIONS, at("images")).send().await.unwrap();
    assert_eq!(methods.status(), 204);
    assert_eq!(methods.headers()["allow"], "GET,HEAD,OPTIONS");
    let wrong = client.put(at("images")).send().await.unwrap();
    assert_eq!(
        (wrong.status().as_u16(), wrong.headers().contains_key("x-ms-request-id")),
        (405, true)
    );
    assert_eq!(wrong.headers()["x-ms-error-code"], "MethodNotAllowed");

    let (_, page) = self::get(client, &at("images?search=ubuntu&top=1")).await;
    let id = page["value"][0]["id"].as_str().unwrap();
    let (_, one) = self::get(client, &at(&format!("images?id={}", id.to_uppercase()))).await;
    assert_eq!(one["value"][0]["id"], id);
    let (_, none) = self::get(client, &at(&format!("images?id={id}&publisher=debian"))).await;
    assert_eq!(none["value"], serde_json::json!([]));
    let (_, aliases) = self::get(client, &at("images/aliases")).await;
    let linux = &aliases["outputs"]["aliases"]["value"]["Linux"];
    let url = at("images/latest?urn=ubuntu2404");
    let (status, latest) = self::get(client, &url).await;
    assert_eq!((status, &latest["version"]), (200, &linux["Ubuntu2404"]["version"]));
    let (_, changes) = self::get(client, &at("changes")).await;
    assert_eq!(changes["value"], serde_json::json!([]));
    let (_, document) = self::get(client, &at("openapi.json")).await;
    assert_eq!(document["openapi"], "3.1.0");
}

/// The status, the body and the headers that tell of caches.
async fn whole(client: &Client, url: &str) -> (u16, Value, Vec<Option<String>>) {
    let answer = client.get(url).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let header = |name: &&str| headers.get(*name).map(|value| value.to_str().unwrap().to_owned());
    let headers = ["etag", "cache-control", "content-type"].iter().map(header).collect();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(), headers)
}

fn a_key_in_the_address_is_taken_by_every_route() {
    let azure = Azure::start(generate(Scale::Small, 43));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let report = json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
    let run = report["run"].as_str().unwrap();
    let host = Host::start(&azure, folder.path());
    threads(async {
        let client = host.caller();
        let at = |path: &str| format!("{}/{path}", host.address);
        let (_, document) = get(&client, &at("openapi.json")).await;
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!(schemes["keyInHeader"]["name"], "x-functions-key");
        assert_eq!(schemes["keyInQuery"]["in"], "query");
        assert_eq!(schemes["keyInQuery"]["name"], "code");
        let (_, images) = get(&client, &at("images?top=1")).await;
        let id = images["value"][0]["id"].as_str().unwrap();
        let routes = document["paths"].as_object().unwrap();
        let routes = routes.iter().filter(|(_, operations)| operations.get("get").is_some());
        for (route, _) in routes {
            let route = route.replace("{urn}", id).replace("{run}", run);
            let route = match route.strip_prefix("/api/").unwrap() {
                "images/latest" => "images/latest?urn=Ubuntu2404&".to_owned(),
                route => format!("{route}?"),
            };
            let mut plain = whole(&client, &at(&route)).await;
            assert!([200, 502].contains(&plain.0), "{route}: {plain:?}");
            for key in ["code=K", "%63ode=K&clientId=default", "CODE=K%00&api-version=2024-07-01"] {
                let mut with = whole(&client, &at(&format!("{route}{key}"))).await;
                for answer in [&mut plain.1, &mut with.1] {
                    if let Some(age) = answer.pointer_mut("/ageSeconds") {
                        *age = 0.into();
                    }
                }
                assert_eq!(with, plain, "{route}{key}");
            }
            let (status, wrong) = get(&client, &at(&format!("{route}colour=red&code=K"))).await;
            assert_eq!((status, &wrong["error"]["target"]), (400, &"colour".into()), "{route}");
        }
        let (_, page) = get(&client, &at("images?top=1&code=K&clientId=me")).await;
        let link = page["nextLink"].as_str().unwrap();
        assert!(!link.contains("=K") && !link.contains("=me"), "{link}");
        // A list is the same list with another key, and without one.
        for key in ["&code=other", "&code=K", ""] {
            assert_eq!(get(&client, &format!("{link}{key}")).await.0, 200, "{link}{key}");
        }
    });
}

fn a_killed_host_resumes_its_run() {
    threads(async {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_owned();
        let (azure, host) = tokio::task::spawn_blocking(move || {
            let latency = std::time::Duration::from_millis(30);
            let azure = Azure::start_with(generate(Scale::Small, 42), latency, None);
            let host = Host::start(&azure, &store);
            (azure, host)
        })
        .await
        .unwrap();
        let client = Client::new();
        let start = client.post(format!("{}/runs", host.address)).headers(host.keyed());
        let started = start.send().await.unwrap();
        let answer: Value = serde_json::from_slice(&started.bytes().await.unwrap()).unwrap();
        let run = answer["run"].as_str().unwrap().to_owned();
        let shards = folder.path().join("runs").join(&run).join("shards");
        wait_until("the first shard", async || shards.exists()).await;
        drop(host);
        let store = folder.path().to_owned();
        let (azure, host) = tokio::task::spawn_blocking(move || {
            let host = Host::start(&azure, &store);
            (azure, host)
        })
        .await
        .unwrap();
        let health = healthy(&client, &host.address).await;
        assert_eq!(health["run"].as_str().unwrap(), run);
        drop(host);
        tokio::task::spawn_blocking(move || drop(azure)).await.unwrap();
    });
}
