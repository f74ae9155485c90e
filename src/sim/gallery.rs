//! The simulated galleries: ours below resource groups, those of others per location, managed images.
//! Lists are paged at fifty; changes are the ones that Azure lets one make, and nothing else.

#![allow(clippy::result_large_err, reason = "a refusal is an answer, made once")]

use super::arm::Asked;
use super::foreign::foreign;
use super::organisation::{Organisation, SimGallery};
use super::state::{error, json as answer};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

type Answer = Response<Body>;
/// Rows of a page.
const PAGE: usize = 50;

/// Answers what lies below galleries and images, with the name of its operation; none when the path
/// is no such thing.
pub(super) fn serve(asked: &Asked<'_>, lower: &[&str]) -> Option<(&'static str, Answer)> {
    let served = match lower {
        ["subscriptions", _, "providers", "microsoft.compute", "galleries"] => {
            ("ListGalleries", asked.read(&[], |all| own_galleries(asked, all, None)))
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
                asked.read(&[], |all| own_galleries(asked, all, Some(group))),
            ),
            ["galleries", below @ ..] => own(asked, below),
            ["images"] => ("ListImages", asked.read(&[], |all| images(asked, all, Some(group)))),
            ["images", _] => ("GetManagedImage", asked.read(&["$expand"], |all| image(asked, all))),
            _ => return None,
        },
        ["subscriptions", _, "providers", "microsoft.compute", "images"] => {
            ("ListImages", asked.read(&[], |all| images(asked, all, None)))
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
        ] => foreign(asked, location, kind, below),
        [
            "subscriptions",
            _,
            "providers",
            "microsoft.compute",
            "locations",
            _,
            "capsoperations",
            id,
        ] => asked.operation(id),
        _ => return None,
    };
    Some(served)
}

impl Asked<'_> {
    /// A GET: refused when it is something else or has parameters that are not known.
    pub(super) fn read(
        &self,
        allowed: &[&str],
        find: impl FnOnce(&Organisation) -> Result<Value, Answer>,
    ) -> Answer {
        let mut allowed = allowed.to_vec();
        allowed.push("$skiptoken");
        if let Some(refused) = self.refusal(&allowed) {
            return refused;
        }
        if self.method != Method::GET {
            return self.no_method();
        }
        let organisation = self.sim.organisation();
        find(&organisation).map_or_else(|refused| refused, |value| answer(StatusCode::OK, &value))
    }

    pub(super) fn no_method(&self) -> Answer {
        let text = format!("The method {} is not simulated here.", self.method);
        error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text)
    }

    /// A page of a list, with the address of the next one.
    pub(super) fn page(&self, all: Vec<Value>) -> Result<Value, Answer> {
        let from: usize = match self.parameter("$skiptoken") {
            Some(text) => text.parse().map_err(|_| {
                error(StatusCode::BAD_REQUEST, "InvalidParameter", "The skip token is invalid.")
            })?,
            None => 0,
        };
        let more = all.len() > from + PAGE;
        let value: Vec<Value> = all.into_iter().skip(from).take(PAGE).collect();
        let mut page = json!({ "value": value });
        if more {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in &self.query {
                if !name.eq_ignore_ascii_case("$skiptoken") {
                    query.append_pair(name, value);
                }
            }
            query.append_pair("$skiptoken", &(from + PAGE).to_string());
            let path = self.path.join("/");
            page["nextLink"] = format!("{}/{path}?{}", self.origin, query.finish()).into();
        }
        Ok(page)
    }
}

pub(super) fn not_found(what: &str) -> Answer {
    let text = format!("The Resource '{what}' under resource group was not found.");
    error(StatusCode::NOT_FOUND, "ResourceNotFound", &text)
}

