//! API versions of Resource Manager calls: the version that each is sent with, and a substitute
//! where a cloud does not offer it.
//!
//! Azure refuses a version that it does not offer for a resource type, and lists those that it does
//! offer (`NoRegisteredProviderFound`, `InvalidResourceType`, `InvalidApiVersionParameter`).
//! Sovereign and private clouds lag behind, so the request is sent once more with the nearest of
//! those. If that is refused too, the result is a distinct error: as a plain 404 it would be read
//! as a resource that no longer exists.

use super::{WireRequest, WireResponse};
use crate::error::Error;
use reqwest::StatusCode;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use url::Url;

/// The longest list of versions that is accepted, in bytes. Compute's lists are below 2 KiB.
const LONGEST_LIST: usize = 16 << 10;

/// The version that calls on one resource type are sent with. `docs/azure.md` has the source of
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersion {
    /// Resource type, as in Azure's documentation.
    pub resource: &'static str,
    /// API version sent.
    pub sent: &'static str,
}

impl ApiVersion {
    const fn new(resource: &'static str, sent: &'static str) -> Self {
        Self { resource, sent }
    }

    /// The query parameter for the version.
    pub const fn parameter(self) -> (&'static str, &'static str) {
        ("api-version", self.sent)
    }
}

/// Subscriptions and their locations.
pub const SUBSCRIPTIONS: ApiVersion = ApiVersion::new("subscriptions", "2022-12-01");
/// Resource providers: which types are offered in which locations.
pub const PROVIDERS: ApiVersion = ApiVersion::new("providers", "2021-04-01");
/// Publishers, offers, SKUs and versions of marketplace images.
pub const VM_IMAGES: ApiVersion =
    ApiVersion::new("Microsoft.Compute/locations/publishers", "2024-07-01");
/// Managed images.
pub const MANAGED_IMAGES: ApiVersion = ApiVersion::new("Microsoft.Compute/images", "2024-07-01");
/// The user's own galleries with definitions and versions, as they are crawled.
pub const GALLERIES: ApiVersion = ApiVersion::new("Microsoft.Compute/galleries", "2023-07-03");
/// The same for changes. A change sends back what was read, so it reads with the newest version:
/// properties that an older version does not return (additional replica sets, for example) would be
/// removed.
pub const GALLERY_CHANGES: ApiVersion =
    ApiVersion::new("Microsoft.Compute/galleries, changed", "2026-03-03");
/// Shared and community galleries of others. Older versions do not report which gallery image
/// versions are soft-deleted.
pub const FOREIGN_GALLERIES: ApiVersion =
    ApiVersion::new("Microsoft.Compute/locations/sharedGalleries", "2026-03-03");
/// Container registries.
pub const REGISTRIES: ApiVersion =
    ApiVersion::new("Microsoft.ContainerRegistry/registries", "2023-07-01");
/// Resource Graph queries.
pub const RESOURCE_GRAPH: ApiVersion =
    ApiVersion::new("Microsoft.ResourceGraph/resources", "2024-04-01");

/// All versions above.
pub const ALL: [ApiVersion; 9] = [
    SUBSCRIPTIONS,
    PROVIDERS,
    VM_IMAGES,
    MANAGED_IMAGES,
    GALLERIES,
    GALLERY_CHANGES,
    FOREIGN_GALLERIES,
    REGISTRIES,
    RESOURCE_GRAPH,
];

/// Substitutes for refused versions, by resource type and refused version.
#[derive(Debug, Default)]
pub(super) struct Substitutes(Mutex<HashMap<(String, String), String>>);

impl Substitutes {
    /// Returns `request` with the substitute version, if one is known.
    pub(super) fn applied(&self, request: &WireRequest) -> WireRequest {
        let mut request = request.clone();
        if let Some(sent) = version_of(&request.url) {
            let instead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(version) = instead.get(&(resource_of(&request.url), sent)) {
                set_version(&mut request.url, version);
            }
        }
        request
    }

    /// Each resource type, the refused version, and the one that is sent instead; sorted.
    pub(super) fn all(&self) -> Vec<[String; 3]> {
        let instead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<[String; 3]> = instead
            .iter()
            .map(|((resource, refused), sent)| [resource.clone(), refused.clone(), sent.clone()])
            .collect();
        all.sort();
        all
    }

    /// Records a substitute if `answer` refuses the version of `sent` and offers another one;
    /// returns whether it does. Logs the first time.
    pub(super) fn learn(&self, sent: &WireRequest, answer: &WireResponse) -> bool {
        let Some((version, offered)) = refused(sent, answer) else { return false };
        let Some(nearest) = nearest(&version, &offered) else { return false };
        let key = (resource_of(&sent.url), version);
        let mut instead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = instead.entry(key) {
            let (resource, refused) = place.key();
            tracing::warn!(
                "this cloud does not offer api-version {refused} of {resource}; using {nearest}"
            );
            place.insert(nearest.to_owned());
        }
        true
    }
}

/// The error for a response that refuses the version of `sent`; `None` for any other response.
pub(super) fn not_offered(sent: &WireRequest, answer: &WireResponse) -> Option<Error> {
    let (version, offered) = refused(sent, answer)?;
    let offered = match offered.last() {
        Some(newest) => format!("the newest of the {} offered is {newest}", offered.len()),
        None => "no version is".to_owned(),
    };
    Some(Error::bad_answer(format!(
        "{}: api-version {version} of {} is not offered here; {offered}",
        sent.name(),
        resource_of(&sent.url)
    )))
}

