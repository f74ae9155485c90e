//! What became of a change: made, under way, failed or never begun, each told from the others; and what a change
//! must not take away.

use crate::support::asking::ask;
use crate::support::changes::{Loss, SIZE, changed, first, nth, on, stage};
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::fleet::Direct;
use crate::support::galleries::{crawl, rows, tenant};
use crate::support::{Azure, finish, json, paused, wait_for};
use crate::tests;
use axum::body::Bytes;
use azimg::client::{Client, Tokens, Wire, WireRequest, WireResponse};
use azimg::error::{Error, Result};
use azimg::gallery::retire::{Action, Ledger, PLAN_VERSION, RetirePlan, Rules, plan};
use azimg::gallery::{ChangeOutcome, ChangeStep, Changes, Galleries, Name, ProvisioningState};
use azimg::sim::organisation::{SimGallery, SimVersion};
use azimg::sim::{Conditions, OrganisationSize, Sim, SimCredential};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;

tests![
    a_tag_whose_answer_is_lost_is_set_once,
    what_is_under_way_is_not_made_yet,
    what_failed_is_an_error_and_is_sent_again,
    what_had_failed_before_is_sent_until_an_answer_comes,
    what_is_being_made_already_is_waited_for,
    what_names_no_operation_is_looked_at,
    an_operation_is_followed_through_answers_that_do_not_tell,
    an_operation_that_tells_nothing_is_no_success,
    a_failure_is_told_with_all_its_reasons,
    an_interrupted_change_says_how_it_is_followed,
    names_of_tags_have_no_case,
    bodies_have_what_their_schemas_require,
    a_change_takes_nothing_away_that_it_does_not_know,
    regions_that_azure_refuses_are_refused,
    a_private_gallery_is_not_shared,
    what_is_deleted_softly_is_never_the_latest,
    a_retirement_says_until_when_it_can_be_undone,
    a_retirement_that_failed_is_due_again,
    a_retirement_waits_for_what_it_had_begun,
];

type Bend = dyn Fn(&WireRequest, WireResponse) -> Result<WireResponse> + Send + Sync;

/// A wire on which everything arrives, and some answers are others.
struct Bent {
    inner: Direct,
    bend: Box<Bend>,
    changes: AtomicUsize,
}

impl std::fmt::Debug for Bent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bent")
    }
}

#[async_trait::async_trait]
impl Wire for Bent {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        if is_change(request) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
        let answer = self.inner.send(request, authorized).await?;
        (self.bend)(request, answer)
    }
}

fn is_change(request: &WireRequest) -> bool {
    request.method != Method::GET && !request.url.path().contains("Graph")
}

fn is_version(request: &WireRequest) -> bool {
    request.method == Method::GET && request.url.path().contains("/versions/")
}

fn is_operation(request: &WireRequest) -> bool {
    request.url.path().contains("capsOperations")
}

fn lost() -> Error {
    Error::transient("the connection broke")
}

fn bent(
    sim: &Arc<Sim>,
    bend: impl Fn(&WireRequest, WireResponse) -> Result<WireResponse> + Send + Sync + 'static,
) -> (Galleries, Arc<Bent>) {
    let inner = Direct { sim: Arc::clone(sim), latency: Duration::from_millis(50), random: None };
    let wire = Arc::new(Bent { inner, bend: Box::new(bend), changes: AtomicUsize::new(0) });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let identities = vec![Tokens::of(SimCredential)];
    let over = Arc::clone(&wire) as Arc<dyn Wire>;
    let client = Client::over(over, endpoint, "scope".into(), identities).unwrap();
    (Galleries::new(client), wire)
}

fn sim() -> Arc<Sim> {
    Sim::new(tenant(SIZE), Conditions::default())
}

fn with_body(answer: WireResponse, body: impl Into<Bytes>) -> WireResponse {
    WireResponse { status: StatusCode::OK, body: body.into(), ..answer }
}

/// The same answer, with another provisioning state.
fn in_state(answer: WireResponse, state: &str) -> WireResponse {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["properties"]["provisioningState"] = state.into();
    with_body(answer, body.to_string())
}

fn gallery_of<T>(sim: &Sim, name: &Name, change: impl FnOnce(&mut SimGallery) -> T) -> T {
    let gallery = Name { own: name.own.clone(), definition: None, version: None };
    let id = gallery.id().to_lowercase();
    change(sim.organisation().galleries.get_mut(&id).unwrap())
}

