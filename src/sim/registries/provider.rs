//! The simulated provider of container registries: the registries of a subscription or of a
//! resource group, and single registries.

use super::SimRegistry;
use crate::sim::request::SimRequest;
use crate::sim::response::{SimResponse, error_response, json_response};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// Answers requests to the provider; the first value is the name of the operation. `None` for other
/// paths.
pub(in crate::sim) fn serve(
    request: &SimRequest<'_>,
    path: &[&str],
) -> Option<(&'static str, SimResponse)> {
    const PROVIDER: &str = "microsoft.containerregistry";
    let (group, name) = match path {
        ["subscriptions", _, "providers", PROVIDER, "registries"] => (None, None),
        ["subscriptions", _, "resourcegroups", group, "providers", PROVIDER, "registries"] => {
            (Some(*group), None)
        }
        [
            "subscriptions",
            _,
            "resourcegroups",
            group,
            "providers",
            PROVIDER,
            "registries",
            name,
        ] => (Some(*group), Some(*name)),
        _ => return None,
    };
    let operation = if name.is_some() { "GetRegistry" } else { "ListRegistries" };
    if request.method != Method::GET {
        return Some((operation, request.no_method()));
    }
    if let Some(refused) = request.refusal(&[]) {
        return Some((operation, refused));
    }
    let all = request.sim.registries();
    let is_ours = |registry: &&SimRegistry| {
        let is_there = registry.subscription.eq_ignore_ascii_case(&request.path[1]);
        is_there && group.is_none_or(|group| registry.group.eq_ignore_ascii_case(group))
    };
    let mut ours = all.iter().filter(is_ours);
    let Some(name) = name else {
        let value: Vec<Value> = ours.map(SimRegistry::to_json).collect();
        return Some((operation, json_response(StatusCode::OK, &json!({ "value": value }))));
    };
    let found = ours.find(|registry| registry.name.eq_ignore_ascii_case(name));
    Some((
        operation,
        found.map_or_else(
            || unknown_registry(name),
            |r| json_response(StatusCode::OK, &r.to_json()),
        ),
    ))
}

/// The refusal of an unknown registry. In the format of this provider (recorded), a status is
/// beside the error.
fn unknown_registry(name: &str) -> SimResponse {
    let text = format!("The resource {name} could not be found.");
    let (head, _) = error_response(StatusCode::NOT_FOUND, "", "").into_parts();
    let body = json!({"error": {"code": "ResourceNotFound", "message": text}, "status": "Failed"});
    Response::from_parts(head, Body::from(body.to_string()))
}
