//! Messages for lists that are empty or may be incomplete. They go to stderr, because an empty list
//! is valid data.

use super::output::Output;
use crate::catalog::{Catalog, Filter};
use crate::config::Config;
use crate::sink::say;
use serde_json::Value;
use time::OffsetDateTime;

/// Printed when every name in the filter exists.
const NO_IMAGE: &str = "No image fits. Names are compared in part and without case.";
/// The same for gallery images.
const NOTHING_IN_GALLERIES: &str = "Nothing fits in the galleries of the catalog: azimg gallery list shows which it has, \
     azimg runs show what it lacks.";

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
            "{unknown} more may fit: what was asked for is not known of them; 'azimg crawl --details latest' \
             asks one version of each SKU, '--details all' every one"
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
            "{nothing} But {found} images have '{search}' somewhere in their names: \
             azimg images list --search '{search}'"
        ),
    }
}
