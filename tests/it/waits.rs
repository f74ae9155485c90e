//! What somebody sees who waits: for what, and what is wrong where nothing comes.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, azimg, finish_with_waits, temporary, wait_for};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

tests![
    a_wait_is_shown_with_its_server,
    a_wait_for_a_token_names_its_source,
    the_first_failure_to_connect_is_reported_immediately,
    doctor_without_a_network_reports_every_missing_service,
];

/// Starts a command whose stderr goes into a file.
fn started(command: &mut Command, said: &std::path::Path) -> Child {
    let file = File::create(said).unwrap();
    command.stdout(Stdio::null()).stderr(file).spawn().unwrap()
}

fn a_wait_is_shown_with_its_server() {
    let held = vec![Fault::new("/offers", usize::MAX, How::Held)];
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 95)), held);
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let said = folder.path().join("said");
    let line = ["images", "list", "--live", "--publisher", "debian", "--location", "eastus"];
    let mut child = started(&mut faulty.azimg(&line), &said);
    wait_for("what is waited for", || {
        let said = std::fs::read_to_string(&said).unwrap();
        said.contains("azimg: waiting for 127.0.0.1 (1 s)").then_some(())
    });
    faulty.release();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Who wants to hear nothing hears nothing.
    let held = vec![Fault::new("/offers", 1, How::Never)];
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 95)), held);
    let mut child = started(&mut faulty.azimg(&[&line[..], &["--quiet"]].concat()), &said);
    wait_for("a request that is not answered", || (faulty.met(0) > 0).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "");
}

fn a_wait_for_a_token_names_its_source() {
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let az = folder.path().join("az");
    // It waits for somebody who never comes.
    std::fs::write(&az, "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = folder.path().join("said");
    let mut command = azimg(&["registry", "list"]);
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut child = started(command.env("PATH", path), &said);
    wait_for("whose token is waited for", || {
        let said = std::fs::read_to_string(&said).unwrap();
        said.contains("azimg: waiting for az to return a token").then_some(())
    });
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    child.wait().unwrap();
}

/// An address where nobody listens.
fn nobody() -> String {
    format!("127.0.0.1:{}", crate::support::azurite::free_port())
}

fn the_first_failure_to_connect_is_reported_immediately() {
    let azure = Azure::start(generate(Scale::Small, 96));
    let folder = tempfile::tempdir_in(temporary()).unwrap();
    let store = folder.path().to_str().unwrap();
    for line in [
        &["registry", "list"][..],
        &["images", "list", "--live", "--publisher", "x"],
        &["images", "usage", "--store", store],
        &["crawl", "--store", store],
        &["gallery", "retire", "--keep", "3"],
    ] {
        let mut command = azure.azimg(line);
        command.env("AZIMG_ARM_ENDPOINT", format!("http://{}", nobody()));
        let (code, stdout, stderr) = finish_with_waits(&mut command);
        // A catalog that is not there is told before anything is asked.
        if line[1] == "usage" {
            assert!(code == 4 && stderr.contains("no catalog"), "{stderr}");
            continue;
        }
        assert_eq!((code, stdout.as_str()), (1, ""), "{line:?}: {stderr}");
        let mut lines = stderr.lines().filter(|line| !line.starts_with("azimg: waiting for "));
        let first = lines.next().unwrap();
        assert!(first.contains("retrying for a few seconds"), "{line:?}: {stderr}");
        assert!(first.contains(": cannot connect to 127.0.0.1:"), "{line:?}: {stderr}");
        let last = lines.next().unwrap();
        assert!(
            last.starts_with("azimg: ") && last.contains("cannot connect"),
            "{line:?}: {stderr}"
        );
        assert_eq!(lines.next(), None, "{line:?}: {stderr}");
    }
}

fn doctor_without_a_network_reports_every_missing_service() {
    let azure = Azure::start(generate(Scale::Small, 97));
    let (arm, blobs, registry) = (nobody(), nobody(), nobody());
    let mut doctor = azure.azimg(&["doctor", "--store", "azurite", "-o", "json"]);
    doctor.env("AZIMG_ARM_ENDPOINT", format!("http://{arm}")).env("AZIMG_REGISTRIES", registry);
    doctor.env(
        "AzimgStorage",
        format!("BlobEndpoint=http://{blobs}/devstoreaccount1;QueueEndpoint=http://{blobs}/devstoreaccount1"),
    );
    let (code, stdout, stderr) = finish_with_waits(&mut doctor);
    assert_eq!(code, 1, "{stderr}");
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let said = |check: &str| {
        let mut rows = found.as_array().unwrap().iter();
        let row = rows.find(|row| row["check"] == check && row["state"] == "failed");
        row.unwrap_or_else(|| panic!("{check}: {found}"))["says"].as_str().unwrap().to_owned()
    };
    assert!(said("subscriptions").contains("cannot connect"), "{found}");
    assert!(said("storage").contains("cannot"), "{found}");
    assert!(said("queues").contains("cannot"), "{found}");
    // Both were told of at once, and neither waited for the other.
    let first = |part: &str| {
        stderr.lines().position(|line| line.contains(part) && line.contains("retrying"))
    };
    let both = (first("/subscriptions"), first("127.0.0.1"));
    assert!(both.0.is_some() && both.1.is_some(), "{stderr}");
}
