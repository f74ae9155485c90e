//! The bodies of changes: which members they have, which they keep, and which the simulated Azure refuses.

use crate::support::asking::ask;
use crate::support::bent::{TENANT, ended, gallery_of, sim, version_of};
use crate::support::changes::{SIZE, changed, first, nth, on};
use crate::support::galleries::tenant;
use crate::support::{Azure, finish, json, paused};
use crate::tests;
use azimg::testing::gallery::{Changes, Name};
use serde_json::{Value, json};

tests![
    tag_names_ignore_case,
    bodies_have_what_their_schemas_require,
    a_change_keeps_members_that_it_does_not_know,
    regions_that_azure_refuses_are_refused,
    a_private_gallery_is_not_shared,
];

fn tag_names_ignore_case() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, ..] = first(&azure.sim).map(|name| name.id());
    let tagged = |tags: &[&str], more: &[&str]| {
        let mut line = vec!["gallery", "update", gallery.as_str(), "-o", "json"];
        line.extend(tags.iter().flat_map(|tag| ["--tag", *tag]));
        line.extend(more);
        finish(&mut azure.azimg(&line))
    };
    for (tags, body) in [
        (vec!["TEAM=x"], json!({"team": "x"})),
        (vec!["Team=", "env=1"], json!({"env": "1"})),
        (vec!["=x=y", "env=1"], Value::Null),
        (vec![" =x"], Value::Null),
        (vec!["env"], Value::Null),
        (vec!["env=1", "ENV=2"], Value::Null),
    ] {
        let (code, stdout, stderr) = tagged(&tags, &["--dry-run"]);
        if body.is_null() {
            let said = stderr.contains("is not a tag") || stderr.contains("are the same tag");
            assert!(code == 2 && said, "{tags:?}: {code} {stderr}");
        } else {
            let shown: Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(shown["body"], json!({ "tags": body }), "{tags:?}");
        }
    }
    // Taken away for good, and then not there.
    let (code, _, stderr) = tagged(&["TEAM="], &[]);
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = tagged(&["team="], &[]);
    assert!(code == 0 && stderr.contains("it is already as requested"), "{stderr}");
    assert!(!stdout.contains("platform"), "{stdout}");
}

