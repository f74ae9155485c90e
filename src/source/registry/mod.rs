//! Container registries: subscriptions ▸ registries ▸ repositories ▸ manifests.
//!
//! The provider lists the registries, each registry's data plane its contents, and Resource Graph
//! the findings of scanners. The list of a repository's manifests contains only some of their tags,
//! so tags are listed separately. The content of a manifest never changes: it is read once, and
//! carried from snapshot to snapshot.

mod contents;
pub mod findings;
mod manifests;

pub use manifests::row;

use super::locations::{self, UNNAMED};
use super::{
    Crawled, Invocation, LiveListing, NameFilter, PreviousFindings, Rows, Source, end_failed_item,
    end_unlisted_subscription, subscription_state_text,
};
use crate::client::{Client, lenient, version};
use crate::error::{Error, Result};
use crate::image::name::short_name;
use crate::registry::{Listed, Registry};
use crate::work::{
    AtRegistry, Details, Gap, MOST_MESSAGES, Outcome, RegistryScope, Request, Scope, SourceName,
    State, WorkItem,
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// Concurrent requests of one item to one registry.
const CONCURRENCY: usize = 8;
/// Repositories per token: a token is sent as a header, and the size of headers is limited.
const TOGETHER: usize = 10;
/// Repositories per item: a few seconds of work.
const BATCH: usize = 40;
/// Size limit for the names of an item's repositories, in bytes.
const BATCH_BYTES: usize = 12 << 10;

/// Opens a registry by its login server.
pub type Open = Arc<dyn Fn(&str) -> Result<Registry> + Send + Sync>;

/// The source of container images.
pub struct Containers {
    client: Client,
    open: Open,
    /// Login servers to crawl instead of all registries of all subscriptions.
    named: Vec<String>,
    /// Registries opened so far, with their tokens and rate limits.
    opened: Mutex<HashMap<String, Arc<Registry>>>,
}

#[derive(Deserialize)]
struct Resource {
    id: String,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    sku: Option<Sku>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Sku {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(default)]
    login_server: Option<String>,
    #[serde(default)]
    provisioning_state: Option<String>,
}

/// The registries of a subscription.
#[derive(Debug, Default)]
pub struct Registries {
    /// Registries that can be reached, sorted.
    pub found: Vec<AtRegistry>,
    /// Gaps for registries that cannot be read, named by Resource Manager id or with an empty name.
    pub unread: Vec<Gap>,
}

impl Containers {
    /// Creates the source. Resource Manager requests go through `client`; `open` opens registries.
    /// Crawls the `named` login servers, or all registries if empty.
    pub fn new(client: Client, open: Open, named: Vec<String>) -> Self {
        Self { client, open, named, opened: Mutex::default() }
    }

    fn registry(&self, login_server: &str) -> Result<Arc<Registry>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = opened.get(login_server) {
            return Ok(Arc::clone(registry));
        }
        let registry = Arc::new((self.open)(login_server)?.counted_in(self.client.traffic()));
        opened.insert(login_server.to_owned(), Arc::clone(&registry));
        Ok(registry)
    }

    async fn crawl_subscription(
        &self,
        item: &WorkItem,
        subscription: &str,
        details: Details,
        effort: &Invocation,
    ) -> Result<Crawled> {
        if subscription == UNNAMED {
            let text = "it is listed without a name, so its registries are not queried";
            return end_failed_item(item, Error::invalid(text), effort);
        }
        let Registries { found, unread } = match registries(&self.client, subscription).await {
            Ok(registries) if registries.found.len() <= MOST_MESSAGES => registries,
            Ok(_) => {
                let text = format!("more than {MOST_MESSAGES} registries in one subscription");
                return end_failed_item(item, Error::invalid(text), effort);
            }
            Err(error) => {
                let provider = "Microsoft.ContainerRegistry";
                return end_unlisted_subscription(item, error, (subscription, provider), effort);
            }
        };
        let scopes = found.into_iter().map(|at| RegistryScope::Registry { at, details });
        Ok(parent(item, scopes.collect(), unread))
    }

    async fn crawl_registry(
        &self,
        item: &WorkItem,
        at: &AtRegistry,
        details: Details,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let listed = match self.registry(&at.login_server) {
            Ok(registry) => registry.catalog().await,
            Err(error) => Err(error),
        };
        let Listed { rows: repositories, lost } = match listed {
            Ok(listed) => listed,
            Err(error) => return end_failed_item(item, error, effort),
        };
        let unnamed = lost.why("repositories").map(|why| unread("", why));
        let login_server = at.login_server.clone();
        let mut scopes = batches(&login_server, repositories, details);
        if scopes.len() >= MOST_MESSAGES {
            let text = format!("more than {} repositories", MOST_MESSAGES * BATCH);
            return end_failed_item(item, Error::invalid(text), effort);
        }
        if at.registry_id.is_some() && !scopes.is_empty() && !details.is_none() {
            let subscription = at.subscription().unwrap_or_default().to_owned();
            scopes.push(RegistryScope::Findings { login_server, subscription });
        }
        Ok(parent(item, scopes, unnamed.into_iter().collect()))
    }
}