fn version_of<T>(sim: &Sim, name: &Name, change: impl FnOnce(&mut SimVersion) -> T) -> T {
    let (definition, version) = (name.definition.clone().unwrap(), name.version.clone().unwrap());
    gallery_of(sim, name, |gallery| {
        let definition = gallery.definitions.get_mut(&definition.to_lowercase()).unwrap();
        change(definition.versions.get_mut(&version).unwrap())
    })
}

/// A change that no version shows yet.
fn ended() -> Changes {
    Changes { end_of_life: Some(Some(OffsetDateTime::UNIX_EPOCH)), ..Changes::default() }
}

fn a_tag_whose_answer_is_lost_is_set_once() {
    for lose in [&[][..], &[Loss::After], &[Loss::Before], &[Loss::Before, Loss::After]] {
        let stage = stage(lose);
        let [.., version] = first(&stage.sim);
        let tags = [("Owner", "me"), ("BUILD", "")];
        let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let changes = Changes { tags: tags.into(), ..Changes::default() };
        paused(async {
            let plan = || stage.galleries.plan_update(&version, &changes);
            let change = plan().await.unwrap().unwrap();
            assert_eq!(change.change.body, Some(json!({"tags": {"Owner": "me"}})));
            let tell = |_| {};
            let update = stage.galleries.update(&version, &changes, &change, true, &tell);
            assert!(matches!(update.await.unwrap(), ChangeOutcome::Done), "{lose:?}");
            assert!(plan().await.unwrap().is_none(), "it is so already");
            // What somebody else tags it with is none of ours.
            version_of(&stage.sim, &version, |version| version.tags["other"] = "x".into());
            assert!(plan().await.unwrap().is_none());
        });
        assert_eq!(changed(&stage.sim, "UpdateGalleryVersion"), 1, "{lose:?}");
    }
}

fn what_is_under_way_is_not_made_yet() {
    let sim = sim();
    let [.., version] = first(&sim);
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let (galleries, wire) = bent(&sim, move |request, answer| {
        if is_change(request) {
            return Err(lost());
        }
        // The first look is the plan's.
        let number = if is_version(request) { counted.fetch_add(1, Ordering::SeqCst) } else { 0 };
        Ok(if (1..=3).contains(&number) { in_state(answer, "Updating") } else { answer })
    });
    paused(async {
        let change = galleries.plan_update(&version, &ended()).await.unwrap().unwrap();
        galleries.update(&version, &ended(), &change, true, &|_| {}).await.unwrap();
    });
    assert_eq!(looks.load(Ordering::SeqCst), 6, "until it was at rest, and once it was made");
    assert_eq!(wire.changes.load(Ordering::SeqCst), 1);
}

fn what_failed_is_an_error_and_is_sent_again() {
    let sim = sim();
    let [.., version] = first(&sim);
    let (azure, name) = (Arc::clone(&sim), version.clone());
    let changes = AtomicUsize::new(0);
    let (galleries, wire) = bent(&sim, move |request, answer| {
        if !is_change(request) {
            return Ok(answer);
        }
        // The first one fails in Azure, the second one is made; both answers are lost.
        let failed = changes.fetch_add(1, Ordering::SeqCst) == 0;
        let state = if failed { "Failed" } else { "Succeeded" };
        version_of(&azure, &name, |version| version.state = state);
        Err(lost())
    });
    paused(async {
        let change = galleries.plan_update(&version, &ended()).await.unwrap().unwrap();
        let error = galleries.update(&version, &ended(), &change, true, &|_| {}).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("its provisioning failed; "), "{error}");
        assert!(error.contains("The replication to "), "{error}");
        let again = galleries.plan_update(&version, &ended()).await.unwrap();
        let again = again.expect("what failed is not so already");
        galleries.update(&version, &ended(), &again, true, &|_| {}).await.unwrap();
        assert!(galleries.plan_update(&version, &ended()).await.unwrap().is_none());
    });
    assert_eq!(wire.changes.load(Ordering::SeqCst), 2);
}

