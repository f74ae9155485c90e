//! Parsing of a request's query against the parameters that its route declares.

use super::parameters::{LARGEST_PAGE, LONGEST, PAGE, Parameter, is_of_the_host};
use crate::catalog::distinct::SkuOrder;
use crate::catalog::{self, Filter};
use crate::error::{Error, Result};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;
use time::OffsetDateTime;

/// What is asked of a list of SKUs besides its filter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SkuQuery {
    /// Whether to return the number of SKUs and of images.
    pub(super) count: bool,
    /// Whether to return facets.
    pub(super) facets: bool,
    /// The order of the SKUs.
    pub(super) order: SkuOrder,
}

/// The parsed values of a query.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) filter: Filter,
    pub(super) id: Option<String>,
    pub(super) urn: Option<String>,
    pub(super) run: Option<String>,
    /// The form of a snippet.
    pub(super) form: Option<String>,
    pub(super) changes: Vec<String>,
    pub(super) findings: Vec<String>,
    pub(super) top: usize,
    /// `top`, unless it is the default.
    pub(super) given_top: Option<usize>,
    pub(super) skip: Option<String>,
    pub(super) live: bool,
    pub(super) skus: SkuQuery,
    pub(super) not_deprecated_before: Option<OffsetDateTime>,
    /// The image's life must end before this time.
    pub(super) ends_before: Option<OffsetDateTime>,
}

impl Query {
    /// Parses the query of `uri`. Parameters that are not in `allowed` are errors.
    pub(super) fn parse(uri: &Uri, allowed: &[Parameter]) -> Result<Self> {
        let mut query = Self { top: PAGE, ..Self::default() };
        let text = uri.query().unwrap_or_default();
        if text.len() > LONGEST {
            return Err(Error::invalid(format!("the query is longer than {} KiB", LONGEST >> 10)));
        }
        let mut given: Vec<&str> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if is_of_the_host(&name) {
                continue;
            }
            let Some(parameter) = allowed.iter().find(|known| known.name == name) else {
                return Err(unknown(&name, allowed));
            };
            if value.contains('\0') {
                return Err(bad(&name, "the value contains a NUL character"));
            }
            // One of two values would be ignored silently, and clients differ in which.
            if given.contains(&parameter.name) && !parameter.value.may_recur() {
                return Err(bad(&name, "specified twice, but accepts one value"));
            }
            given.push(parameter.name);
            let parts: Vec<&str> = if parameter.value.has_commas() {
                value.split(',').collect()
            } else {
                vec![&value]
            };
            for part in parts {
                let part = parameter.value.checked(part);
                let part = part.map_err(|error| bad(&name, &error.to_string()))?;
                query.take(parameter.name, part.to_owned())?;
            }
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: String) -> Result<()> {
        let bad = |why: &str| bad(name, why);
        let filter = &mut self.filter;
        match name {
            "publisher" => filter.publisher = Some(value),
            "offer" => filter.offer = Some(value),
            "sku" => filter.sku = Some(value),
            "version" => filter.version = Some(value),
            "location" | "in" => filter.locations.push(value),
            "notIn" => filter.not_locations.push(value),
            "generation" => filter.generation = Some(value),
            "securityType" => filter.security_type = Some(value),
            "plan" => filter.plan = Some(value.eq_ignore_ascii_case("yes")),
            "feature" => {
                filter.features.push(value);
                filter.check_features().map_err(|error| bad(&error.to_string()))?;
            }
            "architecture" => filter.architecture = Some(value),
            "os" => filter.os = Some(value),
            "status" => filter.statuses.push(value),
            "kind" => filter.kinds.push(value),
            "gallery" => filter.gallery = Some(value),
            "definition" => filter.definition = Some(value),
            "registry" => filter.registry = Some(value),
            "repository" => filter.repository = Some(value),
            "tag" => filter.tag = Some(value),
            "subscription" => filter.subscription = Some(value),
            "finding" => self.findings.push(value),
            "search" => {
                filter.search = Some(value);
                filter.check_search().map_err(|error| bad(&error.to_string()))?;
            }
            "latest" | "exact" | "live" | "count" | "facets" => {
                let known = flag(&value).ok_or_else(|| bad("the value must be true or false"))?;
                *match name {
                    "latest" => &mut filter.latest,
                    "exact" => &mut filter.exact,
                    "live" => &mut self.live,
                    "count" => &mut self.skus.count,
                    _ => &mut self.skus.facets,
                } = known;
            }
            "sort" => self.skus.order = SkuOrder::find(&value)?,
            "id" => self.id = Some(value),
            "urn" => self.urn = Some(value),
            "run" => self.run = Some(value),
            "as" => self.form = Some(value),
            "change" => self.changes.push(value),
            "skipToken" => self.skip = Some(value),
            "top" => {
                self.top = count(&value)
                    .ok_or_else(|| bad("the value must be a number from 1 to 1000"))?;
                self.given_top = Some(self.top);
            }
            "endsBefore" | "firstSeenAfter" | "notDeprecatedBefore" => {
                let date = catalog::date(&value)
                    .ok_or_else(|| bad("the value must be a date, such as 2027-01-01"))?;
                match name {
                    "endsBefore" => {
                        (self.ends_before, filter.ends_before) = (Some(date), Some(date));
                    }
                    "firstSeenAfter" => filter.first_seen_after = Some(date),
                    _ => self.not_deprecated_before = Some(date),
                }
            }
            _ => return Err(bad("not supported")),
        }
        Ok(())
    }
}

/// A path parameter, or the reason why it is not text.
pub(super) type InPath = Result<Path<String>, PathRejection>;

/// Returns the text of a path parameter.
pub(super) fn in_path(given: InPath) -> Result<String> {
    let no_text = |_| Error::invalid("the percent-encoded path is not UTF-8");
    given.map(|Path(text)| text).map_err(no_text)
}

/// Parses a flag, ignoring case: Python formats its Booleans as `True` and `False`.
fn flag(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|flag| text.eq_ignore_ascii_case(&flag.to_string()))
}

/// Parses a number of rows as JSON writes it, without a sign or leading zeros.
fn count(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|count| plain && (1..=LARGEST_PAGE).contains(count))
}

fn bad(name: &str, why: &str) -> Error {
    Error::invalid(format!("parameter '{name}': {why}")).with_target(name)
}

fn unknown(name: &str, allowed: &[Parameter]) -> Error {
    let names: Vec<&str> = allowed.iter().map(|parameter| parameter.name).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let text = format!("unknown parameter '{name}'; the parameters are {there}");
    Error::invalid(text).with_target(name)
}
