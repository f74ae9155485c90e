//! Compute Galleries and managed images: subscriptions ▸ galleries ▸ definitions ▸ versions, and
//! galleries that other owners share with us.
//!
//! The provider lists the galleries, because it reports when access is denied. Resource Graph lists
//! their contents, a thousand rows per page. Where Resource Graph returns nothing, or less than it
//! counts, the provider is asked as well.

mod foreign;
mod machines;
mod own;
pub mod parse;
pub mod placement;
mod replication;

use super::locations::{self, UNNAMED};
use super::{
    Crawled, Invocation, LiveListing, NameFilter, PreviousFindings, Rows, Source, classify_failure,
    end_failed_item, end_unlisted_subscription, subscription_state_text, through_others,
};
use crate::client::{Client, version};
use crate::error::{Error, Result};
use crate::image::gallery::GalleryImage;
use crate::image::machine::Machine;
use crate::image::resource_id;
use crate::work::{
    GalleryScope, Gap, MOST_MESSAGES, Outcome, OwnGallery, Request, Scope, SourceName, State,
    WorkItem, in_parts,
};
use async_trait::async_trait;
use std::time::Duration;
use time::OffsetDateTime;

/// Concurrent requests per work item.
const CONCURRENCY: usize = 8;
/// Maximum number of fallback subscriptions for a gallery of another owner.
const MOST_OTHERS: usize = 8;
/// The API versions of galleries and managed images in the recordings (azure-rest §1).
const GALLERIES: (&str, &str) = version::GALLERIES.parameter();
const IMAGES: (&str, &str) = version::MANAGED_IMAGES.parameter();
/// The part of a subscription's coverage that stands for its managed images.
pub const MANAGED_IMAGES: &str = "@images";

/// Which community galleries are crawled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Communities {
    /// Those that Resource Graph lists in the locations of a run.
    #[default]
    Listed,
    /// Those with these public names.
    Named(Vec<String>),
}

impl std::str::FromStr for Communities {
    type Err = Error;

    /// Parses public names, separated by commas; `none` for no galleries, `all` for all listed
    /// ones.
    fn from_str(text: &str) -> Result<Self> {
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
        match names[..] {
            [] | ["all"] => Ok(Self::Listed),
            ["none"] => Ok(Self::Named(Vec::new())),
            _ => Ok(Self::Named(names.into_iter().map(str::to_owned).collect())),
        }
    }
}

/// The source of gallery images.
#[derive(Debug, Clone)]
pub struct Gallery {
    client: Client,
    communities: Communities,
}

impl Gallery {
    /// Creates the source; its requests go through `client`.
    pub fn new(client: Client, communities: Communities) -> Self {
        Self { client, communities }
    }

    /// Crawls a subscription: its managed images are rows, its galleries become child items.
    async fn crawl_subscription(
        &self,
        item: &WorkItem,
        subscription: &str,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let Scope::Gallery(GalleryScope::Subscription { details, .. }) = &item.scope else {
            return Err(Error::bug("not an item of a subscription"));
        };
        let galleries = match self.galleries(subscription).await {
            Ok(galleries) => galleries,
            // An unregistered provider means that there are no galleries.
            Err(error) => {
                return end_unlisted_subscription(
                    item,
                    error,
                    (subscription, "Microsoft.Compute"),
                    effort,
                );
            }
        };
        if galleries.len() > MOST_MESSAGES {
            let text = format!("more than {MOST_MESSAGES} galleries in one subscription");
            return end_failed_item(item, Error::invalid(text), effort);
        }
        let mut gaps = Vec::new();
        let mut rows = match self.managed_images(subscription).await {
            Ok(rows) => rows,
            Err(error) => {
                let (state, reason, attempts) = classify_failure(error, effort)?;
                let offer = MANAGED_IMAGES.to_owned();
                gaps.push(Gap { offer, sku: None, version: None, state, reason, attempts });
                Vec::new()
            }
        };
        rows.sort_by(GalleryImage::compare);
        let listed = u64::from(!galleries.is_empty()) + u64::from(!rows.is_empty());
        let child = |own: OwnGallery| {
            let (definitions, details) = (Vec::new(), *details);
            let scope = GalleryScope::Gallery {
                own,
                definitions,
                details,
                provider: false,
                sharing: None,
                public_names: Vec::new(),
            };
            item.child(Scope::Gallery(scope))
        };
        let state = if listed == 0 && gaps.is_empty() { State::Empty } else { State::Done };
        let outcome = Outcome {
            listed,
            rows: rows.len() as u64,
            gaps,
            children: galleries.into_iter().map(child).collect(),
            ..Outcome::bare(item.scope.clone(), state, subscription_state_text(&item.scope), 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Gallery(rows)))
    }

    /// Returns the galleries of a subscription, sorted.
    pub async fn galleries(&self, subscription: &str) -> Result<Vec<OwnGallery>> {
        let path = ["subscriptions", subscription, "providers", "Microsoft.Compute", "galleries"];
        let listed: Vec<parse::Resource> = self.client.list(&path, &[GALLERIES]).await?;
        let mut galleries = Vec::new();
        for gallery in listed {
            let own = parse::own_gallery(&gallery.id).filter(|own| is_of(own, subscription));
            galleries.push(own.ok_or_else(|| foreign(&gallery, subscription))?);
        }
        let lower = |own: &OwnGallery| {
            (own.resource_group.to_ascii_lowercase(), own.gallery.to_ascii_lowercase())
        };
        galleries.sort_by_key(lower);
        galleries.dedup_by_key(|own| lower(own));
        Ok(galleries)
    }

