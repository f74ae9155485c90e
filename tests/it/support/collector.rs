//! A strict OpenTelemetry collector: OTLP over HTTP, decoded with the definitions of the protocol.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// The data received.
#[derive(Default)]
pub struct Heard {
    pub spans: Vec<Span>,
    pub metrics: Vec<Metric>,
    /// The service names of the exporters.
    pub services: Vec<String>,
    /// All bytes received, to search for what must not be in them.
    pub bytes: Vec<u8>,
}

/// A running collector.
pub struct Collector {
    pub address: String,
    pub heard: Arc<Mutex<Heard>>,
    _runtime: Runtime,
}

impl Collector {
    pub fn start() -> Self {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let routes = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(Arc::clone(&heard));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, heard, _runtime: runtime }
    }
}

fn check(headers: &HeaderMap) -> Result<(), StatusCode> {
    let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap());
    if kind == Some("application/x-protobuf") {
        Ok(())
    } else {
        Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }
}

async fn traces(
    State(heard): State<Arc<Mutex<Heard>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StatusCode> {
    check(&headers)?;
    let request =
        ExportTraceServiceRequest::decode(body.clone()).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut heard = heard.lock().unwrap();
    heard.bytes.extend_from_slice(&body);
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        heard.services.push(texts(&attributes)["service.name"].clone());
        heard.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    Ok(())
}

async fn metrics(
    State(heard): State<Arc<Mutex<Heard>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StatusCode> {
    check(&headers)?;
    let request =
        ExportMetricsServiceRequest::decode(body.clone()).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut heard = heard.lock().unwrap();
    heard.bytes.extend_from_slice(&body);
    for resource in request.resource_metrics {
        heard.metrics.extend(resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
    }
    Ok(())
}

/// Attributes as text.
pub fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}

impl Heard {
    /// The last value of a counter or gauge, by the value of one of its attributes.
    pub fn last(&self, name: &str, by: &str) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        for metric in self.metrics.iter().filter(|metric| metric.name == name) {
            let points = match metric.data.as_ref().unwrap() {
                metric::Data::Sum(sum) => &sum.data_points,
                metric::Data::Gauge(gauge) => &gauge.data_points,
                other => panic!("{name} is {other:?}"),
            };
            let mut now: BTreeMap<String, u64> = BTreeMap::new();
            for point in points {
                let value = match point.value.unwrap() {
                    number_data_point::Value::AsInt(number) => u64::try_from(number).unwrap(),
                    number_data_point::Value::AsDouble(number) => {
                        panic!("{name} is no count: {number}")
                    }
                };
                let of = texts(&point.attributes).remove(by).unwrap_or_default();
                *now.entry(of).or_default() += value;
            }
            found.extend(now);
        }
        found
    }
}
