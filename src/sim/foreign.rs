//! Simulated galleries of other organisations, per location: shared directly, and of communities.

#![allow(clippy::result_large_err, reason = "a refusal is a response, made once")]

use super::organisation::{Organisation, SimDefinition, SimGallery, SimVersion};
use super::request::SimRequest;
use super::response::{SimResponse, not_found};
use serde_json::{Value, json};

/// Answers requests for other organisations' galleries in a location; the first value is the name
/// of the operation.
pub(super) fn foreign(
    request: &SimRequest<'_>,
    location: &str,
    kind: &str,
    below: &[&str],
) -> (&'static str, SimResponse) {
    let shared = kind == "sharedgalleries";
    let name = match below {
        [] if shared => "ListSharedGalleries",
        [_] => "GetSharedGallery",
        [_, "images"] => "ListGalleryArtifact",
        [_, "images", _] => "GetGalleryArtifact",
        [_, "images", _, "versions"] => "ListGalleryArtifactVersion",
        [_, "images", _, "versions", _] => "GetGalleryArtifactVersion",
        _ => return ("Unknown", not_found(&request.path.join("/"))),
    };
    let allowed: &[&str] = if shared { &["sharedTo"] } else { &[] };
    let found = request.read(allowed, |all| {
        let galleries = if shared { &all.shared } else { &all.communities };
        let here = |gallery: &&SimGallery| gallery_is_in(gallery, location);
        if below.is_empty() {
            // Half of them are shared with the tenant, and half with the first subscription.
            let tenant = request.parameter("sharedTo").is_some();
            let first = request.sim.subscriptions.first().is_some_and(|id| *id == request.path[1]);
            let mine = galleries.values().enumerate().filter(|(at, gallery)| {
                let visible = if at % 2 == 0 { tenant } else { !tenant && first };
                visible && gallery_is_in(gallery, location)
            });
            let view = SharedView::of(request, location, shared);
            return request.page(mine.map(|(_, gallery)| view.gallery(gallery)).collect());
        }
        let gallery = galleries.get(below[0]).filter(here).ok_or_else(|| not_found(below[0]))?;
        part_of(gallery, request, SharedView::of(request, location, shared), &below[1..])
    });
    (name, found)
}

/// Whether a gallery has a version in a location.
fn gallery_is_in(gallery: &SimGallery, location: &str) -> bool {
    gallery.definitions.values().any(|definition| definition_is_in(definition, location))
}

/// Whether a definition has a version in a location.
fn definition_is_in(definition: &SimDefinition, location: &str) -> bool {
    definition.versions.values().any(|version| version.is_in(location))
}

/// The unique id of a gallery.
fn unique_id(gallery: &SimGallery, shared: bool) -> String {
    let kind = if shared { "SharedGalleries" } else { "CommunityGalleries" };
    format!("/{kind}/{}", gallery.name)
}

/// First version of the API in which galleries of communities have metadata and a disclaimer that
/// they are not Microsoft's (recorded with 2022-01-03 and 2023-07-03; 2021-07-01 has neither).
const DISCLAIMED: &str = "2022-01-03";
/// The address of that disclaimer.
const DISCLAIMER: &str = "https://aka.ms/community-gallery-disclaimer";

/// The view of other organisations' galleries in one location and one version of the API.
#[derive(Debug, Clone, Copy)]
struct SharedView<'a> {
    /// The short name of the location.
    location: &'a str,
    /// Whether they are shared directly; otherwise they are of communities.
    shared: bool,
    /// Whether galleries of communities have the disclaimer and the metadata.
    disclaimer: bool,
    /// Whether versions have the state of a soft deletion.
    states: bool,
}

impl<'a> SharedView<'a> {
    /// The view of a request in a location.
    fn of(request: &SimRequest<'_>, location: &'a str, shared: bool) -> Self {
        let (disclaimer, states) = (request.since(DISCLAIMED), request.since("2026-03-03"));
        Self { location, shared, disclaimer, states }
    }

    /// A resource with its name and unique id.
    fn resource(
        self,
        gallery: &SimGallery,
        name: &str,
        below: &str,
        mut properties: Value,
    ) -> Value {
        if !self.shared && self.disclaimer {
            properties["disclaimer"] = DISCLAIMER.into();
        }
        json!({"location": self.location, "name": name, "properties": properties,
            "identifier": {"uniqueId": format!("{}{below}", unique_id(gallery, self.shared))}})
    }

