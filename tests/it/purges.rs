//! Plans of purges: what is protected never goes, whatever is pushed meanwhile.

use crate::support::plans::written_down;
use crate::support::purge_oracle::Oracle;
use crate::support::shop::{Shop, World, now};
use crate::support::{json, read_json};
use crate::tests;
use azimg::testing::format::ledger::Ledger;
use azimg::testing::image::referrers::tagged_subject;
use azimg::testing::purge::{
    DeletionLimit, ImageUsage, InUse, ManifestState, Plan, PurgePlan, RepositoryState, Rule, Rules,
    Span, TagState, apply, plan,
};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

tests![
    protected_manifests_survive_ten_thousand_plans slow "ten thousand plans",
    a_repository_that_never_stops_changing_is_given_up,
    deletion_limits_and_ages_hold,
    running_images_are_never_purged,
];

fn some_rules(random: &mut StdRng) -> Rules {
    let pattern = |random: &mut StdRng| {
        ["*", "pr-*", "v-*", "regex:(pr|v)-[0-9]+", "v-1?", "*-amd64"][random.random_range(0..6)]
            .parse()
            .unwrap()
    };
    let rules = (0..random.random_range(1..3)).map(|_| Rule {
        repositories: "app*".parse().unwrap(),
        tags: random.random_bool(0.85).then(|| pattern(random)),
        older_than: random
            .random_bool(0.7)
            .then(|| Span::new(Duration::from_hours(24 * random.random_range(0..60)))),
        keep: Some(random.random_range(0..5)),
        keep_tags: if random.random_bool(0.5) {
            vec!["release-*".parse().unwrap()]
        } else {
            vec![]
        },
        untagged: random.random_bool(0.8),
        orphans: random.random_bool(0.5),
    });
    let rules: Vec<Rule> = rules.collect();
    let grace = match random.random_range(0..4) {
        0 => Some(Span::new(Duration::from_mins(random.random_range(0..180)))),
        _ => None,
    };
    // What is about nothing is no rule.
    let about = |rule: &Rule| rule.tags.is_some() || rule.untagged || rule.orphans;
    let rules: Vec<Rule> = rules
        .into_iter()
        .map(|rule| Rule { untagged: rule.untagged || !about(&rule), ..rule })
        .collect();
    Rules { grace, rules }
}

/// What must be there after a purge, worked out without the planner: by what was there when the plan
/// was made, and what was pushed since.
fn check(oracle: &Oracle<'_>, shop: &World, seed: u64) {
    let before = oracle.state;
    let after: BTreeMap<&str, &ManifestState> =
        shop.state.manifests.iter().map(|m| (m.digest.as_str(), m)).collect();
    let had: BTreeSet<&str> = before
        .manifests
        .iter()
        .map(|m| m.digest.as_str())
        .chain(shop.fresh.iter().map(String::as_str))
        .collect();
    let tags: BTreeMap<&str, &str> =
        shop.state.tags.iter().map(|t| (t.name.as_str(), t.digest.as_str())).collect();
    for manifest in before.manifests.iter().filter(|manifest| oracle.is_held(manifest)) {
        assert!(after.contains_key(manifest.digest.as_str()), "seed {seed}: locked or in use");
    }
    for manifest in after.values() {
        for part in manifest.parts.iter().filter(|part| had.contains(part.as_str())) {
            assert!(after.contains_key(part.as_str()), "seed {seed}: a part of what stays");
        }
        // What it refers to goes first: a push after that may need it all the same.
        let subject = manifest.subject.as_deref().filter(|subject| {
            shop.deleted.get(*subject).is_none_or(|meddled| *meddled == shop.meddled)
        });
        if let Some(subject) = subject.filter(|subject| had.contains(subject)) {
            assert!(after.contains_key(subject), "seed {seed}: what stays refers to it");
        }
    }
    for manifest in &before.manifests {
        let stays = manifest.subject.as_deref().is_some_and(|subject| after.contains_key(subject));
        assert!(!stays || after.contains_key(manifest.digest.as_str()), "seed {seed}: a referrer");
    }
    for digest in &shop.fresh {
        assert!(after.contains_key(digest.as_str()), "seed {seed}: pushed since the plan");
    }
    for (tag, digest) in &shop.fresh_tags {
        assert_eq!(tags.get(tag.as_str()), Some(&digest.as_str()), "seed {seed}: tagged since");
    }
    let goes = oracle.gone_tags();
    for tag in &before.tags {
        let moved = shop.fresh_tags.contains_key(&tag.name);
        let of_subject = tagged_subject(&tag.name).is_some();
        if !goes.contains(tag.name.as_str()) && !moved && !of_subject {
            assert_eq!(
                tags.get(tag.name.as_str()),
                Some(&tag.digest.as_str()),
                "seed {seed}: {tag:?}"
            );
        }
    }
}

