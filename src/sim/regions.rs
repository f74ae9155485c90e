//! Validation of the target regions of simulated image versions.

#![allow(clippy::result_large_err, reason = "a refusal is a response, made once")]

use super::request::SimRequest;
use super::response::{SimResponse, error_response};
use super::world::PHYSICAL;
use crate::source::locations::short_name;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Types of storage (`StorageAccountType` of `GalleryRP`).
const STORAGE: [&str; 4] = ["Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"];
/// Most replicas of a version in all regions
/// (learn.microsoft.com/azure/virtual-machines/azure-compute-gallery, limits).
const MOST_REPLICAS: u64 = 100;

/// The target regions of a body with their defaults; `now` are the current ones.
pub(super) fn targets(
    request: &SimRequest<'_>,
    now: &[Value],
    wanted: &Value,
) -> Result<Vec<Value>, SimResponse> {
    let wanted = wanted.as_array().filter(|regions| !regions.is_empty());
    let wanted = wanted.ok_or_else(|| refused("A version needs at least one target region."))?;
    let mut regions: Vec<Value> = Vec::new();
    let mut replicas = 0;
    for region in wanted {
        let region = target(request, now, region)?;
        if regions.iter().any(|other| name_of(other) == name_of(&region)) {
            return Err(refused(&format!(
                "The target region '{}' is there twice.",
                name_of(&region)
            )));
        }
        let sets = region["additionalReplicaSets"].as_array();
        for set in std::iter::once(&region).chain(sets.into_iter().flatten()) {
            replicas += count(set)?;
        }
        regions.push(region);
    }
    if replicas > MOST_REPLICAS {
        let text = format!("{replicas} replicas are more than the {MOST_REPLICAS} of a version.");
        return Err(refused(&text));
    }
    Ok(regions)
}

/// One target region with its defaults.
fn target(request: &SimRequest<'_>, now: &[Value], wanted: &Value) -> Result<Value, SimResponse> {
    let name = wanted["name"].as_str().unwrap_or_default();
    let known = PHYSICAL.iter().any(|known| short_name(known) == short_name(name));
    if !known && !request.sim.world.locations.iter().any(|known| *known == short_name(name)) {
        return Err(refused(&format!("The target region '{name}' is not valid.")));
    }
    let mut region = wanted.clone();
    let before = now.iter().find(|before| name_of(before) == short_name(name));
    let before = before.map_or(&Value::Null, |before| &before["storageAccountType"]);
    if region["storageAccountType"].is_null() {
        let kept = before.as_str().unwrap_or(STORAGE[0]);
        region["storageAccountType"] = kept.into();
    } else if before.is_string() && *before != region["storageAccountType"] {
        let text = "Changing property 'storageAccountType' is not allowed.";
        return Err(error_response(StatusCode::CONFLICT, "PropertyChangeNotAllowed", text));
    }
    if region["regionalReplicaCount"].is_null() {
        region["regionalReplicaCount"] = json!(1);
    }
    if !request.since("2024-03-03")
        && let Some(members) = region.as_object_mut()
    {
        members.shift_remove("additionalReplicaSets");
    }
    let sets = region["additionalReplicaSets"].as_array();
    for set in std::iter::once(&region).chain(sets.into_iter().flatten()) {
        let storage = set["storageAccountType"].as_str().unwrap_or_default();
        if !STORAGE.contains(&storage) {
            return Err(refused(&format!("The storage account type '{storage}' is not valid.")));
        }
    }
    Ok(region)
}

/// Number of replicas of a region or of a set of replicas.
fn count(of: &Value) -> Result<u64, SimResponse> {
    let count = &of["regionalReplicaCount"];
    let text = || format!("The replica count '{count}' is not between 1 and {MOST_REPLICAS}.");
    let count = count.as_u64().filter(|count| (1..=MOST_REPLICAS).contains(count));
    count.ok_or_else(|| refused(&text()))
}

/// The short name of a target region.
fn name_of(region: &Value) -> String {
    short_name(region["name"].as_str().unwrap_or_default())
}

/// The refusal of a target region.
fn refused(text: &str) -> SimResponse {
    error_response(StatusCode::BAD_REQUEST, "InvalidParameter", text)
}
