//! The server of one simulated registry.

use crate::sim::state::Sim;
use std::sync::Arc;

/// One registry of a simulated Azure, as its server has it.
#[derive(Clone)]
pub(super) struct SimRegistryServer {
    pub(super) sim: Arc<Sim>,
    pub(super) number: usize,
}
