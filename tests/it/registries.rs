//! Container registries: lists that are whole, locks that are kept, and images inspected.

use crate::support::registries::{entra, world};
use crate::support::replay::{exchanges, recordings};
use crate::support::{Azure, finish, json};
use crate::tests;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use azimg::testing::client::{Client, Tokens, version};
use azimg::testing::error::ErrorKind;
use azimg::testing::registry::{Attributes, Login, Manifest, Name, Registry, Repository, Tag};
use azimg::testing::sim::registries::SimManifest;
use azimg::testing::sim::{Conditions, Sim, SimCredential};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::runtime::Runtime;

tests![
    lists_are_whole_over_many_pages,
    anonymous_and_scoped_access_have_their_permissions_only,
    faults_of_a_registry_cause_no_loss_and_no_repetition,
    every_recorded_listing_is_read needs [Recordings],
    the_simulated_data_plane_answers_as_acr_does,
    the_simulated_provider_has_registries_by_group_and_by_name,
    the_command_line_lists_locks_and_deletes,
    an_image_is_inspected_with_its_platforms_and_referrers,
];

static V2: HeaderValue = HeaderValue::from_static("registry/2.0");

fn registry(azure: &Azure, number: usize, login: Login) -> Registry {
    Registry::new(&azure.running.registries[number], login).unwrap()
}

fn lists_are_whole_over_many_pages() {
    let azure = Azure::start(world(2_300));
    let runtime = Runtime::new().unwrap();
    // One repository that takes three pages of manifests.
    {
        let mut all = azure.sim.registries();
        let repository = all[0].repositories.get_mut("app-1").unwrap();
        let template = repository.manifests.values().next().unwrap().clone();
        for number in 0..2_400_u32 {
            let digest = format!("sha256:{number:064x}");
            repository.manifests.insert(digest, SimManifest { ..template.clone() });
        }
        // What is not to be listed is not listed.
        all[0].repositories.get_mut("app-2").unwrap().attributes.list = false;
    }
    let registry = registry(&azure, 0, entra(&azure.running.registries[0]));
    runtime.block_on(async {
        let expected = azure.sim.registries()[0].clone();
        let listed = expected.repositories.iter().filter(|(_, r)| r.attributes.list);
        let names: Vec<String> = listed.map(|(name, _)| name.clone()).collect();
        assert_eq!(registry.repositories().await.unwrap(), names);
        assert_eq!(azure.asked("ListRepositories"), 3);
        let manifests = registry.manifests("app-1").await.unwrap();
        let digests: Vec<&String> = expected.repositories["app-1"].manifests.keys().collect();
        assert_eq!(manifests.iter().map(|m| &m.digest).collect::<Vec<_>>(), digests);
        for (name, repository) in expected.repositories.iter().take(40) {
            let tags = registry.tags(name, None).await.unwrap();
            let wanted: Vec<(&String, &String)> =
                repository.tags.iter().map(|(tag, found)| (tag, &found.digest)).collect();
            assert_eq!(tags.iter().map(|t| (&t.name, &t.digest)).collect::<Vec<_>>(), wanted);
        }
        // One exchange, and one token for each scope.
        assert_eq!(azure.asked("ExchangeToken"), 1);
        assert_eq!(azure.asked("IssueToken"), 1 + 40);
    });
}

fn anonymous_and_scoped_access_have_their_permissions_only() {
    let azure = Azure::start(world(9));
    Runtime::new().unwrap().block_on(async {
        let anonymous = registry(&azure, 1, Login::Anonymous);
        assert!(!anonymous.tags("app-1", None).await.unwrap().is_empty());
        let error = anonymous.repositories().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let error = anonymous.delete("app-1", &Name::Whole).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("repository:app-1:delete"), "{error}");
        let closed = registry(&azure, 0, Login::Anonymous).tags("app-1", None).await;
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::Unauthenticated);
        let gone = registry(&azure, 0, entra(&azure.running.registries[0]))
            .tags("nothing", None)
            .await
            .unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        // Refused once, renewed once, and no more.
        assert!(azure.asked("IssueToken") < 14);
    });
}