fn bodies_have_what_their_schemas_require() {
    let sim = sim();
    let [gallery, definition, version] = first(&sim);
    let stage = on(&sim, &[], usize::MAX);
    let (of_version, of_definition) = paused(async {
        let changes = Changes { exclude_from_latest: Some(true), ..ended() };
        let version = stage.galleries.plan_update(&version, &changes).await.unwrap().unwrap();
        let changes = Changes { release_notes: Some("https://x".into()), ..Changes::default() };
        let definition = stage.galleries.plan_update(&definition, &changes).await.unwrap().unwrap();
        (version.change.body.unwrap(), definition.change.body.unwrap())
    });
    assert_eq!(of_version["properties"]["storageProfile"], json!({}));
    let known = gallery_of(&sim, &gallery, |gallery| {
        gallery.definitions.values().next().unwrap().properties.clone()
    });
    for member in ["osType", "osState", "identifier"] {
        assert_eq!(of_definition["properties"][member], known[member], "{member}");
    }
    // Azure (the simulated one) takes just that, the recorded forms too, and nothing less.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patch = |name: &Name, body: Value| {
        let uri = format!("{}?api-version=2026-03-03", name.id());
        let (status, answer) = runtime.block_on(ask(&sim, "PATCH", &uri, Some(&body)));
        (status, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(patch(&version, of_version).0, 200);
    assert_eq!(patch(&definition, of_definition).0, 200);
    let publishing = json!({"excludeFromLatest": false});
    let (status, said) =
        patch(&version, json!({"properties": {"publishingProfile": publishing.clone()}}));
    assert!(status == 400 && said.contains("storageProfile' is missing"), "{status} {said}");
    let recorded = json!({"osDiskImage": {"hostCaching": "ReadWrite"}});
    let body = |storage: Value| json!({"properties": {"publishingProfile": publishing.clone(), "storageProfile": storage}});
    assert_eq!(patch(&version, body(recorded)).0, 200);
    let other = json!({"source": {"id": "/another"}});
    assert_eq!(patch(&version, body(other)).0, 409);
    let (status, said) = patch(&definition, json!({"properties": {"description": "x"}}));
    assert!(status == 400 && said.contains("osType' is missing"), "{status} {said}");
}

/// Members that versions of the API show that are newer than the one that galleries are crawled with.
fn a_change_keeps_members_that_it_does_not_know() {
    let azure = Azure::start(tenant(SIZE));
    let [.., version] = first(&azure.sim);
    let sets = json!([{"storageAccountType": "PremiumV2_LRS", "regionalReplicaCount": 1}]);
    version_of(&azure.sim, &version, |version| {
        version.regions = vec![json!({"name": "East US", "regionalReplicaCount": 2,
            "storageAccountType": "Standard_LRS", "additionalReplicaSets": sets.clone()})];
        version.safety["blockDeletionBeforeEndOfLife"] = true.into();
    });
    let id = version.id();
    let line = ["gallery", "update", &id, "--add-region", "japaneast=2/Standard_ZRS"];
    let shown = json(&mut azure.azimg(&[&line[..], &["--dry-run", "-o", "json"]].concat()));
    let safety = &shown["body"]["properties"]["safetyProfile"];
    let kept =
        json!({"allowDeletionOfReplicatedLocations": false, "blockDeletionBeforeEndOfLife": true});
    assert_eq!(*safety, kept, "and nothing that only Azure says");
    json(&mut azure.azimg(&[&line[..], &["-o", "json"]].concat()));
    version_of(&azure.sim, &version, |version| {
        assert_eq!(version.regions[0]["additionalReplicaSets"], sets);
        assert_eq!(version.safety["blockDeletionBeforeEndOfLife"], true);
        assert_eq!(version.regions[1]["name"], "japaneast");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (asked, is_shown) in [("2023-07-03", false), ("2024-03-03", true), ("2026-03-03", true)] {
        let uri = format!("{id}?api-version={asked}");
        let (_, answer) = runtime.block_on(ask(&azure.sim, "GET", &uri, None));
        let region = &answer["properties"]["publishingProfile"]["targetRegions"][0];
        assert_eq!(region["additionalReplicaSets"].is_array(), is_shown, "{asked}");
        let safety = &answer["properties"]["safetyProfile"];
        assert_eq!(safety["blockDeletionBeforeEndOfLife"].is_boolean(), is_shown, "{asked}");
    }
}

fn regions_that_azure_refuses_are_refused() {
    let sim = sim();
    let [.., version] = first(&sim);
    let changes = Changes { add_regions: vec!["estus".parse().unwrap()], ..Changes::default() };
    let stage = on(&sim, &[], usize::MAX);
    let refused = paused(stage.galleries.plan_update(&version, &changes)).unwrap_err();
    assert!(refused.to_string().contains("estus"), "{refused}");
    version_of(&sim, &version, |version| {
        version.regions = vec![json!({"name": "East US", "regionalReplicaCount": 1,
                "storageAccountType": "Standard_LRS"})];
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patch = |regions: Value| {
        let body = json!({"properties": {"storageProfile": {},
            "publishingProfile": {"targetRegions": regions}}});
        let uri = format!("{}?api-version=2026-03-03", version.id());
        runtime.block_on(ask(&sim, "PATCH", &uri, Some(&body))).0
    };
    let set =
        |count: u64| json!([{"storageAccountType": "Premium_LRS", "regionalReplicaCount": count}]);
    for (status, regions) in [
        (200, json!([{"name": "eastus"}, {"name": "Japan East", "regionalReplicaCount": 99}])),
        (200, json!([{"name": "eastus", "additionalReplicaSets": set(99)}])),
        (400, json!([])),
        (400, json!([{"name": "Nowhereland"}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": 0}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": 101}])),
        (400, json!([{"name": "eastus", "regionalReplicaCount": "2"}])),
        (400, json!([{"name": "eastus"}, {"name": "Japan East", "regionalReplicaCount": 100}])),
        (400, json!([{"name": "eastus", "additionalReplicaSets": set(100)}])),
        (400, json!([{"name": "Japan West", "storageAccountType": "Floppy"}])),
        (400, json!([{"name": "eastus"}, {"name": "East US"}])),
        (409, json!([{"name": "eastus", "storageAccountType": "Premium_LRS"}])),
    ] {
        assert_eq!(patch(regions.clone()), status, "{regions}");
    }
}

fn a_private_gallery_is_not_shared() {
    let azure = Azure::start(tenant(SIZE));
    let [private, ..] = nth(&azure.sim, 0).map(|name| name.id());
    let [shared, ..] = nth(&azure.sim, 1).map(|name| name.id());
    let many: Vec<String> = (0..30).map(|n| format!("12345678-1234-4234-8234-{n:012}")).collect();
    let many: Vec<&str> = many.iter().flat_map(|id| ["--subscription", id.as_str()]).collect();
    for (id, with, said) in [
        (&private, vec!["--tenant", TENANT], "its permissions are Private. Azure shares only"),
        (&private, vec!["--community"], "--permissions community"),
        (&shared, many, "31 subscriptions"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let line = [&["gallery", "share", id.as_str()][..], &with, more].concat();
            let (code, stdout, stderr) = finish(&mut azure.azimg(&line));
            assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
            assert!(stderr.contains(said), "{stderr}");
        }
    }
    assert_eq!(changed(&azure.sim, "PostShareGallery"), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = json!({"operationType": "Add", "groups": [{"type": "AADTenants", "ids": [TENANT]}]});
    for (id, status) in [(&private, 400), (&shared, 202)] {
        let uri = format!("{id}/share?api-version=2026-03-03");
        let (found, answer) = runtime.block_on(ask(&azure.sim, "POST", &uri, Some(&body)));
        assert_eq!(found, status, "{answer}");
    }
}
