//! What `infra/` deploys against what the code reads, calls and writes; and what those say of it who know
//! Bicep.

use crate::support::needs::{Need, folder};
use crate::support::{finish, read_json, root};
use crate::tests;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

tests![
    app_settings_and_queues_are_those_that_the_code_reads_and_serves,
    parameters_are_declared_and_explained,
    every_role_is_listed_with_its_reason_and_no_other,
    alerts_and_the_workbook_read_what_is_written,
    nothing_is_set_that_some_regions_refuse,
    what_alerts_read_is_never_sampled,
    bicep_parses_and_checkov_finds_nothing_that_is_not_meant needs [Checkov],
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

fn app_settings_and_queues_are_those_that_the_code_reads_and_serves() {
    let (config, app) = (read("src/config.rs"), read("infra/modules/app.bicep"));
    let settings: Vec<&str> = app
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("AZIMG_") || name.starts_with("AzimgStorage"))
        .collect();
    assert!(settings.len() >= 9, "{settings:?}");
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

fn parameters_are_declared_and_explained() {
    let main = read("infra/main.bicep");
    let declared: BTreeSet<&str> = main
        .lines()
        .filter_map(|line| line.strip_prefix("param "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let parameters = read_json(&root().join("infra/main.parameters.json"));
    let docs = read("docs/operations.md");
    for (name, value) in parameters["parameters"].as_object().unwrap() {
        assert!(declared.contains(name.as_str()), "{name} is not declared");
        let variable = value["value"].as_str().unwrap().trim_start_matches("${");
        let variable = variable.split(['=', '}']).next().unwrap();
        let known = variable.starts_with("AZURE_") || docs.contains(&format!("`{variable}`"));
        assert!(known, "docs/operations.md does not explain {variable}");
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

fn alerts_and_the_workbook_read_what_is_written() {
    let telling = read("src/functions/telling.rs");
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

fn bicep_parses_and_checkov_finds_nothing_that_is_not_meant() {
    let bin = folder(Need::Checkov);
    let script = root().join("tests/fixtures/parse_bicep.py");
    let mut parse = Command::new(bin.join("python"));
    parse.arg(script).args(bicep().iter().map(|(name, _)| root().join(name)));
    let (code, stdout, stderr) = finish(&mut parse);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), bicep().len(), "{stdout}");
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
}
