//! Derives a machine's finding from what the catalog knows about its image.

use super::finding::Finding;
use super::images::{CatalogVersion, Image};
use super::row::Usage;
use crate::image::machine::{Machine, MachineImage};
use crate::image::version;
use crate::pipeline::answered::LastResult;
use std::cmp::Ordering;

/// A finding, and its reason where the finding alone is not sufficient.
type Judged = (Finding, Option<String>);

/// Derives the usage row of a machine. `last_result` is the last result of the scope in which the
/// image would be found.
pub(super) fn judge(machine: Machine, image: Image, last_result: Option<&LastResult>) -> Usage {
    let version = machine.version().map(str::to_owned);
    let ordered =
        |latest: &CatalogVersion| Some(version::compare(version.as_deref()?, &latest.version));
    let with_latest = image.latest.as_ref().and_then(ordered);
    let (finding, reason) = match (&machine.image, &version) {
        (MachineImage::None, _) => {
            let why = "it was created from a disk, and neither refers to an image";
            (Finding::Unknown, Some(why.to_owned()))
        }
        (MachineImage::Managed(_), _) if image.own_version.is_some() => (Finding::Current, None),
        (MachineImage::Managed(_), _) => absent("the image was deleted", last_result),
        (_, Some(_)) => pinned(&machine, &image, with_latest, last_result),
        (_, None) => following(&machine, &image, last_result),
    };
    let reason = as_of(finding, reason, last_result);
    let reason = if machine.by_disk {
        let by = "its disk was created from this image";
        Some(reason.map_or(by.to_owned(), |reason| format!("{by}; {reason}")))
    } else {
        reason
    };
    let is_pinned = match &machine.image {
        MachineImage::Marketplace(urn) => !urn.version.eq_ignore_ascii_case("latest"),
        MachineImage::Gallery(_, version) => version.is_some(),
        MachineImage::Managed(_) => true,
        MachineImage::None => false,
    };
    let own = image.own_version.as_ref();
    let followed = image.latest.as_ref().or(image.present.as_ref());
    let ends_by = own.or(followed.filter(|_| version.is_none()));
    let [publisher, offer, sku] = image.names;
    Usage {
        subscription_id: machine.subscription,
        machine: machine.id,
        name: machine.name,
        machine_kind: machine.kind,
        location: machine.location,
        image_kind: image.kind.map(str::to_owned),
        image: image.name,
        publisher,
        offer,
        sku,
        version,
        is_pinned,
        finding,
        ends_at: ends_by.and_then(|entry| entry.ends_at),
        is_latest: with_latest.map(Ordering::is_eq),
        move_to: image.move_to.filter(|_| finding.moves()),
        reason,
    }
}

/// The finding for a machine whose version is known.
fn pinned(
    machine: &Machine,
    image: &Image,
    with_latest: Option<Ordering>,
    last_result: Option<&LastResult>,
) -> Judged {
    let Some(entry) = &image.own_version else {
        return absent("the version no longer exists", last_result);
    };
    let Some(status) = entry.status else {
        return (Finding::Unknown, Some("its status could not be read".to_owned()));
    };
    let finding = Finding::of(status, with_latest.unwrap_or(Ordering::Equal));
    if with_latest.is_some() || !matches!(finding, Finding::Current | Finding::Scheduled) {
        return (finding, None);
    }
    if !entry.is_here {
        let not_replicated = format!("the version is not replicated to {}", machine.location);
        return absent(&not_replicated, last_result);
    }
    match last_result {
        Some(LastResult::Answered | LastResult::Open(_)) if entry.has_failed_here => {
            (finding, Some(format!("its replica in {} failed", machine.location)))
        }
        Some(LastResult::Answered | LastResult::Open(_)) => {
            (finding, Some(format!("no version is eligible as the latest in {}", machine.location)))
        }
        Some(LastResult::NotQueried) | None => absent("", last_result),
    }
}

/// The finding for a machine that follows the latest, and whose current version is unknown.
fn following(machine: &Machine, image: &Image, last_result: Option<&LastResult>) -> Judged {
    if let Some(latest) = &image.latest {
        let follows = "follows the latest; the version that it runs is not known".to_owned();
        let finding = latest.status.map(|status| Finding::of(status, Ordering::Equal));
        return (finding.unwrap_or(Finding::Unknown), Some(follows));
    }
    let none = format!("no version is eligible as the latest in {}", machine.location);
    let present = image.present.as_ref().and_then(|entry| entry.status);
    match present.map(|status| Finding::of(status, Ordering::Equal)) {
        Some(finding @ (Finding::Deprecated | Finding::EndOfLife)) => (finding, Some(none)),
        _ => absent(&none, last_result),
    }
}

/// Adds to a finding's reason that it rests on an earlier answer, if the scope could not be queried
/// since.
fn as_of(
    finding: Finding,
    reason: Option<String>,
    last_result: Option<&LastResult>,
) -> Option<String> {
    let Some(LastResult::Open(why)) = last_result.filter(|_| finding != Finding::Unknown) else {
        return reason;
    };
    let since =
        format!("as of the last successful listing; since then it could not be listed: {why}");
    Some(reason.map_or(since.clone(), |reason| format!("{reason}; {since}")))
}

/// The finding for an image that the catalog does not have: gone only if its scope was answered.
fn absent(what: &str, last_result: Option<&LastResult>) -> Judged {
    match last_result {
        Some(LastResult::Answered) => (Finding::Gone, Some(what.to_owned())),
        Some(LastResult::Open(why)) => {
            (Finding::Unknown, Some(format!("the scope of the image could not be listed: {why}")))
        }
        Some(LastResult::NotQueried) | None => {
            (Finding::Unknown, Some("the scope of the image was not crawled".to_owned()))
        }
    }
}
