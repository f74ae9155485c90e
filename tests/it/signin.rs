//! Who azimg is: which credential an environment asks for, and what reaches the user when there is none.

use crate::support::faulty::answering;
use crate::support::{Azure, azimg, finish, wait_for};
use crate::tests;
use azimg::testing::config::{Config, Flags};
use azimg::testing::sim::{Scale, generate};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

tests![
    az_is_started_once_for_an_audience,
    what_az_says_reaches_the_user,
    a_hanging_az_is_ended_with_its_children,
    what_is_missing_or_unknown_is_named,
    a_client_secret_precedes_machine_identity_and_arc_is_not_used,
    an_invalid_token_endpoint_is_reported,
    claims_that_azure_asks_for_reach_the_user_as_a_command,
];

/// Writes its arguments down, and does what `AZ_MODE` says.
const AZ: &str = r#"#!/bin/sh
echo "$*" >> "$AZ_LOG"
while [ "$1" != --scope ]; do shift; done
b64() { printf '%s' "$1" | base64 -w0 | tr '+/' '-_' | tr -d '='; }
now=$(date +%s)
claims="{\"aud\": \"${2%/.default}\", \"exp\": $((now + 3600))}"
token="$(b64 '{"alg": "none"}').$(b64 "$claims").c2ln"
case "$AZ_MODE" in
fail) echo "ERROR: Please run 'az login' to setup account." >&2; exit 1;;
mfa) printf 'ERROR: AADSTS50076: you must use multi-factor authentication. Trace ID: 1\nInteractive authentication is needed. Please run:\naz logout\naz login --tenant "t-1" --scope "https://management.azure.com/.default"\n' >&2; exit 1;;
hang) sleep 7431;;
warn) echo "WARNING: You have 2 updates available.";;
old) echo '{"accessToken": "old", "expiresOn": "2026-11-26 06:00:00.000000", "tokenType": "Bearer"}'; exit 0;;
esac
echo "{\"accessToken\": \"$token\", \"expires_on\": $((now + ${AZ_LIFE:-3600})), \"tokenType\": \"Bearer\"}"
"#;

/// A folder with an `az` in it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let az = folder.path().join("bin/az");
        std::fs::create_dir(az.parent().unwrap()).unwrap();
        std::fs::write(&az, AZ).unwrap();
        std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// The executable on this desk, led to `azure`, where nobody but `az` knows who it is.
    fn azimg(&self, azure: &Azure, mode: &str, arguments: &[&str]) -> Command {
        let mut command = azure.azimg(arguments);
        command.env_remove("IDENTITY_ENDPOINT").env_remove("IDENTITY_HEADER");
        self.seat(&mut command, mode);
        command
    }

    fn seat(&self, command: &mut Command, mode: &str) {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        command.env("PATH", path).env("AZ_MODE", mode).env("AZ_LOG", self.log());
        command.env("HOME", self.folder.path());
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("az.log")
    }

    /// How `az` was called.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn store(folder: &Path) -> String {
    folder.join("store").to_str().unwrap().to_owned()
}

fn az_is_started_once_for_an_audience() {
    let azure = Azure::start(generate(Scale::Small, 61));
    // A token that the SDK would renew with each request, and one that this machine takes for over.
    for life in ["3600", "200", "-60"] {
        let desk = Desk::new();
        let store = store(desk.folder.path());
        let mut command = desk.azimg(&azure, "", &["crawl", "--store", &store]);
        let (code, _, stderr) = finish(command.env("AZ_LIFE", life).env("AZURE_TENANT_ID", "t-2"));
        // What it says of a token's end is not what the token says.
        assert_eq!(code, 0, "{stderr}");
        let calls = desk.calls();
        assert!(calls.len() <= 2, "{life}: {calls:?}");
        assert!(calls.iter().all(|call| call.contains("--tenant t-2")), "{calls:?}");
    }
}

