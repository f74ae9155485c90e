//! Repositories, tags and manifests with their attributes, by ACR's own API (azure-rest §7).

use super::reference::is_tag;
use super::request::{ListSize, MOST_PAGES, RegistryRequest};
use super::rows::{self, ListRow, Listed, MalformedMembers, Members, Named, Row};
use super::{Name, Registry};
use crate::error::{Error, Result};
use crate::image::registry::join_tags;
use reqwest::Method;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use url::Url;

/// The changeable attributes of a repository, tag or manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Attributes {
    /// Whether it can be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_enabled: Option<bool>,
    /// Whether it can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_enabled: Option<bool>,
    /// Whether it is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_enabled: Option<bool>,
    /// Whether it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_enabled: Option<bool>,
    /// The quarantine state that a scanner set, if the registry requires a scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_state: Option<String>,
    /// The details of that scan, in the format of the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_details: Option<String>,
    /// Whether images are stored so that they can start before the download is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teleport_enabled: Option<bool>,
}

impl Attributes {
    /// Whether it cannot be deleted, or cannot be overwritten, even with permission.
    pub fn is_locked(&self) -> bool {
        self.delete_enabled == Some(false) || self.write_enabled == Some(false)
    }

    /// Whether it is known that it can be deleted and overwritten. An attribute that is absent may
    /// mean a lock: ACR returns it for everything (recorded: 218 rows of 218).
    pub fn is_open(&self) -> bool {
        self.delete_enabled == Some(true) && self.write_enabled == Some(true)
    }

    fn of(row: &mut Members<'_>) -> Self {
        let Some(mut members) = row.inner("changeableAttributes") else { return Self::default() };
        let read = Self {
            delete_enabled: members.flag("deleteEnabled"),
            write_enabled: members.flag("writeEnabled"),
            list_enabled: members.flag("listEnabled"),
            read_enabled: members.flag("readEnabled"),
            quarantine_state: members.text("quarantineState"),
            quarantine_details: members.text("quarantineDetails"),
            teleport_enabled: members.flag("teleportEnabled"),
        };
        row.join(members.malformed);
        read
    }
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// The name of the repository.
    pub name: String,
    /// When the repository was created.
    pub created_time: Option<String>,
    /// When the repository was last changed.
    pub last_update_time: Option<String>,
    /// The number of manifests.
    pub manifest_count: Option<u64>,
    /// The number of tags.
    pub tag_count: Option<u64>,
    /// The changeable attributes of the repository.
    pub changeable_attributes: Attributes,
    /// Members that could not be read.
    #[serde(skip)]
    pub malformed: MalformedMembers,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// The name of the tag.
    pub name: String,
    /// The digest that the tag points to.
    pub digest: String,
    /// When the tag was created.
    pub created_time: Option<String>,
    /// When the tag was last moved.
    pub last_update_time: Option<String>,
    /// Whether the tag is signed with Docker Content Trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<bool>,
    /// The changeable attributes of the tag.
    pub changeable_attributes: Attributes,
    /// Members that could not be read.
    #[serde(skip)]
    pub malformed: MalformedMembers,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The digest of the manifest.
    pub digest: String,
    /// The size of layers and configuration of an image, in bytes; for an index, its own size.
    pub image_size: Option<u64>,
    /// When the manifest was pushed.
    pub created_time: Option<String>,
    /// When the manifest was last changed.
    pub last_update_time: Option<String>,
    /// The architecture of an image.
    pub architecture: Option<String>,
    /// The operating system of an image.
    pub os: Option<String>,
    /// The media type of the manifest.
    pub media_type: Option<String>,
    /// The media type of the configuration.
    pub config_media_type: Option<String>,
    /// Some of the tags: ACR truncates the list ("the manifest details currently limit the number
    /// of tags", its maintainer at Azure/acr#529; after ten of one digest at Azure/azure-cli#7438).
    pub tags: Vec<String>,
    /// The images of an index, as far as the registry reports them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<IndexEntry>,
    /// The changeable attributes of the manifest.
    pub changeable_attributes: Attributes,
    /// Members that could not be read.
    #[serde(skip)]
    pub malformed: MalformedMembers,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IndexEntry {
    /// The digest of the image.
    pub digest: String,
    /// The architecture of the image.
    pub architecture: Option<String>,
    /// The operating system of the image.
    pub os: Option<String>,
}

impl Row for Repository {
    fn read(row: &Value) -> Result<Self, String> {
        let mut row = Members::of(row)?;
        Ok(Self {
            name: row.name("imageName", |_| true)?,
            created_time: row.time("createdTime"),
            last_update_time: row.time("lastUpdateTime"),
            manifest_count: row.count("manifestCount"),
            tag_count: row.count("tagCount"),
            changeable_attributes: Attributes::of(&mut row),
            malformed: row.malformed,
        })
    }

