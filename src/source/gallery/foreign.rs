//! Galleries of other owners: shared directly with our subscriptions or tenant, or published as
//! community galleries.
//!
//! They are visible per location, only where they have replicas, and have neither an owner nor a
//! replication status. Community galleries are discovered only through Resource Graph, which also
//! has their contents; directly shared galleries are listed by the provider.

use super::parse::{self, Resource};
use super::{CONCURRENCY, Gallery, MOST_OTHERS, end_failed_item};
use crate::client::quoted;
use crate::client::version;
use crate::error::{Error, ErrorKind, Result};
use crate::image::gallery::GalleryImage;
use crate::image::name::short_name;
use crate::image::resource_id;
use crate::source::locations::{self, UNNAMED};
use crate::source::{Crawled, Invocation, Rows};
use crate::work::{GalleryScope, Outcome, Scope, Sharing, State, WorkItem};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashSet};

/// If the community galleries of one location have more definitions and versions than this, the
/// item is split.
const MOST_RESOURCES: u64 = 8_000;
/// Galleries per part of a split item; their names must fit into a query.
const GALLERIES_PER_QUERY: usize = 50;
const VERSION: (&str, &str) = version::FOREIGN_GALLERIES.parameter();

const COMMUNITY: &str = "microsoft.compute/locations/communitygalleries";

