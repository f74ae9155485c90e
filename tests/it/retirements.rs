//! Retirements: planned, looked at by people, done once and exactly as planned.

use crate::support::changes::{Loss, SIZE, Stage, changed, on, stage};
use crate::support::galleries::tenant;
use crate::support::paused;
use crate::tests;
use azimg::testing::gallery::retire::{
    Action, DefinitionState, Ledger, PartState, Plan, RetirePlan, Retired, Rules, plan,
};
use azimg::testing::image::gallery::{GalleryImage, Kind};
use azimg::testing::image::machine::{Machine, MachineImage, MachineKind};
use azimg::testing::sim::{Conditions, Sim};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use time::OffsetDateTime;

tests![
    a_retirement_killed_at_any_step_resumes_and_ends_as_planned,
    an_outdated_plan_changes_nothing,
    no_plan_deletes_protected_versions,
    an_edited_plan_deletes_no_protected_versions,
    a_ledger_truncated_at_any_byte_is_resumed,
    one_plan_is_applied_by_one_process_at_a_time,
];

/// A plan over every definition, as the command makes it.
async fn planned(stage: &Stage, rules: &Rules) -> RetirePlan {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let subscriptions = stage.sim.subscriptions.clone();
    let definitions = stage.galleries.definitions(&subscriptions, &[]).await.unwrap();
    let machines = stage.galleries.machines().await.unwrap();
    let mut all = Vec::new();
    for (own, definition) in definitions {
        let world = stage.galleries.world(&own, &definition, &machines, now).await.unwrap();
        all.push(plan(&world, rules, now).unwrap());
    }
    RetirePlan {
        schema_version: RetirePlan::VERSION,
        plan: "PLAN".into(),
        made_at: now,
        expires_at: now + Duration::from_hours(1),
        rules: rules.clone(),
        definitions: all,
        restorable_days: BTreeMap::new(),
    }
}

fn ids(sim: &Sim) -> BTreeSet<String> {
    let all = sim.organisation();
    let mut ids = BTreeSet::new();
    for gallery in all.galleries.values() {
        for definition in gallery.definitions.values() {
            for version in definition.versions.keys() {
                ids.insert(format!(
                    "{}/images/{}/versions/{version}",
                    gallery.id(),
                    definition.name
                ));
            }
        }
    }
    ids
}

fn a_retirement_killed_at_any_step_resumes_and_ends_as_planned() {
    for action in [Action::Delete, Action::Exclude, Action::EndOfLife] {
        let rules = Rules { keep: 3, older_than_days: Some(1), action, max_percent: 100 };
        for dies_after in [0, 1, 4] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let sim = Sim::new(tenant(SIZE), Conditions::default());
            let (retirement, before) = paused(async {
                let stage = on(&sim, &[], usize::MAX);
                (planned(&stage, &rules).await, ids(&sim))
            });
            let goes: BTreeSet<String> = retirement.retired().map(|r| r.id.clone()).collect();
            assert!(goes.len() > 8, "{goes:?}");
            // It dies: some answers are lost before that.
            paused(async {
                let stage = on(&sim, &[Loss::After], dies_after);
                let mut ledger = Ledger::open(&path, "PLAN").unwrap();
                let now = retirement.made_at;
                let applied =
                    stage.galleries.apply(&retirement, &mut ledger, now, &|_, _, _, _| {});
                tokio::select! {
                    ended = applied => panic!("it did not die: {ended:?}"),
                    () = stage.wire.dies.notified() => {}
                }
            });
            // The end of its ledger was cut.
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str("{\"plan\":\"PL");
            std::fs::write(&path, text).unwrap();
            let applied = paused(async {
                let stage = on(&sim, &[Loss::Before, Loss::After], usize::MAX);
                let mut ledger = Ledger::open(&path, "PLAN").unwrap();
                let now = retirement.made_at;
                let applied =
                    stage.galleries.apply(&retirement, &mut ledger, now, &|_, _, _, _| {});
                applied.await.unwrap()
            });
            assert_eq!(applied.done + applied.before, goes.len());
            let after = ids(&sim);
            let operation = match action {
                Action::Delete => "DeleteGalleryVersion",
                _ => "UpdateGalleryVersion",
            };
            assert_eq!(changed(&sim, operation), goes.len() as u64, "each once");
            if action == Action::Delete {
                let gone: BTreeSet<String> = before.difference(&after).cloned().collect();
                assert_eq!(gone, goes);
            } else {
                assert_eq!(before, after);
            }
        }
    }
}

