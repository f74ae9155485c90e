//! The hooks of `azure.yaml`: a form for each system, and what each one checks, sets and builds.

use crate::support::infra::{hook, hooks, read, run_hook};
use crate::support::{azimg, finish};
use crate::tests;
use regex::Regex;
use std::collections::BTreeSet;

tests![
    every_hook_exists_for_posix_and_windows,
    a_private_network_registers_its_provider_and_nothing_else_does,
    the_program_is_built_for_azure_whatever_system_packages_it,
    an_invalid_sign_in_is_refused_before_provisioning,
    lookups_without_a_key_are_deployed_only_behind_a_sign_in,
];

fn every_hook_exists_for_posix_and_windows() {
    let hooks = hooks();
    let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names, ["prepackage", "predeploy", "preprovision", "postdeploy"]);
    // A program that fails ends a hook: PowerShell goes on by itself.
    let outside = Regex::new(r"(?m)^\s*(az|docker|cargo) .*$").unwrap();
    for hook in hooks {
        for call in outside.find_iter(&hook.windows) {
            let after = hook.windows[call.end()..].trim_start();
            let name = &hook.name;
            assert!(after.starts_with("if ($LASTEXITCODE -ne 0) { exit"), "{name}: {after}");
        }
        // Both forms call the same.
        let calls = |text: &str| -> BTreeSet<String> {
            let plain = text.replace("$env:", "$").replace("${PWD}", "$PWD");
            outside.find_iter(&plain).map(|call| call.as_str().trim().to_owned()).collect()
        };
        let (posix, windows) = (calls(&hook.posix), calls(&hook.windows));
        assert!(windows.is_subset(&posix), "{}: {windows:?} {posix:?}", hook.name);
        assert!(!hook.posix.contains("bash"), "{}: azd runs it with sh", hook.name);
    }
}

fn a_private_network_registers_its_provider_and_nothing_else_does() {
    let (hook, folder) = (hook("preprovision"), tempfile::tempdir().unwrap());
    let run = |variables: &[(&str, &str)]| run_hook(&hook, folder.path(), "Linux", variables);
    let subscription = ("AZURE_SUBSCRIPTION_ID", "s-1");
    for no in ["", "false", "0"] {
        let (code, calls) = run(&[("AZIMG_PRIVATE_NETWORK", no), subscription]);
        assert_eq!((code, calls.as_str()), (0, ""), "{no}");
    }
    let (code, calls) = run(&[subscription]);
    assert_eq!((code, calls.as_str()), (0, ""));
    // What azd takes for a yes (Go's `ParseBool`).
    for yes in ["true", "True", "1"] {
        let (code, calls) = run(&[("AZIMG_PRIVATE_NETWORK", yes), subscription]);
        let wanted =
            "az provider register --namespace Microsoft.App --subscription s-1 --wait []\n";
        assert_eq!((code, calls.as_str()), (0, wanted), "{yes}");
    }
    let (code, _) = run(&[("AZIMG_PRIVATE_NETWORK", "true"), ("FAILS", "7"), subscription]);
    assert_eq!(code, 7, "a provider that cannot be registered ends it");
    // `azd provision` asks for the subscription after this hook; another one's provider is of no use.
    let (code, calls) = run(&[("AZIMG_PRIVATE_NETWORK", "true")]);
    assert!(code != 0 && calls.is_empty(), "{code} {calls}");
    assert!(read("infra/modules/network.bicep").contains("Microsoft.App/environments"));
}

