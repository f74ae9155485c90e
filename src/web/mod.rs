//! HTTP lookups from the current snapshot, in the manner of Azure's REST APIs.

mod changes;
mod images;
pub mod openapi;
mod parameters;
mod reply;
mod runs;
mod served;
pub mod token;

pub(crate) use parameters::date;
pub(crate) use reply::status_of;
pub(crate) use runs::{describe as describe_run, runs as list_runs};

use crate::error::Error;
use crate::functions::App;
use axum::Router;
use axum::http::header::{ETAG, LAST_MODIFIED, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use served::Served;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any, CorsLayer};

/// Live lookups that one process does at once: each may take a minute of the quota's share.
const LIVE_AT_ONCE: usize = 2;

/// What the routes share.
pub struct Web {
    app: Arc<App>,
    served: Arc<Served>,
    live: Semaphore,
}

/// The routes below `/api`.
pub fn routes(app: Arc<App>) -> Router {
    let served = Served::new(Arc::clone(&app.store), app.settings.look_every);
    let web = Arc::new(Web { app, served, live: Semaphore::new(LIVE_AT_ONCE) });
    // Everyone may read from a page of theirs; no credential of a browser is ever used.
    let origins = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .expose_headers([ETAG, LAST_MODIFIED, RETRY_AFTER, reply::REQUEST_ID, reply::ERROR_CODE]);
    Router::new()
        .route("/api/images", get(images::list))
        .route("/api/images/latest", get(images::latest))
        .route("/api/images/aliases", get(images::aliases))
        .route("/api/images/{*id}", get(images::show))
        .route("/api/changes", get(changes::list))
        .route("/api/runs", get(runs::list))
        .route("/api/runs/{run}", get(runs::show))
        .route("/api/health", get(runs::health))
        .route("/api/openapi.json", get(openapi::show))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(web)
        .layer(CompressionLayer::new())
        .layer(origins)
}

/// Whether the query of `uri` is one that `images` can answer.
pub fn check_query(uri: &Uri) -> crate::error::Result<()> {
    parameters::Query::parse(uri, parameters::LIST).map(|_| ())
}

async fn no_route(uri: Uri) -> axum::response::Response {
    reply::error(&Error::not_found(format!("there is no {} here", uri.path())))
}

async fn no_method(method: Method, uri: Uri) -> axum::response::Response {
    let text = format!("{} cannot be asked with {method}; GET and HEAD can", uri.path());
    reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text)
}
