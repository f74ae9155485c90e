//! Repositories, tags and manifests with their attributes, by ACR's own API (azure-rest §7).

use super::reference::{is_digest, is_repository, is_tag};
use super::request::{Ask, MOST_PAGES};
use super::{Name, Registry};
use crate::error::{Error, Result};
use reqwest::Method;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use url::Url;

/// What may be done to a repository, tag or manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Attributes {
    /// It can be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_enabled: Option<bool>,
    /// It can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_enabled: Option<bool>,
    /// It is in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_enabled: Option<bool>,
    /// It can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_enabled: Option<bool>,
    /// What a scanner let it pass as, where one has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_state: Option<String>,
}

impl Attributes {
    /// Whether it can be neither deleted nor overwritten by whoever may.
    pub fn is_locked(&self) -> bool {
        self.delete_enabled == Some(false) || self.write_enabled == Some(false)
    }
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Its name.
    #[serde(rename(deserialize = "imageName"))]
    pub name: String,
    /// When it was made.
    #[serde(default)]
    pub created_time: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub last_update_time: Option<String>,
    /// How many manifests it has.
    #[serde(default)]
    pub manifest_count: u64,
    /// How many tags it has.
    #[serde(default)]
    pub tag_count: u64,
    /// What may be done to it.
    #[serde(default)]
    pub changeable_attributes: Attributes,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// What it points at.
    pub digest: String,
    /// When it was made.
    #[serde(default)]
    pub created_time: Option<String>,
    /// When it was last moved.
    #[serde(default)]
    pub last_update_time: Option<String>,
    /// What may be done to it.
    #[serde(default)]
    pub changeable_attributes: Attributes,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its digest.
    pub digest: String,
    /// The bytes of an image's layers and configuration; those of an index itself.
    #[serde(default)]
    pub image_size: Option<u64>,
    /// When it was pushed.
    #[serde(default)]
    pub created_time: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub last_update_time: Option<String>,
    /// Architecture of an image.
    #[serde(default)]
    pub architecture: Option<String>,
    /// Operating system of an image.
    #[serde(default)]
    pub os: Option<String>,
    /// What it is.
    #[serde(default)]
    pub media_type: Option<String>,
    /// What its configuration is.
    #[serde(default)]
    pub config_media_type: Option<String>,
    /// Tags that point at it.
    #[serde(default, deserialize_with = "list_or_null")]
    pub tags: Vec<String>,
    /// The images of an index, as far as the registry tells.
    #[serde(default, deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Part>,
    /// What may be done to it.
    #[serde(default)]
    pub changeable_attributes: Attributes,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Its digest.
    pub digest: String,
    /// Its architecture.
    #[serde(default)]
    pub architecture: Option<String>,
    /// Its operating system.
    #[serde(default)]
    pub os: Option<String>,
}

fn list_or_null<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What went with a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deleted {
    /// Manifests.
    #[serde(deserialize_with = "list_or_null")]
    pub manifests_deleted: Vec<String>,
    /// Tags.
    #[serde(deserialize_with = "list_or_null")]
    pub tags_deleted: Vec<String>,
}

/// A page. Its list may be null, but it must be there: another answer is no empty list.
#[derive(Deserialize)]
struct Repositories {
    #[serde(deserialize_with = "list_or_null")]
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(rename = "imageName")]
    _repository: String,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Manifests {
    #[serde(rename = "imageName")]
    _repository: String,
    #[serde(default)]
    manifests: Option<Vec<Manifest>>,
}

#[derive(Deserialize)]
struct OneTag {
    tag: Tag,
}

#[derive(Deserialize)]
struct OneManifest {
    manifest: Manifest,
}

fn scope(repository: &str, action: &str) -> String {
    format!("repository:{repository}:{action}")
}

/// A repository's manifests, page by page.
pub struct ManifestPages<'a> {
    registry: &'a Registry,
    repository: String,
    scope: String,
    next: Option<Url>,
    seen: HashSet<Url>,
}

impl ManifestPages<'_> {
    /// The next page; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Manifest>>> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if !self.seen.insert(url.clone()) || self.seen.len() > MOST_PAGES {
            let at = self.registry.login_server();
            let text = format!("{at}/{}: its pages go round", self.repository);
            return Err(Error::invalid(text));
        }
        let (page, next) = self.registry.page::<Manifests>(url, &self.scope).await?;
        let page = page.manifests.unwrap_or_default();
        let sound = page.iter().all(|manifest| {
            is_digest(&manifest.digest)
                && manifest.references.iter().all(|part| is_digest(&part.digest))
        });
        self.registry.check(&self.repository, sound)?;
        self.next = next;
        Ok(Some(page))
    }

    /// Whether there is another page.
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

