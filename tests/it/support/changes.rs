//! Changes of a simulated gallery, with answers that are lost on their way.

use super::galleries::tenant;
use azimg::testing::client::{Client, Tokens, Wire, WireRequest};
use azimg::testing::gallery::{Galleries, Name, WaitLimits};
use azimg::testing::sim::{Conditions, OrganisationSize, Sim, SimCredential};
use reqwest::header::HeaderValue;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub const SIZE: OrganisationSize =
    OrganisationSize { versions: 120, machines: 0, ..OrganisationSize::FEW };

/// How the answer to a request that changes something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The request never arrives.
    Before,
    /// It is done, and the answer never arrives.
    After,
}

/// A wire on which the n-th change is lost, and that can stop altogether.
#[derive(Debug)]
pub struct Losing {
    inner: crate::support::fleet::Direct,
    lose: Vec<Loss>,
    pub changes: AtomicUsize,
    /// The process dies instead of sending another change after so many.
    dies_after: usize,
    pub dies: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl Wire for Losing {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> azimg::testing::error::Result<azimg::testing::client::WireResponse> {
        let lost = || azimg::testing::error::Error::transient("the connection broke");
        let changes =
            request.method != reqwest::Method::GET && !request.url.path().contains("Graph");
        if !changes {
            return self.inner.send(request, authorized).await;
        }
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        if number >= self.dies_after {
            self.dies.notify_one();
            std::future::pending::<()>().await;
        }
        match self.lose.get(number) {
            Some(Loss::Before) => Err(lost()),
            Some(Loss::After) => {
                self.inner.send(request, authorized).await?;
                Err(lost())
            }
            None => self.inner.send(request, authorized).await,
        }
    }
}

pub struct Stage {
    pub sim: Arc<Sim>,
    pub wire: Arc<Losing>,
    pub galleries: Galleries,
}

pub fn stage(lose: &[Loss]) -> Stage {
    let sim = Sim::new(tenant(SIZE), Conditions::default());
    on(&sim, lose, usize::MAX)
}

pub fn on(sim: &Arc<Sim>, lose: &[Loss], dies_after: usize) -> Stage {
    let sim = Arc::clone(sim);
    let inner = crate::support::fleet::Direct {
        sim: Arc::clone(&sim),
        latency: Duration::from_millis(50),
        random: None,
    };
    let changes = AtomicUsize::new(0);
    let wire = Arc::new(Losing {
        inner,
        lose: lose.to_vec(),
        changes,
        dies_after,
        dies: tokio::sync::Notify::new(),
    });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::over(
        Arc::clone(&wire) as Arc<dyn Wire>,
        endpoint,
        "scope".into(),
        vec![Tokens::of(SimCredential)],
    );
    let galleries = Galleries::new(client.unwrap()).with_patience(WaitLimits::default());
    Stage { sim, wire, galleries }
}

/// The first gallery, its first definition and that one's first version.
pub fn first(sim: &Sim) -> [Name; 3] {
    nth(sim, 0)
}

/// The same of the n-th gallery; the one behind the first is there to be shared.
pub fn nth(sim: &Sim, number: usize) -> [Name; 3] {
    let all = sim.organisation();
    let gallery = all.galleries.values().nth(number).unwrap();
    let definition = gallery.definitions.values().next().unwrap();
    let version = definition.versions.values().find(|v| v.state == "Succeeded").unwrap();
    let id = gallery.id();
    let names = [
        id.clone(),
        format!("{id}/images/{}", definition.name),
        format!("{id}/images/{}/versions/{}", definition.name, version.name),
    ];
    names.map(|id| Name::from_id(&id).unwrap())
}

pub fn changed(sim: &Sim, operation: &str) -> u64 {
    let stats = sim.stats.to_json();
    let counts = stats["operations"][operation].as_object().cloned().unwrap_or_default();
    counts.values().filter_map(Value::as_u64).sum()
}
