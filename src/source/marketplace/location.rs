//! Turns a location's list of publishers into work items: which publishers are listed anew, in what
//! order, and which are taken from the previous snapshot.
//!
//! Listing offers is the scarce operation, so its order is planned: publishers with the most offers
//! come first, so that their remaining work fills the time until the last listing is permitted.

use super::listing_path::ListingPath;
use crate::image::name::caseless;
use crate::image::names::{are, nearest, quoted};
use crate::source::PreviousFindings;
use crate::work::{KnownOffers, MOST_MESSAGES, Rank, Scope, WorkItem};
use std::cmp::Reverse;
use std::collections::HashSet;
use time::OffsetDateTime;

/// Size limit for the offer names in a message, in bytes. Publishers with more are listed anew.
const MOST_KNOWN_BYTES: usize = 24 << 10;

/// Maximum number of unknown publisher names that are reported for a location.
const MOST_UNKNOWN: usize = 5;

/// Maximum age of offer listings, and the interval at which runs renew them.
#[derive(Clone, Copy)]
struct Rotation {
    most_seconds: u64,
    /// Time from the previous run to this one; the next run is assumed to be equally far away.
    interval_seconds: u64,
    now: OffsetDateTime,
}

impl Rotation {
    fn of(item: &WorkItem, offers_max_age: Option<u64>) -> Option<Self> {
        let previous = item.previous?;
        let millis = item.run.millis();
        let now = i128::from(millis) * 1_000_000;
        Some(Self {
            most_seconds: offers_max_age?,
            interval_seconds: millis.saturating_sub(previous.millis()) / 1_000,
            now: OffsetDateTime::from_unix_timestamp_nanos(now).ok()?,
        })
    }

    /// Selects the publishers of `known` (listing time, name) to list again: all that would be too
    /// old at the next run, and enough of the oldest for each to be renewed in time.
    fn due(self, mut known: Vec<(OffsetDateTime, &str)>) -> HashSet<&str> {
        known.sort();
        let total = known.len() as u64;
        let share = (total * self.interval_seconds).div_ceil(self.most_seconds.max(1));
        let due = |at: OffsetDateTime| {
            let age = u64::try_from((self.now - at).whole_seconds()).unwrap_or(0);
            age + self.interval_seconds >= self.most_seconds
        };
        let due = known.iter().zip(0..).filter(|((at, _), index)| *index < share || due(*at));
        due.map(|((_, name), _)| *name).collect()
    }
}

/// Returns items for the publishers of `item`'s location that fit into one invocation, followed by
/// a continuation item if there are more. `publishers` must be sorted.
pub(super) fn items(
    item: &WorkItem,
    publishers: Vec<String>,
    known: &PreviousFindings,
    now: OffsetDateTime,
) -> Vec<WorkItem> {
    let Scope::Location {
        location,
        subscription,
        after,
        only,
        spread,
        details,
        offers_max_age,
        planned,
    } = &item.scope
    else {
        return Vec::new();
    };
    let matches_names = |name: &String| {
        let lower = name.to_ascii_lowercase();
        only.is_empty() || only.iter().any(|part| lower.contains(&part.to_ascii_lowercase()))
    };
    let follows_cursor =
        |name: &String| after.as_ref().is_none_or(|after| caseless(name, after).is_gt());
    let mut publishers =
        publishers.into_iter().filter(|name| matches_names(name) && follows_cursor(name));
    let batch: Vec<String> = publishers.by_ref().take(MOST_MESSAGES - 1).collect();
    let more = publishers.next().is_some();

    let subscriptions: Vec<&String> = std::iter::once(subscription).chain(spread).collect();
    let to = |publisher: &String, turn: usize, known: Option<KnownOffers>| {
        let through = subscriptions[turn % subscriptions.len()];
        // The subscription that listed this location is known to be usable there.
        let otherwise = if through == subscription { spread.first() } else { Some(subscription) };
        Scope::Publisher {
            location: location.clone(),
            subscription: through.clone(),
            otherwise: otherwise.into_iter().cloned().collect(),
            publisher: publisher.clone(),
            known,
            details: *details,
        }
    };
    let (listed, taken) = split(item, location, *offers_max_age, &batch, known);
    let mut items = Vec::with_capacity(batch.len() + 1);
    let since = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let mut count = *planned;
    for (index, publisher) in listed.into_iter().enumerate() {
        let before = planned + u32::try_from(index / subscriptions.len()).unwrap_or(u32::MAX);
        let mut child = item.child(to(publisher, index, None));
        child.turn = Some(Rank { before, since });
        items.push(child);
        count = before + 1;
    }
    for (index, (publisher, offers)) in taken.into_iter().enumerate() {
        items.push(item.child(to(publisher, index, Some(offers))));
    }
    if more {
        items.push(item.child(Scope::Location {
            location: location.clone(),
            subscription: subscription.clone(),
            after: batch.last().cloned(),
            only: only.clone(),
            spread: spread.clone(),
            details: *details,
            offers_max_age: *offers_max_age,
            planned: count,
        }));
    }
    items
}

