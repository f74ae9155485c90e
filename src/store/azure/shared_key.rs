//! "Authorize with Shared Key", for the account key of an emulator.

use async_trait::async_trait;
use azure_core::credentials::Secret;
use azure_core::http::headers::Headers;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Method, Request, Url};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Signs requests with an account key ("Shared Key" of the storage services).
#[derive(Debug)]
pub(super) struct SharedKey {
    account: String,
    key: Secret,
}

impl SharedKey {
    /// Creates a policy that signs for `account` with its `key`.
    pub(super) fn new(account: &str, key: &Secret) -> Self {
        Self { account: account.to_owned(), key: key.clone() }
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "the trait writes it so, and the macro copies it")]
impl Policy for SharedKey {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let now = azure_core::time::to_rfc7231(&azure_core::time::OffsetDateTime::now_utc());
        request.insert_header("x-ms-date", now);
        let length = match request.body().len() {
            Some(0) | None => String::new(),
            Some(length) => length.to_string(),
        };
        let text = string_to_sign(
            request.method(),
            request.headers(),
            &length,
            &self.account,
            request.url(),
        );
        let signature = azure_core::hmac::hmac_sha256(&text, &self.key)?;
        request.insert_header("authorization", format!("SharedKey {}:{signature}", self.account));
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// The string to sign, as in "Authorize with Shared Key",
/// learn.microsoft.com/rest/api/storageservices.
fn string_to_sign(
    method: Method,
    headers: &Headers,
    length: &str,
    account: &str,
    url: &Url,
) -> String {
    let header = |name: &'static str| headers.get_optional_str(&name.into()).unwrap_or_default();
    let mut text = format!("{}\n", method.as_str());
    for name in ["content-encoding", "content-language"] {
        let _ = writeln!(text, "{}", header(name));
    }
    let _ = writeln!(text, "{length}");
    for name in [
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        let _ = writeln!(text, "{}", header(name));
    }
    let own: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    for (name, value) in own {
        let _ = writeln!(text, "{name}:{}", value.trim());
    }
    let _ = write!(text, "/{account}{}", url.path());
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        query.entry(name.to_ascii_lowercase()).or_default().push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort();
        let _ = write!(text, "\n{name}:{}", values.join(","));
    }
    text
}