/// A version that failed shows what is wanted, and the request to try again never arrives.
fn what_had_failed_before_is_sent_until_an_answer_comes() {
    let sim = sim();
    let [.., version] = first(&sim);
    version_of(&sim, &version, |version| {
        version.state = "Failed";
        version.end_of_life = Some("1970-01-01T00:00:00Z".to_owned());
    });
    let stage = on(&sim, &[Loss::Before, Loss::Before], usize::MAX);
    paused(async {
        let change = stage.galleries.plan_update(&version, &ended()).await.unwrap().unwrap();
        stage.galleries.update(&version, &ended(), &change, true, &|_| {}).await.unwrap();
    });
    assert_eq!(stage.wire.changes.load(Ordering::SeqCst), 3);
    assert_eq!(changed(&sim, "UpdateGalleryVersion"), 1);
}

fn what_is_being_made_already_is_waited_for() {
    for end in ["Succeeded", "Failed"] {
        let sim = sim();
        let [.., version] = first(&sim);
        version_of(&sim, &version, |version| {
            version.end_of_life = Some("1970-01-01T00:00:00Z".to_owned());
        });
        let looks = AtomicUsize::new(0);
        let (galleries, _) = bent(&sim, move |request, answer| {
            let plain = is_version(request) && request.url.query().unwrap().starts_with("api");
            let number = if plain { looks.fetch_add(1, Ordering::SeqCst) } else { usize::MAX };
            Ok(if number < 3 { in_state(answer, "Updating") } else { in_state(answer, end) })
        });
        let settled = paused(async {
            let planned = galleries.plan_update(&version, &ended()).await.unwrap();
            assert!(planned.is_none(), "a second change of the same kind is not sent");
            galleries.settle(&version, &|_| {}).await
        });
        match settled {
            Ok(thing) => assert_eq!(
                (ProvisioningState::of(&thing), end),
                (ProvisioningState::AtRest, "Succeeded")
            ),
            Err(error) => {
                assert_eq!(end, "Failed");
                assert!(error.to_string().contains("did not make the change"), "{error}");
            }
        }
    }
}

fn what_names_no_operation_is_looked_at() {
    for (status, state, outcome) in [
        (202, "Succeeded", "made"),
        (200, "Succeeded", "made"),
        (202, "Failed", "its provisioning failed"),
        (200, "Failed", "its provisioning failed"),
    ] {
        let sim = sim();
        let [.., version] = first(&sim);
        let (azure, name) = (Arc::clone(&sim), version.clone());
        let (galleries, wire) = bent(&sim, move |request, answer| {
            if !is_change(request) {
                return Ok(answer);
            }
            version_of(&azure, &name, |version| version.state = state);
            let status = StatusCode::from_u16(status).unwrap();
            Ok(WireResponse { status, headers: HeaderMap::new(), ..answer })
        });
        let ended = paused(async {
            let change = galleries.plan_update(&version, &ended()).await.unwrap().unwrap();
            galleries.update(&version, &ended(), &change, true, &|_| {}).await
        });
        let found = ended.map_or_else(|error| error.to_string(), |_| "made".to_owned());
        assert!(found.contains(outcome), "{status} {state}: {found}");
        assert_eq!(wire.changes.load(Ordering::SeqCst), 1, "{status} {state}");
    }
}

/// An operation of a change that was begun.
async fn begun(galleries: &Galleries, version: &Name) -> url::Url {
    let change = galleries.plan_update(version, &ended()).await.unwrap().unwrap();
    match galleries.update(version, &ended(), &change, false, &|_| {}).await.unwrap() {
        ChangeOutcome::Begun(operation) => operation,
        ChangeOutcome::Done => panic!("nobody waited for it"),
    }
}

fn an_operation_is_followed_through_answers_that_do_not_tell() {
    type Untold = fn(WireResponse) -> Result<WireResponse>;
    let kinds: [(&str, Untold); 5] = [
        ("500", |answer| {
            Ok(WireResponse {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                body: Bytes::new(),
                ..answer
            })
        }),
        ("cut", |answer| {
            let half = answer.body.slice(..answer.body.len() / 2);
            Ok(with_body(answer, half))
        }),
        ("no answer", |_| Err(lost())),
        ("no status", |answer| Ok(with_body(answer, "{}"))),
        ("empty", |answer| Ok(with_body(answer, ""))),
    ];
    for (what, untold) in kinds {
        let sim = sim();
        let [.., version] = first(&sim);
        let asked = AtomicUsize::new(0);
        let (galleries, _) = bent(&sim, move |request, answer| {
            let silent = is_operation(request) && asked.fetch_add(1, Ordering::SeqCst) < 12;
            if silent { untold(answer) } else { Ok(answer) }
        });
        let told = AtomicUsize::new(0);
        paused(async {
            let operation = begun(&galleries, &version).await;
            let tell = |step| {
                if matches!(step, ChangeStep::Silent(_)) {
                    told.fetch_add(1, Ordering::SeqCst);
                }
            };
            let followed = galleries.follow(&operation, &tell).await;
            followed.unwrap_or_else(|error| panic!("{what}: {error}"));
        });
        assert!(told.load(Ordering::SeqCst) >= 2, "{what}: it is said that nothing is heard");
    }
}

