//! Marketplace VM images: publishers ▸ offers ▸ SKUs ▸ versions, and single versions for details.
//!
//! None of these listings is paged. Names appear and disappear between two of them, so 404 for a
//! name that was just listed is an ordinary answer. All comparisons are without case.

mod client;
mod details;
mod listing_path;
mod listings;
mod location;
mod walk;

pub use client::Marketplace;

use super::locations::{self, UNNAMED};
use super::{
    Crawled, Invocation, LiveListing, NameFilter, PreviousFindings, Rows, Source, classify_failure,
    through_others,
};
use crate::error::{Error, ErrorKind, Result};
use crate::work::{
    Details, KnownOffers, Outcome, Rank, Request, Scope, SourceName, State, WorkItem,
};
use async_trait::async_trait;
use client::CONCURRENCY;
use futures::{StreamExt, TryStreamExt, stream};
use listing_path::ListingPath;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;
use walk::{OfferWalk, WalkOptions};

/// A publisher with more offers than this is split into several items.
const MOST_OFFERS: usize = 40;
/// Maximum number of subscriptions over which the publishers of a location are spread. Each is
/// probed once beforehand, and a message names them all.
const MOST_SPREAD: usize = 64;
/// Assumed number of requests per offer (SKUs, versions, details of the newest version); 7.3 in a
/// region's catalog.
const REQUESTS_AN_OFFER: f64 = 5.0;

