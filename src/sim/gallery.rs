//! The simulated galleries: ours below resource groups, those of others per location, managed images.
//! Lists are paged at fifty; changes are the ones that Azure lets one make, and nothing else.

use super::arm::Asked;
use super::organisation::{Organisation, SimDefinition, SimGallery, SimVersion};
use super::state::{error, json as answer};
use crate::source::locations::short_name;
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

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
    fn read(
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
    fn page(&self, all: Vec<Value>) -> Result<Value, Answer> {
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

fn not_found(what: &str) -> Answer {
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
    asked.page(mine.map(|gallery| gallery.to_json(false)).collect())
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
            look(asked, gallery, &below[1..])
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
        (&Method::PATCH, []) => gallery.patch(&asked.body).map(|()| Some(gallery.to_json(false))),
        (&Method::POST, ["share"]) => gallery.share(&asked.body).map(|()| None),
        (&Method::PATCH, ["images", definition]) => {
            match gallery.definitions.get_mut(*definition) {
                None => Err(not_found(definition)),
                Some(found) => found.patch(&asked.body).map(|()| {
                    let found = &gallery.definitions[*definition];
                    Some(found.to_json(gallery))
                }),
            }
        }
        (&Method::PATCH, ["images", definition, "versions", version]) => {
            patch_version(gallery, definition, version, &asked.body).map(Some)
        }
        (&Method::DELETE, ["images", definition, "versions", version]) => {
            let found = gallery.definitions.get_mut(*definition);
            let gone = found.and_then(|found| found.versions.remove(*version));
            drop(organisation);
            if gone.is_none() {
                let mut nothing = Response::new(Body::empty());
                *nothing.status_mut() = StatusCode::NO_CONTENT;
                return ("DeleteGalleryVersion", nothing);
            }
            return ("DeleteGalleryVersion", asked.begin(None, None));
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

/// What a GET of a gallery's part answers.
fn look(asked: &Asked<'_>, gallery: &SimGallery, below: &[&str]) -> Result<Value, Answer> {
    let definition = |name: &str| gallery.definitions.get(name).ok_or_else(|| not_found(name));
    match below {
        [] => {
            let select =
                asked.parameter("$select").is_some_and(|s| s.eq_ignore_ascii_case("permissions"));
            Ok(gallery.to_json(select || asked.parameter("$expand").is_some()))
        }
        ["images"] => {
            asked.page(gallery.definitions.values().map(|d| d.to_json(gallery)).collect())
        }
        ["images", name] => Ok(definition(name)?.to_json(gallery)),
        ["images", name, "versions"] => {
            let definition = definition(name)?;
            let all = definition.versions.values();
            asked.page(all.map(|v| v.to_json(gallery, definition)).collect())
        }
        ["images", name, "versions", version] => {
            let definition = definition(name)?;
            let found = definition.versions.get(*version).ok_or_else(|| not_found(version))?;
            let mut value = found.to_json(gallery, definition);
            let expand = asked.parameter("$expand");
            if expand.is_some_and(|expand| expand.eq_ignore_ascii_case("replicationstatus")) {
                value["properties"]["replicationStatus"] = found.replication();
            }
            Ok(value)
        }
        _ => Err(not_found(&below.join("/"))),
    }
}

fn refused_change(property: &str) -> Answer {
    let text = format!("Changing property '{property}' is not allowed.");
    error(StatusCode::CONFLICT, "PropertyChangeNotAllowed", &text)
}

fn object<'a>(value: &'a Value, name: &str) -> Result<Vec<(&'a String, &'a Value)>, Answer> {
    match &value[name] {
        Value::Null => Ok(Vec::new()),
        Value::Object(members) => Ok(members.iter().collect()),
        _ => {
            let text = format!("The property '{name}' is no object.");
            Err(error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &text))
        }
    }
}

fn patch_version(
    gallery: &mut SimGallery,
    definition: &str,
    version: &str,
    body: &Value,
) -> Result<Value, Answer> {
    let found = gallery.definitions.get_mut(definition).ok_or_else(|| not_found(definition))?;
    let found = found.versions.get_mut(version).ok_or_else(|| not_found(version))?;
    found.patch(body)?;
    let definition = &gallery.definitions[definition];
    Ok(definition.versions[version].to_json(gallery, definition))
}

impl SimGallery {
    /// As the provider answers; with its sharing profile if that is asked for.
    pub(super) fn to_json(&self, sharing: bool) -> Value {
        let unique = format!("{}-{}", self.subscription, self.name.to_ascii_uppercase());
        let mut value = json!({"name": self.name, "id": self.id(),
            "type": "Microsoft.Compute/galleries", "location": short_name(&self.location),
            "tags": self.tags, "properties": {"identifier": {"uniqueName": unique},
                "provisioningState": "Succeeded"}});
        if let Some(description) = &self.description {
            value["properties"]["description"] = description.clone().into();
        }
        if sharing {
            let private = || json!({"permissions": "Private"});
            value["properties"]["sharingProfile"] = self.sharing.clone().unwrap_or_else(private);
        }
        value
    }

    fn patch(&mut self, body: &Value) -> Result<(), Answer> {
        for (name, value) in object(body, "properties")? {
            match name.as_str() {
                "description" => self.description = value.as_str().map(str::to_owned),
                _ => return Err(refused_change(name)),
            }
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        Ok(())
    }

    fn share(&mut self, body: &Value) -> Result<(), Answer> {
        let bad = |text: &str| error(StatusCode::BAD_REQUEST, "InvalidParameter", text);
        let sharing = self.sharing.clone().unwrap_or_else(|| json!({"permissions": "Private"}));
        let kind = sharing["permissions"].as_str().unwrap_or("Private").to_owned();
        match body["operationType"].as_str().unwrap_or_default() {
            "Reset" => self.sharing = Some(json!({"permissions": "Private"})),
            "EnableCommunity" => {
                if kind != "Community" {
                    return Err(bad("The gallery's permissions are not 'Community'."));
                }
                let mut sharing = sharing;
                sharing["communityGalleryInfo"]["communityGalleryEnabled"] = true.into();
                self.sharing = Some(sharing);
            }
            operation @ ("Add" | "Remove") => {
                if kind == "Community" {
                    return Err(bad("A community gallery cannot be shared with groups."));
                }
                let groups = body["groups"].as_array().cloned().unwrap_or_default();
                if groups.is_empty() {
                    return Err(bad("The property 'groups' is missing."));
                }
                let known = sharing["groups"].as_array().cloned().unwrap_or_default();
                let groups = regrouped(known, &groups, operation == "Add");
                self.sharing = Some(json!({"permissions": "Groups", "groups": groups}));
            }
            _ => return Err(bad("The property 'operationType' is invalid.")),
        }
        Ok(())
    }
}

/// Groups with ids added or removed; a group without ids is none.
fn regrouped(mut known: Vec<Value>, groups: &[Value], add: bool) -> Vec<Value> {
    for group in groups {
        let kind = group["type"].as_str().unwrap_or_default();
        if !known.iter().any(|known| known["type"] == kind) {
            known.push(json!({"type": kind, "ids": []}));
        }
        for known in known.iter_mut().filter(|known| known["type"] == kind) {
            let Some(ids) = known["ids"].as_array_mut() else { continue };
            for id in group["ids"].as_array().into_iter().flatten() {
                ids.retain(|known| known != id);
                if add {
                    ids.push(id.clone());
                }
            }
        }
    }
    known.retain(|group| group["ids"].as_array().is_some_and(|ids| !ids.is_empty()));
    known
}

impl SimDefinition {
    pub(super) fn to_json(&self, gallery: &SimGallery) -> Value {
        json!({"name": self.name, "id": format!("{}/images/{}", gallery.id(), self.name),
            "type": "Microsoft.Compute/galleries/images",
            "location": short_name(&gallery.location), "tags": self.tags,
            "properties": self.properties})
    }

    fn patch(&mut self, body: &Value) -> Result<(), Answer> {
        const MAY: [&str; 6] = [
            "description",
            "endOfLifeDate",
            "recommended",
            "releaseNoteUri",
            "privacyStatementUri",
            "eula",
        ];
        let members = object(body, "properties")?;
        let frozen =
            |name: &str, value: &Value| !MAY.contains(&name) && self.properties[name] != *value;
        if let Some((name, _)) = members.iter().find(|(name, value)| frozen(name, value)) {
            return Err(refused_change(name));
        }
        for (name, value) in members {
            self.properties[name.as_str()] = value.clone();
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        Ok(())
    }
}

impl SimVersion {
    pub(super) fn to_json(&self, gallery: &SimGallery, definition: &SimDefinition) -> Value {
        let source = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/images/source",
            gallery.subscription, gallery.group
        );
        let mut publishing = json!({"targetRegions": self.regions, "replicaCount": 1,
            "excludeFromLatest": self.excluded, "publishedDate": self.published,
            "storageAccountType": "Standard_LRS", "replicationMode": "Full"});
        if let Some(end) = &self.end_of_life {
            publishing["endOfLifeDate"] = end.clone().into();
        }
        let id = format!("{}/images/{}/versions/{}", gallery.id(), definition.name, self.name);
        json!({"name": self.name, "id": id, "type": "Microsoft.Compute/galleries/images/versions",
            "location": short_name(&gallery.location), "tags": self.tags,
            "properties": {"publishingProfile": publishing,
                "storageProfile": {"source": {"id": source},
                    "osDiskImage": {"sizeInGB": 30, "hostCaching": "ReadWrite", "source": {}}},
                "provisioningState": self.state}})
    }

    /// As others see it, who share it.
    fn to_shared(&self) -> Value {
        let mut properties = json!({"publishedDate": self.published,
            "excludeFromLatest": self.excluded, "storageProfile": {
                "osDiskImage": {"diskSizeGB": 30, "hostCaching": "ReadWrite"}}});
        if let Some(end) = &self.end_of_life {
            properties["endOfLifeDate"] = end.clone().into();
        }
        properties
    }

    fn replication(&self) -> Value {
        let state = match self.state {
            "Succeeded" => "Completed",
            "Failed" => "Failed",
            _ => "Replicating",
        };
        let regions = self.regions.iter().map(|region| {
            let name = short_name(region["name"].as_str().unwrap_or_default());
            let progress = if state == "Completed" { 100 } else { 40 };
            json!({"region": name, "state": state, "progress": progress})
        });
        let whole = if state == "Replicating" { "InProgress" } else { state };
        json!({"aggregatedState": whole, "summary": regions.collect::<Vec<_>>()})
    }

    fn patch(&mut self, body: &Value) -> Result<(), Answer> {
        if let Some((name, _)) =
            object(body, "properties")?.iter().find(|(name, _)| *name != "publishingProfile")
        {
            return Err(refused_change(name));
        }
        for (name, value) in object(&body["properties"], "publishingProfile")? {
            match name.as_str() {
                "endOfLifeDate" => self.end_of_life = value.as_str().map(str::to_owned),
                "excludeFromLatest" => self.excluded = value.as_bool().unwrap_or_default(),
                "targetRegions" => {
                    let regions = value.as_array().filter(|regions| !regions.is_empty());
                    self.regions = regions.cloned().ok_or_else(|| {
                        let text = "A version needs at least one target region.";
                        error(StatusCode::BAD_REQUEST, "InvalidParameter", text)
                    })?;
                }
                _ => return Err(refused_change(name)),
            }
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        Ok(())
    }

    /// Whether it has a replica in a location, by short name.
    pub(super) fn is_in(&self, location: &str) -> bool {
        let name = |region: &Value| short_name(region["name"].as_str().unwrap_or_default());
        self.regions.iter().any(|region| name(region) == location)
    }
}

/// Galleries of others, as one location has them.
fn foreign(
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
    shared: bool,
) -> Value {
    let base = unique(gallery, shared);
    let id = format!("{base}/Images/{}/Versions/{}", definition.name, version.name);
    json!({"location": location, "name": version.name, "identifier": {"uniqueId": id},
        "properties": version.to_shared()})
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
    let version =
        |d: &SimDefinition, v: &SimVersion| foreign_version(gallery, d, v, location, shared);
    match below {
        [] => Ok(foreign_gallery(gallery, location, shared)),
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
                    let value = foreign_version(gallery, definition, version, location, false);
                    let at = format!("{at}/Versions/{}", version.name);
                    rows.push(row(at, format!("{KIND}/images/versions"), &value));
                }
            }
        }
    }
    rows
}
