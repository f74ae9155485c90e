//! A work item: what it covers, and the name that follows from that.

use super::gallery::GalleryScope;
use super::id::{digest, fragment};
use super::registry::RegistryScope;
use super::{Details, RunId, SourceName, WORK_VERSION};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What one work item covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Scope {
    /// One location's list of publishers; its children are the publishers. `after` continues a
    /// list that is longer than one invocation may emit.
    Location {
        /// The location.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Only publishers behind this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Only publishers whose name contains one of these, without case; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<String>,
        /// Further subscriptions over which its publishers are spread, and through which the list is asked for
        /// where the first one cannot be asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spread: Vec<String>,
        /// Details that its publishers ask for together with their listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
        /// Offers that were listed less than so many seconds ago are taken from the last snapshot;
        /// without it all are listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offers_max_age: Option<u64>,
        /// Listings of offers that were planned before these.
        #[serde(default, skip_serializing_if = "is_zero")]
        planned: u32,
    },
    /// All offers of a publisher in a location.
    Publisher {
        /// The location.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Subscriptions to ask through where that one cannot be asked, in turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher, in the casing of the publishers listing.
        publisher: String,
        /// Its offers, when they need not be listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<KnownOffers>,
        /// Details that are asked for together with the listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
    },
    /// Some offers of a publisher that is too big for one item.
    Offers {
        /// The location.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Subscriptions to ask through where that one cannot be asked, in turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher.
        publisher: String,
        /// The offers.
        offers: Vec<String>,
        /// Details that are asked for together with the listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
    },
    /// Single versions to be asked for their details.
    Details {
        /// The location to ask in.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Subscriptions to ask through where that one cannot be asked, in turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher.
        publisher: String,
        /// `[offer, sku, version]` of each.
        images: Vec<[String; 3]>,
    },
    /// Images of galleries.
    #[serde(untagged)]
    Gallery(GalleryScope),
    /// Container images.
    #[serde(untagged)]
    Registry(RegistryScope),
}

/// Offers of a publisher in a location, and when they were listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownOffers {
    /// The offers.
    pub offers: Vec<String>,
    /// The start of the run that listed them; none means this run.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub listed_at: Option<OffsetDateTime>,
}

/// When the scarce request of an item has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// How many such requests were planned before it.
    pub before: u32,
    /// When they were planned, in milliseconds since 1970.
    pub since: i64,
}

impl Scope {
    /// The location that is asked.
    pub fn location(&self) -> &str {
        match self {
            Self::Location { location, .. }
            | Self::Publisher { location, .. }
            | Self::Offers { location, .. }
            | Self::Details { location, .. } => location,
            Self::Gallery(scope) => scope.location(),
            Self::Registry(scope) => scope.location(),
        }
    }

    /// The publisher of marketplace images, unless the scope is a whole location.
    pub fn publisher(&self) -> Option<&str> {
        match self {
            Self::Location { .. } | Self::Gallery(_) | Self::Registry(_) => None,
            Self::Publisher { publisher, .. }
            | Self::Offers { publisher, .. }
            | Self::Details { publisher, .. } => Some(publisher),
        }
    }

    /// The subscription to ask through.
    pub fn subscription(&self) -> &str {
        match self {
            Self::Location { subscription, .. }
            | Self::Publisher { subscription, .. }
            | Self::Offers { subscription, .. }
            | Self::Details { subscription, .. } => subscription,
            Self::Gallery(scope) => scope.subscription(),
            Self::Registry(scope) => scope.subscription(),
        }
    }

    /// Further subscriptions that it may be asked through.
    pub fn others(&self) -> &[String] {
        match self {
            Self::Location { spread: others, .. }
            | Self::Publisher { otherwise: others, .. }
            | Self::Offers { otherwise: others, .. }
            | Self::Details { otherwise: others, .. }
            | Self::Gallery(
                GalleryScope::CommunityIn { otherwise: others, .. }
                | GalleryScope::Foreign { otherwise: others, .. },
            ) => others,
            Self::Gallery(_) | Self::Registry(_) => &[],
        }
    }

    /// The same through the next of the subscriptions that it names; none when there is no other.
    pub fn through_another(&self) -> Option<Self> {
        let mut scope = self.clone();
        let (subscription, others) = match &mut scope {
            Self::Location { subscription, spread: others, .. }
            | Self::Publisher { subscription, otherwise: others, .. }
            | Self::Offers { subscription, otherwise: others, .. }
            | Self::Details { subscription, otherwise: others, .. }
            | Self::Gallery(
                GalleryScope::CommunityIn { subscription, otherwise: others, .. }
                | GalleryScope::Foreign { subscription, otherwise: others, .. },
            ) => (subscription, others),
            Self::Gallery(_) | Self::Registry(_) => return None,
        };
        if others.is_empty() {
            return None;
        }
        *subscription = others.remove(0);
        Some(scope)
    }

