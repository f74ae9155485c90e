//! The simulated Resource Manager: subscriptions, locations, the compute provider's image
//! listings. Strict: what Azure refuses is refused here, in Azure's words.

use super::state::{Sim, error, json};
use super::world::{Image, LOGICAL, LocationSet, PHYSICAL, Publisher, Sku};
use crate::image::Status;
use crate::source::locations::short_name;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

/// The first subscription that the simulated identity sees.
pub const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";
/// The tenant.
pub(super) const TENANT: &str = "22222222-2222-4222-8222-222222222222";

/// The id of the n-th subscription, from 1.
pub(super) fn subscription_id(n: u8) -> String {
    format!("11111111-1111-4111-8111-1111111111{:02x}", n.wrapping_add(0x10))
}

/// A request, taken apart.
pub(super) struct Asked<'a> {
    /// Path segments, decoded.
    pub(super) path: Vec<String>,
    /// Query parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    /// Who asks.
    pub(super) principal: String,
    /// The method.
    pub(super) method: Method,
    /// The JSON body, or null.
    pub(super) body: Value,
    /// Where it was asked, as links lead there.
    pub(super) origin: String,
    pub(super) sim: &'a Sim,
}

type Answer = Response<Body>;

impl Asked<'_> {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it is asked with this version of the API or a later one.
    pub(super) fn since(&self, version: &str) -> bool {
        self.parameter("api-version").is_some_and(|asked| asked >= version)
    }

    /// Refuses what Azure refuses: no version of the API, or parameters that are not known.
    pub(super) fn refusal(&self, allowed: &[&str]) -> Option<Answer> {
        match self.parameter("api-version") {
            None => {
                return Some(error(
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
                return Some(json(StatusCode::BAD_REQUEST, &json!({ "Message": text })));
            }
        }
        None
    }
}

impl Asked<'_> {
    /// Refuses options of a listing that have no meaning (`ListVirtualMachineImages`: `$expand`, `$top`,
    /// `$orderby`).
    fn options_refused(&self) -> Option<Answer> {
        let is_meant = |name: &str, value: &str| match name {
            // The second is what the Azure CLI asks for.
            "$expand" => ["properties", "properties/imagedeprecationstatus"]
                .contains(&value.to_ascii_lowercase().as_str()),
            "$top" => value.parse::<u32>().is_ok_and(|top| top > 0),
            "$orderby" => {
                let mut words = value.split_whitespace();
                words.next().is_some_and(|word| word.eq_ignore_ascii_case("name"))
                    && words.all(|word| ["asc", "desc"].contains(&word))
            }
            _ => true,
        };
        let odd = self
            .query
            .iter()
            .find(|(name, value)| !is_meant(&name.to_ascii_lowercase(), value.trim()));
        let (name, value) = odd?;
        let text = format!(
            "The query specified in the URI is not valid. The value '{value}' of query option '{}' is not \
             valid.",
            name.trim_start_matches('$')
        );
        Some(json(StatusCode::BAD_REQUEST, &json!({ "Message": text })))
    }

    /// Refuses a version that is none, and one that is not offered for the type of what is asked for.
    fn version_refused(&self, version: &str) -> Option<Answer> {
        let date = version.len() >= 10
            && version.bytes().take(10).enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let path: Vec<String> = self.path.iter().map(|part| part.to_ascii_lowercase()).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some((kind, offered)) = super::versions::offered(&path) else {
            let text = format!("The api-version '{version}' is invalid.");
            let refused = || error(StatusCode::BAD_REQUEST, "InvalidApiVersionParameter", &text);
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
        Some(error(StatusCode::BAD_REQUEST, code, &text))
    }
}

/// Answers one request within its quota, with the name of its operation for the statistics.
pub(super) fn answer(asked: &Asked<'_>) -> (&'static str, Answer) {
    let (operation, mut answer) = unlimited(asked);
    if operation == "QueryResources" {
        return (operation, asked.sim.quota.count_query(&asked.principal, answer));
    }
    let location = asked.path.get(5).map_or("", String::as_str).to_ascii_lowercase();
    let subscription = asked.path.get(1).map_or("", String::as_str).to_ascii_lowercase();
    asked.sim.stats.asked(&subscription, &asked.principal);
    match asked.sim.quota.count(operation, &subscription, &location, &asked.principal) {
        Ok(headers) => {
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::try_from(value) {
                    answer.headers_mut().insert(name, value);
                }
            }
            (operation, answer)
        }
        Err(refused) => (operation, *refused),
    }
}

