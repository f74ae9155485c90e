//! One member of one answer of the Resource Manager or of Resource Graph is of another form: whatever it is, the
//! run ends, all other rows are there as they were, and what is missing is told.
//!
//! `AZIMG_MUTATION=N` replays one, `AZIMG_MUTATIONS=N` makes so many.

use crate::support::fleet::{Direct, app, call};
use crate::support::paused;
use crate::tests;
use async_trait::async_trait;
use azimg::client::{Wire, WireRequest, WireResponse};
use azimg::error::Result;
use azimg::functions::{PUBLISH, Trigger};
use azimg::pipeline::snapshot::{self, Completeness, Manifest};
use azimg::sim::{Conditions, OrganisationSize, Scale, Sim, World, generate};
use azimg::store::Store;
use azimg::store::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

tests![one_odd_member_costs_no_other_row slow "a crawl for each member and kind", what_has_no_name_is_carried_and_not_gone];

/// A handful of everything.
fn world() -> World {
    let World { locations, mut publishers, .. } = generate(Scale::Small, 21);
    publishers.sort_by(|a, b| a.name.cmp(&b.name));
    publishers.truncate(4);
    let size = OrganisationSize {
        subscriptions: 2,
        definitions: 4,
        versions: 12,
        ..OrganisationSize::FEW
    };
    World::new(locations, publishers).with_generated_organisation(size, 21)
}

/// What is changed in an answer.
#[derive(Debug, Clone)]
struct Mutation {
    /// The request, as [`name`] has it.
    request: String,
    /// The member, as a JSON pointer.
    pointer: String,
    /// What it becomes; `None` for what is not there any more.
    becomes: Option<Value>,
    /// The row that it is in, as it was, and the path to it.
    row: Option<(String, Value)>,
    /// Whether it is another value that could have been meant.
    is_plausible: bool,
}

/// A wire to a simulated Azure that remembers its answers, or changes one of them each time it is asked for.
#[derive(Clone)]
struct Mutating {
    direct: Direct,
    seen: Arc<Mutex<BTreeMap<String, Value>>>,
    mutation: Option<Arc<Mutation>>,
}

impl std::fmt::Debug for Mutating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutating")
    }
}

fn name(request: &WireRequest) -> String {
    let body = request.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
    let url = &request.url;
    format!("{}?{} {}", url.path(), url.query().unwrap_or_default(), body.unwrap_or_default())
}

#[async_trait]
impl Wire for Mutating {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let answer = self.direct.send(request, authorized).await?;
        let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else { return Ok(answer) };
        if answer.status != StatusCode::OK {
            return Ok(answer);
        }
        let name = name(request);
        let Some(mutation) = self.mutation.as_deref().filter(|mutation| mutation.request == name)
        else {
            self.seen.lock().unwrap().insert(name, body);
            return Ok(answer);
        };
        let (parent, member) = mutation.pointer.rsplit_once('/').unwrap();
        match (body.pointer_mut(parent).unwrap(), &mutation.becomes) {
            (Value::Object(members), Some(value)) => {
                members.insert(member.to_owned(), value.clone());
            }
            (Value::Object(members), None) => {
                members.shift_remove(member);
            }
            (Value::Array(elements), Some(value)) => {
                elements[member.parse::<usize>().unwrap()] = value.clone();
            }
            _ => unreachable!("elements are changed, and members"),
        }
        Ok(WireResponse { body: body.to_string().into(), ..answer })
    }
}

/// What a run ended with: its manifest, its rows, each by what it is and where, and the store.
type Found = (Manifest, Rows, MemoryStore);
type Rows = BTreeMap<String, Value>;