fn what_az_says_reaches_the_user() {
    let azure = Azure::start(generate(Scale::Small, 62));
    let cases: [(&str, &[&str]); 3] = [
        ("fail", &["no account is signed in", "Please run 'az login' to setup account", "--demo"]),
        (
            "mfa",
            &[
                "AADSTS50076: you must use multi-factor authentication",
                "az logout; az login --tenant \"t-1\" --scope \"https://management.azure.com/.default\"",
            ],
        ),
        ("old", &["Azure CLI 2.54.0"]),
    ];
    for (mode, words) in cases {
        let desk = Desk::new();
        let store = store(desk.folder.path());
        let crawl = finish(&mut desk.azimg(&azure, mode, &["crawl", "--store", &store]));
        let doctor = ["doctor", "--store", &store, "-o", "json"];
        let doctor = finish(&mut desk.azimg(&azure, mode, &doctor));
        assert_eq!((crawl.0, doctor.0), (1, 1), "{} {}", crawl.2, doctor.1);
        for said in [crawl.2, doctor.1.replace("\\\"", "\"")] {
            for word in words {
                assert!(said.contains(word), "{mode}: {word}: {said}");
            }
        }
    }
    let desk = Desk::new();
    let store = store(desk.folder.path());
    let (code, _, stderr) = finish(&mut desk.azimg(&azure, "warn", &["crawl", "--store", &store]));
    assert_eq!(code, 0, "{stderr}");
    std::fs::remove_file(desk.folder.path().join("bin/az")).unwrap();
    let (code, _, stderr) = finish(&mut desk.azimg(&azure, "", &["crawl", "--store", &store]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("az, azd not found on PATH. Run 'az login'"), "{stderr}");
}

fn a_hanging_az_is_ended_with_its_children() {
    let azure = Azure::start(generate(Scale::Small, 63));
    let desk = Desk::new();
    let store = store(desk.folder.path());
    let (code, _, stderr) = finish(&mut desk.azimg(&azure, "hang", &["crawl", "--store", &store]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("no answer within 30 s") && stderr.contains("az account"), "{stderr}");
    // No other test sleeps for so long.
    wait_for("the end of what az started", || {
        let processes = std::fs::read_dir("/proc").unwrap();
        let lines = processes
            .filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok());
        let mut lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        lines.all(|line| !line.contains("7431")).then_some(())
    });
}

/// The error of a client that `environment` asks for.
fn refused(environment: &[(&str, &str)]) -> String {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let environment: HashMap<String, String> = environment.collect();
    match Config::from(environment, Flags::default()).unwrap().client() {
        Ok(_) => "it can be made".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn what_is_missing_or_unknown_is_named() {
    let secret = ("AZURE_CLIENT_SECRET", "hush");
    let (tenant, id) = (("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "i"));
    let custom = ("AZIMG_CLOUD", "custom");
    let arm = ("AZIMG_ARM_ENDPOINT", "https://arm.example");
    let cases: [(&[(&str, &str)], &str); 11] = [
        (&[secret, tenant, id], "it can be made"),
        (&[secret, id], "AZURE_TENANT_ID is missing"),
        (&[secret], "AZURE_TENANT_ID and AZURE_CLIENT_ID are missing"),
        (
            &[("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")],
            "AZURE_CLIENT_SECRET are missing",
        ),
        (
            &[("AZURE_TOKEN_CREDENTIALS", "nonsense")],
            "'nonsense' is not supported; there are prod, dev",
        ),
        (&[("AZURE_TOKEN_CREDENTIALS", "ManagedIdentity")], "it can be made"),
        (&[("AZURE_CLIENT_ID", "a,b")], "several client ids"),
        (&[("AZURE_CLIENT_ID", "a,b"), ("AZURE_TOKEN_CREDENTIALS", "prod")], "it can be made"),
        (&[custom, arm, secret, tenant, id], "set AZURE_AUTHORITY_HOST"),
        (
            &[custom, arm, secret, tenant, id, ("AZURE_AUTHORITY_HOST", "https://login.example")],
            "it can be made",
        ),
        (&[("AZURE_AUTHORITY_HOST", "http://login.example")], "is not an https URL"),
    ];
    for (environment, words) in cases {
        let reported = refused(environment);
        assert!(reported.contains(words), "{environment:?}: {reported}");
        assert!(!reported.contains("hush"), "{reported}");
    }
}

fn a_client_secret_precedes_machine_identity_and_arc_is_not_used() {
    // An Arc machine has these for all of its programs.
    let arc =
        [("IDENTITY_ENDPOINT", "http://127.0.0.1:9/"), ("IMDS_ENDPOINT", "http://127.0.0.1:9/")];
    let reported =
        refused(&[arc[0], arc[1], ("AZURE_TOKEN_CREDENTIALS", "managedidentitycredential")]);
    assert!(reported.contains("Azure Arc machine is not supported"), "{reported}");
    let azure = Azure::start(generate(Scale::Small, 64));
    let desk = Desk::new();
    let store = store(desk.folder.path());
    let mut command = desk.azimg(&azure, "", &["crawl", "--store", &store]);
    let (code, _, stderr) = finish(command.envs(arc));
    assert_eq!((code, desk.calls().is_empty()), (0, false), "{stderr}");
    // With a secret, nobody asks the machine: it is Entra that cannot be reached here.
    let desk = Desk::new();
    let mut command = azure.azimg(&["crawl", "--store", &store]);
    desk.seat(&mut command, "");
    command
        .env("AZURE_CLIENT_SECRET", "hush")
        .env("AZURE_TENANT_ID", "t")
        .env("AZURE_CLIENT_ID", "i");
    command.env("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9");
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("127.0.0.1") && stderr.contains("cannot connect"), "{stderr}");
    assert!(!stderr.contains("hush") && !stderr.contains("retry policy"), "{stderr}");
    assert!(desk.calls().is_empty());
}

fn an_invalid_token_endpoint_is_reported() {
    let azure = Azure::start(generate(Scale::Small, 65));
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let page = "<html><body>Access blocked by the proxy</body></html>".to_owned();
    let cases = [
        (runtime.block_on(answering(403, &[], page.clone())).to_string(), "a proxy or a firewall"),
        (runtime.block_on(answering(200, &[], page)).to_string(), "a proxy or a firewall"),
        ("http://127.0.0.1:9/".to_owned(), "cannot connect to 127.0.0.1:9 (Connection refused"),
        (
            runtime
                .block_on(answering(
                    400,
                    &[],
                    "{\"message\": \"No User Assigned identity\"}".into(),
                ))
                .to_string(),
            "has not been assigned to this resource",
        ),
    ];
    for (address, words) in cases {
        let mut command = azure.azimg(&["crawl", "--store", &store]);
        let (code, _, stderr) = finish(command.env("IDENTITY_ENDPOINT", &address));
        assert_eq!(code, 1, "{stderr}");
        let reported = stderr.lines().find(|line| line.starts_with("azimg: ")).unwrap_or_default();
        assert!(
            reported.contains("no token for Azure") && reported.contains(words),
            "{address}: {stderr}"
        );
        assert_eq!(reported.matches(words).count(), 1, "once: {reported}");
    }
}

const CHALLENGE: &[(&str, &str)] = &[(
    "www-authenticate",
    "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==\"",
)];

fn claims_that_azure_asks_for_reach_the_user_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let body =
        "{\"error\":{\"code\":\"AuthenticationFailed\",\"message\":\"Authentication failed.\"}}";
    let at = runtime.block_on(answering(401, CHALLENGE, body.into()));
    let mut command = azimg(&["crawl", "--store", &store(folder.path())]);
    desk.seat(&mut command, "");
    let (code, _, stderr) = finish(command.env("AZIMG_ARM_ENDPOINT", at.as_str()));
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains(
            "az logout; az login --scope \"https://management.azure.com/.default\" \
             --claims-challenge \"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==\""
        ),
        "{stderr}"
    );
    // The token that was refused was replaced once.
    assert_eq!(desk.calls().len(), 2, "{:?}", desk.calls());
}
