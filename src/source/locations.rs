//! The subscriptions through which requests are sent, and the locations that have images.

use crate::client::{Client, lenient, version};
use crate::error::{Error, ErrorKind, Result};
pub use crate::image::name::short_name;
use crate::image::names::{are, nearest, quoted};
use crate::work::left_out;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Stands for a listed subscription or location without a name. It cannot be requested, and has its
/// own line in coverage.
pub const UNNAMED: &str = "@unnamed";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    #[serde(default)]
    subscription_id: Option<String>,
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    #[serde(default)]
    name: Option<String>,
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
    // Required: an answer without it is not a provider, and is retried.
    resource_types: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceType {
    resource_type: String,
    #[serde(default)]
    locations: Vec<Value>,
}

/// A subscription that is visible to the identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VisibleSubscription {
    /// Subscription id, or [`UNNAMED`].
    pub id: String,
    /// State of the subscription; `None` if it is enabled or its state is unknown.
    pub state: Option<String>,
}

impl VisibleSubscription {
    fn is(&self, state: &str) -> bool {
        self.state.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(state))
    }
}

/// The subscriptions of a run: those in the request, or all that are visible to the identity.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    /// All subscriptions, sorted; an unnamed one comes last.
    pub all: Vec<VisibleSubscription>,
}

impl Subscriptions {
    /// The usable subscriptions, for data that is the same in each: named, and neither disabled nor
    /// deleted.
    pub fn usable_ids(&self) -> Vec<String> {
        let usable = |one: &&VisibleSubscription| {
            one.id != UNNAMED && !one.is("Disabled") && !one.is("Deleted")
        };
        self.all.iter().filter(usable).map(|one| one.id.clone()).collect()
    }

    /// The subscriptions with which galleries may be shared: all but deleted ones.
    pub fn shared_with(&self) -> Vec<String> {
        self.all.iter().filter(|one| !one.is("Deleted")).map(|one| one.id.clone()).collect()
    }
}

/// Returns the subscriptions of a run: those in `named`, or all that are visible to the identity.
/// Fails if none of the visible ones is usable.
pub async fn subscriptions(client: &Client, named: &[String]) -> Result<Subscriptions> {
    if !named.is_empty() {
        let all =
            named.iter().map(|id| VisibleSubscription { id: id.clone(), state: None }).collect();
        return Ok(Subscriptions { all });
    }
    let listed: Vec<Value> = client
        .list(&["subscriptions"], &[version::SUBSCRIPTIONS.parameter()])
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Denied => error.context(NO_READER),
            _ => error,
        })?;
    let mut all = Vec::new();
    let mut is_whole = true;
    for row in &listed {
        let read: Option<Subscription> = of_list(row, version::SUBSCRIPTIONS.resource);
        let state = read.as_ref().and_then(|one| one.state.clone());
        let state =
            state.filter(|state| !state.is_empty() && !state.eq_ignore_ascii_case("Enabled"));
        match read.and_then(|one| one.subscription_id).filter(|id| is_name(id)) {
            Some(id) => all.push(VisibleSubscription { id, state }),
            None => is_whole = false,
        }
    }
    all.sort();
    all.dedup_by(|a, b| a.id == b.id);
    if !is_whole {
        all.push(VisibleSubscription { id: UNNAMED.to_owned(), state: None });
    }
    let seen = Subscriptions { all };
    if seen.usable_ids().is_empty() {
        let states = seen.all.iter().map(|one| match &one.state {
            Some(state) => format!("{} is {state}", one.id),
            None => "one has no id".to_owned(),
        });
        let states: Vec<String> = states.take(5).collect();
        let states =
            if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
        return Err(Error::new(ErrorKind::Denied, format!("{NO_READER}{states}")));
    }
    Ok(seen)
}

const NO_READER: &str =
    "no enabled subscription is visible to the identity; assign it the role Reader on one";

/// Reads a row of a list leniently; `None` if it cannot be read.
fn of_list<T: DeserializeOwned>(row: &Value, resource: &str) -> Option<T> {
    match lenient::of_value(row) {
        Ok((read, malformed)) => {
            lenient::log_malformed(resource, &malformed);
            Some(read)
        }
        Err(error) => {
            lenient::log_malformed(resource, &vec![(format!("value[]: {error}"), 1)]);
            None
        }
    }
}

/// Whether a subscription or location name consists of plain characters only, since it becomes part
/// of URLs.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_".contains(c);
    !name.is_empty() && name.len() <= 90 && name.chars().all(plain)
}

/// Whether an error means that the subscription itself is unusable, so that another one may
/// succeed: it may not be read, has not registered the provider, is disabled, or is not visible.
pub(super) fn is_closed(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Conflict => true,
        ErrorKind::NotFound => error.has_code("SubscriptionNotFound"),
        _ => false,
    }
}

