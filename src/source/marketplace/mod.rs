//! Marketplace VM images: publishers ▸ offers ▸ SKUs ▸ versions, and single versions for details.
//!
//! None of these listings is paged. Names come and go between two of them, so a name that was just
//! listed and is not found is an ordinary answer. All comparisons are without case.

mod listings;
mod location;
mod walk;

use super::{Crawled, Effort, Known, Live, Rows, Source, Wanted, ended, locations};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Urn;
use crate::image::marketplace::Detailed;
use crate::work::{
    Details, Gap, KnownOffers, Outcome, Request, Scope, SourceName, State, Turn, WorkItem,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use listings::Place;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;
use walk::{Sought, Walk};

/// Requests that one item has under way at once.
const AT_ONCE: usize = 8;
/// A publisher with more offers than this is split.
const MOST_OFFERS: usize = 40;
/// The publishers of a location are spread over at most so many subscriptions: a message names them all.
const MOST_SPREAD: usize = 400;
/// Requests that follow from one offer: in a region's catalog 7.3 (SKUs, versions, the newest one's
/// details).
const REQUESTS_AN_OFFER: f64 = 5.0;

/// The source of marketplace images.
#[derive(Debug, Clone)]
pub struct Marketplace {
    client: Client,
    /// What live lookups ask through: a small share of the same quota.
    small: Client,
}

impl Marketplace {
    /// The source that asks through `client`.
    pub fn new(client: Client) -> Self {
        let small = client.clone().with_small_share();
        Self { client, small }
    }

    /// What one publisher has right now; names that vanish in between are left out.
    async fn live_publisher(&self, place: Place<'_>, wanted: Wanted<'_>) -> Result<Live> {
        let now = OffsetDateTime::UNIX_EPOCH;
        let effort = Effort { until: Instant::now() + FOREVER, last: true, delivery: 1, now };
        let wanted = |offer: &str, sku: Option<&str>| wanted(place.publisher, Some(offer), sku);
        let mut walk = Walk::default();
        let offers: Vec<String> = match self.offers(place).await {
            Ok(offers) => {
                offers.gap().into_iter().for_each(|end| walk.some_offers_have_no_name(end));
                offers.rows.into_iter().filter(|offer| wanted(offer, None)).collect()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let sought = Sought { wanted, details: Details::None, known: &Known::default() };
        self.walk(place, &offers, &effort, &mut walk, &sought).await?;
        if let Some(wait) = walk.wait {
            return Err(spent(place, wait));
        }
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
        effort: &Effort,
        known: &Known,
    ) -> Result<Outcome> {
        let scope = &item.scope;
        let publishers = match self.publishers(scope.subscription(), scope.location()).await {
            Ok(publishers) => publishers,
            Err(error) => {
                let (state, reason, attempts) = ended(error, effort)?;
                // A location that is asked for and not found is a failure, not a removal.
                let (state, attempts) = match state {
                    State::Gone => (State::Failed, 1),
                    state => (state, attempts),
                };
                return Ok(Outcome::bare(scope.clone(), state, reason, attempts));
            }
        };
        let children = location::items(item, publishers, known, effort.now);
        let state = if children.is_empty() { State::Empty } else { State::Done };
        Ok(Outcome {
            listed: u64::from(state == State::Done),
            children,
            ..Outcome::bare(scope.clone(), state, "", 0)
        })
    }

    async fn crawl_publisher(
        &self,
        item: &WorkItem,
        place: Place<'_>,
        effort: &Effort,
        known: &Known,
    ) -> Result<Crawled> {
        let Scope::Publisher { known: offers, details, .. } = &item.scope else {
            return Err(Error::bug("not a publisher's item"));
        };
        let mut walk = Walk::default();
        let (offers, listed) = match offers {
            Some(KnownOffers { offers, listed_at }) => (offers.clone(), listed_at.is_none()),
            None => match self.offers(place).await {
                Ok(offers) => {
                    offers.gap().into_iter().for_each(|end| walk.some_offers_have_no_name(end));
                    (offers.rows, true)
                }
                Err(error) => {
                    let (state, reason, attempts) = ended(error, effort)?;
                    let outcome = Outcome::bare(item.scope.clone(), state, reason, attempts);
                    return Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())));
                }
            },
        };
        let state = if offers.is_empty() { State::Empty } else { State::Done };
        let listed = u64::from(listed && state == State::Done);
        if offers.len() > MOST_OFFERS {
            let scopes = offers.chunks(MOST_OFFERS / 2).map(|part| place.offers(part, *details));
            let children = scopes.map(|scope| item.child(scope)).collect();
            let gaps = walk.gaps;
            let bare = Outcome::bare(item.scope.clone(), state, "", 0);
            let outcome = Outcome { listed, gaps, children, ..bare };
            return Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())));
        }
        // What a list lacks is not handed on with it.
        let is_whole = walk.gaps.is_empty();
        let later = |offers: &[String]| {
            if is_whole { with_offers(item, offers) } else { item.clone() }
        };
        if let Some(wait) = self.put_off(place, &offers).filter(|_| is_whole) {
            return Ok(Crawled::Later(later(&offers), wait));
        }
        walk.listed = listed;
        let sought = Sought { wanted: |_: &str, _: Option<&str>| true, details: *details, known };
        self.walk(place, &offers, effort, &mut walk, &sought).await?;
        match walk.wait.filter(|_| !walk.begun) {
            Some(wait) => Ok(Crawled::Later(later(&offers), wait)),
            None => Ok(ended_as(walk.end(item, place, state, *details))),
        }
    }

    /// How long to put off what follows from a listing of offers, while that is the scarce
    /// operation and everything else would keep it waiting.
    fn put_off(&self, place: Place<'_>, offers: &[String]) -> Option<Duration> {
        if offers.is_empty() || !Place::fit(offers) {
            return None;
        }
        let requests = offers.len() as f64 * REQUESTS_AN_OFFER;
        self.client.put_off(place.subscription, place.location, requests)
    }

    async fn crawl_offers(
        &self,
        item: &WorkItem,
        place: Place<'_>,
        effort: &Effort,
        known: &Known,
    ) -> Result<Crawled> {
        let Scope::Offers { offers, details, .. } = &item.scope else {
            return Err(Error::bug("not an item of offers"));
        };
        if let Some(wait) = self.put_off(place, offers) {
            return Ok(Crawled::Later(item.clone(), wait));
        }
        let mut walk = Walk::default();
        let sought = Sought { wanted: |_: &str, _: Option<&str>| true, details: *details, known };
        self.walk(place, offers, effort, &mut walk, &sought).await?;
        match walk.wait.filter(|_| !walk.begun) {
            Some(wait) => Ok(Crawled::Later(item.clone(), wait)),
            None => Ok(ended_as(walk.end(item, place, State::Done, *details))),
        }
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
        let mut left: Vec<[String; 3]> = Vec::new();
        for (index, batch) in images.chunks(AT_ONCE).enumerate() {
            if !left.is_empty() || (index > 0 && Instant::now() > effort.until) {
                left.extend_from_slice(&images[index * AT_ONCE..]);
                break;
            }
            let mut answers = stream::iter(batch.to_vec())
                .map(|image| async move {
                    let [offer, sku, version] = &image;
                    let answer = self.image(place, [offer, sku, version]).await;
                    (image, answer)
                })
                .buffered(AT_ONCE);
            while let Some((image, answer)) = answers.next().await {
                let [offer, sku, version] = image;
                match answer {
                    Ok(detail) => {
                        let publisher = place.publisher.to_owned();
                        rows.push(Detailed { urn: Urn { publisher, offer, sku, version }, detail });
                    }
                    Err(error) if error.kind() == ErrorKind::Throttled && index > 0 => {
                        left.push([offer, sku, version]);
                    }
                    Err(error) => {
                        let (state, reason, attempts) = ended(error, effort)?;
                        let (sku, version) = (Some(sku), Some(version));
                        gaps.push(Gap { offer, sku, version, state, reason, attempts });
                    }
                }
            }
        }
        let follow = (!left.is_empty()).then(|| place.details(left));
        let outcome = Outcome {
            rows: rows.len() as u64,
            gaps,
            children: follow.into_iter().map(|scope| item.child(scope)).collect(),
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok((outcome, Rows::Detailed(rows)))
    }
}

