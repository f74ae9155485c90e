//! Registries whose answers have one member of another form: it costs itself, or its row and a line of coverage, and no
//! other row. `AZIMG_MUTATIONS=N` tries N of them, `AZIMG_SEED=N` replays one.

use crate::support::changing::Change;
use crate::support::mutated::{Crawl, WHOLE, coverage, crawl, run, unchanged, world};
use crate::tests;
use azimg::testing::sim::{OrganisationSize, Scale, World, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

tests![
    one_odd_member_is_ignored_and_counted,
    one_odd_row_is_skipped_and_not_marked_gone,
    unlisted_tags_are_kept_and_named_in_coverage,
    malformed_members_of_offers_and_galleries_are_counted_too,
    after_any_mutation_all_other_rows_are_there,
];

/// Changes the first row of the lists whose path ends so.
fn first(end: &'static str, list: &'static str, change: fn(&mut Value)) -> Change {
    Arc::new(move |path, body| {
        if let (true, Some(row)) = (path.ends_with(end), body[list].get_mut(0)) {
            change(row);
        }
    })
}

fn one_odd_member_is_ignored_and_counted() {
    let manifests = |change: fn(&mut Value)| first("/_manifests", "manifests", change);
    let cases: [(&str, Change); 7] = [
        (
            "changeableAttributes: null instead of an object",
            manifests(|row| row["changeableAttributes"] = Value::Null),
        ),
        (
            "imageSize: a negative number instead of a count",
            manifests(|row| row["imageSize"] = (-1).into()),
        ),
        (
            "imageSize: a string instead of a count",
            manifests(|row| row["imageSize"] = "123".into()),
        ),
        (
            "deleteEnabled: a string instead of a boolean",
            manifests(|row| row["changeableAttributes"]["deleteEnabled"] = "true".into()),
        ),
        (
            "createdTime: a string instead of a time",
            first("/_tags", "tags", |row| row["createdTime"] = "yesterday".into()),
        ),
        ("location", first("/registries", "value", |row| row["location"] = 7.into())),
        // What may be null is none.
        (
            "",
            Arc::new(|_, body| {
                for row in body["manifests"].as_array_mut().into_iter().flatten() {
                    for member in ["architecture", "os", "configMediaType", "references", "x"] {
                        row[member] = Value::Null;
                    }
                }
            }),
        ),
    ];
    for (what, change) in cases {
        let found = crawl(world(), change, None);
        let ids = |crawl: &Crawl| crawl.rows.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&found), ids(&WHOLE), "{what}");
        assert_eq!(found.failed(), Vec::<&Value>::new(), "{what}");
        let malformed = found.malformed();
        let is_reported = malformed.iter().any(|reported| reported.contains(what));
        assert!(is_reported || (what.is_empty() && malformed.is_empty()), "{what}: {malformed:?}");
    }
    // A count is how many rows have it: one in each list of manifests.
    let found = crawl(world(), manifests(|row| row["imageSize"] = (-1).into()), None);
    let without = found.rows.values().filter(|row| row["bytes"].is_null()).count();
    let lines = found.coverage["scopes"].as_array().unwrap().iter();
    let counted = lines.filter_map(|line| line["malformed"].as_object()).flatten();
    let counted: u64 = counted.map(|(_, times)| times.as_u64().unwrap()).sum();
    assert_eq!((without, counted), (10, 10));
}

fn one_odd_row_is_skipped_and_not_marked_gone() {
    let cases: [(&str, usize, Change); 4] = [
        (
            "its properties cannot be read",
            0,
            Arc::new(|path, body| {
                if path.ends_with("/registries") {
                    let mut more = body["value"][0].clone();
                    let id = format!("{}x", more["id"].as_str().unwrap());
                    (more["id"], more["properties"]) = (id.into(), Value::Null);
                    body["value"].as_array_mut().unwrap().push(more);
                }
            }),
        ),
        (
            "its login server cannot be read",
            1,
            first("/registries", "value", |row| row["properties"]["loginServer"] = Value::Null),
        ),
        (
            "1 of its repositories cannot be read",
            2,
            Arc::new(|path, body| {
                if path.ends_with("/_catalog") {
                    body["repositories"][0] = Value::Null;
                }
            }),
        ),
        (
            "1 of its manifests cannot be read (digest: null instead of a string)",
            10,
            first("/_manifests", "manifests", |row| row["digest"] = Value::Null),
        ),
    ];
    for (why, parts, change) in cases {
        let found = crawl(world(), Arc::clone(&change), None);
        let reasons: Vec<&Value> = found.failed().into_iter().map(|line| &line["reason"]).collect();
        let reported = reasons.iter().filter(|reason| reason.as_str().unwrap().starts_with(why));
        assert_eq!(reported.count(), parts.max(1), "{why}: {reasons:?}");
        assert!(found.rows.iter().all(|(id, row)| WHOLE.rows[id]["digest"] == row["digest"]));
        assert_eq!(found.rows.len() < WHOLE.rows.len(), parts > 0, "{why}");
        // What was there before is not gone: nobody knows.
        let again = crawl(world(), change, Some(&WHOLE.store));
        assert_eq!(again.rows.len(), WHOLE.rows.len(), "{why}");
        let removed = again.changes.iter().filter(|change| change["change"] == "removed");
        assert_eq!(removed.count(), 0, "{why}");
        let stale = again.rows.values().filter(|row| row["stale"] == true).count();
        assert_eq!(stale, WHOLE.rows.len() - found.rows.len(), "{why}");
    }
}

