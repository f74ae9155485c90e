//! Where spans and counts go.

/// Where spans and counts go, if anywhere: what the OpenTelemetry SDK's own variables say.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// Whether a collector is named (`OTEL_EXPORTER_OTLP_ENDPOINT`).
    pub on: bool,
    /// Whether a name is given to this process (`OTEL_SERVICE_NAME`).
    pub named: bool,
}
