//! Traces requests to storage like all other requests.

use crate::client::{RequestLabels, traced};
use async_trait::async_trait;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Context, Request, Url};
use std::sync::Arc;

/// Traces each attempt of a request.
#[derive(Debug)]
pub(super) struct TracingPolicy;

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait writes it so, and the macro copies it")]
impl Policy for TracingPolicy {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let (method, kind) = (request.method(), kind(request.url()));
        let server = request.url().host_str().unwrap_or_default().to_owned();
        let about = RequestLabels { method: method.as_str(), path: kind, server: &server };
        let sent = next[0].send(ctx, request, &next[1..]);
        traced(about, sent, |answer: &AsyncRawResponse| answer.status().into()).await
    }
}

/// The kind of a request, used as its label. Names of blobs and queues are not: they are numerous,
/// and some come from customers.
fn kind(url: &Url) -> &'static str {
    let of = url.query_pairs().find(|(name, _)| name == "comp").map(|(_, value)| value);
    match of.as_deref() {
        Some("list") => "blobs",
        Some("block") => "block",
        Some("blocklist") => "blocklist",
        Some(_) => "properties",
        None if url.path().ends_with("/messages") => "messages",
        None if url.path().contains("/messages/") => "message",
        None => "blob",
    }
}
