//! The operations of the simulated Resource Manager and their quota. It is strict: it refuses what
//! Azure refuses, with Azure's texts.

use super::gallery;
use super::graph;
use super::marketplace;
use super::registries;
use super::request::SimRequest;
use super::response::{SimResponse, error_response, json_response, no_such_path};
use super::subscriptions;
use axum::http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

/// Answers a request, or refuses it when its quota is used up; the first value is the name of its
/// operation for the statistics.
pub(super) fn answer(request: &SimRequest<'_>) -> (&'static str, SimResponse) {
    let (operation, mut response) = dispatch(request);
    if operation == "QueryResources" {
        return (operation, request.sim.quota.count_query(&request.principal, response));
    }
    let location = request.path.get(5).map_or("", String::as_str).to_ascii_lowercase();
    let subscription = request.path.get(1).map_or("", String::as_str).to_ascii_lowercase();
    request.sim.stats.count_caller(&subscription, &request.principal);
    match request.sim.quota.count(operation, &subscription, &location, &request.principal) {
        Ok(headers) => {
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::try_from(value) {
                    response.headers_mut().insert(name, value);
                }
            }
            (operation, response)
        }
        Err(refused) => (operation, *refused),
    }
}

/// Answers a request without regard to quotas; the first value is the name of its operation.
fn dispatch(request: &SimRequest<'_>) -> (&'static str, SimResponse) {
    let path: Vec<String> = request.path.iter().map(|part| part.to_ascii_lowercase()).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let names: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let plain = |name, value: fn(&SimRequest<'_>) -> Value| {
        let refused = request.refusal(&["includeExtendedLocations"]);
        (name, refused.unwrap_or_else(|| json_response(StatusCode::OK, &value(request))))
    };
    if let ["subscriptions", id, ..] = path[..]
        && let Some(refused) = refused_subscription(request, id, &path)
    {
        return ("Unknown", refused);
    }
    if let Some(served) = gallery::serve(request, &path) {
        return served;
    }
    if let Some(served) = registries::serve(request, &path) {
        return served;
    }
    if path[..] == ["providers", "microsoft.resourcegraph", "resources"] {
        return ("QueryResources", graph::serve(request));
    }
    if request.method != Method::GET {
        return ("Unknown", request.no_method());
    }
    match path[..] {
        ["subscriptions"] => plain("ListSubscriptions", subscriptions::list),
        ["tenants"] => plain("ListTenants", subscriptions::tenants),
        ["subscriptions", _] => plain("GetSubscription", subscriptions::get),
        ["subscriptions", _, "locations"] => plain("ListLocations", subscriptions::locations),
        ["subscriptions", _, "providers", "microsoft.compute"] => {
            plain("GetProvider", subscriptions::provider)
        }
        [
            "subscriptions",
            _,
            "providers",
            "microsoft.compute",
            "locations",
            location,
            "publishers",
            ..,
        ] => marketplace::serve(request, location, &names[7..], &path[7..]),
        _ => ("Unknown", no_such_path(&request.path)),
    }
}

/// Refuses a subscription that does not exist, that the caller may not read, or that has no compute
/// provider.
fn refused_subscription(request: &SimRequest<'_>, id: &str, path: &[&str]) -> Option<SimResponse> {
    if !request.sim.subscriptions.iter().any(|known| known == id) {
        let text = format!("The subscription '{id}' could not be found.");
        return Some(error_response(StatusCode::NOT_FOUND, "SubscriptionNotFound", &text));
    }
    let organisation = request.sim.organisation();
    if organisation.denied.contains(id) {
        let text = format!(
            "The client does not have authorization to perform this action over scope \
             '/subscriptions/{id}'."
        );
        return Some(error_response(StatusCode::FORBIDDEN, "AuthorizationFailed", &text));
    }
    if organisation.unregistered.contains(id) && path.contains(&"microsoft.compute") {
        let text = "The subscription is not registered to use namespace 'Microsoft.Compute'.";
        return Some(error_response(StatusCode::CONFLICT, "MissingSubscriptionRegistration", text));
    }
    None
}
