//! The sources of images. A source turns a scope into rows and an outcome. It does not know stores,
//! queues or other sources.

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

/// Limits and context of one invocation that processes a work item.
#[derive(Debug, Clone, Copy)]
pub struct Invocation {
    /// Deadline: after it no new work starts, and the remainder becomes a continuation item.
    pub until: Instant,
    /// Whether this is the last delivery: a failure is recorded instead of being left to a
    /// redelivery.
    pub last: bool,
    /// Number of this delivery of the item.
    pub delivery: u32,
    /// Current wall-clock time.
    pub now: OffsetDateTime,
}

/// The result of crawling one work item.
#[derive(Debug)]
pub enum Crawled {
    /// The item has ended, with its outcome and rows.
    Ended(Outcome, Rows),
    /// The item, in its present state, is to be delivered again after the duration.
    Later(WorkItem, Duration),
}

/// The rows that a work item yields.
#[derive(Debug)]
pub enum Rows {
    /// Versions as listed in one location.
    Listed(Vec<ListedVersion>),
    /// Details from GETs of single marketplace versions.
    Detailed(Vec<DetailedVersion>),
    /// Gallery images, sorted.
    Gallery(Vec<GalleryImage>),
    /// Replication status from GETs of single gallery versions.
    Replicated(Vec<Replicated>),
    /// Registry manifests, sorted.
    Registry(Vec<RegistryImage>),
    /// Data about manifests that their listing does not contain.
    Details(Vec<ManifestDetail>),
}

impl Default for Rows {
    /// No rows.
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(rows) => rows.len(),
            Self::Detailed(rows) => rows.len(),
            Self::Gallery(rows) => rows.len(),
            Self::Replicated(rows) => rows.len(),
            Self::Registry(rows) => rows.len(),
            Self::Details(rows) => rows.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Serialized size of the rows, in bytes of JSON.
    fn bytes(&self) -> usize {
        match self {
            Self::Listed(rows) => limits::bytes_of(rows),
            Self::Detailed(rows) => limits::bytes_of(rows),
            Self::Gallery(rows) => limits::bytes_of(rows),
            Self::Replicated(rows) => limits::bytes_of(rows),
            Self::Registry(rows) => limits::bytes_of(rows),
            Self::Details(rows) => limits::bytes_of(rows),
        }
    }

