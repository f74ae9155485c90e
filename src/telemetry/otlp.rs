//! Export of spans and counts over OTLP/HTTP by the OpenTelemetry SDK. The SDK's own variables
//! apply: `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_METRIC_EXPORT_INTERVAL`.

use super::counts::is_count;
use super::export::Export;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::collections::HashMap;
use std::time::Duration;
use tracing::{Level, Span};
use tracing_opentelemetry::{MetricsLayer, OpenTelemetrySpanExt};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

/// How long the end of a command waits for a collector, for spans and for counts each.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Exporters of spans and counts, on their own threads.
pub(super) struct Exporters {
    spans: SdkTracerProvider,
    counts: SdkMeterProvider,
}

impl Exporters {
    pub(super) fn start(export: &Export) -> Result<Self, String> {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if !export.named {
            resource = resource.with_service_name("azimg");
        }
        let resource = resource.build();
        let spans = SpanExporter::builder().with_http().build().map_err(|e| e.to_string())?;
        let counts = MetricExporter::builder().with_http().build().map_err(|e| e.to_string())?;
        let spans = SdkTracerProvider::builder().with_batch_exporter(spans);
        let counts = SdkMeterProvider::builder().with_periodic_exporter(counts);
        Ok(Self {
            spans: spans.with_resource(resource.clone()).build(),
            counts: counts.with_resource(resource).build(),
        })
    }

    /// A layer for spans with the events in them, and a layer for counts.
    pub(super) fn layers(&self) -> [Box<dyn Layer<Registry> + Send + Sync>; 2] {
        let spans = tracing_opentelemetry::layer().with_tracer(self.spans.tracer("azimg"));
        let spans = spans.with_location(false).with_threads(false).with_target(false);
        let ours = filter_fn(|metadata| {
            let heard = metadata.is_span() || *metadata.level() <= Level::INFO;
            heard && metadata.target().starts_with("azimg") && !is_count(metadata)
        });
        let counts = MetricsLayer::new(self.counts.clone()).with_filter(filter_fn(is_count));
        [Box::new(spans.with_filter(ours)), Box::new(counts)]
    }

    /// Sends what is still buffered.
    pub(super) fn stop(self) {
        // An unreachable collector must not turn a successful command into a failure.
        let _ = self.spans.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
        let _ = self.counts.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
    }
}

/// Attaches `span` to the trace of a `traceparent` header (W3C Trace Context §3.2), if it is valid.
pub(super) fn adopt(span: &Span, traceparent: &str) {
    let header = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &header);
    if parent.has_active_span() {
        // It fails only without an exporter.
        let _ = span.set_parent(parent);
    }
}
