//! The marketplace source and its clients.

use crate::client::Client;

/// Concurrent requests per work item.
pub(super) const CONCURRENCY: usize = 8;

/// The source of marketplace images.
#[derive(Debug, Clone)]
pub struct Marketplace {
    pub(super) client: Client,
    /// Client for live lookups, limited to a small part of the same quota.
    small: Client,
}

impl Marketplace {
    /// Creates the source; its requests go through `client`.
    pub fn new(client: Client) -> Self {
        let small = client.clone().with_small_share();
        Self { client, small }
    }

    /// Returns the same source, limited to the small part of the quota.
    pub(super) fn with_small_share(&self) -> Self {
        Self { client: self.small.clone(), small: self.small.clone() }
    }
}
