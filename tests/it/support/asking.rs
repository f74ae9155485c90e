//! A signed-in request to the simulated Azure, without a connection.

use axum::body::Body;
use axum::http::Request;
use azimg::testing::sim::{Sim, SimCredential};
use azure_core::credentials::TokenCredential;
use serde_json::Value;
use std::sync::Arc;

pub async fn ask(sim: &Arc<Sim>, method: &str, uri: &str, body: Option<&Value>) -> (u16, Value) {
    let token = SimCredential.get_token(&["scope"], None).await.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1{uri}"))
        .header("authorization", format!("Bearer {}", token.token.secret()));
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let answer = sim.answer(request.body(body).unwrap()).await;
    let status = answer.status().as_u16();
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}