/// Makes one run over what `before` holds, a message after the other, an hour after the one before.
async fn run(wire: &Mutating, before: Option<&MemoryStore>) -> Result<Found> {
    let memory = Arc::new(before.cloned().unwrap_or_default());
    let store = Arc::clone(&memory) as Arc<dyn Store>;
    let app = app(Arc::new(wire.clone()), Arc::clone(&store), "http://127.0.0.1:1");
    let later = if before.is_some() { 3_600 } else { 0 };
    let now = OffsetDateTime::from_unix_timestamp(1_795_000_000 + later).unwrap();
    let body = r#"{"sources": ["marketplace", "gallery"], "full": true}"#.to_owned();
    let begun = call(&app, "start", Trigger::Http { body }, now).await?;
    let mut queue: VecDeque<_> = begun.into_iter().map(|message| (message, 1)).collect();
    while let Some((message, delivery)) = queue.pop_front() {
        let is_round = message.queue == PUBLISH && message.text.contains("\"watch\":true");
        if is_round && !queue.is_empty() {
            queue.push_back((message, delivery));
            continue;
        }
        let text = message.text.clone();
        let function = match message.queue {
            PUBLISH => "publish",
            _ if delivery > 4 => "poison",
            _ => "crawl",
        };
        match call(&app, function, Trigger::Queue { text, delivery }, now).await {
            Ok(messages) => queue.extend(messages.into_iter().map(|message| (message, 1))),
            Err(_) => queue.push_back((message, delivery + 1)),
        }
    }
    let manifest = snapshot::current(store.as_ref()).await?.expect("the run is published");
    let contents = memory.contents();
    let mut rows = BTreeMap::new();
    for source in ["marketplace", "gallery"] {
        let name = format!("snapshots/{}/{source}.ndjson.zst", manifest.run);
        let bytes = zstd::decode_all(contents[&name].as_ref()).unwrap();
        for line in String::from_utf8(bytes).unwrap().lines() {
            insert(&mut rows, serde_json::from_str(line).unwrap());
        }
    }
    Ok((manifest, rows, MemoryStore::clone(&memory)))
}

/// A marketplace image is a row for each of its locations here.
fn insert(rows: &mut BTreeMap<String, Value>, mut row: Map<String, Value>) {
    for time in ["observedAt", "observedRun", "firstSeenAt"] {
        row.shift_remove(time);
    }
    let text = |name: &str| row[name].as_str().unwrap().to_lowercase();
    if !row.contains_key("locations") || row["kind"] != "marketplace" {
        let id = text("id");
        rows.insert(format!("gallery {id}/"), row.into());
        return;
    }
    let urn = ["publisher", "offer", "sku", "version"].map(text).join("/");
    let locations = row.shift_remove("locations").unwrap();
    for location in locations.as_array().unwrap() {
        let location = location.as_str().unwrap();
        rows.insert(format!("marketplace /{location}/{urn}/"), row.clone().into());
    }
}

/// A place in an answer, and the row that it is in with the path to that.
type Place = (String, Option<(String, Value)>);

/// All places in an answer.
fn places(value: &Value, at: &str, row: Option<&(String, Value)>, found: &mut Vec<Place>) {
    if !at.is_empty() {
        found.push((at.to_owned(), row.cloned()));
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(member, &format!("{at}/{name}"), row, found);
            }
        }
        Value::Array(elements) => {
            let has_rows = ["", "/value", "/data"].contains(&at);
            for (index, element) in elements.iter().enumerate() {
                let at = format!("{at}/{index}");
                let own = has_rows.then(|| (at.clone(), element.clone()));
                places(element, &at, own.as_ref().or(row), found);
            }
        }
        _ => {}
    }
}

/// Another value, and whether it could have been meant.
fn other(of: &Value, random: &mut StdRng) -> (Option<Value>, bool) {
    let odd = [
        json!(null),
        json!(-1),
        json!(12_345),
        json!("odd"),
        json!(""),
        json!(true),
        json!([]),
        json!({}),
        json!({"a": [null]}),
        json!("x".repeat(5_000)),
        json!(1e300),
        json!("9999-99-99T99:99:99Z"),
    ];
    if random.random_ratio(1, 8) {
        return (None, false);
    }
    let becomes = odd[random.random_range(0..odd.len())].clone();
    let alike = std::mem::discriminant(&becomes) == std::mem::discriminant(of);
    (Some(becomes), alike)
}

fn wire(mutation: Option<Mutation>) -> Mutating {
    let sim = Sim::new(world(), Conditions { subscriptions: 2, ..Conditions::default() });
    let direct = Direct { sim, latency: Duration::ZERO, random: None };
    Mutating { direct, seen: Arc::default(), mutation: mutation.map(Arc::new) }
}

/// What is told in a run without a mutation, and what came of it.
struct Whole {
    rows: Rows,
    answers: Vec<(String, Value)>,
    store: MemoryStore,
}

/// A run without a mutation, and its answers.
static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let wire = wire(None);
    let (manifest, rows, store) = paused(run(&wire, None)).unwrap();
    assert_eq!(manifest.state, Completeness::Complete);
    let seen = wire.seen.lock().unwrap().clone();
    // An empty list has no member that could be odd.
    let answers = seen.into_iter().filter(|(_, answer)| *answer != json!([]));
    Whole { rows, answers: answers.collect(), store }
});

