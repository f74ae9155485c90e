//! What `infra/` deploys against what the code reads, calls and writes; and what those say of it who know
//! Bicep.

use crate::support::needs::{Need, folder};
use crate::support::{azimg, finish, read_json, root};
use crate::tests;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

tests![
    app_settings_and_queues_are_those_that_the_code_reads_and_serves,
    what_is_explained_can_be_set_and_outlives_the_next_deployment,
    a_secret_is_no_plain_setting,
    parameters_are_declared_and_explained,
    every_hook_has_a_form_for_each_system,
    a_private_network_registers_its_provider_and_nothing_else_does,
    the_program_is_built_for_azure_whatever_system_packages_it,
    every_role_is_listed_with_its_reason_and_no_other,
    who_holds_which_role_on_what_is_as_it_is_written_down,
    who_has_not_signed_in_gets_nowhere_but_to_the_health_of_the_catalog,
    a_sign_in_that_cannot_work_is_refused_before_anything_is_provisioned,
    lookups_without_a_key_are_deployed_only_where_somebody_asks_who_calls,
    alerts_and_the_workbook_read_what_is_written,
    nothing_is_set_that_some_regions_refuse,
    what_alerts_read_is_never_sampled,
    bicep_and_powershell_parse_and_checkov_finds_nothing_that_is_not_meant needs [Checkov],
];

