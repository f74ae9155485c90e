//! Where images come from. A source turns a scope into rows and an outcome; it knows nothing of
//! stores, queues or other sources.

pub mod gallery;
pub mod locations;
pub mod marketplace;
pub mod permissions;
mod previous;
pub mod registry;

pub use previous::PreviousFindings;

use crate::client::{lenient, until};
use crate::error::{Error, ErrorKind, Result};
use crate::image::gallery::{GalleryImage, Replicated};
use crate::image::limits::{self, Cuts};
use crate::image::machine::Machine;
use crate::image::marketplace::{DetailedVersion, ListedVersion};
use crate::image::registry::{ManifestDetail, RegistryImage};
use crate::image::resource_id::part;
use crate::work::{Gap, Outcome, Request, Scope, SourceName, State, WorkItem};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// How much an invocation may do, and whether it is the last one that tries.
#[derive(Debug, Clone, Copy)]
pub struct Invocation {
    /// Past this moment nothing new is begun; what is left becomes a continuation.
    pub until: Instant,
    /// Whether a failure is recorded now, rather than left to a redelivery.
    pub last: bool,
    /// Which delivery of the item this is.
    pub delivery: u32,
    /// The moment on the clock.
    pub now: OffsetDateTime,
}

/// What became of an item.
#[derive(Debug)]
pub enum Crawled {
    /// It has ended.
    Ended(Outcome, Rows),
    /// It is to be delivered again, as it now is, after so long.
    Later(WorkItem, Duration),
}

/// What an item yields.
#[derive(Debug)]
pub enum Rows {
    /// Versions as a location lists them.
    Listed(Vec<ListedVersion>),
    /// Answers to GETs of single versions.
    Detailed(Vec<DetailedVersion>),
    /// Images of galleries, sorted.
    Gallery(Vec<GalleryImage>),
    /// Answers to GETs of single versions of galleries.
    Replicated(Vec<Replicated>),
    /// Manifests of registries, sorted.
    Registry(Vec<RegistryImage>),
    /// What is told of manifests beside their listing.
    Told(Vec<ManifestDetail>),
}

