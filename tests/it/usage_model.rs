//! What runs on what, held against a model that is written from what Azure says of images, and knows nothing of how
//! the catalog keeps them: random tenants, crawled in part or whole.

use crate::support::case::{SUBSCRIPTION, Tenant};
use crate::support::seeds::times;
use crate::support::{fleet, paused};
use crate::tests;
use azimg::testing::catalog::Catalog;
use azimg::testing::catalog::usage::usage;
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;

tests![two_thousand_tenants_agree_with_a_model slow "two thousand tenants are crawled"];

const OTHER: &str = "33333333-3333-4333-8333-333333333333";
const LOCATIONS: [&str; 2] = ["eastus", "westus2"];
const PUBLISHERS: [&str; 2] = ["alpha", "beta"];
/// Now is 2026-11-18.
const NOW: i64 = 1_795_000_000;
const DATES: [&str; 2] = ["2026-06-30T00:00:00Z", "2027-06-30T00:00:00Z"];

/// One version, as its owner made it.
#[derive(Debug, Clone)]
struct Version {
    number: u32,
    at: Vec<&'static str>,
    generation: &'static str,
    /// Its end of life, or when it is deprecated.
    end: Option<&'static str>,
    is_deprecated: bool,
    is_excluded: bool,
}

impl Version {
    fn random(random: &mut StdRng, number: u32) -> Self {
        let at = LOCATIONS.into_iter().filter(|_| random.random_bool(0.6)).collect();
        Self {
            number,
            at,
            generation: ["V1", "V2", "V2"][random.random_range(0..3)],
            end: random.random_bool(0.3).then(|| DATES[random.random_range(0..2)]),
            is_deprecated: random.random_bool(0.1),
            is_excluded: random.random_bool(0.2),
        }
    }

    fn name(&self) -> String {
        format!("{}.0.0", self.number)
    }

    fn has_ended(&self) -> bool {
        self.end == Some(DATES[0])
    }

    fn state(&self, is_gallery: bool) -> &'static str {
        if is_gallery {
            if self.has_ended() { "end-of-life" } else { "active" }
        } else if self.is_deprecated || self.has_ended() {
            "deprecated"
        } else {
            "active"
        }
    }

    fn listed(&self) -> Value {
        let state = match self.end {
            _ if self.is_deprecated => json!({"imageState": "Deprecated"}),
            Some(end) => {
                json!({"imageState": "ScheduledForDeprecation", "scheduledDeprecationTime": end})
            }
            None => json!({"imageState": "Active"}),
        };
        json!({"name": self.name(), "properties": {"hyperVGeneration": self.generation, "architecture": "x64",
               "imageDeprecationStatus": state},
               "image": {"osDiskImage": {"operatingSystem": "Linux"}, "hyperVGeneration": self.generation,
                         "architecture": "x64"}})
    }

    fn of_gallery(&self, definition: &str) -> Value {
        let regions: Vec<Value> =
            self.at.iter().map(|name| json!({"name": name, "regionalReplicaCount": 1})).collect();
        let mut profile = json!({"targetRegions": regions, "excludeFromLatest": self.is_excluded,
                                 "publishedDate": "2026-01-01T00:00:00Z"});
        if let Some(end) = self.end {
            profile["endOfLifeDate"] = end.into();
        }
        json!({"id": format!("{definition}/versions/{}", self.name()), "location": "eastus",
               "properties": {"publishingProfile": profile, "provisioningState": "Succeeded", "storageProfile": {}}})
    }
}

/// What a machine refers to.
#[derive(Debug, Clone)]
enum Refers {
    Sku(&'static str),
    Definition,
    /// A definition of a gallery in another subscription.
    Elsewhere,
    Disk,
}

#[derive(Debug)]
struct Machine {
    refers: Refers,
    at: &'static str,
    /// The version that it stands on.
    version: Option<u32>,
    /// Whether its reference names that version.
    is_pinned: bool,
    /// The form that the id of a definition of ours has.
    form: u8,
}

/// A tenant, and what of it is crawled.
#[derive(Debug)]
struct World {
    skus: BTreeMap<&'static str, Vec<Version>>,
    gallery: Vec<Version>,
    machines: Vec<Machine>,
    locations: Vec<&'static str>,
    publishers: Vec<&'static str>,
    galleries: bool,
    /// Whether nothing may be asked by a second run.
    is_refused: bool,
}

/// A public name of our gallery.
const PUBLIC: &str = "contoso-0000aaaa-1111-4222-8333-444455556666";

/// An id of a definition of ours, or of a version of it.
fn in_form(form: u8, version: Option<&str>) -> Value {
    let below = |head: &str, name: &str| match version {
        Some(version) => format!("{head}/{name}/d/Versions/{version}"),
        None => format!("{head}/{name}/d"),
    };
    let gallery = definition(SUBSCRIPTION);
    let gallery = gallery.split("/images").next().unwrap();
    match form {
        0 => json!({"id": below(gallery, "images")}),
        1 => json!({"id": below(&gallery.to_uppercase(), "IMAGES")}),
        2 => {
            let shared = format!("/SharedGalleries/{SUBSCRIPTION}-G");
            json!({"sharedGalleryImageId": below(&shared, "Images")})
        }
        _ => {
            let community = format!("/communityGalleries/{PUBLIC}");
            json!({"communityGalleryImageId": below(&community, "images")})
        }
    }
}

fn definition(subscription: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g/images/d"
    )
}

