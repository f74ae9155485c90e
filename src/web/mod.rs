//! HTTP lookups from the current snapshot, in the manner of Azure's REST APIs.

mod images;
mod reply;
mod runs;

pub(crate) use images::date;
pub(crate) use reply::status_of;
pub(crate) use runs::{describe as describe_run, runs as list_runs};

use crate::catalog::{Catalog, Filter};
use crate::error::{Error, Result};
use crate::functions::App;
use crate::pipeline::snapshot;
use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tower_http::compression::CompressionLayer;

/// A snapshot that is being served is compared with `current.json` this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the routes share.
pub struct Web {
    app: Arc<App>,
    served: Mutex<Option<(Instant, Arc<Catalog>)>>,
}

impl Web {
    /// The current catalog, loaded once per snapshot.
    async fn catalog(&self) -> Result<Arc<Catalog>> {
        let mut served = self.served.lock().await;
        if let Some((looked, catalog)) = &*served
            && looked.elapsed() < LOOK_EVERY
        {
            return Ok(Arc::clone(catalog));
        }
        let store = self.app.store.as_ref();
        let current = snapshot::current(store).await;
        if let (Ok(Some(manifest)), Some((looked, catalog))) = (&current, &mut *served)
            && manifest.run <= catalog.manifest.run
        {
            *looked = Instant::now();
            return Ok(Arc::clone(catalog));
        }
        match (Catalog::open(store, &Filter::default()).await, &mut *served) {
            (Ok(catalog), _) => {
                let catalog = Arc::new(catalog);
                *served = Some((Instant::now(), Arc::clone(&catalog)));
                Ok(catalog)
            }
            // A snapshot that cannot be read does not take the one before out of service.
            (Err(error), Some((looked, catalog))) => {
                tracing::error!(%error, "the new snapshot is refused; the one before is served");
                *looked = Instant::now();
                Ok(Arc::clone(catalog))
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// The routes below `/api`.
pub fn routes(app: Arc<App>) -> Router {
    let web = Arc::new(Web { app, served: Mutex::default() });
    Router::new()
        .route("/api/images", get(images::list))
        .route("/api/images/latest", get(images::latest))
        .route("/api/images/{*id}", get(images::show))
        .route("/api/runs", get(runs::list))
        .route("/api/runs/{run}", get(runs::show))
        .route("/api/health", get(runs::health))
        .fallback(no_route)
        .with_state(web)
        .layer(CompressionLayer::new())
}

async fn no_route(uri: Uri) -> axum::response::Response {
    reply::error(&Error::not_found(format!("there is no {} here", uri.path())))
}