/// Reports which names in the publisher filter of a location's item match no publisher, with the
/// nearest names. Empty for a continuation item, and for an item without a filter.
pub(super) fn unknown(scope: &Scope, publishers: &[String]) -> String {
    let Scope::Location { only, after: None, .. } = scope else { return String::new() };
    let lower: Vec<String> = publishers.iter().map(|name| name.to_ascii_lowercase()).collect();
    let is_unknown = |part: &&String| {
        let part = part.to_ascii_lowercase();
        !lower.iter().any(|name| name.contains(&part))
    };
    let parts = only.iter().filter(is_unknown).take(MOST_UNKNOWN).map(|part| {
        let near = nearest(part, publishers.iter().map(String::as_str));
        let near = if near.is_empty() { String::new() } else { format!(" ({})", are(&near)) };
        format!("no publisher has {} in its name{near}", quoted(part))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// Splits publishers into those whose offers are to be listed, in planned order, and those whose
/// offers are taken from the previous snapshot.
fn split<'a>(
    item: &WorkItem,
    location: &str,
    offers_max_age: Option<u64>,
    batch: &'a [String],
    known: &PreviousFindings,
) -> (Vec<&'a String>, Vec<(&'a String, KnownOffers)>) {
    let rotation = Rotation::of(item, offers_max_age);
    let size = |name: &str| known.listing(location, name).map(|(_, offers)| offers);
    let due = rotation.map(|rotation| {
        let at = |name: &'a String| Some((known.listing(location, name)?.0, name.as_str()));
        rotation.due(batch.iter().filter_map(at).collect())
    });
    let mut listed = Vec::new();
    let mut taken = Vec::new();
    for name in batch {
        let fresh = due.as_ref().is_some_and(|due| !due.contains(name.as_str()));
        let offers = if fresh { known.offers(location, name) } else { None };
        match offers.filter(|known| ListingPath::fit(&known.offers)) {
            Some(offers) => taken.push((name, offers)),
            None => listed.push(name),
        }
    }
    // Publishers of extensions have a dot in their names and have no images (catalog-shape §1).
    listed.sort_by_key(|name| (name.contains('.'), Reverse(size(name))));
    taken.sort_by_key(|(_, known)| Reverse(known.offers.len()));
    (listed, taken)
}

impl ListingPath<'_> {
    /// Whether the names of `offers` fit into a message.
    pub(super) fn fit(offers: &[String]) -> bool {
        offers.iter().map(|name| name.len() + 3).sum::<usize>() < MOST_KNOWN_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Details, RunId, SourceName};

    const HOUR: u64 = 3_600;

    fn at(hours: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::hours(i64::try_from(hours).unwrap())
    }

    fn location(run: u64, previous: Option<u64>, offers_max_age: Option<u64>) -> WorkItem {
        let scope = Scope::Location {
            location: "eastus".into(),
            subscription: "one".into(),
            after: None,
            only: Vec::new(),
            spread: vec!["two".into()],
            details: Details::None,
            offers_max_age,
            planned: 0,
        };
        let mut item = WorkItem::new(RunId::new(at(run)), SourceName::Marketplace, scope);
        item.previous = previous.map(|previous| RunId::new(at(previous)));
        item
    }

    /// Names of the publishers that are listed, in order, and of those that are not.
    fn plan(
        item: &WorkItem,
        names: &[&str],
        known: &PreviousFindings,
    ) -> (Vec<String>, Vec<String>) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let items = items(item, names, known, at(0));
        let name = |item: &WorkItem| item.scope.publisher().unwrap().to_owned();
        let (listed, taken): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.turn.is_some());
        (listed.into_iter().map(name).collect(), taken.into_iter().map(name).collect())
    }

    #[test]
    fn new_and_oldest_publishers_are_listed_first_within_the_maximum_age() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut known = PreviousFindings::default();
        for (name, listed) in [("a", 90), ("b", 95), ("c", 97), ("d", 98), ("e", 99)] {
            known.listed("eastus", name, at(listed));
        }
        // One hour between runs, a maximum age of ten hours: 5/10 publishers per run, rounded up,
        // plus the new one. "a" would be eleven hours old at the next run.
        let item = location(100, Some(99), Some(10 * HOUR));
        let (listed, taken) = plan(&item, &names, &known);
        assert_eq!(listed, ["a", "f"]);
        assert_eq!(taken, ["b", "c", "d", "e"]);
        let (listed, _) = plan(&location(100, Some(99), Some(3 * HOUR)), &names, &known);
        assert_eq!(listed, ["a", "b", "c", "d", "f"]);
        for item in [location(100, Some(99), None), location(100, None, Some(10 * HOUR))] {
            assert_eq!(plan(&item, &names, &known).0.len(), 6);
        }
    }

    #[test]
    fn turns_rotate_over_subscriptions_with_empty_publishers_last() {
        let names = ["x.y".to_owned(), "big".to_owned(), "small".to_owned()];
        let mut known = PreviousFindings::default();
        known.listed("eastus", "big", at(1));
        known.has_offer("eastus", "Big", "one");
        known.has_offer("eastus", "big", "ONE");
        assert_eq!(known.listing("eastus", "BIG"), Some((at(1), 1)));
        let items = items(&location(2, Some(1), None), names.to_vec(), &known, at(2));
        let placed: Vec<_> = items
            .iter()
            .map(|item| {
                let scope = &item.scope;
                (scope.publisher().unwrap(), scope.subscription(), item.turn.unwrap().before)
            })
            .collect();
        assert_eq!(placed, [("big", "one", 0), ("small", "two", 0), ("x.y", "one", 1)]);
    }
}
