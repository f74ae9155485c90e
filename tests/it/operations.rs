//! Changes of galleries: made once, followed to their end, never half done without saying so.

use crate::support::changes::{Loss, SIZE, changed, first, nth, stage};
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::galleries::tenant;
use crate::support::{Azure, finish, json, paused};
use crate::tests;
use azimg::testing::gallery::{ChangeOutcome, Changes, ShareWith, SharingChange};
use std::sync::atomic::Ordering;
use time::OffsetDateTime;

tests![
    an_update_whose_answer_is_lost_is_made_once,
    a_change_that_never_arrives_is_given_up_and_reported,
    sharing_whose_answer_is_lost_is_made_once,
    the_command_line_shows_makes_and_follows_a_change,
    no_signature_is_ever_printed,
];

fn an_update_whose_answer_is_lost_is_made_once() {
    for lose in [&[][..], &[Loss::After], &[Loss::Before], &[Loss::Before, Loss::After]] {
        let stage = stage(lose);
        let [.., version] = first(&stage.sim);
        let changes = Changes {
            exclude_from_latest: Some(true),
            end_of_life: Some(Some(OffsetDateTime::UNIX_EPOCH)),
            add_regions: vec!["japaneast=2".parse().unwrap()],
            ..Changes::default()
        };
        paused(async {
            let change = stage.galleries.plan_update(&version, &changes).await.unwrap().unwrap();
            let ended =
                stage.galleries.update(&version, &changes, &change, true, &|_| {}).await.unwrap();
            assert!(matches!(ended, ChangeOutcome::Done));
            let again = stage.galleries.plan_update(&version, &changes).await.unwrap();
            assert!(again.is_none(), "it is already as requested");
        });
        assert_eq!(changed(&stage.sim, "UpdateGalleryVersion"), 1, "{lose:?}");
        let sent = stage.wire.changes.load(Ordering::SeqCst);
        let before = lose.iter().filter(|loss| **loss == Loss::Before).count();
        assert_eq!(sent, before + 1, "{lose:?}");
    }
}

fn a_change_that_never_arrives_is_given_up_and_reported() {
    let stage = stage(&[Loss::Before; 9]);
    let [gallery, ..] = first(&stage.sim);
    let changes = Changes { description: Some("new".into()), ..Changes::default() };
    let error = paused(async {
        let change = stage.galleries.plan_update(&gallery, &changes).await.unwrap().unwrap();
        stage.galleries.update(&gallery, &changes, &change, true, &|_| {}).await.unwrap_err()
    });
    assert!(error.to_string().contains("check the resource"), "{error}");
    assert_eq!(changed(&stage.sim, "UpdateGallery"), 0);
}

fn sharing_whose_answer_is_lost_is_made_once() {
    let with = ShareWith {
        subscriptions: vec!["12345678-1234-4234-8234-123456789012".into()],
        tenants: vec!["22345678-1234-4234-8234-123456789012".into()],
    };
    for lose in [&[][..], &[Loss::After], &[Loss::Before]] {
        let stage = stage(lose);
        let [gallery, definition, _] = nth(&stage.sim, 1);
        paused(async {
            let add = SharingChange::Add(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &add).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &add, &change, true, &|_| {}).await.unwrap();
            assert!(stage.galleries.plan_sharing(&gallery, &add).await.unwrap().is_none());
            let remove = SharingChange::Remove(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &remove).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &remove, &change, true, &|_| {}).await.unwrap();
            let refused = stage.galleries.plan_sharing(&definition, &SharingChange::Reset).await;
            assert!(refused.is_err());
        });
        assert_eq!(changed(&stage.sim, "PostShareGallery"), 2, "{lose:?}");
    }
}

fn the_command_line_shows_makes_and_follows_a_change() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, definition, version] = first(&azure.sim).map(|name| name.id());
    let with = |arguments: &[&str]| json(&mut azure.azimg(arguments));
    let arguments = ["gallery", "update", &version, "--end-of-life", "2030-01-01"];
    let shown = with(&[&arguments[..], &["--dry-run", "-o", "json"]].concat());
    assert_eq!(shown["method"], "PATCH");
    let end = &shown["body"]["properties"]["publishingProfile"]["endOfLifeDate"];
    assert_eq!(end, "2030-01-01T00:00:00Z");
    assert_eq!(changed(&azure.sim, "UpdateGalleryVersion"), 0);
    let begun = with(&[&arguments[..], &["--no-wait", "-o", "json"]].concat());
    let operation = begun["operation"].as_str().unwrap();
    let ended = with(&["gallery", "wait", operation, "-o", "json"]);
    assert_eq!(ended["state"], "succeeded");
    // By its short name, as people call it.
    let short = |id: &str, parts: &[usize]| {
        let all: Vec<&str> = id.split('/').collect();
        parts.iter().map(|at| all[*at]).collect::<Vec<_>>().join("/")
    };
    let name = short(&definition, &[8, 10]);
    let after = with(&["gallery", "update", &name, "--max-vcpus", "32", "-o", "json"]);
    assert_eq!(after["properties"]["recommended"]["vCPUs"]["max"], 32);
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let (found, _, stderr) = finish(&mut azure.azimg(arguments));
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    refused(&["gallery", "update", &definition, "--os", "Windows"], 2, "create a new definition");
    refused(&["gallery", "update", &gallery, "--end-of-life", "none"], 2, "the options are");
    refused(&["gallery", "update", &version, "--description", "x"], 2, "--target-region");
    refused(&["gallery", "update", "nobody/x", "--description", "x"], 4, "no gallery 'nobody'");
    refused(&["gallery", "share", &gallery, "--tenant", "me"], 2, "'me' is not the id of a");
    refused(&["gallery", "wait", "https://example.com/x"], 1, "refused to send the token");
    refused(&["gallery", "retire", "--keep", "1", "--action", "delete"], 1, "--max-percent");
}

/// The address of an operation is signed: it reaches no log and no error, but the one line that says how to go on.
fn no_signature_is_ever_printed() {
    let faults = vec![Fault::new("capsoperations", usize::MAX, How::Answer(403, &[], "{}"))];
    let faulty = Faulty::start(Azure::start(tenant(SIZE)), faults);
    let [gallery, ..] = first(&faulty.azure.sim).map(|name| name.id());
    let arguments = ["-vv", "gallery", "update", &gallery, "--description", "x"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&arguments));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("403"), "{stderr}");
    let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
    let (advice, others): (Vec<&str>, Vec<&str>) =
        lines.into_iter().partition(|line| line.contains("azimg gallery wait '"));
    assert_eq!(advice.len(), 1, "{stderr}");
    for line in others {
        for secret in ["SIGNATURE", "CERTIFICATE", "HASH"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
