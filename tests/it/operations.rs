//! Changes of galleries: made once, followed to their end, never half done without saying so.

use crate::galleries::tenant;
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json};
use azimg::client::{Client, Outgoing, Wire};
use azimg::gallery::retire::{Action, Ledger, PLAN_VERSION, RetirePlan, Rules, World, plan};
use azimg::gallery::{Changes, Ended, Galleries, Name, Patience, ShareWith, Sharing};
use azimg::image::gallery::{GalleryImage, Kind};
use azimg::image::machine::{Machine, MachineKind, Reference};
use azimg::sim::{Conditions, Keeps, Sim, SimCredential};
use proptest::prelude::*;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

const KEEPS: Keeps = Keeps { versions: 120, machines: 0, ..Keeps::FEW };

/// How the answer to a request that changes something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The request never arrives.
    Before,
    /// It is done, and the answer never arrives.
    After,
}

/// A wire on which the n-th change is lost, and that can stop altogether.
#[derive(Debug)]
struct Losing {
    inner: crate::support::fleet::Direct,
    lose: Vec<Loss>,
    changes: AtomicUsize,
    /// The process dies instead of sending another change after so many.
    dies_after: usize,
    dies: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl Wire for Losing {
    async fn send(
        &self,
        request: &Outgoing,
        bearer: HeaderValue,
    ) -> azimg::error::Result<azimg::client::Answer> {
        let lost = || azimg::error::Error::transient("the connection broke");
        let changes =
            request.method != reqwest::Method::GET && !request.url.path().contains("Graph");
        if !changes {
            return self.inner.send(request, bearer).await;
        }
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        if number >= self.dies_after {
            self.dies.notify_one();
            std::future::pending::<()>().await;
        }
        match self.lose.get(number) {
            Some(Loss::Before) => Err(lost()),
            Some(Loss::After) => {
                self.inner.send(request, bearer).await?;
                Err(lost())
            }
            None => self.inner.send(request, bearer).await,
        }
    }
}

struct Stage {
    sim: Arc<Sim>,
    wire: Arc<Losing>,
    galleries: Galleries,
}

fn stage(lose: &[Loss]) -> Stage {
    let sim = Sim::new(tenant(KEEPS), Conditions::default());
    on(&sim, lose, usize::MAX)
}

fn on(sim: &Arc<Sim>, lose: &[Loss], dies_after: usize) -> Stage {
    let sim = Arc::clone(sim);
    let inner = crate::support::fleet::Direct {
        sim: Arc::clone(&sim),
        latency: Duration::from_millis(50),
        random: None,
    };
    let changes = AtomicUsize::new(0);
    let wire = Arc::new(Losing {
        inner,
        lose: lose.to_vec(),
        changes,
        dies_after,
        dies: tokio::sync::Notify::new(),
    });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::over(
        Arc::clone(&wire) as Arc<dyn Wire>,
        endpoint,
        "scope".into(),
        vec![Arc::new(SimCredential)],
    );
    let galleries = Galleries::new(client.unwrap()).with_patience(Patience::default());
    Stage { sim, wire, galleries }
}

fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

/// The first gallery's first definition and its first version.
fn first(sim: &Sim) -> [Name; 3] {
    let all = sim.organisation();
    let gallery = all.galleries.values().next().unwrap();
    let definition = gallery.definitions.values().next().unwrap();
    let version = definition.versions.values().find(|v| v.state == "Succeeded").unwrap();
    let id = gallery.id();
    let names = [
        id.clone(),
        format!("{id}/images/{}", definition.name),
        format!("{id}/images/{}/versions/{}", definition.name, version.name),
    ];
    names.map(|id| Name::from_id(&id).unwrap())
}

fn changed(sim: &Sim, operation: &str) -> u64 {
    let stats = sim.stats.to_json();
    let counts = stats["operations"][operation].as_object().cloned().unwrap_or_default();
    counts.values().filter_map(Value::as_u64).sum()
}

#[test]
fn an_update_whose_answer_is_lost_is_made_once() {
    for lose in [&[][..], &[Loss::After], &[Loss::Before], &[Loss::Before, Loss::After]] {
        let stage = stage(lose);
        let [.., version] = first(&stage.sim);
        let changes = Changes {
            exclude_from_latest: Some(true),
            end_of_life: Some(Some(OffsetDateTime::UNIX_EPOCH)),
            add_regions: vec!["japaneast=2".parse().unwrap()],
            ..Changes::default()
        };
        paused(async {
            let change = stage.galleries.plan_update(&version, &changes).await.unwrap().unwrap();
            let ended = stage.galleries.update(&version, &change, true, &|_| {}).await.unwrap();
            assert!(matches!(ended, Ended::Done));
            let again = stage.galleries.plan_update(&version, &changes).await.unwrap();
            assert!(again.is_none(), "it is so already");
        });
        assert_eq!(changed(&stage.sim, "UpdateGalleryVersion"), 1, "{lose:?}");
        let sent = stage.wire.changes.load(Ordering::SeqCst);
        let before = lose.iter().filter(|loss| **loss == Loss::Before).count();
        assert_eq!(sent, before + 1, "{lose:?}");
    }
}

#[test]
fn a_change_that_never_arrives_is_given_up_and_says_so() {
    let stage = stage(&[Loss::Before; 9]);
    let [gallery, ..] = first(&stage.sim);
    let changes = Changes { description: Some("new".into()), ..Changes::default() };
    let error = paused(async {
        let change = stage.galleries.plan_update(&gallery, &changes).await.unwrap().unwrap();
        stage.galleries.update(&gallery, &change, true, &|_| {}).await.unwrap_err()
    });
    assert!(error.to_string().contains("look at it again"), "{error}");
    assert_eq!(changed(&stage.sim, "UpdateGallery"), 0);
}

#[test]
fn sharing_whose_answer_is_lost_is_made_once() {
    let with = ShareWith {
        subscriptions: vec!["12345678-1234-4234-8234-123456789012".into()],
        tenants: vec!["22345678-1234-4234-8234-123456789012".into()],
    };
    for lose in [&[][..], &[Loss::After], &[Loss::Before]] {
        let stage = stage(lose);
        let [gallery, definition, _] = first(&stage.sim);
        paused(async {
            let add = Sharing::Add(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &add).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &add, &change, true, &|_| {}).await.unwrap();
            assert!(stage.galleries.plan_sharing(&gallery, &add).await.unwrap().is_none());
            let remove = Sharing::Remove(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &remove).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &remove, &change, true, &|_| {}).await.unwrap();
            let refused = stage.galleries.plan_sharing(&definition, &Sharing::Reset).await;
            assert!(refused.is_err());
        });
        assert_eq!(changed(&stage.sim, "PostShareGallery"), 2, "{lose:?}");
    }
}

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
        schema_version: PLAN_VERSION,
        plan: "PLAN".into(),
        made_at: now,
        expires_at: now + Duration::from_hours(1),
        rules: rules.clone(),
        definitions: all,
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

