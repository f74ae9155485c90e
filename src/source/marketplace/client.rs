//! The source of marketplace images, and whom it asks through.

use crate::client::Client;

/// Requests that one item has under way at once.
pub(super) const AT_ONCE: usize = 8;

/// The source of marketplace images.
#[derive(Debug, Clone)]
pub struct Marketplace {
    pub(super) client: Client,
    /// What live lookups ask through: a small share of the same quota.
    small: Client,
}

impl Marketplace {
    /// The source that asks through `client`.
    pub fn new(client: Client) -> Self {
        let small = client.clone().with_small_share();
        Self { client, small }
    }

    /// The same, which asks through a small share of the quota alone.
    pub(super) fn with_small_share(&self) -> Self {
        Self { client: self.small.clone(), small: self.small.clone() }
    }
}
