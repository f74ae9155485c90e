//! The roles that `infra/` assigns: each with its reason, and no other.

use crate::support::infra::{bicep, guids, read};
use crate::tests;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

tests![
    every_role_is_listed_with_its_reason_and_no_other,
    role_assignments_match_the_documented_table,
];

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
fn role_assignments_match_the_documented_table() {
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