fn mutation(seed: u64) -> Mutation {
    let random = &mut StdRng::seed_from_u64(seed);
    let answers = &WHOLE.answers;
    let (request, answer) = &answers[random.random_range(0..answers.len())];
    let mut found = Vec::new();
    places(answer, "", None, &mut found);
    // The members of an object that has many are drawn as often as those of one that has few.
    let (pointer, row) = found.swap_remove(random.random_range(0..found.len()));
    let old = answer.pointer(&pointer).unwrap();
    let (becomes, is_plausible) = other(old, random);
    // An element cannot be absent without being a shorter list, which is another true answer.
    let is_element = pointer.rsplit('/').next().unwrap().parse::<usize>().is_ok();
    let becomes = if is_element { becomes.or(Some(Value::Null)) } else { becomes };
    Mutation { request: request.clone(), pointer, becomes, row, is_plausible }
}

/// What may suffer by a mutation: the table, and names that all of its rows have in them that may.
fn about(mutation: &Mutation) -> (&'static str, Vec<String>) {
    let path = mutation.request.split('?').next().unwrap().to_lowercase();
    let segments: Vec<&str> = path.split('/').collect();
    let is_marketplace = path.contains("/publishers");
    let table = if is_marketplace { "marketplace" } else { "gallery" };
    let of_path = segments.windows(2).filter(|pair| match pair[0] {
        "locations" | "publishers" | "offers" | "skus" | "versions" => is_marketplace,
        // What others share is listed gallery by gallery, and is told or not as a whole.
        "galleries" | "communitygalleries" | "sharedgalleries" => true,
        "images" => path.contains("/galleries/"),
        _ => false,
    });
    let mut names: Vec<String> = of_path.map(|pair| pair[1].to_owned()).collect();
    let Some((at, row)) = &mutation.row else { return (table, names) };
    // Whoever has no name cannot be told from its neighbours. In the marketplace that is so for publishers alone.
    let is_its_name = [String::new(), format!("{at}/id"), format!("{at}/name")]
        .iter()
        .any(|name| mutation.pointer == *name || mutation.pointer == *at);
    let is_list_of_publishers = path.ends_with("/publishers");
    if is_its_name && (!is_marketplace || is_list_of_publishers) {
        return (table, names);
    }
    if let Some(id) = row["id"].as_str().filter(|id| id.contains("/galleries/")) {
        // The id has all names of what is above it, too.
        return (table, vec![id.to_lowercase().trim_start_matches('/').to_owned()]);
    }
    if is_marketplace || path.contains("/galleries/") {
        names.extend(row["name"].as_str().map(str::to_lowercase));
    }
    (table, names)
}

fn concerns((table, names): &(&str, Vec<String>), key: &str) -> bool {
    key.starts_with(table) && names.iter().all(|name| key.contains(&format!("/{name}/")))
}

/// A row without what it has of another version of its SKU.
fn own(row: &Value) -> Value {
    let mut row = row.clone();
    if row["kind"] == "marketplace" && row["detailsFrom"] != "this" {
        let details = ["detailsFrom", "os", "planPublisher", "planProduct", "planName", "features"];
        for member in details.into_iter().chain(["architecture", "hyperVGeneration"]) {
            row.as_object_mut().unwrap().shift_remove(member);
        }
    }
    row
}