    /// A gallery.
    fn gallery(self, gallery: &SimGallery) -> Value {
        if self.shared {
            return self.resource(gallery, &gallery.name, "", json!({}));
        }
        let community = json!({"publisherUri": "https://example.com",
            "publisherContact": "images@example.com", "eula": "https://example.com/eula",
            "publicNames": [gallery.name]});
        let properties = json!({"communityMetadata": community});
        let mut value = self.resource(gallery, &gallery.name, "", properties);
        value["communityMetadata"] = community;
        if let Some(members) = value.as_object_mut().filter(|_| !self.disclaimer) {
            members.shift_remove("properties");
        }
        value
    }

    /// An image definition.
    fn definition(self, gallery: &SimGallery, definition: &SimDefinition) -> Value {
        let mut properties = definition.properties.clone();
        if let Some(members) = properties.as_object_mut() {
            members.shift_remove("provisioningState");
        }
        let below = format!("/Images/{}", definition.name);
        self.resource(gallery, &definition.name, &below, properties)
    }

    /// An image version.
    fn version(
        self,
        gallery: &SimGallery,
        definition: &SimDefinition,
        version: &SimVersion,
    ) -> Value {
        let below = format!("/Images/{}/Versions/{}", definition.name, version.name);
        self.resource(gallery, &version.name, &below, version.to_shared(self.states))
    }
}

/// The response to a GET of a gallery or of what is below it.
fn part_of(
    gallery: &SimGallery,
    request: &SimRequest<'_>,
    view: SharedView<'_>,
    below: &[&str],
) -> Result<Value, SimResponse> {
    let location = view.location;
    let definition = |name: &str| {
        let found = gallery.definitions.get(name);
        found.filter(|d| definition_is_in(d, location)).ok_or_else(|| not_found(name))
    };
    match below {
        [] => Ok(view.gallery(gallery)),
        ["images"] => {
            let here = gallery.definitions.values().filter(|d| definition_is_in(d, location));
            request.page(here.map(|d| view.definition(gallery, d)).collect())
        }
        ["images", name] => Ok(view.definition(gallery, definition(name)?)),
        ["images", name, "versions"] => {
            let definition = definition(name)?;
            let here = definition.versions.values().filter(|v| v.is_in(location));
            request.page(here.map(|v| view.version(gallery, definition, v)).collect())
        }
        ["images", name, "versions", number] => {
            let definition = definition(name)?;
            let found = definition.versions.get(*number).filter(|v| v.is_in(location));
            let found = found.ok_or_else(|| not_found(number))?;
            Ok(view.version(gallery, definition, found))
        }
        _ => Err(not_found(&below.join("/"))),
    }
}

/// The rows of galleries of communities in Resource Graph: one for each location.
pub(super) fn community_rows(all: &Organisation, locations: &[String]) -> Vec<Value> {
    const KIND: &str = "microsoft.compute/locations/communitygalleries";
    let mut rows = Vec::new();
    for location in locations {
        let base = format!("/providers/Microsoft.Compute/locations/{location}");
        let view = SharedView { location, shared: false, disclaimer: true, states: true };
        let row = |id: String, kind: String, value: &Value| {
            let name = value["name"].clone();
            json!({"id": id, "name": name, "type": kind, "tenantId": "", "kind": "",
                "location": location, "resourceGroup": "", "subscriptionId": "",
                "managedBy": "", "tags": null, "properties": value})
        };
        for gallery in all.communities.values().filter(|gallery| gallery_is_in(gallery, location)) {
            let at = format!("{base}/CommunityGalleries/{}", gallery.name);
            rows.push(row(at.clone(), KIND.to_owned(), &view.gallery(gallery)));
            let here = gallery.definitions.values().filter(|d| definition_is_in(d, location));
            for definition in here {
                let at = format!("{at}/Images/{}", definition.name);
                let value = view.definition(gallery, definition);
                rows.push(row(at.clone(), format!("{KIND}/images"), &value));
                for version in definition.versions.values().filter(|v| v.is_in(location)) {
                    let value = view.version(gallery, definition, version);
                    let at = format!("{at}/Versions/{}", version.name);
                    rows.push(row(at, format!("{KIND}/images/versions"), &value));
                }
            }
        }
    }
    rows
}
