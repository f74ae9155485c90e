//! One image of the current snapshot, by name.

use super::Web;
use super::snapshot_cache::View;
use crate::catalog::{Page, is_of_others};
use crate::error::Result;
use time::OffsetDateTime;

/// Finds an image of the current snapshot by `id`: a URN, a reference to the newest of a SKU, or
/// the id of a gallery or registry image.
pub(super) async fn find(web: &Web, id: &str) -> Result<(View, Page)> {
    let is_id = is_of_others(id);
    let snapshot =
        if is_id { web.served.with_others().await? } else { web.served.current().await? };
    let view = snapshot.at(OffsetDateTime::now_utc());
    let catalog = &view.snapshot.catalog;
    let found =
        if is_id { catalog.named(id, view.moment)? } else { catalog.show(id, view.moment)? };
    Ok((view, found))
}