/// Returns the first of `subscriptions` whose locations may be read, with the locations to crawl.
/// If none may be read, returns the error of the first one.
pub async fn first_readable(
    client: &Client,
    subscriptions: &[String],
    wanted: &[String],
) -> Result<(String, Vec<String>)> {
    let mut refused = None;
    for subscription in subscriptions {
        match locations(client, subscription, wanted).await {
            Ok(locations) => return Ok((subscription.clone(), locations)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict
                ) =>
            {
                refused = refused.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::new(ErrorKind::Denied, NO_READER)))
}

/// Returns the locations to crawl as short names, sorted: those in `wanted`, or all that list
/// images, without those that are [left out](left_out). Appends [`UNNAMED`] if a listed location
/// has no name. An unknown location in `wanted` is an error that suggests the nearest names.
pub async fn locations(
    client: &Client,
    subscription: &str,
    wanted: &[String],
) -> Result<Vec<String>> {
    let path = ["subscriptions", subscription, "locations"];
    let listed: Vec<Value> = client
        .list(&path, &[version::SUBSCRIPTIONS.parameter()])
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Denied => error.context(format!(
                "the identity cannot read subscription {subscription}; assign it the role Reader \
                 there"
            )),
            ErrorKind::NotFound => {
                error.context(format!("subscription {subscription} was not found"))
            }
            _ => error,
        })?;
    let (physical, is_whole) = physical(&listed);
    let excluded = wanted.iter().filter_map(|name| left_out(name));
    let excluded: Vec<String> = excluded.map(short_name).collect();
    let named = wanted.iter().filter(|name| left_out(name).is_none());
    let named: Vec<String> = named.map(|name| short_name(name)).collect();
    let unknown = named.iter().chain(&excluded).find(|name| !physical.contains(name));
    // If a listed location has no name, it may be the unknown one.
    if let Some(unknown) = unknown.filter(|_| is_whole) {
        return Err(unknown_location(unknown, &physical));
    }
    let is_open = named.is_empty();
    let mut chosen =
        if is_open { with_images(client, subscription, physical).await? } else { named };
    chosen.retain(|name| !excluded.contains(name));
    if chosen.is_empty() && !excluded.is_empty() {
        return Err(Error::invalid("no location to crawl: all are excluded"));
    }
    chosen.sort();
    chosen.dedup();
    if is_open && !is_whole {
        chosen.push(UNNAMED.to_owned());
    }
    Ok(chosen)
}

/// The physical locations in a list, and whether all of them have names. Logical ones ("europe",
/// "global", stages) hold no images: calls to them answer 400.
fn physical(listed: &[Value]) -> (Vec<String>, bool) {
    let mut physical = Vec::new();
    let mut is_whole = true;
    for row in listed {
        let read: Option<Location> = of_list(row, "subscriptions/locations");
        if read.as_ref().is_some_and(|one| one.metadata.region_type.eq_ignore_ascii_case("Logical"))
        {
            continue;
        }
        match read.and_then(|one| one.name).map(|name| short_name(&name)).filter(|n| is_name(n)) {
            Some(name) => physical.push(name),
            None => is_whole = false,
        }
    }
    (physical, is_whole)
}

/// The locations among `physical` in which the compute provider lists images, according to the
/// provider.
async fn with_images(
    client: &Client,
    subscription: &str,
    physical: Vec<String>,
) -> Result<Vec<String>> {
    let path = ["subscriptions", subscription, "providers", "Microsoft.Compute"];
    let provider: Provider = match client.get(&path, &[version::PROVIDERS.parameter()]).await {
        Ok(provider) => provider,
        // Without the right to read the provider, all locations are crawled, and one without images
        // ends as failed.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::BadAnswer
            ) =>
        {
            return Ok(physical);
        }
        Err(error) => return Err(error),
    };
    let kinds = provider.resource_types.iter();
    let kinds: Vec<ResourceType> =
        kinds.filter_map(|kind| of_list(kind, version::PROVIDERS.resource)).collect();
    let ours =
        kinds.iter().filter(|kind| kind.resource_type.eq_ignore_ascii_case("locations/publishers"));
    let offered: Option<Vec<String>> = ours
        .flat_map(|kind| &kind.locations)
        .map(|name| name.as_str().filter(|name| !name.is_empty()).map(short_name))
        .collect();
    // An unreadable name could belong to any location.
    let Some(offered) = offered else { return Ok(physical) };
    Ok(physical.into_iter().filter(|name| offered.is_empty() || offered.contains(name)).collect())
}

fn unknown_location(name: &str, known: &[String]) -> Error {
    let near = nearest(name, known.iter().map(String::as_str));
    let near = if near.is_empty() { String::new() } else { format!("; {}", are(&near)) };
    let text = format!("no location {}{near}", quoted(name));
    Error::invalid(text).with_target("locations")
}
