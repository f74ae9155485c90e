//! Live lookup: images as Azure lists them now, without a snapshot.

use super::Filter;
use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::merge::marketplace::{PublisherInput, merge_publisher};
use crate::source::{LiveListing, NameFilter, Source};
use crate::work::{Request, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use ulid::Ulid;

/// Timeout of a live lookup. An HTTP response of a function app must be sent within 230 seconds.
const WITHIN: Duration = Duration::from_secs(200);

/// Queries `sources` for the images that `filter` accepts, in the locations of `request`, for at
/// most 200 seconds. Any failed listing fails the lookup: a live answer is never partial.
pub async fn images(
    sources: &[Arc<dyn Source>],
    request: &Request,
    filter: &Filter,
    now: OffsetDateTime,
) -> Result<Vec<MarketplaceImage>> {
    let lookup = ask(sources, request, filter, now);
    tokio::time::timeout(WITHIN, lookup).await.unwrap_or_else(|_| {
        let seconds = WITHIN.as_secs();
        let text = format!(
            "Azure did not complete the list in {seconds} s; specify locations or an offer"
        );
        Err(Error::transient(text))
    })
}

/// Rejects conditions on data that a listing does not contain. They would match nothing, although
/// Azure may have such images.
fn check(filter: &Filter) -> Result<()> {
    if !filter.wants_marketplace() {
        return Err(Error::invalid("a live lookup lists only marketplace images"));
    }
    let unsupported = [
        ("os", filter.os.is_some()),
        ("plan", filter.plan.is_some()),
        ("feature", !filter.features.is_empty()),
        ("securityType", filter.security_type.is_some()),
    ];
    if let Some((name, _)) = unsupported.iter().find(|(_, is_asked)| *is_asked) {
        let text = "a live lookup cannot filter by details, such as the operating system";
        return Err(Error::invalid(text).with_target(*name));
    }
    if filter.first_seen_after.is_some() {
        let text = "a live lookup cannot filter by an earlier state of the catalog";
        return Err(Error::invalid(text).with_target("firstSeenAfter"));
    }
    Ok(())
}

async fn ask(
    sources: &[Arc<dyn Source>],
    request: &Request,
    filter: &Filter,
    now: OffsetDateTime,
) -> Result<Vec<MarketplaceImage>> {
    check(filter)?;
    let Some(publisher) = filter.publisher.as_deref().filter(|name| !name.trim().is_empty()) else {
        let text = "a live lookup requires a publisher: listing all of them takes an hour";
        return Err(Error::invalid(text).with_target("publisher"));
    };
    let fits = |wanted: Option<&String>, name: Option<&str>| match (wanted, name) {
        (Some(wanted), Some(name)) => filter.fits(wanted, name),
        _ => true,
    };
    let wanted = |name: &str, offer: Option<&str>, sku: Option<&str>| {
        filter.fits(publisher, name)
            && fits(filter.offer.as_ref(), offer)
            && fits(filter.sku.as_ref(), sku)
    };
    let wanted: NameFilter<'_> = &wanted;
    let request = Request {
        locations: if filter.locations.is_empty() {
            request.locations.clone()
        } else {
            // Excluded locations must be listed too.
            filter.locations.iter().chain(&filter.not_locations).cloned().collect()
        },
        ..request.clone()
    };
    let mut found: BTreeMap<String, BTreeMap<String, LiveListing>> = BTreeMap::new();
    for source in sources {
        // A run's request has `locations`; a lookup has repeated `location` parameters.
        let named = |error: Error| match error.target() {
            Some("locations") => error.with_target("location"),
            _ => error,
        };
        for live in source.live(&request, wanted).await.map_err(named)? {
            if let Some(gap) = live.gaps.iter().find(|gap| !gap.state.is_complete()) {
                return Err(Error::transient(format!("{}: {}", live.location, gap.reason)));
            }
            let locations = found.entry(live.publisher.to_ascii_lowercase()).or_default();
            locations.insert(live.location.clone(), live);
        }
    }
    let run = (RunId(Ulid::nil()), now.replace_nanosecond(0).unwrap_or(now));
    let mut rows = Vec::new();
    for locations in found.into_values() {
        let mut publisher = PublisherInput::default();
        for (location, live) in locations {
            if publisher.name.is_empty() {
                publisher.name = live.publisher;
            }
            publisher.fresh.add(&location, live.rows);
        }
        rows.extend(merge_publisher(publisher, &BTreeMap::new(), run).rows);
    }
    rows.retain(|row| filter.accepts(row));
    Ok(rows)
}
