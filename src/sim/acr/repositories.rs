//! Repositories, manifests and tags of a simulated registry: lists, descriptions, content, changes
//! of tags.

use super::response::{accepted, locked_response, name_unknown, not_found, registry_error};
use super::target::is_digest;
use crate::sim::registries::{INDEX, SimManifest, SimRegistry, SimRepository, SimTag, digest};
use crate::sim::response::{SimResponse, json_response};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Rows of a page when the request has no `n`, and the largest page.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

impl SimRegistry {
    /// The list of repositories.
    pub(super) fn list(&self, query: &[(String, String)], path: &str) -> SimResponse {
        let listed = self.repositories.iter().filter(|(_, repository)| repository.attributes.list);
        let names: Vec<&String> = listed.map(|(name, _)| name).collect();
        let body = |page: &[&String]| json!({ "repositories": page });
        page(&names, query, path, |name| name, body)
    }

    /// Deletes a repository.
    pub(super) fn remove(&mut self, name: &str) -> SimResponse {
        let locked = |r: &SimRepository| {
            r.attributes.is_locked() || r.manifests.values().any(|m| m.attributes.is_locked())
        };
        match self.repositories.get(name) {
            None => name_unknown(),
            Some(repository) if locked(repository) => locked_response(),
            Some(_) => {
                let gone = self.repositories.remove(name).unwrap_or_default();
                self.pushed.forget(name);
                let manifests: Vec<&String> = gone.manifests.keys().collect();
                let tags: Vec<&String> = gone.tags.keys().collect();
                let body = json!({"manifestsDeleted": manifests, "tagsDeleted": tags});
                json_response(StatusCode::ACCEPTED, &body)
            }
        }
    }
}

/// A page of `all` after `last`, with the link to the next page, which is relative as in ACR.
fn page<T>(
    all: &[T],
    query: &[(String, String)],
    path: &str,
    name: impl Fn(&T) -> &str,
    body: impl Fn(&[T]) -> Value,
) -> SimResponse {
    let of = |wanted: &str| query.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.as_str());
    let count = of("n").and_then(|n| n.parse().ok()).unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let from = of("last").map_or(0, |last| {
        let at = all.iter().position(|row| name(row) == last);
        at.map_or_else(|| all.partition_point(|row| name(row) <= last), |at| at + 1)
    });
    let rows = &all[from..all.len().min(from + count)];
    let mut response = json_response(StatusCode::OK, &body(rows));
    if let (Some(last), true) = (rows.last(), from + count < all.len()) {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.append_pair("last", name(last)).append_pair("n", &count.to_string());
        next.append_pair("orderby", of("orderby").unwrap_or_default());
        let link = format!("<{path}?{}>; rel=\"next\"", next.finish());
        if let Ok(value) = HeaderValue::try_from(link) {
            response.headers_mut().insert(header::LINK, value);
        }
    }
    response
}

/// Sorts rows as `orderby` asks: by name, or by the time of their last change (recorded for
/// `timeasc` and `timedesc`). What ACR does with another word is unknown; it is refused here.
fn in_order<T>(
    all: &mut [T],
    query: &[(String, String)],
    time: impl Fn(&T) -> &str,
) -> Result<(), Box<SimResponse>> {
    let order = query.iter().find(|(name, _)| name == "orderby").map_or("", |(_, v)| v.as_str());
    match order {
        "" | "none" => {}
        "timeasc" => all.sort_by(|a, b| time(a).cmp(time(b))),
        "timedesc" => all.sort_by(|a, b| time(b).cmp(time(a))),
        other => {
            let text = format!("orderby '{other}' is not supported");
            return Err(Box::new(registry_error(StatusCode::BAD_REQUEST, "UNSUPPORTED", &text)));
        }
    }
    Ok(())
}

impl SimTag {
    /// The description of the tag.
    pub(super) fn to_json(&self, name: &str) -> Value {
        json!({"name": name, "digest": self.digest, "createdTime": self.created,
            "lastUpdateTime": self.updated, "signed": false,
            "changeableAttributes": self.attributes.to_json()})
    }
}

impl SimRepository {
    /// The description of the repository.
    pub(super) fn to_json(&self, server: &str, name: &str) -> Value {
        let created = self.manifests.values().map(|m| m.created.as_str()).min();
        let tags = self.tags.values().map(|tag| tag.updated.as_str());
        let updated = self.manifests.values().map(|m| m.created.as_str()).chain(tags).max();
        json!({"registry": server, "imageName": name, "createdTime": created,
            "lastUpdateTime": updated, "manifestCount": self.manifests.len(),
            "tagCount": self.tags.len(), "changeableAttributes": self.attributes.to_json()})
    }

    /// The description of a manifest, with at most `most_tags` of its tags.
    pub(super) fn manifest_json(&self, name: &str, most_tags: usize) -> Value {
        let tags = self.tags.iter().filter(|(_, tag)| tag.digest == name).take(most_tags);
        self.manifest_with(name, &tags.map(|(tag, _)| tag.as_str()).collect::<Vec<_>>())
    }

    /// The description of a manifest, with these tags.
    pub(super) fn manifest_with(&self, name: &str, tags: &[&str]) -> Value {
        let Some(found) = self.manifests.get(name) else { return Value::Null };
        let SimManifest { media_type, size, created, platform, attributes, .. } = found;
        let mut value = json!({"digest": name, "imageSize": size, "createdTime": created,
            "lastUpdateTime": created, "mediaType": media_type,
            "changeableAttributes": attributes.to_json()});
        if let Some((architecture, os)) = platform {
            value["architecture"] = architecture.as_str().into();
            value["os"] = os.as_str().into();
        }
        if !tags.is_empty() {
            value["tags"] = json!(tags);
        }
        value
    }