fn faults_of_a_registry_cause_no_loss_and_no_repetition() {
    for seed in 1..=2 {
        let faults = format!("5xx=0.05,cut=0.1,reset=0.1,shape=0.1,times=1,seed={seed}");
        let conditions = Conditions { faults: faults.parse().unwrap(), ..Conditions::default() };
        let azure = Azure::under(world(12), conditions, None);
        let registry = registry(&azure, 0, entra(&azure.running.registries[0]));
        let before = azure.sim.registries()[0].clone();
        Runtime::new().unwrap().block_on(async {
            let names: Vec<String> = before.repositories.keys().cloned().collect();
            assert_eq!(registry.repositories().await.unwrap(), names, "seed {seed}");
            for (name, repository) in &before.repositories {
                let found = registry.manifests(name).await.unwrap();
                assert_eq!(found.len(), repository.manifests.len(), "seed {seed}");
            }
            let locked = Attributes { write_enabled: Some(false), ..Attributes::default() };
            let (name, repository) =
                before.repositories.iter().find(|(_, r)| r.tags.len() > 1).unwrap();
            let mut tags = repository.tags.keys();
            let (kept, gone) = (tags.next().unwrap(), tags.next().unwrap());
            registry.set(name, &Name::Tag(kept.clone()), &locked).await.unwrap();
            let error = registry.delete(name, &Name::Tag(kept.clone())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            registry.delete(name, &Name::Tag(gone.clone())).await.unwrap();
            let after = &azure.sim.registries()[0].repositories[name];
            assert_eq!(after.manifests.len(), repository.manifests.len(), "a manifest stays");
            assert_eq!(after.tags.len(), repository.tags.len() - 1);
        });
    }
}

fn every_recorded_listing_is_read() {
    let folder = recordings();
    let (mut lists, mut ones) = (0, 0);
    for exchange in exchanges(folder, "acr-dataplane.jsonl.gz").iter().filter(|e| e.status == 200) {
        let Ok(body) = serde_json::from_str::<Value>(&exchange.body) else { continue };
        let name = body["imageName"].as_str();
        for tag in body["tags"].as_array().into_iter().flatten().chain(body.get("tag")) {
            let read: Tag = serde_json::from_value(tag.clone()).unwrap();
            assert_eq!(Some(read.digest.as_str()), tag["digest"].as_str());
            assert_eq!(json!(read.changeable_attributes), tag["changeableAttributes"]);
            lists += 1;
        }
        let manifests = body["manifests"].as_array().filter(|_| name.is_some());
        for manifest in manifests.into_iter().flatten().chain(body.get("manifest")) {
            let read: Manifest = serde_json::from_value(manifest.clone()).unwrap();
            assert_eq!(read.image_size, manifest["imageSize"].as_u64());
            let tags = manifest["tags"].as_array().map_or(0, Vec::len);
            assert_eq!(read.tags.len(), tags);
            assert_eq!(read.architecture.as_deref(), manifest["architecture"].as_str());
            // And makes the row that it should.
            let row = azimg::testing::source::registry::row("r.azurecr.io", name.unwrap(), read);
            let row = serde_json::to_value(row).unwrap();
            let id =
                format!("r.azurecr.io/{}@{}", name.unwrap(), manifest["digest"].as_str().unwrap());
            assert_eq!((&row["id"], &row["bytes"]), (&json!(id), &manifest["imageSize"]));
            let mut tags: Vec<&str> = manifest["tags"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            tags.sort_unstable();
            assert_eq!(row["tags"], json!(tags));
            for (column, member) in [
                ("os", "os"),
                ("architecture", "architecture"),
                ("mediaType", "mediaType"),
                ("configMediaType", "configMediaType"),
            ] {
                assert_eq!(
                    row[column].as_str(),
                    manifest[member].as_str().filter(|t| !t.is_empty())
                );
            }
            for (column, member) in [
                ("canDelete", "deleteEnabled"),
                ("canWrite", "writeEnabled"),
                ("canList", "listEnabled"),
                ("canRead", "readEnabled"),
            ] {
                assert_eq!(row[column], manifest["changeableAttributes"][member]);
            }
            let parts = manifest["references"].as_array().into_iter().flatten();
            let parts: Vec<&Value> = parts.map(|part| &part["digest"]).collect();
            assert_eq!(row["manifests"], json!(parts));
            let seconds = |text: &Value| text.as_str().map(|text| text[..19].to_owned());
            assert_eq!(seconds(&row["createdAt"]), seconds(&manifest["createdTime"]));
            lists += 1;
        }
        if body["manifestCount"].is_number() {
            let read: Repository = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(
                (Some(read.name.as_str()), read.tag_count),
                (name, body["tagCount"].as_u64())
            );
            ones += 1;
        }
    }
    assert!(lists > 50 && ones > 2, "{lists} in lists, {ones} repositories");
}

/// A request to the first simulated registry, with a token that grants reading where one is to be had.
async fn asked(sim: &Arc<Sim>, path: &str, token: bool) -> (u16, HeaderMap, Value) {
    let server = sim.registries()[0].login_server.clone();
    let claims = json!({"aud": server, "exp": 4_000_000_000_u64, "access": [
        {"type": "registry", "name": "catalog", "actions": ["*"]},
        {"type": "repository", "name": "app-1", "actions": ["pull", "metadata_read"]}]});
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let request = Request::builder().uri(format!("https://{server}{path}"));
    let request = if token {
        request.header("authorization", format!("Bearer e30.{claims}.c2ln"))
    } else {
        request
    };
    let (parts, body) = sim.answer(request.body(Body::empty()).unwrap()).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    (parts.status.as_u16(), parts.headers, body)
}

/// The probe of Docker's API, its lists, and the orders of ACR's.
fn the_simulated_data_plane_answers_as_acr_does() {
    let sim = Sim::new(world(9), Conditions::default());
    let registry = sim.registries()[0].clone();
    let repository = &registry.repositories["app-1"];
    Runtime::new().unwrap().block_on(async {
        let (status, headers, body) = asked(&sim, "/v2/", false).await;
        assert_eq!((status, &headers["docker-distribution-api-version"]), (401, &V2));
        let challenge = headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer realm=") && !challenge.contains("scope="));
        assert_eq!(
            (&body["errors"][0]["code"], &body["errors"][0]["detail"]),
            (&json!("UNAUTHORIZED"), &Value::Null)
        );
        let (status, headers, _) = asked(&sim, "/v2/", true).await;
        assert_eq!((status, &headers["docker-distribution-api-version"]), (200, &V2));
        let (status, headers, _) = asked(&sim, "/v2/_catalog", false).await;
        let challenge = headers["www-authenticate"].to_str().unwrap();
        assert!(status == 401 && challenge.contains("scope=\"registry:catalog:*\""));
        let (_, headers, body) = asked(&sim, "/v2/_catalog?n=2", true).await;
        let names: Vec<&String> = registry.repositories.keys().take(2).collect();
        assert_eq!(body, json!({"repositories": names}));
        assert!(headers["link"].to_str().unwrap().starts_with("</v2/_catalog?last="));
        let (_, _, body) = asked(&sim, "/v2/app-1/tags/list", true).await;
        let tags: Vec<&String> = repository.tags.keys().collect();
        assert_eq!(body, json!({"name": "app-1", "tags": tags}));
        assert_eq!(asked(&sim, "/v2/app-2/tags/list", true).await.0, 401);
        for (list, name) in [("tags", "name"), ("manifests", "digest")] {
            let mut orders = Vec::new();
            for order in ["timeasc", "timedesc"] {
                let mut path = format!("/acr/v1/app-1/_{list}?n=2&orderby={order}");
                let mut all = Vec::new();
                // By pages, too.
                loop {
                    let (_, headers, body) = asked(&sim, &path, true).await;
                    all.extend(body[list].as_array().unwrap().clone());
                    let Some(link) = headers.get("link") else { break };
                    let link = link.to_str().unwrap().trim_start_matches('<');
                    link.split('>').next().unwrap().clone_into(&mut path);
                }
                let times: Vec<&str> =
                    all.iter().map(|row| row["lastUpdateTime"].as_str().unwrap()).collect();
                assert!(order == "timedesc" || times.is_sorted(), "{times:?}");
                assert!(order == "timeasc" || times.iter().rev().is_sorted(), "{times:?}");
                let names = all.iter().map(|row| row[name].as_str().unwrap().to_owned());
                orders.push(names.collect::<BTreeSet<String>>());
            }
            assert_eq!(orders[0], orders[1]);
            let count = if list == "tags" { tags.len() } else { repository.manifests.len() };
            assert_eq!(orders[0].len(), count);
            let (status, ..) =
                asked(&sim, &format!("/acr/v1/app-1/_{list}?orderby=size"), true).await;
            assert_eq!(status, 400);
        }
    });
}

fn the_simulated_provider_has_registries_by_group_and_by_name() {
    let azure = Azure::start(world(1));
    let registry = azure.sim.registries()[0].clone();
    Runtime::new().unwrap().block_on(async {
        let endpoint = azure.variables()["AZIMG_ARM_ENDPOINT"].parse().unwrap();
        let client =
            Client::new(endpoint, "scope".into(), vec![Tokens::of(SimCredential)]).unwrap();
        let subscription = registry.subscription.as_str();
        let provider = ["providers", "Microsoft.ContainerRegistry", "registries"];
        let of = |group: &'static str| {
            [&["subscriptions", subscription, "resourceGroups", group], &provider[..]].concat()
        };
        let version = [version::REGISTRIES.parameter()];
        let all: Vec<Value> = client.list(&of("RG-registries"), &version).await.unwrap();
        assert_eq!(all.len(), 2);
        assert!(client.list::<Value>(&of("other"), &version).await.unwrap().is_empty());
        let path = [of("rg-registries"), vec!["registry1"]].concat();
        let one: Value = client.get(&path, &version).await.unwrap();
        assert_eq!(one["name"], "registry1");
        let path = [of("rg-registries"), vec!["registry7"]].concat();
        let error = client.get::<Value>(&path, &version).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("registry7 could not be found"), "{error}");
    });
}

