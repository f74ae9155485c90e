//! One gallery of our own subscriptions: its sharing profile, definitions and versions.

use super::parse::{self, Resource};
use super::{CONCURRENCY, GALLERIES, Gallery, end_failed_item};
use crate::client::quoted;
use crate::client::version::GALLERY_CHANGES;
use crate::error::{Error, ErrorKind, Result};
use crate::image::gallery::GalleryImage;
use crate::image::resource_id;
use crate::source::{Crawled, Invocation, PreviousFindings, Rows};
use crate::work::{GalleryScope, Outcome, OwnGallery, Scope, State, WorkItem};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::time::Duration;

/// A gallery with more definitions and versions than this is split.
const MOST_RESOURCES: u64 = 4_000;
/// Definitions per part of a split gallery; their names must fit into a query.
const DEFINITIONS: usize = 50;

/// Wait for an exhausted quota if the answer has no retry delay.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// Definitions as listed, each with its versions.
type ListedGallery = Vec<(Resource, Vec<Resource>)>;

/// The contents of a gallery, or how to split them.
enum Contents {
    /// All contents.
    Here(ListedGallery),
    /// Names of definitions, too many for one item, and whether to list them through the provider.
    Split(Vec<String>, bool),
}

impl Gallery {
    pub(super) async fn crawl_gallery(
        &self,
        item: &WorkItem,
        own: &OwnGallery,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let Scope::Gallery(GalleryScope::Gallery {
            definitions,
            details,
            provider,
            sharing,
            public_names,
            ..
        }) = &item.scope
        else {
            return Err(Error::bug("not an item of a gallery"));
        };
        // Only a GET of the gallery returns its sharing profile; it also shows whether the gallery
        // still exists.
        let (sharing, public_names) = match sharing {
            Some(sharing) => (sharing.clone(), public_names.clone()),
            None => match self.sharing(own).await {
                Ok(sharing) => sharing,
                Err(error) => return end_failed_item(item, error, effort),
            },
        };
        let contents = match self.contents(own, definitions, *provider, effort.last).await {
            Ok(contents) => contents,
            Err(error) if error.kind() == ErrorKind::Throttled => {
                let wait = error.retry_after().unwrap_or(SOME_WHILE);
                return Ok(Crawled::Later(with_sharing(item, (&sharing, &public_names)), wait));
            }
            Err(error) => return end_failed_item(item, error, effort),
        };
        let listed = match contents {
            Contents::Here(listed) => listed,
            Contents::Split(names, provider) => {
                return split(item, names, (&sharing, &public_names), provider);
            }
        };
        let mut rows = Vec::new();
        for (definition, versions) in &listed {
            let id = format!("{}/images/{}", parse::gallery_id(own), definition.name);
            let mut row = parse::definition(id, definition)?;
            row.subscription_id = Some(own.subscription.clone());
            row.resource_group = Some(own.resource_group.clone());
            row.gallery = Some(own.gallery.clone());
            row.sharing = Some(sharing.clone());
            row.public_names.clone_from(&public_names);
            for version in versions {
                rows.push(parse::version(&row, version)?);
            }
            rows.push(row);
        }
        rows.sort_by(GalleryImage::compare);
        rows.dedup_by(|a, b| a.id.eq_ignore_ascii_case(&b.id));
        let (gaps, children) =
            self.add_replication(item, own, &mut rows, *details, effort, known).await?;
        let state = if rows.is_empty() { State::Empty } else { State::Done };
        let outcome = Outcome {
            listed: u64::from(state == State::Done),
            rows: rows.len() as u64,
            gaps,
            children,
            ..Outcome::bare(item.scope.clone(), state, "", 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Gallery(rows)))
    }

    /// Returns how a gallery is shared, and its public names.
    async fn sharing(&self, own: &OwnGallery) -> Result<(String, Vec<String>)> {
        let query = [("$select", "Permissions"), GALLERIES];
        let gallery: Resource = self.client.get(&path(own, &[]), &query).await?;
        parse::sharing(&gallery)
    }