/// Lists of what runs, as people have them: references by tag and digest, and configurations; what they are about.
fn some_lists(world: &mut World) -> (ImageUsage, BTreeSet<String>) {
    let (mut text, mut used) = (String::new(), BTreeSet::new());
    for _ in 0..world.random.random_range(0..3) {
        let count = world.state.manifests.len();
        let manifest = &world.state.manifests[world.random.random_range(0..count)];
        let digest = manifest.digest.clone();
        let config = manifest.blobs.keys().next().unwrap().clone();
        let tag = world.state.tags.iter().find(|tag| tag.digest == digest);
        let line = match (world.random.random_range(0..4), tag) {
            (0, Some(tag)) => format!("r.azurecr.io/app:{}", tag.name),
            (1, _) => config,
            (2, _) => digest.clone(),
            _ => format!("docker-pullable://r.azurecr.io/app@{digest}"),
        };
        text.extend([line.as_str(), "\nr.azurecr.io/other@", &digest.replace('0', "1"), "\n"]);
        used.insert(digest);
    }
    if text.is_empty() {
        return (ImageUsage::default(), used);
    }
    (ImageUsage(InUse::parse("list", &text, "r.azurecr.io").unwrap().uses), used)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn protected_manifests_survive_ten_thousand_plans() {
    let seeds = number("AZIMG_SEED").map_or(0..10_000, |seed| seed..seed + 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut planned_in_all, mut went) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, 0.15);
        let count = world.random.random_range(1..30);
        world.grow(count, &|random| random.random_range(0..90));
        let rules = some_rules(&mut world.random);
        let (uses, used) = some_lists(&mut world);
        world.state.uncounted = u64::from(world.random.random_bool(0.03));
        (world.skew, world.late) = match seed % 8 {
            1 => ((1, 0), 0),
            2 => ((-1, -1), 0),
            3 => ((0, 0), 3),
            5 => ((0, 1), 6),
            _ => ((0, 0), 0),
        };
        let before = world.state.clone();
        let in_use = uses.of(&before);
        // The clock of who plans may be a day ahead of the registry's, or behind.
        let at = now() + time::Duration::days([0, 1, -1][(seed % 5).min(2) as usize]);
        let planned = plan(&before, &rules, &in_use, at);
        let oracle = Oracle { state: &before, rules: &rules, used: &used, at };
        let wanted: BTreeSet<String> =
            planned.deletions.iter().map(|deletion| deletion.digest.clone()).collect();
        assert_eq!(wanted, oracle.goes(), "seed {seed}: {rules:?}");
        let whole = written_down(planned.clone(), rules.clone(), at);
        // It is what it says after it was written down.
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(PurgePlan::parse(&text).unwrap(), whole);
        let calm = seed % 4 == 0;
        world.dies = (seed % 3 == 0).then(|| world.random.random_range(0..20));
        let shop = Shop { world: Mutex::new(world), calm };
        let path = folder.path().join(seed.to_string());
        let tell = |_: &str, _: usize| {};
        let mut last = None;
        for _ in 0..3 {
            let mut ledger = Ledger::open(&path, "PLAN").unwrap();
            let done = apply(&shop, &whole, &uses, &mut ledger, None, &tell);
            let applied = runtime.block_on(done).unwrap();
            let died = shop.world.lock().unwrap().dies.take().is_some();
            last = Some(applied);
            if !died {
                break;
            }
        }
        std::fs::remove_file(&path).unwrap();
        let shop = shop.world.into_inner().unwrap();
        check(&oracle, &shop, seed);
        let deleted: BTreeSet<String> = shop.deleted.keys().cloned().collect();
        assert!(deleted.is_subset(&wanted), "seed {seed}: not in the plan");
        if calm {
            assert_eq!(deleted, wanted, "seed {seed}: {last:?}");
            let left: BTreeSet<&str> = shop.state.tags.iter().map(|t| t.name.as_str()).collect();
            let untagged = planned.untaggings.iter().all(|u| !left.contains(u.tag.as_str()));
            assert!(untagged, "seed {seed}: {last:?}");
        }
        planned_in_all += wanted.len();
        went += deleted.len();
    }
    println!("{planned_in_all} manifests planned, {went} went");
    assert!(planned_in_all == 0 || went > planned_in_all / 3);
}

