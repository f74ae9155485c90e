//! Galleries, image definitions and versions as JSON, and their changes. The required members of a
//! body are those of the schemas in azure-rest-api-specs (`GalleryRP`, 2026-03-03); the recorded
//! changes of azure-mgmt-compute 17.0.0 and 22.1.0 have them.

#![allow(clippy::result_large_err, reason = "a refusal is a response, made once")]

use super::organisation::{SimDefinition, SimGallery, SimVersion};
use super::regions;
use super::request::SimRequest;
use super::response::{SimResponse, error_response};
use crate::source::locations::short_name;
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The refusal of a change of a property that cannot be changed.
fn refused_change(property: &str) -> SimResponse {
    let text = format!("Changing property '{property}' is not allowed.");
    error_response(StatusCode::CONFLICT, "PropertyChangeNotAllowed", &text)
}

/// Refuses properties without a member that their schema requires; a body without properties
/// passes.
fn require(body: &Value, what: &str, names: &[&str]) -> Result<(), SimResponse> {
    let properties = &body["properties"];
    match names.iter().find(|name| properties[**name].is_null()) {
        Some(name) if !properties.is_null() => {
            let text = format!("Required parameter '{what}.properties.{name}' is missing (null).");
            Err(error_response(StatusCode::BAD_REQUEST, "InvalidParameter", &text))
        }
        _ => Ok(()),
    }
}

/// Whether `have` has all that `wanted` has, with the same values.
fn is_within(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| is_within(&have[name], wanted))
        }
        (have, wanted) => have == wanted,
    }
}

/// The members of an object in `value`; none when it is null.
fn object<'a>(value: &'a Value, name: &str) -> Result<Vec<(&'a String, &'a Value)>, SimResponse> {
    match &value[name] {
        Value::Null => Ok(Vec::new()),
        Value::Object(members) => Ok(members.iter().collect()),
        _ => {
            let text = format!("The property '{name}' is no object.");
            Err(error_response(StatusCode::BAD_REQUEST, "InvalidRequestContent", &text))
        }
    }
}

impl SimGallery {
    /// The JSON of the provider, with the sharing profile if `sharing` is set.
    pub(super) fn to_json(&self, sharing: bool) -> Value {
        let unique = format!("{}-{}", self.subscription, self.name.to_ascii_uppercase());
        let mut value = json!({"name": self.name, "id": self.id(),
            "type": "Microsoft.Compute/galleries", "location": short_name(&self.location),
            "tags": self.tags, "properties": {"identifier": {"uniqueName": unique},
                "provisioningState": "Succeeded"}});
        if let Some(description) = &self.description {
            value["properties"]["description"] = description.clone().into();
        }
        if let Some(policy) = &self.soft_delete {
            value["properties"]["softDeletePolicy"] = policy.clone();
        }
        if sharing {
            let private = || json!({"permissions": "Private"});
            value["properties"]["sharingProfile"] = self.sharing.clone().unwrap_or_else(private);
        }
        value
    }

    /// Changes description, soft deletion policy and tags.
    pub(super) fn patch(&mut self, body: &Value) -> Result<(), SimResponse> {
        for (name, value) in object(body, "properties")? {
            match name.as_str() {
                "description" => self.description = value.as_str().map(str::to_owned),
                "softDeletePolicy" => self.soft_delete = Some(value.clone()),
                _ => return Err(refused_change(name)),
            }
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        Ok(())
    }

    /// Changes whom the gallery is shared with.
    pub(super) fn share(&mut self, body: &Value) -> Result<(), SimResponse> {
        let bad = |text: &str| error_response(StatusCode::BAD_REQUEST, "InvalidParameter", text);
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
                // "You can't use an existing gallery, and the property can't currently be updated."
                // (learn.microsoft.com/azure/virtual-machines/share-gallery-direct)
                if kind != "Groups" {
                    return Err(bad("The gallery's permissions are not 'Groups'."));
                }
                let groups = body["groups"].as_array().cloned().unwrap_or_default();
                if groups.is_empty() {
                    return Err(bad("The property 'groups' is missing."));
                }
                let known = sharing["groups"].as_array().cloned().unwrap_or_default();
                let groups = regrouped(known, &groups, operation == "Add");
                let count = |kind: &str| {
                    let same = groups.iter().filter(|group| group["type"] == kind);
                    same.flat_map(|group| group["ids"].as_array().into_iter().flatten()).count()
                };
                if count("Subscriptions") > 30 || count("AADTenants") > 5 {
                    return Err(bad(
                        "A gallery can be shared with 30 subscriptions and 5 tenants.",
                    ));
                }
                self.sharing = Some(json!({"permissions": "Groups", "groups": groups}));
            }
            _ => return Err(bad("The property 'operationType' is invalid.")),
        }
        Ok(())
    }

    /// Deletes a version; false when it does not exist. Refuses that while its safety profile
    /// forbids it.
    pub(super) fn delete(&mut self, definition: &str, version: &str) -> Result<bool, SimResponse> {
        let Some(definition) = self.definitions.get_mut(definition) else { return Ok(false) };
        let Some(found) = definition.versions.get(version) else { return Ok(false) };
        let end =
            found.end_of_life.as_deref().and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
        let lives = end.is_some_and(|end| end > OffsetDateTime::now_utc());
        if lives && found.safety["blockDeletionBeforeEndOfLife"] == true {
            let text = "The image version cannot be deleted before its end of life.";
            return Err(error_response(StatusCode::CONFLICT, "OperationNotAllowed", text));
        }
        definition.versions.remove(version);
        Ok(true)
    }
}

