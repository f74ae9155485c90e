//! The simulated subscriptions: lists of them and of tenants, their locations, and the compute
//! provider.

use super::ids::TENANT;
use super::request::SimRequest;
use super::world::{LOGICAL, PHYSICAL};
use crate::source::locations::short_name;
use serde_json::{Value, json};

/// The subscriptions that the identity sees.
pub(super) fn list(request: &SimRequest<'_>) -> Value {
    let all: Vec<Value> = request.sim.subscriptions.iter().map(|id| subscription(id)).collect();
    json!({ "value": all })
}

/// The one tenant.
pub(super) fn tenants(_: &SimRequest<'_>) -> Value {
    json!({"value": [{"id": format!("/tenants/{TENANT}"), "tenantId": TENANT,
        "displayName": "Simulated", "tenantCategory": "Home"}]})
}

/// The subscription that the path names.
pub(super) fn get(request: &SimRequest<'_>) -> Value {
    subscription(&request.path[1])
}

/// A subscription as the Resource Manager returns it.
fn subscription(id: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{id}"), "authorizationSource": "RoleBased",
        "managedByTenants": [], "subscriptionId": id, "tenantId": TENANT,
        "displayName": "Simulated", "state": "Enabled",
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01",
            "quotaId": "EnterpriseAgreement_2014-09-01", "spendingLimit": "Off"},
    })
}

/// Pairs of locations: some of the recorded ones.
const PAIRED: [(&str, &str); 4] = [
    ("eastus", "westus"),
    ("eastus2", "centralus"),
    ("northeurope", "westeurope"),
    ("eastasia", "southeastasia"),
];
/// Number of physical locations, from the first on, that have availability zones, as recorded ones
/// have.
const ZONED: usize = 30;

/// The locations of the subscription that the path names, as they were recorded with 2022-12-01.
pub(super) fn locations(request: &SimRequest<'_>) -> Value {
    let subscription = &request.path[1];
    let id = |name: &str| format!("/subscriptions/{subscription}/locations/{name}");
    let entry = |name: &&str, kind: &str| {
        let short = short_name(name);
        let pairs = PAIRED.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
        let pair = pairs.filter(|(from, _)| **from == short);
        let paired: Vec<Value> = pair.map(|(_, to)| json!({"name": to, "id": id(to)})).collect();
        json!({
            "id": id(&short), "name": short,
            "type": "Region", "displayName": name, "regionalDisplayName": name,
            "metadata": {"regionType": kind, "regionCategory": "Recommended",
                "geography": "Simulated", "geographyGroup": "Simulated", "longitude": "0",
                "latitude": "0", "physicalLocation": name, "pairedRegion": paired},
        })
    };
    let physical = PHYSICAL.iter().enumerate().map(|(at, name)| {
        let mut entry = entry(name, "Physical");
        if at < ZONED {
            let short = short_name(name);
            let zone = |n: u8| {
                json!({"logicalZone": n.to_string(), "physicalZone": format!("{short}-az{n}")})
            };
            entry["availabilityZoneMappings"] = json!([zone(1), zone(2), zone(3)]);
        }
        entry
    });
    let logical = LOGICAL.iter().map(|name| entry(name, "Logical"));
    json!({ "value": physical.chain(logical).collect::<Vec<_>>() })
}

/// The compute provider, with the locations of the simulated world.
pub(super) fn provider(request: &SimRequest<'_>) -> Value {
    let display = |short: &String| {
        let name = PHYSICAL.iter().find(|name| short_name(name) == *short);
        name.map_or_else(|| short.clone(), |name| (*name).to_owned())
    };
    let locations: Vec<String> = request.sim.world.locations.iter().map(display).collect();
    json!({
        "id": format!("/subscriptions/{}/providers/Microsoft.Compute", request.path[1]),
        "namespace": "Microsoft.Compute", "registrationState": "Registered",
        "resourceTypes": [
            {"resourceType": "virtualMachines", "locations": locations,
                "apiVersions": ["2024-07-01"]},
            {"resourceType": "locations/publishers", "locations": locations,
                "apiVersions": ["2024-07-01"]},
        ],
    })
}
