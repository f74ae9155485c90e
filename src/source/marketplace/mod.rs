//! Marketplace VM images: publishers ▸ offers ▸ SKUs ▸ versions, and single versions for details.
//!
//! None of these listings is paged. Names come and go between two of them, so a name that was just
//! listed and is not found is an ordinary answer. All comparisons are without case.

mod listings;

use super::{Effort, Live, Rows, Source, Wanted, ended, locations};
use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::image::marketplace::{Listed, caseless};
use crate::work::{Gap, MOST_MESSAGES, Outcome, Request, Scope, SourceName, State, WorkItem};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use listings::Place;
use std::time::Instant;

/// Requests that one item has under way at once.
const AT_ONCE: usize = 8;
/// A publisher with more offers than this is split.
const MOST_OFFERS: usize = 40;

/// The source of marketplace images.
#[derive(Debug, Clone)]
pub struct Marketplace {
    client: Client,
}

impl Marketplace {
    /// The source that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// What one publisher has right now; names that vanish in between are left out.
    async fn live_publisher(&self, place: Place<'_>, wanted: Wanted<'_>) -> Result<Live> {
        let effort = Effort { until: Instant::now() + FOREVER, last: true, delivery: 1 };
        let wanted = |offer: &str, sku: Option<&str>| wanted(place.publisher, Some(offer), sku);
        let offers: Vec<String> = match self.offers(place).await {
            Ok(offers) => offers.into_iter().filter(|offer| wanted(offer, None)).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut walk = Walk::default();
        self.walk(place, &offers, &effort, &mut walk, &wanted).await?;
        Ok(Live {
            location: place.location.to_owned(),
            publisher: place.publisher.to_owned(),
            rows: walk.rows,
            gaps: walk.gaps,
        })
    }

    async fn crawl_location(
        &self,
        item: &WorkItem,
        after: Option<&str>,
        only: &[String],
        effort: &Effort,
    ) -> Result<Outcome> {
        let scope = &item.scope;
        let (subscription, location) = (scope.subscription(), scope.location());
        let publishers = match self.publishers(subscription, location).await {
            Ok(publishers) => publishers,
            Err(error) => {
                let (state, reason, attempts) = ended(error, effort)?;
                // A location that is asked for and not found is a failure, not a removal.
                let state = if state == State::Gone { State::Failed } else { state };
                return Ok(Outcome::bare(scope.clone(), state, reason, attempts));
            }
        };
        let mut publishers = publishers
            .into_iter()
            .filter(|name| {
                let lower = name.to_ascii_lowercase();
                only.is_empty() || only.iter().any(|o| lower.contains(&o.to_ascii_lowercase()))
            })
            .filter(|name| after.is_none_or(|after| caseless(name, after).is_gt()));
        let now: Vec<String> = publishers.by_ref().take(MOST_MESSAGES - 1).collect();
        let more = publishers.next().is_some();
        let of = |publisher: &String| Scope::Publisher {
            location: location.to_owned(),
            subscription: subscription.to_owned(),
            publisher: publisher.clone(),
        };
        let mut scopes: Vec<Scope> = now.iter().map(of).collect();
        if more {
            scopes.push(Scope::Location {
                location: location.to_owned(),
                subscription: subscription.to_owned(),
                after: now.last().cloned(),
                only: only.to_vec(),
            });
        }
        let state = if scopes.is_empty() { State::Empty } else { State::Done };
        Ok(Outcome {
            listed: u64::from(state == State::Done),
            children: children(item, scopes),
            ..Outcome::bare(scope.clone(), state, "", effort.delivery)
        })
    }

    async fn crawl_publisher(
        &self,
        item: &WorkItem,
        place: Place<'_>,
        effort: &Effort,
    ) -> Result<(Outcome, Rows)> {
        let offers = match self.offers(place).await {
            Ok(offers) => offers,
            Err(error) => {
                let (state, reason, attempts) = ended(error, effort)?;
                let outcome = Outcome::bare(item.scope.clone(), state, reason, attempts);
                return Ok((outcome, Rows::Listed(Vec::new())));
            }
        };
        if offers.len() > MOST_OFFERS {
            let scopes = offers.chunks(MOST_OFFERS / 2).map(|offers| place.offers(offers));
            let outcome = Outcome {
                listed: 1,
                children: children(item, scopes.collect()),
                ..Outcome::bare(item.scope.clone(), State::Done, "", effort.delivery)
            };
            return Ok((outcome, Rows::Listed(Vec::new())));
        }
        let state = if offers.is_empty() { State::Empty } else { State::Done };
        let mut walk = Walk { listed: u64::from(state == State::Done), ..Walk::default() };
        self.walk(place, &offers, effort, &mut walk, &|_, _| true).await?;
        Ok(walk.end(item, place, state, effort))
    }

    /// Lists SKUs and versions of `offers` into `walk`. Once `effort` is spent no further offer is
    /// begun, except the first: an item always gets on.
    async fn walk(
        &self,
        place: Place<'_>,
        offers: &[String],
        effort: &Effort,
        walk: &mut Walk,
        wanted: &(impl Fn(&str, Option<&str>) -> bool + Sync),
    ) -> Result<()> {
        for (index, batch) in offers.chunks(AT_ONCE).enumerate() {
            if index > 0 && Instant::now() > effort.until {
                walk.left.extend_from_slice(&offers[index * AT_ONCE..]);
                break;
            }
            let mut listed = stream::iter(batch.to_vec())
                .map(|offer| async move {
                    let skus = self.skus(place, &offer).await;
                    (offer, skus)
                })
                .buffered(AT_ONCE);
            let mut pairs = Vec::new();
            while let Some((offer, skus)) = listed.next().await {
                match skus {
                    Ok(skus) if skus.is_empty() => walk.gap(offer, None, empty()),
                    Ok(skus) => {
                        walk.listed += 1;
                        pairs.extend(skus.into_iter().map(|sku| (offer.clone(), sku)));
                    }
                    Err(error) => walk.gap(offer, None, ended(error, effort)?),
                }
            }
            pairs.retain(|(offer, sku)| wanted(offer, Some(sku)));
            let mut listed = stream::iter(pairs)
                .map(|(offer, sku)| async move {
                    let versions = self.versions(place, &offer, &sku).await;
                    (offer, sku, versions)
                })
                .buffered(AT_ONCE);
            while let Some((offer, sku, versions)) = listed.next().await {
                match versions {
                    Ok(versions) if versions.is_empty() => walk.gap(offer, Some(sku), empty()),
                    Ok(versions) => {
                        walk.listed += 1;
                        walk.rows.extend(versions);
                    }
                    Err(error) => walk.gap(offer, Some(sku), ended(error, effort)?),
                }
            }
        }
        Ok(())
    }

    async fn crawl_details(
        &self,
        item: &WorkItem,
        place: Place<'_>,
        images: &[[String; 3]],
        effort: &Effort,
    ) -> Result<(Outcome, Rows)> {
        let mut rows = Vec::new();
        let mut gaps = Vec::new();
        let mut left: &[[String; 3]] = &[];
        for (index, batch) in images.chunks(AT_ONCE).enumerate() {
            if index > 0 && Instant::now() > effort.until {
                left = &images[index * AT_ONCE..];
                break;
            }
            let mut answers = stream::iter(batch.to_vec())
                .map(|image| async move {
                    let answer = self.image(place, &image).await;
                    (image, answer)
                })
                .buffered(AT_ONCE);
            while let Some((image, answer)) = answers.next().await {
                match answer {
                    Ok(detailed) => rows.push(detailed),
                    Err(error) => {
                        let (state, reason, attempts) = ended(error, effort)?;
                        let [offer, sku, version] = image;
                        gaps.push(Gap {
                            offer,
                            sku: Some(sku),
                            version: Some(version),
                            state,
                            reason,
                            attempts,
                        });
                    }
                }
            }
        }
        let follow = (!left.is_empty()).then(|| place.details(left.to_vec()));
        let outcome = Outcome {
            rows: rows.len() as u64,
            gaps,
            children: children(item, follow.into_iter().collect()),
            ..Outcome::bare(item.scope.clone(), State::Done, "", effort.delivery)
        };
        Ok((outcome, Rows::Detailed(rows)))
    }
}

/// A live lookup has no budget of its own.
const FOREVER: std::time::Duration = std::time::Duration::from_hours(24);

fn empty() -> (State, String, u32) {
    (State::Empty, String::new(), 1)
}

fn children(item: &WorkItem, scopes: Vec<Scope>) -> Vec<WorkItem> {
    scopes.into_iter().map(|scope| WorkItem::new(item.run, item.source, scope)).collect()
}

/// What walking through a publisher's offers has found so far.
#[derive(Default)]
struct Walk {
    rows: Vec<Listed>,
    gaps: Vec<Gap>,
    left: Vec<String>,
    listed: u64,
}

impl Walk {
    fn gap(&mut self, offer: String, sku: Option<String>, end: (State, String, u32)) {
        let (state, reason, attempts) = end;
        self.gaps.push(Gap { offer, sku, version: None, state, reason, attempts });
    }