/// Manifests that tell one tag each, of which one has many.
fn cut() -> World {
    let mut world = world();
    for registry in &mut world.registries {
        registry.most_tags = Some(1);
        let repository = registry.repositories.get_mut("app-1").unwrap();
        let tag = repository.tags.values().next().unwrap().clone();
        for number in 0..30 {
            repository.tags.insert(format!("ci-{number}"), tag.clone());
        }
    }
    world
}

fn unlisted_tags_are_kept_and_named_in_coverage() {
    let tags = |crawl: &Crawl| -> BTreeSet<(String, String)> {
        let of_one = |(id, row): (&String, &Value)| {
            let tags = row["tags"].as_array().unwrap().clone();
            let pair = |tag: &Value| (id.clone(), tag.as_str().unwrap().to_owned());
            tags.iter().map(pair).collect::<Vec<_>>()
        };
        crawl.rows.iter().flat_map(of_one).collect()
    };
    let whole = crawl(cut(), unchanged(), None);
    let expected: usize = cut()
        .registries
        .iter()
        .flat_map(|registry| registry.repositories.values())
        .map(|repository| repository.tags.len())
        .sum();
    assert_eq!(tags(&whole).len(), expected);
    let change: Change = Arc::new(|path, body| {
        if path.starts_with("registry0.") && path.ends_with("/app-1/_tags") {
            *body = json!({"nothing": "of the kind"});
        }
    });
    // Without a run before, the tags that manifests tell are there; with one, all of them.
    let found = crawl(cut(), Arc::clone(&change), None);
    assert!(tags(&found).is_subset(&tags(&whole)));
    assert!(tags(&found).len() <= expected - 29);
    let again = crawl(cut(), change, Some(&whole.store));
    assert_eq!(tags(&again), tags(&whole));
    assert_eq!(again.changes.len(), 0, "{:?}", again.changes);
    assert!(again.rows.values().any(|row| row["stale"] == true));
    for crawl in [found, again] {
        let lines = crawl.failed();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["repository"], &lines[0]["digest"], &lines[0]["state"]),
            (&json!("app-1"), &json!("@tags"), &json!("failed"))
        );
        assert_eq!(crawl.rows.len(), whole.rows.len());
    }
}

/// What is taken for absent is counted where it is: in the lines of publishers and of galleries.
fn malformed_members_of_offers_and_galleries_are_counted_too() {
    let World { locations, mut publishers, .. } = generate(Scale::Small, 21);
    publishers.sort_by(|a, b| a.name.cmp(&b.name));
    publishers.truncate(4);
    let size = OrganisationSize { subscriptions: 1, galleries: 3, ..OrganisationSize::FEW };
    let world = World::new(locations, publishers).with_generated_organisation(size, 21);
    let change: Change = Arc::new(|path, body| {
        if path.ends_with("/versions") {
            for row in body.as_array_mut().into_iter().flatten() {
                row["properties"]["architecture"] = 7.into();
            }
        }
        if path.ends_with("/resources") {
            for row in body["data"].as_array_mut().into_iter().flatten() {
                row["tags"] = "a text".into();
            }
        }
    });
    let request = r#"{"sources": ["marketplace", "gallery"], "details": "none"}"#;
    let coverage = coverage(&run(world, request, change, None));
    let lines = coverage["scopes"].as_array().unwrap();
    let reported = |source: &str, what: &str| {
        let lines = lines.iter().filter(|line| line["source"] == source);
        let malformed = lines.filter_map(|line| line["malformed"].as_object());
        malformed.filter(|all| all.keys().any(|reported| reported.contains(what))).count()
    };
    assert!(reported("marketplace", "architecture: invalid type: integer `7`") > 0, "{coverage}");
    assert!(reported("gallery", "tags: invalid type: string") > 0, "{coverage}");
}

/// One list of one registry, or of the provider, and what became of it.
struct Mutated {
    target: String,
    list: &'static str,
    seed: u64,
    /// The list as it is from then on, and the row that is another, as it was.
    done: Mutex<Option<(Value, Value)>>,
}

