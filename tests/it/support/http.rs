//! A host with a catalog that was crawled, clients of it, and invocations as the Functions host sends them.

use super::web::Host;
use super::{Azure, json};
use async_trait::async_trait;
use axum::http::Request;
use azimg::testing::handler::MessageSender;
use azimg::testing::sim::{Scale, generate};
use reqwest::{Client, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A host whose catalog was crawled.
pub fn stage(seed: u64) -> (Azure, tempfile::TempDir, Host) {
    let azure = Azure::start(generate(Scale::Small, seed));
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, folder.path());
    (azure, folder, host)
}

/// An invocation as the Functions host sends it.
pub fn invocation(path: &str, id: &str) -> axum::http::request::Builder {
    Request::post(path)
        .header("host", "127.0.0.1:7000")
        .header("content-type", "application/json; charset=utf-8")
        .header("x-azure-functions-hostversion", "4.1037.0.0")
        .header("x-azure-functions-invocationid", id)
        .header("user-agent", "Azure-Functions-Host/4.1037.0.0")
}

/// A client that shows answers as they come.
pub fn client() -> Client {
    Client::builder().no_gzip().build().unwrap()
}

pub async fn parsed(answer: Response) -> Value {
    let body = answer.bytes().await.unwrap();
    serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {body:?}"))
}

pub async fn get(client: &Client, url: &str) -> (u16, Value) {
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), parsed(answer).await)
}

/// The headers of an answer, without those that are another each time.
pub fn headers(answer: &Response) -> BTreeMap<String, String> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
    let all = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    all.filter(|(name, _)| name != "date" && name != "x-ms-request-id").collect()
}

/// A way past the host that leads nowhere.
pub struct Nowhere;

#[async_trait]
impl MessageSender for Nowhere {
    async fn send(&self, _: &str, _: &str, _: Duration) -> azimg::testing::error::Result<()> {
        Ok(())
    }
}
