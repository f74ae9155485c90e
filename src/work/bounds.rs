//! What the items of a run may be about: what its plan names, and what follows from that.
//!
//! A message is a text that whoever may write to the queue wrote. It decides neither whom the identity speaks to nor
//! through which subscription: an item that neither is in the plan of its run nor follows from it is none.

use super::{
    AtRegistry, Details, GalleryScope, Plan, RegistryScope, Scope, SourceName, WorkItem, fragment,
};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What the items of one source of a run may be about, in lower case.
#[derive(Debug, Default)]
struct SourceBounds {
    subscriptions: BTreeSet<String>,
    locations: BTreeSet<String>,
}

/// What the items of a run may be about.
#[derive(Debug, Default)]
pub struct Bounds {
    within: BTreeMap<SourceName, SourceBounds>,
    /// Registries that the plan names, and those that are known to follow from it, by their login servers.
    registries: BTreeMap<String, AtRegistry>,
}

/// What is still to be found out of an item that is within the bounds of its run.
#[derive(Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing: it is in the plan, or follows from it.
    Fully,
    /// The listing of its subscription, an item of that id, has to have found the registry.
    If(String),
    /// The registry's own item, of that id, has to have listed repositories.
    Behind(String),
}

impl Bounds {
    /// The bounds of the run that was planned so.
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

    /// A registry follows from the plan.
    pub fn add(&mut self, at: &AtRegistry) {
        self.registries.insert(at.login_server.to_ascii_lowercase(), at.clone());
    }

    /// Whether an item is within these bounds, and what of that is still to be found out. An error says what is not in
    /// the plan.
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
            (_, None) => Ok(Follows::Behind(format!("{}/@registry", fragment(server)))),
        }
    }
}

/// The subscriptions that a scope is about or asked through.
fn subscriptions(scope: &Scope) -> impl Iterator<Item = &str> {
    let (more, owner): (&[String], _) = match scope {
        Scope::Gallery(GalleryScope::SharedIn { subscriptions, .. }) => (subscriptions, None),
        Scope::Registry(RegistryScope::Registry { at, .. }) => (&[], at.subscription()),
        _ => (scope.others(), None),
    };
    let one = Some(scope.subscription()).filter(|_| is_asked_through_one(scope));
    one.into_iter().chain(owner).chain(more.iter().map(String::as_str))
}

/// Whether a scope says which subscription it is asked through.
fn is_asked_through_one(scope: &Scope) -> bool {
    match scope {
        Scope::Registry(scope) => {
            matches!(scope, RegistryScope::Registries { .. } | RegistryScope::Findings { .. })
        }
        Scope::Gallery(GalleryScope::SharedIn { .. }) => false,
        _ => true,
    }
}

/// The location that a scope is asked in. That of a registry is only told.
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
