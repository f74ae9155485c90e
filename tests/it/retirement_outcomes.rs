//! What became of a retirement: due again where it failed, waited for where it was begun.

use crate::support::bent::{
    FAILED, bent, gallery_of, in_state, is_change, is_operation, is_version, sim, version_of,
    with_body,
};
use crate::support::changes::{SIZE, first};
use crate::support::galleries::{crawl, rows, tenant};
use crate::support::{Azure, finish, json, paused};
use crate::tests;
use azimg::testing::gallery::retire::{Action, Ledger, Plan, RetirePlan, Rules, plan};
use azimg::testing::gallery::{Galleries, Name};
use azimg::testing::sim::{OrganisationSize, Sim};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;

tests![
    soft_deleted_versions_are_never_the_latest,
    a_retirement_says_until_when_it_can_be_undone,
    a_retirement_that_failed_is_due_again,
    a_retirement_waits_for_what_it_had_begun,
];

fn soft_deleted_versions_are_never_the_latest() {
    let mut world = tenant(OrganisationSize { shared: 2, communities: 2, ..OrganisationSize::FEW });
    let all = &mut world.organisation;
    let mut deleted = Vec::new();
    for gallery in all.shared.values_mut().chain(all.communities.values_mut()) {
        for definition in gallery.definitions.values_mut() {
            for version in definition.versions.values_mut() {
                (version.excluded, version.end_of_life) = (false, None);
            }
            let newest = definition.versions.values_mut().next_back().unwrap();
            newest.soft_deleted = Some("2026-12-20T00:00:00Z".to_owned());
            deleted.push(format!("{}/{}/{}", gallery.name, definition.name, newest.name));
        }
    }
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    crawl(&azure, folder.path(), &[]);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut found = 0;
    for row in rows(folder.path()).iter().filter(|row| !row["version"].is_null()) {
        let name = ["gallery", "definition", "version"].map(|name| text(row, name)).join("/");
        if deleted.contains(&name) {
            found += 1;
            assert_eq!(row["provisioningState"], "SoftDeleted", "{row}");
            assert_eq!(row["isLatest"], false, "{row}");
        } else {
            assert_ne!(row["provisioningState"], "SoftDeleted", "{row}");
        }
    }
    assert!(found > 3, "{found} of {deleted:?}");
}

fn a_retirement_says_until_when_it_can_be_undone() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, definition, _] = first(&azure.sim);
    let policy = json!({"isSoftDeleteEnabled": true, "retentionPeriodInDays": 10,
        "gracePeriodInDays": 4});
    gallery_of(&azure.sim, &gallery, |gallery| gallery.soft_delete = Some(policy));
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let only = format!("{}/{}", gallery.own.gallery, definition.definition.unwrap());
    let rules = ["gallery", "retire", "--keep", "8", "--filter", &only, "--max-percent", "100"];
    let delete = ["--action", "delete", "--plan", plan, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut azure.azimg(&[&rules[..], &delete].concat()));
    assert_eq!(code, 0, "{stderr}");
    let planned: Value = serde_json::from_str(&stdout).unwrap();
    let id = gallery.id();
    assert_eq!(planned["restorableDays"], json!({ id.clone(): 14 }));
    assert!(
        stderr.contains(&format!(
            "{id} has soft deletion: a deleted version can be restored for 14 days"
        )),
        "{stderr}"
    );
    let apply = ["gallery", "retire", "--apply", plan, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut azure.azimg(&apply));
    assert_eq!(code, 0, "{stderr}");
    let applied: Value = serde_json::from_str(&stdout).unwrap();
    let until = applied["restorableUntil"][&id].as_str().unwrap();
    let format = &time::format_description::well_known::Rfc3339;
    let until = OffsetDateTime::parse(until, format).unwrap();
    let made = OffsetDateTime::parse(planned["madeAt"].as_str().unwrap(), format).unwrap();
    let days = (until - made).whole_days();
    assert!((14..16).contains(&days), "{days}");
    assert!(stderr.contains("versions deleted now can be restored"), "{stderr}");
    // What is only excluded is not deleted.
    let excluded = json(&mut azure.azimg(&[&rules[..], &["-o", "json"]].concat()));
    assert!(excluded["restorableDays"].is_null(), "{excluded}");
}

