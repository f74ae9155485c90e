//! Checks of the identity and of its permissions in Azure.

use super::{CheckReport, CheckState};
use crate::client::{Client, version};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::source::locations::{self, UNNAMED};
use crate::source::permissions::{self, MARKETPLACE, PermissionCheck};
use crate::source::registry::registries;
use futures::{StreamExt, stream};
use reqwest::header::HeaderMap;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// In seconds. A larger clock skew makes Azure refuse tokens and storage requests.
const WRONG: i64 = 240;
/// In seconds. A larger clock skew is reported.
const DOUBTFUL: i64 = 30;
/// The number of registries checked concurrently.
const AT_ONCE: usize = 16;
const READER: &str = "Assign the role Reader on the subscription to the identity";
const PULL: &str = "Assign AcrPull on the registry to the identity (for a registry with permissions by \
                    repository: Container Registry Repository Reader and … Catalog Lister)";

pub(super) async fn look(config: &Config, location: Option<&str>, findings: &mut CheckReport) {
    let client = match config.client() {
        Ok(client) => client,
        Err(error) => return findings.failed(("identity", ""), &error, (CheckState::Failed, "")),
    };
    let failed = |findings: &mut CheckReport, check, error| {
        findings.failed((check, "Resource Manager"), &error, (CheckState::Failed, READER));
    };
    if let Err(error) = client.each_signed_in().await {
        return failed(findings, "identity", error);
    }
    let seen = match subscriptions(config, &client, findings).await {
        Ok(seen) => seen,
        // A token that was obtained may still be refused.
        Err(error) if error.kind() == ErrorKind::SignedOut => {
            return failed(findings, "identity", error);
        }
        Err(error) => return failed(findings, "subscriptions", error),
    };
    let mut servers: BTreeSet<String> = config.named().unwrap_or_default().into_iter().collect();
    let all_registries = servers.is_empty();
    let alone = if seen.len() == 1 { CheckState::Failed } else { CheckState::Gap };
    let mut all = Vec::new();
    for subscription in seen {
        let location = match checked_location(config, &client, &subscription, location).await {
            Ok(location) => location,
            Err(error) => {
                let about = format!("subscription {subscription}");
                findings.failed(("rights", &about), &error, (alone, READER));
                continue;
            }
        };
        let rights = permissions::of_subscription(&client, &subscription, &location).await;
        if all_registries {
            let listed = registries(&client, &subscription).await.unwrap_or_default();
            for gap in listed.unread {
                let about = if gap.offer.is_empty() { &subscription } else { &gap.offer };
                findings.add("registry", about, CheckState::Gap, gap.reason);
            }
            servers.extend(listed.found.into_iter().map(|at| at.login_server));
        }
        all.push((subscription, rights));
    }
    tell(all, findings);
    versions(&client, findings);
    let looked = stream::iter(servers).map(async |server| {
        let result = repositories(config, &server).await;
        (server, result)
    });
    let looked: Vec<(String, Result<String>)> = looked.buffered(AT_ONCE).collect().await;
    for (server, result) in looked {
        findings.tried(("registry", &server), result, (CheckState::Gap, PULL));
    }
}

/// Reports missing permissions by their effect on a crawl. A subscription that cannot list
/// marketplace images is only a note if another one can: a crawl requests them through the
/// subscriptions that list them.
fn tell(all: Vec<(String, Vec<PermissionCheck>)>, findings: &mut CheckReport) {
    let is_listed = |right: &PermissionCheck| right.what == MARKETPLACE && right.result.is_ok();
    let is_marketplace_listed = all.iter().flat_map(|(_, rights)| rights).any(is_listed);
    for (subscription, PermissionCheck { what, result }) in
        all.into_iter().flat_map(|(id, rights)| rights.into_iter().map(move |r| (id.clone(), r)))
    {
        let about = format!("{what} of {subscription}");
        match result {
            Err(error) if what == MARKETPLACE && is_marketplace_listed => {
                let says = format!("{error}. A crawl queries other subscriptions for them");
                findings.add("rights", about, CheckState::Note, says);
            }
            result => findings.tried(("rights", &about), result, (CheckState::Gap, READER)),
        }
    }
}

/// Reports API versions sent in place of the intended ones, which the cloud does not offer.
fn versions(client: &Client, findings: &mut CheckReport) {
    for [resource, refused, sent] in client.other_versions() {
        let says = format!("this cloud does not offer api-version {refused}; a crawl sends {sent}");
        findings.add("versions", resource, CheckState::Note, says);
    }
}

/// Checks the token, the clock and the remaining quota. Returns the subscriptions to crawl.
async fn subscriptions(
    config: &Config,
    client: &Client,
    findings: &mut CheckReport,
) -> Result<Vec<String>> {
    let headers = client.look(&["subscriptions"], &[version::SUBSCRIPTIONS.parameter()]).await?;
    findings.add("identity", "Resource Manager", CheckState::Ok, "a token was issued and accepted");
    clock(&headers, OffsetDateTime::now_utc(), findings);
    let seen = locations::subscriptions(client, &config.request().subscriptions).await?;
    for one in &seen.all {
        match &one.state {
            _ if one.id == UNNAMED => {
                let says = "a subscription is listed without an id and cannot be queried";
                findings.add("subscriptions", &one.id, CheckState::Gap, says);
            }
            Some(state) => {
                let says =
                    format!("its state is {state}; a crawl queries it only for its own resources");
                findings.add("subscriptions", &one.id, CheckState::Note, says);
            }
            None => {}
        }
    }
    let seen = seen.usable_ids();
    let count = format!("{} to crawl", seen.len());
    findings.add("subscriptions", "Resource Manager", CheckState::Ok, count);
    Ok(seen)
}

/// Compares this machine's clock with the server's.
fn clock(headers: &HeaderMap, now: OffsetDateTime, findings: &mut CheckReport) {
    let date = headers.get("date").and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let Some(date) = date else {
        return findings.add(
            "clock",
            "this machine",
            CheckState::Note,
            "the server sent no usable Date header",
        );
    };
    let wrong = (now - OffsetDateTime::from(date)).whole_seconds();
    let way = if wrong < 0 { "behind" } else { "ahead of" };
    let (state, advice) = match wrong.abs() {
        0..=DOUBTFUL => (CheckState::Ok, ""),
        ..=WRONG => (CheckState::Note, ". Synchronize it with NTP"),
        _ => (
            CheckState::Failed,
            ". Azure refuses tokens and storage requests: synchronize it with NTP",
        ),
    };
    findings.add(
        "clock",
        "this machine",
        state,
        format!("{} s {way} the server's clock{advice}", wrong.abs()),
    );
}

/// The location used to check the marketplace.
async fn checked_location(
    config: &Config,
    client: &Client,
    subscription: &str,
    given: Option<&str>,
) -> Result<String> {
    let wanted = match given {
        Some(location) => vec![location.to_owned()],
        None => config.request().locations.iter().take(1).cloned().collect(),
    };
    let all = locations::locations(client, subscription, &wanted).await?;
    all.into_iter().next().ok_or_else(|| Error::not_found("no location lists images"))
}

async fn repositories(config: &Config, server: &str) -> Result<String> {
    Ok(match config.crawled_registry(server)?.look().await? {
        Some(name) => format!("repositories can be listed and read ({name})"),
        None => "the registry can be listed and is empty".to_owned(),
    })
}
