//! The bounds of a run: what its work items may cover, which is what its plan names and what
//! follows from that.
//!
//! A message is untrusted: anyone with write access to the queue may have written it. It decides
//! neither which servers receive the identity's requests nor through which subscription they are
//! sent, so an item that is neither in the plan of its run nor follows from it is refused.

use super::{
    AtRegistry, Details, GalleryScope, Plan, RegistryScope, Scope, SourceName, WorkItem, fragment,
};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What the items of one source of a run may cover, in lower case.
#[derive(Debug, Default)]
struct SourceBounds {
    subscriptions: BTreeSet<String>,
    locations: BTreeSet<String>,
}

/// What the items of a run may cover.
#[derive(Debug, Default)]
pub struct Bounds {
    within: BTreeMap<SourceName, SourceBounds>,
    /// Registries that the plan names or that are known to follow from it, by login server.
    registries: BTreeMap<String, AtRegistry>,
}

/// What remains to be verified for an item within the bounds of its run.
#[derive(Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing: the item is in the plan or follows from it.
    Fully,
    /// The item with this id, which lists the registries of a subscription, must have found the
    /// registry.
    If(String),
    /// The registry's own item, with this id, must have listed repositories.
    FromRegistry(String),
}

impl Bounds {
    /// The bounds of the run with this plan.
    pub fn of(plan: &Plan) -> Self {
        let mut bounds = Self::default();
        for item in &plan.items {
            let within = bounds.within.entry(item.source).or_default();
            within.subscriptions.extend(subscriptions(&item.scope).map(str::to_ascii_lowercase));
            within.locations.extend(location(&item.scope).map(str::to_ascii_lowercase));
            if let Scope::Registry(RegistryScope::Registry { at, .. }) = &item.scope {
                bounds.add(at);
            }
        }
        bounds
    }

    /// Adds a registry that follows from the plan.
    pub fn add(&mut self, at: &AtRegistry) {
        self.registries.insert(at.login_server.to_ascii_lowercase(), at.clone());
    }

    /// Checks whether an item is within the bounds. Returns what remains to be verified, or an
    /// error that names what is not in the plan.
    pub fn check(&self, item: &WorkItem) -> Result<Follows> {
        let refused = |what: &str, name: &str| {
            let name: String = name.chars().take(100).collect();
            let (run, id) = (item.run, &item.item);
            let text =
                format!("{id}: {what} '{}' is not in the plan of run {run}", name.escape_debug());
            Err(Error::new(ErrorKind::Denied, text))
        };
        let source = match &item.scope {
            Scope::Gallery(_) => SourceName::Gallery,
            Scope::Registry(_) => SourceName::Registry,
            _ => SourceName::Marketplace,
        };
        let Some(within) = self.within.get(&source).filter(|_| source == item.source) else {
            return refused("the source", item.source.as_str());
        };
        let has = |all: &BTreeSet<String>, name: &str| all.contains(&name.to_ascii_lowercase());
        let foreign = |name: &&str| !has(&within.subscriptions, name);
        if let Some(name) = subscriptions(&item.scope).find(foreign) {
            return refused("the subscription", name);
        }
        if let Some(name) = location(&item.scope).filter(|name| !has(&within.locations, name)) {
            return refused("the location", name);
        }
        let Scope::Registry(scope) = &item.scope else { return Ok(Follows::Fully) };
        let Some(server) = scope.login_server() else { return Ok(Follows::Fully) };
        let known = self.registries.get(&server.to_ascii_lowercase());
        match (scope, known) {
            (RegistryScope::Registry { at, .. }, known) if known != Some(at) => {
                match at.subscription() {
                    Some(subscription) => {
                        let subscription = subscription.to_owned();
                        let (state, details) = (None, Details::None);
                        let listing = RegistryScope::Registries { subscription, state, details };
                        Ok(Follows::If(listing.id()))
                    }
                    None => refused("the registry", server),
                }
            }
            (_, Some(_)) => Ok(Follows::Fully),
            (_, None) => Ok(Follows::FromRegistry(format!("{}/@registry", fragment(server)))),
        }
    }
}

/// The subscriptions that a scope covers or through which its requests are sent.
fn subscriptions(scope: &Scope) -> impl Iterator<Item = &str> {
    let (more, owner): (&[String], _) = match scope {
        Scope::Gallery(GalleryScope::SharedIn { subscriptions, .. }) => (subscriptions, None),
        Scope::Registry(RegistryScope::Registry { at, .. }) => (&[], at.subscription()),
        _ => (scope.others(), None),
    };
    let one = Some(scope.subscription()).filter(|_| names_request_subscription(scope));
    one.into_iter().chain(owner).chain(more.iter().map(String::as_str))
}

/// Whether a scope names the subscription through which its requests are sent.
fn names_request_subscription(scope: &Scope) -> bool {
    match scope {
        Scope::Registry(scope) => {
            matches!(scope, RegistryScope::Registries { .. } | RegistryScope::Findings { .. })
        }
        Scope::Gallery(GalleryScope::SharedIn { .. }) => false,
        _ => true,
    }
}

/// The location to which a scope's requests refer; `None` for a registry, whose location is only
/// informational.
fn location(scope: &Scope) -> Option<&str> {
    let is_asked = match scope {
        Scope::Registry(_) => false,
        Scope::Gallery(scope) => matches!(
            scope,
            GalleryScope::SharedIn { .. }
                | GalleryScope::CommunityIn { .. }
                | GalleryScope::Foreign { .. }
        ),
        _ => true,
    };
    Some(scope.location()).filter(|_| is_asked)
}
