//! `azimg doctor` with each thing that it looks at missing in turn.

use crate::support::azurite::Azurite;
use crate::support::faulty::{Fault, Faulty, How, answering};
use crate::support::galleries::start;
use crate::support::host::TestHost;
use crate::support::storage::{DENIED, Wire};
use crate::support::{Azure, debian, finish};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

tests![
    a_healthy_environment_has_only_notes,
    a_missing_permission_is_reported_with_its_role,
    one_subscription_of_many_that_is_denied_is_a_gap,
    an_unregistered_provider_is_a_gap_if_no_other_subscription_has_it,
    doctor_reports_the_api_version_that_the_crawl_falls_back_to,
    doctor_reports_a_missing_token,
    an_unreadable_registry_is_reported_with_its_roles,
    a_wrong_clock_is_reported needs [Faketime],
    wrong_settings_are_reported,
    denied_storage_and_queues_are_reported_with_their_roles needs [Azurite],
];

const REFUSED: &str = "{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}";

/// Runs it; the exit code, and what it found that is not as it should be.
fn found(command: &mut Command) -> (i32, Vec<(String, String, String)>) {
    let (code, stdout, stderr) = finish(command);
    let rows: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout} {stderr}"));
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter().filter(|row| row["state"] != "ok");
    let rows = rows.map(|row| {
        let about = format!("{} {}", text(row, "check"), text(row, "about"));
        (text(row, "state"), about, text(row, "says"))
    });
    (code, rows.collect())
}

/// The one thing that is wrong: what it is, and what is said of it.
#[track_caller]
fn only(found: &(i32, Vec<(String, String, String)>), code: i32, state: &str) -> (String, String) {
    let wrong: Vec<_> = found.1.iter().filter(|(state, ..)| state != "note").collect();
    assert_eq!((found.0, wrong.len()), (code, 1), "{found:?}");
    assert_eq!(wrong[0].0, state, "{found:?}");
    (wrong[0].1.clone(), wrong[0].2.clone())
}

fn doctor(azure: &Azure, store: &tempfile::TempDir) -> Command {
    azure.azimg(&["doctor", "--store", store.path().to_str().unwrap(), "-o", "json"])
}

fn a_healthy_environment_has_only_notes() {
    let (azure, folder) = (Azure::start(generate(Scale::Small, 71)), tempfile::tempdir().unwrap());
    let (code, notes) = found(&mut doctor(&azure, &folder));
    assert_eq!(code, 0, "{notes:?}");
    assert!(notes.iter().all(|(state, ..)| state == "note"), "{notes:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
    let quota = Azure::limited(generate(Scale::Small, 71), "real");
    let (code, stdout, _) = finish(&mut doctor(&quota, &folder));
    assert_eq!(code, 0);
    assert!(stdout.contains("reads remain"), "{stdout}");
}

fn a_missing_permission_is_reported_with_its_role() {
    let cases: [(&'static str, i32, &str, &str); 7] = [
        ("/subscriptions?", 1, "failed", "subscriptions Resource Manager"),
        ("/locations?", 1, "failed", "rights subscription"),
        ("/publishers?", 3, "gap", "rights marketplace images"),
        ("/galleries?", 3, "gap", "rights galleries"),
        ("/images?", 3, "gap", "rights managed images"),
        ("/registries?", 3, "gap", "rights registries"),
        ("microsoft.resourcegraph/resources", 3, "gap", "rights Resource Graph"),
    ];
    for (path, code, state, about) in cases {
        let fault = Fault::new(path, usize::MAX, How::Answer(403, &[], REFUSED));
        let faulty = Faulty::start(Azure::start(generate(Scale::Small, 72)), vec![fault]);
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let found = found(&mut faulty.azimg(&["doctor", "--store", store, "-o", "json"]));
        let (what, says) = only(&found, code, state);
        assert!(what.starts_with(about), "{path}: {what}");
        assert!(says.contains("Reader"), "{path}: {says}");
    }
}

fn one_subscription_of_many_that_is_denied_is_a_gap() {
    let azure = start(generate(Scale::Small, 78), 3);
    let denied = azure.sim.subscriptions[1].clone();
    azure.sim.organisation().denied.insert(denied.clone());
    let folder = tempfile::tempdir().unwrap();
    let (code, wrong) = found(&mut doctor(&azure, &folder));
    assert_eq!(code, 3, "{wrong:?}");
    assert!(
        wrong.iter().any(|(state, about, _)| state == "gap" && about.contains(&denied)),
        "{wrong:?}"
    );
}

const UNREGISTERED: &str =
    "{\"error\":{\"code\":\"MissingSubscriptionRegistration\",\"message\":\"no\"}}";

fn an_unregistered_provider_is_a_gap_if_no_other_subscription_has_it() {
    for (subscriptions, code, state, words) in [
        (3, 0, "note", "A crawl queries other subscriptions for them"),
        (1, 3, "gap", "az provider register --namespace Microsoft.Compute --subscription 1111"),
    ] {
        let azure = start(generate(Scale::Small, 79), subscriptions);
        let first = "11111111-1111-4111-8111-111111111111/providers/microsoft.compute/locations";
        let fault = Fault::new(first, usize::MAX, How::Answer(409, &[], UNREGISTERED));
        let faulty = Faulty::start(azure, vec![fault]);
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let (found, reported) =
            found(&mut faulty.azimg(&["doctor", "--store", store, "-o", "json"]));
        assert_eq!(found, code, "{reported:?}");
        let is_it = |(is, about, says): &(String, String, String)| {
            is == state && about.starts_with("rights marketplace images") && says.contains(words)
        };
        assert!(reported.iter().any(is_it), "{reported:?}");
        // The crawl agrees.
        let crawl = ["crawl", "--source", "marketplace", "--details", "none", "--store", store];
        let (crawled, _, stderr) = finish(&mut faulty.azimg(&crawl));
        assert_eq!(crawled, code, "{stderr}");
    }
}

fn doctor_reports_the_api_version_that_the_crawl_falls_back_to() {
    let body = "{\"error\":{\"code\":\"InvalidResourceType\",\"message\":\"The supported api-versions are \
                '2022-08-01,2023-03-01'.\"}}";
    let fault =
        Fault::new("/publishers?api-version=2024-07-01", usize::MAX, How::Answer(404, &[], body));
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 80)), vec![fault]);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let (code, reported) = found(&mut faulty.azimg(&["doctor", "--store", store, "-o", "json"]));
    assert_eq!(code, 0, "{reported:?}");
    let says = "this cloud does not offer api-version 2024-07-01; a crawl sends 2023-03-01";
    assert!(
        reported.iter().any(|(state, _, reported)| state == "note" && reported == says),
        "{reported:?}"
    );
    let crawl = ["crawl", "--source", "marketplace", "--details", "none", "--store", store];
    let (code, _, stderr) = finish(&mut faulty.azimg(&crawl));
    assert!(code == 0 && stderr.contains("using 2023-03-01"), "{stderr}");
}

