//! A walk through a publisher's offers: SKUs, versions, and the details that are wanted.
//!
//! An offer is processed completely or not at all; remaining offers follow in another item.

use super::client::{CONCURRENCY, Marketplace};
use super::listing_path::ListingPath;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Status;
use crate::image::marketplace::ListedVersion;
use crate::source::{Invocation, PreviousFindings, Rows, classify_failure};
use crate::work::{Details, Gap, Outcome, State, WorkItem};
use futures::{StreamExt, stream};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// What a walk looks for.
pub(super) struct WalkOptions<'a, F> {
    /// Filter for an offer's SKUs.
    pub(super) wanted: F,
    /// Which versions to fetch details for.
    pub(super) details: Details,
    /// What the previous snapshot contains, and need not be requested.
    pub(super) known: &'a PreviousFindings,
}

/// What a walk has found so far.
#[derive(Default)]
pub(super) struct OfferWalk {
    pub(super) rows: Vec<ListedVersion>,
    pub(super) gaps: Vec<Gap>,
    pub(super) left: Vec<String>,
    pub(super) listed: u64,
    /// How long the quota for the remaining offers is exhausted.
    pub(super) wait: Option<Duration>,
    /// Whether any offer was completed.
    pub(super) begun: bool,
}

/// What was found for one offer.
#[derive(Default)]
struct OfferResult {
    rows: Vec<ListedVersion>,
    gaps: Vec<Gap>,
    listed: u64,
    wait: Option<Duration>,
}

fn empty() -> End {
    (State::Empty, String::new(), 0)
}

impl OfferResult {
    fn gap(&mut self, names: (&str, Option<&str>, Option<&str>), end: End) {
        let (offer, sku, version) = names;
        let (state, reason, attempts) = end;
        self.gaps.push(Gap {
            offer: offer.to_owned(),
            sku: sku.map(str::to_owned),
            version: version.map(str::to_owned),
            state,
            reason,
            attempts,
        });
    }

    /// Records an error as a gap, or returns it if a redelivery may succeed. A spent quota only
    /// sets `wait`.
    fn failed(
        &mut self,
        names: (&str, Option<&str>, Option<&str>),
        error: Error,
        effort: &Invocation,
    ) -> Result<()> {
        if error.kind() == ErrorKind::Throttled {
            self.wait = self.wait.max(Some(error.retry_after().unwrap_or_default()));
            return Ok(());
        }
        self.gap(names, classify_failure(error, effort)?);
        Ok(())
    }
}

/// How an incomplete listing ended.
type End = (State, String, u32);
/// The versions of one SKU, each with the error of its details request if any, and how their
/// listing ended if it is incomplete.
type Versions = Result<(Vec<(ListedVersion, Option<Error>)>, Option<End>)>;

impl Marketplace {
    /// Lists SKUs and versions of `offers` into `walk`. After the deadline of `effort` no further
    /// batch of offers starts, except the first, so that an item always makes progress.
    pub(super) async fn walk<F>(
        &self,
        listing_path: ListingPath<'_>,
        offers: &[String],
        effort: &Invocation,
        walk: &mut OfferWalk,
        sought: &WalkOptions<'_, F>,
    ) -> Result<()>
    where
        F: Fn(&str, Option<&str>) -> bool + Sync,
    {
        for (index, batch) in offers.chunks(CONCURRENCY).enumerate() {
            if walk.wait.is_some() || (index > 0 && Instant::now() > effort.until) {
                walk.left.extend_from_slice(&offers[index * CONCURRENCY..]);
                break;
            }
            let mut found: Vec<OfferResult> =
                batch.iter().map(|_| OfferResult::default()).collect();
            let mut pairs = Vec::new();
            let mut responses = stream::iter(batch.iter().cloned().enumerate())
                .map(|(at, offer)| async move {
                    let skus = self.skus(listing_path, &offer).await;
                    (at, offer, skus)
                })
                .buffered(CONCURRENCY);
            while let Some((at, offer, skus)) = responses.next().await {
                match skus {
                    Ok(skus) => {
                        let is_empty = skus.rows.is_empty();
                        found[at].listed += u64::from(!is_empty);
                        let end = skus.gap().or_else(|| is_empty.then(empty));
                        if let Some(end) = end {
                            found[at].gap((&offer, None, None), end);
                        }
                        let skus = skus.rows;
                        pairs.extend(skus.into_iter().map(|sku| (at, offer.clone(), sku)));
                    }
                    Err(error) => found[at].failed((&offer, None, None), error, effort)?,
                }
            }
            pairs.retain(|(_, offer, sku)| (sought.wanted)(offer, Some(sku)));
            self.walk_skus(listing_path, pairs, effort, &mut found, sought).await?;
            for (offer, found) in batch.iter().zip(found) {
                walk.take(offer, found);
            }
        }
        Ok(())
    }

