//! Pushes and deletions of manifests of a simulated registry. It parses manifests as strictly as
//! ACR does, and accepts one when all that it points at is in the repository.

use super::blobs::blobs_of;
use super::response::{accepted, locked_response, name_unknown, not_found, registry_error};
use super::target::is_digest;
use crate::sim::registries::{
    IMAGE, INDEX, SimAttributes, SimManifest, SimRegistry, SimRepository, SimTag, digest,
};
use crate::sim::response::{SimResponse, json_response};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

/// The largest manifest that ACR accepts, in bytes.
pub(super) const LARGEST_MANIFEST: usize = 4 << 20;
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Accepted types of manifests, each with the list that such a manifest must have.
const TYPES: [(&str, &str); 6] = [
    (IMAGE, "layers"),
    (INDEX, "manifests"),
    (DOCKER_IMAGE, "layers"),
    (DOCKER_LIST, "manifests"),
    ("application/vnd.oci.artifact.manifest.v1+json", "blobs"),
    ("application/vnd.cncf.oras.artifact.manifest.v1+json", "blobs"),
];
/// Types of configurations with an architecture and an operating system.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The largest configuration that is parsed, in bytes.
const LARGEST_CONFIG: u64 = 8 << 20;

/// The current time, as ACR writes times.
fn now() -> String {
    let form =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");
    OffsetDateTime::now_utc().format(form).unwrap_or_default()
}

/// The refusal of an invalid manifest.
fn invalid(why: &str) -> SimResponse {
    registry_error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &format!("manifest invalid: {why}"))
}

/// The refusal of a manifest that is too large.
pub(super) fn too_large() -> SimResponse {
    invalid(&format!("it has more than {LARGEST_MANIFEST} bytes"))
}

/// Whether a value is a descriptor with type, size and digest.
fn is_descriptor(part: &Value) -> bool {
    let has_type = part["mediaType"].as_str().is_some_and(|kind| !kind.is_empty());
    has_type && part["size"].is_u64() && part["digest"].as_str().is_some_and(is_digest)
}

/// Parses a manifest: its type and its content. An error is the reason for its refusal.
fn parse(kind: &str, bytes: &[u8]) -> Result<(&'static str, Value), String> {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let Some((media_type, list)) = TYPES.iter().find(|(known, _)| *known == kind) else {
        return Err(format!("'{kind}' is the type of no manifest"));
    };
    let document: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    match document["mediaType"].as_str() {
        Some(own) if own != *media_type => {
            return Err(format!("it is of type {own}, and was sent as {media_type}"));
        }
        None if !matches!(*media_type, IMAGE | INDEX) => {
            return Err("it does not say its own type".to_owned());
        }
        _ => {}
    }
    if *list != "blobs" && document["schemaVersion"] != 2 {
        return Err("its schemaVersion is not 2".to_owned());
    }
    // A manifest that could be an image and an index is refused.
    let other = if *list == "layers" { "manifests" } else { "layers" };
    if !document[other].is_null() {
        return Err(format!("it has {list} and {other}"));
    }
    let Some(parts) = document[*list].as_array() else {
        // An artifact may have no blobs.
        let may_lack = *list == "blobs" && document[*list].is_null();
        return may_lack.then_some((*media_type, document)).ok_or(format!("it has no {list}"));
    };
    let config = (*list == "layers").then_some(&document["config"]);
    let subject = Some(&document["subject"]).filter(|subject| !subject.is_null());
    let mut all = parts.iter().chain(config).chain(subject);
    if let Some(bad) = all.find(|part| !is_descriptor(part)) {
        return Err(format!("{bad} is no descriptor"));
    }
    Ok((*media_type, document))
}