fn doctor_reports_a_missing_token() {
    let (azure, folder) = (Azure::start(generate(Scale::Small, 73)), tempfile::tempdir().unwrap());
    let mut command = doctor(&azure, &folder);
    let (what, says) = only(&found(command.env("IDENTITY_HEADER", "wrong")), 1, "failed");
    assert_eq!(what, "identity Resource Manager");
    assert!(says.contains("no token for Azure"), "{says}");
}

fn an_unreadable_registry_is_reported_with_its_roles() {
    let (azure, folder) = (Azure::start(generate(Scale::Small, 74)), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\"}]}".to_owned();
    let refusing = runtime.block_on(answering(403, &[], body));
    let server = refusing.authority().to_owned();
    let mut command = doctor(&azure, &folder);
    let (what, says) = only(&found(command.env("AZIMG_REGISTRIES", &server)), 3, "gap");
    assert_eq!(what, format!("registry {server}"));
    assert!(says.contains("AcrPull"), "{says}");
}

fn a_wrong_clock_is_reported() {
    let (azure, folder) = (Azure::start(generate(Scale::Small, 75)), tempfile::tempdir().unwrap());
    let mut skewed = doctor(&azure, &folder);
    skewed.env("LD_PRELOAD", debian::faketime()).env("FAKETIME", "+10m");
    let (what, says) = only(&found(skewed.env("DONT_FAKE_MONOTONIC", "1")), 1, "failed");
    assert_eq!(what, "clock this machine");
    // Seconds are cut off on one side, and an answer that takes its time makes it more.
    let seconds: u64 = says.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(seconds >= 599, "{says}");
}

fn wrong_settings_are_reported() {
    let (azure, folder) = (Azure::start(generate(Scale::Small, 75)), tempfile::tempdir().unwrap());
    for (name, value) in [
        ("AZIMG_SCHEDULE", "at noon"),
        ("AZIMG_RUN_DEADLINE", "soon"),
        ("AZIMG_KEEP_SNAPSHOTS", "some"),
        ("AZIMG_REGISTRIES", "example"),
        ("AZIMG_REGISTRIES", "https://example.azurecr.io"),
    ] {
        let mut command = doctor(&azure, &folder);
        let (code, wrong) = found(command.env(name, value));
        assert_eq!(code, 1, "{name}: {wrong:?}");
        assert!(wrong.iter().any(|(.., says)| says.contains(value)), "{name}: {wrong:?}");
    }
}

/// A doctor whose storage goes through `wire`.
fn with_storage(azure: &Azure, connection: &str) -> Command {
    let mut command = azure.azimg(&["doctor", "--store", "azurite", "-o", "json"]);
    command.env("AzimgStorage", connection);
    command
}

fn denied_storage_and_queues_are_reported_with_their_roles() {
    let (azure, azurite) = (Azure::start(generate(Scale::Small, 76)), Azurite::start());
    let (code, notes) = found(&mut with_storage(&azure, &azurite.connection()));
    assert_eq!(code, 0, "{notes:?}");
    for (denied, about, role) in [
        ("PUT /devstoreaccount1/azimg/", "storage", "Storage Blob Data"),
        ("DELETE /devstoreaccount1/azimg/", "storage", "Storage Blob Data"),
        (
            "POST /devstoreaccount1/azimg-doctor",
            "queues azimg-doctor",
            "Storage Queue Data Contributor",
        ),
        (
            "GET /devstoreaccount1/azimg-doctor",
            "queues azimg-doctor",
            "Storage Queue Data Contributor",
        ),
    ] {
        let wire = Wire::start(&azurite, move |_, request| {
            (Duration::ZERO, if request.starts_with(denied) { DENIED } else { None })
        });
        let (what, says) = only(&found(&mut with_storage(&azure, &wire.connection)), 1, "failed");
        assert!(what.starts_with(about), "{denied}: {what}");
        assert!(says.contains(role), "{denied}: {says}");
    }
    // Poison is worth a look.
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(folder.path(), &azurite.connection(), BTreeMap::new());
    tokio::runtime::Runtime::new().unwrap().block_on(host.send_raw("azimg-work-poison", "e30="));
    let (code, notes) = found(&mut with_storage(&azure, &azurite.connection()));
    assert_eq!(code, 0);
    assert!(
        notes.iter().any(|(_, about, says)| about.contains("poison") && says.contains('1')),
        "{notes:?}"
    );
}
