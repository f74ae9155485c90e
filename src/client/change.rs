//! Requests that change something: each is sent once, and again only when the first one certainly
//! had no effect; then polled until it completes.
//!
//! A lost response leaves open whether the change was begun. Only the caller can find out, by
//! reading the resource that was to be changed: [`Accepted`] distinguishes this failure from the
//! others.

use super::wire::{WireRequest, WireResponse, check_transport};
use super::{Client, answer, read};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Longest total wait for throttling before a change is given up.
const LONGEST_REFUSAL: Duration = Duration::from_mins(5);
/// Default interval between polls of an operation, and the longest one that a response may ask for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LONGEST_LOOK: Duration = Duration::from_mins(2);
/// An answer may ask for no pause at all.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// A change to be made.
#[derive(Debug, Clone)]
pub struct Change {
    /// PATCH, POST, PUT or DELETE.
    pub method: Method,
    /// Path segments of the resource to change.
    pub path: Vec<String>,
    /// API version.
    pub version: &'static str,
    /// Request body.
    pub body: Option<Value>,
    /// Makes the change conditional on this `ETag`, if the resource has one.
    pub if_match: Option<String>,
}

/// Outcome of a change that was sent.
#[derive(Debug)]
pub enum Accepted {
    /// The change is complete.
    Done,
    /// The change is under way; poll this URL. It contains a signature and must not be logged.
    UnderWay(Url),
    /// The change is under way without an operation URL: only the resource itself shows its
    /// progress.
    Unnamed,
    /// The response was lost: the change may or may not have been begun.
    Unknown(Error),
}

/// Status of an operation.
#[derive(Debug, PartialEq, Eq)]
pub enum OperationStatus {
    /// The operation succeeded.
    Succeeded,
    /// The operation is running. Progress in percent if reported, and the delay before the next
    /// poll.
    Running(Option<u8>, Duration),
    /// The operation failed or was cancelled; the text is Azure's.
    Failed(String),
    /// The response contains no status: the operation may or may not have ended.
    Missing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    #[serde(default)]
    status: String,
    #[serde(default)]
    percent_complete: Option<f64>,
    #[serde(default)]
    properties: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

impl Client {
    /// Sends a change. A change that Azure throttles was not begun, and is sent again when the
    /// quota allows it.
    pub async fn change(&self, change: &Change) -> Result<Accepted> {
        let segments: Vec<&str> = change.path.iter().map(String::as_str).collect();
        let url = self.url(&segments, &[("api-version", change.version)])?;
        let body = change.body.as_ref().map(|body| Bytes::from(body.to_string()));
        let request = WireRequest {
            body,
            if_match: change.if_match.clone(),
            ..WireRequest::new(change.method.clone(), url)
        };
        self.check_origin(&request.url)?;
        // A change that is not sent for lack of a token must not be reported as a lost response.
        self.signed_in().await?;
        let mut waited = Duration::ZERO;
        loop {
            let WireResponse { status, headers, body } = match self.once(&request, 0).await {
                Ok(answer) => answer,
                Err(error) if error.is_transient() => return Ok(Accepted::Unknown(error)),
                Err(error) => return Err(error),
            };
            if status.is_success() {
                return self.accepted(status, &headers, &body);
            }
            let error = answer::refusal(&request.name(), status, &headers, &body);
            match status {
                StatusCode::TOO_MANY_REQUESTS => {
                    let wait = error.retry_after().unwrap_or(LOOK_EVERY).max(SHORTEST_LOOK);
                    waited += wait;
                    if waited > LONGEST_REFUSAL {
                        return Err(error.with_kind(ErrorKind::Throttled));
                    }
                    tokio::time::sleep(wait).await;
                }
                status if status.is_server_error() => return Ok(Accepted::Unknown(error)),
                _ => return Err(error),
            }
        }
    }

