//! Marketplace VM images: publishers ▸ offers ▸ SKUs ▸ versions, and single versions for details.
//!
//! None of these listings is paged. Names come and go between two of them, so a name that was just
//! listed and is not found is an ordinary answer. All comparisons are without case.

use super::{Effort, Live, Rows, Source, Wanted, ended, locations};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::image::marketplace::{Detailed, Listed, caseless};
use crate::image::{Status, Urn, version};
use crate::work::{Gap, Outcome, Request, Scope, SourceName, State, WorkItem};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use std::time::Instant;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Recorded answers to every version of this API agree; this one is in the recordings.
const API_VERSION: (&str, &str) = ("api-version", "2024-07-01");
/// Requests that one item has under way at once.
const AT_ONCE: usize = 8;
/// A publisher with more offers than this is split.
const MOST_OFFERS: usize = 40;
/// No invocation emits more messages than this (a bound of the design: 3,000).
const MOST_CHILDREN: usize = 2_900;

/// The source of marketplace images.
#[derive(Debug, Clone)]
pub struct Marketplace {
    client: Client,
}

/// The address of one listing.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    subscription: &'a str,
    location: &'a str,
    publisher: &'a str,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    #[serde(rename = "hyperVGeneration")]
    hyper_v_generation: Option<String>,
    architecture: Option<String>,
    image_deprecation_status: Option<Deprecation>,
    plan: Option<PurchasePlan>,
    os_disk_image: Option<OsDisk>,
    features: Option<Vec<Feature>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deprecation {
    #[serde(default)]
    image_state: Option<String>,
    #[serde(default)]
    scheduled_deprecation_time: Option<String>,
    #[serde(default)]
    alternative_option: Option<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct PurchasePlan {
    #[serde(default)]
    publisher: String,
    #[serde(default)]
    product: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OsDisk {
    #[serde(default)]
    operating_system: Option<String>,
}

#[derive(Deserialize)]
struct Feature {
    name: String,
    #[serde(default)]
    value: String,
}

impl Deprecation {
    fn status(&self) -> Option<Status> {
        match self.image_state.as_deref()?.to_ascii_lowercase().as_str() {
            "active" => Some(Status::Active),
            "scheduledfordeprecation" => Some(Status::Scheduled),
            "deprecated" => Some(Status::Deprecated),
            _ => None,
        }
    }

    fn at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.scheduled_deprecation_time.as_deref()?, &Rfc3339).ok()
    }

    fn alternative(&self) -> Option<String> {
        let alternative = self.alternative_option.as_ref()?;
        let kind = alternative.kind.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("none"))?;
        Some(format!("{kind}:{}", alternative.value.as_deref().unwrap_or_default()))
    }
}

impl Marketplace {
    /// The source that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn names(&self, place: Place<'_>, below: &[&str]) -> Result<Vec<String>> {
        let path = place.path(below);
        let entries: Vec<Named> = self.client.get(&path, &[API_VERSION]).await?;
        let mut names: Vec<String> =
            entries.into_iter().map(|n| n.name).filter(|name| !name.is_empty()).collect();
        names.sort_by(|a, b| caseless(a, b).then_with(|| a.cmp(b)));
        names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Ok(names)
    }

    /// The publishers of a location, sorted.
    pub async fn publishers(&self, subscription: &str, location: &str) -> Result<Vec<String>> {
        self.names(Place { subscription, location, publisher: "" }, &[]).await
    }

    async fn offers(&self, place: Place<'_>) -> Result<Vec<String>> {
        self.names(place, &["artifacttypes", "vmimage", "offers"]).await
    }

    async fn skus(&self, place: Place<'_>, offer: &str) -> Result<Vec<String>> {
        self.names(place, &["artifacttypes", "vmimage", "offers", offer, "skus"]).await
    }

    async fn versions(&self, place: Place<'_>, offer: &str, sku: &str) -> Result<Vec<Listed>> {
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions"];
        let query = [("$expand", "properties"), API_VERSION];
        let entries: Vec<Entry> = self.client.get(&place.path(&below), &query).await?;
        let mut listed: Vec<Listed> = entries
            .into_iter()
            .filter(|entry| !entry.name.is_empty())
            .map(|entry| {
                let properties = entry.properties.unwrap_or_default();
                let deprecation = properties.image_deprecation_status.as_ref();
                Listed {
                    offer: offer.to_owned(),
                    sku: sku.to_owned(),
                    version: entry.name,
                    status: deprecation.and_then(Deprecation::status),
                    scheduled_deprecation_at: deprecation.and_then(Deprecation::at),
                    alternative: deprecation.and_then(Deprecation::alternative),
                    architecture: properties.architecture,
                    hyper_v_generation: properties.hyper_v_generation,
                }
            })
            .collect();
        listed.sort_by(|a, b| version::compare(&a.version, &b.version));
        listed.dedup_by(|a, b| a.version.eq_ignore_ascii_case(&b.version));
        Ok(listed)
    }

    async fn image(&self, place: Place<'_>, image: &[String; 3]) -> Result<Detailed> {
        let [offer, sku, version] = image;
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions", version];
        let entry: Entry = self.client.get(&place.path(&below), &[API_VERSION]).await?;
        let properties = entry.properties.unwrap_or_default();
        Ok(Detailed {
            urn: Urn {
                publisher: place.publisher.to_owned(),
                offer: offer.clone(),
                sku: sku.clone(),
                version: version.clone(),
            },
            os: properties.os_disk_image.and_then(|disk| disk.operating_system),
            architecture: properties.architecture,
            hyper_v_generation: properties.hyper_v_generation,
            plan: properties.plan.map(|plan| (plan.publisher, plan.product, plan.name)),
            features: properties
                .features
                .unwrap_or_default()
                .into_iter()
                .map(|feature| (feature.name, feature.value))
                .collect(),
        })
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
        let now: Vec<String> = publishers.by_ref().take(MOST_CHILDREN).collect();
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
                match answer.map_err(vanished) {
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

/// A version that was listed may answer a GET with 400 "The value of parameter version is
/// invalid." instead of 404 (azure-rest §3).
fn vanished(error: Error) -> Error {
    let gone = error.kind() == ErrorKind::Invalid && error.to_string().contains("InvalidParameter");
    if gone { Error::not_found(error.to_string()) } else { error }
}

fn empty() -> (State, String, u32) {
    (State::Empty, String::new(), 1)
}

fn children(item: &WorkItem, scopes: Vec<Scope>) -> Vec<WorkItem> {
    scopes.into_iter().map(|scope| WorkItem::new(item.run, item.source, scope)).collect()
}

impl<'a> Place<'a> {
    fn path<'b>(self, below: &[&'b str]) -> Vec<&'b str>
    where
        'a: 'b,
    {
        let mut path = vec![
            "subscriptions",
            self.subscription,
            "providers",
            "Microsoft.Compute",
            "locations",
            self.location,
            "publishers",
        ];
        if !self.publisher.is_empty() {
            path.push(self.publisher);
        }
        path.extend_from_slice(below);
        path
    }

    fn offers(self, offers: &[String]) -> Scope {
        Scope::Offers {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            publisher: self.publisher.to_owned(),
            offers: offers.to_vec(),
        }
    }

    fn details(self, images: Vec<[String; 3]>) -> Scope {
        Scope::Details {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            publisher: self.publisher.to_owned(),
            images,
        }
    }
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