fn unlimited(asked: &Asked<'_>) -> (&'static str, Answer) {
    let path: Vec<String> = asked.path.iter().map(|part| part.to_ascii_lowercase()).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let names: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let plain = |name, value: fn(&Asked<'_>) -> Value| {
        let refused = asked.refusal(&["includeExtendedLocations"]);
        (name, refused.unwrap_or_else(|| json(StatusCode::OK, &value(asked))))
    };
    if let ["subscriptions", id, ..] = path[..]
        && let Some(refused) = closed(asked, id, &path)
    {
        return ("Unknown", refused);
    }
    if let Some(served) = super::gallery::serve(asked, &path) {
        return served;
    }
    if let Some(served) = super::registries::serve(asked, &path) {
        return served;
    }
    if path[..] == ["providers", "microsoft.resourcegraph", "resources"] {
        return ("QueryResources", super::graph::serve(asked));
    }
    if asked.method != Method::GET {
        return ("Unknown", asked.no_method());
    }
    match path[..] {
        ["subscriptions"] => plain("ListSubscriptions", |asked| {
            let all: Vec<Value> =
                asked.sim.subscriptions.iter().map(|id| subscription(id)).collect();
            list(&all)
        }),
        ["tenants"] => plain("ListTenants", |_| {
            list(&[json!({"id": format!("/tenants/{TENANT}"), "tenantId": TENANT,
                "displayName": "Simulated", "tenantCategory": "Home"})])
        }),
        ["subscriptions", _] => plain("GetSubscription", |asked| subscription(&asked.path[1])),
        ["subscriptions", _, "locations"] => {
            plain("ListLocations", |asked| list(&locations(&asked.path[1])))
        }
        ["subscriptions", _, "providers", "microsoft.compute"] => plain("GetProvider", provider),
        [
            "subscriptions",
            _,
            "providers",
            "microsoft.compute",
            "locations",
            location,
            "publishers",
            ..,
        ] => images(asked, location, &names[7..], &path[7..]),
        _ => ("Unknown", not_found(&asked.path)),
    }
}

/// The refusal of a subscription that is not there, may not be read, or has no compute provider.
fn closed(asked: &Asked<'_>, id: &str, path: &[&str]) -> Option<Answer> {
    if !asked.sim.subscriptions.iter().any(|known| known == id) {
        let text = format!("The subscription '{id}' could not be found.");
        return Some(error(StatusCode::NOT_FOUND, "SubscriptionNotFound", &text));
    }
    let organisation = asked.sim.organisation();
    if organisation.denied.contains(id) {
        let text = format!(
            "The client does not have authorization to perform this action over scope \
             '/subscriptions/{id}'."
        );
        return Some(error(StatusCode::FORBIDDEN, "AuthorizationFailed", &text));
    }
    if organisation.unregistered.contains(id) && path.contains(&"microsoft.compute") {
        let text = "The subscription is not registered to use namespace 'Microsoft.Compute'.";
        return Some(error(StatusCode::CONFLICT, "MissingSubscriptionRegistration", text));
    }
    None
}

fn not_found(path: &[String]) -> Answer {
    let text =
        format!("No HTTP resource was found that matches the request URI '/{}'.", path.join("/"));
    error(StatusCode::NOT_FOUND, "InvalidResourceType", &text)
}

fn list(value: &[Value]) -> Value {
    json!({ "value": value })
}

fn subscription(id: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{id}"), "authorizationSource": "RoleBased",
        "managedByTenants": [], "subscriptionId": id, "tenantId": TENANT,
        "displayName": "Simulated", "state": "Enabled",
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01",
            "quotaId": "EnterpriseAgreement_2014-09-01", "spendingLimit": "Off"},
    })
}

/// Some of the pairs that were recorded.
const PAIRED: [(&str, &str); 4] = [
    ("eastus", "westus"),
    ("eastus2", "centralus"),
    ("northeurope", "westeurope"),
    ("eastasia", "southeastasia"),
];
/// So many of the physical locations have zones, as those that were recorded have.
const ZONED: usize = 30;