    /// How to follow a change that was accepted. A named operation takes precedence over the body:
    /// compute answers a PATCH of a gallery with `Succeeded` and an operation (recorded).
    fn accepted(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Accepted> {
        let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let state = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let state = state["properties"]["provisioningState"].as_str();
        let is_over = status != StatusCode::ACCEPTED
            && state.is_none_or(|state| state.eq_ignore_ascii_case("Succeeded"));
        let followed = |link: &str| {
            let operation = self.operation(link);
            operation.map(Accepted::UnderWay).map_err(|e| e.with_kind(ErrorKind::BadAnswer))
        };
        match (of("azure-asyncoperation"), of("location")) {
            (Some(link), _) => followed(link),
            (None, Some(link)) if !is_over => followed(link),
            (None, None) if !is_over => Ok(Accepted::Unnamed),
            _ => Ok(Accepted::Done),
        }
    }

    /// Parses an operation's URL, as given by Azure or the user. It must be of the Resource
    /// Manager's origin.
    pub fn operation(&self, text: &str) -> Result<Url> {
        let url = Url::parse(text)
            .map_err(|_| Error::invalid("the URL of the operation is not valid"))?;
        check_transport(&url)?;
        self.check_origin(&url)?;
        Ok(url)
    }

    /// Polls the status of an operation.
    pub async fn operation_status(&self, operation: &Url) -> Result<OperationStatus> {
        let request = WireRequest::get(operation.clone());
        self.check_origin(&request.url)?;
        let mut delays = self.retry.delays(operation);
        let mut waited = Duration::ZERO;
        let WireResponse { status, headers, body } = loop {
            let error = match self.once(&request, 0).await {
                Ok(answer) if answer.status.is_success() => break answer,
                Ok(WireResponse { status, headers, body }) => {
                    answer::refusal(&request.name(), status, &headers, &body)
                }
                Err(error) => error,
            };
            let Some(wait) = self.retry.wait(&error, &mut delays, waited) else {
                return Err(error);
            };
            waited += wait;
            tokio::time::sleep(wait).await;
        };
        let pause = answer::wait(&headers).unwrap_or(LOOK_EVERY).clamp(SHORTEST_LOOK, LONGEST_LOOK);
        if body.is_empty() {
            // The `Location` URL of an operation answers 202 until it is over, and 200 or 204 then
            // (recorded). The `Azure-AsyncOperation` URL always answers with a status in the body.
            let is_monitor = operation.query_pairs().any(|(name, _)| name == "monitor");
            return Ok(match (status, is_monitor) {
                (StatusCode::ACCEPTED, _) => OperationStatus::Running(None, pause),
                (_, true) => OperationStatus::Succeeded,
                (_, false) => OperationStatus::Missing,
            });
        }
        let operation: Operation = read(&request, &body)?;
        Ok(operation.into_status(pause))
    }
}

impl Operation {
    fn into_status(self, pause: Duration) -> OperationStatus {
        match self.status.to_ascii_lowercase().as_str() {
            "succeeded" => OperationStatus::Succeeded,
            "failed" | "canceled" | "cancelled" => {
                let message = answer::ServiceError::of(&self.error.unwrap_or_default()).text();
                let status = super::one_line(&self.status);
                OperationStatus::Failed(format!("{status} {message}").trim_end().to_owned())
            }
            // The resource itself, where `Location` leads to it.
            "" => {
                let properties = self.properties.unwrap_or_default();
                let state = properties["provisioningState"].as_str().unwrap_or_default();
                match state.to_ascii_lowercase().as_str() {
                    "succeeded" => OperationStatus::Succeeded,
                    "failed" | "canceled" => {
                        OperationStatus::Failed("provisioning failed".to_owned())
                    }
                    "" => OperationStatus::Missing,
                    _ => OperationStatus::Running(None, pause),
                }
            }
            // Any other status is not one of the terminal three.
            _ => {
                let percent = self.percent_complete.map(|share| share.clamp(0.0, 100.0));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between 0 and 100"
                )]
                OperationStatus::Running(percent.map(|share| share as u8), pause)
            }
        }
    }
}