impl Default for Rows {
    /// None.
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(rows) => rows.len(),
            Self::Detailed(rows) => rows.len(),
            Self::Gallery(rows) => rows.len(),
            Self::Replicated(rows) => rows.len(),
            Self::Registry(rows) => rows.len(),
            Self::Told(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take when they are written.
    fn bytes(&self) -> usize {
        match self {
            Self::Listed(rows) => limits::bytes_of(rows),
            Self::Detailed(rows) => limits::bytes_of(rows),
            Self::Gallery(rows) => limits::bytes_of(rows),
            Self::Replicated(rows) => limits::bytes_of(rows),
            Self::Registry(rows) => limits::bytes_of(rows),
            Self::Told(rows) => limits::bytes_of(rows),
        }
    }

    /// Cuts what is over the limits of a row ([`limits`]); what was cut, and how often.
    fn cut(&mut self) -> BTreeMap<String, u64> {
        let mut cuts = Cuts::default();
        match self {
            Self::Listed(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Detailed(rows) => rows.iter_mut().for_each(|row| row.detail.cut(&mut cuts)),
            Self::Gallery(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Replicated(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Registry(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Told(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
        }
        cuts.told()
    }
}

/// Whether a publisher, one of its offers, or one of their SKUs is worth asking for.
pub type NameFilter<'a> = &'a (dyn Fn(&str, Option<&str>, Option<&str>) -> bool + Send + Sync);

/// What one publisher has in one location right now.
#[derive(Debug)]
pub struct LiveListing {
    /// The location.
    pub location: String,
    /// The publisher.
    pub publisher: String,
    /// Its versions.
    pub rows: Vec<ListedVersion>,
    /// Parts that are empty, gone or failed.
    pub gaps: Vec<Gap>,
}

/// A place that images come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its name.
    fn name(&self) -> SourceName;

    /// The scopes that a run begins with.
    async fn plan(&self, request: &Request) -> Result<Vec<Scope>>;

    /// Does one item. An error means that a redelivery may heal it; everything else is an outcome.
    async fn crawl(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled>;

    /// How long a message of `item` should wait for its turn, as far as limits are known.
    fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration;

    /// Asks right now for what is wanted, in the locations of `request`.
    async fn live(&self, request: &Request, wanted: NameFilter<'_>) -> Result<Vec<LiveListing>>;

    /// Machines that stand on images, in `subscriptions` or in all that can be seen; none where the
    /// source does not know of any.
    async fn machines(&self, subscriptions: &[String]) -> Result<Vec<Machine>> {
        let _ = subscriptions;
        Ok(Vec::new())
    }
}

/// Does one item, and writes down in its outcome what of the answers was of another form.
pub async fn crawl(
    source: &dyn Source,
    item: &WorkItem,
    effort: &Invocation,
    known: &PreviousFindings,
) -> Result<Crawled> {
    let work = until(effort.until, source.crawl(item, effort, known));
    let (crawled, malformed) = lenient::counted(work).await;
    let mut crawled = crawled?;
    if let Crawled::Ended(outcome, rows) = &mut crawled {
        outcome.malformed.join(&malformed.into());
        outcome.malformed.join(&rows.cut().into());
        let bytes = rows.bytes();
        if bytes > limits::ITEM {
            // Rows of an earlier run stand in; what follows from it has items of its own.
            let most = limits::ITEM >> 20;
            let reason = format!("what it found takes {} MiB; at most {most}", bytes >> 20);
            tracing::warn!(item = %item.item, "{reason}");
            (outcome.state, outcome.reason) = (State::Failed, reason);
            (outcome.listed, outcome.rows) = (0, 0);
            *rows = Rows::default();
        }
    }
    Ok(crawled)
}

/// Does an item through each subscription that it names in turn, until nothing is refused. Where each of them refuses
/// something, the first one that refuses the least counts.
pub(crate) async fn through_others<F>(
    item: &WorkItem,
    crawl: impl Fn(WorkItem) -> F,
) -> Result<Crawled>
where
    F: Future<Output = Result<Crawled>>,
{
    let mut done = crawl(item.clone()).await?;
    let mut next = item.scope.through_another();
    while let Some(scope) = next.take_if(|_| refusals(&done) > 0) {
        tracing::debug!(item = item.item, subscription = scope.subscription(), "is asked instead");
        next = scope.through_another();
        let again = crawl(WorkItem { scope, ..item.clone() }).await?;
        if refusals(&again) < refusals(&done) {
            done = again;
        }
    }
    Ok(done)
}

/// How much of an item could not be asked for.
fn refusals(crawled: &Crawled) -> usize {
    match crawled {
        Crawled::Later(..) => 0,
        Crawled::Ended(outcome, _) if outcome.state == State::Denied => usize::MAX,
        Crawled::Ended(outcome, _) => {
            outcome.gaps.iter().filter(|gap| gap.state == State::Denied).count()
        }
    }
}

/// What an error means for the scope it happened in: how the scope ended, or the error itself when
/// a redelivery may do better.
pub(crate) fn ended(error: Error, effort: &Invocation) -> Result<(State, String, u32)> {
    // What concerns the quota or the identity says nothing of the scope.
    if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::SignedOut) {
        return Err(error);
    }
    let state = match error.kind() {
        // Not the scope is gone, but the subscription that it was asked through.
        _ if locations::is_closed(&error) => State::Denied,
        ErrorKind::NotFound => State::Gone,
        ErrorKind::Transient | ErrorKind::Unauthenticated | ErrorKind::Bug | ErrorKind::Corrupt
            if !effort.last =>
        {
            return Err(error);
        }
        ErrorKind::Unauthenticated => State::Denied,
        _ => State::Failed,
    };
    let attempts = if state.is_complete() { 0 } else { error.attempts() * effort.delivery.max(1) };
    // The scope stands beside the reason; the request's path would say it again.
    let text = error.to_string();
    let reason = match text.split_once(": ") {
        Some((request, rest)) if request.starts_with("GET /") || request.starts_with("POST /") => {
            rest.to_owned()
        }
        _ => text,
    };
    let advice = if is_unregistered(&error) { registration(&error.to_string()) } else { None };
    let reason = advice.map_or(reason.clone(), |advice| format!("{reason} {advice}"));
    Ok((state, reason, attempts))
}

/// How to register the provider that a refused request asked.
pub(crate) fn registration(refused: &str) -> Option<String> {
    let (request, _) = refused.split_once(": ")?;
    let path = &request[request.find('/')?..];
    let (subscription, provider) = (part(path, "subscriptions")?, part(path, "providers")?);
    Some(format!(
        "Register it: az provider register --namespace {provider} --subscription {subscription}"
    ))
}

/// An item whose scope ended otherwise than well, or the error that a redelivery may heal.
pub(crate) fn gave_up(item: &WorkItem, error: Error, effort: &Invocation) -> Result<Crawled> {
    let (state, reason, attempts) = ended(error, effort)?;
    let outcome = Outcome::bare(item.scope.clone(), state, reason, attempts);
    Ok(Crawled::Ended(outcome, Rows::default()))
}

/// What a subscription's list that could not be had means: there can be nothing where its provider is
/// not registered; a subscription that is named and not found was not removed, and cannot be seen.
pub(crate) fn no_list(
    item: &WorkItem,
    error: Error,
    (subscription, provider): (&str, &str),
    effort: &Invocation,
) -> Result<Crawled> {
    if is_unregistered(&error) {
        let reason = format!("the provider {provider} is not registered");
        let outcome = Outcome::bare(item.scope.clone(), State::Empty, reason, 0);
        return Ok(Crawled::Ended(outcome, Rows::default()));
    }
    let state = item.scope.subscription_state();
    if error.kind() == ErrorKind::NotFound
        && state.is_some_and(|s| s.eq_ignore_ascii_case("Deleted"))
    {
        let outcome = Outcome::bare(item.scope.clone(), State::Gone, standing(&item.scope), 0);
        return Ok(Crawled::Ended(outcome, Rows::default()));
    }
    let error = match state {
        Some(_) => error.context(standing(&item.scope)),
        None => error,
    };
    let error = match error.kind() {
        ErrorKind::NotFound => error
            .with_kind(ErrorKind::Denied)
            .context(format!("subscription {subscription} is not there, or cannot be seen")),
        _ => error,
    };
    gave_up(item, error, effort)
}

/// What is said of a subscription that is not simply enabled.
pub(crate) fn standing(scope: &Scope) -> String {
    let state = scope.subscription_state();
    state.map_or_else(String::new, |state| format!("the subscription is {state}"))
}

/// Whether a subscription is refused because it never used the provider.
pub(crate) fn is_unregistered(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.has_code("MissingSubscriptionRegistration")
}
