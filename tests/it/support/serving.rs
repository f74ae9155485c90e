//! Lookups over TCP on a store.

use super::fleet::{Direct, app};
use azimg::testing::functions::App;
use azimg::testing::sim::{Conditions, Scale, Sim, generate};
use azimg::testing::store::Store;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// Lookups over TCP on a store, looking for a newer snapshot at every moment.
pub async fn serve(store: &Arc<dyn Store>) -> String {
    let sim = Sim::new(generate(Scale::Small, 1), Conditions::default());
    let wire = Direct { sim, latency: Duration::ZERO, random: None };
    let mut app: App = app(Arc::new(wire), Arc::clone(store), "http://127.0.0.1:1/");
    app.settings.look_every = Duration::from_millis(5);
    let app = Arc::new(app);
    let routes = azimg::testing::web::routes(move || Box::pin(ready(Ok(Arc::clone(&app)))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    address
}
