//! Messages for lists that are empty or may be incomplete. They go to stderr, because an empty list
//! is valid data.

use super::output::Output;
use crate::catalog::{Catalog, Filter};
use crate::config::Config;
use crate::sink::say;
use serde_json::Value;
use time::OffsetDateTime;

/// Printed when every name in the filter exists.
const NO_IMAGE: &str = "No image matches. A filter matches any part of a name and ignores case.";
/// The same for gallery images.
const NOTHING_IN_GALLERIES: &str = "Nothing in the galleries of the catalog matches. azimg gallery list shows the galleries \
     in the catalog, azimg runs show what could not be crawled.";

impl Output {
    /// Prints the reason if there are no rows.
    pub(super) fn unless_empty(&self, rows: &[Value], says: impl FnOnce() -> String) {
        if rows.is_empty() && !self.quiet {
            say!("{}", says());
        }
    }
}

/// Reports the number of images whose match is unknown. Never silent: unknown does not mean "no
/// match".
pub(super) fn say_unknown(unknown: u64) {
    if unknown > 0 {
        say!(
            "{unknown} more images may match: their details are not known; 'azimg crawl --details latest' \
             requests the details of one version of each SKU, '--details all' those of every version"
        );
    }
}

/// Why nothing in a catalog matches: the names in the filter that it does not have, if any.
pub(super) fn nothing_in(catalog: &Catalog, filter: &Filter) -> String {
    let unknown = catalog.unknown_names(filter);
    let is_of_galleries = !filter.wants_marketplace() && !filter.wants_containers_only();
    if !unknown.is_empty() {
        return unknown.join(" ");
    }
    if is_of_galleries { NOTHING_IN_GALLERIES } else { NO_IMAGE }.to_owned()
}

/// Why a list is empty, and what to try instead: a word that is not a publisher is often an offer.
pub(super) async fn nothing_fits(
    config: &Config,
    filter: &Filter,
    live: bool,
    now: OffsetDateTime,
) -> String {
    let (false, Ok(store)) = (live, config.store()) else { return NO_IMAGE.to_owned() };
    let Ok(catalog) = Catalog::open_for(store.as_ref(), filter).await else {
        return NO_IMAGE.to_owned();
    };
    let nothing = nothing_in(&catalog, filter);
    let words = [&filter.publisher, &filter.offer, &filter.sku].into_iter().flatten();
    let search = words.map(String::as_str).collect::<Vec<_>>().join(" ");
    let wider = Filter { search: Some(search.clone()), ..Filter::default() };
    match catalog.list(&wider, 0, usize::MAX, now).rows.len() {
        0 => nothing,
        _ if search.is_empty() => nothing,
        found => format!(
            "{nothing} {found} images have '{search}' in another of their names: \
             azimg images list --search '{search}'"
        ),
    }
}
