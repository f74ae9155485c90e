//! Configuration of the export of spans and counts.

/// Whether spans and counts are exported, from the OpenTelemetry SDK's own variables.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// Whether a collector is configured (`OTEL_EXPORTER_OTLP_ENDPOINT`).
    pub on: bool,
    /// Whether the process has a service name (`OTEL_SERVICE_NAME`).
    pub named: bool,
}