/// A repository that says each time that it was changed: the purge ends, and can be gone on with.
fn a_repository_that_never_stops_changing_is_given_up() {
    let mut world = World::new(1, 0.0);
    world.is_restless = true;
    world.grow(20, &|random| random.random_range(40..90));
    let text = r#"{"rules": [{"repositories": "app", "tags": "*", "keep": 0, "untagged": true}]}"#;
    let rules = Rules::parse(text).unwrap();
    let planned = plan(&world.state, &rules, &BTreeMap::new(), now());
    assert!(!planned.deletions.is_empty());
    let whole = written_down(planned, rules, now());
    let shop = Shop { world: Mutex::new(world), calm: false };
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("ledger"), "PLAN").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tell, uses) = (|_: &str, _: usize| {}, ImageUsage::default());
    let done = apply(&shop, &whole, &uses, &mut ledger, None, &tell);
    let applied = runtime.block_on(done).unwrap();
    assert_eq!(applied.deleted, 0);
    assert!(applied.failed[0].reason.contains("when no pushes are in progress"), "{applied:?}");
}

fn deletion_limits_and_ages_hold() {
    let one = |text: &str| text.parse::<DeletionLimit>();
    assert!(one("-1").is_err() && one("101%").is_err() && one("x").is_err());
    let rules =
        Rules::parse(r#"{"rules": [{"repositories": "app", "tags": "*", "keep": 1}]}"#).unwrap();
    let mut state = RepositoryState { name: "app".into(), ..RepositoryState::default() };
    for number in 0..10_i64 {
        let digest = format!("sha256:{number:064x}");
        let updated = Some(now() - time::Duration::days(number));
        state.manifests.push(ManifestState {
            digest: digest.clone(),
            updated,
            bytes: 1,
            ..ManifestState::default()
        });
        let name = format!("v{number}");
        state.tags.push(TagState { name, digest, updated, is_locked: false, unread: None });
    }
    let planned = plan(&state, &rules, &BTreeMap::new(), now());
    assert_eq!(planned.deletions.len(), 9);
    let whole = written_down(planned, rules.clone(), now());
    let check = |text: &str| whole.check_limit(one(text).unwrap());
    assert!(check("9").is_ok() && check("8").is_err());
    assert!(check("90%").is_ok() && check("89%").is_err());
    assert!(whole.check_time(now()).is_ok());
    assert!(whole.check_time(now() + time::Duration::hours(25)).is_err());
    // The longest age that there is: nothing is that old.
    let text = r#"{"rules": [{"repositories": "app", "tags": "*", "older-than": "36500d"}]}"#;
    let planned = plan(&state, &Rules::parse(text).unwrap(), &BTreeMap::new(), now());
    assert_eq!(planned.deletions.len(), 0);
}

fn running_images_are_never_purged() {
    let azure = crate::support::Azure::start(crate::support::registries::world(6));
    let registry = azure.sim.registries()[0].clone();
    let server = &registry.login_server;
    let name = "app-1";
    let repository = &registry.repositories[name];
    let (tag, used) = repository.tags.iter().next().unwrap();
    let id = format!(
        "/subscriptions/{}/resourceGroups/rg/providers/Microsoft.App/containerApps/shop",
        registry.subscription
    );
    let app = json!({"id": id, "name": "shop", "type": "microsoft.app/containerapps",
        "subscriptionId": registry.subscription, "properties": {"template": {"containers": [
            {"image": format!("{server}/{name}:{tag}")}]}}});
    azure.sim.organisation().machines.insert(id.clone(), app);
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "registry",
        "purge",
        server,
        "--repository",
        name,
        "--keep",
        "0",
        "--untagged",
        "--yes",
        "-o",
        "json",
    ];
    let applied = json(azure.azimg(&line).current_dir(folder.path()));
    assert!(applied["deleted"].as_u64().unwrap() > 0, "{applied}");
    let after = azure.sim.registries()[0].repositories[name].clone();
    assert_eq!(after.tags[tag].digest, used.digest);
    assert!(after.manifests.contains_key(&used.digest));
    let plan = read_json(&folder.path().join(applied["plan"].as_str().unwrap()));
    let protected = plan["repositories"][0]["protected"].as_array().unwrap().clone();
    let of_it = protected.iter().find(|row| row["digest"] == used.digest.as_str()).unwrap();
    assert_eq!(of_it["protectedBy"], format!("in use by {id}"));
    // Locks stay, too.
    let locked = repository.manifests.iter().filter(|(_, m)| !m.attributes.delete);
    assert!(locked.into_iter().all(|(digest, _)| after.manifests.contains_key(digest)));
}