    fn malformed(&self) -> &MalformedMembers {
        &self.malformed
    }
}

impl Row for Tag {
    fn read(row: &Value) -> Result<Self, String> {
        let mut row = Members::of(row)?;
        Ok(Self {
            name: row.name("name", is_tag)?,
            digest: row.digest()?,
            created_time: row.time("createdTime"),
            last_update_time: row.time("lastUpdateTime"),
            signed: row.flag("signed"),
            changeable_attributes: Attributes::of(&mut row),
            malformed: row.malformed,
        })
    }

    fn malformed(&self) -> &MalformedMembers {
        &self.malformed
    }
}

impl ListRow for Tag {
    const LIST: &'static str = "tags";
}

impl Row for Manifest {
    fn read(row: &Value) -> Result<Self, String> {
        let mut row = Members::of(row)?;
        let tag = |found: &Value| found.as_str().filter(|tag| is_tag(tag)).map(str::to_owned);
        Ok(Self {
            digest: row.digest()?,
            image_size: row.count("imageSize"),
            created_time: row.time("createdTime"),
            last_update_time: row.time("lastUpdateTime"),
            architecture: row.text("architecture"),
            os: row.text("os"),
            media_type: row.text("mediaType"),
            config_media_type: row.text("configMediaType"),
            tags: row.each("tags", "a tag", tag),
            references: row.each("references", "a manifest of an index", IndexEntry::read),
            changeable_attributes: Attributes::of(&mut row),
            malformed: row.malformed,
        })
    }

    fn malformed(&self) -> &MalformedMembers {
        &self.malformed
    }
}

impl ListRow for Manifest {
    const LIST: &'static str = "manifests";
}

impl IndexEntry {
    fn read(found: &Value) -> Option<Self> {
        let mut members = Members::of(found).ok()?;
        Some(Self {
            digest: members.digest().ok()?,
            architecture: members.text("architecture"),
            os: members.text("os"),
        })
    }
}

impl<'de> Deserialize<'de> for Repository {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        rows::deserialize(from)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        rows::deserialize(from)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        rows::deserialize(from)
    }
}

fn list_or_null<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What was deleted with a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deleted {
    /// Digests of manifests.
    #[serde(deserialize_with = "list_or_null")]
    pub manifests_deleted: Vec<String>,
    /// Names of tags.
    #[serde(deserialize_with = "list_or_null")]
    pub tags_deleted: Vec<String>,
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

/// The token scope for reading the lists of a repository. If `together` names repositories, one
/// scope covers all of them.
fn reading(repository: &str, together: &[String]) -> String {
    let of_one = |name: &str| scope(name, "metadata_read");
    match together {
        [] => of_one(repository),
        all => all.iter().map(|name| of_one(name)).collect::<Vec<_>>().join(" "),
    }
}

/// The manifests of a repository, page by page.
pub struct ManifestPages<'a> {
    registry: &'a Registry,
    repository: String,
    scope: String,
    next: Option<Url>,
    seen: HashSet<Url>,
    sum: ListSize,
}

impl ManifestPages<'_> {
    /// Returns the next page; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Listed<Manifest>>> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if !self.seen.insert(url.clone()) || self.seen.len() > MOST_PAGES {
            let at = self.registry.login_server();
            let text = format!("{at}/{}: too many or repeating pages", self.repository);
            return Err(Error::bad_answer(text));
        }
        let (page, next) = self.registry.page(url, &self.scope, &mut self.sum).await?;
        self.next = next;
        Ok(Some(page))
    }

    /// Whether there is another page.
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

impl Registry {
    /// Lists all repositories with a readable name, sorted.
    pub async fn catalog(&self) -> Result<Listed<String>> {
        let path = ["acr", "v1", "_catalog"];
        let Listed { rows, lost } = self.pages::<Named>(&path, &[], "registry:catalog:*").await?;
        let mut rows: Vec<String> = rows.into_iter().map(|named| named.0).collect();
        rows.sort_unstable();
        rows.dedup();
        Ok(Listed { rows, lost })
    }

    /// Like [`Self::catalog`], without the count of unreadable names.
    pub async fn repositories(&self) -> Result<Vec<String>> {
        Ok(self.catalog().await?.rows)
    }

    /// Checks whether the first repository may be listed and read. Returns its name, if there is
    /// one.
    pub async fn look(&self) -> Result<Option<String>> {
        let catalog = self.url(&["acr", "v1", "_catalog"], &[("n", "1")]);
        let mut sum = ListSize::default();
        let (page, _) = self.page::<Named>(catalog, "registry:catalog:*", &mut sum).await?;
        let Some(Named(name, _)) = self.all_read("_catalog", page)?.into_iter().next() else {
            return Ok(None);
        };
        let manifests = self.url(&["acr", "v1", &name, "_manifests"], &[("n", "1")]);
        self.page::<Manifest>(manifests, &reading(&name, &[]), &mut sum).await?;
        Ok(Some(name))
    }