/// A live lookup has no budget of its own.
const FOREVER: Duration = Duration::from_hours(24);

fn ended_as((outcome, rows): (Outcome, Rows)) -> Crawled {
    Crawled::Ended(outcome, rows)
}

fn spent(place: Place<'_>, wait: Duration) -> Error {
    let text = format!(
        "the quota of {} in {} is spent for {} s",
        place.publisher,
        place.location,
        wait.as_secs()
    );
    Error::new(ErrorKind::Throttled, text).with_retry_after(Some(wait))
}

/// A publisher's item that need not list its offers any more.
fn with_offers(item: &WorkItem, listed: &[String]) -> WorkItem {
    let mut item = item.clone();
    if let Scope::Publisher { known, .. } = &mut item.scope
        && known.is_none()
        && Place::fit(listed)
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
        let subscriptions = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let first = subscriptions.first().map(String::as_str).unwrap_or_default();
        let locations = locations::locations(&self.client, first, &request.locations).await?;
        // Windows are per subscription and location, buckets per subscription: each location
        // begins at another one, and its publishers go round all of them.
        let scope = |(index, location)| {
            let mut spread = subscriptions.clone();
            spread.rotate_left(index % subscriptions.len());
            spread.truncate(MOST_SPREAD);
            // A version's details are the same everywhere: one location asks for them, and what it
            // does not have is asked for when all listings are in.
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

    async fn crawl(&self, item: &WorkItem, effort: &Effort, known: &Known) -> Result<Crawled> {
        let scope = &item.scope;
        let place = Place {
            subscription: scope.subscription(),
            location: scope.location(),
            publisher: scope.publisher().unwrap_or_default(),
        };
        match scope {
            Scope::Location { .. } => {
                let outcome = self.crawl_location(item, effort, known).await?;
                Ok(Crawled::Ended(outcome, Rows::Listed(Vec::new())))
            }
            Scope::Publisher { .. } => self.crawl_publisher(item, place, effort, known).await,
            Scope::Offers { .. } => self.crawl_offers(item, place, effort, known).await,
            Scope::Details { images, .. } => {
                self.crawl_details(item, place, images, effort).await.map(ended_as)
            }
            Scope::Gallery(_) | Scope::Registry(_) => {
                Err(Error::bug("not an item of the marketplace"))
            }
        }
    }

    fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration {
        let Some(Turn { before, since }) = item.turn else { return Duration::ZERO };
        let turn = self.client.turn(item.scope.subscription(), item.scope.location(), before);
        let now = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(since);
        turn.saturating_sub(Duration::from_millis(u64::try_from(now - since).unwrap_or(0)))
    }

    async fn live(&self, request: &Request, wanted: Wanted<'_>) -> Result<Vec<Live>> {
        let this = &Self { client: self.small.clone(), small: self.small.clone() };
        let mut live = Vec::new();
        for scope in this.plan(request).await? {
            let (subscription, location) = (scope.subscription(), scope.location());
            let mut publishers = this.publishers(subscription, location).await?;
            publishers.retain(|name| wanted(name, None, None));
            let found: Vec<Live> = stream::iter(publishers)
                .map(|publisher| async move {
                    let place = Place { subscription, location, publisher: &publisher };
                    this.live_publisher(place, wanted).await
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            live.extend(found);
        }
        Ok(live)
    }
}