fn the_command_line_lists_locks_and_deletes() {
    let azure = Azure::start(world(12));
    let server = azure.running.registries[0].clone();
    let before = azure.sim.registries()[0].clone();
    let with = |arguments: &[&str]| json(&mut azure.azimg(&[arguments, &["-o", "json"]].concat()));
    let listed = with(&["registry", "list"]);
    assert_eq!(listed[0]["loginServer"], server.as_str());
    let names: BTreeSet<String> = with(&["registry", "repositories", "registry0"])
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["repository"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, before.repositories.keys().cloned().collect());
    let (name, repository) = before.repositories.iter().find(|(_, r)| r.tags.len() > 2).unwrap();
    let tagged: BTreeSet<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
    let untagged = with(&["registry", "manifests", &format!("{server}/{name}"), "--untagged"]);
    assert_eq!(untagged.as_array().unwrap().len(), repository.manifests.len() - tagged.len());
    let tag = repository.tags.keys().next().unwrap();
    let reference = format!("{server}/{name}:{tag}");
    let set = with(&["registry", "set", &reference, "--delete-enabled", "false"]);
    assert_eq!(set["changeableAttributes"]["deleteEnabled"], false);
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let (found, _, stderr) = finish(&mut azure.azimg(arguments));
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    refused(&["registry", "delete", &reference], 1, "--unlock");
    refused(&["registry", "delete", &format!("{server}/{name}")], 2, "--yes");
    refused(&["registry", "tags", &format!("{server}/nothing")], 4, "NAME_UNKNOWN");
    refused(&["registry", "tags", "nobody/app"], 4, "no registry 'nobody'");
    refused(&["registry", "show", "x.azurecr.io/A"], 2, "lower-case");
    let deleted = with(&["registry", "delete", &reference, "--unlock"]);
    assert_eq!(deleted["tagsDeleted"], json!([tag]));
    let after = azure.sim.registries()[0].repositories[name].clone();
    assert_eq!(after.manifests.len(), repository.manifests.len());
    assert!(!after.tags.contains_key(tag));
}