    async fn managed_images(&self, subscription: &str) -> Result<Vec<GalleryImage>> {
        let path = ["subscriptions", subscription, "providers", "Microsoft.Compute", "images"];
        let listed: Vec<parse::Resource> = self.client.list(&path, &[IMAGES]).await?;
        let mut rows = Vec::new();
        for image in &listed {
            let owner = resource_id::part(&image.id, "subscriptions").unwrap_or_default();
            if !owner.eq_ignore_ascii_case(subscription) {
                return Err(foreign(image, subscription));
            }
            rows.push(parse::managed(image)?);
        }
        rows.sort_by(GalleryImage::compare);
        rows.dedup_by(|a, b| a.id.eq_ignore_ascii_case(&b.id));
        Ok(rows)
    }
}

fn is_of(own: &OwnGallery, subscription: &str) -> bool {
    own.subscription.eq_ignore_ascii_case(subscription)
}

/// Error for a resource of another subscription in a list: its rows would be attributed to the
/// wrong subscription.
fn foreign(resource: &parse::Resource, subscription: &str) -> Error {
    let name = &resource.name;
    Error::transient(format!("{name}: listed by {subscription}, but its id belongs elsewhere"))
}

/// Splits the subscriptions with which galleries may be shared into parts that fit into a message.
/// The first part also queries what is shared with the tenant, so it contains `readable`.
fn shared_parts(mut subscriptions: Vec<String>, readable: &str) -> Vec<(Option<u32>, Vec<String>)> {
    let parts = in_parts(&subscriptions);
    if parts.len() == 1 {
        return vec![(None, subscriptions)];
    }
    if let Some(at) = subscriptions.iter().position(|subscription| subscription == readable) {
        subscriptions[..=at].rotate_right(1);
    }
    (0..).map(Some).zip(in_parts(&subscriptions)).collect()
}

#[async_trait]
impl Source for Gallery {
    fn name(&self) -> SourceName {
        SourceName::Gallery
    }

    async fn plan(&self, request: &Request) -> Result<Vec<Scope>> {
        let seen = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let details = request.details.unwrap_or_default();
        let own = seen.all.iter().map(|one| GalleryScope::Subscription {
            subscription: one.id.clone(),
            state: one.state.clone(),
            details,
        });
        let mut scopes: Vec<GalleryScope> = own.collect();
        let usable = seen.usable_ids();
        let first = placement::first_readable(&self.client, &usable, &request.locations).await?;
        let Some((first, locations)) = first else {
            return Ok(scopes.into_iter().map(Scope::Gallery).collect());
        };
        let others = usable.into_iter().filter(|other| *other != first).take(MOST_OTHERS);
        let others: Vec<String> = others.collect();
        let shared = shared_parts(seen.shared_with(), &first);
        for location in locations {
            scopes.extend(shared.iter().map(|(part, subscriptions)| GalleryScope::SharedIn {
                location: location.clone(),
                subscriptions: subscriptions.clone(),
                part: *part,
            }));
            let galleries = match &self.communities {
                Communities::Listed => Vec::new(),
                Communities::Named(names) if names.is_empty() => continue,
                Communities::Named(names) => names.clone(),
            };
            let (subscription, otherwise) = (first.clone(), others.clone());
            scopes.push(GalleryScope::CommunityIn { location, subscription, otherwise, galleries });
        }
        Ok(scopes.into_iter().map(Scope::Gallery).collect())
    }

    async fn crawl(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let Scope::Gallery(scope) = &item.scope else {
            return Err(Error::bug("not an item of galleries"));
        };
        if scope.location() == UNNAMED || scope.subscription() == UNNAMED {
            let text = "it is listed without a name, so its galleries are not queried";
            return end_failed_item(item, Error::invalid(text), effort);
        }
        match scope {
            GalleryScope::Subscription { subscription, .. } => {
                self.crawl_subscription(item, subscription, effort).await
            }
            GalleryScope::Gallery { own, .. } => self.crawl_gallery(item, own, effort, known).await,
            GalleryScope::Replication { own, versions } => {
                self.crawl_replication(item, own, versions, effort).await
            }
            GalleryScope::SharedIn { .. } => self.crawl_shared(item, effort).await,
            GalleryScope::CommunityIn { .. } => self.crawl_communities(item, effort).await,
            GalleryScope::Foreign { .. } => {
                through_others(item, |item| async move { self.crawl_foreign(&item, effort).await })
                    .await
            }
        }
    }

    fn turn(&self, _: &WorkItem, _: OffsetDateTime) -> Duration {
        Duration::ZERO
    }

    async fn live(&self, _: &Request, _: NameFilter<'_>) -> Result<Vec<LiveListing>> {
        Ok(Vec::new())
    }

    async fn machines(&self, subscriptions: &[String]) -> Result<Vec<Machine>> {
        Self::machines(self, subscriptions).await
    }
}
