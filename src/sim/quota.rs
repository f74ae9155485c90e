//! The quotas of the simulated Azure: a bucket of reads for each subscription and principal, and
//! sliding windows for each operation in each location, with Azure's headers and refusals.

use super::response::{SimResponse, json_response};
use crate::error::{Error, Result};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The specification of quotas: `off`, `real`, or `real` changed by parts such as `60x` (time runs
/// 60 times faster, at most 180), `arm=50/100` (size of the bucket, reads per second),
/// `offers=10/40` (requests in 3 and in 30 minutes).
#[derive(Debug, Clone, Default)]
pub struct QuotaSpec(Option<QuotaLimits>);

/// The limits themselves.
#[derive(Debug, Clone)]
struct QuotaLimits {
    /// Factor by which time runs faster.
    faster: u32,
    /// Reads in a full bucket.
    bucket: f64,
    /// Reads that a bucket gains each second.
    per_second: f64,
    /// Operation, name of its policy, requests in 3 minutes, requests in 30 minutes.
    operations: Vec<(&'static str, &'static str, usize, usize)>,
}

impl QuotaLimits {
    /// Azure's limits.
    fn real() -> Self {
        Self {
            faster: 1,
            bucket: 250.0,
            per_second: 25.0,
            operations: vec![
                ("ListOffers", "ListVMImageOffersFromLocation", 200, 1_000),
                ("ListSkus", "ListVMImageSkusFromLocation", 10_000, 30_000),
                ("ListVersions", "ListVMImagesVersionsFromLocation", 16_000, 44_000),
                ("GetImage", "GetVMImageFromLocation", 13_000, 74_000),
                ("GetGallery", "GetGallery", 350, 2_500),
                ("GetSharedGallery", "GetGallery", 350, 2_500),
                ("ListSharedGalleries", "ListGallery", 150, 1_000),
                ("ListGalleriesInGroup", "ListGalleryInResourceGroup", 100, 1_000),
                ("ListGalleryImages", "ListGalleryImagesInGallery", 1_500, 10_000),
                ("ListGalleryVersions", "ListGalleryImageVersionsInGalleryImage", 1_500, 10_000),
                ("GetGalleryImage", "GetGalleryImage", 600, 3_000),
                ("GetGalleryVersion", "GetGalleryImageVersion", 2_000, 10_000),
                ("ListGalleryArtifact", "ListGalleryArtifact", 200, 200),
                ("GetGalleryArtifact", "GetGalleryArtifact", 600, 3_000),
                ("ListGalleryArtifactVersion", "ListGalleryArtifactVersion", 800, 4_000),
                ("GetGalleryArtifactVersion", "GetGalleryArtifactVersion", 2_000, 10_000),
                ("UpdateGallery", "CreateUpdateGallery", 50, 300),
                ("UpdateGalleryImage", "CreateUpdateGalleryImage", 150, 750),
                ("UpdateGalleryVersion", "CreateUpdateGalleryImageVersion", 375, 1_200),
                ("DeleteGalleryVersion", "DeleteGalleryImageVersion", 150, 1_000),
                ("PostShareGallery", "PostShareGallery", 10, 60),
                ("GetOperationStatus", "GetOperationStatus", 5_000, 15_000),
            ],
        }
    }

    /// Changes the limits by a part of a specification; `None` when it is malformed.
    fn change(&mut self, part: &str) -> Option<()> {
        if let Some(times) = part.strip_suffix('x') {
            self.faster = times.parse().ok().filter(|times| (1..=180).contains(times))?;
            return Some(());
        }
        let (name, values) = part.split_once('=')?;
        let (one, other) = values.split_once('/')?;
        if name == "arm" {
            (self.bucket, self.per_second) = (one.parse().ok()?, other.parse().ok()?);
            return Some(());
        }
        let at =
            ["offers", "skus", "versions", "images"].iter().position(|known| *known == name)?;
        let operation = self.operations.get_mut(at)?;
        (operation.2, operation.3) = (one.parse().ok()?, other.parse().ok()?);
        Some(())
    }
}

impl std::str::FromStr for QuotaSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "off" {
            return Ok(Self(None));
        }
        let mut limits = QuotaLimits::real();
        for part in text.split(',').filter(|part| *part != "real") {
            limits.change(part).ok_or_else(|| {
                Error::invalid(format!(
                    "'{part}' is no quota: give off, real, or parts such as 60x,arm=50/100,\
                     offers=10/40 (also skus, versions, images; time at most 180x)"
                ))
            })?;
        }
        Ok(Self(Some(limits)))
    }
}