type Change = fn(&Sim);

fn an_outdated_plan_changes_nothing() {
    let rules = Rules { keep: 3, older_than_days: None, action: Action::Delete, max_percent: 100 };
    let changes: [(&str, Change); 3] = [
        ("a newer version", |sim| {
            let mut all = sim.organisation();
            let gallery = all.galleries.values_mut().next().unwrap();
            let definition = gallery.definitions.values_mut().next().unwrap();
            let mut version = definition.versions.values().next().unwrap().clone();
            version.name = "99.0.0".into();
            definition.versions.insert(version.name.clone(), version);
        }),
        ("a version that changed", |sim| {
            let mut all = sim.organisation();
            let gallery = all.galleries.values_mut().last().unwrap();
            let definition = gallery.definitions.values_mut().next().unwrap();
            let version = definition.versions.values_mut().next().unwrap();
            version.excluded = !version.excluded;
        }),
        ("a machine on what would go", |sim| {
            let id = first_retired(sim);
            let machine =
                "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/virtualMachines/m";
            let subscription = sim.subscriptions[0].clone();
            let row = json!({"id": machine.replace("/s/", &format!("/{subscription}/")), "name": "m",
                "type": "microsoft.compute/virtualmachines", "location": "eastus",
                "subscriptionId": subscription, "properties": {"storageProfile": {"imageReference":
                    {"id": id, "exactVersion": id.rsplit('/').next().unwrap()}}}});
            sim.organisation().machines.insert(machine.into(), row);
        }),
    ];
    for (what, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let stage = stage(&[]);
        let before = ids(&stage.sim).len();
        let error = paused(async {
            let retirement = planned(&stage, &rules).await;
            change(&stage.sim);
            let mut ledger = Ledger::open(&folder.path().join("l"), "PLAN").unwrap();
            let now = retirement.made_at;
            let late = now + Duration::from_hours(2);
            let expired =
                stage.galleries.apply(&retirement, &mut ledger, late, &|_, _, _, _| {}).await;
            assert!(expired.unwrap_err().to_string().contains("expired"));
            let applied = stage.galleries.apply(&retirement, &mut ledger, now, &|_, _, _, _| {});
            applied.await.unwrap_err()
        });
        assert!(error.to_string().contains("changed since the plan was made"), "{what}: {error}");
        assert!(ids(&stage.sim).len() >= before, "{what}");
        assert_eq!(stage.wire.changes.load(Ordering::SeqCst), 0, "{what}");
    }
}

/// The oldest version of the first definition: the first that any plan takes.
fn first_retired(sim: &Sim) -> String {
    let sim = on(&sim_of(sim), &[], usize::MAX);
    let rules = Rules { keep: 3, older_than_days: None, action: Action::Delete, max_percent: 100 };
    std::thread::spawn(move || {
        paused(async { planned(&sim, &rules).await.retired().next().unwrap().id.clone() })
    })
    .join()
    .unwrap()
}

/// Another simulated Azure with the same organisation.
fn sim_of(sim: &Sim) -> Arc<Sim> {
    let organisation = sim.organisation().clone();
    Sim::new(tenant(SIZE).with_organisation(organisation), Conditions::default())
}

