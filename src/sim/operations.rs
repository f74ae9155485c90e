//! Asynchronous operations of the simulated Azure: begun by PATCH, POST and DELETE, polled at the
//! addresses in their responses.

use super::organisation::{Operation, Organisation};
use super::request::SimRequest;
use super::response::{SimResponse, error_response, json_response};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Duration of an operation.
const TAKES: Duration = Duration::from_millis(300);

impl SimRequest<'_> {
    /// Begins an operation, and returns the response with the addresses to poll. With `body`, the
    /// body of a PATCH, its status is 200; without one it is 202. `failure` is the text of its
    /// error, if it fails.
    pub(super) fn begin(&self, body: Option<&Value>, failure: Option<String>) -> SimResponse {
        let id = ulid::Ulid::generate().to_string().to_ascii_lowercase();
        let about = self.path.join("/").to_ascii_lowercase();
        let about = about.trim_end_matches("/share").to_owned();
        let operation = Operation { ends: Instant::now() + TAKES, failure, about };
        self.sim.organisation().operations.insert(id.clone(), operation);
        let mut response = if let Some(body) = body {
            json_response(StatusCode::OK, body)
        } else {
            let mut accepted = Response::new(Body::empty());
            *accepted.status_mut() = StatusCode::ACCEPTED;
            accepted
        };
        let at = format!(
            "{}/subscriptions/{}/providers/Microsoft.Compute/locations/eastus/capsOperations/{id}",
            self.origin,
            self.path.get(1).map_or("", String::as_str)
        );
        let version = self.parameter("api-version").unwrap_or_default();
        let signed = format!("api-version={version}&t=1&c=CERTIFICATE&s=SIGNATURE&h=HASH");
        let addresses = [
            ("azure-asyncoperation", format!("{at}?{signed}")),
            ("location", format!("{at}?monitor=true&{signed}")),
        ];
        for (name, address) in addresses {
            if let Ok(value) = HeaderValue::try_from(address) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }

    /// Sets the provisioning state of the requested resource to `Updating` while an operation on it
    /// runs.
    pub(super) fn mark_updating(&self, all: &Organisation, resource: &mut Value) {
        let path = self.path.join("/").to_ascii_lowercase();
        let now = Instant::now();
        if all.operations.values().any(|other| other.about == path && other.ends > now) {
            resource["properties"]["provisioningState"] = "Updating".into();
        }
    }

    /// The status of an operation.
    pub(super) fn operation(&self, id: &str) -> (&'static str, SimResponse) {
        let name = "GetOperationStatus";
        if self.parameter("s").is_none() {
            let text = "The signature of the operation is missing.";
            return (name, error_response(StatusCode::FORBIDDEN, "AuthorizationFailed", text));
        }
        let found = self.sim.organisation().operations.get(id).cloned();
        let Some(operation) = found else {
            let text = format!("The operation '{id}' was not found.");
            return (name, error_response(StatusCode::NOT_FOUND, "NotFound", &text));
        };
        let over = operation.ends <= Instant::now();
        if self.parameter("monitor").is_some() {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
            return (name, response);
        }
        let mut body = json!({"startTime": "2026-11-21T00:00:00.0000000+00:00", "name": id,
            "status": "InProgress"});
        match (&operation.failure, over) {
            (_, false) => {}
            (None, true) => body["status"] = "Succeeded".into(),
            (Some(text), true) => {
                body["status"] = "Failed".into();
                body["error"] = json!({"code": "InternalExecutionError", "message": text});
            }
        }
        let mut response = json_response(StatusCode::OK, &body);
        if !over {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        }
        (name, response)
    }
}
