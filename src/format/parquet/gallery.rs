//! The columns of the gallery table.

use super::TableRow;
use super::columns::Columns;
use crate::image::gallery::GalleryImage;

impl TableRow for GalleryImage {
    const SOUGHT: (&'static str, u64) = ("gallery", 2_048);

    fn columns(columns: &mut Columns<Self>) {
        head(columns);
        columns
            .text_or_null("os", |r| r.os.as_deref())
            .text_or_null("os_state", |r| r.os_state.as_deref())
            .text_or_null("architecture", |r| r.architecture.as_deref())
            .text_or_null("hyper_v_generation", |r| r.hyper_v_generation.as_deref())
            .text_or_null("security_type", |r| r.security_type.as_deref())
            .map("features", |r| &r.features)
            .list("locations", |r| &r.locations)
            .list("excluded_locations", |r| &r.excluded_locations)
            .counts("replicas", |r| &r.replicas)
            .text_or_null("replication_state", |r| r.replication_state.as_deref())
            .map("replication", |r| &r.replication)
            .text_or_null("replication_mode", |r| r.replication_mode.as_deref())
            .text_or_null("provisioning_state", |r| r.provisioning_state.as_deref())
            .text_or_null("storage_type", |r| r.storage_type.as_deref())
            .map("storage_types", |r| &r.storage_types)
            .text_or_null("source_id", |r| r.source_id.as_deref())
            .text_or_null("source_kind", |r| r.source_kind.as_deref())
            .time_or_null("published_at", |r| r.published_at)
            .time_or_null("end_of_life_at", |r| r.end_of_life_at)
            .flag("exclude_from_latest", |r| r.exclude_from_latest)
            .flag("block_deletion_before_end_of_life", |r| r.block_deletion_before_end_of_life)
            .count_or_null("min_vcpus", |r| r.min_vcpus)
            .count_or_null("max_vcpus", |r| r.max_vcpus)
            .count_or_null("min_memory", |r| r.min_memory)
            .count_or_null("max_memory", |r| r.max_memory)
            .list("disallowed_disk_types", |r| &r.disallowed_disk_types)
            .text_or_null("plan_publisher", |r| r.plan_publisher.as_deref())
            .text_or_null("plan_product", |r| r.plan_product.as_deref())
            .text_or_null("plan_name", |r| r.plan_name.as_deref())
            .text_or_null("eula", |r| r.eula.as_deref())
            .text_or_null("privacy_uri", |r| r.privacy_uri.as_deref())
            .text_or_null("release_notes_uri", |r| r.release_notes_uri.as_deref())
            .text_or_null("description", |r| r.description.as_deref())
            .map("tags", |r| &r.tags)
            .time("first_seen_at", |r| r.first_seen_at);
    }
}

/// The columns of a row's origin and names.
fn head(columns: &mut Columns<GalleryImage>) {
    columns
        .text("kind", |r| r.kind.as_str())
        .text("id", |r| &r.id)
        .text("status", |r| r.status.as_str())
        .flag("is_latest", |r| r.is_latest)
        .time("observed_at", |r| r.observed_at)
        .text("observed_run", |r| &r.observed_run)
        .flag("stale", |r| r.stale)
        .text_or_null("subscription_id", |r| r.subscription_id.as_deref())
        .text_or_null("resource_group", |r| r.resource_group.as_deref())
        .text_or_null("gallery", |r| r.gallery.as_deref())
        .text_or_null("sharing", |r| r.sharing.as_deref())
        .list("public_names", |r| &r.public_names)
        .text("definition", |r| &r.definition)
        .text_or_null("publisher", |r| r.publisher.as_deref())
        .text_or_null("offer", |r| r.offer.as_deref())
        .text_or_null("sku", |r| r.sku.as_deref())
        .text_or_null("version", |r| r.version.as_deref());
}
