//! The API below `/acr/v1`, which `docker-registry` does not have: repositories, tags, manifests and locks.

use super::tokens::claims;
use super::{Front, is_admin, json_answer, refused};
use axum::http::{Method, header};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

impl Front {
    fn repositories(&self) -> Vec<String> {
        fn walk(folder: &Path, name: &str, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let part = entry.file_name().to_string_lossy().into_owned();
                if part == "_manifests" {
                    found.push(name.to_owned());
                } else if !part.starts_with('_') {
                    let name = if name.is_empty() { part } else { format!("{name}/{part}") };
                    walk(&entry.path(), &name, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root.join("docker/registry/v2/repositories"), "", &mut found);
        found.sort();
        found
    }

    pub(super) fn folder(&self, repository: &str) -> PathBuf {
        self.root.join("docker/registry/v2/repositories").join(repository).join("_manifests")
    }

    fn tags(&self, repository: &str) -> Vec<(String, String, PathBuf)> {
        let mut tags: Vec<(String, String, PathBuf)> = Vec::new();
        let folder = self.folder(repository).join("tags");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let link = entry.path().join("current/link");
            let Ok(digest) = std::fs::read_to_string(&link) else { continue };
            tags.push((entry.file_name().to_string_lossy().into_owned(), digest, link));
        }
        tags.sort();
        tags
    }

    fn digests(&self, repository: &str) -> Vec<String> {
        let folder = self.folder(repository).join("revisions/sha256");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let with_link = entries.filter(|entry| entry.path().join("link").is_file());
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut found: Vec<String> =
            with_link.map(name).map(|hex| format!("sha256:{hex}")).collect();
        found.sort();
        found
    }

    pub(super) fn attributes(&self, key: &str) -> Value {
        let open = json!({"deleteEnabled": true, "writeEnabled": true, "listEnabled": true,
            "readEnabled": true});
        self.attributes.lock().unwrap().get(key).cloned().unwrap_or(open)
    }

    fn manifest(&self, repository: &str, digest: &str) -> Option<Value> {
        let hex = digest.strip_prefix("sha256:")?;
        let link = self.folder(repository).join("revisions/sha256").join(hex).join("link");
        let blob = self.root.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
        let content: Value =
            serde_json::from_slice(&std::fs::read(blob.join("data")).ok()?).ok()?;
        let size = |part: &Value| part["size"].as_u64().unwrap_or_default();
        let layers: u64 = content["layers"].as_array().into_iter().flatten().map(size).sum();
        let tags: Vec<String> =
            self.tags(repository).into_iter().filter(|t| t.1 == digest).map(|t| t.0).collect();
        let time = modified(&link)?;
        let mut value = json!({"digest": digest, "imageSize": layers + size(&content["config"]),
            "createdTime": time, "lastUpdateTime": time, "mediaType": content["mediaType"],
            "changeableAttributes": self.attributes(&format!("{repository}@{digest}"))});
        if !tags.is_empty() {
            value["tags"] = tags.into();
        }
        Some(value)
    }

    fn tag(&self, repository: &str, (name, digest, link): &(String, String, PathBuf)) -> Value {
        let time = modified(link);
        json!({"name": name, "digest": digest, "createdTime": time, "lastUpdateTime": time,
            "signed": false,
            "changeableAttributes": self.attributes(&format!("{repository}:{name}"))})
    }

    /// The response of `/acr/v1`, which the real registry does not have.
    pub(super) fn acr(
        &self,
        parts: &axum::http::request::Parts,
        path: &str,
        body: &[u8],
    ) -> Response {
        let method = &parts.method;
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let bearer = parts.headers.get(header::AUTHORIZATION);
        let bearer = bearer.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let claims = claims(bearer);
        let granted = |kind: &str, name: &str, action: &str| {
            let access = claims["access"].as_array().cloned().unwrap_or_default();
            is_admin(&parts.headers)
                || access.iter().any(|access| {
                    access["type"] == kind
                        && access["name"] == name
                        && access["actions"].as_array().unwrap().contains(&json!(action))
                })
        };
        if path == "_catalog" {
            if !granted("registry", "catalog", "*") {
                return self.challenge("registry:catalog:*");
            }
            let all = self.repositories();
            return page(
                &all,
                &query,
                "/acr/v1/_catalog",
                String::as_str,
                |rows| json!({ "repositories": rows }),
            );
        }
        let (name, part) = path.split_once("/_").map_or((path, None), |(n, p)| (n, Some(p)));
        let action = match *method {
            Method::DELETE => "delete",
            Method::PATCH => "metadata_write",
            _ => "metadata_read",
        };
        if !granted("repository", name, action) {
            return self.challenge(&format!("repository:{name}:{action}"));
        }
        if !self.folder(name).is_dir() {
            return refused(404, "NAME_UNKNOWN");
        }
        let key = match part.and_then(|part| part.split_once('/')) {
            None => name.to_owned(),
            Some(("tags", tag)) => format!("{name}:{tag}"),
            Some((_, digest)) => format!("{name}@{digest}"),
        };
        if *method == Method::PATCH {
            let mut now = self.attributes(&key);
            let to: Value = serde_json::from_slice(body).unwrap();
            now.as_object_mut().unwrap().extend(to.as_object().unwrap().clone());
            self.attributes.lock().unwrap().insert(key, now);
        }
        self.answer(method, name, part, &query)
    }

    /// The response to a caller with permission.
    fn answer(
        &self,
        method: &Method,
        name: &str,
        part: Option<&str>,
        query: &HashMap<String, String>,
    ) -> Response {
        let head = |part: &str, value: Value| json!({"registry": self.server, "imageName": name, part: value});
        match part {
            None if *method == Method::DELETE => {
                let (manifests, tags) = (self.digests(name), self.tags(name));
                std::fs::remove_dir_all(self.folder(name).parent().unwrap()).unwrap();
                let tags: Vec<String> = tags.into_iter().map(|tag| tag.0).collect();
                json_answer(202, &json!({"manifestsDeleted": manifests, "tagsDeleted": tags}))
            }
            None => {
                let time = modified(&self.folder(name));
                json_answer(
                    200,
                    &json!({"registry": self.server, "imageName": name,
                    "createdTime": time, "lastUpdateTime": time,
                    "manifestCount": self.digests(name).len(), "tagCount": self.tags(name).len(),
                    "changeableAttributes": self.attributes(name)}),
                )
            }
            Some("tags") => {
                let mut all = self.tags(name);
                all.retain(|tag| query.get("digest").is_none_or(|digest| *digest == tag.1));
                let next = format!("/acr/v1/{name}/_tags");
                page(
                    &all,
                    query,
                    &next,
                    |tag| &tag.0,
                    |rows| {
                        let rows: Vec<Value> = rows.iter().map(|tag| self.tag(name, tag)).collect();
                        head("tags", rows.into())
                    },
                )
            }
            Some("manifests") => {
                let all = self.digests(name);
                let next = format!("/acr/v1/{name}/_manifests");
                page(&all, query, &next, String::as_str, |rows| {
                    let rows: Vec<Value> =
                        rows.iter().filter_map(|digest| self.manifest(name, digest)).collect();
                    head("manifests", rows.into())
                })
            }
            Some(part) => self.one(method, name, part, head),
        }
    }

    fn one(
        &self,
        method: &Method,
        name: &str,
        part: &str,
        head: impl Fn(&str, Value) -> Value,
    ) -> Response {
        if let Some(tag) = part.strip_prefix("tags/") {
            let Some(found) = self.tags(name).into_iter().find(|found| found.0 == tag) else {
                return refused(404, "TAG_UNKNOWN");
            };
            if *method == Method::DELETE {
                if self.attributes(&format!("{name}:{tag}"))["deleteEnabled"] == false {
                    return refused(405, "UNSUPPORTED");
                }
                std::fs::remove_dir_all(self.folder(name).join("tags").join(tag)).unwrap();
                return json_answer(202, &Value::Null);
            }
            return json_answer(200, &head("tag", self.tag(name, &found)));
        }
        let digest = part.strip_prefix("manifests/").unwrap_or_default();
        match self.manifest(name, digest) {
            Some(found) => json_answer(200, &head("manifest", found)),
            None => refused(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn challenge(&self, scope: &str) -> Response {
        let mut response = refused(401, "UNAUTHORIZED");
        let server = &self.server;
        let text = format!(
            "Bearer realm=\"https://{server}/oauth2/token\",service=\"{server}\",scope=\"{scope}\""
        );
        response.headers_mut().insert(header::WWW_AUTHENTICATE, text.parse().unwrap());
        response
    }
}

fn modified(path: &Path) -> Option<String> {
    let at = OffsetDateTime::from(path.metadata().ok()?.modified().ok()?);
    at.format(&Rfc3339).ok()
}

fn page<T>(
    all: &[T],
    query: &HashMap<String, String>,
    path: &str,
    name: impl Fn(&T) -> &str,
    body: impl Fn(&[T]) -> Value,
) -> Response {
    let count: usize = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(100);
    let from =
        query.get("last").map_or(0, |last| all.partition_point(|row| name(row) <= last.as_str()));
    let rows = &all[from..all.len().min(from + count)];
    let mut response = json_answer(200, &body(rows));
    if let (Some(last), true) = (rows.last(), from + count < all.len()) {
        let last: String = url::form_urlencoded::byte_serialize(name(last).as_bytes()).collect();
        let link = format!("<{path}?last={last}&n={count}&orderby=>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, link.parse().unwrap());
    }
    response
}
