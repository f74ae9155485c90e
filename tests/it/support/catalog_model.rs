//! What a catalog answers, worked out by looking at every row.

use azimg::testing::catalog::{Filter, LatestQuestion, aliases};
use azimg::testing::image::Status;
use azimg::testing::image::marketplace::MarketplaceImage;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Of how many rows it is not known whether they fit: those that would if what is not known of them were right.
pub fn slow_unknown(rows: &[MarketplaceImage], filter: &Filter) -> u64 {
    let reported = |row: &MarketplaceImage| row.details_from.is_some() || row.os.is_some();
    let unknown = |row: &&MarketplaceImage| {
        let mut asked = filter.clone();
        let leave = |is_unknown: bool, member: &mut Option<String>| {
            if is_unknown {
                *member = None;
            }
        };
        leave(row.os.is_none(), &mut asked.os);
        leave(row.architecture.is_none(), &mut asked.architecture);
        leave(row.hyper_v_generation.is_none(), &mut asked.generation);
        if !reported(row) {
            asked.plan = None;
            (asked.features, asked.security_type) = (Vec::new(), None);
        }
        asked.accepts(row) && !filter.accepts(row)
    };
    rows.iter().filter(unknown).count() as u64
}

/// A text without case, in which separators are alike.
fn folded(text: &str) -> String {
    text.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// How well a word fits a name: 3 as a whole, 2 as a beginning, 1 within.
fn fit(word: &str, name: &str) -> u32 {
    let name = folded(name);
    let inner = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let places = (0..name.len()).filter(|at| name.as_bytes()[*at..].starts_with(word.as_bytes()));
    places
        .map(|at| {
            let begins = !inner(name[..at].chars().next_back());
            let ends = !inner(name[at + word.len()..].chars().next());
            if begins && ends {
                3
            } else if begins {
                2
            } else {
                1
            }
        })
        .max()
        .unwrap_or(0)
}

/// How well the words of a search fit a row: each by the name that it fits best, or the short name that it is.
fn score(row: &MarketplaceImage, filter: &Filter) -> u32 {
    let search = folded(filter.search.as_deref().unwrap_or_default());
    let best = |word: &str| {
        let short = aliases::ALIASES.iter().any(|alias| {
            let sku = [&row.publisher, &row.offer, &row.sku];
            alias.name.eq_ignore_ascii_case(word)
                && alias.sku.iter().zip(sku).all(|(one, other)| one.eq_ignore_ascii_case(other))
        });
        let names = [&row.publisher, &row.offer, &row.sku, &row.version];
        let best = names.into_iter().map(|name| fit(word, name)).max().unwrap();
        if short { 3 } else { best }
    };
    search.split([' ', ':']).filter(|word| !word.is_empty()).map(best).sum()
}

/// The rows that a filter accepts, as positions, by looking at every one of them.
pub fn slow_list(rows: &[MarketplaceImage], filter: &Filter) -> Vec<u32> {
    let mut found: Vec<u32> = (0..u32::try_from(rows.len()).unwrap())
        .filter(|at| filter.accepts(&rows[*at as usize]))
        .collect();
    if filter.search.as_ref().is_some_and(|text| text.contains(|c| c != ' ' && c != ':')) {
        found.sort_by_key(|at| {
            let row = &rows[*at as usize];
            (Reverse(score(row, filter)), !row.is_latest, *at)
        });
    }
    found
}

/// What fits of one publisher, offer or SKU: its names as they are written first, the names below it, its images, their
/// locations, and the version that is the latest.
#[derive(Default)]
pub struct Counted {
    pub names: Vec<String>,
    pub offers: BTreeSet<String>,
    pub skus: BTreeSet<(String, String)>,
    pub images: u32,
    pub locations: BTreeSet<String>,
    pub latest: Option<String>,
    score: u32,
}

/// The different names down to a level of the rows that a filter accepts, by looking at every one of them.
pub fn slow_groups(rows: &[MarketplaceImage], filter: &Filter, level: usize) -> Vec<Counted> {
    let mut groups: BTreeMap<Vec<String>, Counted> = BTreeMap::new();
    for row in rows.iter().filter(|row| filter.accepts(row)) {
        let names = [&row.publisher, &row.offer, &row.sku].map(String::clone);
        let lower = names.clone().map(|name| name.to_ascii_lowercase());
        let group = groups.entry(lower[..=level].to_vec()).or_default();
        if group.names.is_empty() {
            group.names = names[..=level].to_vec();
        }
        group.offers.insert(lower[1].clone());
        group.skus.insert((lower[1].clone(), lower[2].clone()));
        group.images += 1;
        group.locations.extend(row.locations.iter().cloned());
        group.score = group.score.max(score(row, filter));
        if row.is_latest {
            group.latest = Some(row.version.clone());
        }
    }
    let mut groups: Vec<Counted> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.score));
    groups
}

/// The values of a facet with the number of SKUs that have each and match all but the filter of the facet, by looking at
/// every row. A publisher is in lower case.
pub fn slow_facets(
    rows: &[MarketplaceImage],
    filter: &Filter,
    facet: &str,
) -> BTreeMap<Option<String>, usize> {
    let mut others = filter.clone();
    match facet {
        "publisher" => others.publisher = None,
        "os" => others.os = None,
        "architecture" => others.architecture = None,
        "generation" => others.generation = None,
        "status" => others.statuses.clear(),
        "location" => others.locations.clear(),
        _ => others.plan = None,
    }
    let values = |row: &MarketplaceImage| -> Vec<Option<String>> {
        let has_plan = row.plan_publisher.is_some() || row.plan_name.is_some();
        let plan = || if has_plan { "yes" } else { "no" };
        match facet {
            "publisher" => vec![Some(row.publisher.clone())],
            "os" => vec![row.os.clone()],
            "architecture" => vec![row.architecture.clone()],
            "generation" => vec![row.hyper_v_generation.clone()],
            "status" => vec![row.status.map(|status| status.as_str().to_owned())],
            "location" => row.locations.iter().cloned().map(Some).collect(),
            _ => vec![row.is_detailed().then(|| plan().to_owned())],
        }
    };
    let mut skus: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| others.accepts(row)) {
        let sku = format!("{}:{}:{}", row.publisher, row.offer, row.sku).to_ascii_lowercase();
        for value in values(row) {
            let value = value.map(|value| value.to_ascii_lowercase());
            skus.entry(value).or_default().insert(sku.clone());
        }
    }
    skus.into_iter().map(|(value, skus)| (value, skus.len())).collect()
}

/// A version that orders as text the way it orders by numbers.
fn padded(version: &str) -> Vec<String> {
    let part = |part: &str| {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        format!("{:0>40}{}", &part[..digits], part[digits..].to_ascii_lowercase())
    };
    version.split('.').map(part).collect()
}

/// The greatest version that fits, by looking at every row.
pub fn slow_latest<'a>(
    rows: &'a [MarketplaceImage],
    question: &LatestQuestion,
) -> Option<&'a MarketplaceImage> {
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    rows.iter()
        .filter(|row| {
            same(&row.publisher, &question.publisher)
                && same(&row.offer, &question.offer)
                && same(&row.sku, &question.sku)
                && row.status.is_some_and(|status| status != Status::Deprecated)
                && question.locations.iter().all(|location| row.locations.contains(location))
                && match (question.not_deprecated_before, row.scheduled_deprecation_at) {
                    (Some(until), Some(deprecated)) => deprecated >= until,
                    _ => true,
                }
        })
        .max_by_key(|row| (padded(&row.version), row.id.clone()))
}