fn an_operation_that_tells_nothing_is_no_success() {
    for body in ["", "{}", "{\"status\":\"\"}", "{\"status\":null}", "{\"properties\":{}}"] {
        let sim = sim();
        let [.., version] = first(&sim);
        let (galleries, _) = bent(&sim, move |request, answer| {
            Ok(if is_operation(request) { with_body(answer, body) } else { answer })
        });
        let error = paused(async {
            let operation = begun(&galleries, &version).await;
            galleries.follow(&operation, &|_| {}).await.unwrap_err()
        });
        assert!(error.to_string().contains("nothing tells whether"), "{body}: {error}");
        assert!(error.is_transient(), "{body}");
    }
    // Any other word is one for being under way; and what `Location` leads to is empty at its end.
    let sim = sim();
    let [.., version] = first(&sim);
    let asked = AtomicUsize::new(0);
    let (galleries, _) = bent(&sim, move |request, answer| {
        let odd = is_operation(request) && asked.fetch_add(1, Ordering::SeqCst) < 3;
        Ok(if odd { with_body(answer, "{\"status\":\"Pondering\"}") } else { answer })
    });
    paused(async {
        let operation = begun(&galleries, &version).await;
        galleries.follow(&operation, &|_| {}).await.unwrap();
        let monitor = operation.as_str().replace('?', "?monitor=true&");
        galleries.follow(&monitor.parse().unwrap(), &|_| {}).await.unwrap();
    });
}

const TENANT: &str = "22345678-1234-4234-8234-123456789012";
const DETAILED: &str = "{\"error\":{\"code\":\"Bad\",\"message\":\"See details.\",\"details\":[\
     {\"code\":\"Full\",\"message\":\"East US has no room.\"}]}}";
const FAILED: &str = "{\"status\":\"Failed\",\"error\":{\"code\":\"Bad\",\"message\":\"See details.\",\
     \"details\":[{\"code\":\"Full\",\"message\":\"East US has no room.\"}]}}";

fn a_failure_is_told_with_all_its_reasons() {
    let cases = [
        ("/share?", How::Answer(400, &[], DETAILED), 1),
        ("/share?", How::Answer(412, &[], DETAILED), 1),
        ("/share?", How::Answer(409, &[], DETAILED), 1),
        ("capsoperations", How::Answer(200, &[], FAILED), 1),
    ];
    for (on, how, code) in cases {
        let fault = Fault::new(on, usize::MAX, how);
        let faulty = Faulty::start(Azure::start(tenant(SIZE)), vec![fault]);
        let [gallery, ..] = nth(&faulty.azure.sim, 1).map(|name| name.id());
        let line = ["gallery", "share", &gallery, "--tenant", TENANT];
        let (found, stdout, stderr) = finish(&mut faulty.azimg(&line));
        assert_eq!((found, stdout.as_str()), (code, ""), "{stderr}");
        assert!(stderr.contains("Full East US has no room."), "{stderr}");
        // What ended cannot be followed.
        assert!(!stderr.contains("gallery wait"), "{stderr}");
    }
}

fn an_interrupted_change_says_how_it_is_followed() {
    for (signal, exit) in [("-INT", 130), ("-TERM", 143)] {
        let held = vec![Fault::new("capsoperations", usize::MAX, How::Held)];
        let faulty = Faulty::start(Azure::start(tenant(SIZE)), held);
        let [.., version] = first(&faulty.azure.sim).map(|name| name.id());
        let line = ["gallery", "update", &version, "--end-of-life", "2030-01-01", "--quiet"];
        let mut command = faulty.azimg(&line);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the operation to be asked for", || (faulty.met(0) > 0).then_some(()));
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(exit), 0), "{stderr}");
        assert!(stderr.contains(": interrupted"), "{stderr}");
        let (_, rest) = stderr.split_once("azimg gallery wait '").expect("how to go on");
        let address = rest.split('\'').next().unwrap();
        faulty.release();
        let ended = json(&mut faulty.azimg(&["gallery", "wait", address, "-o", "json"]));
        assert_eq!(ended["state"], "succeeded");
        let again = [&line[..5], &["-o", "json"]].concat();
        let (code, _, stderr) = finish(&mut faulty.azimg(&again));
        assert!(code == 0 && stderr.contains("it is so already"), "{stderr}");
    }
}