    fn end(
        mut self,
        item: &WorkItem,
        place: Place<'_>,
        state: State,
        effort: &Effort,
    ) -> (Outcome, Rows) {
        self.gaps.sort();
        let follow = (!self.left.is_empty()).then(|| place.offers(&self.left));
        let outcome = Outcome {
            listed: self.listed,
            rows: self.rows.len() as u64,
            gaps: self.gaps,
            children: children(item, follow.into_iter().collect()),
            ..Outcome::bare(item.scope.clone(), state, "", effort.delivery)
        };
        (outcome, Rows::Listed(self.rows))
    }
}

#[async_trait]
impl Source for Marketplace {
    fn name(&self) -> SourceName {
        SourceName::Marketplace
    }

    async fn plan(&self, request: &Request) -> Result<Vec<Scope>> {
        let subscriptions = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let first = subscriptions.first().map(String::as_str).unwrap_or_default();
        let locations = locations::locations(&self.client, first, &request.locations).await?;
        // Windows are per subscription and location: spreading locations spreads the ARM bucket.
        Ok(locations
            .into_iter()
            .zip(subscriptions.iter().cycle())
            .map(|(location, subscription)| Scope::Location {
                location,
                subscription: subscription.clone(),
                after: None,
                only: request.publishers.clone(),
            })
            .collect())
    }

