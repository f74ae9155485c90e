//! Pages of the HTTP API: lists that are read to their end, next links, tokens, and the bounds of a search.

use crate::support::fleet::{Direct, app};
use crate::support::http::{Nowhere, client, get, invocation, parsed, stage};
use crate::support::steps::{Around, Stepped};
use crate::support::web::Host;
use crate::support::{Azure, json, threads};
use crate::tests;
use async_trait::async_trait;
use axum::body::Body;
use azimg::testing::handler::{Handler, Ready};
use azimg::testing::pipeline::coverage::Totals;
use azimg::testing::pipeline::snapshot::{Completeness, Current, Manifest};
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::RunId;
use reqwest::Client;
use serde_json::{Value, json as value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tower::ServiceExt;

tests![
    a_live_list_is_paged_to_its_end_by_any_host,
    a_live_list_refuses_filters_that_a_listing_cannot_answer,
    runs_are_paged_and_only_those_of_a_page_are_read,
    a_token_that_was_cut_or_changed_is_refused,
    a_next_link_names_the_host_that_the_caller_sees,
    links_keep_the_path_that_a_proxy_removed,
    a_search_has_at_most_16_words,
];

/// The ids of a list, from the page at `url` on; each page has `top` of them, but the last.
async fn ids(client: &Client, url: String, top: usize) -> Vec<String> {
    let (mut ids, mut next) = (Vec::new(), Some(url));
    while let Some(url) = next {
        let (status, page) = get(client, &url).await;
        assert_eq!(status, 200, "{url}: {page}");
        let rows = page["value"].as_array().unwrap();
        next = page["nextLink"].as_str().map(str::to_owned);
        assert!(rows.len() == top || (rows.len() < top && next.is_none()), "{url}");
        ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
    }
    ids
}

fn a_live_list_is_paged_to_its_end_by_any_host() {
    let azure = Azure::start(generate(Scale::Small, 91));
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let hosts = folders.each_ref().map(|folder| Host::start(&azure, folder.path()));
    // One that has more than a page.
    let arguments = ["images", "list", "--live", "--publisher", "debian", "--location", "eastus"];
    let all = json(&mut azure.azimg(&[&arguments[..], &["-o", "json"]].concat()));
    let all: Vec<String> =
        all.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert!(all.len() > 250, "{} are too few to try it", all.len());
    threads(async {
        let client = hosts[0].caller();
        let query = "images?live=true&publisher=debian&location=eastus";
        let url = format!("{}/{query}", hosts[0].address);
        assert_eq!(ids(&client, url.clone(), 100).await, all);
        assert_eq!(ids(&client, format!("{url}&top=83"), 83).await, all);
        // Whoever has the whole answer gives the rest of it without asking; whoever has not asks, and goes on.
        let asked = || azure.sim.stats.to_json()["operations"].to_string();
        let (_, page) = get(&client, &format!("{url}&top=60")).await;
        let link = page["nextLink"].as_str().unwrap();
        let before = asked();
        let (_, second) = get(&client, link).await;
        assert_eq!(asked(), before);
        let link = second["nextLink"].as_str().unwrap();
        let elsewhere = link.replace(&hosts[0].address, &hosts[1].address);
        assert_ne!(elsewhere, link);
        // Each host has a key of its own.
        assert_eq!(get(&client, &elsewhere).await.0, 401);
        assert_eq!(ids(&hosts[1].caller(), elsewhere, 60).await, all[120..]);
        assert_ne!(asked(), before);
        // What has been given whole is not kept.
        assert_eq!(ids(&client, link.to_owned(), 60).await, all[120..]);
        let before = asked();
        assert_eq!(ids(&client, link.to_owned(), 60).await, all[120..]);
        assert_ne!(asked(), before);
    });
}

fn a_live_list_refuses_filters_that_a_listing_cannot_answer() {
    let (_azure, _folder, host) = stage(92);
    threads(async {
        let client = host.caller();
        let live = format!("{}/images?live=true", host.address);
        for (query, target) in [
            ("", "publisher".into()),
            ("&publisher=debian&os=Linux", "os".into()),
            ("&publisher=debian&kind=gallery-version", Value::Null),
            ("&publisher=debian&gallery=prod", Value::Null),
        ] {
            let (status, refused) = get(&client, &format!("{live}{query}")).await;
            assert_eq!((status, &refused["error"]["target"]), (400, &target), "{query}");
        }
        let (_, one) = get(&client, &format!("{live}&publisher=debian&top=1")).await;
        let id = one["value"][0]["id"].as_str().unwrap();
        let (_, found) = get(&client, &format!("{live}&publisher=debian&id={id}")).await;
        assert_eq!(found["value"].as_array().unwrap().len(), 1);
        assert_eq!(found["value"][0]["id"], id);
        // A place in a snapshot's list is none in a live one, and the other way round.
        let (_, stored) =
            get(&client, &format!("{}/images?publisher=debian&top=1", host.address)).await;
        for (link, from, to) in [
            (&one["nextLink"], "live=true", "live=false"),
            (&stored["nextLink"], "publisher=", "live=true&publisher="),
        ] {
            let link = link.as_str().unwrap();
            assert_eq!(get(&client, link).await.0, 200);
            let (status, refused) = get(&client, &link.replace(from, to)).await;
            assert_eq!((status, &refused["error"]["target"]), (400, &"skipToken".into()));
        }
    });
}

/// Counts what is read at once, and of which manifests.
#[derive(Debug, Default)]
struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
    read: Mutex<Vec<String>>,
}

