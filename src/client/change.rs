//! Requests that change something: sent once, and never again unless it is sure that the first one
//! was not done; then followed to their end.
//!
//! An answer that is lost leaves open whether the change was begun. Only its owner can find out, by
//! looking at the thing that was to be changed: such a failure is told apart by [`Accepted`].

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

/// The longest refusal for quota that is waited for before a change is given up.
const LONGEST_REFUSAL: Duration = Duration::from_mins(5);
/// An operation is looked at this often unless it asks for another pace, and at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LONGEST_LOOK: Duration = Duration::from_mins(2);

/// A change to be made.
#[derive(Debug, Clone)]
pub struct Change {
    /// PATCH, POST, PUT or DELETE.
    pub method: Method,
    /// The path of what is changed, in segments.
    pub path: Vec<String>,
    /// The version of the API.
    pub version: &'static str,
    /// What is sent.
    pub body: Option<Value>,
    /// It is only to be made of the thing that has this `ETag`, where it has any.
    pub if_match: Option<String>,
}

/// What became of a change that was sent.
#[derive(Debug)]
pub enum Accepted {
    /// It is done.
    Done,
    /// It is under way: look there. The address holds a signature, and belongs into no log.
    UnderWay(Url),
    /// It is under way, and only the thing itself tells how far.
    Unnamed,
    /// The answer was lost: it may have been begun, or not.
    Unknown(Error),
}

/// How far an operation is.
#[derive(Debug, PartialEq, Eq)]
pub enum OperationStatus {
    /// It ended well.
    Succeeded,
    /// It goes on, so far done in percent if that is told; look again after so long.
    Running(Option<u8>, Duration),
    /// It ended otherwise, in Azure's words.
    Failed(String),
    /// The answer does not tell: it may have ended, or not.
    Untold,
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
    /// Makes a change, unless it is refused. What Azure refuses for its quota was not begun, and is
    /// sent again when the quota is there.
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
        // What is not sent for want of a token is no lost answer.
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
                    let wait =
                        error.retry_after().unwrap_or(LOOK_EVERY).max(Duration::from_secs(1));
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

    /// Where to look for the end of a change that was accepted. An operation that is named decides, whatever the
    /// body says: compute answers a PATCH of a gallery with `Succeeded` and an operation (recorded).
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

    /// The address of an operation, as Azure or the user gives it: of the Resource Manager, or none.
    pub fn operation(&self, text: &str) -> Result<Url> {
        let url = Url::parse(text)
            .map_err(|_| Error::invalid("the address of an operation cannot be read"))?;
        check_transport(&url)?;
        self.check_origin(&url)?;
        Ok(url)
    }

    /// Looks how far an operation is.
    pub async fn standing(&self, operation: &Url) -> Result<OperationStatus> {
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
        let pause = answer::wait(&headers).unwrap_or(LOOK_EVERY).min(LONGEST_LOOK);
        if body.is_empty() {
            // The `Location` of an operation answers 202 until it is over, and 200 or 204 then (recorded). What
            // stands in `Azure-AsyncOperation` always has a status.
            let is_monitor = operation.query_pairs().any(|(name, _)| name == "monitor");
            return Ok(match (status, is_monitor) {
                (StatusCode::ACCEPTED, _) => OperationStatus::Running(None, pause),
                (_, true) => OperationStatus::Succeeded,
                (_, false) => OperationStatus::Untold,
            });
        }
        let operation: Operation = read(&request, &body)?;
        Ok(operation.standing(pause))
    }
}

impl Operation {
    fn standing(self, pause: Duration) -> OperationStatus {
        match self.status.to_ascii_lowercase().as_str() {
            "succeeded" => OperationStatus::Succeeded,
            "failed" | "canceled" | "cancelled" => {
                let said = answer::ServiceError::of(&self.error.unwrap_or_default()).text();
                let status = super::one_line(&self.status);
                OperationStatus::Failed(format!("{status} {said}").trim_end().to_owned())
            }
            // The resource itself, where `Location` leads there.
            "" => {
                let properties = self.properties.unwrap_or_default();
                let state = properties["provisioningState"].as_str().unwrap_or_default();
                match state.to_ascii_lowercase().as_str() {
                    "succeeded" => OperationStatus::Succeeded,
                    "failed" | "canceled" => {
                        OperationStatus::Failed("its provisioning failed".to_owned())
                    }
                    "" => OperationStatus::Untold,
                    _ => OperationStatus::Running(None, pause),
                }
            }
            // Whatever else it is called is none of the three ends that there are.
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
