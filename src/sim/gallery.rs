//! Simulated galleries of the organisation, and its managed images. Lists have pages of 50 rows.
//! Only the changes that Azure allows are possible.

#![allow(clippy::result_large_err, reason = "a refusal is a response, made once")]

use super::foreign::foreign;
use super::organisation::{Organisation, SimGallery};
use super::request::SimRequest;
use super::response::{SimResponse, error_response, not_found};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Map, Value};

/// Answers requests for galleries, for managed images and for operations; the first value is the
/// name of the operation. `None` when the path has another subject.
pub(super) fn serve(
    request: &SimRequest<'_>,
    lower: &[&str],
) -> Option<(&'static str, SimResponse)> {
    let served = match lower {
        ["subscriptions", _, "providers", "microsoft.compute", "galleries"] => {
            ("ListGalleries", request.read(&[], |all| own_galleries(request, all, None)))
        }
        [
            "subscriptions",
            _,
            "resourcegroups",
            group,
            "providers",
            "microsoft.compute",
            rest @ ..,
        ] => match rest {
            ["galleries"] => (
                "ListGalleriesInGroup",
                request.read(&[], |all| own_galleries(request, all, Some(group))),
            ),
            ["galleries", below @ ..] => own_gallery(request, below),
            ["images"] => {
                ("ListImages", request.read(&[], |all| images(request, all, Some(group))))
            }
            ["images", _] => {
                ("GetManagedImage", request.read(&["$expand"], |all| image(request, all)))
            }
            _ => return None,
        },
        ["subscriptions", _, "providers", "microsoft.compute", "images"] => {
            ("ListImages", request.read(&[], |all| images(request, all, None)))
        }
        [
            "subscriptions",
            _,
            "providers",
            "microsoft.compute",
            "locations",
            location,
            kind @ ("sharedgalleries" | "communitygalleries"),
            below @ ..,
        ] => foreign(request, location, kind, below),
        [
            "subscriptions",
            _,
            "providers",
            "microsoft.compute",
            "locations",
            _,
            "capsoperations",
            id,
        ] => request.operation(id),
        _ => return None,
    };
    Some(served)
}

/// The galleries of a subscription, or of one of its resource groups.
fn own_galleries(
    request: &SimRequest<'_>,
    all: &Organisation,
    group: Option<&str>,
) -> Result<Value, SimResponse> {
    let subscription = &request.path[1];
    let mine = all.galleries.values().filter(|gallery| {
        gallery.subscription.eq_ignore_ascii_case(subscription)
            && group.is_none_or(|group| gallery.group.eq_ignore_ascii_case(group))
    });
    request.page(mine.map(|gallery| at_version(request, gallery.to_json(false))).collect())
}

/// The managed images of a subscription, or of one of its resource groups.
fn images(
    request: &SimRequest<'_>,
    all: &Organisation,
    group: Option<&str>,
) -> Result<Value, SimResponse> {
    let mut prefix = format!("/subscriptions/{}/resourcegroups/", request.path[1]);
    if let Some(group) = group {
        prefix = format!("{prefix}{group}/");
    }
    let prefix = prefix.to_ascii_lowercase();
    let mine = all.images.iter().filter(|(id, _)| id.starts_with(&prefix));
    request.page(mine.map(|(_, image)| image.clone()).collect())
}

/// One managed image.
fn image(request: &SimRequest<'_>, all: &Organisation) -> Result<Value, SimResponse> {
    let id = format!("/{}", request.path.join("/")).to_ascii_lowercase();
    all.images.get(&id).cloned().ok_or_else(|| not_found(&id))
}

/// Answers requests for a gallery of the organisation and for what is below it.
fn own_gallery(request: &SimRequest<'_>, below: &[&str]) -> (&'static str, SimResponse) {
    let (name, allowed): (&str, &[&str]) = match below {
        [_] => ("GetGallery", &["$select", "$expand"]),
        [_, "share"] => ("PostShareGallery", &[]),
        [_, "images"] => ("ListGalleryImages", &[]),
        [_, "images", _] => ("GetGalleryImage", &[]),
        [_, "images", _, "versions"] => ("ListGalleryVersions", &[]),
        [_, "images", _, "versions", _] => ("GetGalleryVersion", &["$expand"]),
        _ => return ("Unknown", not_found(&request.path.join("/"))),
    };
    let id = format!("/{}", request.path[..8].join("/")).to_ascii_lowercase();
    if request.method == Method::GET {
        let found = request.read(allowed, |all| {
            let gallery = all.galleries.get(&id).ok_or_else(|| not_found(below[0]))?;
            let mut value = part_of(request, gallery, &below[1..])?;
            request.mark_updating(all, &mut value);
            Ok(value)
        });
        return (name, found);
    }
    if let Some(refused) = request.refusal(&[]) {
        return (name, refused);
    }
    let mut organisation = request.sim.organisation();
    let Some(gallery) = organisation.galleries.get_mut(&id) else {
        return (name, not_found(below[0]));
    };
    let changed = match (&request.method, &below[1..]) {
        (&Method::PATCH, []) => {
            gallery.patch(&request.body).map(|()| Some(at_version(request, gallery.to_json(false))))
        }
        (&Method::POST, ["share"]) => gallery.share(&request.body).map(|()| None),
        (&Method::PATCH, ["images", definition]) => {
            match gallery.definitions.get_mut(*definition) {
                None => Err(not_found(definition)),
                Some(found) => found.patch(request).map(|()| {
                    let found = &gallery.definitions[*definition];
                    Some(found.to_json(gallery))
                }),
            }
        }
        (&Method::PATCH, ["images", definition, "versions", version]) => {
            patch_version(request, gallery, definition, version).map(Some)
        }
        (&Method::DELETE, ["images", definition, "versions", version]) => {
            let deleted = gallery.delete(definition, version);
            drop(organisation);
            let response =
                deleted.map(|gone| if gone { request.begin(None, None) } else { no_content() });
            return ("DeleteGalleryVersion", response.unwrap_or_else(|refused| refused));
        }
        _ => Err(request.no_method()),
    };
    let name = match request.method {
        Method::PATCH if below.len() == 1 => "UpdateGallery",
        Method::PATCH if below.len() == 3 => "UpdateGalleryImage",
        Method::PATCH => "UpdateGalleryVersion",
        _ => name,
    };
    drop(organisation);
    match changed {
        Ok(mut body) => {
            if let Some(body) = &mut body {
                body["properties"]["provisioningState"] = "Updating".into();
            }
            (name, request.begin(body.as_ref(), None))
        }
        Err(refused) => (name, refused),
    }
}