/// Makes a run with one mutation, and says what is wrong with what came of it.
fn wrong(mutation: &Mutation) -> Option<String> {
    let whole = &WHOLE.rows;
    let ended = paused(run(&wire(Some(mutation.clone())), None));
    let path = mutation.request.split('?').next().unwrap();
    // What a run begins with may refuse it: whoever does not know what there is to crawl publishes nothing.
    let is_first = path == "/subscriptions"
        || path.ends_with("/locations")
        || path.ends_with("/providers/Microsoft.Compute");
    let (manifest, rows, _) = match ended {
        Ok(found) => found,
        Err(error) if is_first && mutation.row.is_none() => {
            return error.to_string().is_empty().then(|| "an error without words".to_owned());
        }
        Err(error) => return Some(format!("the run did not begin: {error}")),
    };
    let about = about(mutation);
    // One subscription or location of those that a run begins with costs what is there, and what others show there.
    let begun_with = mutation.row.as_ref().filter(|_| is_first).map(|(_, row)| {
        let name = row["subscriptionId"].as_str().or(row["name"].as_str()).unwrap_or("?");
        format!("/{}/", name.to_lowercase())
    });
    let is_first = |key: &str| {
        let shown = ["/sharedgalleries/", "/communitygalleries/"];
        let foreign = shown.iter().any(|kind| key.contains(kind));
        is_first && begun_with.as_ref().is_none_or(|name| key.contains(name) || foreign)
    };
    // A version's details are asked for in one location, and stand in all.
    let mut alike = about.clone();
    if about.0 == "marketplace" && !about.1.is_empty() {
        alike.1.remove(0);
        // Another version that could be one may be the latest instead: also of one whose status cannot be read.
        if mutation.is_plausible || mutation.pointer.contains("imageDeprecationStatus") {
            alike.1.pop();
        }
    }
    let mut lost = 0;
    for (key, row) in whole {
        match rows.get(key) {
            None if is_first(key) => lost += 1,
            None if begun_with.is_none() && concerns(&about, key) => lost += 1,
            None => return Some(format!("lost: {key}, which is not of {about:?}")),
            Some(found)
                if own(found) != own(row)
                    && begun_with.is_none()
                    && !is_first(key)
                    && !concerns(&alike, key) =>
            {
                return Some(format!("{key}, which is not of {about:?}: {row} became {found}"));
            }
            Some(_) => {}
        }
    }
    if lost > 0 && manifest.state == Completeness::Complete && !mutation.is_plausible {
        return Some(format!("{lost} rows are lost, and the run is complete"));
    }
    let extra = rows.keys().find(|key| !whole.contains_key(*key));
    extra.filter(|_| !mutation.is_plausible).map(|key| format!("{key} is not in Azure"))
}

/// In the second run an entry of a list has no name: what it was before may be what could not be read.
fn what_has_no_name_is_carried_and_not_gone() {
    for list in ["/offers", "/skus", "/versions"] {
        let is_it = |(request, answer): &&(String, Value)| {
            let path = request.split('?').next().unwrap();
            path.ends_with(list) && path.contains("/publishers/") && {
                let about = format!("/{}/", path.rsplit('/').nth(1).unwrap().to_lowercase());
                let is_there = |key: &String| list == "/offers" || key.contains(&about);
                answer.as_array().unwrap().len() > 1 && WHOLE.rows.keys().any(is_there)
            }
        };
        let (request, answer) = WHOLE.answers.iter().find(is_it).unwrap();
        let mutation = Mutation {
            request: request.clone(),
            pointer: "/0/name".into(),
            becomes: None,
            row: Some(("/0".into(), answer[0].clone())),
            is_plausible: false,
        };
        let about = about(&mutation);
        assert!(WHOLE.rows.keys().any(|key| concerns(&about, key)), "{about:?}");
        let ran = paused(run(&wire(Some(mutation)), Some(&WHOLE.store)));
        let (manifest, rows, store) = ran.unwrap();
        assert_eq!(manifest.state, Completeness::Partial, "{list}");
        let keys = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&rows), keys(&WHOLE.rows), "{list}: nothing is lost");
        let changes = format!("snapshots/{}/changes.ndjson.zst", manifest.run);
        let changes = zstd::decode_all(store.contents()[&changes].as_ref()).unwrap();
        let changes = String::from_utf8(changes).unwrap();
        assert!(!changes.contains("\"removed\""), "{list}: {changes}");
        let coverage = format!("snapshots/{}/coverage.json", manifest.run);
        let coverage = String::from_utf8_lossy(&store.contents()[&coverage]).into_owned();
        assert!(coverage.contains("1 of its"), "{list}: {coverage}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn one_odd_member_costs_no_other_row() {
    let seeds: Vec<u64> = match number("AZIMG_MUTATION") {
        Some(seed) => vec![seed],
        None => (0..number("AZIMG_MUTATIONS").unwrap_or(500)).collect(),
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mutation = mutation(seed);
                    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| wrong(&mutation)));
                    let told = checked.unwrap_or_else(|_| Some("a panic".to_owned()));
                    if let Some(told) = told {
                        let Mutation { request, pointer, becomes, .. } = &mutation;
                        let becomes = json!(becomes).to_string();
                        let becomes: String = becomes.chars().take(60).collect();
                        let request: String = request.chars().take(200).collect();
                        let line = format!("{seed}: {request}: {pointer} = {becomes}: {told}");
                        failed.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), seeds.len(), failed.join("\n"));
}