#[test]
fn a_retirement_that_dies_anywhere_is_gone_on_with_and_ends_as_planned() {
    for action in [Action::Delete, Action::Exclude, Action::EndOfLife] {
        let rules = Rules { keep: 3, older_than_days: Some(1), action, max_percent: 100 };
        for dies_after in [0, 1, 4] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let sim = Sim::new(tenant(KEEPS), Conditions::default());
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

#[test]
fn a_plan_that_the_world_left_behind_does_nothing() {
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
        assert!(error.to_string().contains("no longer what it was"), "{what}: {error}");
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
    Sim::new(tenant(KEEPS).with_organisation(organisation), Conditions::default())
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
    #[test]
    fn no_plan_takes_what_must_stay(
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
        azimg::image::gallery::mark_latest(&mut rows);
        let machines: Vec<Machine> = machines.iter().enumerate().map(|(n, (on, at, pinned))| {
            let exact = pinned.then(|| format!("{}.0.0", on % rows.len()));
            Machine {
                id: format!("/m/{n}"), name: "m".into(), kind: MachineKind::VirtualMachine,
                subscription: "s".into(), location: ["a", "b", "c"][*at].into(),
                image: Reference::Gallery("/d".into(), exact.clone()), exact,
            }
        }).collect();
        let world = World { definition: "/d".into(), versions: rows.clone(), machines: machines.clone() };
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

#[test]
fn the_command_line_shows_makes_and_follows_a_change() {
    let azure = Azure::start(tenant(KEEPS));
    let [gallery, definition, version] = first(&azure.sim).map(|name| name.id());
    let with = |arguments: &[&str]| json(&mut azure.azimg(arguments));
    let arguments = ["gallery", "update", &version, "--end-of-life", "2030-01-01"];
    let shown = with(&[&arguments[..], &["--dry-run", "-o", "json"]].concat());
    assert_eq!(shown["method"], "PATCH");
    let end = &shown["body"]["properties"]["publishingProfile"]["endOfLifeDate"];
    assert_eq!(end, "2030-01-01T00:00:00Z");
    assert_eq!(changed(&azure.sim, "UpdateGalleryVersion"), 0);
    let begun = with(&[&arguments[..], &["--no-wait", "-o", "json"]].concat());
    let operation = begun["operation"].as_str().unwrap();
    let ended = with(&["gallery", "wait", operation, "-o", "json"]);
    assert_eq!(ended["state"], "succeeded");
    // By its short name, as people call it.
    let short = |id: &str, parts: &[usize]| {
        let all: Vec<&str> = id.split('/').collect();
        parts.iter().map(|at| all[*at]).collect::<Vec<_>>().join("/")
    };
    let name = short(&definition, &[8, 10]);
    let after = with(&["gallery", "update", &name, "--max-vcpus", "32", "-o", "json"]);
    assert_eq!(after["properties"]["recommended"]["vCPUs"]["max"], 32);
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let (found, _, stderr) = finish(&mut azure.azimg(arguments));
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    refused(&["gallery", "update", &definition, "--os", "Windows"], 2, "make a new definition");
    refused(&["gallery", "update", &gallery, "--end-of-life", "none"], 2, "what can be is");
    refused(&["gallery", "update", &version, "--description", "x"], 2, "--target-region");
    refused(&["gallery", "update", "nobody/x", "--description", "x"], 4, "no gallery 'nobody'");
    refused(&["gallery", "share", &gallery, "--tenant", "me"], 2, "'me' is the id of no");
    refused(&["gallery", "wait", "https://example.com/x"], 1, "refused to send the token");
    refused(&["gallery", "retire", "--keep", "1", "--action", "delete"], 2, "--max-percent");
}

/// The address of an operation is signed: it reaches no log and no error.
#[test]
fn no_signature_is_ever_said() {
    let faults = vec![Fault::new("capsoperations", usize::MAX, How::Answer(403, &[], "{}"))];
    let faulty = Faulty::start(Azure::start(tenant(KEEPS)), faults);
    let [gallery, ..] = first(&faulty.azure.sim).map(|name| name.id());
    let arguments = ["-vv", "gallery", "update", &gallery, "--description", "x"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&arguments));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("403"), "{stderr}");
    for text in [stdout, stderr] {
        for secret in ["SIGNATURE", "CERTIFICATE", "HASH"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
