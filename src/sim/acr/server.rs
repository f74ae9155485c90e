//! The server of one simulated registry.

use crate::sim::state::Sim;
use std::sync::Arc;

/// The state of the server: the simulated Azure, and which of its registries is served.
#[derive(Clone)]
pub(super) struct SimRegistryServer {
    pub(super) sim: Arc<Sim>,
    /// The index of the registry.
    pub(super) number: usize,
}