impl Marketplace {
    /// Lists what one publisher has at this moment; names that vanish in between are omitted.
    async fn live_publisher(
        &self,
        listing_path: ListingPath<'_>,
        wanted: NameFilter<'_>,
    ) -> Result<LiveListing> {
        let now = OffsetDateTime::UNIX_EPOCH;
        let effort = Invocation { until: Instant::now() + FOREVER, last: true, delivery: 1, now };
        let wanted =
            |offer: &str, sku: Option<&str>| wanted(listing_path.publisher, Some(offer), sku);
        let mut walk = OfferWalk::default();
        let offers: Vec<String> = match self.offers(listing_path).await {
            Ok(offers) => {
                offers.gap().into_iter().for_each(|end| walk.some_offers_have_no_name(end));
                offers.rows.into_iter().filter(|offer| wanted(offer, None)).collect()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let sought =
            WalkOptions { wanted, details: Details::None, known: &PreviousFindings::default() };
        self.walk(listing_path, &offers, &effort, &mut walk, &sought).await?;
        if let Some(wait) = walk.wait {
            return Err(quota_spent(listing_path, wait));
        }
        Ok(LiveListing {
            location: listing_path.location.to_owned(),
            publisher: listing_path.publisher.to_owned(),
            rows: walk.rows,
            gaps: walk.gaps,
        })
    }

    /// Lists the publishers of a location, and returns the subscription that answered.
    /// Subscriptions are tried in order, starting at `index`, which differs for each location.
    async fn live_publishers<'a>(
        &self,
        subscriptions: &'a [String],
        index: usize,
        location: &str,
    ) -> Result<(&'a str, Vec<String>)> {
        let mut refused = None;
        for at in 0..subscriptions.len() {
            let subscription = &subscriptions[(index + at) % subscriptions.len()];
            let listing = match self.publishers(subscription, location).await {
                Ok(listing) => listing,
                Err(error) if locations::is_closed(&error) => {
                    refused = refused.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some((_, why, _)) = listing.gap() {
                let text = format!("the list of publishers of {location}: {why}");
                return Err(Error::transient(text));
            }
            return Ok((subscription, listing.rows));
        }
        Err(refused.unwrap_or_else(|| Error::bug("no subscription to query through")))
    }

    async fn crawl_location(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Outcome> {
        let scope = &item.scope;
        if scope.location() == UNNAMED {
            let text =
                "a location in the list of locations has no name, so its images are not queried";
            return Ok(Outcome::bare(scope.clone(), State::Failed, text, 1));
        }
        let publishers = match self.publishers(scope.subscription(), scope.location()).await {
            Ok(publishers) => publishers,
            Err(error) => {
                let (state, reason, attempts) = classify_failure(error, effort)?;
                // A location that was requested and is not found is a failure, not a removal.
                let (state, attempts) = match state {
                    State::Gone => (State::Failed, 1),
                    state => (state, attempts),
                };
                return Ok(Outcome::bare(scope.clone(), state, reason, attempts));
            }
        };
        let gap = publishers.gap();
        let unknown = location::unknown(scope, &publishers.rows);
        let children = location::items(item, publishers.rows, known, effort.now);
        let listed = u64::from(!children.is_empty());
        let default_state = if children.is_empty() { State::Empty } else { State::Done };
        // An unnamed entry could be any publisher of the previous snapshot. The named ones are
        // crawled all the same.
        let (state, reason, attempts) = gap.unwrap_or((default_state, unknown, 0));
        let bare = Outcome::bare(scope.clone(), state, reason, attempts);
        Ok(Outcome { listed, children, ..bare })
    }

    async fn crawl_publisher(
        &self,
        item: &WorkItem,
        listing_path: ListingPath<'_>,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let Scope::Publisher { known: offers, details, .. } = &item.scope else {
            return Err(Error::bug("not a publisher's item"));
        };
        let mut walk = OfferWalk::default();
        let (offers, listed) = match offers {
            Some(KnownOffers { offers, listed_at }) => (offers.clone(), listed_at.is_none()),
            None => match self.offers(listing_path).await {
                Ok(offers) => {
                    offers.gap().into_iter().for_each(|end| walk.some_offers_have_no_name(end));
                    (offers.rows, true)
                }
                Err(error) => {
                    let (state, reason, attempts) = classify_failure(error, effort)?;
                    let outcome = Outcome::bare(item.scope.clone(), state, reason, attempts);
                    return Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())));
                }
            },
        };
        let state = if offers.is_empty() { State::Empty } else { State::Done };
        let listed = u64::from(listed && state == State::Done);
        if offers.len() > MOST_OFFERS {
            let scopes =
                offers.chunks(MOST_OFFERS / 2).map(|part| listing_path.offers(part, *details));
            let children = scopes.map(|scope| item.child(scope)).collect();
            let gaps = walk.gaps;
            let bare = Outcome::bare(item.scope.clone(), state, "", 0);
            let outcome = Outcome { listed, gaps, children, ..bare };
            return Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())));
        }
        // A partial list must not be handed on as if it were complete.
        let is_whole = walk.gaps.is_empty();
        let later = |offers: &[String]| {
            if is_whole { with_offers(item, offers) } else { item.clone() }
        };
        if let Some(wait) = self.quota_wait(listing_path, &offers).filter(|_| is_whole) {
            return Ok(Crawled::Later(later(&offers), wait));
        }
        walk.listed = listed;
        let sought =
            WalkOptions { wanted: |_: &str, _: Option<&str>| true, details: *details, known };
        self.walk(listing_path, &offers, effort, &mut walk, &sought).await?;
        match walk.wait.filter(|_| !walk.begun) {
            Some(wait) => Ok(Crawled::Later(later(&offers), wait)),
            None => Ok(into_crawled(walk.end(item, listing_path, state, *details))),
        }
    }

    /// How long to postpone the requests that follow a listing of offers. They would delay further
    /// such listings, which are the scarce operation.
    fn quota_wait(&self, listing_path: ListingPath<'_>, offers: &[String]) -> Option<Duration> {
        if offers.is_empty() || !ListingPath::fit(offers) {
            return None;
        }
        let requests = offers.len() as f64 * REQUESTS_AN_OFFER;
        self.client.deferral(listing_path.subscription, listing_path.location, requests)
    }

    async fn crawl_offers(
        &self,
        item: &WorkItem,
        listing_path: ListingPath<'_>,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let Scope::Offers { offers, details, .. } = &item.scope else {
            return Err(Error::bug("not an item of offers"));
        };
        if let Some(wait) = self.quota_wait(listing_path, offers) {
            return Ok(Crawled::Later(item.clone(), wait));
        }
        let mut walk = OfferWalk::default();
        let sought =
            WalkOptions { wanted: |_: &str, _: Option<&str>| true, details: *details, known };
        self.walk(listing_path, offers, effort, &mut walk, &sought).await?;
        match walk.wait.filter(|_| !walk.begun) {
            Some(wait) => Ok(Crawled::Later(item.clone(), wait)),
            None => Ok(into_crawled(walk.end(item, listing_path, State::Done, *details))),
        }
    }

    /// Processes an item through the subscription that it names.
    async fn crawl_through(
        &self,
        item: WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let item = &item;
        let scope = &item.scope;
        let listing_path = ListingPath {
            subscription: scope.subscription(),
            otherwise: scope.others(),
            location: scope.location(),
            publisher: scope.publisher().unwrap_or_default(),
        };
        match scope {
            Scope::Location { .. } => {
                let outcome = self.crawl_location(item, effort, known).await?;
                Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())))
            }
            Scope::Publisher { .. } => {
                self.crawl_publisher(item, listing_path, effort, known).await
            }
            Scope::Offers { .. } => self.crawl_offers(item, listing_path, effort, known).await,
            Scope::Details { images, .. } => {
                self.crawl_details(item, listing_path, images, effort).await.map(into_crawled)
            }
            Scope::Gallery(_) | Scope::Registry(_) => {
                Err(Error::bug("not an item of the marketplace"))
            }
        }
    }

    /// Returns the locations to crawl, and the subscriptions over which to spread them.
    async fn places(&self, request: &Request) -> Result<(Vec<String>, Vec<String>)> {
        let seen = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let mut subscriptions = seen.usable_ids();
        let (first, locations) =
            locations::first_readable(&self.client, &subscriptions, &request.locations).await?;
        // The subscriptions before the first readable one may not be read.
        let unreadable = subscriptions.iter().position(|one| *one == first).unwrap_or_default();
        subscriptions.drain(..unreadable);
        subscriptions.truncate(MOST_SPREAD);
        Ok((locations, subscriptions))
    }

    /// Returns the subscriptions that can list the images of `location`, probing each once, so that
    /// nothing is spread over an unusable one. Returns all of them if none can, so that each item
    /// reports the reason.
    async fn open(&self, subscriptions: Vec<String>, location: &str) -> Vec<String> {
        if subscriptions.len() == 1 || location == UNNAMED {
            return subscriptions;
        }
        let is_open: Vec<bool> = stream::iter(subscriptions.clone())
            .map(|subscription| async move {
                let listed = self.publishers(&subscription, location).await;
                let closed = listed.err().filter(locations::is_closed);
                if let Some(error) = &closed {
                    tracing::warn!(
                        %error, subscription,
                        "a subscription cannot list marketplace images; others are used"
                    );
                }
                closed.is_none()
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let pairs = subscriptions.iter().zip(is_open);
        let open: Vec<String> = pairs.filter(|(_, open)| *open).map(|(id, _)| id.clone()).collect();
        if open.is_empty() { subscriptions } else { open }
    }
}

/// Live lookups have no time budget of their own.
const FOREVER: Duration = Duration::from_hours(24);

fn into_crawled((outcome, rows): (Outcome, Rows)) -> Crawled {
    Crawled::Ended(outcome, rows)
}

fn quota_spent(listing_path: ListingPath<'_>, wait: Duration) -> Error {
    let text = format!(
        "the quota of {} in {} is exhausted; retry in {} s",
        listing_path.publisher,
        listing_path.location,
        wait.as_secs()
    );
    Error::new(ErrorKind::Throttled, text).with_retry_after(Some(wait))
}

/// Returns the publisher's item with its offers filled in, so that they need not be listed again.
fn with_offers(item: &WorkItem, listed: &[String]) -> WorkItem {
    let mut item = item.clone();
    if let Scope::Publisher { known, .. } = &mut item.scope
        && known.is_none()
        && ListingPath::fit(listed)
    {
        *known = Some(KnownOffers { offers: listed.to_vec(), listed_at: None });
        item.turn = None;
    }
    item
}

#[async_trait]
impl Source for Marketplace {
    fn name(&self) -> SourceName {
        SourceName::Marketplace
    }

    async fn plan(&self, request: &Request) -> Result<Vec<Scope>> {
        let (locations, subscriptions) = self.places(request).await?;
        let Some(first) = locations.first() else { return Ok(Vec::new()) };
        let subscriptions = self.open(subscriptions, first).await;
        // Rate-limit windows are per subscription and location, buckets per subscription: each
        // location starts at a different subscription, and its publishers rotate through all of
        // them.
        let scope = |(index, location)| {
            let mut spread = subscriptions.clone();
            spread.rotate_left(index % subscriptions.len());
            spread.truncate(MOST_SPREAD);
            // A version's details are the same in every location: one location fetches them.
            // Details of versions that it lacks are fetched when all listings are complete.
            let details =
                if index == 0 { request.details.unwrap_or_default() } else { Details::None };
            Scope::Location {
                location,
                subscription: spread.remove(0),
                after: None,
                only: request.publishers.clone(),
                spread,
                details,
                offers_max_age: request.offers_max_age.filter(|_| !request.full),
                planned: 0,
            }
        };
        Ok(locations.into_iter().enumerate().map(scope).collect())
    }

    async fn crawl(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        through_others(item, |item| self.crawl_through(item, effort, known)).await
    }

    fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration {
        let Some(Rank { before, since }) = item.turn else { return Duration::ZERO };
        let turn = self.client.turn(item.scope.subscription(), item.scope.location(), before);
        let now = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(since);
        turn.saturating_sub(Duration::from_millis(u64::try_from(now - since).unwrap_or(0)))
    }

    async fn live(&self, request: &Request, wanted: NameFilter<'_>) -> Result<Vec<LiveListing>> {
        let this = &self.with_small_share();
        let mut live = Vec::new();
        let (locations, subscriptions) = this.places(request).await?;
        for (index, location) in locations.iter().enumerate() {
            let (subscription, mut publishers) =
                this.live_publishers(&subscriptions, index, location).await?;
            publishers.retain(|name| wanted(name, None, None));
            let found: Vec<LiveListing> = stream::iter(publishers)
                .map(|publisher| async move {
                    let listing_path = ListingPath {
                        subscription,
                        otherwise: &[],
                        location,
                        publisher: &publisher,
                    };
                    this.live_publisher(listing_path, wanted).await
                })
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            live.extend(found);
        }
        Ok(live)
    }
}