/// A plan that excludes all but the three newest of each definition.
async fn planned(galleries: &Galleries, sim: &Sim) -> RetirePlan {
    let rules = Rules { keep: 3, older_than_days: None, action: Action::Exclude, max_percent: 100 };
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let mut definitions = Vec::new();
    for (own, definition) in galleries.definitions(&sim.subscriptions, &[]).await.unwrap() {
        let world = galleries.world(&own, &definition, &[], now).await.unwrap();
        definitions.push(plan(&world, &rules, now).unwrap());
    }
    RetirePlan {
        schema_version: RetirePlan::VERSION,
        plan: "PLAN".into(),
        made_at: now,
        expires_at: now + Duration::from_hours(1),
        rules,
        definitions,
        restorable_days: BTreeMap::new(),
    }
}

/// The operation of an exclusion fails, and what it wanted is to be seen all the same: it is not done.
fn a_retirement_that_failed_is_due_again() {
    let sim = sim();
    let left = Arc::new(AtomicUsize::new(1));
    let (azure, failing) = (Arc::clone(&sim), Arc::clone(&left));
    let (galleries, wire) = bent(&sim, move |request, answer| {
        let fails = failing.load(Ordering::SeqCst) > 0;
        if is_change(request) {
            let name = Name::from_id(request.url.path()).unwrap();
            let state = if fails { "Failed" } else { "Succeeded" };
            version_of(&azure, &name, |version| version.state = state);
        }
        if is_operation(request) && fails {
            failing.fetch_sub(1, Ordering::SeqCst);
            return Ok(with_body(answer, FAILED));
        }
        Ok(answer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    paused(async {
        let plan = planned(&galleries, &sim).await;
        let all = plan.retired().count();
        let mut ledger = Ledger::open(&path, "PLAN").unwrap();
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.left.len()), (all - 1, 1), "the others are done");
        assert!(applied.left[0].reason.contains("East US has no room"), "{applied:?}");
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.before), (1, all - 1));
        assert_eq!(wire.changes.load(Ordering::SeqCst), all + 1, "the one that failed twice");
    });
    assert_eq!(left.load(Ordering::SeqCst), 0);
}

/// An application that is left while a change is under way: the next one waits for that, and does not repeat it.
fn a_retirement_waits_for_what_it_had_begun() {
    let sim = sim();
    let left = Arc::new(AtomicUsize::new(0));
    let looks = Arc::clone(&left);
    let begun: Arc<Mutex<Option<String>>> = Arc::default();
    let (first, polled) = (Arc::clone(&begun), Arc::new(Notify::new()));
    let notify = Arc::clone(&polled);
    let (galleries, wire) = bent(&sim, move |request, mut answer| {
        let mut first = first.lock().unwrap();
        if is_change(request) && first.is_none() {
            *first = Some(request.url.path().to_owned());
            looks.store(3, Ordering::SeqCst);
        }
        if is_operation(request) && looks.load(Ordering::SeqCst) == 3 {
            notify.notify_one();
            return Ok(with_body(answer, "{\"status\":\"InProgress\"}"));
        }
        // It is under way for two more looks at it.
        let Some(path) = first.as_deref().filter(|_| looks.load(Ordering::SeqCst) > 0) else {
            return Ok(answer);
        };
        if is_version(request) && request.url.path() == path {
            looks.fetch_sub(1, Ordering::SeqCst);
            return Ok(in_state(answer, "Updating"));
        }
        if request.url.path().ends_with("/versions") && path.starts_with(request.url.path()) {
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
            let rows = body["value"].as_array_mut().unwrap().iter_mut();
            for row in rows.filter(|row| row["id"] == path) {
                row["properties"]["provisioningState"] = "Updating".into();
            }
            answer = with_body(answer, body.to_string());
        }
        Ok(answer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    paused(async {
        let plan = planned(&galleries, &sim).await;
        let all = plan.retired().count();
        let mut ledger = Ledger::open(&path, "PLAN").unwrap();
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        tokio::select! {
            ended = applied => panic!("it was not left: {ended:?}"),
            () = polled.notified() => {}
        }
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.before), (all - 1, 1));
        assert_eq!(wire.changes.load(Ordering::SeqCst), all, "each once");
    });
    assert_eq!(left.load(Ordering::SeqCst), 0, "it was waited for");
}
