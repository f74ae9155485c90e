//! Callers who send half of what they should, questions that nobody answers, and what fails and is repeated: on a
//! clock of their own.

use crate::support::fleet::{Direct, app};
use crate::support::{Azure, Virtual, json, paused};
use crate::tests;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request as Asked;
use axum::routing::get;
use azimg::testing::client::{Client, Tokens, Wire, WireRequest, WireResponse};
use azimg::testing::error::{Error, Result};
use azimg::testing::functions::{App, HostSettings};
use azimg::testing::host::callers::Callers;
use azimg::testing::host::{Host, listen};
use azimg::testing::image::machine::Machine;
use azimg::testing::sim::{Conditions, Scale, Sim, SimCredential, generate};
use azimg::testing::source::{
    Crawled, Invocation, LiveListing, NameFilter, PreviousFindings, Source,
};
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::work::{Request, Scope, SourceName, WorkItem};
use bytes::Bytes;
use futures::stream;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

tests![
    incomplete_requests_are_closed_and_block_no_other,
    a_body_that_does_not_arrive_is_refused,
    a_timer_that_fails_is_repeated_as_its_function_declares,
    a_lookup_of_machines_is_shared_and_times_out,
    a_live_lookup_waits_only_for_a_known_rate_limit,
];

fn incomplete_requests_are_closed_and_block_no_other() {
    paused(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "here" }));
        let limits =
            listen::ConnectionLimits { connections: 2, head_within: Duration::from_secs(30) };
        let stopping = CancellationToken::new();
        let served = tokio::spawn(listen::serve(listener, routes, limits, stopping.clone()));
        let clock = Virtual::begin();
        // Two take all places, and ask for nothing.
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        third.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        for stream in [&mut half, &mut idle] {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(!rest.windows(4).any(|part| part == b"here"));
        }
        assert!((29..=90).contains(&clock.seconds()), "{} s", clock.seconds());
        // Whoever is told to stop does, and is not there any more.
        stopping.cancel();
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    });
}

/// An app whose only source is `source`.
fn app_of(source: Arc<dyn Source>, store: Arc<dyn Store>) -> Arc<App> {
    let sim = Sim::new(generate(Scale::Small, 5), Conditions::default());
    let wire = Arc::new(Direct { sim, latency: Duration::ZERO, random: None });
    let mut app = app(wire, store, "http://127.0.0.1:1/");
    app.sources = vec![source];
    Arc::new(app)
}

fn a_body_that_does_not_arrive_is_refused() {
    paused(async {
        let source = Arc::new(Failing(mpsc::unbounded_channel().0));
        let app = app_of(source, Arc::new(MemoryStore::default()));
        let host = Host::new(&app, HostSettings::load().unwrap(), "0 0 3 * * *");
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let body = futures::StreamExt::chain(first, stream::pending());
        let request = Asked::post("/api/runs").header("host", "127.0.0.1:7071");
        let request = request.body(Body::from_stream(body)).unwrap();
        let callers = Callers { port: 7071, names: Vec::new(), origins: Vec::new(), key: None };
        let answer = host.router(callers).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(answer.headers()["x-ms-error-code"], "RequestTimeout");
    });
}

/// A source that no run can be planned from; it says when one was tried.
struct Failing(mpsc::UnboundedSender<Virtual>);

#[async_trait]
impl Source for Failing {
    fn name(&self) -> SourceName {
        SourceName::Marketplace
    }

    async fn plan(&self, _: &Request) -> Result<Vec<Scope>> {
        let _ = self.0.send(Virtual::begin());
        Err(Error::transient("Azure is not there"))
    }

    async fn crawl(&self, _: &WorkItem, _: &Invocation, _: &PreviousFindings) -> Result<Crawled> {
        Err(Error::bug("nothing is planned"))
    }

    fn turn(&self, _: &WorkItem, _: OffsetDateTime) -> Duration {
        Duration::ZERO
    }

    async fn live(&self, _: &Request, _: NameFilter<'_>) -> Result<Vec<LiveListing>> {
        Ok(Vec::new())
    }
}

fn a_timer_that_fails_is_repeated_as_its_function_declares() {
    paused(async {
        let (tried, mut tries) = mpsc::unbounded_channel();
        let app = app_of(Arc::new(Failing(tried)), Arc::new(MemoryStore::default()));
        // Due each second: whatever lies further apart is the wait before a repetition.
        let host = Host::new(&app, HostSettings::load().unwrap(), "* * * * * *");
        let running = tokio::spawn({
            let host = Arc::clone(&host);
            async move { host.run(true).await }
        });
        for _ in 0..2 {
            // Once, and five times more after two minutes each (functions/plan/function.json).
            let mut before = tries.recv().await.unwrap();
            for _ in 0..5 {
                let next = tries.recv().await.unwrap();
                let apart = before.seconds();
                assert!((120..=121).contains(&apart), "{apart} s");
                before = next;
            }
        }
        // It ends when it is told to, in the middle of such a wait too.
        let before = tries.recv().await.unwrap();
        host.stop();
        running.await.unwrap().unwrap();
        assert!(before.seconds() < 2);
        assert!(tries.try_recv().is_err());
    });
}

