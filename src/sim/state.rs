//! The state of a simulated Azure: its world, the conditions for its clients, and its statistics.

use super::faults::{Faults, FaultsSpec};
use super::ids::subscription_id;
use super::organisation::Organisation;
use super::quota::{Meter, QuotaSpec};
use super::registries::{BlobsLimit, SimRegistry};
use super::stats::Stats;
use super::world::World;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The conditions that clients of a simulated Azure meet.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Least duration of a request.
    pub latency: Duration,
    /// The limits of requests.
    pub quota: QuotaSpec,
    /// The injected faults.
    pub faults: FaultsSpec,
    /// Number of subscriptions that the identity sees.
    pub subscriptions: u8,
    /// Largest size of all pushed blobs in its registries together.
    pub blobs: BlobsLimit,
}

impl Default for Conditions {
    /// No latency, no quota, no faults, one subscription.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            quota: QuotaSpec::default(),
            faults: FaultsSpec::default(),
            subscriptions: 1,
            blobs: BlobsLimit::default(),
        }
    }
}

/// A simulated Azure.
pub struct Sim {
    /// Its marketplace and locations; its organisation and registries have fields of their own.
    pub world: World,
    /// Its organisation.
    pub(super) organisation: Mutex<Organisation>,
    /// Its container registries.
    pub(super) registries: Mutex<Vec<SimRegistry>>,
    /// `http` or `https`, once it listens.
    pub(super) scheme: OnceLock<&'static str>,
    /// Least duration of a request.
    pub latency: Duration,
    /// The ids of the subscriptions that the identity sees.
    pub subscriptions: Vec<String>,
    /// The secret that the identity endpoint expects in `x-identity-header`.
    pub secret: String,
    /// The statistics of the requests.
    pub stats: Stats,
    /// The limits of requests.
    pub quota: Meter,
    /// The injected faults.
    pub faults: Faults,
    /// Most bytes of pushed blobs that its registries keep, together.
    pub most_pushed: u64,
}

impl Sim {
    /// A simulated Azure with this world, under these conditions.
    pub fn new(mut world: World, conditions: Conditions) -> Arc<Self> {
        let Conditions { latency, quota, faults, subscriptions, blobs } = conditions;
        let organisation = std::mem::take(&mut world.organisation);
        let registries = std::mem::take(&mut world.registries);
        Arc::new(Self {
            world,
            organisation: Mutex::new(organisation),
            registries: Mutex::new(registries),
            scheme: OnceLock::new(),
            latency,
            subscriptions: (1..=subscriptions).map(subscription_id).collect(),
            secret: ulid::Ulid::generate().to_string(),
            stats: Stats::default(),
            quota: Meter::new(quota),
            faults: Faults::new(faults),
            most_pushed: blobs.bytes(),
        })
    }

    /// Its container registries; tests may change them while it runs.
    pub fn registries(&self) -> MutexGuard<'_, Vec<SimRegistry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its organisation; tests may change it while it runs.
    pub fn organisation(&self) -> MutexGuard<'_, Organisation> {
        self.organisation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