fn an_image_is_inspected_with_its_platforms_and_referrers() {
    let azure = Azure::start(world(12));
    let server = azure.running.registries[0].clone();
    let registry = azure.sim.registries()[0].clone();
    let with =
        |reference: &str| json(&mut azure.azimg(&["registry", "inspect", reference, "-o", "json"]));
    let (mut images, mut indexes, mut signed) = (0, 0, 0);
    for (name, repository) in registry.repositories.iter().take(5) {
        for (digest, manifest) in &repository.manifests {
            let found = with(&format!("{server}/{name}@{digest}"));
            assert_eq!(found["digest"], digest.as_str());
            let content: Value = serde_json::from_slice(&manifest.content).unwrap();
            if content["manifests"].is_array() {
                indexes += 1;
                let platforms = found["platforms"].as_array().unwrap();
                let of = |p: &Value| p["config"]["architecture"].as_str().unwrap().to_owned();
                assert_eq!(platforms.iter().map(of).collect::<Vec<_>>(), ["amd64", "arm64"]);
            } else if content["subject"].is_null() {
                images += 1;
                assert_eq!(found["config"]["os"], "linux");
                assert_eq!(found["layersSize"], content["layers"][0]["size"]);
            }
            let refers = |m: &&SimManifest| {
                serde_json::from_slice::<Value>(&m.content).unwrap()["subject"]["digest"]
                    == digest.as_str()
            };
            let wanted = repository.manifests.values().filter(refers).count();
            assert_eq!(found["referrers"].as_array().unwrap().len(), wanted);
            signed += wanted;
        }
    }
    assert!(images > 5 && indexes > 0 && signed > 0, "{images} {indexes} {signed}");
}
