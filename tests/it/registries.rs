//! Container registries: lists that are whole, locks that are kept, and credentials that stay where
//! they belong whatever a registry answers.

use crate::support::replay::{exchanges, recordings};
use crate::support::{Azure, finish, json};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use azimg::error::ErrorKind;
use azimg::registry::{Attributes, Login, Manifest, Name, Registry, Repository, Tag};
use azimg::sim::registries::SimManifest;
use azimg::sim::{Conditions, Scale, SimCredential, World, generate};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

fn world(repositories: usize) -> World {
    let World { locations, .. } = generate(Scale::Small, 1);
    World::new(locations, Vec::new()).with_registries(2, repositories, 7)
}

fn registry(azure: &Azure, number: usize, login: Login) -> Registry {
    Registry::new(&azure.running.registries[number], login).unwrap()
}

fn entra() -> Login {
    Login::Entra(Arc::new(SimCredential))
}

#[test]
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
    let registry = registry(&azure, 0, entra());
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

#[test]
fn nobody_and_somebody_may_what_they_may() {
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
        let gone = registry(&azure, 0, entra()).tags("nothing", None).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        // Refused once, renewed once, and no more.
        assert!(azure.asked("IssueToken") < 14);
    });
}

#[test]
fn under_faults_everything_is_found_and_done_once() {
    for seed in 1..=2 {
        let faults = format!("5xx=0.05,cut=0.1,reset=0.1,shape=0.1,times=1,seed={seed}");
        let conditions = Conditions { faults: faults.parse().unwrap(), ..Conditions::default() };
        let azure = Azure::under(world(12), conditions, None);
        let registry = registry(&azure, 0, entra());
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

/// A server that answers as it is told, and keeps what it was sent.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

type Answer = fn(&str, &str) -> Response;

async fn server(answer: Answer, other: String) -> Server {
    #[derive(Clone)]
    struct At {
        answer: Answer,
        other: String,
        seen: Arc<Mutex<Vec<String>>>,
    }
    async fn serve(State(at): State<At>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let path = parts.uri.path_and_query().unwrap().to_string();
        let text = format!(
            "{} {path} {:?} {}",
            parts.method,
            parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()),
            String::from_utf8_lossy(&body)
        );
        at.seen.lock().unwrap().push(text);
        (at.answer)(&path, &at.other)
    }
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let at = At { answer, other, seen: Arc::clone(&seen) };
    let routes = Router::new().fallback(serve).with_state(at);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Server { address, seen }
}

fn reply(status: u16, headers: &[(&str, String)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

fn token(path: &str) -> Option<Response> {
    match path {
        "/oauth2/exchange" => Some(reply(200, &[], r#"{"refresh_token":"REFRESH"}"#)),
        "/oauth2/token" => Some(reply(200, &[], r#"{"access_token":"ACCESS"}"#)),
        _ => None,
    }
}

/// A registry that wants to be left alone is left alone, by everyone, and asked again.
#[test]
fn throttling_is_waited_for() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    Runtime::new().unwrap().block_on(async {
        let busy = server(
            |path, _| {
                let wait = [("retry-after", "1".to_owned())];
                let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
                token(path).unwrap_or_else(|| match ASKED.fetch_add(1, Ordering::SeqCst) {
                    0 => reply(429, &wait, body),
                    _ => reply(200, &[], r#"{"repositories":["a"]}"#),
                })
            },
            String::new(),
        )
        .await;
        let registry = Registry::new(&busy.address, entra()).unwrap();
        assert_eq!(registry.repositories().await.unwrap(), ["a"]);
        assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    });
}

/// What a registry may answer to lead a client elsewhere; the attacker must never be asked anything.
const LEADING_AWAY: [(&str, Answer); 7] = [
    ("a realm elsewhere", |path, other| {
        let realm =
            format!("Bearer realm=\"http://{other}/oauth2/token\",service=\"x\",scope=\"y&z\"");
        token(path).unwrap_or_else(|| reply(401, &[("www-authenticate", realm)], "{}"))
    }),
    ("a realm from the beginning", |_, other| {
        let realm = format!("Basic realm=\"http://user:pw@{other}/\"");
        reply(401, &[("www-authenticate", realm)], "{}")
    }),
    ("a redirect of a listing", |path, other| {
        let to = format!("http://{other}/stolen");
        token(path).unwrap_or_else(|| reply(307, &[("location", to)], ""))
    }),
    ("a redirect of the token request", |_, other| {
        reply(308, &[("location", format!("http://{other}/oauth2/token"))], "")
    }),
    ("a next page elsewhere", |path, other| {
        let link = format!("<http://{other}/acr/v1/_catalog?n=1>; rel=\"next\"");
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
    ("a next page without a scheme", |path, other| {
        let link = format!("<//{other}/acr/v1/_catalog?n=1>; rel=\"next\"");
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
    ("a next page of another list", |path, _| {
        let link = "</acr/v1/secret/_tags?n=1>; rel=\"next\"".to_owned();
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
];

#[test]
fn no_answer_leads_a_credential_away() {
    Runtime::new().unwrap().block_on(async {
        for (what, answer) in LEADING_AWAY {
            let attacker = server(|_, _| reply(200, &[], "{}"), String::new()).await;
            let evil = server(answer, attacker.address.clone()).await;
            let registry = Registry::new(&evil.address, entra()).unwrap();
            let error = registry.repositories().await.unwrap_err();
            assert!(attacker.seen.lock().unwrap().is_empty(), "{what}: {:?}", attacker.seen);
            assert!(!error.to_string().contains("eyJ"), "{what}: {error}");
            assert!(!error.to_string().contains("ACCESS"), "{what}: {error}");
            let seen = evil.seen.lock().unwrap().clone();
            assert!(seen.iter().all(|asked| !asked.contains("secret")), "{what}: {seen:?}");
            // The Entra token goes to the exchange alone, the refresh token to the token service.
            for asked in seen.iter().filter(|asked| !asked.contains("/oauth2/")) {
                assert!(!asked.contains("eyJ") && !asked.contains("REFRESH"), "{what}: {asked}");
            }
        }
    });
}

#[test]
fn endless_lists_and_bodies_are_bounded() {
    let cases: [(&str, Answer, &str); 4] = [
        (
            "pages that go round",
            |path, _| {
                let link = "</acr/v1/_catalog?last=a&n=1>; rel=\"next\"".to_owned();
                token(path)
                    .unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
            },
            "go round",
        ),
        (
            "a listing that is too long",
            |path, _| token(path).unwrap_or_else(|| reply(200, &[], &" ".repeat(17 << 20))),
            "longer than 16 MiB",
        ),
        (
            "a token that is too long",
            |_, _| reply(200, &[], &format!("{{\"refresh_token\":\"{}\"}}", "x".repeat(2 << 20))),
            "longer than 1 MiB",
        ),
        (
            "another document",
            |path, _| token(path).unwrap_or_else(|| reply(404, &[], "404 page not found")),
            "404 page not found",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let evil = server(answer, String::new()).await;
            let registry = Registry::new(&evil.address, entra()).unwrap();
            let error = registry.repositories().await.unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    });
}

#[test]
fn names_that_are_none_are_not_passed_on() {
    Runtime::new().unwrap().block_on(async {
        let evil = server(
            |path, _| {
                let tags =
                    r#"{"imageName":"a","tags":[{"name":"../x","digest":"sha256:../../x"}]}"#;
                token(path).unwrap_or_else(|| reply(200, &[], tags))
            },
            String::new(),
        )
        .await;
        let registry = Registry::new(&evil.address, entra()).unwrap();
        let error = registry.tags("a", None).await.unwrap_err();
        assert!(error.to_string().contains("names that are none"), "{error}");
    });
    for bad in ["", "a/b", "user@host", "host?x", "http://x", "a b", "h#f"] {
        assert!(Registry::new(bad, Login::Anonymous).is_err(), "{bad}");
    }
}

#[test]
fn every_recorded_listing_is_read() {
    let Some(folder) = recordings() else { return };
    let (mut lists, mut ones) = (0, 0);
    for exchange in exchanges(&folder, "acr-dataplane.jsonl.gz").iter().filter(|e| e.status == 200)
    {
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
            lists += 1;
        }
        if body["manifestCount"].is_number() {
            let read: Repository = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(
                (Some(read.name.as_str()), read.tag_count),
                (name, body["tagCount"].as_u64().unwrap())
            );
            ones += 1;
        }
    }
    assert!(lists > 50 && ones > 2, "{lists} in lists, {ones} repositories");
}

#[test]
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

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text.as_bytes());
    format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

#[test]
fn a_manifest_that_lies_is_not_believed() {
    const PLAIN: &str = r#"{"schemaVersion":2,"layers":[]}"#;
    let cases: [(&str, Answer, &str); 6] = [
        (
            "other bytes",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                token(path)
                    .unwrap_or_else(|| reply(200, &kind, r#"{"schemaVersion":2,"layers":[1]}"#))
            },
            "whose digest is",
        ),
        (
            "another digest in its header",
            |path, _| {
                let other = format!("sha256:{}", "a".repeat(64));
                let kind = [("content-type", IMAGE.to_owned()), ("docker-content-digest", other)];
                token(path).unwrap_or_else(|| reply(200, &kind, PLAIN))
            },
            "and called it sha256:aaaa",
        ),
        (
            "another type",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                let body =
                    r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
                token(path).unwrap_or_else(|| reply(200, &kind, body))
            },
            "and called it application/vnd.oci.image.manifest",
        ),
        (
            "an image and an index",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                token(path).unwrap_or_else(|| reply(200, &kind, r#"{"layers":[],"manifests":[]}"#))
            },
            "an image and an index",
        ),
        (
            "no JSON",
            |path, _| {
                let deep = "[".repeat(100_000);
                token(path).unwrap_or_else(|| reply(200, &[], &deep))
            },
            "no JSON",
        ),
        (
            "too long",
            |path, _| token(path).unwrap_or_else(|| reply(200, &[], &" ".repeat(5 << 20))),
            "longer than 4 MiB",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let evil = server(answer, String::new()).await;
            let registry = Registry::new(&evil.address, entra()).unwrap();
            let name = match what {
                "other bytes" => Name::Digest(sha256(PLAIN)),
                _ => Name::Tag("x".into()),
            };
            let error = registry.content("a", &name).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    });
}

#[test]
fn a_blob_is_had_from_where_blobs_lie_and_without_a_credential() {
    let config = r#"{"os":"linux"}"#;
    let descriptor = |size: usize| azimg::registry::Descriptor {
        media_type: "application/vnd.oci.image.config.v1+json".into(),
        digest: sha256(config),
        size: size as u64,
        artifact_type: None,
        annotations: Value::Null,
        platform: Value::Null,
    };
    Runtime::new().unwrap().block_on(async {
        let storage = server(|_, _| reply(200, &[], r#"{"os":"linux"}"#), String::new()).await;
        let front: Answer = |path, other| {
            let to = [("location", format!("http://{other}/blob?sig=SECRET"))];
            token(path).unwrap_or_else(|| reply(307, &to, ""))
        };
        let good = server(front, storage.address.clone()).await;
        let registry = Registry::new(&good.address, entra()).unwrap();
        let found = registry.config("a", &descriptor(config.len())).await.unwrap();
        assert_eq!(found["os"], "linux");
        let seen = storage.seen.lock().unwrap().clone();
        assert!(seen.iter().all(|asked| asked.contains("None")), "{seen:?}");
        // A size that lies, bytes that are others, a place that is none, a configuration without end.
        let error = registry.config("a", &descriptor(config.len() - 1)).await.unwrap_err();
        assert!(error.to_string().contains("not the bytes"), "{error}");
        let error = registry.config("a", &descriptor(9 << 20)).await.unwrap_err();
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        let away = server(front, "169.254.169.254".to_owned()).await;
        let registry = Registry::new(&away.address, entra()).unwrap();
        let error = registry.config("a", &descriptor(config.len())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
    });
}

#[test]
fn an_image_is_inspected_with_its_platforms_and_what_refers_to_it() {
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