/// Splits repositories into batches, one item each.
fn batches(login_server: &str, repositories: Vec<String>, details: Details) -> Vec<RegistryScope> {
    let mut scopes = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut push = |repositories: Vec<String>| {
        let login_server = login_server.to_owned();
        scopes.push(RegistryScope::Repositories {
            login_server,
            repositories,
            after: None,
            details,
        });
    };
    for repository in repositories {
        if batch.len() == BATCH || bytes > BATCH_BYTES {
            push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += repository.len() + 3;
        batch.push(repository);
    }
    if !batch.is_empty() {
        push(batch);
    }
    scopes
}

/// Ends an item that has no rows of its own, only child items.
fn parent(item: &WorkItem, scopes: Vec<RegistryScope>, gaps: Vec<Gap>) -> Crawled {
    let state = if scopes.is_empty() && gaps.is_empty() { State::Empty } else { State::Done };
    let children = scopes.into_iter().map(|scope| item.child(Scope::Registry(scope)));
    let outcome = Outcome {
        listed: u64::from(state == State::Done),
        gaps,
        children: children.collect(),
        ..Outcome::bare(item.scope.clone(), state, subscription_state_text(&item.scope), 0)
    };
    Crawled::Ended(outcome, Rows::default())
}

/// The gap for an unreadable entry of a list.
fn unread(name: &str, reason: String) -> Gap {
    let (offer, state) = (name.to_owned(), State::Failed);
    Gap { offer, sku: None, version: None, state, reason, attempts: 0 }
}

/// Returns the registries of a subscription.
pub async fn registries(client: &Client, subscription: &str) -> Result<Registries> {
    let provider = "Microsoft.ContainerRegistry";
    let path = ["subscriptions", subscription, "providers", provider, "registries"];
    let listed: Vec<Value> = client.list(&path, &[version::REGISTRIES.parameter()]).await?;
    let prefix = format!("/subscriptions/{subscription}/").to_ascii_lowercase();
    let mut registries = Registries::default();
    for row in &listed {
        match reached(row, &prefix) {
            Ok(at) => registries.found.extend(at),
            Err(gap) => registries.unread.push(gap),
        }
    }
    registries.found.sort();
    registries.found.dedup_by(|a, b| a.login_server == b.login_server);
    registries.unread.sort();
    Ok(registries)
}

/// Parses a listed registry of the subscription whose ids begin with `prefix`; `None` while it is
/// being created. An unreadable entry affects only itself.
fn reached(row: &Value, prefix: &str) -> Result<Option<AtRegistry>, Gap> {
    let (registry, malformed) = lenient::of_value::<Resource>(row)
        .map_err(|e| unread("", format!("a registry that cannot be read ({e})")))?;
    lenient::log_malformed("Microsoft.ContainerRegistry/registries", &malformed);
    let id = registry.id;
    if !id.to_ascii_lowercase().starts_with(prefix) {
        return Err(unread("", "a registry of another subscription is listed".to_owned()));
    }
    let Some(properties) = registry.properties else {
        return Err(unread(&id, "its properties cannot be read".to_owned()));
    };
    let login_server = properties.login_server.unwrap_or_default().to_ascii_lowercase();
    if login_server.is_empty() && properties.provisioning_state.as_deref() == Some("Creating") {
        return Ok(None);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if login_server.is_empty() || login_server.len() > 253 || !login_server.chars().all(is_part) {
        return Err(unread(&id, "its login server cannot be read".to_owned()));
    }
    Ok(Some(AtRegistry {
        login_server,
        location: registry.location.as_deref().map(short_name),
        sku: registry.sku.map(|sku| sku.name),
        registry_id: Some(id),
    }))
}

#[async_trait]
impl Source for Containers {
    fn name(&self) -> SourceName {
        SourceName::Registry
    }

    async fn plan(&self, request: &Request) -> Result<Vec<Scope>> {
        let details = request.details.unwrap_or_default();
        if !self.named.is_empty() {
            let at = |login_server: &String| RegistryScope::Registry {
                at: AtRegistry {
                    login_server: login_server.to_ascii_lowercase(),
                    registry_id: None,
                    location: None,
                    sku: None,
                },
                details,
            };
            return Ok(self.named.iter().map(at).map(Scope::Registry).collect());
        }
        let seen = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let scopes = seen.all.into_iter().map(|one| RegistryScope::Registries {
            subscription: one.id,
            state: one.state,
            details,
        });
        Ok(scopes.map(Scope::Registry).collect())
    }

    async fn crawl(
        &self,
        item: &WorkItem,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let Scope::Registry(scope) = &item.scope else {
            return Err(Error::bug("not an item of registries"));
        };
        match scope {
            RegistryScope::Registries { subscription, details, .. } => {
                self.crawl_subscription(item, subscription, *details, effort).await
            }
            RegistryScope::Registry { at, details } => {
                self.crawl_registry(item, at, *details, effort).await
            }
            RegistryScope::Repositories { .. } => {
                self.crawl_repositories(item, scope, effort, known).await
            }
            RegistryScope::Tags { login_server, repository } => {
                self.crawl_tags(item, login_server, repository, effort).await
            }
            RegistryScope::Contents { login_server, manifests } => {
                self.crawl_contents(item, login_server, manifests, effort).await
            }
            RegistryScope::Findings { login_server, subscription } => {
                self.crawl_findings(item, login_server, subscription, effort).await
            }
        }
    }

    fn turn(&self, _: &WorkItem, _: OffsetDateTime) -> Duration {
        Duration::ZERO
    }

    async fn live(&self, _: &Request, _: NameFilter<'_>) -> Result<Vec<LiveListing>> {
        Ok(Vec::new())
    }
}