fn version(number: u64, more: &(bool, bool, bool, Vec<usize>, u32)) -> GalleryImage {
    let (excluded, failed, ended, regions, days) = more;
    let mut row = GalleryImage::new(Kind::GalleryVersion, format!("/d/versions/{number}.0.0"));
    row.version = Some(format!("{number}.0.0"));
    row.exclude_from_latest = *excluded;
    row.provisioning_state = Some(if *failed { "Failed" } else { "Succeeded" }.to_owned());
    let places = ["a", "b", "c"];
    let regions: BTreeSet<&str> = regions.iter().map(|at| places[*at % 3]).collect();
    row.locations = regions.into_iter().map(str::to_owned).collect();
    row.published_at = Some(OffsetDateTime::UNIX_EPOCH - Duration::from_hours(24) * *days);
    row.end_of_life_at = ended.then(|| OffsetDateTime::UNIX_EPOCH - Duration::from_hours(1));
    row.status = row.status_at(OffsetDateTime::UNIX_EPOCH);
    row
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever there is: the latest stays everywhere, so do the newest, what something stands on, and
    /// a version in each region where something stands on the definition.
    fn no_plan_deletes_protected_versions(
        versions in prop::collection::vec(
            (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2),
             prop::collection::vec(0usize..3, 1..4), 0u32..200), 1..12),
        machines in prop::collection::vec((0usize..12, 0usize..3, any::<bool>()), 0..6),
        keep in 1usize..4, days in prop::option::of(0u32..100),
        action in prop::sample::select(vec![Action::Delete, Action::Exclude, Action::EndOfLife]),
    ) {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut rows: Vec<GalleryImage> =
            versions.iter().enumerate().map(|(n, more)| version(n as u64, more)).collect();
        azimg::testing::image::gallery::mark_latest(&mut rows);
        let machines: Vec<Machine> = machines.iter().enumerate().map(|(n, (on, at, pinned))| {
            let exact = pinned.then(|| format!("{}.0.0", on % rows.len()));
            Machine {
                id: format!("/m/{n}"), name: "m".into(), kind: MachineKind::VirtualMachine,
                subscription: "s".into(), location: ["a", "b", "c"][*at].into(),
                image: MachineImage::Gallery("/d".into(), exact.clone()), by_disk: false, exact,
            }
        }).collect();
        let world = DefinitionState { definition: "/d".into(), versions: rows.clone(), machines: machines.clone() };
        let rules = Rules { keep, older_than_days: days, action, max_percent: 100 };
        let planned = plan(&world, &rules, now).unwrap();
        prop_assert_eq!(planned.retired.len() + planned.kept.len(), rows.len());
        let goes = |row: &GalleryImage| planned.retired.iter().any(|r| r.id == row.id);
        let left: Vec<&GalleryImage> = rows.iter().filter(|row| !goes(row)).collect();
        for row in rows.iter().filter(|row| goes(row)) {
            prop_assert!(!row.is_latest);
            let name = row.version.as_deref().unwrap();
            if action == Action::Delete {
                prop_assert!(!machines.iter().any(|m| m.version() == Some(name)), "{}", name);
            }
            if let Some(days) = days {
                let age = now - row.published_at.unwrap();
                prop_assert!(age >= Duration::from_hours(24) * days);
            }
            // One that failed is none of the newest, and may go before them.
            if row.provisioning_state.as_deref() != Some("Succeeded") {
                continue;
            }
            let newer = left.iter().filter(|other| {
                let number = |row: &GalleryImage| -> u64 {
                    row.version.as_deref().unwrap().split('.').next().unwrap().parse().unwrap()
                };
                number(other) > number(row) && other.provisioning_state.as_deref() == Some("Succeeded")
            });
            prop_assert!(newer.count() >= keep);
        }
        for place in ["a", "b", "c"] {
            let newest = rows.iter().rev().find(|row| row.may_be_latest_in(place));
            prop_assert!(newest.is_none_or(|row| !goes(row)), "the latest in {}", place);
            if machines.iter().any(|machine| machine.location == place) {
                let there = |row: &GalleryImage| row.locations.iter().any(|name| name == place);
                let had = rows.iter().any(there);
                prop_assert!(!had || action != Action::Delete || left.iter().any(|row| there(row)));
            }
        }
        // The share that may go is kept to.
        let few = Rules { max_percent: 10, ..rules };
        match plan(&world, &few, now) {
            Ok(planned) => prop_assert!(planned.retired.len() * 10 <= rows.len()),
            Err(error) => prop_assert!(error.to_string().contains("--max-percent")),
        }
    }
}

