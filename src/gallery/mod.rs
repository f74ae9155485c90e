//! Operations on galleries of ours: what Azure lets one change, how galleries are shared, and which
//! versions are retired.
//!
//! Invariants: an operation is sent again only when it is sure that it was not done; what was begun
//! and is not known to have ended is said so; nothing is changed by a plan that the world has left
//! behind.

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

/// A change that was planned.
#[derive(Debug, Clone)]
pub struct PlannedChange {
    /// What is sent.
    pub change: Change,
    /// Whether the last change of the thing had failed when this one was planned.
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

/// The version of the API that shows all that a change must keep.
const VERSION: ApiVersion = version::GALLERY_CHANGES;

/// Galleries that can be changed.
#[derive(Debug, Clone)]
pub struct Galleries {
    client: Client,
    patience: WaitLimits,
}

impl Galleries {
    /// Galleries that `client` may change.
    pub fn new(client: Client) -> Self {
        Self { client, patience: WaitLimits::default() }
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: WaitLimits) -> Self {
        self.patience = patience;
        self
    }

    /// A gallery, definition or version as it is now.
    pub async fn get(&self, name: &Name) -> Result<Value> {
        let query: &[_] =
            if name.definition.is_none() { &[("$select", "Permissions")] } else { &[] };
        self.look_up(name, query).await
    }

    /// The same, asked for with `query`.
    async fn look_up(&self, name: &Name, query: &[(&str, &str)]) -> Result<Value> {
        let path = name.path();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = [query, &[VERSION.parameter()]].concat();
        let thing: Value = self.client.get(&path, &query).await?;
        // What is sent back is made of what is there: it must be the thing, and whole.
        let is_it = thing["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&name.id()));
        if !is_it || !thing["properties"].is_object() {
            let text = format!("{}: Azure answered with something else", name.id());
            return Err(Error::transient(text));
        }
        Ok(thing)
    }

    /// Finds what `text` names: an id, or `GALLERY[/DEFINITION[/VERSION]]` of a gallery that is the
    /// only one of its name. The version `latest` is the one that Azure takes for that over all regions.
    pub async fn resolve(&self, text: &str, subscriptions: &[String]) -> Result<Name> {
        let mut name = self.named_by(text, subscriptions).await?;
        if name.version.as_ref().is_some_and(|version| version.eq_ignore_ascii_case("latest")) {
            let definition = name.definition.clone().unwrap_or_default();
            let rows = self.source().rows_of(&name.own, &definition).await?;
            let latest = rows.into_iter().rfind(GalleryImage::is_eligible);
            let none = || Error::not_found(format!("no version of {definition} may be the latest"));
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
                "'{text}' names nothing: give GALLERY, GALLERY/DEFINITION, \
                 GALLERY/DEFINITION/VERSION, or an id that begins with /subscriptions/"
            )));
        }
        let found = self.named(gallery, subscriptions).await?;
        let [own] = found.try_into().map_err(|found: Vec<OwnGallery>| {
            if found.is_empty() {
                return Error::not_found(format!(
                    "there is no gallery '{gallery}' that you can see"
                ));
            }
            let ids: Vec<String> = found.iter().map(gallery_id).collect();
            Error::invalid(format!(
                "'{gallery}' is the name of {} galleries: give the id, one of {}",
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

/// A change of what `name` names.
fn change(name: &Name, method: Method, body: Option<Value>) -> Change {
    Change { method, path: name.path(), version: VERSION.sent, body, if_match: None }
}
