//! What an identity can read in one subscription: the first request of each source, sent once.

use super::registry::registries;
use super::{is_unregistered, registration};
use crate::client::{Client, version};
use crate::error::{Error, Result};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The result of checking one kind of resource.
#[derive(Debug)]
pub struct PermissionCheck {
    /// The kind of resource, in readable form.
    pub what: &'static str,
    /// A summary of the answer, or the error.
    pub result: Result<String>,
}

/// Name of the check of marketplace images. One subscription that passes is enough, since every
/// subscription can list them.
pub const MARKETPLACE: &str = "marketplace images";

const LISTED: &str = "can be listed";

/// The remaining read quota of a subscription, from the headers of an answer.
fn quota(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("x-ms-ratelimit-remaining-subscription-reads") {
        Some(reads) => format!("{reads} reads remain"),
        None => "the response reports no quota".to_owned(),
    }
}

/// Sends one request for each kind of resource that a crawl reads in `subscription`, in `location`
/// where a request needs one. An unregistered provider (409) means that there are no such
/// resources, except for marketplace images, which cannot be listed through that subscription.
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
        PermissionCheck { what: MARKETPLACE, result: publishers.map_err(advised) },
        PermissionCheck {
            what: "galleries",
            result: unless_unregistered(galleries.map(|_| LISTED.to_owned())),
        },
        PermissionCheck {
            what: "managed images",
            result: unless_unregistered(images.map(|_| LISTED.to_owned())),
        },
        PermissionCheck {
            what: "registries",
            result: unless_unregistered(found.map(|all| format!("{} found", all.found.len()))),
        },
        PermissionCheck {
            what: "Resource Graph",
            result: graph.map(|rows| format!("{} galleries found", rows.len())),
        },
    ]
}

fn unless_unregistered(result: Result<String>) -> Result<String> {
    match result {
        Err(error) if is_unregistered(&error) => {
            Ok("the resource provider is not registered there, so none exist".to_owned())
        }
        result => result,
    }
}

/// Adds the command that registers the provider to an error about an unregistered one.
fn advised(error: Error) -> Error {
    match registration(&error.to_string()).filter(|_| is_unregistered(&error)) {
        Some(advice) => Error::new(error.kind(), format!("{error} {advice}")),
        None => error,
    }
}