    /// The state of the subscription that it is about, unless that is enabled or not known.
    pub fn subscription_state(&self) -> Option<&str> {
        match self {
            Self::Gallery(GalleryScope::Subscription { state, .. })
            | Self::Registry(RegistryScope::Registries { state, .. }) => state.as_deref(),
            _ => None,
        }
    }

    /// Whether doing it depends on what the last snapshot tells.
    pub fn asks_what_is_known(&self) -> bool {
        match self {
            Self::Location { offers_max_age, .. } => offers_max_age.is_some(),
            Self::Publisher { details, .. } | Self::Offers { details, .. } => !details.is_none(),
            Self::Details { .. } => false,
            Self::Gallery(scope) => scope.asks_what_is_known(),
            Self::Registry(scope) => scope.asks_what_is_known(),
        }
    }

    /// Whether its item may find rows; others only lead to further items.
    pub fn has_rows(&self) -> bool {
        !matches!(self, Self::Location { .. })
    }

    /// Whether it only adds to rows that another item has found.
    pub fn adds_details(&self) -> bool {
        match self {
            Self::Details { .. } | Self::Gallery(GalleryScope::Replication { .. }) => true,
            Self::Registry(scope) => scope.adds_details(),
            _ => false,
        }
    }

    /// The item's id: a path of lower-case, percent-encoded names, unique within run and source.
    pub(crate) fn id(&self) -> String {
        let location = fragment(self.location());
        match self {
            Self::Gallery(scope) => scope.id(),
            Self::Registry(scope) => scope.id(),
            Self::Location { after: None, .. } => format!("{location}/@publishers"),
            Self::Location { after: Some(after), .. } => {
                format!("{location}/@publishers@{}", fragment(after))
            }
            Self::Publisher { publisher, .. } => format!("{location}/{}", fragment(publisher)),
            Self::Offers { publisher, offers, .. } => {
                format!("{location}/{}@{}", fragment(publisher), digest(offers.iter()))
            }
            Self::Details { publisher, images, .. } => {
                let digest = digest(images.iter().flatten());
                format!("{location}/{}@details-{digest}", fragment(publisher))
            }
        }
    }
}

/// One unit of work: the text of a message on the queue `azimg-work`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkItem {
    /// [`WORK_VERSION`].
    pub v: u32,
    /// The run it belongs to.
    pub run: RunId,
    /// Its id within the run and source.
    pub item: String,
    /// Where to ask.
    pub source: SourceName,
    /// What it covers.
    pub scope: Scope,
    /// The snapshot that tells what is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<RunId>,
    /// When its scarce request has its turn; no delivery before it is worth while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Rank>,
    /// How often it went back to the queue to wait for its quota.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_off: u32,
}

impl WorkItem {
    /// The item of `run` that covers `scope`.
    pub fn new(run: RunId, source: SourceName, scope: Scope) -> Self {
        let item = scope.id();
        Self { v: WORK_VERSION, run, item, source, scope, previous: None, turn: None, put_off: 0 }
    }

    /// An item that follows from this one.
    #[must_use]
    pub fn child(&self, scope: Scope) -> Self {
        Self { previous: self.previous, ..Self::new(self.run, self.source, scope) }
    }

    /// Reads an item from a message. A foreign version and an id that does not follow from the
    /// scope are refused: they would be written under a name that nobody looks for.
    pub fn parse(text: &str) -> Result<Self> {
        let item: Self = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("a message that is no work item: {e}")))?;
        if item.v != WORK_VERSION {
            return Err(Error::invalid(format!(
                "work item of version {}; this azimg reads version {WORK_VERSION}",
                item.v
            )));
        }
        if item.item != item.scope.id() {
            return Err(Error::invalid(format!("work item '{}' covers another scope", item.item)));
        }
        Ok(item)
    }
}

/// For fields that are left out when they are zero.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_scope_and_are_safe_names() {
        let run = RunId::new(OffsetDateTime::UNIX_EPOCH);
        let publisher = |name: &str| {
            WorkItem::new(
                run,
                SourceName::Marketplace,
                Scope::Publisher {
                    location: "eastus".into(),
                    subscription: "s".into(),
                    otherwise: Vec::new(),
                    publisher: name.into(),
                    known: None,
                    details: Details::None,
                },
            )
        };
        assert_eq!(publisher("Canonical").item, "eastus/canonical");
        assert_eq!(publisher("a/../b c").item, "eastus/a%2F..%2Fb%20c");
        assert_eq!(publisher("..").item, "eastus/%2E.");
        let (one, other) = (format!("{}1", "ü".repeat(99)), format!("{}2", "ü".repeat(99)));
        assert_ne!(publisher(&one).item, publisher(&other).item);
        assert!(publisher(&one).item.len() < 200);
        let text = serde_json::to_string(&publisher("x")).unwrap();
        assert_eq!(WorkItem::parse(&text).unwrap(), publisher("x"));
        assert!(WorkItem::parse(&text.replace("eastus/x", "eastus/y")).is_err());
        assert!(WorkItem::parse(&text.replace("\"v\":1", "\"v\":9")).is_err());
        assert!(WorkItem::parse("{}").is_err());
    }
}