    async fn crawl(&self, item: &WorkItem, effort: &Effort) -> Result<(Outcome, Rows)> {
        let scope = &item.scope;
        let place = Place {
            subscription: scope.subscription(),
            location: scope.location(),
            publisher: scope.publisher().unwrap_or_default(),
        };
        match scope {
            Scope::Location { after, only, .. } => {
                let outcome = self.crawl_location(item, after.as_deref(), only, effort).await?;
                Ok((outcome, Rows::Listed(Vec::new())))
            }
            Scope::Publisher { .. } => self.crawl_publisher(item, place, effort).await,
            Scope::Offers { offers, .. } => {
                let mut walk = Walk::default();
                self.walk(place, offers, effort, &mut walk, &|_, _| true).await?;
                Ok(walk.end(item, place, State::Done, effort))
            }
            Scope::Details { images, .. } => self.crawl_details(item, place, images, effort).await,
        }
    }

    async fn live(&self, request: &Request, wanted: Wanted<'_>) -> Result<Vec<Live>> {
        let mut live = Vec::new();
        for scope in self.plan(request).await? {
            let (subscription, location) = (scope.subscription(), scope.location());
            let mut publishers = self.publishers(subscription, location).await?;
            publishers.retain(|name| wanted(name, None, None));
            let found: Vec<Live> = stream::iter(publishers)
                .map(|publisher| async move {
                    let place = Place { subscription, location, publisher: &publisher };
                    self.live_publisher(place, wanted).await
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            live.extend(found);
        }
        Ok(live)
    }
}