type Edit = fn(&mut RetirePlan);

/// People look at a plan before it is done, and some change it: what is written into it must still be
/// what the rules let go, of that definition and in that way.
fn an_edited_plan_deletes_no_protected_versions() {
    let rules = Rules { keep: 3, older_than_days: None, action: Action::Exclude, max_percent: 100 };
    let edits: [(&str, Edit); 4] = [
        ("one that was to stay", |plan| {
            let kept = plan.definitions[0].kept[0].id.clone();
            plan.definitions[0].retired[0].id = kept;
        }),
        ("one of another definition", |plan| {
            let other = plan.definitions[1].kept[0].id.clone();
            plan.definitions[0].retired[0].id = other;
        }),
        ("one that is not there", |plan| plan.definitions[0].retired[0].id.push('9')),
        ("another action", |plan| plan.definitions[0].retired[0].action = Action::Delete),
    ];
    for (what, edit) in edits {
        let folder = tempfile::tempdir().unwrap();
        let stage = stage(&[]);
        let error = paused(async {
            let mut retirement = planned(&stage, &rules).await;
            retirement.definitions.retain(|planned| !planned.retired.is_empty());
            edit(&mut retirement);
            let mut ledger = Ledger::open(&folder.path().join("l"), "PLAN").unwrap();
            let now = retirement.made_at;
            let applied = stage.galleries.apply(&retirement, &mut ledger, now, &|_, _, _, _| {});
            applied.await.unwrap_err()
        });
        assert!(error.to_string().contains("would now be kept"), "{what}: {error}");
        assert_eq!(stage.wire.changes.load(Ordering::SeqCst), 0, "{what}");
    }
}

/// A crash cuts the last line anywhere: within a character, or just before the end of the line. What
/// was whole counts, and what is written next is whole.
fn a_ledger_truncated_at_any_byte_is_resumed() {
    let retired = |name: &str| Retired {
        id: format!("/subscriptions/s/résumé/{name}"),
        action: Action::Delete,
        reason: String::new(),
    };
    let (first, second, third) = (retired("1"), retired("2"), retired("3"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut ledger = Ledger::open(&path, "PLAN").unwrap();
    ledger.write(&first.id, PartState::Done, "").unwrap();
    let whole = std::fs::read(&path).unwrap().len();
    ledger.write(&second.id, PartState::Failed, "Größe").unwrap();
    drop(ledger);
    let text = std::fs::read(&path).unwrap();
    for cut in 0..=text.len() {
        std::fs::write(&path, &text[..cut]).unwrap();
        Ledger::open(&path, "PLAN").unwrap().write(&third.id, PartState::Begun, "").unwrap();
        let ledger = Ledger::open(&path, "PLAN").unwrap();
        let has = |at: usize, state| (cut >= at - 1).then_some(state);
        assert_eq!(ledger.state(&first.id), has(whole, PartState::Done), "{cut}");
        assert_eq!(ledger.state(&second.id), has(text.len(), PartState::Failed), "{cut}");
        assert_eq!(ledger.state(&third.id), Some(PartState::Begun), "{cut}");
    }
}

/// A schedule that overlaps itself: the second one is refused while the first is at work.
fn one_plan_is_applied_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let first = Ledger::open(&path, "PLAN").unwrap();
    let refused = Ledger::open(&path, "PLAN").unwrap_err();
    assert!(refused.to_string().contains("already being applied"), "{refused}");
    drop(first);
    Ledger::open(&path, "PLAN").unwrap();
}
