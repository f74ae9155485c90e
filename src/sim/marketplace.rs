//! Lists of marketplace images of the compute provider: publishers, offers, SKUs and versions of a
//! location, and single images.

use super::request::SimRequest;
use super::response::{SimResponse, error_response, json_response, no_such_path};
use super::world::{Image, LocationSet, Publisher, Sku};
use crate::image::Status;
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

impl SimRequest<'_> {
    /// Refuses values of query options that have no meaning (`ListVirtualMachineImages`: `$expand`,
    /// `$top`, `$orderby`).
    fn options_refused(&self) -> Option<SimResponse> {
        let is_meant = |name: &str, value: &str| match name {
            // The Azure CLI sends the second.
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
            "The query specified in the URI is not valid. The value '{value}' of query option \
             '{}' is not valid.",
            name.trim_start_matches('$')
        );
        Some(json_response(StatusCode::BAD_REQUEST, &json!({ "Message": text })))
    }
}

/// Answers lists below `publishers`. `rest` has the path segments after that word as written,
/// `lower` in lower case. The first value is the name of the operation.
pub(super) fn serve(
    request: &SimRequest<'_>,
    location: &str,
    rest: &[&str],
    lower: &[&str],
) -> (&'static str, SimResponse) {
    let world = &request.sim.world;
    let Some(here) = world.location(location) else {
        let text = format!(
            "No registered resource provider found for location '{location}' and \
            API version for type 'locations/publishers'."
        );
        return (
            "Unknown",
            error_response(StatusCode::BAD_REQUEST, "NoRegisteredProviderFound", &text),
        );
    };
    let (name, allowed): (&'static str, &[&str]) = match lower {
        [] => ("ListPublishers", &[]),
        [_, "artifacttypes", "vmimage", "offers"] => ("ListOffers", &[]),
        [_, "artifacttypes", "vmimage", "offers", _, "skus"] => ("ListSkus", &[]),
        [_, "artifacttypes", "vmimage", "offers", _, "skus", _, "versions"] => {
            ("ListVersions", &["$expand", "$top", "$orderby"])
        }
        [_, "artifacttypes", "vmimage", "offers", _, "skus", _, "versions", _] => ("GetImage", &[]),
        _ => return ("Unknown", no_such_path(&request.path)),
    };
    if let Some(refused) = request.refusal(allowed).or_else(|| request.options_refused()) {
        return (name, refused);
    }
    let base = format!(
        "/Subscriptions/{}/Providers/Microsoft.Compute/Locations/{location}/Publishers",
        request.path[1]
    );
    if rest.is_empty() {
        let entries: Vec<Value> = world
            .publishers
            .iter()
            .filter(|publisher| publisher.locations & here != 0)
            .map(|publisher| entry(location, &publisher.name, &base))
            .collect();
        return (name, json_response(StatusCode::OK, &entries.into()));
    }
    let found = world.publisher(rest[0], here).filter(|publisher| !publisher.vanishes);
    let found = match found {
        None => Err(format!("Publisher: {} was not found.", rest[0])),
        Some(publisher) => below(request, publisher, here, location, rest, &base),
    };
    let response = found.map_or_else(
        |message| error_response(StatusCode::NOT_FOUND, "NotFound", &message),
        |value| json_response(StatusCode::OK, &value),
    );
    (name, response)
}

/// A list or an image below a publisher; an error is the message of a 404.
fn below(
    request: &SimRequest<'_>,
    publisher: &Publisher,
    here: LocationSet,
    location: &str,
    rest: &[&str],
    base: &str,
) -> Result<Value, String> {
    const NOT_FOUND: &str = "Artifact: VMImage was not found.";
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
        .ok_or(NOT_FOUND)?;
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
        .ok_or(NOT_FOUND)?;
    let base = format!("{base}/{}/Versions", sku.name);
    if rest.len() == 8 {
        return Ok(versions(request, sku, here, location, &base));
    }
    let image = sku
        .versions
        .iter()
        .find(|image| image.locations & here != 0 && image.version.eq_ignore_ascii_case(rest[8]))
        .ok_or(NOT_FOUND)?;
    let mut value = entry(location, &image.version, &base);
    value["properties"] = detailed(image);
    Ok(value)
}

/// The versions of a SKU in a location, with `$expand`, `$orderby` and `$top`.
fn versions(
    request: &SimRequest<'_>,
    sku: &Sku,
    here: LocationSet,
    location: &str,
    base: &str,
) -> Value {
    let expand = request.parameter("$expand").unwrap_or_default().to_ascii_lowercase();
    let expand = expand.starts_with("properties");
    let mut images: Vec<&Image> =
        sku.versions.iter().filter(|image| image.locations & here != 0).collect();
    if request
        .parameter("$orderby")
        .is_some_and(|order| order.to_ascii_lowercase().ends_with("desc"))
    {
        images.reverse();
    }
    let top = request.parameter("$top").and_then(|top| top.parse().ok()).unwrap_or(usize::MAX);
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

/// An entry of a list.
fn entry(location: &str, name: &str, base: &str) -> Value {
    json!({"location": location, "name": name, "id": format!("{base}/{name}")})
}

/// The properties of an image in an expanded list of versions.
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

/// The deprecation status of an image, if it has one.
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

/// The properties of a single image.
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