/// The response to a DELETE of something that does not exist.
fn no_content() -> SimResponse {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A resource without the members that are newer than the requested version of the API.
fn at_version(request: &SimRequest<'_>, mut value: Value) -> Value {
    let mut remove = |path: &str, name: &str| {
        for object in value.pointer_mut(path).into_iter().flat_map(objects) {
            object.shift_remove(name);
        }
    };
    if !request.since("2024-03-03") {
        remove("/properties/safetyProfile", "blockDeletionBeforeEndOfLife");
        remove("/properties/publishingProfile/targetRegions", "additionalReplicaSets");
    }
    if !request.since("2026-03-03") {
        for name in ["retentionPeriodInDays", "gracePeriodInDays"] {
            remove("/properties/softDeletePolicy", name);
        }
    }
    value
}

/// The object itself, or the objects in a list.
fn objects(value: &mut Value) -> Vec<&mut Map<String, Value>> {
    match value {
        Value::Object(members) => vec![members],
        Value::Array(all) => all.iter_mut().filter_map(Value::as_object_mut).collect(),
        _ => Vec::new(),
    }
}

/// The response to a GET of a gallery or of what is below it.
fn part_of(
    request: &SimRequest<'_>,
    gallery: &SimGallery,
    below: &[&str],
) -> Result<Value, SimResponse> {
    let definition = |name: &str| gallery.definitions.get(name).ok_or_else(|| not_found(name));
    match below {
        [] => {
            let select =
                request.parameter("$select").is_some_and(|s| s.eq_ignore_ascii_case("permissions"));
            let sharing = select || request.parameter("$expand").is_some();
            Ok(at_version(request, gallery.to_json(sharing)))
        }
        ["images"] => {
            request.page(gallery.definitions.values().map(|d| d.to_json(gallery)).collect())
        }
        ["images", name] => Ok(definition(name)?.to_json(gallery)),
        ["images", name, "versions"] => {
            let definition = definition(name)?;
            let all = definition.versions.values();
            request.page(all.map(|v| at_version(request, v.to_json(gallery, definition))).collect())
        }
        ["images", name, "versions", version] => {
            let definition = definition(name)?;
            let found = definition.versions.get(*version).ok_or_else(|| not_found(version))?;
            let mut value = at_version(request, found.to_json(gallery, definition));
            if expanded(request)?.iter().any(|name| name == "replicationstatus") {
                value["properties"]["replicationStatus"] = found.replication();
            }
            Ok(value)
        }
        _ => Err(not_found(&below.join("/"))),
    }
}

/// The parts of a version that `$expand` asks for, in lower case. The examples of 2026-03-03 have
/// lists of them.
fn expanded(request: &SimRequest<'_>) -> Result<Vec<String>, SimResponse> {
    const MAY: [&str; 4] =
        ["replicationstatus", "uefisettings", "validationprofile", "imagemetadataprofiles"];
    let expand = request.parameter("$expand").unwrap_or_default().to_ascii_lowercase();
    let names = expand.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.iter().find(|name| !MAY.contains(&name.as_str())) {
        Some(name) => {
            let text = format!("The value '{name}' of parameter '$expand' is invalid.");
            Err(error_response(StatusCode::BAD_REQUEST, "InvalidParameter", &text))
        }
        None => Ok(names),
    }
}

/// Changes a version; returns it as it is afterwards.
fn patch_version(
    request: &SimRequest<'_>,
    gallery: &mut SimGallery,
    definition: &str,
    version: &str,
) -> Result<Value, SimResponse> {
    let kept = gallery.definitions.get(definition).ok_or_else(|| not_found(definition))?;
    let found = kept.versions.get(version).ok_or_else(|| not_found(version))?;
    let mut changed = found.clone();
    let current = found.to_json(gallery, kept);
    changed.patch(request, &current["properties"])?;
    let value = at_version(request, changed.to_json(gallery, kept));
    if let Some(kept) = gallery.definitions.get_mut(definition) {
        kept.versions.insert(changed.name.clone(), changed);
    }
    Ok(value)
}
