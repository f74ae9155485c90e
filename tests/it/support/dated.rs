//! A gallery whose versions have an end of life, as a tenant in a file.

use super::case::SUBSCRIPTION;
use serde_json::{Value, json};

/// A gallery with a definition of versions that end on days of 2026, by name; `excluded` is never the latest.
pub fn gallery(versions: &[(&str, Option<&str>)], excluded: &str) -> Value {
    let gallery = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g"
    );
    let of = |(name, end): &(&str, Option<&str>)| {
        json!({"id": format!("{gallery}/images/d/versions/{name}"), "location": "eastus",
               "properties": {"provisioningState": "Succeeded", "publishingProfile": {
                   "endOfLifeDate": end, "excludeFromLatest": *name == excluded,
                   "targetRegions": [{"name": "East US", "regionalReplicaCount": 1}]}}})
    };
    json!({"locations": ["eastus"], "marketplace": {"eastus": {}},
        "galleries": [{"id": gallery, "location": "eastus", "properties": {"provisioningState": "Succeeded"}}],
        "definitions": [{"id": format!("{gallery}/images/d"), "location": "eastus", "properties":
            {"osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "architecture": "x64",
             "identifier": {"publisher": "p", "offer": "o", "sku": "s"}, "provisioningState": "Succeeded"}}],
        "versions": versions.iter().map(of).collect::<Vec<_>>()})
}
