//! Packages and certificates that are written over: only files that azimg made are replaced.

use crate::support::folders::{everything, hidden, refused};
use crate::support::layout::digest;
use crate::support::{azimg, json};
use crate::tests;
use axum::Router;
use azimg::testing::files::{self, Access, MadeFile};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tokio::runtime::Runtime;

tests![
    a_package_does_not_overwrite_files_of_others,
    only_files_made_before_are_replaced,
    a_certificate_authority_of_others_is_not_overwritten,
];

fn package(out: &Path) -> Command {
    let program = out.with_file_name("program");
    std::fs::write(&program, "a program").unwrap();
    azimg(&["package", "--out", out.to_str().unwrap(), "--binary", program.to_str().unwrap()])
}

fn a_package_does_not_overwrite_files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("app/src")).unwrap();
    std::fs::write(project.join("app/src/main.py"), "my work").unwrap();
    let before = everything(&project);
    // A folder app, as many projects have one; an archive; both behind links.
    refused(&mut package(&project), &["app/src/main.py", "--out", "move it away"]);
    assert_eq!(everything(&project), before);
    let archive = folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    std::fs::write(archive.join("azimg.zip"), "mine").unwrap();
    let before = everything(&archive);
    refused(&mut package(&archive), &["azimg.zip", "--out"]);
    assert_eq!(everything(&archive), before);
    let linked = folder.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    symlink(project.join("app"), linked.join("app")).unwrap();
    let before = (everything(&linked), everything(&project));
    refused(&mut package(&linked), &["linked/app already exists, a link"]);
    assert_eq!((everything(&linked), everything(&project)), before);
    // A record that somebody wrote makes nothing azimg's that has other bytes.
    let record = json!({"madeByAzimg": {"app/src/main.py": [digest(b"other")[7..]]}});
    std::fs::write(project.join(".azimg-package"), record.to_string()).unwrap();
    let before = everything(&project);
    refused(&mut package(&project), &["app/src/main.py"]);
    assert_eq!(everything(&project), before);
    // Beside what has other names there is room.
    let beside = folder.path().join("beside");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("README.md"), "mine").unwrap();
    json(&mut package(&beside));
    assert_eq!(std::fs::read(beside.join("README.md")).unwrap(), b"mine");
    assert_eq!(hidden(&beside), [".azimg-package"]);
    // What it made, it makes anew; what was changed or added since is somebody's.
    let first = everything(&beside);
    json(&mut package(&beside));
    assert_eq!(everything(&beside), first);
    std::fs::write(beside.join("app/local.settings.json"), "mine").unwrap();
    let before = everything(&beside);
    refused(&mut package(&beside), &["app/local.settings.json"]);
    assert_eq!(everything(&beside), before);
    std::fs::remove_file(beside.join("app/local.settings.json")).unwrap();
    std::fs::write(beside.join("app/host.json"), "changed").unwrap();
    refused(&mut package(&beside), &["app/host.json"]);
    assert_eq!(std::fs::read(beside.join("app/host.json")).unwrap(), b"changed");
}

fn only_files_made_before_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let put = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| MadeFile { name, bytes: text.as_bytes(), access: Access::Readable })
            .collect();
        files::put_made(&out, ".made", "--out", &files)
    };
    put(&[("app/a/old", "1"), ("app/b", "2")]).unwrap();
    put(&[("app/b", "3")]).unwrap();
    assert!(!out.join("app/a").exists(), "what it made before is gone");
    assert_eq!(std::fs::read(out.join("app/b")).unwrap(), b"3");
    // A file with a second name is replaced, and not written into.
    let second = folder.path().join("second");
    std::fs::hard_link(out.join("app/b"), &second).unwrap();
    put(&[("app/b", "4")]).unwrap();
    assert_eq!(std::fs::read(&second).unwrap(), b"3");
    // A record that is none is somebody's file.
    std::fs::write(out.join(".made"), "mine").unwrap();
    let error = put(&[("app/b", "5")]).unwrap_err().to_string();
    assert!(error.contains(".made") && error.contains("--out"), "{error}");
    assert_eq!(std::fs::read(out.join(".made")).unwrap(), b"mine");
}

fn a_certificate_authority_of_others_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |folder: &Path| {
        let runtime = Runtime::new().unwrap();
        let _entered = runtime.enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        azimg::testing::sim::tls::serve(listener, Router::new(), folder)
    };
    let own = folder.path().join("own");
    serve(&own).unwrap();
    let first = std::fs::read(own.join("ca.pem")).unwrap();
    serve(&own).unwrap();
    assert_ne!(std::fs::read(own.join("ca.pem")).unwrap(), first);
    std::fs::write(own.join("ca.pem"), "our company's authority").unwrap();
    let error = serve(&own).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("--tls"), "{error}");
    assert_eq!(std::fs::read(own.join("ca.pem")).unwrap(), b"our company's authority");
}
