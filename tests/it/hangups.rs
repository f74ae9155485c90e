//! Callers that hang up: whatever a request held gives itself back, wherever its caller went away.

use crate::support::fleet::Direct;
use crate::support::paused;
use crate::tests;
use azimg::testing::client::{Client, Tokens};
use azimg::testing::error::Result;
use azimg::testing::registry::Registry;
use azimg::testing::sim::{
    Conditions, OrganisationSize, SUBSCRIPTION, Scale, Sim, SimCredential, World, generate,
};
use serde_json::Value;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

tests![
    a_cancelled_request_releases_everything_it_held,
    a_cancelled_registry_request_blocks_no_other,
];

/// Polls `work` so many times, and drops it then: what it ended with, if it did.
async fn polled<T>(work: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = times;
    std::future::poll_fn(move |context| {
        left -= 1;
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Everything of Azure that is asked under quota, each with windows of its own.
const KINDS: [&str; 7] =
    ["locations", "publishers", "offers", "skus", "versions", "image", "graph"];

async fn ask(client: &Client, kind: &str) -> Result<()> {
    let compute = ["subscriptions", SUBSCRIPTION, "providers", "Microsoft.Compute", "locations"];
    let below = ["eastus", "publishers", "Canonical", "artifacttypes", "vmimage", "offers"];
    let deeper = ["ubuntu-24_04-lts", "skus", "server", "versions", "24.04.202404230"];
    let mut path: Vec<&str> = compute.to_vec();
    path.extend(below);
    path.extend(deeper);
    let (depth, version) = match kind {
        "graph" => {
            let query = "Resources | project id | order by id asc";
            return client.graph::<Value>(query, &[]).await.map(|_| ());
        }
        "locations" => {
            let path = ["subscriptions", SUBSCRIPTION, "locations"];
            let version = [("api-version", "2022-12-01")];
            return client.list::<Value>(&path, &version).await.map(|_| ());
        }
        "publishers" => (7, "2024-07-01"),
        "offers" => (11, "2024-07-01"),
        "skus" => (13, "2024-07-01"),
        "versions" => (15, "2024-07-01"),
        _ => (16, "2024-07-01"),
    };
    // That there is no such image is an answer, too.
    match client.get::<Value>(&path[..depth], &[("api-version", version)]).await {
        Err(error) if error.to_string().contains("404") => Ok(()),
        answered => answered.map(|_| ()),
    }
}

fn client(sim: &Arc<Sim>, endpoint: &str) -> Client {
    let wire = Direct { sim: Arc::clone(sim), latency: Duration::from_millis(80), random: None };
    let tokens = Tokens::of(SimCredential);
    let scope = "https://management.azure.com/.default".to_owned();
    Client::over(Arc::new(wire), endpoint.parse().unwrap(), scope, vec![tokens]).unwrap()
}

/// Hangs up after the first poll, after the second, and so on until there is nothing left to hang up on; a request
/// that is not hung up on goes through each time.
fn a_cancelled_request_releases_everything_it_held() {
    let sim = || {
        let world = generate(Scale::Small, 5).with_generated_organisation(OrganisationSize::FEW, 5);
        Sim::new(world, Conditions { quota: "real".parse().unwrap(), ..Conditions::default() })
    };
    let mut hung_up = 0;
    // Limits that are recorded, limits that nobody knows before an answer, and the small share of lookups.
    for endpoint in ["https://management.azure.com", "http://127.0.0.1:1"] {
        for is_small in [false, true] {
            for kind in KINDS {
                paused(async {
                    for times in 1.. {
                        let client = client(&sim(), endpoint);
                        let client = if is_small { client.with_small_share() } else { client };
                        // More than Resource Graph may have under way, and fewer than its window has.
                        let mut has_ended = false;
                        for _ in 0..12 {
                            let ended = polled(ask(&client, kind), times).await;
                            has_ended |= ended.is_some();
                            hung_up += usize::from(ended.is_none());
                        }
                        let next = tokio::time::timeout(Duration::from_mins(1), ask(&client, kind));
                        let what = format!("{kind} at {endpoint} after {times} polls");
                        let next = next.await.unwrap_or_else(|_| panic!("{what} waits for ever"));
                        next.unwrap_or_else(|error| panic!("{what}: {error}"));
                        if has_ended {
                            break;
                        }
                        assert!(times < 200, "{what} does not end");
                    }
                });
            }
        }
    }
    println!("{hung_up} hung up");
    assert!(hung_up > 300, "{hung_up}");
}

fn a_cancelled_registry_request_blocks_no_other() {
    let World { locations, .. } = generate(Scale::Small, 1);
    let world = World::new(locations, Vec::new()).with_registries(1, 3, 3);
    let quota = "real".parse().unwrap();
    let sim = Sim::new(world, Conditions { quota, ..Conditions::default() });
    let server = sim.registries()[0].login_server.clone();
    paused(async {
        let latency = Duration::from_millis(80);
        let wire = Arc::new(Direct { sim: Arc::clone(&sim), latency, random: None });
        for times in 1.. {
            let login = crate::support::registries::entra(&server);
            let registry =
                Registry::over(Arc::<Direct>::clone(&wire) as _, &server, login).unwrap();
            let mut has_ended = false;
            for _ in 0..13 {
                has_ended |= polled(registry.manifests("app-1"), times).await.is_some();
            }
            let next = tokio::time::timeout(Duration::from_mins(1), registry.repositories());
            let next = next.await.unwrap_or_else(|_| panic!("{times} polls: it waits for ever"));
            assert_eq!(next.unwrap().len(), 3);
            if has_ended {
                assert!(times > 3, "it ends after {times} polls");
                break;
            }
        }
    });
}