fn names_of_tags_have_no_case() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, ..] = first(&azure.sim).map(|name| name.id());
    let tagged = |tags: &[&str], more: &[&str]| {
        let mut line = vec!["gallery", "update", gallery.as_str(), "-o", "json"];
        line.extend(tags.iter().flat_map(|tag| ["--tag", *tag]));
        line.extend(more);
        finish(&mut azure.azimg(&line))
    };
    for (tags, body) in [
        (vec!["TEAM=x"], json!({"team": "x"})),
        (vec!["Team=", "env=1"], json!({"env": "1"})),
        (vec!["=x=y", "env=1"], Value::Null),
        (vec![" =x"], Value::Null),
        (vec!["env"], Value::Null),
        (vec!["env=1", "ENV=2"], Value::Null),
    ] {
        let (code, stdout, stderr) = tagged(&tags, &["--dry-run"]);
        if body.is_null() {
            let said = stderr.contains("is no tag") || stderr.contains("are one tag");
            assert!(code == 2 && said, "{tags:?}: {code} {stderr}");
        } else {
            let shown: Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(shown["body"], json!({ "tags": body }), "{tags:?}");
        }
    }
    // Taken away for good, and then not there.
    let (code, _, stderr) = tagged(&["TEAM="], &[]);
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = tagged(&["team="], &[]);
    assert!(code == 0 && stderr.contains("it is so already"), "{stderr}");
    assert!(!stdout.contains("platform"), "{stdout}");
}

