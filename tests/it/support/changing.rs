//! A wire into a simulated Azure that changes the answers on their way.

use super::fleet::Direct;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::error::Result;
use azimg::testing::sim::Sim;
use reqwest::header::HeaderValue;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Changes an answer; it is given `host/path`, decoded.
pub type Change = Arc<dyn Fn(&str, &mut Value) + Send + Sync>;

/// A wire into a simulated Azure; somebody changes what its lists and attributes say.
#[derive(Clone)]
pub struct Changing {
    pub inner: Direct,
    pub change: Change,
}

impl std::fmt::Debug for Changing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changing")
    }
}

impl Changing {
    pub fn new(sim: &Arc<Sim>, change: Change) -> Self {
        let latency = Duration::from_millis(5);
        Self { inner: Direct { sim: Arc::clone(sim), latency, random: None }, change }
    }
}

#[async_trait]
impl Wire for Changing {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let mut answer = self.inner.send(request, authorized).await?;
        let path = percent_encoding::percent_decode_str(request.url.path()).decode_utf8_lossy();
        // What manifests hold is what their digests say, and a token is one.
        let is_fast = path.starts_with("/v2/") || path.starts_with("/oauth2/");
        if !is_fast && answer.status.is_success() && !answer.body.is_empty() {
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
            (self.change)(&format!("{}{path}", request.url.host_str().unwrap()), &mut body);
            answer.body = body.to_string().into();
        }
        Ok(answer)
    }
}