/// Locations as they were recorded with 2022-12-01.
fn locations(subscription: &str) -> Vec<Value> {
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
            let zone = |n: u8| json!({"logicalZone": n.to_string(), "physicalZone": format!("{short}-az{n}")});
            entry["availabilityZoneMappings"] = json!([zone(1), zone(2), zone(3)]);
        }
        entry
    });
    physical.chain(LOGICAL.iter().map(|name| entry(name, "Logical"))).collect()
}

fn provider(asked: &Asked<'_>) -> Value {
    let display = |short: &String| {
        let name = PHYSICAL.iter().find(|name| short_name(name) == *short);
        name.map_or_else(|| short.clone(), |name| (*name).to_owned())
    };
    let locations: Vec<String> = asked.sim.world.locations.iter().map(display).collect();
    json!({
        "id": format!("/subscriptions/{}/providers/Microsoft.Compute", asked.path[1]),
        "namespace": "Microsoft.Compute", "registrationState": "Registered",
        "resourceTypes": [
            {"resourceType": "virtualMachines", "locations": locations, "apiVersions": ["2024-07-01"]},
            {"resourceType": "locations/publishers", "locations": locations, "apiVersions": ["2024-07-01"]},
        ],
    })
}

/// The listings below `publishers`: `rest` is what follows it, as written; `lower` in lower case.
fn images(
    asked: &Asked<'_>,
    location: &str,
    rest: &[&str],
    lower: &[&str],
) -> (&'static str, Answer) {
    let world = &asked.sim.world;
    let Some(here) = world.location(location) else {
        let text = format!(
            "No registered resource provider found for location '{location}' and \
            API version for type 'locations/publishers'."
        );
        return ("Unknown", error(StatusCode::BAD_REQUEST, "NoRegisteredProviderFound", &text));
    };
    let (name, allowed): (&'static str, &[&str]) = match lower {
        [] => ("ListPublishers", &[]),
        [_, "artifacttypes", "vmimage", "offers"] => ("ListOffers", &[]),
        [_, "artifacttypes", "vmimage", "offers", _, "skus"] => ("ListSkus", &[]),
        [_, "artifacttypes", "vmimage", "offers", _, "skus", _, "versions"] => {
            ("ListVersions", &["$expand", "$top", "$orderby"])
        }
        [_, "artifacttypes", "vmimage", "offers", _, "skus", _, "versions", _] => ("GetImage", &[]),
        _ => return ("Unknown", not_found(&asked.path)),
    };
    if let Some(refused) = asked.refusal(allowed).or_else(|| asked.options_refused()) {
        return (name, refused);
    }
    let base = format!(
        "/Subscriptions/{}/Providers/Microsoft.Compute/Locations/{location}/Publishers",
        asked.path[1]
    );
    if rest.is_empty() {
        let entries: Vec<Value> = world
            .publishers
            .iter()
            .filter(|publisher| publisher.locations & here != 0)
            .map(|publisher| entry(location, &publisher.name, &base))
            .collect();
        return (name, json(StatusCode::OK, &entries.into()));
    }
    let found = world.publisher(rest[0], here).filter(|publisher| !publisher.vanishes);
    let answer = match found {
        None => Err(format!("Publisher: {} was not found.", rest[0])),
        Some(publisher) => below(asked, publisher, here, location, rest, &base),
    };
    let answer = answer.map_or_else(
        |message| error(StatusCode::NOT_FOUND, "NotFound", &message),
        |value| json(StatusCode::OK, &value),
    );
    (name, answer)
}

