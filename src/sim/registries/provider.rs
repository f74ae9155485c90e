//! The simulated provider of container registries: lists of a subscription and of a resource group, and one registry
//! by its name.

use super::SimRegistry;
use crate::sim::arm::Asked;
use crate::sim::state::{error, json as answer};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// Answers what is asked of the provider, with the operation's name.
pub(in crate::sim) fn serve(
    asked: &Asked<'_>,
    path: &[&str],
) -> Option<(&'static str, Response<Body>)> {
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
    if asked.method != Method::GET {
        return Some((operation, asked.no_method()));
    }
    if let Some(refused) = asked.refusal(&[]) {
        return Some((operation, refused));
    }
    let all = asked.sim.registries();
    let is_ours = |registry: &&SimRegistry| {
        let is_there = registry.subscription.eq_ignore_ascii_case(&asked.path[1]);
        is_there && group.is_none_or(|group| registry.group.eq_ignore_ascii_case(group))
    };
    let mut ours = all.iter().filter(is_ours);
    let Some(name) = name else {
        let value: Vec<Value> = ours.map(SimRegistry::to_json).collect();
        return Some((operation, answer(StatusCode::OK, &json!({ "value": value }))));
    };
    let found = ours.find(|registry| registry.name.eq_ignore_ascii_case(name));
    Some((operation, found.map_or_else(|| missing(name), |r| answer(StatusCode::OK, &r.to_json()))))
}

/// As this provider says it (recorded): beside the error stands a status.
fn missing(name: &str) -> Response<Body> {
    let text = format!("The resource {name} could not be found.");
    let (head, _) = error(StatusCode::NOT_FOUND, "", "").into_parts();
    let body = json!({"error": {"code": "ResourceNotFound", "message": text}, "status": "Failed"});
    Response::from_parts(head, Body::from(body.to_string()))
}
