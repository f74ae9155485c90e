//! A wire on which one member of one answer is changed, and where a change may be.

use super::fleet::{Direct, app, call};
use super::paused;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::error::Result;
use azimg::testing::functions::{PUBLISH, Trigger};
use azimg::testing::pipeline::snapshot::{self, Completeness, Manifest};
use azimg::testing::sim::{Conditions, OrganisationSize, Scale, Sim, World, generate};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

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
pub struct Mutation {
    /// The request, as [`name`] has it.
    pub request: String,
    /// The member, as a JSON pointer.
    pub pointer: String,
    /// What it becomes; `None` for what is not there any more.
    pub becomes: Option<Value>,
    /// The row that it is in, as it was, and the path to it.
    pub row: Option<(String, Value)>,
    /// Whether it is another value that could have been meant.
    pub is_plausible: bool,
}

/// A wire to a simulated Azure that remembers its answers, or changes one of them each time it is asked for.
#[derive(Clone)]
pub struct Mutating {
    pub direct: Direct,
    pub seen: Arc<Mutex<BTreeMap<String, Value>>>,
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
pub type Found = (Manifest, Rows, MemoryStore);
pub type Rows = BTreeMap<String, Value>;

/// Makes one run over what `before` holds, a message after the other, an hour after the one before.
pub async fn run(wire: &Mutating, before: Option<&MemoryStore>) -> Result<Found> {
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
pub type Place = (String, Option<(String, Value)>);

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

pub fn wire(mutation: Option<Mutation>) -> Mutating {
    let sim = Sim::new(world(), Conditions { subscriptions: 2, ..Conditions::default() });
    let direct = Direct { sim, latency: Duration::ZERO, random: None };
    Mutating { direct, seen: Arc::default(), mutation: mutation.map(Arc::new) }
}

/// What is told in a run without a mutation, and what came of it.
pub struct Whole {
    pub rows: Rows,
    pub answers: Vec<(String, Value)>,
    pub store: MemoryStore,
}

/// A run without a mutation, and its answers.
pub static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let wire = wire(None);
    let (manifest, rows, store) = paused(run(&wire, None)).unwrap();
    assert_eq!(manifest.state, Completeness::Complete);
    let seen = wire.seen.lock().unwrap().clone();
    // An empty list has no member that could be odd.
    let answers = seen.into_iter().filter(|(_, answer)| *answer != json!([]));
    Whole { rows, answers: answers.collect(), store }
});

pub fn mutation(seed: u64) -> Mutation {
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
