//! Where images come from. A source turns a scope into rows and an outcome; it knows nothing of
//! stores, queues or other sources.

pub mod gallery;
mod known;
pub mod locations;
pub mod marketplace;
pub mod registry;
pub mod rights;

pub use known::Known;

use crate::client::lenient;
use crate::error::{Error, ErrorKind, Result};
use crate::image::gallery::{GalleryImage, Replicated};
use crate::image::machine::Machine;
use crate::image::marketplace::{Detailed, Listed};
use crate::image::registry::{RegistryImage, Told};
use crate::work::{Gap, Outcome, Request, Scope, SourceName, State, WorkItem};
use async_trait::async_trait;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// How much an invocation may do, and whether it is the last one that tries.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
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
    Listed(Vec<Listed>),
    /// Answers to GETs of single versions.
    Detailed(Vec<Detailed>),
    /// Images of galleries, sorted.
    Gallery(Vec<GalleryImage>),
    /// Answers to GETs of single versions of galleries.
    Replicated(Vec<Replicated>),
    /// Manifests of registries, sorted.
    Registry(Vec<RegistryImage>),
    /// What is told of manifests beside their listing.
    Told(Vec<Told>),
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
}

/// Whether a publisher, one of its offers, or one of their SKUs is worth asking for.
pub type Wanted<'a> = &'a (dyn Fn(&str, Option<&str>, Option<&str>) -> bool + Send + Sync);

/// What one publisher has in one location right now.
#[derive(Debug)]
pub struct Live {
    /// The location.
    pub location: String,
    /// The publisher.
    pub publisher: String,
    /// Its versions.
    pub rows: Vec<Listed>,
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
    async fn crawl(&self, item: &WorkItem, effort: &Effort, known: &Known) -> Result<Crawled>;

    /// How long a message of `item` should wait for its turn, as far as limits are known.
    fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration;

    /// Asks right now for what is wanted, in the locations of `request`.
    async fn live(&self, request: &Request, wanted: Wanted<'_>) -> Result<Vec<Live>>;

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
    effort: &Effort,
    known: &Known,
) -> Result<Crawled> {
    let (crawled, malformed) = lenient::counted(source.crawl(item, effort, known)).await;
    let mut crawled = crawled?;
    if let Crawled::Ended(outcome, _) = &mut crawled {
        outcome.malformed.join(&malformed.into());
    }
    Ok(crawled)
}

/// What an error means for the scope it happened in: how the scope ended, or the error itself when
/// a redelivery may do better.
pub(crate) fn ended(error: Error, effort: &Effort) -> Result<(State, String, u32)> {
    // What concerns the quota or the identity says nothing of the scope.
    if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::SignedOut) {
        return Err(error);
    }
    let state = match error.kind() {
        ErrorKind::NotFound => State::Gone,
        ErrorKind::Transient | ErrorKind::Unauthenticated | ErrorKind::Bug | ErrorKind::Corrupt
            if !effort.last =>
        {
            return Err(error);
        }
        ErrorKind::Denied | ErrorKind::Unauthenticated => State::Denied,
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
    Ok((state, reason, attempts))
}

/// An item whose scope ended otherwise than well, or the error that a redelivery may heal.
pub(crate) fn gave_up(item: &WorkItem, error: Error, effort: &Effort) -> Result<Crawled> {
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
    effort: &Effort,
) -> Result<Crawled> {
    if is_unregistered(&error) {
        let reason = format!("the provider {provider} is not registered");
        let outcome = Outcome::bare(item.scope.clone(), State::Empty, reason, 0);
        return Ok(Crawled::Ended(outcome, Rows::default()));
    }
    let error = match error.kind() {
        ErrorKind::NotFound => error
            .with_kind(ErrorKind::Denied)
            .context(format!("subscription {subscription} is not there, or cannot be seen")),
        _ => error,
    };
    gave_up(item, error, effort)
}

/// Whether a subscription is refused because it never used the provider.
pub(crate) fn is_unregistered(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict
        && error.to_string().contains("MissingSubscriptionRegistration")
}