impl SimRegistry {
    /// Stores a manifest under a tag or its digest.
    pub(super) fn put(
        &mut self,
        name: &str,
        reference: &str,
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> SimResponse {
        let found = self.repositories.get(name);
        let tag = found.and_then(|found| found.tags.get(reference));
        let is_locked = |attributes: SimAttributes| !attributes.write;
        if found.is_some_and(|found| is_locked(found.attributes))
            || tag.is_some_and(|tag| is_locked(tag.attributes))
        {
            return locked_response();
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let (media_type, document) = match parse(kind.unwrap_or_default(), bytes) {
            Ok(parsed) => parsed,
            Err(why) => return invalid(&why),
        };
        let own = digest(bytes);
        if reference.contains(':') && reference != own {
            let text = format!("provided digest did not match uploaded content: it is {own}");
            return registry_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &text);
        }
        let missing = self.missing(name, &document);
        if !missing.is_empty() {
            return blobs_missing(&missing);
        }
        let platform = self.platform(&document);
        let repository = self.repositories.entry(name.to_owned()).or_default();
        let at = now();
        repository.manifests.entry(own.clone()).or_insert_with(|| SimManifest {
            media_type,
            content: bytes.to_vec(),
            size: match &document["manifests"] {
                Value::Null => blobs_of(&document).map(|(_, size)| size).sum(),
                _ => bytes.len() as u64,
            },
            created: at.clone(),
            platform,
            attributes: SimAttributes::default(),
        });
        if !reference.contains(':') {
            repository.point(reference, &own, at);
        }
        manifest_created(name, &own, document["subject"]["digest"].as_str())
    }

    /// The digests in a manifest that its repository does not have.
    fn missing(&self, name: &str, document: &Value) -> Vec<String> {
        let has_manifest = |digest: &str| {
            self.repositories.get(name).is_some_and(|found| found.manifests.contains_key(digest))
        };
        let blobs = blobs_of(document).map(|(digest, _)| digest);
        let blobs = blobs.filter(|digest| self.blob_size(name, digest).is_none());
        // An index may list blobs as well, as caches of BuildKit do.
        let members = document["manifests"].as_array().into_iter().flatten();
        let members = members.filter_map(|member| member["digest"].as_str());
        let members = members
            .filter(|digest| !has_manifest(digest) && self.blob_size(name, digest).is_none());
        blobs.chain(members).map(str::to_owned).collect()
    }

    /// Architecture and operating system, from the configuration of an image.
    fn platform(&self, document: &Value) -> Option<(String, String)> {
        let config = &document["config"];
        if !config["mediaType"].as_str().is_some_and(|kind| CONFIGS.contains(&kind)) {
            return None;
        }
        let bytes = self.blob_bytes(config["digest"].as_str()?)?;
        if bytes.size() > LARGEST_CONFIG {
            return None;
        }
        let config: Value = serde_json::from_slice(&bytes.joined()).ok()?;
        let of = |part: &str| config[part].as_str().map(str::to_owned);
        Some((of("architecture")?, of("os")?))
    }

    /// Deletes a manifest with its tags. Blobs that no other manifest has stay until their room is
    /// needed.
    pub(super) fn delete_manifest(&mut self, name: &str, digest: &str) -> SimResponse {
        let Some(repository) = self.repositories.get_mut(name) else { return name_unknown() };
        let Some(found) = repository.manifests.get(digest) else {
            return not_found("MANIFEST_UNKNOWN", &format!("manifest {digest} is not found"));
        };
        let mut tags = repository.tags.values().filter(|tag| tag.digest == digest);
        if repository.attributes.is_locked()
            || found.attributes.is_locked()
            || tags.any(|tag| tag.attributes.is_locked())
        {
            return locked_response();
        }
        let document: Value = serde_json::from_slice(&found.content).unwrap_or_default();
        repository.manifests.remove(digest);
        repository.tags.retain(|_, tag| tag.digest != digest);
        for (blob, size) in blobs_of(&document) {
            if !self.pushed.is_deleted(name, blob) && repository.size_named(blob).is_none() {
                self.pushed.idle(name, blob, size);
            }
        }
        accepted()
    }
}

impl SimRepository {
    /// Points a tag to a manifest.
    fn point(&mut self, tag: &str, digest: &str, at: String) {
        let moved = self.tags.entry(tag.to_owned()).or_insert_with(|| SimTag {
            digest: digest.to_owned(),
            created: at.clone(),
            updated: at.clone(),
            attributes: SimAttributes::default(),
        });
        if moved.digest != digest {
            digest.clone_into(&mut moved.digest);
            moved.updated = at;
        }
    }
}

/// The refusal of a manifest that points at something that is not in the repository.
fn blobs_missing(missing: &[String]) -> SimResponse {
    let (code, text) = ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
    let error = |digest: &String| json!({"code": code, "message": text, "detail": digest});
    let errors: Vec<Value> = missing.iter().map(error).collect();
    json_response(StatusCode::BAD_REQUEST, &json!({ "errors": errors }))
}

/// The response to a manifest that was stored.
fn manifest_created(name: &str, digest: &str, subject: Option<&str>) -> SimResponse {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/v2/{name}/manifests/{digest}");
    let headers = [
        ("location", Some(location.as_str())),
        ("docker-content-digest", Some(digest)),
        ("oci-subject", subject),
    ];
    for (name, value) in headers {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_manifest_is_refused() {
        let blob = json!({"mediaType": "a/b", "size": 2, "digest": digest(b"{}")});
        let image =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": blob, "layers": [blob]});
        let index = json!({"schemaVersion": 2, "manifests": [blob]});
        let parse = |kind: &str, document: &Value| parse(kind, document.to_string().as_bytes());
        assert!(parse(IMAGE, &image).is_ok() && parse(INDEX, &index).is_ok());
        assert!(parse(&format!("{IMAGE}; charset=utf-8"), &image).is_ok());
        for kind in [INDEX, DOCKER_IMAGE, DOCKER_LIST, "text/plain", ""] {
            assert!(parse(kind, &image).is_err(), "{kind}");
        }
        assert!(parse(DOCKER_LIST, &index).is_err(), "it does not say that it is one");
        let changed = |path: &str, to: Value| {
            let mut image = image.clone();
            *image.pointer_mut(path).unwrap() = to;
            image
        };
        for (path, to) in [
            ("/schemaVersion", json!(1)),
            ("/config", Value::Null),
            ("/layers", Value::Null),
            ("/layers/0/size", json!(-1)),
            ("/layers/0/digest", json!("sha256:../x")),
            ("/layers/0/mediaType", json!("")),
        ] {
            assert!(parse(IMAGE, &changed(path, to)).is_err(), "{path}");
        }
        for (more, of) in [("manifests", json!([])), ("subject", json!({"digest": "x"}))] {
            let mut image = image.clone();
            image[more] = of;
            assert!(parse(IMAGE, &image).is_err(), "{more}");
        }
        assert!(super::parse(IMAGE, b"{").is_err());
    }
}