/// The version that `answer` refuses, and those that it offers, oldest first.
fn refused(sent: &WireRequest, answer: &WireResponse) -> Option<(String, Vec<String>)> {
    if !matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) {
        return None;
    }
    let version = version_of(&sent.url)?;
    let text = std::str::from_utf8(&answer.body).ok()?;
    let list = ["supported api-versions are '", "supported versions are '"]
        .iter()
        .find_map(|words| text.split_once(words))?
        .1;
    let list = list.split('\'').next().filter(|list| list.len() <= LONGEST_LIST)?;
    let mut offered: Vec<String> = list
        .split(',')
        .map(str::trim)
        .filter(|version| is_version(version))
        .map(str::to_owned)
        .collect();
    offered.sort_unstable();
    // If the version is in the list, something else was refused: a location, for example.
    (!offered.contains(&version)).then_some((version, offered))
}

/// Whether `text` has the form of a version: a date, with an optional suffix such as `-preview`.
fn is_version(text: &str) -> bool {
    let (date, rest) = text.split_at_checked(10).unwrap_or((text, ""));
    let digit = |(at, byte): (usize, u8)| {
        if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
    };
    let plain = rest.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
    date.len() == 10 && date.bytes().enumerate().all(digit) && plain && rest.len() <= 20
}

/// The newest stable version older than `version`, else the oldest stable one.
fn nearest<'a>(version: &str, offered: &'a [String]) -> Option<&'a str> {
    let stable = || offered.iter().map(String::as_str).filter(|offered| offered.len() == 10);
    stable().rfind(|offered| *offered < version).or_else(|| stable().next())
}

fn version_of(url: &Url) -> Option<String> {
    let mut pairs = url.query_pairs();
    pairs.find(|(name, _)| name == "api-version").map(|(_, version)| version.into_owned())
}

fn set_version(url: &mut Url, version: &str) {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut query = url.query_pairs_mut();
    query.clear();
    for (name, value) in &pairs {
        let value = if name == "api-version" { version } else { value };
        query.append_pair(name, value);
    }
}

/// The resource type of a URL: its provider and the types behind it, without the names.
fn resource_of(url: &Url) -> String {
    let path = url.path().to_ascii_lowercase();
    match path.rsplit_once("/providers/") {
        Some((_, below)) => {
            let mut parts = below.split('/');
            let provider = parts.next().unwrap_or_default().to_owned();
            parts.step_by(2).fold(provider, |all, part| all + "/" + part)
        }
        None => path.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use reqwest::header::HeaderMap;

    const LIST: &str = "'2017-03-01, 2019-12-01-preview, 2022-12-01, 2025-04-01'.";

    fn request(version: &str) -> WireRequest {
        let url = format!(
            "https://x/subscriptions/1/providers/Microsoft.ContainerRegistry/registries?$top=1&api-version={version}"
        );
        WireRequest::get(url.parse().unwrap())
    }

    fn answer(status: u16, list: &str) -> WireResponse {
        let body =
            format!("{{\"error\":{{\"message\":\"No. The supported api-versions are {list}\"}}}}");
        let status = StatusCode::from_u16(status).unwrap();
        WireResponse { status, headers: HeaderMap::new(), body: Bytes::from(body) }
    }

    #[test]
    fn nearest_stable_version_replaces_a_refused_one() {
        for (refused, sent) in [
            ("2022-09-01", "2017-03-01"),
            ("2023-01-01", "2022-12-01"),
            ("2016-01-01", "2017-03-01"),
        ] {
            let instead = Substitutes::default();
            assert!(instead.learn(&request(refused), &answer(400, LIST)));
            let applied = instead.applied(&request(refused)).url;
            assert_eq!(version_of(&applied).as_deref(), Some(sent));
            assert!(applied.query().unwrap().contains("top=1"), "{applied}");
            // Other versions and other types are sent unchanged.
            assert_eq!(instead.applied(&request("2024-01-01")).url, request("2024-01-01").url);
        }
    }

    #[test]
    fn other_refusals_do_not_change_the_version() {
        let instead = Substitutes::default();
        for (sent, answer) in [
            (request("2022-12-01"), answer(400, LIST)),
            (request("2022-09-01"), answer(403, LIST)),
            (request("2022-09-01"), answer(404, "")),
            (request("2022-09-01"), answer(400, "'2019-12-01-preview, <script>'.")),
        ] {
            assert!(!instead.learn(&sent, &answer), "{sent:?} {answer:?}");
        }
        let message = not_offered(&request("2022-09-01"), &answer(404, "''.")).unwrap().to_string();
        assert!(
            message.contains("microsoft.containerregistry/registries is not offered here"),
            "{message}"
        );
    }

    #[test]
    fn resource_type_is_derived_from_the_path() {
        for (path, resource) in [
            ("/subscriptions/1/locations", "subscriptions/locations"),
            ("/subscriptions/1/providers/Microsoft.Compute", "microsoft.compute"),
            (
                "/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/galleries/a/images/b",
                "microsoft.compute/galleries/images",
            ),
        ] {
            let url: Url = format!("https://x{path}?api-version=1").parse().unwrap();
            assert_eq!(resource_of(&url), resource);
        }
    }
}
