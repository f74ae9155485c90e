//! Tokens that a service refuses in the middle of a run: what a refusal costs, and what it loses.

use crate::support::fleet::{self, Direct, Fleet, Luck};
use crate::support::paused;
use crate::tests;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::error::Result;
use azimg::testing::pipeline::snapshot::{self, Completeness};
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

tests![
    one_refused_token_in_a_run_costs_one_request,
    an_identity_refused_in_the_middle_of_a_run_loses_nothing,
    only_the_subscription_of_another_tenant_is_denied,
];

const MARKETPLACE: &str = r#"{"sources": ["marketplace"]}"#;

/// Whether a request is refused, by its number, the moment and its path.
type Refuses = dyn Fn(usize, Duration, &str) -> bool + Send + Sync;

/// A wire to a simulated Azure that refuses requests with 401.
#[derive(Clone)]
struct Refusing {
    direct: Direct,
    asked: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    refuses: Arc<Refuses>,
    code: &'static str,
    began: Instant,
}

impl std::fmt::Debug for Refusing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusing")
    }
}

impl Refusing {
    fn new(
        sim: &Arc<Sim>,
        code: &'static str,
        refuses: impl Fn(usize, Duration, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let latency = Duration::from_millis(80);
        let direct = Direct { sim: Arc::clone(sim), latency, random: None };
        let began = Instant::now();
        let (asked, refused) = (Arc::default(), Arc::default());
        Self { direct, asked, refused, refuses: Arc::new(refuses), code, began }
    }
}

#[async_trait]
impl Wire for Refusing {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if !(self.refuses)(number, self.began.elapsed(), request.url.path()) {
            return self.direct.send(request, authorized).await;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let body = format!("{{\"error\":{{\"code\":\"{}\",\"message\":\"no\"}}}}", self.code);
        Ok(WireResponse {
            status: StatusCode::UNAUTHORIZED,
            headers: reqwest::header::HeaderMap::default(),
            body: body.into(),
        })
    }
}

/// Makes one run over a wire that refuses; how long it took, and its manifest.
async fn run(wire: &Refusing, request: &str) -> (Duration, snapshot::Manifest) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let fleet = Fleet {
        workers: 2,
        at_once: 8,
        make: &|| fleet::app(Arc::new(wire.clone()), Arc::clone(&store), "http://127.0.0.1:1"),
        luck: Luck::none(),
        starts_at: 0,
    };
    let (took, _) = fleet.run(request).await;
    (took, snapshot::current(store.as_ref()).await.unwrap().unwrap())
}

fn sim() -> Arc<Sim> {
    Sim::new(generate(Scale::Small, 7), Conditions::default())
}

fn rows(manifest: &snapshot::Manifest) -> u64 {
    manifest.files.iter().map(|file| file.rows).sum()
}

fn one_refused_token_in_a_run_costs_one_request() {
    paused(async {
        let (whole, refused) = (sim(), sim());
        let (_, whole) = run(&Refusing::new(&whole, "x", |_, _, _| false), MARKETPLACE).await;
        let wire =
            Refusing::new(&refused, "ExpiredAuthenticationToken", |number, _, _| number == 50);
        let (_, reported) = run(&wire, MARKETPLACE).await;
        assert_eq!(wire.refused.load(Ordering::Relaxed), 1);
        assert_eq!((reported.state, rows(&reported)), (Completeness::Complete, rows(&whole)));
        assert_eq!(reported.coverage.done, whole.coverage.done);
    });
}

fn an_identity_refused_in_the_middle_of_a_run_loses_nothing() {
    paused(async {
        let (whole, refused) = (sim(), sim());
        let (usual, whole) = run(&Refusing::new(&whole, "x", |_, _, _| false), MARKETPLACE).await;
        let hours = Duration::from_hours(2);
        let wire = Refusing::new(&refused, "AuthenticationFailed", move |number, at, _| {
            number >= 100 && at < hours
        });
        let (took, reported) = run(&wire, MARKETPLACE).await;
        assert!(took > hours && took < hours + usual + Duration::from_mins(20), "{took:?}");
        assert_eq!((reported.state, rows(&reported)), (Completeness::Complete, rows(&whole)));
        assert_eq!((reported.coverage.denied, reported.coverage.failed), (0, 0));
        // Nobody asks without end: there are some 200 items, each looked at twelve times an hour.
        let refused = wire.refused.load(Ordering::Relaxed);
        println!("{refused} requests were refused in two hours");
        assert!(refused < 20_000, "{refused}");
    });
}

fn only_the_subscription_of_another_tenant_is_denied() {
    paused(async {
        let sim = Sim::new(
            generate(Scale::Small, 7),
            Conditions { subscriptions: 2, ..Conditions::default() },
        );
        let other = sim.subscriptions[1].clone();
        let wire = Refusing::new(&sim, "InvalidAuthenticationTokenTenant", move |_, _, path| {
            path.contains(&other) && path.contains("galleries")
        });
        let (_, manifest) = run(&wire, "{}").await;
        assert_eq!(manifest.state, Completeness::Partial);
        assert!(manifest.coverage.denied > 0 && manifest.coverage.done > 10, "{manifest:?}");
    });
}
