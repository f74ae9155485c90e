//! The simulated Azure refuses what Azure refuses: a request of azimg's that is wrong is to be seen in a test.

use crate::support::{Azure, replay};
use crate::tests;
use azimg::testing::sim::{SUBSCRIPTION, Scale, generate};
use serde_json::{Value, json};

tests![
    options_without_a_meaning_are_refused,
    resource_graph_refuses_unsupported_queries_and_subscriptions,
    a_version_of_a_gallery_is_expanded_by_what_is_known,
    communities_have_the_recorded_disclaimer,
    locations_have_the_members_that_were_recorded needs [Recordings],
];

const VERSION: &str = "api-version=2024-07-01";

fn ask(azure: &Azure, path: &str, body: Option<Value>) -> (u16, Value) {
    let address = format!("{}{path}", azure.running.arm.as_str().trim_end_matches('/'));
    let client = reqwest::blocking::Client::new();
    let request = match body {
        None => client.get(address),
        Some(body) => {
            client.post(address).header("content-type", "application/json").body(body.to_string())
        }
    };
    let answer = request.bearer_auth("anything").send().unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().unwrap()).unwrap())
}

fn options_without_a_meaning_are_refused() {
    let azure = Azure::start(generate(Scale::Small, 91));
    let base = format!(
        "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/publishers"
    );
    let first = |path: &str| {
        let (status, answer) = ask(&azure, &format!("{path}?{VERSION}"), None);
        assert_eq!(status, 200, "{path}: {answer}");
        answer.as_array().unwrap().first().map(|row| row["name"].as_str().unwrap().to_owned())
    };
    let publishers = ask(&azure, &format!("{base}?{VERSION}"), None).1;
    let publishers = publishers.as_array().unwrap().iter().map(|row| row["name"].clone());
    let versions = publishers.filter_map(|name| {
        let offers = format!("{base}/{}/artifacttypes/vmimage/offers", name.as_str().unwrap());
        // Some vanish, and some have nothing.
        let (status, _) = ask(&azure, &format!("{offers}?{VERSION}"), None);
        let skus = format!("{offers}/{}/skus", first(&offers).filter(|_| status == 200)?);
        Some(format!("{skus}/{}/versions", first(&skus)?))
    });
    let versions = versions.take(1).next().unwrap();
    for (options, status) in [
        ("$expand=properties", 200),
        ("$top=1", 200),
        ("$orderby=name%20desc", 200),
        ("$expand=Nonsense", 400),
        ("$top=abc", 400),
        ("$top=-1", 400),
        ("$orderby=nonsense", 400),
        ("$filter=name", 400),
    ] {
        let (reported, answer) = ask(&azure, &format!("{versions}?{VERSION}&{options}"), None);
        assert_eq!(reported, status, "{options}: {answer}");
    }
}

fn resource_graph_refuses_unsupported_queries_and_subscriptions() {
    let azure = Azure::start(generate(Scale::Small, 92));
    let path = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
    let query = "resources | where type =~ 'microsoft.compute/galleries' | project id";
    for (more, status, words) in [
        (json!({}), 200, ""),
        (json!({"options": {"$top": 1000, "resultFormat": "objectArray"}}), 200, ""),
        (json!({"options": {"$top": 1001}}), 400, "between 1 and 1000"),
        (json!({"options": {"$top": 0}}), 400, "between 1 and 1000"),
        (json!({"options": {"resultFormat": "table"}}), 400, "result format"),
        (json!({"options": {"$skip": 5}}), 400, "$skip"),
        (json!({"facets": [{"expression": "location"}]}), 400, "facets"),
        (json!({"managementGroups": ["mg"]}), 400, "managementGroups"),
        (json!({"subscriptions": [SUBSCRIPTION, "another"]}), 200, ""),
        (json!({"subscriptions": ["another"]}), 400, "at least one subscription"),
    ] {
        let mut body = json!({"query": query});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (reported, answer) = ask(&azure, path, Some(body.clone()));
        assert_eq!(reported, status, "{body}: {answer}");
        assert!(answer.to_string().contains(words), "{body}: {answer}");
    }
}

fn a_version_of_a_gallery_is_expanded_by_what_is_known() {
    let azure = Azure::start(generate(Scale::Small, 94));
    let mut at = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/galleries");
    for below in ["/images", "/versions", ""] {
        let (status, answer) = ask(&azure, &format!("{at}?api-version=2026-03-03"), None);
        assert_eq!(status, 200, "{answer}");
        at = format!("{}{below}", answer["value"][0]["id"].as_str().unwrap());
    }
    for (expand, status, replicated) in [
        ("ReplicationStatus", 200, true),
        ("ValidationProfile,ReplicationStatus", 200, true),
        ("UefiSettings", 200, false),
        ("Nonsense", 400, false),
    ] {
        let path = format!("{at}?api-version=2026-03-03&$expand={expand}");
        let (reported, answer) = ask(&azure, &path, None);
        assert_eq!(reported, status, "{expand}: {answer}");
        let status = &answer["properties"]["replicationStatus"];
        assert_eq!(status.is_object(), replicated, "{expand}: {answer}");
    }
}

fn communities_have_the_recorded_disclaimer() {
    let azure = Azure::start(generate(Scale::Small, 95));
    let path = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
    let query = "communitygalleryresources | where type =~ \
                 'microsoft.compute/locations/communitygalleries' | project id, properties";
    let (_, rows) = ask(&azure, path, Some(json!({"query": query})));
    let row = &rows["data"][0];
    assert!(row["properties"]["properties"]["disclaimer"].is_string(), "{rows}");
    let community = format!("/subscriptions/{SUBSCRIPTION}{}", row["id"].as_str().unwrap());
    for (version, disclaims) in [("2021-07-01", false), ("2022-01-03", true), ("2026-03-03", true)]
    {
        let (status, answer) = ask(&azure, &format!("{community}?api-version={version}"), None);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["properties"]["disclaimer"].is_string(),
            disclaims,
            "{version}: {answer}"
        );
        assert!(answer["communityMetadata"].is_object(), "{version}: {answer}");
    }
}

/// The members of a location, without those that only some have.
fn members(of: &Value, at: &str, found: &mut Vec<String>) {
    match of {
        Value::Object(members) => {
            for (name, member) in members {
                self::members(member, &format!("{at}.{name}"), found);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                members(element, &format!("{at}[]"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn locations_have_the_members_that_were_recorded() {
    let recorded = replay::exchanges(replay::recordings(), "subscriptions.jsonl.gz");
    let recorded: Vec<Value> = recorded
        .iter()
        .filter(|reported| {
            reported.path.ends_with("/locations") && reported.query == "api-version=2022-12-01"
        })
        .map(|reported| serde_json::from_str(&reported.body).unwrap())
        .collect();
    let of = |answer: &Value| {
        let mut found = Vec::new();
        members(&answer["value"], "", &mut found);
        found.sort();
        found.dedup();
        found
    };
    let azure = Azure::start(generate(Scale::Small, 93));
    let path = format!("/subscriptions/{SUBSCRIPTION}/locations?api-version=2022-12-01");
    let ours = of(&ask(&azure, &path, None).1);
    assert!(!recorded.is_empty());
    for body in recorded {
        assert_eq!(ours, of(&body));
    }
}
