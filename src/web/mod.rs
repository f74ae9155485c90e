//! HTTP lookups in the current snapshot, in the style of Azure's REST APIs.

mod asking;
mod changes;
mod coverage;
mod distinct;
mod images;
mod listed;
mod live;
mod named;
pub mod openapi;
pub(crate) mod page;
mod parameters;
mod query;
mod reply;
mod runs;
mod snapshot_cache;
mod snippets;
pub mod token;
mod usage;

pub(crate) use asking::{acts, host, is_json, is_loopback, only, shown_key};
pub(crate) use reply::{error_body, refusal, status_of, without_paths};
pub(crate) use token::prefix;

use crate::catalog::feed::Feeds;
use crate::error::{Error, ErrorKind, Result};
use crate::functions::App;
use crate::telemetry::{self, count};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{any, get};
use futures::future::BoxFuture;
use snapshot_cache::SnapshotCache;
use std::sync::Arc;
use tokio::sync::OnceCell;
use tower::util::MapResponseLayer;
use tower_http::compression::CompressionLayer;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// State shared by the routes.
struct Web {
    app: Arc<App>,
    served: Arc<SnapshotCache>,
    live: live::Live,
    usage: Arc<usage::UsageLists>,
    feeds: Feeds,
    coverages: coverage::Coverages,
}

type Making = BoxFuture<'static, Result<Arc<App>>>;

/// State shared by the routes, created by the first request that needs it.
struct Lookups {
    web: OnceCell<Web>,
    make: Box<dyn Fn() -> Making + Send + Sync>,
}

impl Lookups {
    async fn ready(&self) -> Result<&Web> {
        let make = || async {
            let app = (self.make)().await.map_err(|error| {
                // The caller cannot fix this, so it gets a transient error; the operator reads the
                // reason.
                error.with_kind(ErrorKind::Transient).context("not ready")
            })?;
            let served = SnapshotCache::new(Arc::clone(&app.store), app.settings.look_every);
            Ok(Web {
                app,
                served,
                live: live::Live::default(),
                usage: Arc::default(),
                feeds: Feeds::default(),
                coverages: coverage::Coverages::default(),
            })
        };
        self.web.get_or_try_init(make).await
    }
}

/// The routes below `/api`. `make` creates the app when it is first needed.
pub fn routes(make: impl Fn() -> Making + Send + Sync + 'static) -> Router {
    let lookups = Arc::new(Lookups { web: OnceCell::new(), make: Box::new(make) });
    let routes = Router::new()
        .route("/api/images", get(images::list))
        .route("/api/images/latest", get(images::latest))
        .route("/api/images/aliases", get(images::aliases))
        .route("/api/images/usage", get(usage::list))
        .route("/api/images/{*id}", get(images::show))
        .route("/api/publishers", get(distinct::publishers))
        .route("/api/offers", get(distinct::offers))
        .route("/api/skus", get(distinct::skus))
        .route("/api/locations", get(distinct::locations))
        .route("/api/suggestions", get(distinct::suggestions))
        .route("/api/registries/storage", get(distinct::storage))
        .route("/api/changes", get(changes::list))
        .route("/api/runs", get(runs::list))
        .route("/api/runs/{run}", get(runs::show))
        .route("/api/runs/{run}/coverage", get(coverage::show))
        .route("/api/health", get(runs::health))
        .route("/api/openapi.json", get(openapi::show))
        .route("/api/ui", get(page::without_slash))
        .route("/api/ui/", get(page::below_api))
        .route("/api/ui/{*file}", get(page::file))
        .route("/api/{*path}", any(no_route))
        .method_not_allowed_fallback(no_method)
        .with_state(lookups)
        // A single layer, because each layer adds cost to every lookup.
        .layer((MapResponseLayer::new(reply::acceptable), CompressionLayer::new()));
    // A layer adds cost to every lookup, so this one is only added when its spans are recorded.
    if tracing::span_enabled!(tracing::Level::DEBUG) {
        return routes.layer(from_fn(in_lookup_span));
    }
    routes
}

/// Runs a lookup in a span whose parent is the host's span.
async fn in_lookup_span(request: Request, next: Next) -> Response {
    let (span, route) = lookup_span(&request);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    count!(monotonic_counter.azimg.lookups = 1_u64, route, status);
    response
}

fn lookup_span(request: &Request) -> (Span, String) {
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let span = tracing::debug_span!(
        "lookup",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        invocation = header("x-azure-functions-invocationid"),
        http.request.method = request.method().as_str(),
        http.route = route,
        http.response.status_code = Empty,
    );
    telemetry::adopt(&span, header("traceparent"));
    (span, route.to_owned())
}

/// Checks that the query of `uri` is valid for `images`.
pub fn check_query(uri: &Uri) -> Result<()> {
    query::Query::parse(uri, parameters::LIST).map(|_| ())
}

/// The response for an unknown path.
pub(crate) async fn no_route(uri: Uri) -> Response {
    reply::error(&Error::not_found(format!("{} does not exist", uri.path())))
}

async fn no_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return reply::methods(uri.path());
    }
    reply::not_allowed(&method, uri.path())
}
