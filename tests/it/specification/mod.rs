//! The simulated Azure held against Microsoft's specifications and against what was recorded: each example of a
//! request and each recorded one is sent to it, with names that it has, and its answer is compared member by
//! member. What differs stands in `tests/fixtures/specification/differences.tsv`, with the reason.

mod names;
mod recorded;
mod shape;

use crate::support::asking::ask;
use crate::support::replay::{exchanges, recordings};
use crate::support::root;
use crate::tests;
use axum::body::Body;
use axum::http::Request;
use azimg::testing::sim::organisation::OrganisationSize;
use azimg::testing::sim::{Conditions, Scale, Sim, SimCredential, generate};
use azure_core::credentials::TokenCredential;
use names::Names;
use recorded::recorded;
use serde_json::{Map, Value};
use shape::{Shape, differences, observe};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

tests![
    every_example_of_the_specifications_is_answered_in_its_shape,
    every_recorded_request_is_answered_in_its_shape needs [Recordings],
];

/// One request, as an example or a recording has it.
struct Call {
    method: String,
    /// The path with placeholders for names.
    path: String,
    query: String,
    body: Value,
    status: Vec<u16>,
    answer: Value,
    model: Option<String>,
    version: String,
}

impl Call {
    /// What requests are compared by: all of one name are one.
    fn name(&self) -> String {
        let query = if self.query.is_empty() { "" } else { "?" };
        let refused = if self.status == [401] { " without a token" } else { "" };
        format!("{} /{}{query}{}{refused}", self.method, self.path, self.query)
    }

    /// What it is asked with.
    fn uri(&self, names: &Names) -> String {
        let path = names::with(&self.path, names);
        let version = match self.version.as_str() {
            "" => None,
            version => Some(format!("api-version={version}")),
        };
        let query: Vec<String> =
            version.into_iter().chain([self.query.clone()]).filter(|q| !q.is_empty()).collect();
        let path = format!("/{path}?{}", query.join("&"));
        if self.is_data_plane() { format!("http://{}{path}", names["server"]) } else { path }
    }

    fn is_data_plane(&self) -> bool {
        ["acr/", "v2/", "oauth2/"].iter().any(|start| self.path.starts_with(start))
    }

    fn is_met_by(&self, status: u16) -> bool {
        self.status.iter().any(|known| known / 100 == status / 100)
    }
}

/// A simulated Azure as everything is asked of it.
fn azure() -> Arc<Sim> {
    let world = generate(Scale::Small, 7)
        .with_generated_organisation(OrganisationSize { shared: 2, ..OrganisationSize::FEW }, 7);
    Sim::new(world, Conditions::default())
}

/// `body` with what `thing` has in the place of its members: a change must not ask for what cannot be.
fn filled(body: &Value, thing: &Value, names: &Names) -> Value {
    match (body, thing) {
        (Value::Object(body), _) => {
            let member = |(name, value): (&String, &Value)| {
                (name.clone(), filled(value, thing.get(name).unwrap_or(&Value::Null), names))
            };
            Value::Object(body.iter().map(member).collect::<Map<_, _>>())
        }
        (_, Value::Null) => match body {
            Value::String(text) if text.is_empty() => "x".into(),
            Value::String(text) => names::with(text, names).into(),
            Value::Array(all) => all.iter().map(|one| filled(one, &Value::Null, names)).collect(),
            Value::Number(_) => 1.into(),
            other => other.clone(),
        },
        (_, thing) => thing.clone(),
    }
}

/// Asks a registry, with a token of what is asked for unless it is to be refused.
async fn ask_registry(sim: &Arc<Sim>, call: &Call, names: &Names, body: &Value) -> (u16, Value) {
    let server = &names["server"];
    let send = async |request: Request<Body>| {
        let answer = sim.answer(request).await;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
    };
    let post = |path: &str, form: &[(&str, &str)]| {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::builder().method("POST").uri(format!("http://{server}/{path}"));
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.into())
            .unwrap()
    };
    let entra = SimCredential.get_token(&["https://containerregistry.azure.net/.default"], None);
    let entra = entra.await.unwrap().token.secret().to_owned();
    let form =
        [("grant_type", "access_token"), ("service", server.as_str()), ("access_token", &entra)];
    let exchanged = send(post("oauth2/exchange", &form)).await;
    if call.path == "oauth2/exchange" {
        return exchanged;
    }
    let refresh = exchanged.1["refresh_token"].as_str().unwrap_or_default().to_owned();
    let repository = names.get("repository").map_or("", String::as_str);
    let scopes = [
        "registry:catalog:*".to_owned(),
        format!("repository:{repository}:pull,push,delete,metadata_read,metadata_write"),
    ];
    let form = [
        ("grant_type", "refresh_token"),
        ("service", server.as_str()),
        ("refresh_token", &refresh),
        ("scope", &scopes[0]),
        ("scope", &scopes[1]),
    ];
    let issued = send(post("oauth2/token", &form)).await;
    if call.path == "oauth2/token" {
        return issued;
    }
    let mut request = Request::builder().method(call.method.as_str()).uri(call.uri(names));
    if call.status != [401] {
        let token = issued.1["access_token"].as_str().unwrap_or_default();
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    send(request.body(body).unwrap()).await
}

/// Sends one request with one set of names.
async fn send(sim: &Arc<Sim>, call: &Call, names: &Names) -> (u16, Value) {
    let mut body = call.body.clone();
    if !body.is_null() {
        let thing = match call.method.as_str() {
            "PATCH" if !call.is_data_plane() => ask(sim, "GET", &call.uri(names), None).await.1,
            _ => Value::Null,
        };
        body = filled(&body, &thing, names);
    }
    if call.is_data_plane() {
        return ask_registry(sim, call, names, &body).await;
    }
    ask(sim, &call.method, &call.uri(names), Some(&body).filter(|body| !body.is_null())).await
}