impl World {
    fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let versions = |random: &mut StdRng| -> Vec<Version> {
            let numbers = (1..=5).filter(|_| random.random_bool(0.6)).collect::<Vec<u32>>();
            let made = numbers.into_iter().map(|number| Version::random(random, number));
            made.filter(|version| !version.at.is_empty()).collect()
        };
        let skus = PUBLISHERS.map(|name| (name, versions(&mut random)));
        let gallery = versions(&mut random);
        let some = |random: &mut StdRng, all: [&'static str; 2]| match random.random_range(0..4) {
            0 => vec![all[0]],
            1 => vec![all[1]],
            _ => all.to_vec(),
        };
        let machine = |random: &mut StdRng| Machine {
            refers: match random.random_range(0..8) {
                0..4 => Refers::Sku(PUBLISHERS[random.random_range(0..2)]),
                4..6 => Refers::Definition,
                6 => Refers::Elsewhere,
                _ => Refers::Disk,
            },
            at: LOCATIONS[random.random_range(0..2)],
            version: random.random_bool(0.8).then(|| random.random_range(1..=5)),
            is_pinned: random.random_bool(0.7),
            form: random.random_range(0..4),
        };
        Self {
            skus: skus.into(),
            gallery,
            machines: (0..12).map(|_| machine(&mut random)).collect(),
            locations: some(&mut random, LOCATIONS),
            publishers: some(&mut random, PUBLISHERS),
            galleries: random.random_bool(0.7),
            is_refused: random.random_bool(0.3),
        }
    }

    fn tenant(&self) -> Value {
        let mut marketplace = json!({});
        for location in LOCATIONS {
            marketplace[location] = json!({});
            for (publisher, versions) in &self.skus {
                let here = versions.iter().filter(|version| version.at.contains(&location));
                let here: Vec<Value> = here.map(Version::listed).collect();
                if !here.is_empty() {
                    marketplace[location][*publisher] = json!({"o": {"s": here}});
                }
            }
        }
        let own = definition(SUBSCRIPTION);
        let gallery = own.split("/images").next().unwrap();
        let versions: Vec<Value> = self.gallery.iter().map(|v| v.of_gallery(&own)).collect();
        json!({"locations": LOCATIONS, "marketplace": marketplace,
            "galleries": [{"id": gallery, "location": "eastus", "properties": {"provisioningState": "Succeeded",
                "sharingProfile": {"permissions": "Community", "communityGalleryInfo": {"publicNames": [PUBLIC]}}}}],
            "definitions": [{"id": own, "location": "eastus", "properties": {"osType": "Linux",
                "osState": "Generalized", "hyperVGeneration": "V2", "provisioningState": "Succeeded",
                "identifier": {"publisher": "p", "offer": "o", "sku": "s"}}}],
            "versions": versions, "machines": self.rows()})
    }

    fn rows(&self) -> Vec<Value> {
        let row = |(number, machine): (usize, &Machine)| {
            let version = machine.version.map(|version| format!("{version}.0.0"));
            let pinned = version.clone().filter(|_| machine.is_pinned);
            let below = |subscription: &str| match &pinned {
                Some(version) => format!("{}/versions/{version}", definition(subscription)),
                None => definition(subscription),
            };
            let mut image = match machine.refers {
                Refers::Sku(publisher) => json!({"publisher": publisher, "offer": "o", "sku": "s",
                    "version": pinned.as_deref().unwrap_or("latest")}),
                Refers::Definition => in_form(machine.form, pinned.as_deref()),
                Refers::Elsewhere => json!({"id": below(OTHER)}),
                Refers::Disk => Value::Null,
            };
            if let (Some(version), false) = (&version, image.is_null()) {
                image["exactVersion"] = version.as_str().into();
            }
            json!({"id": format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/\
                   Microsoft.Compute/virtualMachines/vm{number:02}"), "name": format!("vm{number:02}"),
                   "type": "microsoft.compute/virtualmachines", "location": machine.at, "image": image})
        };
        self.machines.iter().enumerate().map(row).collect()
    }

    /// What is to be said of a machine: finding, end, whether it is the latest, and the number of what to move to.
    fn expected(
        &self,
        machine: &Machine,
    ) -> (&'static str, Option<&'static str>, Option<bool>, Option<u32>) {
        let (versions, is_covered) = match machine.refers {
            Refers::Sku(publisher) => {
                let asked =
                    self.locations.contains(&machine.at) && self.publishers.contains(&publisher);
                (&self.skus[publisher], asked)
            }
            Refers::Definition => (&self.gallery, self.galleries),
            Refers::Elsewhere | Refers::Disk => return ("unknown", None, None, None),
        };
        let is_gallery = matches!(machine.refers, Refers::Definition);
        // What the catalog has seen, and what Azure would take for the latest where the machine runs.
        let seen = |version: &&Version| match machine.refers {
            Refers::Sku(publisher) => {
                self.publishers.contains(&publisher)
                    && version.at.iter().any(|at| self.locations.contains(at))
            }
            _ => self.galleries,
        };
        let here = |version: &&Version| {
            version.at.contains(&machine.at) && (is_gallery || self.locations.contains(&machine.at))
        };
        let known: Vec<&Version> = versions.iter().filter(seen).collect();
        let deployable = |version: &&Version| {
            if is_gallery {
                !version.is_excluded
            } else {
                !version.is_deprecated && !version.has_ended()
            }
        };
        let latest = known.iter().copied().filter(here).filter(deployable).max_by_key(|v| v.number);
        let state = |version: &Version| version.state(is_gallery);
        let ends = |version: &Version| version.end.filter(|_| is_gallery || !version.is_deprecated);
        // What could not be asked again may be there since.
        let is_listed = is_gallery || versions.iter().any(|v| v.at.contains(&machine.at));
        let is_answered = is_covered && !(self.is_refused && is_listed);
        let absent = if is_answered { "gone" } else { "unknown" };
        let newest = known.iter().copied().filter(here).max_by_key(|v| v.number);
        let Some(own) = machine.version else {
            let followed = latest.or(newest).map(|v| (state(v), ends(v)));
            return following(latest.is_some(), followed, absent);
        };
        let is_latest = latest.map(|latest| own == latest.number);
        let found = known.iter().copied().find(|version| version.number == own);
        let boots = |version: &&Version| {
            is_gallery || found.is_none_or(|own| own.generation == version.generation)
        };
        let lives = |version: &&Version| deployable(version) && !version.has_ended();
        let target = known.iter().copied().filter(here).filter(lives).filter(boots);
        let target = target.map(|v| v.number).filter(|number| *number > own).max();
        let Some(found) = found else {
            return (absent, None, is_latest, target.filter(|_| is_answered));
        };
        let finding = match latest {
            _ if state(found) != "active" => state(found),
            Some(latest) if own < latest.number => "not-latest",
            Some(latest) if own > latest.number => "ahead",
            None if !here(&found) => absent,
            None if !is_covered => "unknown",
            _ if ends(found).is_some() => "scheduled",
            _ => "current",
        };
        let moves = ["gone", "deprecated", "end-of-life", "not-latest"].contains(&finding);
        (finding, ends(found), is_latest, target.filter(|_| moves))
    }
}

