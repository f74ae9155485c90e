//! Simulated galleries of others: shared directly or by a community, each as one location has it.

#![allow(clippy::result_large_err, reason = "a refusal is an answer, made once")]

use super::arm::Asked;
use super::gallery::not_found;
use super::organisation::{Organisation, SimDefinition, SimGallery, SimVersion};
use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

type Answer = Response<Body>;

/// Galleries of others, as one location has them.
pub(super) fn foreign(
    asked: &Asked<'_>,
    location: &str,
    kind: &str,
    below: &[&str],
) -> (&'static str, Answer) {
    let shared = kind == "sharedgalleries";
    let name = match below {
        [] if shared => "ListSharedGalleries",
        [_] => "GetSharedGallery",
        [_, "images"] => "ListGalleryArtifact",
        [_, "images", _] => "GetGalleryArtifact",
        [_, "images", _, "versions"] => "ListGalleryArtifactVersion",
        [_, "images", _, "versions", _] => "GetGalleryArtifactVersion",
        _ => return ("Unknown", not_found(&asked.path.join("/"))),
    };
    let allowed: &[&str] = if shared { &["sharedTo"] } else { &[] };
    let found = asked.read(allowed, |all| {
        let galleries = if shared { &all.shared } else { &all.communities };
        let here = |gallery: &&SimGallery| is_in(gallery, location);
        if below.is_empty() {
            // Half of them are shared with the tenant, half with the first subscription.
            let tenant = asked.parameter("sharedTo").is_some();
            let first = asked.sim.subscriptions.first().is_some_and(|id| *id == asked.path[1]);
            let mine = galleries.values().enumerate().filter(|(at, gallery)| {
                let visible = if at % 2 == 0 { tenant } else { !tenant && first };
                visible && is_in(gallery, location)
            });
            return asked.page(mine.map(|(_, g)| foreign_gallery(g, location, shared)).collect());
        }
        let gallery = galleries.get(below[0]).filter(here).ok_or_else(|| not_found(below[0]))?;
        foreign_part(asked, gallery, location, shared, &below[1..])
    });
    (name, found)
}

fn is_in(gallery: &SimGallery, location: &str) -> bool {
    gallery.definitions.values().any(|definition| definition_is_in(definition, location))
}

fn definition_is_in(definition: &SimDefinition, location: &str) -> bool {
    definition.versions.values().any(|version| version.is_in(location))
}

fn unique(gallery: &SimGallery, shared: bool) -> String {
    let kind = if shared { "SharedGalleries" } else { "CommunityGalleries" };
    format!("/{kind}/{}", gallery.name)
}

fn foreign_gallery(gallery: &SimGallery, location: &str, shared: bool) -> Value {
    json!({"location": location, "name": gallery.name,
        "identifier": {"uniqueId": unique(gallery, shared)}})
}

fn foreign_definition(
    gallery: &SimGallery,
    definition: &SimDefinition,
    location: &str,
    shared: bool,
) -> Value {
    let id = format!("{}/Images/{}", unique(gallery, shared), definition.name);
    let mut properties = definition.properties.clone();
    if let Some(members) = properties.as_object_mut() {
        members.shift_remove("provisioningState");
    }
    json!({"location": location, "name": definition.name, "identifier": {"uniqueId": id},
        "properties": properties})
}

fn foreign_version(
    gallery: &SimGallery,
    definition: &SimDefinition,
    version: &SimVersion,
    location: &str,
    (shared, states): (bool, bool),
) -> Value {
    let base = unique(gallery, shared);
    let id = format!("{base}/Images/{}/Versions/{}", definition.name, version.name);
    json!({"location": location, "name": version.name, "identifier": {"uniqueId": id},
        "properties": version.to_shared(states)})
}

fn foreign_part(
    asked: &Asked<'_>,
    gallery: &SimGallery,
    location: &str,
    shared: bool,
    below: &[&str],
) -> Result<Value, Answer> {
    let definition = |name: &str| {
        let found = gallery.definitions.get(name);
        found.filter(|d| definition_is_in(d, location)).ok_or_else(|| not_found(name))
    };
    let version = |d: &SimDefinition, v: &SimVersion| {
        foreign_version(gallery, d, v, location, (shared, asked.since("2026-03-03")))
    };
    match below {
        [] => {
            let mut value = foreign_gallery(gallery, location, shared);
            if shared {
                value["properties"] = json!({});
            } else {
                value["communityMetadata"] = json!({"publisherUri": "https://example.com",
                    "publisherContact": "images@example.com", "eula": "https://example.com/eula",
                    "publicNames": [gallery.name]});
            }
            Ok(value)
        }
        ["images"] => {
            let here = gallery.definitions.values().filter(|d| definition_is_in(d, location));
            asked.page(here.map(|d| foreign_definition(gallery, d, location, shared)).collect())
        }
        ["images", name] => Ok(foreign_definition(gallery, definition(name)?, location, shared)),
        ["images", name, "versions"] => {
            let definition = definition(name)?;
            let here = definition.versions.values().filter(|v| v.is_in(location));
            asked.page(here.map(|v| version(definition, v)).collect())
        }
        ["images", name, "versions", number] => {
            let definition = definition(name)?;
            let found = definition.versions.get(*number).filter(|v| v.is_in(location));
            found.map(|v| version(definition, v)).ok_or_else(|| not_found(number))
        }
        _ => Err(not_found(&below.join("/"))),
    }
}

/// The rows of communities as Resource Graph has them: one for each location.
pub(super) fn community_rows(all: &Organisation, locations: &[String]) -> Vec<Value> {
    const KIND: &str = "microsoft.compute/locations/communitygalleries";
    let mut rows = Vec::new();
    for location in locations {
        let base = format!("/providers/Microsoft.Compute/locations/{location}");
        let row = |id: String, kind: String, value: &Value| {
            let name = value["name"].clone();
            json!({"id": id, "name": name, "type": kind, "tenantId": "", "kind": "",
                "location": location, "resourceGroup": "", "subscriptionId": "",
                "managedBy": "", "tags": null, "properties": value})
        };
        for gallery in all.communities.values().filter(|gallery| is_in(gallery, location)) {
            let at = format!("{base}/CommunityGalleries/{}", gallery.name);
            rows.push(row(at.clone(), KIND.to_owned(), &foreign_gallery(gallery, location, false)));
            let here = gallery.definitions.values().filter(|d| definition_is_in(d, location));
            for definition in here {
                let at = format!("{at}/Images/{}", definition.name);
                let value = foreign_definition(gallery, definition, location, false);
                rows.push(row(at.clone(), format!("{KIND}/images"), &value));
                for version in definition.versions.values().filter(|v| v.is_in(location)) {
                    let value =
                        foreign_version(gallery, definition, version, location, (false, true));
                    let at = format!("{at}/Versions/{}", version.name);
                    rows.push(row(at, format!("{KIND}/images/versions"), &value));
                }
            }
        }
    }
    rows
}
