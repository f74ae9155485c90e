//! Telemetry: log lines, spans, and counts.
//!
//! All of them are emitted with `tracing`; this module decides where they go. A line, a span and a
//! count contain names, statuses and durations, and never a token, a query string or a body:
//! outgoing requests are described by [`operation`] and the types of `client`, which contain none
//! of these.
//!
//! Counts are events with the target [`COUNTS`] whose fields name the metric, in the form of
//! `tracing-opentelemetry`: `monotonic_counter.azimg.rows = 12_u64`. They never reach the log.

pub mod awaited;
mod counts;
mod export;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp_disabled.rs"]
mod otlp;

pub use counts::COUNTS;
pub(crate) use counts::count;
pub use export::Export;

use crate::sink;
use crate::sink::log::{self, JsonLine, TextLine};
use counts::is_count;
use otlp::Exporters;
use tracing::Span;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Destination and format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON on stdout: the Functions host reports every line on stderr as an error.
    Json,
    /// Text on stderr.
    Text,
}

/// Keeps telemetry running; what is still buffered is sent when it is dropped.
#[derive(Default)]
pub struct TelemetryGuard(Option<Exporters>);

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(exporters) = self.0.take() {
            exporters.stop();
        }
    }
}

/// Installs the subscriber. Text has `colours` if stderr is a terminal. An existing subscriber (in
/// tests) is kept.
pub fn init(lines: LogFormat, filter: EnvFilter, colours: bool, export: &Export) -> TelemetryGuard {
    let filter = filter.and(filter_fn(|metadata| !is_count(metadata)));
    let written: Box<dyn Layer<Registry> + Send + Sync> = match lines {
        LogFormat::Json => {
            let json = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log::stdout);
            let json = json.fmt_fields(JsonFields::new()).event_format(JsonLine::default());
            Box::new(json.with_filter(filter))
        }
        LogFormat::Text => {
            let text = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log::stderr);
            let colours = colours && sink::stderr_is_terminal();
            Box::new(text.event_format(TextLine { colours }).with_filter(filter))
        }
    };
    let mut layers = vec![written];
    let (exporters, failed) = match export.on.then(|| Exporters::start(export)).transpose() {
        Ok(exporters) => (exporters, None),
        Err(failed) => (None, Some(failed)),
    };
    if let Some(exporters) = &exporters {
        layers.extend(exporters.layers());
    }
    let _ = tracing_subscriber::registry().with(layers).try_init();
    if let Some(error) = failed {
        tracing::warn!(error, "traces and metrics are not exported");
    }
    TelemetryGuard(exporters)
}

/// Attaches `span` to the trace that a W3C `traceparent` header names.
pub fn adopt(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent {
        otlp::adopt(span, parent);
    }
}

/// The operation of a request path, with names replaced by `{}`:
/// `subscriptions/{}/providers/Microsoft.Compute/galleries`. The number of distinct operations is
/// small, and none contains customer data.
pub fn operation(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[0] {
        "v2" | "acr" => of_registry(&parts),
        "oauth2" | "metadata" => parts.join("/"),
        _ => {
            // Types and names alternate; after `providers` comes a namespace, which is no name.
            let mut names = false;
            let shown = parts.iter().enumerate().map(|(at, part)| {
                let is_name = names && parts[at - 1] != "providers";
                names = !names;
                if is_name { "{}" } else { part }
            });
            shown.collect::<Vec<_>>().join("/")
        }
    }
}

/// The operation of a registry path: the API's own words are kept, and everything between two of
/// them is one name.
fn of_registry(parts: &[&str]) -> String {
    const WORDS: [&str; 12] = [
        "v2",
        "acr",
        "v1",
        "_catalog",
        "_manifests",
        "_tags",
        "manifests",
        "blobs",
        "uploads",
        "tags",
        "list",
        "referrers",
    ];
    let mut shown: Vec<&str> =
        parts.iter().map(|part| if WORDS.contains(part) { part } else { "{}" }).collect();
    shown.dedup();
    shown.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_names_contain_no_identifiers() {
        let provider = "/subscriptions/1f/providers/Microsoft.Compute";
        let of = |path: &str| operation(path);
        assert_eq!(of("/subscriptions"), "subscriptions");
        assert_eq!(of("/subscriptions/1f/locations"), "subscriptions/{}/locations");
        assert_eq!(
            of(&format!("{provider}/locations/eastus/publishers/p/artifacttypes/vmimage/offers")),
            "subscriptions/{}/providers/Microsoft.Compute/locations/{}/publishers/{}/artifacttypes/{}/offers"
        );
        assert_eq!(
            of("/providers/Microsoft.ResourceGraph/resources"),
            "providers/Microsoft.ResourceGraph/resources"
        );
        assert_eq!(of("/acr/v1/_catalog"), "acr/v1/_catalog");
        assert_eq!(of("/acr/v1/a/b/_manifests"), "acr/v1/{}/_manifests");
        assert_eq!(of("/acr/v1/a/b/_manifests/sha256:1"), "acr/v1/{}/_manifests/{}");
        assert_eq!(of("/v2/a/b/manifests/1.0"), "v2/{}/manifests/{}");
        assert_eq!(of("/v2/a/blobs/uploads/7"), "v2/{}/blobs/uploads/{}");
        assert_eq!(of("/oauth2/token"), "oauth2/token");
        assert_eq!(of("/v2/"), "v2");
    }
}
