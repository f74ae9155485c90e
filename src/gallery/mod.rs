//! Operations on the user's own galleries: the changes that Azure allows, sharing, and the
//! retirement of versions.
//!
//! Invariants:
//! - A request is sent again only if it is certain that its change was not made.
//! - A change that was begun and is not known to have ended is reported as such.
//! - An outdated plan changes nothing.

mod name;
mod operation;
pub mod retire;
mod sending;
mod share;
mod update;

pub use name::Name;
pub use operation::{ChangeOutcome, ChangeStep, ProvisioningState, StepListener, WaitLimits};
pub use share::{ShareWith, SharingChange};
pub use update::{Changes, Region};

/// A planned change.
#[derive(Debug, Clone)]
pub struct PlannedChange {
    /// The request.
    pub change: Change,
    /// Whether the last change of the resource had failed when this one was planned.
    failed_before: bool,
}

use crate::client::version::{self, ApiVersion};
use crate::client::{Change, Client};
use crate::error::{Error, Result};
use crate::image::gallery::GalleryImage;
use crate::source::gallery::parse::{gallery_id, own_gallery};
use crate::work::OwnGallery;
use reqwest::Method;
use serde_json::Value;

/// The API version that returns everything that a change must keep.
const VERSION: ApiVersion = version::GALLERY_CHANGES;

/// A client of galleries that can be changed.
#[derive(Debug, Clone)]
pub struct Galleries {
    client: Client,
    wait_limits: WaitLimits,
}

impl Galleries {
    /// Creates a client that sends its requests with `client`.
    pub fn new(client: Client) -> Self {
        Self { client, wait_limits: WaitLimits::default() }
    }

    /// Replaces the limits of waits and retries.
    #[must_use]
    pub fn with_patience(mut self, wait_limits: WaitLimits) -> Self {
        self.wait_limits = wait_limits;
        self
    }

    /// Returns a gallery, definition or version in its current state.
    pub async fn get(&self, name: &Name) -> Result<Value> {
        let query: &[_] =
            if name.definition.is_none() { &[("$select", "Permissions")] } else { &[] };
        self.look_up(name, query).await
    }

    /// Like [`Self::get`], with the parameters `query`.
    async fn look_up(&self, name: &Name, query: &[(&str, &str)]) -> Result<Value> {
        let path = name.path();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = [query, &[VERSION.parameter()]].concat();
        let thing: Value = self.client.get(&path, &query).await?;
        // Bodies of changes are built from this answer: it must be the resource, and complete.
        let is_it = thing["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&name.id()));
        if !is_it || !thing["properties"].is_object() {
            let text =
                format!("{}: Azure returned another resource, or an incomplete one", name.id());
            return Err(Error::transient(text));
        }
        Ok(thing)
    }

    /// Resolves `text`: an id, or `GALLERY[/DEFINITION[/VERSION]]` of the only gallery with that
    /// name. The version `latest` is resolved as Azure does over all regions.
    pub async fn resolve(&self, text: &str, subscriptions: &[String]) -> Result<Name> {
        let mut name = self.named_by(text, subscriptions).await?;
        if name.version.as_ref().is_some_and(|version| version.eq_ignore_ascii_case("latest")) {
            let definition = name.definition.clone().unwrap_or_default();
            let rows = self.source().rows_of(&name.own, &definition).await?;
            let latest = rows.into_iter().rfind(GalleryImage::is_eligible);
            let none = || {
                Error::not_found(format!("no version of {definition} is eligible as the latest"))
            };
            name.version = Some(latest.and_then(|row| row.version).ok_or_else(none)?);
        }
        Ok(name)
    }

    async fn named_by(&self, text: &str, subscriptions: &[String]) -> Result<Name> {
        if let Some(name) = Name::from_id(text) {
            return Ok(name);
        }
        let parts: Vec<&str> = text.split('/').map(str::trim).collect();
        let (gallery, definition, version) = match parts[..] {
            [gallery] => (gallery, None, None),
            [gallery, definition] => (gallery, Some(definition), None),
            [gallery, definition, version] => (gallery, Some(definition), Some(version)),
            _ => ("", None, None),
        };
        if parts.contains(&"") || gallery.is_empty() {
            return Err(Error::invalid(format!(
                "'{text}' is not a valid name: use GALLERY, GALLERY/DEFINITION, \
                 GALLERY/DEFINITION/VERSION, or an id that begins with /subscriptions/"
            )));
        }
        let found = self.named(gallery, subscriptions).await?;
        let [own] = found.try_into().map_err(|found: Vec<OwnGallery>| {
            if found.is_empty() {
                return Error::not_found(format!("no gallery '{gallery}' is visible to you"));
            }
            let ids: Vec<String> = found.iter().map(gallery_id).collect();
            Error::invalid(format!(
                "'{gallery}' is the name of {} galleries: specify the id, one of {}",
                ids.len(),
                ids.join(", ")
            ))
        })?;
        let text = |part: Option<&str>| part.map(str::to_owned);
        Ok(Name { own, definition: text(definition), version: text(version) })
    }

    /// The galleries of that name, by Resource Graph.
    async fn named(&self, gallery: &str, subscriptions: &[String]) -> Result<Vec<OwnGallery>> {
        #[derive(serde::Deserialize)]
        struct Row {
            id: String,
            name: String,
        }
        let query = "resources | where type =~ 'microsoft.compute/galleries' | project id, name | \
                     order by id asc";
        let rows: Vec<Row> = self.client.graph(query, subscriptions).await?;
        let same = rows.into_iter().filter(|row| row.name.eq_ignore_ascii_case(gallery));
        Ok(same.filter_map(|row| own_gallery(&row.id)).collect())
    }
}

/// A change of the resource `name`.
fn change(name: &Name, method: Method, body: Option<Value>) -> Change {
    Change { method, path: name.path(), version: VERSION.sent, body, if_match: None }
}