fn bodies_have_what_their_schemas_require() {
    let sim = sim();
    let [gallery, definition, version] = first(&sim);
    let stage = on(&sim, &[], usize::MAX);
    let (of_version, of_definition) = paused(async {
        let changes = Changes { exclude_from_latest: Some(true), ..ended() };
        let version = stage.galleries.plan_update(&version, &changes).await.unwrap().unwrap();
        let changes = Changes { release_notes: Some("https://x".into()), ..Changes::default() };
        let definition = stage.galleries.plan_update(&definition, &changes).await.unwrap().unwrap();
        (version.change.body.unwrap(), definition.change.body.unwrap())
    });
    assert_eq!(of_version["properties"]["storageProfile"], json!({}));
    let known = gallery_of(&sim, &gallery, |gallery| {
        gallery.definitions.values().next().unwrap().properties.clone()
    });
    for member in ["osType", "osState", "identifier"] {
        assert_eq!(of_definition["properties"][member], known[member], "{member}");
    }
    // Azure (the simulated one) takes just that, the recorded forms too, and nothing less.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patch = |name: &Name, body: Value| {
        let uri = format!("{}?api-version=2026-03-03", name.id());
        let (status, answer) = runtime.block_on(ask(&sim, "PATCH", &uri, Some(&body)));
        (status, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(patch(&version, of_version).0, 200);
    assert_eq!(patch(&definition, of_definition).0, 200);
    let publishing = json!({"excludeFromLatest": false});
    let (status, said) =
        patch(&version, json!({"properties": {"publishingProfile": publishing.clone()}}));
    assert!(status == 400 && said.contains("storageProfile' is missing"), "{status} {said}");
    let recorded = json!({"osDiskImage": {"hostCaching": "ReadWrite"}});
    let body = |storage: Value| json!({"properties": {"publishingProfile": publishing.clone(), "storageProfile": storage}});
    assert_eq!(patch(&version, body(recorded)).0, 200);
    let other = json!({"source": {"id": "/another"}});
    assert_eq!(patch(&version, body(other)).0, 409);
    let (status, said) = patch(&definition, json!({"properties": {"description": "x"}}));
    assert!(status == 400 && said.contains("osType' is missing"), "{status} {said}");
}

/// Members that versions of the API show that are newer than the one that galleries are crawled with.
fn a_change_takes_nothing_away_that_it_does_not_know() {
    let azure = Azure::start(tenant(SIZE));
    let [.., version] = first(&azure.sim);
    let sets = json!([{"storageAccountType": "PremiumV2_LRS", "regionalReplicaCount": 1}]);
    version_of(&azure.sim, &version, |version| {
        version.regions = vec![json!({"name": "East US", "regionalReplicaCount": 2,
            "storageAccountType": "Standard_LRS", "additionalReplicaSets": sets.clone()})];
        version.safety["blockDeletionBeforeEndOfLife"] = true.into();
    });
    let id = version.id();
    let line = ["gallery", "update", &id, "--add-region", "japaneast=2/Standard_ZRS"];
    let shown = json(&mut azure.azimg(&[&line[..], &["--dry-run", "-o", "json"]].concat()));
    let safety = &shown["body"]["properties"]["safetyProfile"];
    let kept =
        json!({"allowDeletionOfReplicatedLocations": false, "blockDeletionBeforeEndOfLife": true});
    assert_eq!(*safety, kept, "and nothing that only Azure says");
    json(&mut azure.azimg(&[&line[..], &["-o", "json"]].concat()));
    version_of(&azure.sim, &version, |version| {
        assert_eq!(version.regions[0]["additionalReplicaSets"], sets);
        assert_eq!(version.safety["blockDeletionBeforeEndOfLife"], true);
        assert_eq!(version.regions[1]["name"], "japaneast");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (asked, is_shown) in [("2023-07-03", false), ("2024-03-03", true), ("2026-03-03", true)] {
        let uri = format!("{id}?api-version={asked}");
        let (_, answer) = runtime.block_on(ask(&azure.sim, "GET", &uri, None));
        let region = &answer["properties"]["publishingProfile"]["targetRegions"][0];
        assert_eq!(region["additionalReplicaSets"].is_array(), is_shown, "{asked}");
        let safety = &answer["properties"]["safetyProfile"];
        assert_eq!(safety["blockDeletionBeforeEndOfLife"].is_boolean(), is_shown, "{asked}");
    }
}

fn regions_that_azure_refuses_are_refused() {
    let sim = sim();
    let [.., version] = first(&sim);
    let changes = Changes { add_regions: vec!["estus".parse().unwrap()], ..Changes::default() };
    let stage = on(&sim, &[], usize::MAX);
    let refused = paused(stage.galleries.plan_update(&version, &changes)).unwrap_err();
    assert!(refused.to_string().contains("estus"), "{refused}");
    version_of(&sim, &version, |version| {
        version.regions = vec![json!({"name": "East US", "regionalReplicaCount": 1,
                "storageAccountType": "Standard_LRS"})];
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patch = |regions: Value| {
        let body = json!({"properties": {"storageProfile": {},
            "publishingProfile": {"targetRegions": regions}}});
        let uri = format!("{}?api-version=2026-03-03", version.id());
        runtime.block_on(ask(&sim, "PATCH", &uri, Some(&body))).0
    };
    let set =
        |count: u64| json!([{"storageAccountType": "Premium_LRS", "regionalReplicaCount": count}]);
    for (status, regions) in [
        (200, json!([{"name": "eastus"}, {"name": "Japan East", "regionalReplicaCount": 99}])),
        (200, json!([{"name": "eastus", "additionalReplicaSets": set(99)}])),
        (400, json!([])),
        (400, json!([{"name": "Nowhereland"}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": 0}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": 101}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": "2"}])),
        (400, json!([{"name": "eastus"}, {"name": "Japan East", "regionalReplicaCount": 100}])),
        (400, json!([{"name": "eastus", "additionalReplicaSets": set(100)}])),
        (400, json!([{"name": "Japan West", "storageAccountType": "Floppy"}])),
        (400, json!([{"name": "eastus"}, {"name": "East US"}])),
        (409, json!([{"name": "eastus", "storageAccountType": "Premium_LRS"}])),
    ] {
        assert_eq!(patch(regions.clone()), status, "{regions}");
    }
}

fn a_private_gallery_is_not_shared() {
    let azure = Azure::start(tenant(SIZE));
    let [private, ..] = nth(&azure.sim, 0).map(|name| name.id());
    let [shared, ..] = nth(&azure.sim, 1).map(|name| name.id());
    let many: Vec<String> = (0..30).map(|n| format!("12345678-1234-4234-8234-{n:012}")).collect();
    let many: Vec<&str> = many.iter().flat_map(|id| ["--subscription", id.as_str()]).collect();
    for (id, with, said) in [
        (&private, vec!["--tenant", TENANT], "its permissions are Private. Azure shares only"),
        (&private, vec!["--community"], "--permissions community"),
        (&shared, many, "31 subscriptions"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let line = [&["gallery", "share", id.as_str()][..], &with, more].concat();
            let (code, stdout, stderr) = finish(&mut azure.azimg(&line));
            assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
            assert!(stderr.contains(said), "{stderr}");
        }
    }
    assert_eq!(changed(&azure.sim, "PostShareGallery"), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = json!({"operationType": "Add", "groups": [{"type": "AADTenants", "ids": [TENANT]}]});
    for (id, status) in [(&private, 400), (&shared, 202)] {
        let uri = format!("{id}/share?api-version=2026-03-03");
        let (found, answer) = runtime.block_on(ask(&azure.sim, "POST", &uri, Some(&body)));
        assert_eq!(found, status, "{answer}");
    }
}

fn what_is_deleted_softly_is_never_the_latest() {
    let mut world = tenant(OrganisationSize { shared: 2, communities: 2, ..OrganisationSize::FEW });
    let all = &mut world.organisation;
    let mut deleted = Vec::new();
    for gallery in all.shared.values_mut().chain(all.communities.values_mut()) {
        for definition in gallery.definitions.values_mut() {
            for version in definition.versions.values_mut() {
                (version.excluded, version.end_of_life) = (false, None);
            }
            let newest = definition.versions.values_mut().next_back().unwrap();
            newest.soft_deleted = Some("2026-12-20T00:00:00Z".to_owned());
            deleted.push(format!("{}/{}/{}", gallery.name, definition.name, newest.name));
        }
    }
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    crawl(&azure, folder.path(), &[]);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut found = 0;
    for row in rows(folder.path()).iter().filter(|row| !row["version"].is_null()) {
        let name = ["gallery", "definition", "version"].map(|name| text(row, name)).join("/");
        if deleted.contains(&name) {
            found += 1;
            assert_eq!(row["provisioningState"], "SoftDeleted", "{row}");
            assert_eq!(row["isLatest"], false, "{row}");
        } else {
            assert_ne!(row["provisioningState"], "SoftDeleted", "{row}");
        }
    }
    assert!(found > 3, "{found} of {deleted:?}");
}

fn a_retirement_says_until_when_it_can_be_undone() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, definition, _] = first(&azure.sim);
    let policy = json!({"isSoftDeleteEnabled": true, "retentionPeriodInDays": 10,
        "gracePeriodInDays": 4});
    gallery_of(&azure.sim, &gallery, |gallery| gallery.soft_delete = Some(policy));
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let only = format!("{}/{}", gallery.own.gallery, definition.definition.unwrap());
    let rules = ["gallery", "retire", "--keep", "8", "--filter", &only, "--max-percent", "100"];
    let delete = ["--action", "delete", "--plan", plan, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut azure.azimg(&[&rules[..], &delete].concat()));
    assert_eq!(code, 0, "{stderr}");
    let planned: Value = serde_json::from_str(&stdout).unwrap();
    let id = gallery.id();
    assert_eq!(planned["restorableDays"], json!({ id.clone(): 14 }));
    assert!(stderr.contains(&format!("{id} deletes softly: for 14 days")), "{stderr}");
    let apply = ["gallery", "retire", "--apply", plan, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut azure.azimg(&apply));
    assert_eq!(code, 0, "{stderr}");
    let applied: Value = serde_json::from_str(&stdout).unwrap();
    let until = applied["restorableUntil"][&id].as_str().unwrap();
    let format = &time::format_description::well_known::Rfc3339;
    let until = OffsetDateTime::parse(until, format).unwrap();
    let made = OffsetDateTime::parse(planned["madeAt"].as_str().unwrap(), format).unwrap();
    let days = (until - made).whole_days();
    assert!((14..16).contains(&days), "{days}");
    assert!(stderr.contains("what went now can be restored"), "{stderr}");
    // What is only excluded is not deleted.
    let excluded = json(&mut azure.azimg(&[&rules[..], &["-o", "json"]].concat()));
    assert!(excluded["restorableDays"].is_null(), "{excluded}");
}

/// A plan that excludes all but the three newest of each definition.
async fn planned(galleries: &Galleries, sim: &Sim) -> RetirePlan {
    let rules = Rules { keep: 3, older_than_days: None, action: Action::Exclude, max_percent: 100 };
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let mut definitions = Vec::new();
    for (own, definition) in galleries.definitions(&sim.subscriptions, &[]).await.unwrap() {
        let world = galleries.world(&own, &definition, &[], now).await.unwrap();
        definitions.push(plan(&world, &rules, now).unwrap());
    }
    RetirePlan {
        schema_version: PLAN_VERSION,
        plan: "PLAN".into(),
        made_at: now,
        expires_at: now + Duration::from_hours(1),
        rules,
        definitions,
        restorable_days: BTreeMap::new(),
    }
}

/// The operation of an exclusion fails, and what it wanted is to be seen all the same: it is not done.
fn a_retirement_that_failed_is_due_again() {
    let sim = sim();
    let left = Arc::new(AtomicUsize::new(1));
    let (azure, failing) = (Arc::clone(&sim), Arc::clone(&left));
    let (galleries, wire) = bent(&sim, move |request, answer| {
        let fails = failing.load(Ordering::SeqCst) > 0;
        if is_change(request) {
            let name = Name::from_id(request.url.path()).unwrap();
            let state = if fails { "Failed" } else { "Succeeded" };
            version_of(&azure, &name, |version| version.state = state);
        }
        if is_operation(request) && fails {
            failing.fetch_sub(1, Ordering::SeqCst);
            return Ok(with_body(answer, FAILED));
        }
        Ok(answer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    paused(async {
        let plan = planned(&galleries, &sim).await;
        let all = plan.retired().count();
        let mut ledger = Ledger::open(&path, "PLAN").unwrap();
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.left.len()), (all - 1, 1), "the others are done");
        assert!(applied.left[0].reason.contains("East US has no room"), "{applied:?}");
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.before), (1, all - 1));
        assert_eq!(wire.changes.load(Ordering::SeqCst), all + 1, "the one that failed twice");
    });
    assert_eq!(left.load(Ordering::SeqCst), 0);
}

/// An application that is left while a change is under way: the next one waits for that, and does not repeat it.
fn a_retirement_waits_for_what_it_had_begun() {
    let sim = sim();
    let left = Arc::new(AtomicUsize::new(0));
    let looks = Arc::clone(&left);
    let begun: Arc<Mutex<Option<String>>> = Arc::default();
    let (first, polled) = (Arc::clone(&begun), Arc::new(Notify::new()));
    let notify = Arc::clone(&polled);
    let (galleries, wire) = bent(&sim, move |request, mut answer| {
        let mut first = first.lock().unwrap();
        if is_change(request) && first.is_none() {
            *first = Some(request.url.path().to_owned());
            looks.store(3, Ordering::SeqCst);
        }
        if is_operation(request) && looks.load(Ordering::SeqCst) == 3 {
            notify.notify_one();
            return Ok(with_body(answer, "{\"status\":\"InProgress\"}"));
        }
        // It is under way for two more looks at it.
        let Some(path) = first.as_deref().filter(|_| looks.load(Ordering::SeqCst) > 0) else {
            return Ok(answer);
        };
        if is_version(request) && request.url.path() == path {
            looks.fetch_sub(1, Ordering::SeqCst);
            return Ok(in_state(answer, "Updating"));
        }
        if request.url.path().ends_with("/versions") && path.starts_with(request.url.path()) {
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
            let rows = body["value"].as_array_mut().unwrap().iter_mut();
            for row in rows.filter(|row| row["id"] == path) {
                row["properties"]["provisioningState"] = "Updating".into();
            }
            answer = with_body(answer, body.to_string());
        }
        Ok(answer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    paused(async {
        let plan = planned(&galleries, &sim).await;
        let all = plan.retired().count();
        let mut ledger = Ledger::open(&path, "PLAN").unwrap();
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        tokio::select! {
            ended = applied => panic!("it was not left: {ended:?}"),
            () = polled.notified() => {}
        }
        let applied = galleries.apply(&plan, &mut ledger, plan.made_at, &|_, _, _, _| {});
        let applied = applied.await.unwrap();
        assert_eq!((applied.done, applied.before), (all - 1, 1));
        assert_eq!(wire.changes.load(Ordering::SeqCst), all, "each once");
    });
    assert_eq!(left.load(Ordering::SeqCst), 0, "it was waited for");
}
