//! The outcome of a change: made, under way, failed or never begun, each distinguished from the others.

use crate::support::bent::{
    FAILED, TENANT, bent, ended, in_state, is_change, is_operation, is_version, lost, sim,
    version_of, with_body,
};
use crate::support::changes::{Loss, SIZE, changed, first, nth, on, stage};
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::galleries::tenant;
use crate::support::{Azure, finish, json, paused, wait_for};
use crate::tests;
use axum::body::Bytes;
use azimg::testing::client::WireResponse;
use azimg::testing::error::Result;
use azimg::testing::gallery::{
    ChangeOutcome, ChangeStep, Changes, Galleries, Name, ProvisioningState,
};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::json;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

tests![
    a_tag_whose_answer_is_lost_is_set_once,
    a_change_is_done_only_after_its_provisioning,
    a_failed_change_is_an_error_and_is_sent_again,
    a_change_of_a_failed_version_is_sent_until_it_is_answered,
    a_change_already_under_way_is_waited_for,
    changes_without_an_operation_are_checked_by_their_state,
    an_operation_is_followed_through_unusable_responses,
    an_operation_without_a_status_is_not_a_success,
    a_failure_is_reported_with_all_its_reasons,
    an_interrupted_change_says_how_to_follow_it,
];

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
            assert!(plan().await.unwrap().is_none(), "it is already as requested");
            // What somebody else tags it with is none of ours.
            version_of(&stage.sim, &version, |version| version.tags["other"] = "x".into());
            assert!(plan().await.unwrap().is_none());
        });
        assert_eq!(changed(&stage.sim, "UpdateGalleryVersion"), 1, "{lose:?}");
    }
}

fn a_change_is_done_only_after_its_provisioning() {
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

fn a_failed_change_is_an_error_and_is_sent_again() {
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
        assert!(error.contains("provisioning failed; "), "{error}");
        assert!(error.contains("The replication to "), "{error}");
        let again = galleries.plan_update(&version, &ended()).await.unwrap();
        let again = again.expect("what failed is not so already");
        galleries.update(&version, &ended(), &again, true, &|_| {}).await.unwrap();
        assert!(galleries.plan_update(&version, &ended()).await.unwrap().is_none());
    });
    assert_eq!(wire.changes.load(Ordering::SeqCst), 2);
}

/// A version that failed shows what is wanted, and the request to try again never arrives.
fn a_change_of_a_failed_version_is_sent_until_it_is_answered() {
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

fn a_change_already_under_way_is_waited_for() {
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

fn changes_without_an_operation_are_checked_by_their_state() {
    for (status, state, outcome) in [
        (202, "Succeeded", "made"),
        (200, "Succeeded", "made"),
        (202, "Failed", "provisioning failed"),
        (200, "Failed", "provisioning failed"),
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

fn an_operation_is_followed_through_unusable_responses() {
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
        let reported = AtomicUsize::new(0);
        paused(async {
            let operation = begun(&galleries, &version).await;
            let tell = |step| {
                if matches!(step, ChangeStep::Silent(_)) {
                    reported.fetch_add(1, Ordering::SeqCst);
                }
            };
            let followed = galleries.follow(&operation, &tell).await;
            followed.unwrap_or_else(|error| panic!("{what}: {error}"));
        });
        assert!(reported.load(Ordering::SeqCst) >= 2, "{what}: it is said that nothing is heard");
    }
}

fn an_operation_without_a_status_is_not_a_success() {
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
        assert!(error.to_string().contains("it is unknown whether"), "{body}: {error}");
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

const DETAILED: &str = "{\"error\":{\"code\":\"Bad\",\"message\":\"See details.\",\"details\":[\
     {\"code\":\"Full\",\"message\":\"East US has no room.\"}]}}";

fn a_failure_is_reported_with_all_its_reasons() {
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

fn an_interrupted_change_says_how_to_follow_it() {
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
        assert!(code == 0 && stderr.contains("it is already as requested"), "{stderr}");
    }
}
