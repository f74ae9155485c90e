//! What a work item of the gallery source covers.

use super::Details;
use super::id::{digest, fragment};
use serde::{Deserialize, Serialize};

/// A gallery of our own subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnGallery {
    /// Its subscription.
    pub subscription: String,
    /// Its resource group.
    pub resource_group: String,
    /// Its name.
    pub gallery: String,
}

/// How a gallery of somebody else is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// It is shared with the subscription.
    Subscription,
    /// It is shared with the tenant.
    Tenant,
    /// It is a community's.
    Community,
}

/// What one work item covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum GalleryScope {
    /// A subscription's managed images and galleries; its children are the galleries.
    Subscription {
        /// The subscription.
        subscription: String,
        /// The subscription's state, unless it is enabled or that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// Details that its galleries ask for.
        details: Details,
    },
    /// One gallery, or the definitions of it that are named.
    Gallery {
        /// The gallery.
        #[serde(flatten)]
        own: OwnGallery,
        /// Some of its definitions; empty means all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        definitions: Vec<String>,
        /// Details that are asked for.
        details: Details,
        /// Whether the provider is asked where Resource Graph would be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        provider: bool,
        /// How the gallery is shared, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sharing: Option<String>,
        /// The public names that it is published under, where that is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        public_names: Vec<String>,
    },
    /// Single versions to be asked for their replication.
    Replication {
        /// The gallery.
        #[serde(flatten)]
        own: OwnGallery,
        /// `[definition, version]` of each.
        versions: Vec<[String; 2]>,
    },
    /// The galleries that others share with us in one location; its children are these galleries.
    SharedIn {
        /// The location.
        location: String,
        /// The subscriptions that they may be shared with: all of ours, or a part of them.
        subscriptions: Vec<String>,
        /// Which part, from 0; the first one also asks for what is shared with the tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<u32>,
    },
    /// The community galleries of one location, or those of them that are named.
    CommunityIn {
        /// The location.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Subscriptions to ask through where that one cannot be asked, in turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// Public names; empty means all that Resource Graph lists.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        galleries: Vec<String>,
    },
    /// One gallery of somebody else in one location.
    Foreign {
        /// The location.
        location: String,
        /// The subscription to ask through.
        subscription: String,
        /// Subscriptions to ask through where that one cannot be asked, in turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<String>,
        /// How it is reached.
        sharing: Sharing,
        /// Its name: `{subscription}-{NAME}`, or the public name.
        gallery: String,
    },
}

impl GalleryScope {
    /// The location that is asked; empty for what is asked for everywhere at once.
    pub fn location(&self) -> &str {
        match self {
            Self::SharedIn { location, .. }
            | Self::CommunityIn { location, .. }
            | Self::Foreign { location, .. } => location,
            _ => "",
        }
    }

    /// The subscription to ask through.
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

    /// Whether doing it depends on what the last snapshot tells.
    pub fn asks_what_is_known(&self) -> bool {
        matches!(self, Self::Gallery { details, .. } if !details.is_none())
    }

    /// The beginning that the ids of all rows of this item have in common, in lower case: rows are
    /// merged by it, and what one item says cannot touch the rows of another group.
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

/// The group that a row belongs to, by its id.
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