/// The groups after ids were added or removed, without those that have no ids.
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
    /// The JSON of the provider.
    pub(super) fn to_json(&self, gallery: &SimGallery) -> Value {
        json!({"name": self.name, "id": format!("{}/images/{}", gallery.id(), self.name),
            "type": "Microsoft.Compute/galleries/images",
            "location": short_name(&gallery.location), "tags": self.tags,
            "properties": self.properties})
    }

    /// Changes the properties that can be changed, and the tags.
    pub(super) fn patch(&mut self, request: &SimRequest<'_>) -> Result<(), SimResponse> {
        const MAY: [&str; 6] = [
            "description",
            "endOfLifeDate",
            "recommended",
            "releaseNoteUri",
            "privacyStatementUri",
            "eula",
        ];
        // Consent to a change of the features; it is in requests only.
        const CONSENT: &str = "allowUpdateImage";
        let body = &request.body;
        require(body, "galleryImage", &["osType", "osState", "identifier"])?;
        let mut members = object(body, "properties")?;
        let knows = request.since("2024-03-03");
        let consent = knows && body["properties"][CONSENT] == true;
        members.retain(|(name, _)| !knows || *name != CONSENT);
        let may = |name: &str| MAY.contains(&name) || consent && name == "features";
        let frozen = |name: &str, value: &Value| !may(name) && self.properties[name] != *value;
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
    /// The JSON of the provider.
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
                "safetyProfile": self.safety, "provisioningState": self.state}})
    }

    /// The JSON in a shared gallery. Its state of soft deletion is there if `states` is set, which
    /// is since 2026-03-03.
    pub(super) fn to_shared(&self, states: bool) -> Value {
        let mut properties = json!({"publishedDate": self.published,
            "excludeFromLatest": self.excluded, "storageProfile": {
                "osDiskImage": {"diskSizeGB": 30, "hostCaching": "ReadWrite"}}});
        if let Some(end) = &self.end_of_life {
            properties["endOfLifeDate"] = end.clone().into();
        }
        if states {
            let state = if self.soft_deleted.is_some() { "SoftDeleted" } else { "Active" };
            properties["imageState"] = state.into();
            if let Some(end) = &self.soft_deleted {
                properties["consumptionEndTime"] = end.clone().into();
            }
        }
        properties
    }

    /// The replication status of all target regions.
    pub(super) fn replication(&self) -> Value {
        let state = match self.state {
            "Succeeded" => "Completed",
            "Failed" => "Failed",
            _ => "Replicating",
        };
        let regions = self.regions.iter().map(|region| {
            let name = short_name(region["name"].as_str().unwrap_or_default());
            let progress = if state == "Completed" { 100 } else { 40 };
            let mut region = json!({"region": name, "state": state, "progress": progress});
            if state == "Failed" {
                region["details"] = format!("The replication to {name} failed.").into();
            }
            region
        });
        let aggregated = if state == "Replicating" { "InProgress" } else { state };
        json!({"aggregatedState": aggregated, "summary": regions.collect::<Vec<_>>()})
    }

    /// Changes it by the body of a request; `now` are its current properties as JSON.
    pub(super) fn patch(
        &mut self,
        request: &SimRequest<'_>,
        now: &Value,
    ) -> Result<(), SimResponse> {
        let body = &request.body;
        require(body, "galleryImageVersion", &["storageProfile"])?;
        for (name, value) in object(body, "properties")? {
            match name.as_str() {
                "publishingProfile" => self.publish(request, &now["publishingProfile"])?,
                "safetyProfile" => self.safeguard(request, value),
                // It is in every change, and must not be different.
                "storageProfile" if is_within(&now["storageProfile"], value) => {}
                _ => return Err(refused_change(name)),
            }
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        Ok(())
    }

    /// Changes the publishing profile.
    fn publish(&mut self, request: &SimRequest<'_>, now: &Value) -> Result<(), SimResponse> {
        for (name, value) in object(&request.body["properties"], "publishingProfile")? {
            match name.as_str() {
                "endOfLifeDate" => self.end_of_life = value.as_str().map(str::to_owned),
                "excludeFromLatest" => self.excluded = value.as_bool().unwrap_or_default(),
                "targetRegions" => self.regions = regions::targets(request, &self.regions, value)?,
                _ if now[name] == *value => {}
                _ => return Err(refused_change(name)),
            }
        }
        Ok(())
    }

    /// Changes the safety profile.
    fn safeguard(&mut self, request: &SimRequest<'_>, wanted: &Value) {
        for name in ["allowDeletionOfReplicatedLocations", "blockDeletionBeforeEndOfLife"] {
            let known = name.starts_with("allow") || request.since("2024-03-03");
            if known && wanted[name].is_boolean() {
                self.safety[name] = wanted[name].clone();
            }
        }
    }

    /// Whether it has a replica in a location, given by its short name.
    pub(super) fn is_in(&self, location: &str) -> bool {
        let name = |region: &Value| short_name(region["name"].as_str().unwrap_or_default());
        self.regions.iter().any(|region| name(region) == location)
    }
}
