//! What an identity may read in one subscription: what each source asks first, asked once.

use super::registry::registries;
use super::{is_unregistered, registration};
use crate::client::{Client, version};
use crate::error::{Error, Result};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// One thing that a source reads.
#[derive(Debug)]
pub struct PermissionCheck {
    /// What is read, in a person's words.
    pub what: &'static str,
    /// What the answer said, or why there is none.
    pub told: Result<String>,
}

/// What any subscription can tell.
pub const MARKETPLACE: &str = "marketplace images";

const LISTED: &str = "can be listed";

/// What the head of an answer tells of the quota of a subscription.
fn quota(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("x-ms-ratelimit-remaining-subscription-reads") {
        Some(reads) => format!("{reads} reads remain"),
        None => "the answer tells no quota".to_owned(),
    }
}

/// Asks for one thing of each kind that a crawl reads in `subscription`, in `location` where one must be
/// named. Where a provider is not registered (409) nothing of it can be there; but nobody lists marketplace images
/// through it.
pub async fn of_subscription(
    client: &Client,
    subscription: &str,
    location: &str,
) -> Vec<PermissionCheck> {
    let compute = ["subscriptions", subscription, "providers", "Microsoft.Compute"];
    let at = |below: &[&'static str]| -> Vec<&str> {
        compute.iter().copied().chain(below.iter().copied()).collect()
    };
    let publishers: Vec<&str> =
        compute.iter().copied().chain(["locations", location, "publishers"]).collect();
    let publishers = client
        .look(&publishers, &[version::VM_IMAGES.parameter()])
        .await
        .map(|headers| quota(&headers));
    let galleries = client.look(&at(&["galleries"]), &[version::GALLERIES.parameter()]).await;
    let images = client.look(&at(&["images"]), &[version::MANAGED_IMAGES.parameter()]).await;
    let found = registries(client, subscription).await;
    let query =
        "resources | where type =~ 'microsoft.compute/galleries' | project id | order by id asc";
    let graph = client.graph::<Value>(query, &[subscription.to_owned()]).await;
    vec![
        PermissionCheck { what: MARKETPLACE, told: publishers.map_err(advised) },
        PermissionCheck {
            what: "galleries",
            told: unless_unregistered(galleries.map(|_| LISTED.to_owned())),
        },
        PermissionCheck {
            what: "managed images",
            told: unless_unregistered(images.map(|_| LISTED.to_owned())),
        },
        PermissionCheck {
            what: "registries",
            told: unless_unregistered(found.map(|all| format!("{} there", all.found.len()))),
        },
        PermissionCheck {
            what: "Resource Graph",
            told: graph.map(|rows| format!("{} galleries seen", rows.len())),
        },
    ]
}

fn unless_unregistered(told: Result<String>) -> Result<String> {
    match told {
        Err(error) if is_unregistered(&error) => {
            Ok("the provider is not registered there, so there are none".to_owned())
        }
        told => told,
    }
}

/// What is not registered, with the command that registers it.
fn advised(error: Error) -> Error {
    match registration(&error.to_string()).filter(|_| is_unregistered(&error)) {
        Some(advice) => Error::new(error.kind(), format!("{error} {advice}")),
        None => error,
    }
}