#[async_trait]
impl Around for &'static Counting {
    async fn before(&self, name: &str) -> azimg::testing::error::Result<usize> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if name.ends_with("manifest.json") {
            self.read.lock().unwrap().push(name.to_owned());
        }
        // Whoever else would read now does.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        Ok(0)
    }

    async fn after(&self, _step: usize) -> azimg::testing::error::Result<()> {
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The runs of a store: the oldest first.
async fn publish_many(store: &dyn Store, count: i64) -> Vec<RunId> {
    let at = |n: i64| OffsetDateTime::from_unix_timestamp(1_795_000_000 + n * 3_600).unwrap();
    let runs: Vec<RunId> = (0..count).map(|n| RunId::after(None, at(n), &n.to_string())).collect();
    for (run, n) in runs.iter().zip(0..) {
        let manifest = Manifest {
            schema_version: azimg::testing::pipeline::snapshot::SCHEMA_VERSION,
            run: *run,
            started_at: at(n),
            published_at: at(n),
            state: Completeness::Complete,
            coverage: Totals::default(),
            previous_run: None,
            files: Vec::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let key = Key::Snapshot(*run, SnapshotFile::Manifest);
        assert!(store.create(&key, bytes.into()).await.unwrap());
    }
    let run = *runs.last().unwrap();
    let manifest = Key::Snapshot(run, SnapshotFile::Manifest).to_string();
    let current = serde_json::to_vec(&Current { run, manifest, published_at: at(count) }).unwrap();
    assert!(store.create(&Key::Current, current.into()).await.unwrap());
    // What was begun and is no run is none in the list either: a page is filled from behind it.
    for name in [runs[runs.len() - 2], runs[3]] {
        let key = Key::Snapshot(name, SnapshotFile::Manifest).to_string();
        store.delete(&key).await.unwrap();
        let rest = Key::Snapshot(name, SnapshotFile::Coverage);
        assert!(store.create(&rest, "{}".into()).await.unwrap());
    }
    let is_left = |(at, _): &(usize, RunId)| *at != runs.len() - 2 && *at != 3;
    runs.iter().copied().enumerate().filter(is_left).map(|(_, run)| run).collect()
}

fn runs_are_paged_and_only_those_of_a_page_are_read() {
    threads(async {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut runs = publish_many(memory.as_ref(), 150).await;
        runs.reverse();
        let counting: &'static Counting = Box::leak(Box::default());
        let store: Arc<dyn Store> = Arc::new(Stepped { inner: memory, around: counting });
        let address = crate::support::serving::serve(&store).await;
        let client = client();
        let mut found: Vec<RunId> = Vec::new();
        let mut next = Some(format!("{address}/runs?top=40"));
        while let Some(url) = next {
            counting.read.lock().unwrap().clear();
            let (status, page) = get(&client, &url).await;
            assert_eq!(status, 200, "{page}");
            let rows = page["value"].as_array().unwrap();
            found.extend(
                rows.iter().map(|row| row["run"].as_str().unwrap().parse::<RunId>().unwrap()),
            );
            next = page["nextLink"].as_str().map(str::to_owned);
            assert!(rows.len() == 40 || next.is_none());
            // Those of the page, what is no run among them, and the current one.
            let read = counting.read.lock().unwrap().len();
            assert!(read <= rows.len() + 3, "{read} for {}", rows.len());
        }
        assert_eq!(found, runs);
        let most = counting.most.load(Ordering::SeqCst);
        assert!((2..=16).contains(&most), "{most} at once");
        let (_, whole) = get(&client, &format!("{address}/runs?top=1000")).await;
        assert_eq!(whole["value"].as_array().unwrap().len(), runs.len());
        assert!(whole.get("nextLink").is_none());
        let (_, first) = get(&client, &format!("{address}/runs")).await;
        assert_eq!(first["value"].as_array().unwrap().len(), 100);
        for query in ["top=0", "top=x", "skipToken=x", "colour=red"] {
            assert_eq!(get(&client, &format!("{address}/runs?{query}")).await.0, 400, "{query}");
        }
    });
}

fn a_token_that_was_cut_or_changed_is_refused() {
    let (_azure, _folder, host) = stage(99);
    threads(async {
        let client = host.caller();
        let (_, page) = get(&client, &format!("{}/images?top=5", host.address)).await;
        let link = page["nextLink"].as_str().unwrap();
        let (head, token) = link.split_once("skipToken=").unwrap();
        assert_eq!(get(&client, link).await.0, 200);
        let mut wrong: Vec<String> = (0..token.len()).map(|end| token[..end].to_owned()).collect();
        for at in 0..token.len() {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            wrong.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
        }
        wrong.push(format!("{token}A"));
        wrong.push(format!("{token}%3D"));
        for token in wrong {
            let (status, refused) = get(&client, &format!("{head}skipToken={token}")).await;
            assert_eq!(
                (status, &refused["error"]["target"]),
                (400, &"skipToken".into()),
                "{token}: {refused}"
            );
        }
        // Of another list it is none either.
        let (status, refused) = get(&client, &format!("{link}&publisher=a")).await;
        assert_eq!((status, &refused["error"]["target"]), (400, &"skipToken".into()));
    });
}

fn a_next_link_names_the_host_that_the_caller_sees() {
    let (_azure, _folder, host) = stage(100);
    threads(async {
        let client = host.caller();
        for (name, scheme, origin) in [
            ("app.example", "https", "https://app.example"),
            ("app.example, inner.example:8080", "https,http", "https://app.example"),
            ("app.example", "http", "http://app.example"),
            ("<script>", "https", "https://localhost"),
        ] {
            let ask = client.get(format!("{}/images?top=1", host.address));
            let ask = ask.header("x-forwarded-host", name).header("x-forwarded-proto", scheme);
            let page = parsed(ask.send().await.unwrap()).await;
            let link = page["nextLink"].as_str().unwrap();
            assert!(link.starts_with(&format!("{origin}/api/images?")), "{name}: {link}");
        }
    });
}

fn links_keep_the_path_that_a_proxy_removed() {
    let (_azure, _folder, host) = stage(101);
    threads(async {
        let client = host.caller();
        for (reported, prefix) in [
            (&["/catalog"][..], "/catalog"),
            (&["/catalog/"], "/catalog"),
            (&["/outer, /inner/v1.0"], "/outer/inner/v1.0"),
            (&["/outer", "/inner"], "/outer/inner"),
            (&["/"], ""),
            (&["//evil.example"], ""),
            (&["https://evil.example"], ""),
            (&["/good", "//evil.example"], ""),
            (&["@evil.example"], ""),
            (&["/a/../.."], ""),
            (&["/a\\b"], ""),
            (&["/a?x=1"], ""),
            (&["/%2f%2fevil.example"], ""),
        ] {
            let with = |ask: reqwest::RequestBuilder| {
                let ask = ask.header("x-forwarded-host", "app.example");
                reported.iter().fold(ask, |ask, value| ask.header("x-forwarded-prefix", *value))
            };
            let page = with(client.get(format!("{}/images?top=1", host.address)));
            let page = parsed(page.send().await.unwrap()).await;
            let link = page["nextLink"].as_str().unwrap();
            let begins = format!("https://app.example{prefix}/api/images?");
            assert!(link.starts_with(&begins), "{reported:?}: {link}");
            let document = with(client.get(format!("{}/openapi.json", host.address)));
            let document = parsed(document.send().await.unwrap()).await;
            let server = if prefix.is_empty() { "/" } else { prefix };
            assert_eq!(document["servers"][0]["url"], server, "{reported:?}");
        }
        let ask = client.post(format!("{}/runs", host.address)).headers(host.starting());
        let ask = ask.header("x-forwarded-prefix", "/catalog");
        let answer = ask.body("{\"locations\":[\"eastus\"]}").send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let location = answer.headers()["location"].to_str().unwrap();
        assert!(location.starts_with("/catalog/api/runs/"), "{location}");
        let sim = Sim::new(generate(Scale::Small, 101), Conditions::default());
        let wire = Arc::new(Direct { sim, latency: Duration::ZERO, random: None });
        let app = Arc::new(app(wire, Arc::new(MemoryStore::default()), "http://127.0.0.1:1/"));
        let handler = Handler::with(Ready { app, later: Arc::new(Nowhere) });
        let envelope = value!({"Data": {"req": {"Method": "POST", "Body": "{\"locations\":[\"eastus\"]}",
            "Headers": {"X-Forwarded-Prefix": ["/outer", "/inner"], "content-type": ["application/json"]}}},
            "Metadata": {}});
        let request = invocation("/start", "x").body(Body::from(envelope.to_string())).unwrap();
        let response = handler.router().oneshot(request).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let location = answer["Outputs"]["res"]["headers"]["Location"].as_str().unwrap();
        assert!(location.starts_with("/outer/inner/api/runs/"), "{location}");
    });
}

fn a_search_has_at_most_16_words() {
    let (_azure, _folder, host) = stage(102);
    threads(async {
        let client = host.caller();
        let search = |text: &str| format!("{}/images?search={text}", host.address);
        let words = |count: usize| vec!["a"; count].join("+");
        assert_eq!(get(&client, &search(&words(16))).await.0, 200);
        for text in [words(17), words(4_000), "a".repeat(1_025), vec!["a"; 17].join(":")] {
            let (status, refused) = get(&client, &search(&text)).await;
            assert_eq!((status, &refused["error"]["target"]), (400, &"search".into()));
            let why = refused["error"]["message"].as_str().unwrap();
            assert!(why.contains("16 words") || why.contains("1024 bytes"), "{why}");
        }
    });
}