    /// Lists the readable tags of a repository, or those of one manifest, sorted. If `together`
    /// names repositories, one token covers all of them.
    pub async fn list_tags(
        &self,
        repository: &str,
        together: &[String],
        digest: Option<&str>,
    ) -> Result<Listed<Tag>> {
        let path = ["acr", "v1", repository, "_tags"];
        let query: Vec<(&str, &str)> =
            digest.into_iter().map(|digest| ("digest", digest)).collect();
        let mut tags = self.pages::<Tag>(&path, &query, &reading(repository, together)).await?;
        tags.rows.sort_by(|a, b| a.name.cmp(&b.name));
        tags.rows.dedup_by(|a, b| a.name == b.name);
        Ok(tags)
    }

    /// Lists all tags, or those of one manifest, sorted. An error if one of them cannot be read.
    pub async fn tags(&self, repository: &str, digest: Option<&str>) -> Result<Vec<Tag>> {
        let tags = self.list_tags(repository, &[], digest).await?;
        self.all_read(repository, tags)
    }

    /// Lists the readable manifests of a repository, by digest, with the tags in their list.
    pub async fn every_manifest(&self, repository: &str) -> Result<Listed<Manifest>> {
        let mut listing = self.list_manifests(repository, &[], None);
        let mut all = Listed::default();
        while let Some(page) = listing.next().await? {
            all.extend(page);
        }
        all.rows.sort_by(|a, b| a.digest.cmp(&b.digest));
        all.rows.dedup_by(|a, b| a.digest == b.digest);
        Ok(all)
    }

    /// Lists all manifests of a repository, by digest, each with all its tags. An error if one of
    /// them cannot be read.
    pub async fn manifests(&self, repository: &str) -> Result<Vec<Manifest>> {
        let all = self.every_manifest(repository).await?;
        let mut all = self.all_read(repository, all)?;
        let tags = self.tags(repository, None).await?;
        let tags: Vec<(String, String)> =
            tags.into_iter().map(|tag| (tag.name, tag.digest)).collect();
        let tags_by_digest = all.iter_mut().map(|row| (row.digest.as_str(), &mut row.tags));
        join_tags(tags_by_digest.collect(), &tags);
        Ok(all)
    }

    /// Lists the manifests of a repository after the digest `after`, page by page. If `together`
    /// names repositories, one token covers all of them.
    pub fn list_manifests(
        &self,
        repository: &str,
        together: &[String],
        after: Option<&str>,
    ) -> ManifestPages<'_> {
        let query: Vec<(&str, &str)> = after.into_iter().map(|digest| ("last", digest)).collect();
        ManifestPages {
            registry: self,
            repository: repository.to_owned(),
            scope: reading(repository, together),
            next: Some(self.first_page(&["acr", "v1", repository, "_manifests"], &query)),
            seen: HashSet::new(),
            sum: ListSize::default(),
        }
    }

    /// Returns the rows of a complete list. An error if a row was lost.
    fn all_read<T>(&self, repository: &str, listed: Listed<T>) -> Result<Vec<T>> {
        let Some(why) = listed.lost.why("rows") else { return Ok(listed.rows) };
        let at = self.login_server();
        Err(Error::invalid(format!("{at}/{repository}: a list contains invalid names: {why}")))
    }

    /// Returns a repository with its attributes.
    pub async fn repository(&self, repository: &str) -> Result<Repository> {
        self.one(repository, &Name::Whole, Method::GET, None).await
    }

    /// Returns a tag with its attributes.
    pub async fn tag(&self, repository: &str, tag: &str) -> Result<Tag> {
        let name = Name::Tag(tag.to_owned());
        let found: OneTag = self.one(repository, &name, Method::GET, None).await?;
        Ok(found.tag)
    }

    /// Returns a manifest with its attributes.
    pub async fn manifest(&self, repository: &str, digest: &str) -> Result<Manifest> {
        let name = Name::Digest(digest.to_owned());
        let found: OneManifest = self.one(repository, &name, Method::GET, None).await?;
        Ok(found.manifest)
    }

    /// Sets attributes of a repository, tag or manifest. Returns it as it is afterwards.
    pub async fn set(&self, repository: &str, name: &Name, to: &Attributes) -> Result<Value> {
        let body = serde_json::to_value(to).map_err(|e| Error::bug(e.to_string()))?;
        self.one(repository, name, Method::PATCH, Some(body)).await
    }

    /// Deletes a tag, and keeps the manifest that it points at; deletes a manifest with all its
    /// tags; or deletes a repository with everything in it.
    pub async fn delete(&self, repository: &str, name: &Name) -> Result<Deleted> {
        let scope = scope(repository, "delete");
        let url = match name {
            Name::Digest(digest) => self.url(&["v2", repository, "manifests", digest], &[]),
            Name::Tag(tag) => self.url(&["acr", "v1", repository, "_tags", tag], &[]),
            Name::Whole => self.url(&["acr", "v1", repository], &[]),
        };
        let ask = RegistryRequest { method: Method::DELETE, ..RegistryRequest::get(url, &scope) };
        let body = self.ask(&ask, |response| Ok(response.body)).await?;
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
        let ask = RegistryRequest { method, body, ..RegistryRequest::get(url, &scope) };
        self.ask_json(&ask).await.map(|(_, value)| value)
    }
}