impl Gallery {
    /// Finds the galleries that are shared with the tenant or one of the item's subscriptions, each
    /// once, except those owned by our own subscriptions.
    pub(super) async fn crawl_shared(
        &self,
        item: &WorkItem,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let Scope::Gallery(GalleryScope::SharedIn { location, subscriptions, part }) = &item.scope
        else {
            return Err(Error::bug("not an item of shared galleries"));
        };
        let mut found: BTreeMap<String, GalleryScope> = BTreeMap::new();
        let mut denied: Vec<String> = Vec::new();
        let has_unnamed = subscriptions.iter().any(|subscription| subscription == UNNAMED);
        for (subscription, sharing, listed) in
            self.shared_lists(location, subscriptions, *part).await
        {
            let listed = match listed {
                Ok(listed) => listed,
                // Without a compute provider, nothing can be shared with the subscription.
                Err(error) if crate::source::is_unregistered(&error) => continue,
                Err(error) if is_closed(&error) => {
                    denied.push(subscription);
                    continue;
                }
                Err(error) => return end_failed_item(item, error, effort),
            };
            for gallery in listed {
                let scope = GalleryScope::Foreign {
                    location: location.clone(),
                    subscription: subscription.clone(),
                    otherwise: Vec::new(),
                    sharing,
                    gallery: gallery.name.clone(),
                };
                let first = found.entry(gallery.name.to_ascii_lowercase()).or_insert(scope);
                shared_with_too(first, &subscription, sharing);
            }
        }
        drop_owned_by(&mut found, subscriptions);
        if part.is_some() && !found.is_empty() {
            // Only a run over all visible subscriptions has parts: the ones that a request names
            // fit into one.
            match locations::subscriptions(&self.client, &[]).await {
                Ok(ours) => drop_owned_by(&mut found, &ours.shared_with()),
                // An unknown owner does not make the galleries gone, so 404 counts as denied.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return end_failed_item(item, error.with_kind(ErrorKind::Denied), effort);
                }
                Err(error) => return end_failed_item(item, error, effort),
            }
        }
        // Galleries shared with an unreadable subscription are not visible, but they are not gone.
        let (state, reason) = match denied[..] {
            [] if has_unnamed => {
                (State::Failed, "a subscription is listed without an id".to_owned())
            }
            [] if found.is_empty() => (State::Empty, String::new()),
            [] => (State::Done, String::new()),
            _ => (State::Denied, format!("no access to {}", denied.join(", "))),
        };
        let attempts = u32::from(!state.is_complete());
        let outcome = Outcome {
            listed: u64::from(!found.is_empty()),
            children: found.into_values().map(|scope| item.child(Scope::Gallery(scope))).collect(),
            ..Outcome::bare(item.scope.clone(), state, reason, attempts)
        };
        Ok(Crawled::Ended(outcome, Rows::Gallery(Vec::new())))
    }

    /// Lists what is shared with each of `subscriptions` and, for the first part, with the tenant.
    async fn shared_lists(
        &self,
        location: &str,
        subscriptions: &[String],
        part: Option<u32>,
    ) -> Vec<(String, Sharing, Result<Vec<Resource>>)> {
        let mut lists = Vec::new();
        let asks_tenant = part.is_none_or(|part| part == 0);
        // Any readable subscription can list what is shared with the tenant.
        let named = || subscriptions.iter().filter(|subscription| *subscription != UNNAMED);
        for subscription in named().filter(|_| asks_tenant) {
            let sharing = Sharing::Tenant;
            let listed = self.shared_with(location, subscription, sharing).await;
            let is_told = !listed.as_ref().is_err_and(is_closed);
            if is_told {
                lists.push((subscription.clone(), sharing, listed));
                break;
            }
        }
        let each: Vec<String> = named().cloned().collect();
        let per_subscription: Vec<_> = stream::iter(each)
            .map(|subscription| async move {
                let sharing = Sharing::Subscription;
                let listed = self.shared_with(location, &subscription, sharing).await;
                (subscription, sharing, listed)
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        lists.extend(per_subscription);
        lists
    }

    async fn shared_with(
        &self,
        location: &str,
        subscription: &str,
        sharing: Sharing,
    ) -> Result<Vec<Resource>> {
        let path = below(subscription, location, &["sharedGalleries"]);
        self.client.list(&path, query(sharing)).await
    }

    /// Crawls one gallery of another owner through the provider.
    pub(super) async fn crawl_foreign(
        &self,
        item: &WorkItem,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let Scope::Gallery(GalleryScope::Foreign {
            location, subscription, sharing, gallery, ..
        }) = &item.scope
        else {
            return Err(Error::bug("not an item of a foreign gallery"));
        };
        let rows = self.foreign_rows(location, subscription, *sharing, gallery).await;
        match rows {
            Ok(rows) => Ok(end_with_rows(item, rows, Vec::new())),
            // A community gallery that is named in the configuration need not exist in every
            // location.
            Err(error) if *sharing == Sharing::Community && error.kind() == ErrorKind::NotFound => {
                Ok(end_with_rows(item, Vec::new(), Vec::new()))
            }
            Err(error) => end_failed_item(item, error, effort),
        }
    }

    async fn foreign_rows(
        &self,
        location: &str,
        subscription: &str,
        sharing: Sharing,
        gallery: &str,
    ) -> Result<Vec<GalleryImage>> {
        let definitions = self
            .foreign_list(
                SharedGalleryRef { location, subscription, sharing, gallery },
                &["images"],
            )
            .await?;
        let mut parts = Vec::new();
        for definition in definitions {
            let gallery_ref = SharedGalleryRef { location, subscription, sharing, gallery };
            parts.push(async move {
                let below = ["images", definition.name.as_str(), "versions"];
                let versions = match self.foreign_list(gallery_ref, &below).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    versions => versions?,
                };
                rows_of(sharing, location, gallery, &definition, &versions)
            });
        }
        let parts: Vec<Vec<GalleryImage>> =
            stream::iter(parts).buffered(CONCURRENCY).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn foreign_list(
        &self,
        gallery_ref: SharedGalleryRef<'_>,
        names: &[&str],
    ) -> Result<Vec<Resource>> {
        let kind = match gallery_ref.sharing {
            Sharing::Community => "communityGalleries",
            Sharing::Subscription | Sharing::Tenant => "sharedGalleries",
        };
        let mut path =
            below(gallery_ref.subscription, gallery_ref.location, &[kind, gallery_ref.gallery]);
        path.extend_from_slice(names);
        self.client.list(&path, query(gallery_ref.sharing)).await
    }

    /// Crawls the community galleries of a location: from Resource Graph, all or some of them, or
    /// from the provider if they are named in the configuration.
    pub(super) async fn crawl_communities(
        &self,
        item: &WorkItem,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let Scope::Gallery(GalleryScope::CommunityIn {
            location,
            subscription,
            otherwise,
            galleries,
        }) = &item.scope
        else {
            return Err(Error::bug("not an item of community galleries"));
        };
        if matches!(&self.communities, super::Communities::Named(_)) {
            let foreign = |gallery: &String| GalleryScope::Foreign {
                location: location.clone(),
                subscription: subscription.clone(),
                otherwise: otherwise.clone(),
                sharing: Sharing::Community,
                gallery: gallery.clone(),
            };
            let children = galleries.iter().map(|name| item.child(Scope::Gallery(foreign(name))));
            return Ok(end_with_rows(item, Vec::new(), children.collect()));
        }
        let found = self.communities_in(location, galleries).await;
        match found {
            Ok(Communities::Rows(rows)) => Ok(end_with_rows(item, rows, Vec::new())),
            Ok(Communities::Split(names)) => {
                let part = |galleries: &[String]| GalleryScope::CommunityIn {
                    location: location.clone(),
                    subscription: subscription.clone(),
                    otherwise: otherwise.clone(),
                    galleries: galleries.to_vec(),
                };
                let parts = names.chunks(GALLERIES_PER_QUERY);
                let children = parts.map(|names| item.child(Scope::Gallery(part(names))));
                Ok(end_with_rows(item, Vec::new(), children.collect()))
            }
            Err(error) => end_failed_item(item, error, effort),
        }
    }

    async fn communities_in(&self, location: &str, galleries: &[String]) -> Result<Communities> {
        let most = if galleries.is_empty() { MOST_RESOURCES } else { u64::MAX };
        let query = contents_query(location, galleries);
        let Some(all) = self.client.graph_within::<Resource>(&query, &[], most).await? else {
            let all: Vec<Resource> = self.client.graph(&galleries_query(location), &[]).await?;
            let mut names: Vec<String> = all.into_iter().map(|gallery| gallery.name).collect();
            names.sort_by_key(|name| name.to_ascii_lowercase());
            return Ok(Communities::Split(names));
        };
        let mut listed: BTreeMap<(String, String), (Option<Resource>, Vec<Resource>)> =
            BTreeMap::new();
        for resource in all {
            let part = |name| {
                resource_id::part(&resource.id, name).unwrap_or_default().to_ascii_lowercase()
            };
            let entry = listed.entry((part("communityGalleries"), part("images"))).or_default();
            if resource.kind.to_ascii_lowercase().ends_with("/versions") {
                entry.1.push(resource);
            } else {
                entry.0 = Some(resource);
            }
        }
        let mut rows = Vec::new();
        for (definition, versions) in listed.into_values() {
            // The index lags behind: versions without a definition appear with the next run.
            let Some(definition) = definition else { continue };
            let gallery =
                resource_id::part(&definition.id, "communityGalleries").unwrap_or_default();
            let sharing = Sharing::Community;
            rows.extend(rows_of(sharing, location, gallery, &definition, &versions)?);
        }
        Ok(Communities::Rows(rows))
    }
}

/// Removes the galleries of `subscriptions`: the name of a shared gallery begins with the id of its
/// owner.
fn drop_owned_by(found: &mut BTreeMap<String, GalleryScope>, subscriptions: &[String]) {
    let ours: HashSet<String> = subscriptions.iter().map(|s| s.to_ascii_lowercase()).collect();
    found.retain(|name, _| !ours.contains(name.get(..36).unwrap_or_default()));
}

/// Whether a subscription cannot be queried at all.
fn is_closed(error: &Error) -> bool {
    locations::is_closed(error) || error.kind() == ErrorKind::NotFound
}

/// Adds `other` as a fallback for a gallery that is shared with several subscriptions.
fn shared_with_too(first: &mut GalleryScope, other: &str, how: Sharing) {
    let GalleryScope::Foreign { subscription, otherwise, sharing, .. } = first else { return };
    let is_another = subscription != other && !otherwise.iter().any(|known| known == other);
    if *sharing == how && is_another && otherwise.len() < MOST_OTHERS {
        otherwise.push(other.to_owned());
    }
}

/// A gallery of another owner, in one location.
#[derive(Clone, Copy)]
struct SharedGalleryRef<'a> {
    location: &'a str,
    subscription: &'a str,
    sharing: Sharing,
    gallery: &'a str,
}

