//! The scopes of the registry source.

use super::Details;
use super::id::{digest, fragment};
use crate::image::resource_id::part;
use serde::{Deserialize, Serialize};

/// Stands for all tags of a repository in the place of a manifest's digest.
pub const ALL_TAGS: &str = "@tags";

/// A container registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtRegistry {
    /// Login server.
    pub login_server: String,
    /// Resource Manager id; `None` for a registry that is configured by its login server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
}

impl AtRegistry {
    /// The subscription in the Resource Manager id.
    pub fn subscription(&self) -> Option<&str> {
        part(self.registry_id.as_deref()?, "subscriptions")
    }
}

/// What one work item covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RegistryScope {
    /// A subscription's registries, which become child items.
    Registries {
        /// The subscription.
        subscription: String,
        /// The subscription's state; `None` if it is enabled or its state is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// Details to request.
        details: Details,
    },
    /// One registry's list of repositories, which become child items in batches.
    Registry {
        /// The registry.
        #[serde(flatten)]
        at: AtRegistry,
        /// Details to request.
        details: Details,
    },
    /// Manifests of some repositories.
    Repositories {
        /// Login server of the registry.
        login_server: String,
        /// The repositories.
        repositories: Vec<String>,
        /// In the first repository, only manifests after this digest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Details to request.
        details: Details,
    },
    /// All tags of a repository that is too large for one item.
    Tags {
        /// Login server of the registry.
        login_server: String,
        /// The repository.
        repository: String,
    },
    /// Manifests whose content is read.
    Contents {
        /// Login server of the registry.
        login_server: String,
        /// `[repository, digest]` of each.
        manifests: Vec<[String; 2]>,
    },
    /// Findings of scanners in a registry's images.
    Findings {
        /// Login server of the registry.
        login_server: String,
        /// Subscription of the registry.
        subscription: String,
    },
}

impl RegistryScope {
    /// The registry's location, if the scope is a whole registry and its location is known;
    /// otherwise empty.
    pub fn location(&self) -> &str {
        match self {
            Self::Registry { at, .. } => at.location.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// The subscription through which requests are sent; empty if they are sent to the registry.
    pub fn subscription(&self) -> &str {
        match self {
            Self::Registries { subscription, .. } | Self::Findings { subscription, .. } => {
                subscription
            }
            _ => "",
        }
    }

    /// The login server of the registry; `None` for a subscription's registries.
    pub fn login_server(&self) -> Option<&str> {
        match self {
            Self::Registries { .. } => None,
            Self::Registry { at, .. } => Some(&at.login_server),
            Self::Repositories { login_server, .. }
            | Self::Tags { login_server, .. }
            | Self::Contents { login_server, .. }
            | Self::Findings { login_server, .. } => Some(login_server),
        }
    }

    /// Whether processing the item depends on the previous snapshot.
    pub fn asks_what_is_known(&self) -> bool {
        matches!(self, Self::Repositories { details, .. } if !details.is_none())
    }

    /// Whether the item only adds details to rows that other items have found.
    pub fn adds_details(&self) -> bool {
        matches!(self, Self::Tags { .. } | Self::Contents { .. } | Self::Findings { .. })
    }

    pub(super) fn id(&self) -> String {
        match self {
            Self::Registries { subscription, .. } => {
                format!("@subscriptions/{}", fragment(subscription))
            }
            Self::Registry { at, .. } => format!("{}/@registry", fragment(&at.login_server)),
            Self::Repositories { login_server, repositories, after, .. } => {
                let all = repositories.iter().chain(after);
                format!("{}/repositories-{}", fragment(login_server), digest(all))
            }
            Self::Tags { login_server, repository } => {
                let repository = digest(std::iter::once(repository));
                format!("{}/tags-{repository}", fragment(login_server))
            }
            Self::Contents { login_server, manifests } => {
                format!(
                    "{}/contents-{}",
                    fragment(login_server),
                    digest(manifests.iter().flatten())
                )
            }
            Self::Findings { login_server, .. } => {
                format!("{}/@findings", fragment(login_server))
            }
        }
    }
}

/// The merge group of a registry's rows: the prefix of their ids, in lower case.
pub fn registry_group(login_server: &str) -> String {
    format!("{}/", login_server.to_ascii_lowercase())
}
