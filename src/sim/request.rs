//! A parsed request to the simulated Resource Manager, and the checks that all its operations
//! share.

#![allow(clippy::result_large_err, reason = "a refusal is a response, made once")]

use super::organisation::Organisation;
use super::response::{SimResponse, error_response, json_response};
use super::state::Sim;
use super::versions;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

/// Rows of a page of a list.
const PAGE: usize = 50;

/// A parsed request.
pub(super) struct SimRequest<'a> {
    /// Path segments, decoded.
    pub(super) path: Vec<String>,
    /// Query parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The object id of the caller, from its token.
    pub(super) principal: String,
    /// The HTTP method.
    pub(super) method: Method,
    /// The JSON body; null without one.
    pub(super) body: Value,
    /// Scheme and authority of the request; links in responses begin with them.
    pub(super) origin: String,
    /// The simulated Azure that answers.
    pub(super) sim: &'a Sim,
}

impl SimRequest<'_> {
    /// The value of a query parameter; names are compared without case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the request has this version of the API or a later one.
    pub(super) fn since(&self, version: &str) -> bool {
        self.parameter("api-version").is_some_and(|requested| requested >= version)
    }

    /// Refuses a request as Azure does: without a version of the API, with a version that is not
    /// offered, or with a parameter that is neither the version nor in `allowed`.
    pub(super) fn refusal(&self, allowed: &[&str]) -> Option<SimResponse> {
        match self.parameter("api-version") {
            None => {
                return Some(error_response(
                    StatusCode::BAD_REQUEST,
                    "MissingApiVersionParameter",
                    "The api-version query parameter (?api-version=) is required for all requests.",
                ));
            }
            Some(version) => {
                if let Some(refused) = self.version_refused(version) {
                    return Some(refused);
                }
            }
        }
        for (name, _) in &self.query {
            let known = |other: &&str| other.eq_ignore_ascii_case(name);
            if !name.eq_ignore_ascii_case("api-version") && !allowed.iter().any(known) {
                let option = name.trim_start_matches('$');
                let text = format!(
                    "The query specified in the URI is not valid. Query option \
                    '{option}' is not allowed."
                );
                return Some(json_response(StatusCode::BAD_REQUEST, &json!({ "Message": text })));
            }
        }
        None
    }

    /// Refuses a malformed version, and one that is not offered for the type of the resource.
    fn version_refused(&self, version: &str) -> Option<SimResponse> {
        let date = version.len() >= 10
            && version.bytes().take(10).enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let path: Vec<String> = self.path.iter().map(|part| part.to_ascii_lowercase()).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some((kind, offered)) = versions::offered(&path) else {
            let text = format!("The api-version '{version}' is invalid.");
            let refused =
                || error_response(StatusCode::BAD_REQUEST, "InvalidApiVersionParameter", &text);
            return (!date || !("2015-01-01".."2027").contains(&version)).then(refused);
        };
        if offered.contains(&version) {
            return None;
        }
        let list = offered.join(", ");
        let (code, text) = if kind == "subscriptions" {
            let text = format!(
                "The api-version '{version}' is invalid. The supported versions are '{list}'."
            );
            ("InvalidApiVersionParameter", text)
        } else {
            let text = format!(
                "No registered resource provider found for location '' and API version '{version}' \
                 for type '{kind}'. The supported api-versions are '{list}'."
            );
            ("NoRegisteredProviderFound", text)
        };
        Some(error_response(StatusCode::BAD_REQUEST, code, &text))
    }

    /// Answers a GET from the organisation; refuses other methods and unknown parameters.
    pub(super) fn read(
        &self,
        allowed: &[&str],
        find: impl FnOnce(&Organisation) -> Result<Value, SimResponse>,
    ) -> SimResponse {
        let mut allowed = allowed.to_vec();
        allowed.push("$skiptoken");
        if let Some(refused) = self.refusal(&allowed) {
            return refused;
        }
        if self.method != Method::GET {
            return self.no_method();
        }
        let organisation = self.sim.organisation();
        find(&organisation)
            .map_or_else(|refused| refused, |value| json_response(StatusCode::OK, &value))
    }

    /// The refusal of a method that the simulation does not have.
    pub(super) fn no_method(&self) -> SimResponse {
        let text = format!("The method {} is not simulated here.", self.method);
        error_response(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text)
    }

    /// A page of a list, with the address of the next page.
    pub(super) fn page(&self, all: Vec<Value>) -> Result<Value, SimResponse> {
        let from: usize = match self.parameter("$skiptoken") {
            Some(text) => text.parse().map_err(|_| {
                error_response(
                    StatusCode::BAD_REQUEST,
                    "InvalidParameter",
                    "The skip token is invalid.",
                )
            })?,
            None => 0,
        };
        let more = all.len() > from + PAGE;
        let value: Vec<Value> = all.into_iter().skip(from).take(PAGE).collect();
        let mut page = json!({ "value": value });
        if more {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in &self.query {
                if !name.eq_ignore_ascii_case("$skiptoken") {
                    query.append_pair(name, value);
                }
            }
            query.append_pair("$skiptoken", &(from + PAGE).to_string());
            let path = self.path.join("/");
            page["nextLink"] = format!("{}/{path}?{}", self.origin, query.finish()).into();
        }
        Ok(page)
    }
}