/// The meter of quotas: counts requests, and refuses those beyond a limit.
#[derive(Debug)]
pub struct Meter {
    limits: Option<QuotaLimits>,
    used: Mutex<Usage>,
}

/// The usage of all quotas.
#[derive(Debug)]
struct Usage {
    /// Tokens and the time of their last refill, by subscription and principal, or by registry and
    /// class of requests.
    buckets: HashMap<(String, String), (f64, Instant)>,
    /// Times of requests, by policy and `SUBSCRIPTION/LOCATION`, or by principal.
    windows: HashMap<(&'static str, String), VecDeque<Instant>>,
}

/// Most queries of Resource Graph that a principal may send within `QUERIES_IN`.
const QUERIES: usize = 15;
/// The window of `QUERIES`.
const QUERIES_IN: Duration = Duration::from_secs(5);

type Headers = Vec<(HeaderName, String)>;

impl Meter {
    /// A meter without any usage.
    pub fn new(spec: QuotaSpec) -> Self {
        let used = Usage { buckets: HashMap::new(), windows: HashMap::new() };
        Self { limits: spec.0, used: Mutex::new(used) }
    }

    /// Counts a query of Resource Graph: the response with the headers of the quota, or the
    /// refusal. A principal has 15 queries in 5 seconds; more where time runs faster.
    pub(super) fn count_query(&self, principal: &str, mut response: SimResponse) -> SimResponse {
        let Some(limits) = &self.limits else { return response };
        let most = QUERIES * usize::try_from(limits.faster).unwrap_or(1);
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = used.windows.entry(("ResourceGraph", principal.to_owned())).or_default();
        while counted.front().is_some_and(|at| *at + QUERIES_IN <= now) {
            counted.pop_front();
        }
        if counted.len() >= most {
            let wait = counted.front().map_or(QUERIES_IN, |at| *at + QUERIES_IN - now);
            let body = json!({"error": {"code": "RateLimiting",
                "message": "Please provide below info when asking for support.",
                "details": [{"code": "RateLimiting", "message": "Client application has been \
                    throttled and should not attempt to repeat the request until an amount of \
                    time has elapsed."}]}});
            let mut refused = refuse(wait.as_secs_f64(), &body);
            add_queries_left(&mut refused, 0);
            return refused;
        }
        counted.push_back(now);
        add_queries_left(&mut response, most - counted.len());
        response
    }

    /// Counts a request to a registry; returns the refusal when the bucket of its class is empty. A
    /// bucket has the requests of a minute and refills continuously, with the sizes of one identity
    /// at a registry of the Standard tier (azure-quotas §4).
    pub(super) fn count_registry(&self, server: &str, class: &'static str) -> Option<SimResponse> {
        let limits = self.limits.as_ref()?;
        let most = match class {
            "delete" => 500.0,
            "referrers" => 250.0,
            "write" => 1_000.0,
            "oauth" => 10_000.0,
            _ => 5_000.0,
        };
        let rate = most / 60.0 * f64::from(limits.faster);
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let asker = (server.to_owned(), class.to_owned());
        let (tokens, filled_at) = used.buckets.entry(asker).or_insert((most, now));
        *tokens = (*tokens + now.duration_since(*filled_at).as_secs_f64() * rate).min(most);
        *filled_at = now;
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            return None;
        }
        let body = json!({"errors": [{"code": "TOOMANYREQUESTS",
            "message": "too many requests; please try again later"}]});
        Some(refuse((1.0 - *tokens) / rate, &body))
    }

