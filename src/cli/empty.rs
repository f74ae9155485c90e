//! What is said of a list with nothing in it, or with less than may be: on stderr, since no data are data, too.

use super::output::Output;
use crate::catalog::{Catalog, Filter};
use crate::config::Config;
use crate::sink::say;
use serde_json::Value;
use time::OffsetDateTime;

/// What is said where no name is wrong.
const NO_IMAGE: &str = "No image fits. Names are compared in part and without case.";
/// The same of what galleries have.
const NOTHING_IN_GALLERIES: &str = "Nothing fits in the galleries of the catalog: azimg gallery list shows which it has, \
     azimg runs show what it lacks.";

impl Output {
    /// Says why there is nothing, if there is nothing.
    pub(super) fn unless_empty(&self, rows: &[Value], says: impl FnOnce() -> String) {
        if rows.is_empty() && !self.quiet {
            say!("{}", says());
        }
    }
}

/// Says of how many images more it is not known whether they fit. Never in silence: what is not known is no "no".
pub(super) fn say_unknown(unknown: u64) {
    if unknown > 0 {
        say!(
            "{unknown} more may fit: what was asked for is not known of them; 'azimg crawl --details latest' \
             asks one version of each SKU, '--details all' every one"
        );
    }
}

/// Why nothing in a catalog fits: which of the names it does not have at all, if any is wrong.
pub(super) fn nothing_in(catalog: &Catalog, filter: &Filter) -> String {
    let unknown = catalog.unknown_names(filter);
    let is_of_galleries = !filter.wants_marketplace() && !filter.wants_containers_only();
    if !unknown.is_empty() {
        return unknown.join(" ");
    }
    if is_of_galleries { NOTHING_IN_GALLERIES } else { NO_IMAGE }.to_owned()
}

/// Why a list is empty, and what to try: a word that is no publisher is often an offer.
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