/// A source whose machines are not told while it is silent. It counts who asked, and whose question was dropped.
#[derive(Default)]
struct Silent {
    asked: AtomicUsize,
    dropped: AtomicUsize,
    answers: AtomicUsize,
}

struct Dropped<'a>(&'a AtomicUsize);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Source for Silent {
    fn name(&self) -> SourceName {
        SourceName::Gallery
    }

    async fn plan(&self, _: &Request) -> Result<Vec<Scope>> {
        Ok(Vec::new())
    }

    async fn crawl(&self, _: &WorkItem, _: &Invocation, _: &PreviousFindings) -> Result<Crawled> {
        Err(Error::bug("nothing is planned"))
    }

    fn turn(&self, _: &WorkItem, _: OffsetDateTime) -> Duration {
        Duration::ZERO
    }

    async fn live(&self, _: &Request, _: NameFilter<'_>) -> Result<Vec<LiveListing>> {
        Ok(Vec::new())
    }

    async fn machines(&self, _: &[String]) -> Result<Vec<Machine>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _dropped = Dropped(&self.dropped);
        if self.answers.load(Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Ok(Vec::new())
    }
}

fn a_lookup_of_machines_is_shared_and_times_out() {
    let azure = Azure::start(generate(Scale::Small, 104));
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    paused(async {
        let source = Arc::new(Silent::default());
        let counts = |source: &Silent| {
            (source.asked.load(Ordering::SeqCst), source.dropped.load(Ordering::SeqCst))
        };
        let app = app_of(
            Arc::clone(&source) as Arc<dyn Source>,
            Arc::new(LocalStore::new(folder.path())),
        );
        let routes = azimg::testing::web::routes(move || {
            let app = Arc::clone(&app);
            Box::pin(async move { Ok(app) })
        });
        let ask = || {
            let request = Asked::get("/api/images/usage").body(Body::empty()).unwrap();
            let asked = routes.clone().oneshot(request);
            async move { asked.await.unwrap() }
        };
        // Two ask at once, which is one question, and are told in time that it is not answered.
        let clock = Virtual::begin();
        let (one, other) = tokio::join!(ask(), ask());
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!((one.status(), other.status()), (unavailable, unavailable));
        assert_eq!(counts(&source), (1, 1));
        assert!((199..=202).contains(&clock.seconds()), "{} s", clock.seconds());
        // One of two goes away: the other one is still answered. Both go away: nothing is asked any more.
        let first = tokio::spawn(ask());
        while counts(&source).0 < 2 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn(ask());
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(counts(&source), (2, 1));
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert_eq!(counts(&source), (2, 2));
        // And whoever asks then asks anew.
        source.answers.store(1, Ordering::SeqCst);
        assert_eq!(ask().await.status(), 200);
        assert_eq!(counts(&source), (3, 3));
    });
}

/// A wire that answers each request at once, with or without word of a quota.
#[derive(Debug)]
struct AtOnce(bool);

#[async_trait]
impl Wire for AtOnce {
    async fn send(&self, _: &WireRequest, _: Option<HeaderValue>) -> Result<WireResponse> {
        let mut headers = HeaderMap::new();
        if self.0 {
            let remaining = HeaderValue::from_static("11999");
            headers.insert("x-ms-ratelimit-remaining-subscription-reads", remaining);
        }
        Ok(WireResponse { status: StatusCode::OK, headers, body: Bytes::from_static(b"[]") })
    }
}

fn a_live_lookup_waits_only_for_a_known_rate_limit() {
    for (limited, seconds) in [(false, 0..=0), (true, 13..=14)] {
        paused(async {
            let endpoint = "http://127.0.0.1:1/".parse().unwrap();
            let tokens = vec![Tokens::of(SimCredential)];
            let client = Client::over(Arc::new(AtOnce(limited)), endpoint, "x".into(), tokens);
            let client = client.unwrap().with_small_share();
            let clock = Virtual::begin();
            for _ in 0..200 {
                let _: Value = client.get(&["subscriptions", "x"], &[]).await.unwrap();
            }
            assert!(seconds.contains(&clock.seconds()), "{} s", clock.seconds());
        });
    }
}