/// Where settings are read.
const CONFIG: [&str; 5] = [
    "src/config/mod.rs",
    "src/config/cloud.rs",
    "src/config/identity.rs",
    "src/config/sign_in.rs",
    "src/config/settings.rs",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All files of `infra/`, with their names.
fn bicep() -> Vec<(String, String)> {
    let modules = std::fs::read_dir(root().join("infra/modules")).unwrap();
    let mut names: Vec<String> = modules
        .map(|entry| format!("infra/modules/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.push("infra/main.bicep".into());
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// What stands between quotes and looks like a GUID.
fn guids(text: &str) -> BTreeSet<String> {
    let is_guid = |word: &&str| {
        let parts: Vec<usize> = word.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    text.split(['\'', '`', '"']).filter(is_guid).map(str::to_owned).collect()
}

/// The app settings that are deployed, with what each is set to.
fn app_settings() -> BTreeMap<String, String> {
    let deployed = read("infra/main.bicep") + &read("infra/modules/app.bicep");
    let setting = Regex::new(r"(?m)^ +((?:AZIMG_|AzimgStorage|AZURE_|OTEL_)\w*): (.+)$").unwrap();
    let settings = setting.captures_iter(&deployed).map(|found| {
        let [name, value] = found.extract().1;
        (name.to_owned(), value.to_owned())
    });
    settings.collect()
}

/// The parameters that azd fills in, by name, with the variable of each.
fn variables() -> BTreeMap<String, String> {
    let parameters = read_json(&root().join("infra/main.parameters.json"));
    let variable = |value: &Value| {
        let text = value["value"].as_str().unwrap().trim_start_matches("${").to_owned();
        text.split(['=', '}']).next().unwrap().to_owned()
    };
    let parameters = parameters["parameters"].as_object().unwrap();
    parameters.iter().map(|(name, value)| (name.clone(), variable(value))).collect()
}

fn app_settings_and_queues_are_those_that_the_code_reads_and_serves() {
    let config = CONFIG.iter().map(|file| read(file)).collect::<String>();
    let app = read("infra/modules/app.bicep") + &read("infra/main.bicep");
    let settings = app_settings();
    let settings: Vec<&str> = settings.keys().map(String::as_str).collect();
    assert!(settings.len() >= 20, "{settings:?}");
    // The host's own words for a connection (facts of the Functions host §5).
    let hosts =
        ["AzimgStorage__credential", "AzimgStorage__clientId", "AzimgStorage__blobServiceUri"];
    for name in settings.iter().filter(|name| !hosts.contains(name)) {
        assert!(config.contains(&format!("\"{name}\"")), "nobody reads {name}");
    }
    assert!(hosts.iter().all(|name| settings.contains(name)), "the host reads {hosts:?}");
    // No secret, whatever it is called.
    for (name, text) in bicep() {
        for word in ["listKeys", "AccountKey", "connectionString:", "@secure", "password:"] {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
    let storage = read("infra/modules/storage.bicep");
    for function in &azimg::functions::FUNCTIONS {
        let declared: Value = serde_json::from_str(function.json).unwrap();
        for binding in declared["bindings"].as_array().unwrap() {
            if let Some(queue) = binding["queueName"].as_str() {
                assert!(storage.contains(&format!("'{queue}'")), "nobody makes {queue}");
                assert!(
                    storage.contains(&format!("'{}-poison'", queue.trim_end_matches("-poison")))
                );
            }
            if let Some(setting) = binding["schedule"].as_str().and_then(|s| s.strip_prefix('%')) {
                assert!(app.contains(&format!("{}: ", setting.trim_end_matches('%'))), "{setting}");
            }
        }
    }
}

/// What documents explain and no deployment sets, and why.
const ELSEWHERE: [(&str, &str); 19] = [
    ("AZIMG_API", "what a deployment gives"),
    ("AZIMG_PEERS", "tests read it"),
    ("AZIMG_RECORDINGS", "tests read it"),
    ("AZIMG_TEST_FOLDER", "tests read it"),
    ("AZIMG_FROM_REGISTRY_PASSWORD", "an app copies no images"),
    ("AZIMG_IN_USE", "an app purges nothing: whoever has the list of what runs does"),
    ("AZIMG_OUTPUT", "an app prints no lists"),
    ("AZIMG_REGISTRY_PASSWORD", "AZIMG_REGISTRY_PASSWORD_SECRET says which secret it is"),
    ("AZIMG_SEED", "tests read it"),
    ("AZIMG_SEEDS", "tests read it"),
    ("AZIMG_STORE", "the storage account of the deployment"),
    ("AZURE_CLIENT_CERTIFICATE_PATH", "certificates are not taken"),
    ("AZURE_CLIENT_ID", "identities of the deployment; AZIMG_READERS says how many"),
    ("AZURE_CLIENT_SECRET", "the app is its identity, and has no secret"),
    ("AZURE_FEDERATED_TOKEN_FILE", "the app is its identity, and no pod"),
    ("AZURE_PRINCIPAL_ID", "azd sets it"),
    ("AZURE_TENANT_ID", "the app is its identity, which is of one tenant"),
    ("AZURE_TOKEN_CREDENTIALS", "the app is its identity"),
    ("AzimgStorage__queueServiceUri", "the storage account of the deployment"),
];

/// App settings are replaced as a whole by each deployment: what was set by hand is gone, without a word.
fn what_is_explained_can_be_set_and_outlives_the_next_deployment() {
    let named = Regex::new(r"`((?:AZIMG_|AZURE_|OTEL_|AzimgStorage__)\w+)(?:=[^`]*)?`").unwrap();
    let mut documents = vec![read("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            documents.push(std::fs::read_to_string(path).unwrap());
        }
    }
    let documents = documents.join("\n");
    let explained: BTreeSet<&str> =
        named.captures_iter(&documents).map(|found| found.extract::<1>().1[0]).collect();
    assert!(explained.len() > 25, "{explained:?}");
    let (settings, variables, main) = (app_settings(), variables(), read("infra/main.bicep"));
    // Those without a variable of their own are named where the variable for all others is explained.
    let operations = read("docs/operations.md");
    let others = operations.lines().find(|line| line.starts_with("| `AZIMG_APP_SETTINGS`"));
    let others = others.expect("docs/operations.md explains AZIMG_APP_SETTINGS");
    for name in explained {
        if ELSEWHERE.iter().any(|(known, _)| *known == name) || others.contains(name) {
            continue;
        }
        let parameter = variables.iter().find(|(_, variable)| *variable == name);
        let (parameter, _) = parameter.unwrap_or_else(|| {
            panic!("{name} is lost by the next deployment: give it a parameter in infra/")
        });
        assert!(main.matches(parameter.as_str()).count() > 1, "nothing is done with {parameter}");
        // What the code reads arrives at the code.
        let is_read = CONFIG.iter().any(|file| read(file).contains(&format!("\"{name}\"")));
        let by_way = main.contains(&format!("var subscriptions = empty({parameter})"));
        let set = settings.get(name).is_some_and(|value| by_way || value.contains(parameter));
        // What the platform itself does in Azure is set at the site.
        let of_site = name == "AZIMG_CORS_ORIGINS"
            && read("infra/modules/app.bicep")
                .contains(&format!("allowedOrigins: empty({parameter})"));
        assert!(set || of_site || !is_read, "{name} is not set to {parameter}");
    }
    for (name, _) in ELSEWHERE {
        assert!(documents.contains(name), "nobody explains {name} any more");
    }
}

/// Whoever may read an app may read its settings.
fn a_secret_is_no_plain_setting() {
    let (main, app) = (read("infra/main.bicep"), read("infra/modules/app.bicep"));
    assert_eq!(app_settings()["AZIMG_REGISTRY_PASSWORD"], "vault.?outputs.setting ?? ''");
    assert!(read("infra/modules/vault.bicep").contains("'@Microsoft.KeyVault(SecretUri=${"));
    assert!(app.contains("keyVaultReferenceIdentity: identityId"));
    // Nor among those that are given as one text.
    let settings = read("infra/modules/settings.bicep");
    let refused = settings.split_once("var secrets = [").unwrap().1.split_once(']').unwrap().0;
    for secret in ["AZIMG_REGISTRY_PASSWORD", "AZURE_CLIENT_SECRET", "OTEL_EXPORTER_OTLP_HEADERS"] {
        assert!(refused.contains(&format!("'{secret}'")), "{secret}");
        assert!(!variables().values().any(|variable| variable == secret), "{secret}");
    }
    assert!(main.contains("if (!empty(registryPasswordSecret))"));
}

fn parameters_are_declared_and_explained() {
    let main = read("infra/main.bicep");
    let declared: BTreeSet<&str> = main
        .lines()
        .filter_map(|line| line.strip_prefix("param "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let docs = read("docs/operations.md");
    let variables = variables();
    for (name, variable) in &variables {
        assert!(declared.contains(name.as_str()), "{name} is not declared");
        let known = variable.starts_with("AZURE_") || docs.contains(&format!("`{variable}`"));
        assert!(known, "docs/operations.md does not explain {variable}");
    }
    for name in &declared {
        assert!(variables.contains_key(*name), "azd cannot set {name}");
    }
    let described = main.matches("@description(").count();
    assert!(described >= declared.len() - 1, "a parameter has no description");
    // Each module is used.
    for (name, _) in bicep().iter().filter(|(name, _)| name.contains("modules/")) {
        let module = name.trim_start_matches("infra/");
        assert!(main.contains(&format!("'{module}'")), "{name} is deployed by nobody");
    }
}

/// A hook of azd, in its two forms.
struct Hook {
    name: String,
    posix: String,
    windows: String,
}

/// The hooks of `azure.yaml`, which is written so that its indentation tells all.
fn hooks() -> Vec<Hook> {
    let text = read("azure.yaml");
    let lines = &text.lines().collect::<Vec<_>>()[..];
    let depth = |line: &str| line.len() - line.trim_start().len();
    let below = |at: usize| {
        let body = lines[at + 1..].iter().copied();
        body.take_while(move |line| depth(line) > depth(lines[at]))
    };
    let form = |at: usize, system: &str, shell: &str| {
        let of_it: Vec<&str> = below(at).collect();
        let begin = of_it.iter().position(|line| line.trim() == format!("{system}:"));
        let begin = begin.unwrap_or_else(|| panic!("{} has no form for {system}", lines[at]));
        assert_eq!(of_it[begin + 1].trim(), format!("shell: {shell}"), "{}", lines[at]);
        assert_eq!(of_it[begin + 2].trim(), "run: |", "{}", lines[at]);
        let run = of_it[begin + 2];
        let body = of_it[begin + 3..].iter().take_while(|line| depth(line) > depth(run));
        body.map(|line| format!("{}\n", &line[depth(run) + 2..])).collect::<String>()
    };
    let is_hook = |line: &str| {
        let name = line.trim().trim_end_matches(':');
        line.ends_with(':') && (name.starts_with("pre") || name.starts_with("post"))
    };
    let hooks = (0..lines.len()).filter(|at| is_hook(lines[*at]));
    let hook = |at: usize| Hook {
        name: lines[at].trim().trim_end_matches(':').to_owned(),
        posix: form(at, "posix", "sh"),
        windows: form(at, "windows", "pwsh"),
    };
    hooks.map(hook).collect()
}

fn hook(name: &str) -> Hook {
    hooks().into_iter().find(|hook| hook.name == name).unwrap()
}

/// Runs a hook's form for Linux and macOS in `folder`, where every program but the shell's own is one that
/// writes down how it was called, and `uname` says what it is told to; its exit code, and the calls.
fn run_hook(hook: &Hook, folder: &Path, system: &str, variables: &[(&str, &str)]) -> (i32, String) {
    use std::os::unix::fs::PermissionsExt;
    let bin = folder.join("bin");
    let built = folder.join("target/x86_64-unknown-linux-gnu/dist");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&built).unwrap();
    let note = "echo \"${0##*/} $* [$RUSTFLAGS]\" >> calls; printf %s \"$SAYS\"; exit ${FAILS:-0}";
    let note = note.to_owned();
    let programs = [
        (bin.join("az"), note.clone()),
        (bin.join("cargo"), note.clone()),
        (bin.join("docker"), note.clone()),
        (built.join("azimg"), note),
        (bin.join("uname"), format!("echo {system}")),
        (bin.join("sh"), "exec /bin/sh \"$@\"".to_owned()),
        (bin.join("grep"), "exec /bin/grep \"$@\"".to_owned()),
    ];
    for (path, body) in programs {
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let _ = std::fs::remove_file(folder.join("calls"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &hook.posix]).current_dir(folder).env_clear().env("PATH", &bin);
    let (code, _, _) = finish(shell.envs(variables.iter().copied()));
    (code, std::fs::read_to_string(folder.join("calls")).unwrap_or_default())
}

fn every_hook_has_a_form_for_each_system() {
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

/// Each was refused to somebody; the sources stand beside the resources.
fn nothing_is_set_that_some_regions_refuse() {
    let app = read("infra/modules/app.bicep");
    let site = app.split_once("siteConfig: {").unwrap().1.split_once('}').unwrap().0;
    for member in [
        "ftpsState",
        "linuxFxVersion",
        "use32BitWorkerProcess",
        "netFrameworkVersion",
        "functionAppScaleLimit",
        "functionsRuntimeScaleMonitoringEnabled",
    ] {
        assert!(!site.contains(member), "Flex Consumption refuses siteConfig.{member}");
    }
    assert!(read("infra/main.bicep").contains("param storageRedundancy string = 'Standard_LRS'"));
    assert!(!read("infra/modules/storage.bicep").contains("'Standard_ZRS'"));
}

/// Sampling drops whole operations at twenty items a second (Azure/azure-functions-host#10496).
fn what_alerts_read_is_never_sampled() {
    let host = read_json(&root().join("host.json"));
    let sampling = &host["logging"]["applicationInsights"]["samplingSettings"];
    let spared: Vec<&str> = sampling["excludedTypes"].as_str().unwrap().split(';').collect();
    let (alerts, workbook) =
        (read("infra/modules/alerts.bicep"), read("infra/modules/workbook.bicep"));
    for (table, kind) in [("traces", "Trace"), ("requests", "Request"), ("exceptions", "Exception")]
    {
        let read = (alerts.clone() + &workbook).contains(&format!("{table} |"));
        assert!(!read || spared.contains(&kind), "{table} are read, and sampled");
    }
}

fn every_role_is_listed_with_its_reason_and_no_other() {
    let given: BTreeSet<String> = bicep().iter().flat_map(|(_, text)| guids(text)).collect();
    let docs = read("docs/permissions.md");
    let listed = guids(&docs);
    let missing: Vec<_> = given.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/permissions.md does not list {missing:?}");
    // AcrPush is for people, and named so that they find it.
    let never: Vec<_> = listed.difference(&given).collect();
    assert_eq!(never, ["8311e382-0749-4cb8-b61a-304f252e45ec"]);
    assert!(docs.contains("never given by `infra/`"));
    let registry = read("infra/modules/registry.bicep");
    assert!(registry.contains("!enablePurge ? []"), "rights to delete are for purging alone");
}

/// A role that is given: its id, on what (a kind of resource, and its name as the module writes it), and to whom.
type Given = (String, String, String);

/// Every role that a module gives, read from its text.
fn given(file: &str, text: &str) -> Vec<Given> {
    let roles: BTreeMap<String, String> = Regex::new(r"(?m)^var (\w+) = '([0-9a-f-]{36})'")
        .unwrap()
        .captures_iter(text)
        .map(|found| (found[1].to_owned(), found[2].to_owned()))
        .collect();
    let find = |pattern: &str, block: &str| {
        Regex::new(pattern).unwrap().captures(block).map(|found| found[1].to_owned())
    };
    let resource = |name: &str| {
        let declared = Regex::new(&format!(
            r"resource {name} '([^@]+)@[^']+' existing = \{{\n(?:  parent: \w+\n)?  name: (.+)\n"
        ));
        let declared = declared.unwrap();
        let found = declared.captures(text).unwrap_or_else(|| panic!("{file}: what is {name}?"));
        format!("{} {}", &found[1], &found[2])
    };
    let word = Regex::new(r"\w+").unwrap();
    let mut all = Vec::new();
    for block in text.split("\nresource ").skip(1) {
        let block = block.split_once("\n}").map_or(block, |(block, _)| block);
        if !block.lines().next().unwrap().contains("'Microsoft.Authorization/") {
            continue;
        }
        let kind = block.lines().next().unwrap();
        assert!(kind.contains("Microsoft.Authorization/roleAssignments@"), "{file}: {kind}");
        let scope = match find(r"(?m)^ +scope: (\w+)$", block) {
            Some(name) => resource(&name),
            None if text.contains("targetScope = 'subscription'") => "subscription".to_owned(),
            None => panic!("{file}: a role on the whole resource group"),
        };
        let principal = find(r"(?m)^ +principalId: (.+)$", block).unwrap();
        let principal =
            find(r"for id in (\w+):", block).filter(|_| principal == "id").unwrap_or(principal);
        let one = find(r"(?m)^ +roleDefinitionId: .+, (\w+)\)$", block).unwrap();
        let named = find(r"for role in (.+): \{", block).filter(|_| one == "role").unwrap_or(one);
        let before = all.len();
        for name in word.find_iter(&named) {
            if let Some(id) = roles.get(name.as_str()) {
                all.push((id.clone(), scope.clone(), principal.clone()));
            }
        }
        assert!(all.len() > before, "{file}: which role is {named}?");
    }
    all
}

/// The roles that may be given, with the words of docs/permissions.md: the role, whose it is, and on what.
const ROLES: [(&str, &str, &str, [&str; 3]); 12] = [
    (
        "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        "subscription",
        "principalIds",
        ["Reader", "the app, each further reader", "each subscription that is crawled"],
    ),
    (
        "7f951dda-4ed3-4680-a7ca-43fe172d538d",
        "Microsoft.ContainerRegistry/registries registryName",
        "identityPrincipalId",
        ["AcrPull", "the app", "each registry of `AZIMG_REGISTRY_IDS`"],
    ),
    (
        "b93aa761-3e63-49ed-ac28-beffa264f7ac",
        "Microsoft.ContainerRegistry/registries registryName",
        "identityPrincipalId",
        [
            "Container Registry Repository Reader",
            "the app",
            "each registry of `AZIMG_ABAC_REGISTRY_IDS`",
        ],
    ),
    (
        "bfdb9389-c9a5-478a-bb2f-ba9ca092c3c7",
        "Microsoft.ContainerRegistry/registries registryName",
        "identityPrincipalId",
        [
            "Container Registry Repository Catalog Lister",
            "the app",
            "each registry of `AZIMG_ABAC_REGISTRY_IDS`",
        ],
    ),
    (
        "c2f4ef07-c644-48eb-af81-4b1b4947fb11",
        "Microsoft.ContainerRegistry/registries registryName",
        "identityPrincipalId",
        [
            "AcrDelete",
            "the app, with `AZIMG_ENABLE_PURGE=true`",
            "each registry of `AZIMG_REGISTRY_IDS`",
        ],
    ),
    (
        "2efddaa5-3f1f-4df3-97df-af3f13818f4c",
        "Microsoft.ContainerRegistry/registries registryName",
        "identityPrincipalId",
        [
            "Container Registry Repository Contributor",
            "the app, with `AZIMG_ENABLE_PURGE=true`",
            "each registry of `AZIMG_ABAC_REGISTRY_IDS`",
        ],
    ),
    (
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        "Microsoft.Storage/storageAccounts storageName",
        "identityPrincipalId",
        ["Storage Blob Data Owner", "the app", "its storage account"],
    ),
    (
        "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
        "Microsoft.Storage/storageAccounts storageName",
        "identityPrincipalId",
        ["Storage Queue Data Contributor", "the app", "its storage account"],
    ),
    (
        "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
        "Microsoft.Storage/storageAccounts storageName",
        "identityPrincipalId",
        ["Storage Table Data Contributor", "the app", "its storage account"],
    ),
    (
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        "Microsoft.Storage/storageAccounts/blobServices/containers 'azimg'",
        "principalId",
        [
            "Storage Blob Data Contributor",
            "who `AZURE_PRINCIPAL_ID` names",
            "the container `azimg`",
        ],
    ),
    (
        "4633458b-17de-408a-874c-0445c86b69e6",
        "Microsoft.KeyVault/vaults/secrets secretName",
        "identityPrincipalId",
        ["Key Vault Secrets User", "the app", "the secret of `AZIMG_REGISTRY_PASSWORD_SECRET`"],
    ),
    (
        "3913510d-42f4-4e42-8a64-420c390055eb",
        "Microsoft.Insights/components insightsName",
        "identityPrincipalId",
        ["Monitoring Metrics Publisher", "the app", "its Application Insights"],
    ),
];

/// A role that is new, on more, or another's fails here: whoever gives it says in docs/permissions.md what its holder
/// could do with it.
fn who_holds_which_role_on_what_is_as_it_is_written_down() {
    let found: BTreeSet<Given> =
        bicep().iter().flat_map(|(name, text)| given(name, text)).collect();
    let known: BTreeSet<Given> = ROLES
        .iter()
        .map(|(id, scope, principal, _)| {
            ((*id).to_owned(), (*scope).to_owned(), (*principal).to_owned())
        })
        .collect();
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/permissions.md does not weigh {unknown:#?}");
    let never: Vec<_> = known.difference(&found).collect();
    assert!(never.is_empty(), "nobody gives {never:#?}");
    let docs = read("docs/permissions.md");
    let (_, weighed) = docs.split_once("## What their holder could do").unwrap();
    let rows: Vec<&str> = weighed.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    for (id, _, _, [role, whose, on]) in ROLES {
        let begins = format!("| {role} | {whose} | {on} | ");
        let row = rows.iter().find(|row| row.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("no row of docs/permissions.md begins '{begins}'"));
        assert!(row.len() > begins.len() + 40, "{row}");
        assert!(docs.contains(&format!("| {role} | `{id}` |")), "{role} has no id");
    }
    assert_eq!(rows.len(), ROLES.len(), "a row is of a role that nobody has");
    // The words of a module mean what they say.
    let main = read("infra/main.bicep");
    for (parameter, value) in [
        ("identityPrincipalId", "identity.outputs.principalId"),
        ("principalId", "principalId"),
        (
            "principalIds",
            "concat([identity.outputs.principalId], identity.outputs.furtherPrincipalIds)",
        ),
    ] {
        let passed = Regex::new(&format!(r"(?m)^ +{parameter}: (.+)$")).unwrap();
        let passed: BTreeSet<&str> =
            passed.captures_iter(&main).map(|found| found.extract::<1>().1[0]).collect();
        assert_eq!(passed, BTreeSet::from([value]), "{parameter}");
    }
    // Rights are given by roles alone.
    for (name, text) in bicep() {
        for other in ["roleDefinitions@", "accessPolicies", "roleEligibility", "denyAssignments"] {
            assert!(!text.contains(other), "{name}: {other}");
        }
    }
}

fn who_has_not_signed_in_gets_nowhere_but_to_the_health_of_the_catalog() {
    use clap::ValueEnum;
    let (main, front) = (read("infra/main.bicep"), read("infra/modules/signin.bicep"));
    // One word, in each place that it reaches.
    let words: Vec<String> = azimg::config::SignIn::value_variants()
        .iter()
        .map(|word| format!("'{}'", word.to_possible_value().unwrap().get_name()))
        .collect();
    let allowed = format!("@allowed([{}])\n@description('How callers are known", words.join(", "));
    assert!(main.contains(&allowed), "{allowed}");
    assert!(main.contains("param signIn string = 'keys'"), "keys are the default");
    assert_eq!(app_settings()["AZIMG_SIGN_IN"], "signIn");
    for line in [
        "name: 'authsettingsV2'",
        "enabled: signIn == 'entra'",
        "requireAuthentication: signIn == 'entra'",
        "unauthenticatedClientAction: 'RedirectToLoginPage'",
        "excludedPaths: ['/api/health']",
        "requireHttps: true",
        "openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'",
        "allowedApplications: concat([clientId], callers)",
    ] {
        assert!(front.lines().any(|there| there.trim() == line), "{line}");
    }
    assert!(!front.contains("AllowAnonymous"));
    // Nor does a setting that is given beside promise what is not so.
    let settings = read("infra/modules/settings.bicep");
    assert!(settings.contains("var decided = ['AZIMG_SIGN_IN', "));
    assert!(settings.contains("filter(named, one => !contains(decided, toUpper(one.name)))"));
    assert!(settings.contains("var allowed = filter(free, "));
    // What needs no sign-in here is what the handler answers though nobody asks for one.
    assert!(read("src/cli/front.rs").contains("const HEALTH: &str = \"/api/health\";"));
    // The app's settings first: its own check may not come late when the sign-in goes.
    let module = main.split_once("module front 'modules/signin.bicep'").unwrap().1;
    assert!(module.split_once("\n}").unwrap().0.contains("appName: app.outputs.name"));
    // It proves itself by an identity that has no role, and by no secret.
    let identity = read("infra/modules/identity.bicep");
    assert!(identity.contains("resource signer") && !main.contains("signInPrincipalId\n    }"));
    assert!(front.contains("clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'"));
    assert!(
        main.contains("OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identity.outputs.signInClientId")
    );
    for function in &azimg::functions::FUNCTIONS {
        assert!(!function.json.contains("anonymous"), "{} is open as it lies here", function.name);
    }
}

fn a_sign_in_that_cannot_work_is_refused_before_anything_is_provisioned() {
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

fn lookups_without_a_key_are_deployed_only_where_somebody_asks_who_calls() {
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

fn alerts_and_the_workbook_read_what_is_written() {
    let telling = read("src/functions/traffic_report.rs");
    let (alerts, workbook) =
        (read("infra/modules/alerts.bicep"), read("infra/modules/workbook.bicep"));
    let queries = alerts.clone() + &workbook;
    for said in queries.split("fields.message == \"").skip(1) {
        let said = said.split('"').next().unwrap();
        assert!(telling.contains(&format!("\"{said}\"")), "nobody says '{said}'");
    }
    for field in queries.split("fields.").skip(1) {
        let field: String =
            field.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let known = ["message", "error"].contains(&field.as_str()) || telling.contains(&field);
        assert!(known, "no line has {field}");
    }
    let docs = read("docs/operations.md");
    let rules = alerts.lines().filter_map(|line| line.strip_prefix("    name: '"));
    let rules: Vec<&str> = rules.map(|name| name.trim_end_matches('\'')).collect();
    let rules: Vec<&str> = rules.into_iter().filter(|name| !name.contains('$')).collect();
    assert_eq!(rules.len(), 5, "{rules:?}");
    for rule in rules {
        assert!(docs.contains(&format!("`azimg-{rule}`")), "nobody says what to do about {rule}");
    }
}

fn bicep_and_powershell_parse_and_checkov_finds_nothing_that_is_not_meant() {
    let bin = folder(Need::Checkov);
    let parse = |language: &str, files: Vec<PathBuf>| {
        let script = root().join("tests/fixtures/parse.py");
        let mut parse = Command::new(bin.join("python"));
        let (code, stdout, stderr) = finish(parse.arg(script).arg(language).args(&files));
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(stdout.lines().count(), files.len(), "{stdout}");
    };
    parse("bicep", bicep().iter().map(|(name, _)| root().join(name)).collect());
    let scripts = tempfile::tempdir().unwrap();
    let hooks = hooks().into_iter().map(|hook| {
        let path = scripts.path().join(format!("{}.ps1", hook.name));
        std::fs::write(&path, hook.windows).unwrap();
        path
    });
    parse("powershell", hooks.collect());
    let mut check = Command::new(bin.join("checkov"));
    check.args([
        "--directory",
        "infra",
        "--framework",
        "bicep",
        "--config-file",
        "infra/checkov.yaml",
    ]);
    let (code, stdout, stderr) = finish(check.current_dir(root()).env("LOG_LEVEL", "CRITICAL"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("Passed checks: "), "{stdout}{stderr}");
    // What it cannot parse it passes over: a file without anything that is deployed.
    let said = stdout.lines().chain(stderr.lines());
    let unread = said.filter_map(|line| line.strip_prefix("Error parsing file "));
    for path in unread {
        assert!(path.ends_with("infra/modules/settings.bicep"), "{path} is not checked");
    }
    assert!(!read("infra/modules/settings.bicep").contains("resource "));
}
