//! What `infra/` deploys, compared with what the code reads, calls and writes, and checked by the tools of Bicep.

use crate::support::infra::{CONFIG, app_settings, bicep, hooks, read, variables};
use crate::support::needs::{Need, folder};
use crate::support::{finish, read_json, root};
use crate::tests;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

tests![
    app_settings_and_queues_are_those_that_the_code_reads_and_serves,
    every_documented_setting_can_be_deployed,
    a_secret_is_no_plain_setting,
    parameters_are_declared_and_explained,
    without_sign_in_only_the_health_of_the_catalog_is_served,
    alerts_and_the_workbook_read_what_is_written,
    nothing_is_set_that_some_regions_refuse,
    what_alerts_read_is_never_sampled,
    bicep_and_powershell_parse_and_checkov_finds_nothing_that_is_not_meant needs [Checkov],
];

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
    for function in &azimg::testing::functions::FUNCTIONS {
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
    ("AZURE_CLIENT_CERTIFICATE_PATH", "certificates are not supported"),
    ("AZURE_CLIENT_ID", "identities of the deployment; AZIMG_READERS says how many"),
    ("AZURE_CLIENT_SECRET", "the app is its identity, and has no secret"),
    ("AZURE_FEDERATED_TOKEN_FILE", "the app is its identity, and no pod"),
    ("AZURE_PRINCIPAL_ID", "azd sets it"),
    ("AZURE_TENANT_ID", "the app is its identity, which is of one tenant"),
    ("AZURE_TOKEN_CREDENTIALS", "the app is its identity"),
    ("AzimgStorage__queueServiceUri", "the storage account of the deployment"),
];

/// App settings are replaced as a whole by each deployment: what was set by hand is gone, without a word.
fn every_documented_setting_can_be_deployed() {
    let named = Regex::new(r"`((?:AZIMG_|AZURE_|OTEL_|AzimgStorage__)\w+)(?:=[^`]*)?`").unwrap();
    let mut documents = vec![read("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
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

fn without_sign_in_only_the_health_of_the_catalog_is_served() {
    use clap::ValueEnum;
    let (main, front) = (read("infra/main.bicep"), read("infra/modules/signin.bicep"));
    // One word, in each place that it reaches.
    let words: Vec<String> = azimg::testing::config::SignIn::value_variants()
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
    for function in &azimg::testing::functions::FUNCTIONS {
        // The page's files hold no data.
        let is_open = function.json.contains("anonymous");
        assert_eq!(is_open, function.name == "page", "{}", function.name);
    }
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
