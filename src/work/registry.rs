//! What a work item of the registry source covers.

use super::Details;
use super::id::{digest, fragment};
use crate::image::resource_id::part;
use serde::{Deserialize, Serialize};

/// What stands for the tags of a repository where a manifest's digest stands else.
pub const ALL_TAGS: &str = "@tags";

/// A container registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtRegistry {
    /// Where it is reached.
    pub login_server: String,
    /// Its Resource Manager id; none for one that was named by its login server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Its location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Its SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
}

impl AtRegistry {
    /// The subscription in its id.
    pub fn subscription(&self) -> Option<&str> {
        part(self.registry_id.as_deref()?, "subscriptions")
    }
}

/// What one work item covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RegistryScope {
    /// A subscription's registries, which are its children.
    Registries {
        /// The subscription.
        subscription: String,
        /// The subscription's state, unless it is enabled or that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// Details that are asked for.
        details: Details,
    },
    /// One registry's list of repositories; its children are these, in batches.
    Registry {
        /// The registry.
        #[serde(flatten)]
        at: AtRegistry,
        /// Details that are asked for.
        details: Details,
    },
    /// Manifests of some repositories.
    Repositories {
        /// The registry.
        login_server: String,
        /// The repositories.
        repositories: Vec<String>,
        /// Of the first one, only manifests behind this digest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Details that are asked for.
        details: Details,
    },
    /// All tags of a repository that is too big for one item.
    Tags {
        /// The registry.
        login_server: String,
        /// The repository.
        repository: String,
    },
    /// Manifests whose content is read.
    Contents {
        /// The registry.
        login_server: String,
        /// `[repository, digest]` of each.
        manifests: Vec<[String; 2]>,
    },
    /// What scanners found in a registry's images.
    Findings {
        /// The registry.
        login_server: String,
        /// Its subscription.
        subscription: String,
    },
}

impl RegistryScope {
    /// The registry's location, where the item is about one and it is known.
    pub fn location(&self) -> &str {
        match self {
            Self::Registry { at, .. } => at.location.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// The subscription to ask through; empty where the registry itself is asked.
    pub fn subscription(&self) -> &str {
        match self {
            Self::Registries { subscription, .. } | Self::Findings { subscription, .. } => {
                subscription
            }
            _ => "",
        }
    }

    /// The registry, unless it is about a subscription.
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

    /// Whether doing it depends on what the last snapshot tells.
    pub fn asks_what_is_known(&self) -> bool {
        matches!(self, Self::Repositories { details, .. } if !details.is_none())
    }

    /// Whether it only adds to rows that other items have found.
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

/// The group that the rows of a registry are merged in: the beginning of their ids, in lower case.
pub fn registry_group(login_server: &str) -> String {
    format!("{}/", login_server.to_ascii_lowercase())
}
