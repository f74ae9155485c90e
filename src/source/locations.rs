//! The subscriptions to ask through, and the locations that have images.

use crate::client::{Client, version};
use crate::error::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    subscription_id: String,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct Location {
    name: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    region_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    resource_types: Vec<ResourceType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceType {
    resource_type: String,
    #[serde(default)]
    locations: Vec<Value>,
}

/// "East US 2" as `eastus2`.
pub fn short_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase()
}

/// The subscriptions to ask through: those that are named, or all that the identity can see and
/// that still answer.
pub async fn subscriptions(client: &Client, named: &[String]) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let all: Vec<Subscription> = client
        .list(&["subscriptions"], &[version::SUBSCRIPTIONS.parameter()])
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Denied => error.context(NO_READER),
            _ => error,
        })?;
    let mut usable: Vec<String> = all
        .into_iter()
        .filter(|s| !matches!(s.state.as_str(), "Disabled" | "Deleted"))
        .map(|s| s.subscription_id)
        .collect();
    usable.sort();
    if usable.is_empty() {
        return Err(Error::new(ErrorKind::Denied, NO_READER));
    }
    Ok(usable)
}

const NO_READER: &str = "the identity sees no enabled subscription; give it the role Reader on one";

/// The locations to crawl, by short name, sorted: those that are wanted, or all that list images.
/// A wanted location that does not exist is an error with the nearest names.
pub async fn locations(
    client: &Client,
    subscription: &str,
    wanted: &[String],
) -> Result<Vec<String>> {
    let path = ["subscriptions", subscription, "locations"];
    let listed: Vec<Location> = client
        .list(&path, &[version::SUBSCRIPTIONS.parameter()])
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Denied => error.context(format!(
                "the identity may not read subscription {subscription}; give it the role \
                     Reader there"
            )),
            ErrorKind::NotFound => {
                error.context(format!("subscription {subscription} was not found"))
            }
            _ => error,
        })?;
    // Logical locations ("europe", "global", stages) hold no images: calls to them answer 400.
    let physical: Vec<String> = listed
        .into_iter()
        .filter(|location| !location.metadata.region_type.eq_ignore_ascii_case("Logical"))
        .map(|location| short_name(&location.name))
        .collect();
    let mut chosen = if wanted.is_empty() {
        with_images(client, subscription, physical).await?
    } else {
        let known = |name: &String| physical.contains(name);
        let wanted: Vec<String> = wanted.iter().map(|name| short_name(name)).collect();
        if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
            return Err(unknown_location(unknown, &physical));
        }
        wanted
    };
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// Those of `physical` that the compute provider lists images in, as it says itself.
async fn with_images(
    client: &Client,
    subscription: &str,
    physical: Vec<String>,
) -> Result<Vec<String>> {
    let path = ["subscriptions", subscription, "providers", "Microsoft.Compute"];
    let provider: Provider = match client.get(&path, &[version::PROVIDERS.parameter()]).await {
        Ok(provider) => provider,
        // Without the right to read the provider, a location that has no images ends as failed.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Invalid
            ) =>
        {
            return Ok(physical);
        }
        Err(error) => return Err(error),
    };
    let ours = provider
        .resource_types
        .iter()
        .filter(|kind| kind.resource_type.eq_ignore_ascii_case("locations/publishers"));
    let offered: Option<Vec<String>> = ours
        .flat_map(|kind| &kind.locations)
        .map(|name| name.as_str().filter(|name| !name.is_empty()).map(short_name))
        .collect();
    // A name that cannot be read may be that of any location.
    let Some(offered) = offered else { return Ok(physical) };
    Ok(physical.into_iter().filter(|name| offered.is_empty() || offered.contains(name)).collect())
}

fn unknown_location(name: &str, known: &[String]) -> Error {
    let mut near: Vec<_> =
        known.iter().map(|other| (strsim::jaro_winkler(name, other), other.as_str())).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let near: Vec<_> = near.into_iter().take(3).map(|(_, other)| other).collect();
    Error::invalid(format!("there is no location '{name}'; the nearest are {}", near.join(", ")))
}