    /// Truncates members that exceed the limits of a row ([`limits`]). Returns what was truncated,
    /// with counts.
    fn cut(&mut self) -> BTreeMap<String, u64> {
        let mut cuts = Cuts::default();
        match self {
            Self::Listed(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Detailed(rows) => rows.iter_mut().for_each(|row| row.detail.cut(&mut cuts)),
            Self::Gallery(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Replicated(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Registry(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
            Self::Details(rows) => rows.iter_mut().for_each(|row| row.cut(&mut cuts)),
        }
        cuts.into_counts()
    }
}

/// Decides whether a publisher, one of its offers, or one of their SKUs is to be listed.
pub type NameFilter<'a> = &'a (dyn Fn(&str, Option<&str>, Option<&str>) -> bool + Send + Sync);

/// What Azure lists at this moment for one publisher in one location.
#[derive(Debug)]
pub struct LiveListing {
    /// The location.
    pub location: String,
    /// The publisher.
    pub publisher: String,
    /// Versions of the publisher.
    pub rows: Vec<ListedVersion>,
    /// Parts that are empty, gone or failed.
    pub gaps: Vec<Gap>,
}

/// A source of images.
#[async_trait]
pub trait Source: Send + Sync {
    /// Name of the source.
    fn name(&self) -> SourceName;

    /// The scopes with which a run begins.
    async fn plan(&self, request: &Request) -> Result<Vec<Scope>>;

    /// Processes one work item. An error means that a redelivery may succeed; any other result is
    /// an outcome.
    async fn crawl(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled>;

    /// How long a message for `item` should wait before it is delivered, as far as rate limits are
    /// known.
    fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration;

    /// Queries Azure directly for what passes the filter, in the locations of `request`.
    async fn live(&self, request: &Request, wanted: NameFilter<'_>) -> Result<Vec<LiveListing>>;

    /// Virtual machines and scale sets with the images they use, in `subscriptions`, or in all
    /// visible ones if empty. Empty for a source that does not know any.
    async fn machines(&self, subscriptions: &[String]) -> Result<Vec<Machine>> {
        let _ = subscriptions;
        Ok(Vec::new())
    }
}

/// Processes one work item, and records malformed and truncated members of the answers in its
/// outcome.
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
            // The failed scope carries rows of an earlier run; its children remain separate items.
            let most = limits::ITEM >> 20;
            let reason = format!("the result has {} MiB, and the limit is {most}", bytes >> 20);
            tracing::warn!(item = %item.item, "{reason}");
            (outcome.state, outcome.reason) = (State::Failed, reason);
            (outcome.listed, outcome.rows) = (0, 0);
            *rows = Rows::default();
        }
    }
    Ok(crawled)
}

/// Processes an item through each subscription that it names, in order, until one refuses nothing.
/// If each refuses something, the result with the fewest refusals is returned, the earliest on a
/// tie.
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
        tracing::debug!(
            item = item.item,
            subscription = scope.subscription(),
            "the item is retried through another subscription"
        );
        next = scope.through_another();
        let again = crawl(WorkItem { scope, ..item.clone() }).await?;
        if refusals(&again) < refusals(&done) {
            done = again;
        }
    }
    Ok(done)
}

/// Number of refused parts of an item; `usize::MAX` if the whole item was refused.
fn refusals(crawled: &Crawled) -> usize {
    match crawled {
        Crawled::Later(..) => 0,
        Crawled::Ended(outcome, _) if outcome.state == State::Denied => usize::MAX,
        Crawled::Ended(outcome, _) => {
            outcome.gaps.iter().filter(|gap| gap.state == State::Denied).count()
        }
    }
}

/// Maps an error to the state, reason and attempts of the scope in which it occurred. Returns the
/// error itself if a redelivery may succeed.
pub(crate) fn classify_failure(error: Error, effort: &Invocation) -> Result<(State, String, u32)> {
    // Errors about the quota or the identity say nothing about the scope.
    if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::SignedOut) {
        return Err(error);
    }
    let state = match error.kind() {
        // The subscription that was asked is unusable; the scope itself is not gone.
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
    // Coverage shows the scope next to the reason, so the request's path would be redundant.
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

/// The command that registers the provider of a refused request.
pub(crate) fn registration(refused: &str) -> Option<String> {
    let (request, _) = refused.split_once(": ")?;
    let path = &request[request.find('/')?..];
    let (subscription, provider) = (part(path, "subscriptions")?, part(path, "providers")?);
    Some(format!(
        "Register it: az provider register --namespace {provider} --subscription {subscription}"
    ))
}

/// Ends an item with the state of a failed request, or returns an error that a redelivery may
/// resolve.
pub(crate) fn end_failed_item(
    item: &WorkItem,
    error: Error,
    effort: &Invocation,
) -> Result<Crawled> {
    let (state, reason, attempts) = classify_failure(error, effort)?;
    let outcome = Outcome::bare(item.scope.clone(), state, reason, attempts);
    Ok(Crawled::Ended(outcome, Rows::default()))
}

/// Ends the item of a subscription whose list could not be read. If the provider is not registered,
/// there can be no resources. A subscription that is configured by id and not found counts as
/// denied, not as removed.
pub(crate) fn end_unlisted_subscription(
    item: &WorkItem,
    error: Error,
    (subscription, provider): (&str, &str),
    effort: &Invocation,
) -> Result<Crawled> {
    if is_unregistered(&error) {
        let reason = format!("the resource provider {provider} is not registered");
        let outcome = Outcome::bare(item.scope.clone(), State::Empty, reason, 0);
        return Ok(Crawled::Ended(outcome, Rows::default()));
    }
    let state = item.scope.subscription_state();
    if error.kind() == ErrorKind::NotFound
        && state.is_some_and(|s| s.eq_ignore_ascii_case("Deleted"))
    {
        let outcome =
            Outcome::bare(item.scope.clone(), State::Gone, subscription_state_text(&item.scope), 0);
        return Ok(Crawled::Ended(outcome, Rows::default()));
    }
    let error = match state {
        Some(_) => error.context(subscription_state_text(&item.scope)),
        None => error,
    };
    let error = match error.kind() {
        ErrorKind::NotFound => error
            .with_kind(ErrorKind::Denied)
            .context(format!("subscription {subscription} does not exist, or is not visible")),
        _ => error,
    };
    end_failed_item(item, error, effort)
}

/// Text about the state of a subscription that is not enabled; empty otherwise.
pub(crate) fn subscription_state_text(scope: &Scope) -> String {
    let state = scope.subscription_state();
    state.map_or_else(String::new, |state| format!("the subscription is {state}"))
}

/// Whether the subscription refused the request because it has not registered the provider.
pub(crate) fn is_unregistered(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.has_code("MissingSubscriptionRegistration")
}