/// What Resource Graph has about community galleries.
enum Communities {
    Rows(Vec<GalleryImage>),
    /// Names of the galleries, if they are too large for one item.
    Split(Vec<String>),
}

fn end_with_rows(item: &WorkItem, mut rows: Vec<GalleryImage>, children: Vec<WorkItem>) -> Crawled {
    rows.sort_by(GalleryImage::compare);
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert(row.id.to_ascii_lowercase()));
    let nothing = rows.is_empty() && children.is_empty();
    let state = if nothing { State::Empty } else { State::Done };
    let outcome = Outcome {
        listed: u64::from(!nothing),
        rows: rows.len() as u64,
        children,
        ..Outcome::bare(item.scope.clone(), state, "", 0)
    };
    Crawled::Ended(outcome, Rows::Gallery(rows))
}

/// Returns the rows of a definition and its versions.
fn rows_of(
    sharing: Sharing,
    location: &str,
    gallery: &str,
    definition: &Resource,
    versions: &[Resource],
) -> Result<Vec<GalleryImage>> {
    let community = sharing == Sharing::Community;
    let id = format!("{}/Images/{}", parse::foreign_id(community, gallery), definition.name);
    let mut row = parse::definition(id, definition)?;
    row.gallery = Some(gallery.to_owned());
    row.sharing = Some(if community { "community" } else { "shared" }.to_owned());
    row.locations = vec![short_name(location)];
    let mut rows = Vec::new();
    for version in versions {
        let id = format!("{}/Versions/{}", row.id, version.name);
        rows.push(GalleryImage { id, ..parse::version(&row, version)? });
    }
    rows.push(row);
    Ok(rows)
}

fn query(sharing: Sharing) -> &'static [(&'static str, &'static str)] {
    match sharing {
        Sharing::Tenant => &[("sharedTo", "tenant"), VERSION],
        Sharing::Subscription | Sharing::Community => &[VERSION],
    }
}

fn below<'a>(subscription: &'a str, location: &'a str, names: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["subscriptions", subscription, "providers", "Microsoft.Compute"];
    path.extend(["locations", location]);
    path.extend_from_slice(names);
    path
}

const COLUMNS: &str = "project id, name, type, location, properties | order by id asc";

fn galleries_query(location: &str) -> String {
    let location = quoted(location);
    format!(
        "communitygalleryresources | where type =~ '{COMMUNITY}' | where location =~ {location} | \
         {COLUMNS}"
    )
}

/// Query for definitions and versions of a location's community galleries; for all of them if
/// `galleries` is empty.
fn contents_query(location: &str, galleries: &[String]) -> String {
    let only = match galleries {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            format!(" | where tostring(split(id, '/')[6]) in~ ({})", names.join(", "))
        }
    };
    format!(
        "communitygalleryresources | where type in~ ('{COMMUNITY}/images', \
         '{COMMUNITY}/images/versions') | where location =~ {}{only} | {COLUMNS}",
        quoted(location)
    )
}