/// The statuses that are none of the call's, and what all good answers are made of. What only reads is asked of all
/// things; a change of one after the other, until one can be changed.
async fn answers(shared: &Arc<Sim>, call: &Call, shown: &mut Shape) -> Option<u16> {
    let reads = call.method == "GET";
    let mut odd = None;
    for names in names::of(shared, &call.path).await {
        let sim = if reads { Arc::clone(shared) } else { azure() };
        let (status, answer) = send(&sim, call, &names).await;
        if call.is_met_by(status) {
            observe(&answer, "", shown);
            odd = None;
            if !reads {
                break;
            }
        } else {
            odd = Some(status);
            if !reads && status / 100 != 4 || matches!(status, 404 | 405) {
                break;
            }
        }
    }
    odd
}

/// The differences of all calls, with each call's name.
fn compare(calls: &[Call], models: &BTreeMap<String, Value>) -> BTreeSet<(String, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sim = azure();
    let mut groups: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        groups.entry(call.name()).or_default().push(call);
    }
    let mut found = BTreeSet::new();
    for (name, calls) in groups {
        let (mut wanted, mut shown, mut known) = (Shape::new(), Shape::new(), Shape::new());
        for call in &calls {
            if !call.answer.is_null() {
                observe(&call.answer, "", &mut wanted);
            }
            if let Some(model) = call.model.as_ref().and_then(|name| models.get(name)) {
                observe(model, "", &mut known);
            }
        }
        known.extend(wanted.clone());
        for call in distinct(&calls) {
            if let Some(status) = runtime.block_on(answers(&sim, call, &mut shown)) {
                let known: Vec<String> = call.status.iter().map(ToString::to_string).collect();
                found.insert((
                    name.clone(),
                    format!("answers {status}, not {}", known.join(" or ")),
                ));
            }
        }
        if !shown.is_empty() && !wanted.is_empty() {
            let differences = differences(&wanted, &shown, &known);
            found.extend(differences.into_iter().map(|difference| (name.clone(), difference)));
        }
    }
    found
}

/// Calls without those that ask the same with the same version.
fn distinct<'a>(calls: &[&'a Call]) -> Vec<&'a Call> {
    let mut seen = BTreeSet::new();
    calls
        .iter()
        .copied()
        .filter(|call| seen.insert((call.version.clone(), call.body.to_string())))
        .collect()
}

/// Whether `text` is what `pattern` says, where `*` is for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/fixtures/specification").join(name)).unwrap()
}

/// Holds what was found against the list of what is known to differ in `part`, both ways.
fn are_as_listed(part: &str, found: &BTreeSet<(String, String)>) {
    let text = fixture("differences.tsv");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed: Vec<[&str; 3]> = lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [of, call, difference, reason] = columns[..] else {
                panic!("four columns: {line}")
            };
            assert!(reason.len() > 10, "no reason: {line}");
            [of, call, difference]
        })
        .filter(|[of, ..]| *of == part)
        .collect();
    let is = |[_, call, difference]: &[&str; 3], found: &(String, String)| {
        matches(call, &found.0) && matches(difference, &found.1)
    };
    let unlisted: Vec<String> = found
        .iter()
        .filter(|found| !listed.iter().any(|line| is(line, found)))
        .map(|(call, difference)| format!("{part}\t{call}\t{difference}"))
        .collect();
    let gone: Vec<String> = listed
        .iter()
        .filter(|line| !found.iter().any(|found| is(line, found)))
        .map(|line| line.join("\t"))
        .collect();
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "differences that are not listed:\n{}\nlisted ones that are none:\n{}",
        unlisted.join("\n"),
        gone.join("\n")
    );
}

/// What the newest specifications say that answers are made of.
fn models() -> BTreeMap<String, Value> {
    let models = fixture("models.ndjson");
    let models = models.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    models
        .map(|model| (model["model"].as_str().unwrap().into(), model["members"].clone()))
        .collect()
}

fn examples() -> Vec<Call> {
    let text = fixture("examples.ndjson");
    let read = text.lines().map(|line| {
        let example: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| example[name].as_str().unwrap_or_default().to_owned();
        let status = example["status"].as_array().unwrap().iter();
        let is_data_plane = example["source"].as_str().unwrap().contains("/data-plane/");
        Call {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            body: example["body"].clone(),
            status: status.map(|status| u16::try_from(status.as_u64().unwrap()).unwrap()).collect(),
            answer: example["answer"].clone(),
            model: example["model"].as_str().map(str::to_owned),
            // Registries are asked without one, by azimg as by others.
            version: if is_data_plane { String::new() } else { text("version") },
        }
    });
    read.collect()
}

fn every_example_of_the_specifications_is_answered_in_its_shape() {
    let examples = examples();
    assert!(examples.len() > 90, "{}", examples.len());
    are_as_listed("specification", &compare(&examples, &models()));
}

fn every_recorded_request_is_answered_in_its_shape() {
    let files = [
        "subscriptions",
        "marketplace",
        "gallery",
        "managed-images",
        "acr-arm",
        "acr-dataplane",
        "resource-graph",
    ];
    let all = files.iter().flat_map(|name| exchanges(recordings(), &format!("{name}.jsonl.gz")));
    let calls: Vec<Call> = all.filter_map(|exchange| recorded(&exchange)).collect();
    assert!(calls.len() > 1_500, "{}", calls.len());
    are_as_listed("recordings", &compare(&calls, &models()));
}