fn own_galleries(
    asked: &Asked<'_>,
    all: &Organisation,
    group: Option<&str>,
) -> Result<Value, Answer> {
    let subscription = &asked.path[1];
    let mine = all.galleries.values().filter(|gallery| {
        gallery.subscription.eq_ignore_ascii_case(subscription)
            && group.is_none_or(|group| gallery.group.eq_ignore_ascii_case(group))
    });
    asked.page(mine.map(|gallery| shown(asked, gallery.to_json(false))).collect())
}

fn images(asked: &Asked<'_>, all: &Organisation, group: Option<&str>) -> Result<Value, Answer> {
    let mut prefix = format!("/subscriptions/{}/resourcegroups/", asked.path[1]);
    if let Some(group) = group {
        prefix = format!("{prefix}{group}/");
    }
    let prefix = prefix.to_ascii_lowercase();
    let mine = all.images.iter().filter(|(id, _)| id.starts_with(&prefix));
    asked.page(mine.map(|(_, image)| image.clone()).collect())
}

fn image(asked: &Asked<'_>, all: &Organisation) -> Result<Value, Answer> {
    let id = format!("/{}", asked.path.join("/")).to_ascii_lowercase();
    all.images.get(&id).cloned().ok_or_else(|| not_found(&id))
}

/// A gallery of ours and what lies below it.
fn own(asked: &Asked<'_>, below: &[&str]) -> (&'static str, Answer) {
    let (name, allowed): (&str, &[&str]) = match below {
        [_] => ("GetGallery", &["$select", "$expand"]),
        [_, "share"] => ("PostShareGallery", &[]),
        [_, "images"] => ("ListGalleryImages", &[]),
        [_, "images", _] => ("GetGalleryImage", &[]),
        [_, "images", _, "versions"] => ("ListGalleryVersions", &[]),
        [_, "images", _, "versions", _] => ("GetGalleryVersion", &["$expand"]),
        _ => return ("Unknown", not_found(&asked.path.join("/"))),
    };
    let id = format!("/{}", asked.path[..8].join("/")).to_ascii_lowercase();
    if asked.method == Method::GET {
        let found = asked.read(allowed, |all| {
            let gallery = all.galleries.get(&id).ok_or_else(|| not_found(below[0]))?;
            let mut value = look(asked, gallery, &below[1..])?;
            asked.mark_under_way(all, &mut value);
            Ok(value)
        });
        return (name, found);
    }
    if let Some(refused) = asked.refusal(&[]) {
        return (name, refused);
    }
    let mut organisation = asked.sim.organisation();
    let Some(gallery) = organisation.galleries.get_mut(&id) else {
        return (name, not_found(below[0]));
    };
    let changed = match (&asked.method, &below[1..]) {
        (&Method::PATCH, []) => {
            gallery.patch(&asked.body).map(|()| Some(shown(asked, gallery.to_json(false))))
        }
        (&Method::POST, ["share"]) => gallery.share(&asked.body).map(|()| None),
        (&Method::PATCH, ["images", definition]) => {
            match gallery.definitions.get_mut(*definition) {
                None => Err(not_found(definition)),
                Some(found) => found.patch(asked).map(|()| {
                    let found = &gallery.definitions[*definition];
                    Some(found.to_json(gallery))
                }),
            }
        }
        (&Method::PATCH, ["images", definition, "versions", version]) => {
            patch_version(asked, gallery, definition, version).map(Some)
        }
        (&Method::DELETE, ["images", definition, "versions", version]) => {
            let deleted = gallery.delete(definition, version);
            drop(organisation);
            let answer = deleted.map(|gone| if gone { asked.begin(None, None) } else { nothing() });
            return ("DeleteGalleryVersion", answer.unwrap_or_else(|refused| refused));
        }
        _ => Err(asked.no_method()),
    };
    let name = match asked.method {
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
            (name, asked.begin(body.as_ref(), None))
        }
        Err(refused) => (name, refused),
    }
}

/// What a DELETE of something that is not there answers.
fn nothing() -> Answer {
    let mut nothing = Response::new(Body::empty());
    *nothing.status_mut() = StatusCode::NO_CONTENT;
    nothing
}

