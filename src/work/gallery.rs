//! The scopes of the gallery source.

use super::Details;
use super::id::{digest, fragment};
use serde::{Deserialize, Serialize};

/// A gallery of our own subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnGallery {
    /// Subscription id.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the gallery.
    pub gallery: String,
}

/// How a gallery of another owner is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// It is shared with the subscription.
    Subscription,
    /// It is shared with the tenant.
    Tenant,
    /// It is a community gallery.
    Community,
}

/// What one work item covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum GalleryScope {
    /// A subscription's managed images and galleries; the galleries become child items.
    Subscription {
        /// The subscription.
        subscription: String,
        /// The subscription's state; `None` if it is enabled or its state is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// Details to request for its galleries.
        details: Details,
    },
    /// One gallery, or some of its definitions.
    Gallery {
        /// The gallery.
        #[serde(flatten)]
        own: OwnGallery,
        /// Names of definitions; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        definitions: Vec<String>,
        /// Details to request.
        details: Details,
        /// Whether to list the contents through the provider instead of Resource Graph.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        provider: bool,
        /// How the gallery is shared, if that is already known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sharing: Option<String>,
        /// The gallery's public names, if they are already known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        public_names: Vec<String>,
    },
    /// Versions whose replication status is requested individually.
    Replication {
        /// The gallery.
        #[serde(flatten)]
        own: OwnGallery,
        /// `[definition, version]` of each.
        versions: Vec<[String; 2]>,
    },
    /// The galleries that other owners share with us in one location; each becomes a child item.
    SharedIn {
        /// The location.
        location: String,
        /// The subscriptions with which they may be shared: all of ours, or one part of them.
        subscriptions: Vec<String>,
        /// Index of the part, from 0. The first part also requests what is shared with the tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<u32>,
    },
    /// The community galleries of one location, or some of them.
    CommunityIn {
        /// The location.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Fallback subscriptions, in order, if that one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// Public names; empty means all that Resource Graph lists.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        galleries: Vec<String>,
    },
    /// One gallery of another owner in one location.
    Foreign {
        /// The location.
        location: String,
        /// The subscription through which requests are sent.
        subscription: String,
        /// Fallback subscriptions, in order, if that one is unusable.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// How the gallery is reached.
        sharing: Sharing,
        /// Name of the gallery: `{subscription}-{NAME}`, or the public name.
        gallery: String,
    },
}

impl GalleryScope {
    /// The location to which requests refer; empty for scopes that cover all locations.
    pub fn location(&self) -> &str {
        match self {
            Self::SharedIn { location, .. }
            | Self::CommunityIn { location, .. }
            | Self::Foreign { location, .. } => location,
            _ => "",
        }
    }

    /// The subscription through which requests are sent.
    pub fn subscription(&self) -> &str {
        match self {
            Self::Subscription { subscription, .. }
            | Self::CommunityIn { subscription, .. }
            | Self::Foreign { subscription, .. } => subscription,
            Self::Gallery { own, .. } | Self::Replication { own, .. } => &own.subscription,
            Self::SharedIn { subscriptions, .. } => {
                subscriptions.first().map(String::as_str).unwrap_or_default()
            }
        }
    }

    /// Whether processing the item depends on the previous snapshot.
    pub fn asks_what_is_known(&self) -> bool {
        matches!(self, Self::Gallery { details, .. } if !details.is_none())
    }

    /// The common prefix of the ids of all rows of this item, in lower case. Rows are merged by
    /// this group, so an item cannot affect the rows of another group.
    pub fn group(&self) -> String {
        match self {
            Self::Subscription { subscription, .. } => own_group(subscription),
            Self::Gallery { own, .. } | Self::Replication { own, .. } => {
                own_group(&own.subscription)
            }
            Self::CommunityIn { .. } | Self::Foreign { sharing: Sharing::Community, .. } => {
                COMMUNITY.to_owned()
            }
            Self::SharedIn { .. } | Self::Foreign { .. } => SHARED.to_owned(),
        }
    }

    pub(super) fn id(&self) -> String {
        let at = |own: &OwnGallery| {
            let names = [&own.subscription, &own.resource_group, &own.gallery];
            names.map(|name| fragment(name)).join("/")
        };
        match self {
            Self::Subscription { subscription, .. } => {
                format!("{}/@subscription", fragment(subscription))
            }
            Self::Gallery { own, definitions, provider, .. } => {
                let via = if *provider { "@provider" } else { "" };
                match definitions[..] {
                    [] => format!("{}{via}", at(own)),
                    _ => format!("{}@{}{via}", at(own), digest(definitions.iter())),
                }
            }
            Self::Replication { own, versions } => {
                format!("{}@replication-{}", at(own), digest(versions.iter().flatten()))
            }
            Self::SharedIn { location, part: None, .. } => {
                format!("@shared/{}", fragment(location))
            }
            Self::SharedIn { location, part: Some(part), .. } => {
                format!("@shared/{}@{part}", fragment(location))
            }
            Self::CommunityIn { location, galleries, .. } if galleries.is_empty() => {
                format!("@community/{}", fragment(location))
            }
            Self::CommunityIn { location, galleries, .. } => {
                format!("@community/{}@{}", fragment(location), digest(galleries.iter()))
            }
            Self::Foreign { location, sharing, gallery, .. } => {
                let kind = if *sharing == Sharing::Community { "community" } else { "shared" };
                format!("@{kind}/{}/{}", fragment(location), fragment(gallery))
            }
        }
    }
}

const SHARED: &str = "/sharedgalleries/";
const COMMUNITY: &str = "/communitygalleries/";

fn own_group(subscription: &str) -> String {
    format!("/subscriptions/{}/", subscription.to_ascii_lowercase())
}

/// The group of the row with this id.
pub fn group_of(id: &str) -> String {
    let lower = id.to_ascii_lowercase();
    let parts = if lower.starts_with("/subscriptions/") { 2 } else { 1 };
    let end = lower.match_indices('/').nth(parts).map_or(lower.len(), |(at, _)| at + 1);
    lower[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_items_agree_on_their_group() {
        let own = OwnGallery {
            subscription: "ABC".into(),
            resource_group: "r".into(),
            gallery: "g".into(),
        };
        let scope = GalleryScope::Replication { own, versions: Vec::new() };
        let id = "/subscriptions/abc/resourceGroups/R/providers/x/galleries/g/images/i";
        assert_eq!(scope.group(), group_of(id));
        let foreign = |sharing| GalleryScope::Foreign {
            location: "l".into(),
            subscription: "s".into(),
            otherwise: Vec::new(),
            sharing,
            gallery: "g".into(),
        };
        let community = foreign(Sharing::Community).group();
        assert_eq!(community, group_of("/CommunityGalleries/g/Images/i"));
        assert_eq!(foreign(Sharing::Tenant).group(), group_of("/SharedGalleries/g/Images/i"));
        assert_eq!(group_of(""), "");
    }
}