    async fn contents(
        &self,
        own: &OwnGallery,
        definitions: &[String],
        provider: bool,
        is_last: bool,
    ) -> Result<Contents> {
        if !provider {
            match self.graph_contents(own, definitions).await {
                // Resource Graph returns an empty result where access is denied.
                Ok(Contents::Here(listed)) if listed.is_empty() => {}
                Ok(contents) => return Ok(contents),
                Err(error) if error.kind() == ErrorKind::Throttled => return Err(error),
                // A redelivery may succeed; the last delivery falls back to the provider.
                Err(error) if error.is_transient() && !is_last => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        %error, gallery = own.gallery,
                        "Resource Graph failed; the resource provider is queried instead"
                    );
                }
            }
        }
        self.provider_contents(own, definitions).await
    }

    /// Returns the contents of a gallery from Resource Graph.
    async fn graph_contents(&self, own: &OwnGallery, definitions: &[String]) -> Result<Contents> {
        let subscription = std::slice::from_ref(&own.subscription);
        let query = contents_query(own, definitions);
        let most = if definitions.is_empty() { MOST_RESOURCES } else { u64::MAX };
        let Some(all) = self.client.graph_within(&query, subscription, most).await? else {
            let query = definitions_query(own);
            let all: Vec<Resource> = self.client.graph(&query, subscription).await?;
            return Ok(Contents::Split(all.into_iter().map(|d| d.name).collect(), false));
        };
        let all: Vec<Resource> = all;
        let mut listed: BTreeMap<String, (Option<Resource>, Vec<Resource>)> = BTreeMap::new();
        for resource in all {
            let name = resource_id::part(&resource.id, "images").unwrap_or_default();
            let entry = listed.entry(name.to_ascii_lowercase()).or_default();
            if resource.kind.eq_ignore_ascii_case(VERSION) {
                entry.1.push(resource);
            } else {
                entry.0 = Some(resource);
            }
        }
        let definitions = listed.into_values().map(|(definition, versions)| {
            // A version without its definition: the index lags behind.
            let lost =
                || Error::bad_answer("Resource Graph returned versions without their definition");
            Ok((definition.ok_or_else(lost)?, versions))
        });
        definitions.collect::<Result<ListedGallery>>().map(Contents::Here)
    }

    /// Returns the contents of a gallery from the provider: fifty per page, definition by
    /// definition.
    async fn provider_contents(&self, own: &OwnGallery, only: &[String]) -> Result<Contents> {
        let mut definitions = self.definitions(own).await?;
        if !only.is_empty() {
            definitions.retain(|d| only.iter().any(|name| name.eq_ignore_ascii_case(&d.name)));
        } else if definitions.len() > DEFINITIONS {
            return Ok(Contents::Split(definitions.into_iter().map(|d| d.name).collect(), true));
        }
        let listed: ListedGallery = stream::iter(definitions)
            .map(|definition| async move {
                match self.versions(own, &definition.name).await {
                    Ok(versions) => Ok(Some((definition, versions))),
                    // The definition was deleted since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffered(CONCURRENCY)
            .try_filter_map(|listed| async move { Ok(listed) })
            .try_collect()
            .await?;
        Ok(Contents::Here(listed))
    }

    /// Returns the definitions of a gallery from the provider.
    pub async fn definitions(&self, own: &OwnGallery) -> Result<Vec<Resource>> {
        self.client.list(&path(own, &["images"]), &[GALLERIES]).await
    }

    /// Returns the versions of a definition from the provider.
    pub async fn versions(&self, own: &OwnGallery, definition: &str) -> Result<Vec<Resource>> {
        self.client.list(&path(own, &["images", definition, "versions"]), &[GALLERIES]).await
    }

    /// Returns the current rows of a definition and its versions from the provider, sorted.
    pub async fn rows_of(&self, own: &OwnGallery, definition: &str) -> Result<Vec<GalleryImage>> {
        let changes = [GALLERY_CHANGES.parameter()];
        let resource = self.client.get(&path(own, &["images", definition]), &changes).await?;
        let id = format!("{}/images/{definition}", parse::gallery_id(own));
        let mut row = parse::definition(id, &resource)?;
        row.gallery = Some(own.gallery.clone());
        // Only newer API versions return whether the owner of a version has blocked its deletion.
        let below = path(own, &["images", definition, "versions"]);
        let versions: Vec<Resource> = self.client.list(&below, &changes).await?;
        let mut rows =
            versions.iter().map(|v| parse::version(&row, v)).collect::<Result<Vec<_>>>()?;
        rows.push(row);
        rows.sort_by(GalleryImage::compare);
        Ok(rows)
    }
}

/// Returns a gallery's item with its sharing profile filled in, so that it need not be requested
/// again.
fn with_sharing(item: &WorkItem, (shared, names): (&str, &[String])) -> WorkItem {
    let mut item = item.clone();
    if let Scope::Gallery(GalleryScope::Gallery { sharing, public_names, .. }) = &mut item.scope {
        *sharing = Some(shared.to_owned());
        *public_names = names.to_vec();
    }
    item
}

/// The path of a gallery, extended by `below`.
pub(super) fn path<'a>(own: &'a OwnGallery, below: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec![
        "subscriptions",
        &own.subscription,
        "resourceGroups",
        &own.resource_group,
        "providers",
        "Microsoft.Compute",
        "galleries",
        &own.gallery,
    ];
    path.extend_from_slice(below);
    path
}

const DEFINITION: &str = "microsoft.compute/galleries/images";
const VERSION: &str = "microsoft.compute/galleries/images/versions";
const COLUMNS: &str = "project id, name, type, location, tags, properties | order by id asc";

/// Query for definitions and versions of a gallery; for all of its definitions if `definitions` is
/// empty.
fn contents_query(own: &OwnGallery, definitions: &[String]) -> String {
    let below = quoted(&format!("{}/images/", parse::gallery_id(own)));
    let only = match definitions {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            format!(" | where tostring(split(id, '/')[10]) in~ ({})", names.join(", "))
        }
    };
    format!(
        "resources | where type in~ ('{DEFINITION}', '{VERSION}') | where id startswith \
         {below}{only} | {COLUMNS}"
    )
}

fn definitions_query(own: &OwnGallery) -> String {
    let below = quoted(&format!("{}/images/", parse::gallery_id(own)));
    format!("resources | where type =~ '{DEFINITION}' | where id startswith {below} | {COLUMNS}")
}

/// Ends the item of a gallery that is too large for one item, with parts of its definitions as
/// children.
fn split(
    item: &WorkItem,
    mut names: Vec<String>,
    (shared, public_names): (&str, &[String]),
    via: bool,
) -> Result<Crawled> {
    let Scope::Gallery(GalleryScope::Gallery { own, details, .. }) = &item.scope else {
        return Err(Error::bug("not an item of a gallery"));
    };
    names.sort_by_key(|name| name.to_ascii_lowercase());
    let children = names.chunks(DEFINITIONS).map(|part| {
        let scope = GalleryScope::Gallery {
            own: own.clone(),
            definitions: part.to_vec(),
            details: *details,
            provider: via,
            sharing: Some(shared.to_owned()),
            public_names: public_names.to_vec(),
        };
        item.child(Scope::Gallery(scope))
    });
    let outcome = Outcome {
        listed: 1,
        children: children.collect(),
        ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
    };
    Ok(Crawled::Ended(outcome, Rows::Gallery(Vec::new())))
}
