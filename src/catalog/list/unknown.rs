//! Count of the rows for which the catalog does not know whether they match.

use super::ListQuery;
use super::details::Fit;
use crate::catalog::filter::Filter;
use crate::format::index::{Index, Level};
use std::ops::ControlFlow;
use time::OffsetDateTime;

/// Number of rows for which it is unknown whether `filter` accepts them, because their details were
/// not requested.
pub fn unknown(index: &Index, filter: &Filter, now: OffsetDateTime) -> u64 {
    let asks =
        filter.wants_details() || filter.architecture.is_some() || filter.generation.is_some();
    let query = if asks { ListQuery::new(index, filter, now) } else { None };
    let Some(query) = query else { return 0 };
    let (mut count, mut fits) = (0, Vec::new());
    query.walk(0, |group_path| {
        if let Some(score) = query.search.fit_names(group_path[2], &mut fits) {
            let rows = index.members(Level::Sku, group_path[2]);
            let unknown = |row: &u32| {
                query.fit(*row, group_path) == Fit::Unknown
                    && query.score(*row, score, &fits).is_some()
            };
            count += rows.filter(unknown).count() as u64;
        }
        ControlFlow::Continue(())
    });
    count
}
