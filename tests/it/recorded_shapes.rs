//! Recorded traffic of galleries against the simulated Azure: it answers in the recorded shapes.

use crate::support::asking::ask;
use crate::support::galleries::tenant;
use crate::support::recorded::{all, form, version};
use crate::support::replay::{Exchange, exchanges, recordings};
use crate::tests;
use azimg::testing::sim::{Conditions, OrganisationSize, Sim};
use azimg::testing::source::locations::short_name;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

tests![
    the_simulated_azure_answers_in_the_recorded_shapes needs [Recordings],
    recorded_queries_of_resource_graph_are_answered_in_their_shapes needs [Recordings],
];

/// The paths of all members of a value; elements of lists and names of tags are folded.
fn members(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(all) => {
            for (name, inner) in all {
                let path = format!("{at}.{name}");
                into.insert(path.clone());
                if name != "tags" {
                    members(inner, &path, into);
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| members(inner, at, into)),
        _ => {}
    }
}

/// What the documents have beside the recordings (azure-rest §4), and the simulated Azure says.
const DOCUMENTED: &[&str] = &[
    ".nextLink",
    ".description",
    ".features",
    ".recommended",
    ".disallowed",
    ".purchasePlan",
    ".endOfLifeDate",
    ".architecture",
    ".replicationMode",
    ".sharingProfile",
    ".publicNamePrefix",
    ".excludeFromLatest",
    ".zoneResilient",
    ".storageProfile.source",
    ".error",
    ".tags",
    ".dataDiskImages",
    ".safetyProfile",
];

/// The same request of the simulated Azure, with names that it has.
fn translated(sim: &Sim, form: &str) -> Option<String> {
    let all = sim.organisation();
    let shared = form.contains("sharedgalleries");
    let foreign = if shared { &all.shared } else { &all.communities };
    let own = all.galleries.values().next()?;
    let gallery = if form.contains("locations") { foreign.values().next()? } else { own };
    let definition = gallery.definitions.values().next()?;
    let version = definition.versions.values().next()?;
    let region = short_name(version.regions[0]["name"].as_str()?);
    let managed = all.images.keys().next()?.rsplit('/').next()?.to_owned();
    let managed_group = all.images.keys().next()?.split('/').nth(4)?.to_owned();
    let is_managed = !form.contains("galleries");
    let mut before = "";
    let mut path = String::new();
    for part in form.split('/') {
        let name = match (part, before) {
            ("*", "subscriptions") => sim.subscriptions[0].as_str(),
            ("*", "resourcegroups") if is_managed => &managed_group,
            ("*", "resourcegroups") => &own.group,
            ("*", "locations") => &region,
            ("*", "images") if is_managed => &managed,
            ("*", "images") => &definition.name,
            ("*", "versions") => &version.name,
            ("*", _) => &gallery.name,
            _ => part,
        };
        path = format!("{path}/{name}");
        before = part;
    }
    Some(path)
}

fn the_simulated_azure_answers_in_the_recorded_shapes() {
    let folder = recordings();
    let size = OrganisationSize { communities: 1, shared: 2, machines: 0, ..OrganisationSize::FEW };
    let sim = Sim::new(tenant(size), Conditions::default());
    let mut shapes: BTreeMap<(String, String, bool), Vec<Exchange>> = BTreeMap::new();
    for exchange in all(folder).into_iter().filter(|e| e.status / 100 == 2) {
        // Operations are asked where an answer says, and azimg creates nothing.
        if exchange.path.contains("capsoperations") || exchange.method == "PUT" {
            continue;
        }
        // Deletions of galleries, definitions and managed images are no operations of azimg.
        if exchange.method == "DELETE" && !exchange.path.contains("/versions/") {
            continue;
        }
        let select = exchange.query.to_lowercase().contains("permissions");
        let key = (exchange.method.clone(), form(&exchange.path), select);
        shapes.entry(key).or_default().push(exchange);
    }
    assert!(shapes.len() >= 20, "{:?}", shapes.keys());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What is deleted is asked for last.
    let mut order: Vec<_> = shapes.iter().collect();
    order.sort_by_key(|((method, ..), _)| method == "DELETE");
    for ((method, form, select), recorded) in order {
        let path = translated(&sim, form).unwrap();
        let query = if *select { "&$select=Permissions" } else { "" };
        let uri = format!("{path}?api-version={}{query}", version(&path));
        let body = runtime.block_on(body_of(&sim, method, form, &uri));
        let (status, answer) = runtime.block_on(ask(&sim, method, &uri, body.as_ref()));
        let statuses: BTreeSet<u16> = recorded.iter().map(|e| e.status).collect();
        assert!(statuses.contains(&status), "{method} {uri}: {status}, recorded {statuses:?}");
        assert_recorded_shape(method, form, recorded, &answer);
    }
}

/// The body of a request that changes something.
async fn body_of(sim: &Arc<Sim>, method: &str, form: &str, uri: &str) -> Option<Value> {
    match (method, form) {
        ("PATCH", form) if form.ends_with("versions/*") => {
            let publishing = json!({"excludeFromLatest": false});
            Some(json!({"properties": {"publishingProfile": publishing, "storageProfile": {}}}))
        }
        ("PATCH", form) if form.contains("/images/") => {
            let now = ask(sim, "GET", uri, None).await.1;
            let kept = ["osType", "osState", "identifier"];
            let kept = kept.map(|name| (name.to_owned(), now["properties"][name].clone()));
            let properties: Map<String, Value> = kept.into_iter().collect();
            Some(json!({"properties": properties}))
        }
        ("PATCH", _) => Some(json!({"properties": {"description": "x"}})),
        ("POST", _) => Some(json!({"operationType": "Reset"})),
        _ => None,
    }
}

/// Parts of names that not every recorded body has: what single things were made of (a disk, a recommendation) is not
/// what all are like.
const OPTIONAL: [&str; 15] = [
    "softDelete",
    "dataDisk",
    "managedDisk",
    "disallowed",
    "recommended",
    "osDiskImage",
    "encryption",
    "safetyProfile",
    "description",
    "sourceVirtualMachine",
    "targetExtended",
    "communityMetadata",
    "disclaimer",
    "artifactTags",
    "securityProfile",
];

/// An answer has no member that no recorded body has, and every member that all of them have.
fn assert_recorded_shape(method: &str, form: &str, recorded: &[Exchange], answer: &Value) {
    let mut known = BTreeSet::new();
    let mut always: Option<BTreeSet<String>> = None;
    for exchange in recorded.iter().filter(|e| !e.body.is_empty()) {
        let mut shape = BTreeSet::new();
        members(&serde_json::from_str(&exchange.body).unwrap(), "", &mut shape);
        always = Some(match always {
            None => shape.clone(),
            Some(always) => always.intersection(&shape).cloned().collect(),
        });
        known.extend(shape);
    }
    let mut shape = BTreeSet::new();
    members(answer, "", &mut shape);
    let documented = |path: &&String| DOCUMENTED.iter().any(|part| path.contains(part));
    // The specification has properties of a gallery that is shared; those that were recorded have none.
    let is_empty =
        |path: &&String| form.ends_with("sharedgalleries") && *path == ".value.properties";
    let is_known = |path: &&String| documented(path) || is_empty(path);
    let invented: Vec<_> = shape.difference(&known).filter(|path| !is_known(path)).collect();
    assert!(invented.is_empty(), "{method} {form}: nobody recorded {invented:?}");
    let always = always.unwrap_or_default();
    let lacking: Vec<_> = always
        .difference(&shape)
        .filter(|path| !OPTIONAL.iter().any(|part| path.contains(part)))
        .collect();
    assert!(lacking.is_empty(), "{method} {form}: {lacking:?} is always there, {answer}");
}

fn recorded_queries_of_resource_graph_are_answered_in_their_shapes() {
    let folder = recordings();
    let sim = Sim::new(tenant(OrganisationSize::FEW), Conditions::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let uri = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
    let ask = |body: Value| runtime.block_on(ask(&sim, "POST", uri, Some(&body)));
    let recorded = exchanges(folder, "resource-graph.jsonl.gz");
    let recorded: Vec<&Exchange> =
        recorded.iter().filter(|e| e.path.ends_with("microsoft.resourcegraph/resources")).collect();
    assert!(recorded.len() >= 8);
    let shape = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    // The one of community galleries, as it was sent.
    let query = "communitygalleryresources| where type == \
                 'microsoft.compute/locations/communitygalleries' | where location == 'eastus' ";
    let (status, answer) = ask(json!({"query": query, "options": {"$top": 30}}));
    assert_eq!(status, 200, "{answer}");
    let of = |part: &str| {
        let found = recorded.iter().find(|e| e.body.contains(part)).unwrap();
        serde_json::from_str::<Value>(&found.body).unwrap()
    };
    let communities = of("CommunityGalleries");
    assert!(shape(&communities).is_subset(&shape(&answer)));
    let (ours, theirs) = (&answer["data"][0], &communities["data"][0]);
    for name in ["id", "name", "type", "location", "subscriptionId", "resourceGroup", "properties"]
    {
        assert_eq!(ours[name].is_string(), theirs[name].is_string(), "{name}");
    }
    assert!(shape(ours).is_subset(&shape(theirs)));
    // Those of resources, and those that were refused.
    let subscriptions = json!([sim.subscriptions[0]]);
    let query = "project id, tags, properties | limit 2";
    let (status, answer) = ask(json!({"subscriptions": subscriptions, "query": query}));
    assert_eq!((status, answer["count"].as_u64()), (200, Some(2)));
    let plain = of("\"resultTruncated\"");
    assert_eq!(shape(&answer), shape(&plain));
    for bad in ["project id, location | where where", "resources | join kind=inner x", "", "drop"] {
        let (status, answer) = ask(json!({"subscriptions": subscriptions, "query": bad}));
        assert_eq!(status, 400, "{bad}");
        let refused = of("ParserFailure");
        assert_eq!(shape(&answer["error"]), shape(&refused["error"]), "{bad}");
        assert_eq!(shape(&answer["error"]["details"][1]), shape(&refused["error"]["details"][1]));
    }
}