fn below(
    asked: &Asked<'_>,
    publisher: &Publisher,
    here: LocationSet,
    location: &str,
    rest: &[&str],
    base: &str,
) -> Result<Value, String> {
    const GONE: &str = "Artifact: VMImage was not found.";
    let base = format!("{base}/{}/ArtifactTypes/VMImage/Offers", publisher.name);
    if rest.len() == 4 {
        let offers = publisher.offers.iter().filter(|offer| offer.locations & here != 0);
        return Ok(offers.map(|offer| entry(location, &offer.name, &base)).collect());
    }
    let offer = publisher
        .offers
        .iter()
        .find(|offer| offer.locations & here != 0 && offer.name.eq_ignore_ascii_case(rest[4]))
        .filter(|offer| !offer.vanishes)
        .ok_or(GONE)?;
    let base = format!("{base}/{}/Skus", offer.name);
    if rest.len() == 6 {
        let skus = offer.skus.iter().filter(|sku| sku.locations & here != 0);
        let listed = skus.map(|sku| {
            let mut value = entry(location, &sku.name, &base);
            value["properties"] =
                json!({"automaticOSUpgradeProperties": {"automaticOSUpgradeSupported": false}});
            value
        });
        return Ok(listed.collect());
    }
    let sku = offer
        .skus
        .iter()
        .find(|sku| sku.locations & here != 0 && sku.name.eq_ignore_ascii_case(rest[6]))
        .ok_or(GONE)?;
    let base = format!("{base}/{}/Versions", sku.name);
    if rest.len() == 8 {
        return Ok(versions(asked, sku, here, location, &base));
    }
    let image = sku
        .versions
        .iter()
        .find(|image| image.locations & here != 0 && image.version.eq_ignore_ascii_case(rest[8]))
        .ok_or(GONE)?;
    let mut value = entry(location, &image.version, &base);
    value["properties"] = detailed(image);
    Ok(value)
}

fn versions(asked: &Asked<'_>, sku: &Sku, here: LocationSet, location: &str, base: &str) -> Value {
    let expand = asked.parameter("$expand").unwrap_or_default().to_ascii_lowercase();
    let expand = expand.starts_with("properties");
    let mut images: Vec<&Image> =
        sku.versions.iter().filter(|image| image.locations & here != 0).collect();
    if asked.parameter("$orderby").is_some_and(|order| order.to_ascii_lowercase().ends_with("desc"))
    {
        images.reverse();
    }
    let top = asked.parameter("$top").and_then(|top| top.parse().ok()).unwrap_or(usize::MAX);
    let listed = images.into_iter().take(top).map(|image| {
        let mut value = entry(location, &image.version, base);
        if expand {
            value["properties"] = listed(image);
            value["extendedLocation"] = Value::Null;
        }
        value
    });
    listed.collect()
}

fn entry(location: &str, name: &str, base: &str) -> Value {
    json!({"location": location, "name": name, "id": format!("{base}/{name}")})
}

fn listed(image: &Image) -> Value {
    let mut value = json!({
        "hyperVGeneration": image.hyper_v_generation,
        "architecture": image.architecture,
        "replicaType": "Managed",
        "replicaCount": 10,
        "goLiveDate": null,
    });
    if let Some(mut deprecation) = deprecation(image) {
        if deprecation.get("scheduledDeprecationTime").is_none() {
            deprecation["scheduledDeprecationTime"] = Value::Null;
        }
        value["imageDeprecationStatus"] = deprecation;
    }
    value
}

fn deprecation(image: &Image) -> Option<Value> {
    let state = match image.status? {
        Status::Active => "Active",
        Status::Scheduled => "ScheduledForDeprecation",
        Status::Deprecated | Status::EndOfLife | Status::Gone => "Deprecated",
    };
    let mut value = json!({ "imageState": state });
    if let Some(at) = image.scheduled_deprecation_at.and_then(|at| at.format(&Rfc3339).ok()) {
        value["scheduledDeprecationTime"] = at.replace('Z', "+00:00").into();
    }
    if let Some((kind, text)) = image.alternative.as_ref().and_then(|a| a.split_once(':')) {
        value["alternativeOption"] = json!({"type": kind, "value": text});
    }
    Some(value)
}

fn detailed(image: &Image) -> Value {
    let mut value = json!({
        "hyperVGeneration": image.hyper_v_generation,
        "architecture": image.architecture,
        "replicaType": "Managed",
        "disallowed": {"vmDiskType": "None"},
        "automaticOSUpgradeProperties": {"automaticOSUpgradeSupported": false},
        "dataDiskImages": [],
        "features": image.features.iter()
            .map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>(),
    });
    if let Some(os) = &image.os {
        value["osDiskImage"] = json!({"operatingSystem": os, "sizeInBytes": 32_213_303_808_u64});
    }
    if let Some((publisher, product, name)) = &image.plan {
        value["plan"] = json!({"publisher": publisher, "product": product, "name": name});
    }
    if let Some(deprecation) = deprecation(image) {
        value["imageDeprecationStatus"] = deprecation;
    }
    value
}
