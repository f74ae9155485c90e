//! A running simulated Azure: its world, the conditions that clients meet, and its statistics.

use super::faults::{Faults, FaultsSpec};
use super::ids::subscription_id;
use super::organisation::Organisation;
use super::quota::{Meter, QuotaSpec};
use super::registries::{BlobsLimit, SimRegistry};
use super::stats::Stats;
use super::world::World;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What it is like to ask a simulated Azure.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Every answer takes at least this long.
    pub latency: Duration,
    /// What may be asked.
    pub quota: QuotaSpec,
    /// What goes wrong.
    pub faults: FaultsSpec,
    /// How many subscriptions the identity sees.
    pub subscriptions: u8,
    /// How much its registries keep of what is pushed.
    pub blobs: BlobsLimit,
}

impl Default for Conditions {
    /// At once, without limits or faults, in one subscription.
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
    /// What it has.
    pub world: World,
    /// What its organisation keeps.
    pub(super) organisation: Mutex<Organisation>,
    /// Its container registries.
    pub(super) registries: Mutex<Vec<SimRegistry>>,
    /// `http` or `https`, once it listens.
    pub(super) scheme: OnceLock<&'static str>,
    /// Every answer takes at least this long.
    pub latency: Duration,
    /// What the identity sees.
    pub subscriptions: Vec<String>,
    /// What the identity endpoint wants in its header.
    pub secret: String,
    /// What was asked.
    pub stats: Stats,
    /// What may be asked.
    pub quota: Meter,
    /// What goes wrong.
    pub faults: Faults,
    /// How many bytes its registries keep of what is pushed, in all.
    pub most_pushed: u64,
}

impl Sim {
    /// A simulated Azure that has `world`, under `conditions`.
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

    /// Its container registries; may be changed while it runs.
    pub fn registries(&self) -> MutexGuard<'_, Vec<SimRegistry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its organisation keeps; may be changed while it runs.
    pub fn organisation(&self) -> MutexGuard<'_, Organisation> {
        self.organisation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
