//! Container registries: subscriptions ▸ registries ▸ repositories ▸ manifests.
//!
//! The provider says which registries there are, each registry's data plane what is in it, and
//! Resource Graph what scanners found. One listing of a repository's manifests has their tags, too.
//! What a manifest holds never changes: it is read once, and carried from snapshot to snapshot.

mod contents;
pub mod findings;
mod manifests;

pub use manifests::row;

use super::{Crawled, Effort, Known, Live, Rows, Source, Wanted, gave_up, locations, no_list};
use crate::client::{Client, version};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::work::{
    AtRegistry, Details, MOST_MESSAGES, Outcome, RegistryScope, Request, Scope, SourceName, State,
    WorkItem,
};
use async_trait::async_trait;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// Requests to one registry that an item has under way at once.
const AT_ONCE: usize = 8;
/// Repositories that one token is asked for: a token is a header, and headers have an end.
const TOGETHER: usize = 10;
/// Repositories of one item: some seconds of work.
const BATCH: usize = 40;
/// The names of one item's repositories stay below this many bytes.
const BATCH_BYTES: usize = 12 << 10;

/// Opens a registry by its login server.
pub type Open = Arc<dyn Fn(&str) -> Result<Registry> + Send + Sync>;

/// The source of container images.
pub struct Containers {
    client: Client,
    open: Open,
    /// Login servers that are crawled, instead of all registries of all subscriptions.
    named: Vec<String>,
    /// Registries that were asked before, with their tokens and their pace.
    opened: Mutex<HashMap<String, Arc<Registry>>>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    sku: Option<Sku>,
    properties: Properties,
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
}

impl Containers {
    /// The source that asks the Resource Manager through `client`, and registries as `open` says:
    /// those that are `named`, or all.
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
        effort: &Effort,
    ) -> Result<Crawled> {
        let registries = match registries(&self.client, subscription).await {
            Ok(registries) if registries.len() <= MOST_MESSAGES => registries,
            Ok(_) => {
                let text = format!("more than {MOST_MESSAGES} registries in one subscription");
                return gave_up(item, Error::invalid(text), effort);
            }
            Err(error) => {
                let provider = "Microsoft.ContainerRegistry";
                return no_list(item, error, (subscription, provider), effort);
            }
        };
        let scopes = registries.into_iter().map(|at| RegistryScope::Registry { at, details });
        Ok(parent(item, scopes.collect()))
    }

    async fn crawl_registry(
        &self,
        item: &WorkItem,
        at: &AtRegistry,
        details: Details,
        effort: &Effort,
    ) -> Result<Crawled> {
        let listed = match self.registry(&at.login_server) {
            Ok(registry) => registry.repositories().await,
            Err(error) => Err(error),
        };
        let repositories = match listed {
            Ok(repositories) => repositories,
            Err(error) => return gave_up(item, error, effort),
        };
        let login_server = at.login_server.clone();
        let mut scopes = batches(&login_server, repositories, details);
        if scopes.len() >= MOST_MESSAGES {
            let text = format!("more than {} repositories", MOST_MESSAGES * BATCH);
            return gave_up(item, Error::invalid(text), effort);
        }
        if let (Some(id), false) = (&at.registry_id, scopes.is_empty())
            && !details.is_none()
        {
            let subscription = id.split('/').nth(2).unwrap_or_default().to_owned();
            scopes.push(RegistryScope::Findings { login_server, subscription });
        }
        Ok(parent(item, scopes))
    }
}

/// Repositories in parts that are one item each.
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

/// An item that only leads to others.
fn parent(item: &WorkItem, scopes: Vec<RegistryScope>) -> Crawled {
    let state = if scopes.is_empty() { State::Empty } else { State::Done };
    let children = scopes.into_iter().map(|scope| item.child(Scope::Registry(scope)));
    let outcome = Outcome {
        listed: u64::from(state == State::Done),
        children: children.collect(),
        ..Outcome::bare(item.scope.clone(), state, "", 0)
    };
    Crawled::Ended(outcome, Rows::default())
}

/// The registries of a subscription, sorted.
pub async fn registries(client: &Client, subscription: &str) -> Result<Vec<AtRegistry>> {
    let provider = "Microsoft.ContainerRegistry";
    let path = ["subscriptions", subscription, "providers", provider, "registries"];
    let listed: Vec<Listed> = client.list(&path, &[version::REGISTRIES.parameter()]).await?;
    let prefix = format!("/subscriptions/{subscription}/").to_ascii_lowercase();
    let mut found = Vec::new();
    for registry in listed {
        if !registry.id.to_ascii_lowercase().starts_with(&prefix) {
            let id = registry.id;
            let text = format!("{id}: listed by {subscription}, and it is of another one");
            return Err(Error::transient(text));
        }
        // One that is still being made has no address yet.
        let Some(login_server) = registry.properties.login_server.filter(|s| !s.is_empty()) else {
            continue;
        };
        found.push(AtRegistry {
            login_server: login_server.to_ascii_lowercase(),
            registry_id: Some(registry.id),
            location: registry.location.as_deref().map(locations::short_name),
            sku: registry.sku.map(|sku| sku.name),
        });
    }
    found.sort();
    found.dedup_by(|a, b| a.login_server == b.login_server);
    Ok(found)
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
        let all = locations::subscriptions(&self.client, &request.subscriptions).await?;
        let scopes =
            all.into_iter().map(|subscription| RegistryScope::Registries { subscription, details });
        Ok(scopes.map(Scope::Registry).collect())
    }

    async fn crawl(&self, item: &WorkItem, effort: &Effort, known: &Known) -> Result<Crawled> {
        let Scope::Registry(scope) = &item.scope else {
            return Err(Error::bug("not an item of registries"));
        };
        match scope {
            RegistryScope::Registries { subscription, details } => {
                self.crawl_subscription(item, subscription, *details, effort).await
            }
            RegistryScope::Registry { at, details } => {
                self.crawl_registry(item, at, *details, effort).await
            }
            RegistryScope::Repositories { .. } => {
                self.crawl_repositories(item, scope, effort, known).await
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

    async fn live(&self, _: &Request, _: Wanted<'_>) -> Result<Vec<Live>> {
        Ok(Vec::new())
    }
}