/// A thing as the version of the API shows it that it is asked with: members that came later are not there.
fn shown(asked: &Asked<'_>, mut value: Value) -> Value {
    let mut remove = |path: &str, name: &str| {
        for thing in value.pointer_mut(path).into_iter().flat_map(each) {
            thing.shift_remove(name);
        }
    };
    if !asked.since("2024-03-03") {
        remove("/properties/safetyProfile", "blockDeletionBeforeEndOfLife");
        remove("/properties/publishingProfile/targetRegions", "additionalReplicaSets");
    }
    if !asked.since("2026-03-03") {
        for name in ["retentionPeriodInDays", "gracePeriodInDays"] {
            remove("/properties/softDeletePolicy", name);
        }
    }
    value
}

/// An object, or those in a list.
fn each(value: &mut Value) -> Vec<&mut Map<String, Value>> {
    match value {
        Value::Object(members) => vec![members],
        Value::Array(all) => all.iter_mut().filter_map(Value::as_object_mut).collect(),
        _ => Vec::new(),
    }
}

/// What a GET of a gallery's part answers.
fn look(asked: &Asked<'_>, gallery: &SimGallery, below: &[&str]) -> Result<Value, Answer> {
    let definition = |name: &str| gallery.definitions.get(name).ok_or_else(|| not_found(name));
    match below {
        [] => {
            let select =
                asked.parameter("$select").is_some_and(|s| s.eq_ignore_ascii_case("permissions"));
            let sharing = select || asked.parameter("$expand").is_some();
            Ok(shown(asked, gallery.to_json(sharing)))
        }
        ["images"] => {
            asked.page(gallery.definitions.values().map(|d| d.to_json(gallery)).collect())
        }
        ["images", name] => Ok(definition(name)?.to_json(gallery)),
        ["images", name, "versions"] => {
            let definition = definition(name)?;
            let all = definition.versions.values();
            asked.page(all.map(|v| shown(asked, v.to_json(gallery, definition))).collect())
        }
        ["images", name, "versions", version] => {
            let definition = definition(name)?;
            let found = definition.versions.get(*version).ok_or_else(|| not_found(version))?;
            let mut value = shown(asked, found.to_json(gallery, definition));
            if expanded(asked)?.iter().any(|name| name == "replicationstatus") {
                value["properties"]["replicationStatus"] = found.replication();
            }
            Ok(value)
        }
        _ => Err(not_found(&below.join("/"))),
    }
}

/// What is to be shown of a version beside the rest, in lower case. The examples of 2026-03-03 have lists of it.
fn expanded(asked: &Asked<'_>) -> Result<Vec<String>, Answer> {
    const MAY: [&str; 4] =
        ["replicationstatus", "uefisettings", "validationprofile", "imagemetadataprofiles"];
    let expand = asked.parameter("$expand").unwrap_or_default().to_ascii_lowercase();
    let names = expand.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.iter().find(|name| !MAY.contains(&name.as_str())) {
        Some(name) => {
            let text = format!("The value '{name}' of parameter '$expand' is invalid.");
            Err(error(StatusCode::BAD_REQUEST, "InvalidParameter", &text))
        }
        None => Ok(names),
    }
}

fn patch_version(
    asked: &Asked<'_>,
    gallery: &mut SimGallery,
    definition: &str,
    version: &str,
) -> Result<Value, Answer> {
    let kept = gallery.definitions.get(definition).ok_or_else(|| not_found(definition))?;
    let found = kept.versions.get(version).ok_or_else(|| not_found(version))?;
    let mut changed = found.clone();
    let whole = found.to_json(gallery, kept);
    changed.patch(asked, &whole["properties"])?;
    let value = shown(asked, changed.to_json(gallery, kept));
    if let Some(kept) = gallery.definitions.get_mut(definition) {
        kept.versions.insert(changed.name.clone(), changed);
    }
    Ok(value)
}