    async fn walk_skus<F: Sync>(
        &self,
        listing_path: ListingPath<'_>,
        pairs: Vec<(usize, String, String)>,
        effort: &Invocation,
        found: &mut [OfferResult],
        sought: &WalkOptions<'_, F>,
    ) -> Result<()> {
        let mut responses = stream::iter(pairs)
            .map(|(at, offer, sku)| async move {
                let versions = self.sku(listing_path, [&offer, &sku], sought, effort.now).await;
                (at, offer, sku, versions)
            })
            .buffered(CONCURRENCY);
        while let Some((at, offer, sku, versions)) = responses.next().await {
            let found = &mut found[at];
            match versions {
                Ok((versions, end)) => {
                    let is_empty = versions.is_empty();
                    found.listed += u64::from(!is_empty);
                    if let Some(end) = end.or_else(|| is_empty.then(empty)) {
                        found.gap((&offer, Some(&sku), None), end);
                    }
                    for (row, error) in versions {
                        if let Some(error) = error {
                            let names = (offer.as_str(), Some(sku.as_str()));
                            found.failed((names.0, names.1, Some(&row.version)), error, effort)?;
                        }
                        found.rows.push(row);
                    }
                }
                Err(error) => found.failed((&offer, Some(&sku), None), error, effort)?,
            }
        }
        Ok(())
    }

    /// Lists a SKU's versions, and fetches those wanted details that are not known, newest first.
    async fn sku<F: Sync>(
        &self,
        listing_path: ListingPath<'_>,
        [offer, sku]: [&str; 2],
        sought: &WalkOptions<'_, F>,
        now: OffsetDateTime,
    ) -> Versions {
        let listing = self.versions(listing_path, offer, sku).await?;
        let end = listing.gap();
        let mut rows: Vec<(ListedVersion, Option<Error>)> =
            listing.rows.into_iter().map(|row| (row, None)).collect();
        let mut wanted: Vec<usize> = match sought.details {
            Details::None => Vec::new(),
            Details::All => (0..rows.len()).rev().collect(),
            Details::Latest => {
                let deployable = |(row, _): &(ListedVersion, _)| {
                    let ends_at = row.scheduled_deprecation_at;
                    let status = row.known_status();
                    status.is_some_and(|s| s.at(now, ends_at, Status::Deprecated).is_deployable())
                };
                rows.iter().rposition(deployable).into_iter().collect()
            }
        };
        wanted.retain(|at| {
            let version = &rows[*at].0.version;
            !sought.known.has_details([listing_path.publisher, offer, sku, version])
        });
        for at in wanted {
            let (row, failed) = &mut rows[at];
            match self.image(listing_path, [offer, sku, &row.version]).await {
                Ok(detail) => row.detail = Some(Box::new(detail)),
                Err(error) => *failed = Some(error),
            }
        }
        Ok((rows, end))
    }
}

impl OfferWalk {
    /// Records a gap without a name: the list of offers is incomplete, and which ones are missing
    /// is unknown.
    pub(super) fn some_offers_have_no_name(&mut self, (state, reason, attempts): End) {
        let offer = String::new();
        self.gaps.push(Gap { offer, sku: None, version: None, state, reason, attempts });
    }

    /// Adds the result of an offer, or marks the offer as remaining if its quota is exhausted.
    fn take(&mut self, offer: &str, mut found: OfferResult) {
        if found.wait.is_some() {
            self.wait = self.wait.max(found.wait);
            self.left.push(offer.to_owned());
            return;
        }
        self.begun = true;
        self.rows.append(&mut found.rows);
        self.gaps.append(&mut found.gaps);
        self.listed += found.listed;
    }

    pub(super) fn end(
        mut self,
        item: &WorkItem,
        listing_path: ListingPath<'_>,
        state: State,
        details: Details,
    ) -> (Outcome, Rows) {
        self.gaps.sort();
        let follow = (!self.left.is_empty()).then(|| listing_path.offers(&self.left, details));
        let outcome = Outcome {
            listed: self.listed,
            rows: self.rows.len() as u64,
            gaps: self.gaps,
            children: follow.into_iter().map(|scope| item.child(scope)).collect(),
            ..Outcome::bare(item.scope.clone(), state, "", 0)
        };
        (outcome, Rows::Listed(self.rows))
    }
}