    /// The list of tags, of one manifest if `digest` is given.
    pub(super) fn list_tags(
        &self,
        server: &str,
        name: &str,
        query: &[(String, String)],
    ) -> SimResponse {
        let digest = query.iter().find(|(n, _)| n == "digest").map(|(_, v)| v.as_str());
        let mut all: Vec<(&String, &SimTag)> = self
            .tags
            .iter()
            .filter(|(_, tag)| tag.attributes.list && digest.is_none_or(|d| d == tag.digest))
            .collect();
        if let Err(refused) = in_order(&mut all, query, |(_, tag)| tag.updated.as_str()) {
            return *refused;
        }
        page(
            &all,
            query,
            &format!("/acr/v1/{name}/_tags"),
            |(tag, _)| tag,
            |page| {
                let tags: Vec<Value> = page.iter().map(|(name, tag)| tag.to_json(name)).collect();
                json!({"registry": server, "imageName": name, "tags": tags})
            },
        )
    }

    /// The description of a tag, after a change too. The error is the response to a deletion, done
    /// or refused, or to an unknown tag.
    pub(super) fn tag(
        &mut self,
        tag: &str,
        method: &Method,
        body: &Value,
    ) -> Result<Value, Box<SimResponse>> {
        let is_locked = self.attributes.is_locked();
        let Some(found) = self.tags.get_mut(tag) else {
            return Err(Box::new(not_found("TAG_UNKNOWN", "the specified tag does not exist")));
        };
        if *method == Method::DELETE {
            if is_locked || found.attributes.is_locked() {
                return Err(Box::new(locked_response()));
            }
            self.tags.remove(tag);
            return Err(Box::new(accepted()));
        }
        if *method == Method::PATCH {
            found.attributes.patch(body);
        }
        Ok(found.to_json(tag))
    }

    /// The list of tags in Docker's API.
    pub(super) fn list_tag_names(&self, name: &str, query: &[(String, String)]) -> SimResponse {
        let listed = self.tags.iter().filter(|(_, tag)| tag.attributes.list);
        let all: Vec<&String> = listed.map(|(tag, _)| tag).collect();
        let body = |page: &[&String]| json!({"name": name, "tags": page});
        page(&all, query, &format!("/v2/{name}/tags/list"), |tag| tag, body)
    }

    /// The list of manifests, each with at most `most_tags` of its tags.
    pub(super) fn list_manifests(
        &self,
        server: &str,
        name: &str,
        query: &[(String, String)],
        most_tags: usize,
    ) -> SimResponse {
        let listed = self.manifests.iter().filter(|(_, manifest)| manifest.attributes.list);
        let mut all: Vec<&String> = listed.map(|(digest, _)| digest).collect();
        let ordered = in_order(&mut all, query, |digest| self.manifests[*digest].created.as_str());
        if let Err(refused) = ordered {
            return *refused;
        }
        let mut tags: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, tag) in &self.tags {
            let listed_tags = tags.entry(&tag.digest).or_default();
            if listed_tags.len() < most_tags {
                listed_tags.push(name);
            }
        }
        let row = |digest: &&String| {
            self.manifest_with(digest, tags.get(digest.as_str()).map_or(&[], Vec::as_slice))
        };
        page(
            &all,
            query,
            &format!("/acr/v1/{name}/_manifests"),
            |digest| digest,
            |page| {
                let rows: Vec<Value> = page.iter().map(row).collect();
                json!({"registry": server, "imageName": name, "manifests": rows})
            },
        )
    }

    /// The list of the manifests that refer to a digest.
    pub(super) fn referrers(
        &self,
        repository: &str,
        of: &str,
        query: &[(String, String)],
    ) -> SimResponse {
        if !is_digest(of) {
            return registry_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the digest is none");
        }
        let kind = query.iter().find(|(name, _)| name == "artifactType").map(|(_, v)| v.as_str());
        let of_it = self.manifests.iter().filter_map(|(name, manifest)| {
            let content: Value = serde_json::from_slice(&manifest.content).ok()?;
            // The artifact type of an image without one is the media type of its configuration.
            let own = Some(&content["artifactType"]).filter(|own| !own.is_null());
            let own = own.unwrap_or(&content["config"]["mediaType"]);
            let is_wanted = kind.is_none_or(|kind| own == kind);
            (content["subject"]["digest"] == of && is_wanted).then(|| {
                let mut row = json!({"mediaType": manifest.media_type, "digest": name,
                    "size": manifest.content.len(), "artifactType": own});
                if content["annotations"].is_object() {
                    row["annotations"] = content["annotations"].clone();
                }
                (name.as_str(), row)
            })
        });
        let all: Vec<(&str, Value)> = of_it.collect();
        let body = |page: &[(&str, Value)]| {
            let rows: Vec<&Value> = page.iter().map(|(_, row)| row).collect();
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
        };
        let path = format!("/v2/{repository}/referrers/{of}");
        let mut response = page(&all, query, &path, |(name, _)| *name, body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
        if kind.is_some() {
            headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
        }
        response
    }

    /// A manifest itself, by tag or digest.
    pub(super) fn content(&self, reference: &str, method: &Method) -> SimResponse {
        let name = self.tags.get(reference).map_or(reference, |tag| &tag.digest);
        let Some(found) = self.manifests.get(name) else {
            let text = format!("manifest {reference} is not found");
            return not_found("MANIFEST_UNKNOWN", &text);
        };
        let body = if *method == Method::HEAD { Vec::new() } else { found.content.clone() };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(found.media_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.content.len()));
        if let Ok(value) = HeaderValue::try_from(digest(&found.content)) {
            headers.insert("docker-content-digest", value);
        }
        response
    }
}