/// What is to be said of a machine that follows the latest: `followed` is the latest, or else the newest that is there,
/// as it stands and when it ends.
fn following(
    is_latest: bool,
    followed: Option<(&'static str, Option<&'static str>)>,
    absent: &'static str,
) -> (&'static str, Option<&'static str>, Option<bool>, Option<u32>) {
    match followed {
        Some((state, end)) if state != "active" => (state, end, None, None),
        Some((_, end)) if !is_latest => (absent, end, None, None),
        Some((_, Some(end))) => ("scheduled", Some(end), None, None),
        Some(_) => ("current", None, None, None),
        None => (absent, None, None, None),
    }
}

fn check(seed: u64, world: &World) {
    let found = paused(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let wire = Arc::new(Tenant(world.tenant()));
        let app = fleet::app(wire, Arc::clone(&store), "http://127.0.0.1:1");
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        let mut sources = vec!["marketplace"];
        if world.galleries {
            sources.push("gallery");
        }
        let body = json!({"sources": sources, "locations": world.locations, "publishers": world.publishers});
        fleet::run(&app, body.to_string(), now).await;
        if world.is_refused {
            let mut tenant = world.tenant();
            tenant["refused"] = json!(["/publishers/", "/galleries"]);
            let app =
                fleet::app(Arc::new(Tenant(tenant)), Arc::clone(&store), "http://127.0.0.1:1");
            fleet::run(&app, body.to_string(), now + time::Duration::HOUR).await;
        }
        let mut machines = Vec::new();
        for source in &app.sources {
            machines.extend(source.machines(&[]).await.unwrap());
        }
        let catalog = Catalog::open_with_others(store.as_ref()).await.unwrap();
        usage(&catalog, store.as_ref(), machines, now).await.unwrap()
    });
    assert_eq!(found.len(), world.machines.len());
    for (row, machine) in found.iter().zip(&world.machines) {
        let row = serde_json::to_value(row).unwrap();
        let (finding, end, is_latest, target) = world.expected(machine);
        let target = target.map(|number| match machine.refers {
            Refers::Sku(publisher) => format!("{publisher}:o:s:{number}.0.0"),
            _ => format!("{}/versions/{number}.0.0", definition(SUBSCRIPTION)),
        });
        let expected = json!([finding, end, is_latest, target]);
        let columns = ["finding", "endsAt", "isLatest", "moveTo"].map(|column| row[column].clone());
        assert_eq!(json!(columns), expected, "seed {seed}: {machine:?}\n{row}\n{world:#?}");
    }
}

fn two_thousand_tenants_agree_with_a_model() {
    times("usage_model::", 2_000, |seed| check(seed, &World::random(seed)));
}
