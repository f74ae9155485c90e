//! The columns of the marketplace table.

use super::TableRow;
use super::columns::Columns;
use crate::image::Status;
use crate::image::marketplace::{DetailsFrom, MarketplaceImage};

impl TableRow for MarketplaceImage {
    const SOUGHT: (&'static str, u64) = ("publisher", 2_048);

    fn columns(columns: &mut Columns<Self>) {
        columns
            .text("kind", |r| &r.kind)
            .text("id", |r| &r.id)
            .text_or_null("status", |r| r.status.map(Status::as_str))
            .flag("is_latest", |r| r.is_latest)
            .time("observed_at", |r| r.observed_at)
            .text("observed_run", |r| &r.observed_run)
            .flag("stale", |r| r.stale)
            .text("publisher", |r| &r.publisher)
            .text("offer", |r| &r.offer)
            .text("sku", |r| &r.sku)
            .text("version", |r| &r.version)
            .list("locations", |r| &r.locations)
            .text_or_null("details_from", |r| r.details_from.map(DetailsFrom::as_str))
            .text_or_null("os", |r| r.os.as_deref())
            .text_or_null("architecture", |r| r.architecture.as_deref())
            .text_or_null("hyper_v_generation", |r| r.hyper_v_generation.as_deref())
            .text_or_null("plan_publisher", |r| r.plan_publisher.as_deref())
            .text_or_null("plan_product", |r| r.plan_product.as_deref())
            .text_or_null("plan_name", |r| r.plan_name.as_deref())
            .time_or_null("scheduled_deprecation_at", |r| r.scheduled_deprecation_at)
            .text_or_null("alternative", |r| r.alternative.as_deref())
            .map("features", |r| &r.features)
            .time("first_seen_at", |r| r.first_seen_at);
    }
}