fn the_program_is_built_for_azure_whatever_system_packages_it() {
    let (hook, folder) = (hook("prepackage"), tempfile::tempdir().unwrap());
    let run =
        |system: &str, fails: &str| run_hook(&hook, folder.path(), system, &[("FAILS", fails)]);
    let (code, here) = run("Linux x86_64", "0");
    assert_eq!(code, 0);
    let lines: Vec<&str> = here.lines().collect();
    let [build, package] = lines[..] else { panic!("{here}") };
    assert!(build.starts_with("cargo build --profile dist --no-default-features"), "{build}");
    assert!(build.ends_with("[-C target-feature=+crt-static]"), "{build}");
    assert_eq!(package, "azimg package --out azimg-package --sign-in keys []");
    let (code, signed_in) =
        run_hook(&hook, folder.path(), "Linux x86_64", &[("AZIMG_SIGN_IN", "entra")]);
    assert_eq!(code, 0);
    assert!(signed_in.ends_with("--sign-in entra []\n"), "{signed_in}");
    for other in ["Darwin arm64", "Linux aarch64"] {
        let (code, calls) = run(other, "0");
        assert_eq!((code, calls.lines().count()), (0, 1), "{calls}");
        assert!(calls.starts_with("docker run --rm --platform linux/amd64"), "{calls}");
        for part in [
            "cargo build --profile dist",
            "+crt-static",
            "--sign-in ${AZIMG_SIGN_IN:-keys}",
            "--env AZIMG_SIGN_IN ",
        ] {
            assert!(calls.contains(part), "{calls}");
            assert!(hook.windows.contains(part), "{}", hook.windows);
        }
    }
    assert_eq!(run("Linux x86_64", "9"), (9, here.lines().next().unwrap().to_owned() + "\n"));
    // A folder loses the right to be executed on Windows; a zip does not.
    assert!(read("azure.yaml").contains("dist: azimg-package/azimg.zip"));
}

fn an_invalid_sign_in_is_refused_before_provisioning() {
    let (hook, folder) = (hook("preprovision"), tempfile::tempdir().unwrap());
    let run = |variables: &[(&str, &str)]| run_hook(&hook, folder.path(), "Linux", variables).0;
    for fine in [&[][..], &[("AZIMG_SIGN_IN", "")], &[("AZIMG_SIGN_IN", "keys")]] {
        assert_eq!(run(fine), 0, "{fine:?}");
    }
    assert_eq!(run(&[("AZIMG_SIGN_IN", "entra"), ("AZIMG_SIGN_IN_CLIENT_ID", "c")]), 0);
    for wrong in [
        &[("AZIMG_SIGN_IN", "entra")][..],
        &[("AZIMG_SIGN_IN", "Entra")],
        &[("AZIMG_SIGN_IN", "none")],
    ] {
        assert_ne!(run(wrong), 0, "{wrong:?}");
    }
    for part in ["-notin $null, '', 'keys', 'entra'", "-not $env:AZIMG_SIGN_IN_CLIENT_ID"] {
        assert!(hook.windows.contains(part), "{part}");
    }
}

fn lookups_without_a_key_are_deployed_only_behind_a_sign_in() {
    let (hook, folder) = (hook("predeploy"), tempfile::tempdir().unwrap());
    let packaged = |sign_in: &str| {
        let out = folder.path().join("azimg-package");
        let out = out.to_str().unwrap();
        let mut package = azimg(&["package", "--out", out, "--sign-in", sign_in, "-o", "json"]);
        assert_eq!(finish(&mut package).0, 0);
    };
    let run = |says: &str, fails: &str| {
        let variables = [
            ("SAYS", says),
            ("FAILS", fails),
            ("AZURE_SUBSCRIPTION_ID", "s-1"),
            ("AZURE_RESOURCE_GROUP", "rg-1"),
            ("AZIMG_APP", "func-1"),
        ];
        run_hook(&hook, folder.path(), "Linux", &variables)
    };
    // Where there is no package there is nothing to say that it is closed.
    assert_ne!(run("false", "0").0, 0);
    packaged("keys");
    assert_eq!(run("false", "0"), (0, String::new()));
    packaged("entra");
    for on in ["true", "True"] {
        let (code, calls) = run(on, "0");
        assert_eq!((code, calls.lines().count()), (0, 1), "{calls}");
        let asked = "/subscriptions/s-1/resourceGroups/rg-1/providers/Microsoft.Web/sites/func-1/config/authsettingsV2?";
        assert!(calls.contains(asked), "{calls}");
    }
    for off in ["false", "", "null", "none"] {
        assert_eq!(run(off, "0").0, 1, "{off}");
    }
    assert_ne!(run("true", "3").0, 0, "nobody knows whether it is on");
    let asked = Regex::new(r"(?m)az (rest .+)$").unwrap();
    let url = |text: &str| {
        let text = asked.captures(text).unwrap()[1].replace("$env:", "$");
        text.trim_end_matches(')').to_owned()
    };
    assert_eq!(url(&hook.posix), url(&hook.windows));
}
