//! The columns of the registry table.

use super::TableRow;
use super::columns::Columns;
use crate::image::registry::RegistryImage;

impl TableRow for RegistryImage {
    const SOUGHT: (&'static str, u64) = ("repository", 10_000);

    fn columns(columns: &mut Columns<Self>) {
        head(columns);
        columns
            .list("tags", |r| &r.tags)
            .size_or_null("tags_total", |r| r.tags_total)
            .text_or_null("media_type", |r| r.media_type.as_deref())
            .text_or_null("config_media_type", |r| r.config_media_type.as_deref())
            .text_or_null("artifact_type", |r| r.artifact_type.as_deref())
            .text_or_null("subject", |r| r.subject.as_deref())
            .map("referrers", |r| &r.referrers)
            .size_or_null("referrers_total", |r| r.referrers_total)
            .list("platforms", |r| &r.platforms)
            .list("manifests", |r| &r.manifests)
            .size_or_null("manifests_total", |r| r.manifests_total)
            .text_or_null("os", |r| r.os.as_deref())
            .text_or_null("architecture", |r| r.architecture.as_deref())
            .time_or_null("created_at", |r| r.created_at)
            .time_or_null("updated_at", |r| r.updated_at)
            .time_or_null("built_at", |r| r.built_at)
            .size_or_null("bytes", |r| r.bytes)
            .flag_or_null("can_delete", |r| r.can_delete)
            .flag_or_null("can_write", |r| r.can_write)
            .flag_or_null("can_list", |r| r.can_list)
            .flag_or_null("can_read", |r| r.can_read)
            .map("annotations", |r| &r.annotations)
            .map("labels", |r| &r.labels)
            .sizes("layers", |r| &r.layers)
            .size_or_null("layers_total", |r| r.layers_total)
            .flag("is_content_known", |r| r.is_content_known)
            .text_or_null("scan_status", |r| r.scan_status.as_deref())
            .counts("findings", |r| &r.findings)
            .time_or_null("scanned_at", |r| r.scanned_at)
            .time("first_seen_at", |r| r.first_seen_at);
    }
}

/// The columns of a row's origin and names.
fn head(columns: &mut Columns<RegistryImage>) {
    columns
        .text("kind", |r| &r.kind)
        .text("id", |r| &r.id)
        .text("status", |r| r.status.as_str())
        .flag("is_latest", |r| r.is_latest)
        .time("observed_at", |r| r.observed_at)
        .text("observed_run", |r| &r.observed_run)
        .flag("stale", |r| r.stale)
        .text_or_null("registry_id", |r| r.registry_id.as_deref())
        .text("login_server", |r| &r.login_server)
        .text_or_null("subscription_id", |r| r.subscription_id.as_deref())
        .text_or_null("resource_group", |r| r.resource_group.as_deref())
        .text_or_null("location", |r| r.location.as_deref())
        .text_or_null("registry_sku", |r| r.registry_sku.as_deref())
        .text("repository", |r| &r.repository)
        .text("digest", |r| &r.digest);
}
