//! Purge plans, with the repository plan that a test computed.

use azimg::testing::purge::{Plan, PurgePlan, Rules};
use time::OffsetDateTime;

pub fn written_down(
    planned: azimg::testing::purge::RepositoryPlan,
    rules: Rules,
    made_at: OffsetDateTime,
) -> PurgePlan {
    PurgePlan {
        schema_version: PurgePlan::VERSION,
        plan: "PLAN".into(),
        login_server: "r.azurecr.io".into(),
        made_at,
        expires_at: made_at + time::Duration::days(1),
        catalog_run: None,
        rules,
        uses_known: true,
        in_use: Vec::new(),
        notes: Vec::new(),
        manifests: planned.manifests,
        deletions: planned.deletions.len(),
        untaggings: planned.untaggings.len(),
        bytes_freed: 0,
        repositories: vec![planned],
    }
}
