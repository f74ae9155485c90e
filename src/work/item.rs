//! A work item: its scope, and the id that follows from the scope.

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
    /// The list of publishers in one location; the publishers become child items. `after` continues
    /// a list that is too long for one invocation.
    Location {
        /// The location.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Only publishers that sort after this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Only publishers whose name contains one of these, without case; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<String>,
        /// Further subscriptions over which the publishers are spread, and fallbacks for listing
        /// the publishers if the first one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spread: Vec<String>,
        /// Details that the child items request together with their listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
        /// Maximum age in seconds of offer listings that are taken from the previous snapshot. If
        /// absent, all offers are listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offers_max_age: Option<u64>,
        /// Number of offer listings planned by earlier items of the same list.
        #[serde(default, skip_serializing_if = "is_zero")]
        planned: u32,
    },
    /// All offers of a publisher in a location.
    Publisher {
        /// The location.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Fallback subscriptions, in order, if that one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher, in the casing of the publishers listing.
        publisher: String,
        /// The offers, if they need not be listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<KnownOffers>,
        /// Details to request together with the listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
    },
    /// Some offers of a publisher that is too large for one item.
    Offers {
        /// The location.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Fallback subscriptions, in order, if that one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher.
        publisher: String,
        /// The offers.
        offers: Vec<String>,
        /// Details to request together with the listings.
        #[serde(default = "Details::none", skip_serializing_if = "Details::is_none")]
        details: Details,
    },
    /// Versions whose details are requested individually.
    Details {
        /// The location to which requests refer.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Fallback subscriptions, in order, if that one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// The publisher.
        publisher: String,
        /// `[offer, sku, version]` of each.
        images: Vec<[String; 3]>,
    },
    /// Gallery images.
    #[serde(untagged)]
    Gallery(GalleryScope),
    /// Container images.
    #[serde(untagged)]
    Registry(RegistryScope),
}

/// The offers of a publisher in a location, with the time when they were listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownOffers {
    /// Names of the offers.
    pub offers: Vec<String>,
    /// The start of the run that listed them; `None` means this run.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub listed_at: Option<OffsetDateTime>,
}

/// The position of an item among those that need the same scarce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// Number of such requests planned before it.
    pub before: u32,
    /// When they were planned, in milliseconds since 1970.
    pub since: i64,
}

impl Scope {
    /// The location to which requests refer.
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

    /// The publisher of marketplace images; `None` for a whole location.
    pub fn publisher(&self) -> Option<&str> {
        match self {
            Self::Location { .. } | Self::Gallery(_) | Self::Registry(_) => None,
            Self::Publisher { publisher, .. }
            | Self::Offers { publisher, .. }
            | Self::Details { publisher, .. } => Some(publisher),
        }
    }

    /// The subscription through which requests are sent.
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

    /// Fallback subscriptions, through which requests may be sent as well.
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

    /// Returns the same scope through the next fallback subscription; `None` if there is no other.
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

    /// The state of the subscription that the scope covers; `None` if it is enabled or its state is
    /// unknown.
    pub fn subscription_state(&self) -> Option<&str> {
        match self {
            Self::Gallery(GalleryScope::Subscription { state, .. })
            | Self::Registry(RegistryScope::Registries { state, .. }) => state.as_deref(),
            _ => None,
        }
    }

    /// Whether processing the item depends on the previous snapshot.
    pub fn asks_what_is_known(&self) -> bool {
        match self {
            Self::Location { offers_max_age, .. } => offers_max_age.is_some(),
            Self::Publisher { details, .. } | Self::Offers { details, .. } => !details.is_none(),
            Self::Details { .. } => false,
            Self::Gallery(scope) => scope.asks_what_is_known(),
            Self::Registry(scope) => scope.asks_what_is_known(),
        }
    }

    /// Whether the item may find rows; other items only have children.
    pub fn has_rows(&self) -> bool {
        !matches!(self, Self::Location { .. })
    }

    /// Whether the item only adds details to rows that another item has found.
    pub fn adds_details(&self) -> bool {
        match self {
            Self::Details { .. } | Self::Gallery(GalleryScope::Replication { .. }) => true,
            Self::Registry(scope) => scope.adds_details(),
            _ => false,
        }
    }

    /// The id of the scope's item: a path of lower-case, percent-encoded names, unique within a run
    /// and source.
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
    /// The run to which it belongs.
    pub run: RunId,
    /// Id, unique within the run and source.
    pub item: String,
    /// The source that processes it.
    pub source: SourceName,
    /// What it covers.
    pub scope: Scope,
    /// The previous snapshot, which contains what is already known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<RunId>,
    /// Its position for the scarce request; an earlier delivery would be useless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Rank>,
    /// Number of times it was put back into the queue to wait for its quota.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_off: u32,
}

impl WorkItem {
    /// Creates the item of `run` that covers `scope`.
    pub fn new(run: RunId, source: SourceName, scope: Scope) -> Self {
        let item = scope.id();
        Self { v: WORK_VERSION, run, item, source, scope, previous: None, turn: None, put_off: 0 }
    }

    /// Creates an item that follows from this one.
    #[must_use]
    pub fn child(&self, scope: Scope) -> Self {
        Self { previous: self.previous, ..Self::new(self.run, self.source, scope) }
    }

    /// Parses an item from a message. Another version, or an id that does not follow from the
    /// scope, is an error: the results would be written under a name that nothing reads.
    pub fn parse(text: &str) -> Result<Self> {
        let item: Self = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("the message is not a work item: {e}")))?;
        if item.v != WORK_VERSION {
            return Err(Error::invalid(format!(
                "the work item has version {}; this version of azimg reads version {WORK_VERSION}",
                item.v
            )));
        }
        if item.item != item.scope.id() {
            return Err(Error::invalid(format!("work item '{}' covers another scope", item.item)));
        }
        Ok(item)
    }
}

/// For `skip_serializing_if`.
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