impl Registry {
    /// All repositories, sorted.
    pub async fn repositories(&self) -> Result<Vec<String>> {
        let take = |page: Repositories| page.repositories;
        let path = ["acr", "v1", "_catalog"];
        let mut names = self.pages(&path, &[], "registry:catalog:*", take).await?;
        names.retain(|name| {
            let known = is_repository(name);
            if !known {
                tracing::warn!(name, "a repository that no reference can name");
            }
            known
        });
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Looks whether repositories may be listed and read, at the first of them: its name, if there is one.
    pub async fn look(&self) -> Result<Option<String>> {
        let catalog = self.url(&["acr", "v1", "_catalog"], &[("n", "1")]);
        let (page, _) = self.page::<Repositories>(catalog, "registry:catalog:*").await?;
        let Some(name) = page.repositories.into_iter().next() else { return Ok(None) };
        let manifests = self.url(&["acr", "v1", &name, "_manifests"], &[("n", "1")]);
        self.page::<Manifests>(manifests, &scope(&name, "metadata_read")).await?;
        Ok(Some(name))
    }

    /// All tags of a repository, sorted; or those of one manifest.
    pub async fn tags(&self, repository: &str, digest: Option<&str>) -> Result<Vec<Tag>> {
        let take = |page: Tags| page.tags.unwrap_or_default();
        let path = ["acr", "v1", repository, "_tags"];
        let query: Vec<(&str, &str)> =
            digest.into_iter().map(|digest| ("digest", digest)).collect();
        let mut tags = self.pages(&path, &query, &scope(repository, "metadata_read"), take).await?;
        self.check(repository, tags.iter().all(|tag| is_tag(&tag.name) && is_digest(&tag.digest)))?;
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        tags.dedup_by(|a, b| a.name == b.name);
        Ok(tags)
    }

    /// All manifests of a repository, by digest.
    pub async fn manifests(&self, repository: &str) -> Result<Vec<Manifest>> {
        let mut listing = self.list_manifests(repository, &[], None);
        let mut all = Vec::new();
        while let Some(page) = listing.next().await? {
            all.extend(page);
        }
        all.sort_by(|a, b| a.digest.cmp(&b.digest));
        all.dedup_by(|a, b| a.digest == b.digest);
        Ok(all)
    }

    /// The manifests of a repository behind the digest `after`, page by page; with one token for all
    /// repositories that are asked `together` with it, if any are named.
    pub fn list_manifests(
        &self,
        repository: &str,
        together: &[String],
        after: Option<&str>,
    ) -> ManifestPages<'_> {
        let of_one = |name: &String| scope(name, "metadata_read");
        let mut scopes: Vec<String> = together.iter().map(of_one).collect();
        if scopes.is_empty() {
            scopes.push(of_one(&repository.to_owned()));
        }
        let query: Vec<(&str, &str)> = after.into_iter().map(|digest| ("last", digest)).collect();
        ManifestPages {
            registry: self,
            repository: repository.to_owned(),
            scope: scopes.join(" "),
            next: Some(self.first_page(&["acr", "v1", repository, "_manifests"], &query)),
            seen: HashSet::new(),
        }
    }

    /// Names become parts of addresses: what is none is not passed on.
    fn check(&self, repository: &str, sound: bool) -> Result<()> {
        if sound {
            return Ok(());
        }
        let at = self.login_server();
        Err(Error::invalid(format!("{at}/{repository}: a listing has names that are none")))
    }

    /// A repository with its attributes.
    pub async fn repository(&self, repository: &str) -> Result<Repository> {
        self.one(repository, &Name::Whole, Method::GET, None).await
    }

    /// A tag with its attributes.
    pub async fn tag(&self, repository: &str, tag: &str) -> Result<Tag> {
        let name = Name::Tag(tag.to_owned());
        let found: OneTag = self.one(repository, &name, Method::GET, None).await?;
        Ok(found.tag)
    }

    /// A manifest with its attributes.
    pub async fn manifest(&self, repository: &str, digest: &str) -> Result<Manifest> {
        let name = Name::Digest(digest.to_owned());
        let found: OneManifest = self.one(repository, &name, Method::GET, None).await?;
        Ok(found.manifest)
    }

    /// Sets attributes of a repository, tag or manifest; the thing as it is then.
    pub async fn set(&self, repository: &str, name: &Name, to: &Attributes) -> Result<Value> {
        let body = serde_json::to_value(to).map_err(|e| Error::bug(e.to_string()))?;
        self.one(repository, name, Method::PATCH, Some(body)).await
    }

    /// Deletes a tag, and spares the manifest that it points at; deletes a manifest with all its tags;
    /// or deletes a repository with everything in it.
    pub async fn delete(&self, repository: &str, name: &Name) -> Result<Deleted> {
        let scope = scope(repository, "delete");
        let url = match name {
            Name::Digest(digest) => self.url(&["v2", repository, "manifests", digest], &[]),
            Name::Tag(tag) => self.url(&["acr", "v1", repository, "_tags", tag], &[]),
            Name::Whole => self.url(&["acr", "v1", repository], &[]),
        };
        let ask = Ask { method: Method::DELETE, ..Ask::get(url, &scope) };
        let body = self.ask(&ask, |told| Ok(told.body)).await?;
        match name {
            Name::Whole => Ok(serde_json::from_slice(&body).unwrap_or_default()),
            Name::Tag(tag) => Ok(Deleted { tags_deleted: vec![tag.clone()], ..Deleted::default() }),
            Name::Digest(digest) => {
                Ok(Deleted { manifests_deleted: vec![digest.clone()], ..Deleted::default() })
            }
        }
    }

    async fn one<T: DeserializeOwned>(
        &self,
        repository: &str,
        name: &Name,
        method: Method,
        body: Option<Value>,
    ) -> Result<T> {
        let action = if method == Method::GET { "metadata_read" } else { "metadata_write" };
        let scope = scope(repository, action);
        let base = ["acr", "v1", repository];
        let url = match name {
            Name::Whole => self.url(&base, &[]),
            Name::Tag(tag) => self.url(&[&base[..], &["_tags", tag]].concat(), &[]),
            Name::Digest(digest) => self.url(&[&base[..], &["_manifests", digest]].concat(), &[]),
        };
        let ask = Ask { method, body, ..Ask::get(url, &scope) };
        self.ask_json(&ask).await.map(|(_, value)| value)
    }
}