    /// Counts a request: the headers of its response, or the refusal.
    pub(super) fn count(
        &self,
        operation: &'static str,
        subscription: &str,
        location: &str,
        principal: &str,
    ) -> std::result::Result<Headers, Box<SimResponse>> {
        let Some(limits) = &self.limits else { return Ok(Vec::new()) };
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = limits.per_second * f64::from(limits.faster);
        let Usage { buckets, windows } = &mut *used;
        let asker = (subscription.to_owned(), principal.to_owned());
        let (tokens, filled_at) = buckets.entry(asker).or_insert((limits.bucket, now));
        let since = now.duration_since(*filled_at).as_secs_f64();
        *tokens = (*tokens + since * rate).min(limits.bucket);
        *filled_at = now;
        if *tokens < 1.0 {
            return Err(Box::new(bucket_spent(subscription, principal, (1.0 - *tokens) / rate)));
        }
        let mut headers = Headers::new();
        let limited = limits.operations.iter().find(|(name, ..)| *name == operation);
        if let Some((_, policy, short, long)) = limited {
            let [few, many] = [180, 1_800].map(|s| Duration::from_secs(s) / limits.faster);
            let counted =
                windows.entry((policy, format!("{subscription}/{location}"))).or_default();
            while counted.front().is_some_and(|at| *at + many <= now) {
                counted.pop_front();
            }
            let young = counted.iter().rev().take_while(|at| **at + few > now).count();
            let wait_short = (young >= *short)
                .then(|| counted.iter().rev().nth(*short - 1).map(|at| *at + few - now));
            let wait_long = (counted.len() >= *long)
                .then(|| counted.iter().rev().nth(*long - 1).map(|at| *at + many - now));
            if let Some(wait) = wait_short.flatten().max(wait_long.flatten()) {
                return Err(Box::new(window_spent(policy, wait)));
            }
            counted.push_back(now);
            headers.push((
                HeaderName::from_static("x-ms-ratelimit-remaining-resource"),
                format!(
                    "Microsoft.Compute/{policy}{};{},Microsoft.Compute/{policy}{};{}",
                    suffix(few),
                    short - young - 1,
                    suffix(many),
                    long - counted.len(),
                ),
            ));
        }
        *tokens -= 1.0;
        let reads = tokens.floor();
        headers.push((
            HeaderName::from_static("x-ms-ratelimit-remaining-subscription-reads"),
            reads.to_string(),
        ));
        headers.push((
            HeaderName::from_static("x-ms-ratelimit-remaining-subscription-global-reads"),
            (reads * 15.0).to_string(),
        ));
        Ok(headers)
    }
}

/// The end of a policy's name: the window in minutes as Azure writes it, or in seconds where time
/// runs faster.
fn suffix(length: Duration) -> String {
    match length.as_secs() {
        seconds if seconds % 60 == 0 => format!("{}Min", seconds / 60),
        seconds => format!("{seconds}Sec"),
    }
}

/// A refusal with the seconds to wait, rounded up.
fn refuse(wait: f64, body: &serde_json::Value) -> SimResponse {
    let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, body);
    if let Ok(value) = HeaderValue::try_from(format!("{:.0}", wait.ceil().max(1.0))) {
        response.headers_mut().insert("retry-after", value);
    }
    response
}

/// The refusal for an empty bucket of reads.
fn bucket_spent(subscription: &str, principal: &str, wait: f64) -> SimResponse {
    let text = format!(
        "Number of 'read' requests for subscription actor '{subscription}:{principal}' exceeded. \
         Please try again after '{:.0}' seconds after additional tokens are available. Refer to \
         https://aka.ms/arm-throttling for additional information.",
        wait.ceil().max(1.0)
    );
    let body = json!({"error": {"code": "SubscriptionRequestsThrottled", "message": text}});
    let mut response = refuse(wait, &body);
    response.headers_mut().insert("x-ms-failure-cause", HeaderValue::from_static("gateway"));
    response
}

/// The compute provider's refusal for a full window. It has no `error` member, and JSON inside a
/// string.
fn window_spent(policy: &str, wait: Duration) -> SimResponse {
    let detail = json!({"operationGroup": policy, "allowedRequestCount": 0}).to_string();
    let body = json!({
        "code": "OperationNotAllowed",
        "message": "The server rejected the request because too many requests have been received \
                    for this subscription.",
        "details": [{"code": "TooManyRequests", "target": policy, "message": detail}],
    });
    refuse(wait.as_secs_f64(), &body)
}

/// Adds the headers with the number of queries left.
fn add_queries_left(response: &mut SimResponse, left: usize) {
    let headers = [
        ("x-ms-user-quota-remaining", left.to_string()),
        ("x-ms-user-quota-resets-after", "00:00:05".to_owned()),
        ("x-ms-ratelimit-remaining-tenant-resource-requests", left.to_string()),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}