impl Mutated {
    fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let world = world();
        let registry = &world.registries[random.random_range(0..world.registries.len())];
        let at = random.random_range(0..registry.repositories.len());
        let name = registry.repositories.keys().nth(at).unwrap();
        let server = &registry.login_server;
        let (target, list) = match random.random_range(0..8) {
            0 => ("/registries".to_owned(), "value"),
            1 => (format!("{server}/acr/v1/_catalog"), "repositories"),
            2 | 3 => (format!("{server}/acr/v1/{name}/_tags"), "tags"),
            _ => (format!("{server}/acr/v1/{name}/_manifests"), "manifests"),
        };
        Self { target, list, seed, done: Mutex::default() }
    }

    fn change(&self, path: &str, body: &mut Value) {
        if !path.ends_with(&self.target) {
            return;
        }
        let mut done = self.done.lock().unwrap();
        let (list, _) = done.get_or_insert_with(|| {
            let mut random = StdRng::seed_from_u64(self.seed ^ 0x5eed);
            let mut list = body[self.list].clone();
            let rows = list.as_array_mut().unwrap();
            let at = random.random_range(0..rows.len());
            if random.random_bool(0.1) {
                rows.insert(at, odd(&mut random, &Value::Null));
                return (list, Value::Null);
            }
            let before = rows[at].clone();
            mutate(&mut rows[at], &mut random);
            (list, before)
        });
        body[self.list] = list.clone();
    }

    /// Whether a row is the one that was changed, or is of it.
    fn touches(&self, row: &Value) -> bool {
        let (_, before) = self.done.lock().unwrap().clone().expect("the list was asked for");
        match self.list {
            "value" => row["loginServer"] == before["properties"]["loginServer"],
            "repositories" => row["repository"] == before && self.is_at(row),
            _ => row["digest"] == before["digest"] && self.is_at(row),
        }
    }

    fn is_at(&self, row: &Value) -> bool {
        self.target.starts_with(row["loginServer"].as_str().unwrap())
    }
}

/// Something that is not what stands there. No text of it names anything.
fn odd(random: &mut StdRng, instead_of: &Value) -> Value {
    let all = [
        Value::Null,
        json!(7),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(true),
        json!(""),
        json!("unheard of!"),
        json!("x!".repeat(1_500)),
        json!([]),
        json!([null]),
        json!({}),
        json!({"x": "y"}),
    ];
    let others: Vec<&Value> = all.iter().filter(|other| *other != instead_of).collect();
    others[random.random_range(0..others.len())].clone()
}

/// Changes something in a row: a member becomes null, of another type, sign or length, an unknown word, goes, or one
/// more comes. The row itself never goes: that would be another answer.
fn mutate(row: &mut Value, random: &mut StdRng) {
    match row {
        Value::Object(members) if !members.is_empty() && random.random_bool(0.95) => {
            let at = random.random_range(0..members.len());
            let name = members.keys().nth(at).unwrap().clone();
            match random.random_range(0..10) {
                0 => {
                    members.remove(&name);
                }
                1 => {
                    members.insert("more".to_owned(), odd(random, &Value::Null));
                }
                _ => mutate(&mut members[&name], random),
            }
        }
        Value::Array(elements) if !elements.is_empty() && random.random_bool(0.6) => {
            let at = random.random_range(0..elements.len());
            mutate(&mut elements[at], random);
        }
        other => *other = odd(random, other),
    }
}

/// What of a row does not depend on the other rows of its repository.
fn own(row: &Value) -> Value {
    let mut row = row.clone();
    let members = row.as_object_mut().unwrap();
    members.retain(|name, _| !matches!(name.as_str(), "isLatest" | "referrers"));
    row
}

fn try_mutation(seed: u64) {
    let mutated = Arc::new(Mutated::of(seed));
    let change: Change = {
        let mutated = Arc::clone(&mutated);
        Arc::new(move |path, body| mutated.change(path, body))
    };
    let before = (seed % 2 == 1).then_some(&WHOLE.store);
    let found = crawl(world(), change, before);
    let (list, was) = mutated.done.lock().unwrap().clone().expect("the list was asked for");
    let said = || format!("seed {seed}, {}: {was} in {list}", mutated.target);
    for (id, row) in &WHOLE.rows {
        let touched = mutated.touches(row);
        match found.rows.get(id) {
            Some(found) if touched => assert_eq!(found["digest"], row["digest"], "{}", said()),
            Some(found) => assert_eq!(own(found), own(row), "{}", said()),
            None => {
                assert!(touched && before.is_none(), "{id} is lost; {}", said());
                assert!(!found.failed().is_empty(), "{id} is lost in silence; {}", said());
            }
        }
    }
    assert!(found.rows.keys().all(|id| WHOLE.rows.contains_key(id)), "{}", said());
    let gone = found.changes.iter().find(|change| change["change"] == "removed");
    assert_eq!(gone, None, "{}", said());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn after_any_mutation_all_other_rows_are_there() {
    let seeds = match number("AZIMG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("AZIMG_MUTATIONS").unwrap_or(500),
    };
    LazyLock::force(&WHOLE);
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        break;
                    }
                    try_mutation(seed);
                }
            });
        }
    });
}
