//! `runs/{run}/coverage`: the coverage of a run in groups.

use super::query::{InPath, Query, in_path};
use super::{Lookups, reply};
use crate::error::{Error, Result};
use crate::image::nanoseconds;
use crate::pipeline::coverage_groups::{published, unpublished};
use crate::pipeline::snapshot;
use crate::work::RunId;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use quick_cache::sync::Cache;
use std::sync::Arc;
use time::OffsetDateTime;

/// Number of answers to keep.
const KEPT: usize = 16;

/// Stands for the run of the snapshot that is served.
const CURRENT: &str = "current";

/// Answers by run and by the time at which it was published, in nanoseconds since 1970.
pub(super) struct Coverages(Cache<(RunId, i64), Bytes>);

impl Default for Coverages {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

pub(super) async fn show(
    State(lookups): State<Arc<Lookups>>,
    run: InPath,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&lookups, run, &uri, &headers).await.unwrap_or_else(|error| reply::error(&error))
}

async fn answer(
    lookups: &Lookups,
    run: InPath,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response> {
    let web = lookups.ready().await?;
    Query::parse(uri, &[])?;
    let named = in_path(run)?;
    let run = if named == CURRENT {
        web.served.current().await?.catalog.manifest.run
    } else {
        named.parse().map_err(|error: Error| error.with_target("run"))?
    };
    let store = web.app.store.as_ref();
    let Some(manifest) = snapshot::manifest(store, run).await? else {
        let groups = unpublished(store, run, OffsetDateTime::now_utc()).await?;
        return Ok(reply::json(StatusCode::OK, &groups));
    };
    let key = (run, nanoseconds(manifest.published_at));
    let body = if let Some(known) = web.coverages.0.get(&key) {
        known
    } else {
        let groups = published(store, &manifest).await?;
        let body = serde_json::to_vec(&groups).map_err(|e| Error::bug(e.to_string()))?;
        let body = Bytes::from(body);
        web.coverages.0.insert(key, body.clone());
        body
    };
    Ok(reply::cached(&reply::Validators::new(&manifest, None), headers, body))
}
