//! Simulated galleries of others: shared directly or by a community, each as one location has it.

#![allow(clippy::result_large_err, reason = "a refusal is an answer, made once")]

use super::organisation::{Organisation, SimDefinition, SimGallery, SimVersion};
use super::request::SimRequest;
use super::response::{SimResponse, not_found};
use serde_json::{Value, json};

/// Galleries of others, as one location has them.
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
        let here = |gallery: &&SimGallery| is_in(gallery, location);
        if below.is_empty() {
            // Half of them are shared with the tenant, half with the first subscription.
            let tenant = request.parameter("sharedTo").is_some();
            let first = request.sim.subscriptions.first().is_some_and(|id| *id == request.path[1]);
            let mine = galleries.values().enumerate().filter(|(at, gallery)| {
                let visible = if at % 2 == 0 { tenant } else { !tenant && first };
                visible && is_in(gallery, location)
            });
            let view = SharedView::to(request, location, shared);
            return request.page(mine.map(|(_, gallery)| view.gallery(gallery)).collect());
        }
        let gallery = galleries.get(below[0]).filter(here).ok_or_else(|| not_found(below[0]))?;
        foreign_part(gallery, request, SharedView::to(request, location, shared), &below[1..])
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

/// Since when communities say what they are, and that they are not Microsoft's (recorded with 2022-01-03 and
/// 2023-07-03; 2021-07-01 has neither).
const DISCLAIMED: &str = "2022-01-03";
const DISCLAIMER: &str = "https://aka.ms/community-gallery-disclaimer";

/// What an answer shows of galleries of others.
#[derive(Debug, Clone, Copy)]
struct SharedView<'a> {
    location: &'a str,
    shared: bool,
    /// Whether communities disclaim.
    disclaimer: bool,
    /// Whether versions tell that they were deleted softly.
    states: bool,
}

impl<'a> SharedView<'a> {
    fn to(request: &SimRequest<'_>, location: &'a str, shared: bool) -> Self {
        let (disclaimer, states) = (request.since(DISCLAIMED), request.since("2026-03-03"));
        Self { location, shared, disclaimer, states }
    }

    /// A thing with its name and id.
    fn thing(self, gallery: &SimGallery, name: &str, below: &str, mut properties: Value) -> Value {
        if !self.shared && self.disclaimer {
            properties["disclaimer"] = DISCLAIMER.into();
        }
        json!({"location": self.location, "name": name, "properties": properties,
            "identifier": {"uniqueId": format!("{}{below}", unique(gallery, self.shared))}})
    }

    fn gallery(self, gallery: &SimGallery) -> Value {
        if self.shared {
            return self.thing(gallery, &gallery.name, "", json!({}));
        }
        let community = json!({"publisherUri": "https://example.com",
            "publisherContact": "images@example.com", "eula": "https://example.com/eula",
            "publicNames": [gallery.name]});
        let properties = json!({"communityMetadata": community});
        let mut value = self.thing(gallery, &gallery.name, "", properties);
        value["communityMetadata"] = community;
        if let Some(members) = value.as_object_mut().filter(|_| !self.disclaimer) {
            members.shift_remove("properties");
        }
        value
    }

    fn definition(self, gallery: &SimGallery, definition: &SimDefinition) -> Value {
        let mut properties = definition.properties.clone();
        if let Some(members) = properties.as_object_mut() {
            members.shift_remove("provisioningState");
        }
        let below = format!("/Images/{}", definition.name);
        self.thing(gallery, &definition.name, &below, properties)
    }

    fn version(
        self,
        gallery: &SimGallery,
        definition: &SimDefinition,
        version: &SimVersion,
    ) -> Value {
        let below = format!("/Images/{}/Versions/{}", definition.name, version.name);
        self.thing(gallery, &version.name, &below, version.to_shared(self.states))
    }
}

fn foreign_part(
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

/// The rows of communities as Resource Graph has them: one for each location.
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
        for gallery in all.communities.values().filter(|gallery| is_in(gallery, location)) {
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
