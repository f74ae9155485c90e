//! Small tenants in which what people do with their images went wrong: what each of them must give.

use crate::support::case::{Case, SUBSCRIPTION};
use crate::support::{finish, json};
use crate::tests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

tests![
    a_version_that_is_used_by_any_form_of_its_id_is_kept,
    a_locked_version_is_kept_and_the_others_are_deleted,
    a_version_whose_deletion_is_blocked_is_not_planned,
    failed_versions_do_not_count_among_the_newest_kept,
    two_updates_at_once_leave_both_regions,
    an_update_that_has_no_effect_is_an_error,
    removing_a_region_that_the_safety_profile_blocks_is_an_error,
    latest_of_galleries_by_region_filters_and_pasted_references,
    a_version_is_found_number_by_number,
    shared_images_have_a_latest_version_by_region,
    the_newest_managed_image_of_a_pattern_is_found,
    a_machine_on_an_attached_disk_has_the_image_of_its_disk,
    a_bad_response_of_azure_is_not_reported_as_wrong_usage,
];

/// A case, and a store that was crawled from it.
fn crawled(name: &str) -> (Case, tempfile::TempDir) {
    let case = Case::start(name);
    let folder = tempfile::tempdir().unwrap();
    crawl(&case, folder.path(), &["--source", "gallery"]);
    (case, folder)
}

fn crawl(case: &Case, folder: &Path, options: &[&str]) {
    let line = ["crawl", "--store", folder.to_str().unwrap(), "-o", "json"];
    let (code, _, stderr) = finish(&mut case.azimg(&[&line[..], options].concat()));
    assert_eq!(code, 0, "{stderr}");
}

/// What a command that must succeed prints, as JSON.
fn reported(case: &Case, folder: &Path, line: &[&str]) -> Value {
    json(&mut case.azimg(&[line, &["--store", folder.to_str().unwrap(), "-o", "json"]].concat()))
}

fn usage(case: &Case, folder: &Path) -> Vec<Value> {
    reported(case, folder, &["images", "usage", "--all"]).as_array().unwrap().clone()
}

/// What a host answers.
fn get(host: &crate::support::web::Host, path: &str) -> (u16, Value) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = format!("{}/{path}", host.address);
        let answer = host.caller().get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    })
}

/// The version at the end of an id.
fn last(id: &Value) -> &str {
    id.as_str().unwrap().rsplit('/').next().unwrap()
}

/// The versions that a plan takes, and the file that it is in.
fn planned(case: &Case, folder: &Path, keep: &str) -> (Vec<String>, String) {
    let file = folder.join("plan.json").to_str().unwrap().to_owned();
    let line = ["gallery", "retire", "--keep", keep, "--action", "delete", "--max-percent", "100"];
    let plan = json(&mut case.azimg(&[&line[..], &["--plan", &file, "-o", "json"]].concat()));
    let retired = plan["definitions"].as_array().unwrap().iter();
    let retired = retired.flat_map(|one| one["retired"].as_array().unwrap());
    (retired.map(|one| last(&one["id"]).to_owned()).collect(), file)
}

fn versions(case: &Case) -> Vec<String> {
    let tenant = case.tenant();
    let all = tenant["versions"].as_array().unwrap().iter();
    all.map(|one| last(&one["id"]).to_owned()).collect()
}

fn a_version_that_is_used_by_any_form_of_its_id_is_kept() {
    let (case, folder) = crawled("retire-in-use-by-shared-id");
    let (goes, _) = planned(&case, folder.path(), "1");
    assert_eq!(goes, ["1.4.0"]);
    let rows = usage(&case, folder.path());
    assert_eq!(rows.len(), 4);
    for row in &rows {
        assert_eq!(row["finding"], "not-latest", "{row}");
        assert_eq!(last(&row["moveTo"]), "1.5.0");
        assert_eq!(row["sku"], "api");
    }
    // Each form of an id names the same row.
    let gallery = "contoso-0000aaaa-1111-4222-8333-444455556666";
    for id in [
        format!("/SharedGalleries/{SUBSCRIPTION}-PROD/Images/api/Versions/1.0.0"),
        format!("/CommunityGalleries/{gallery}/Images/api/Versions/1.0.0"),
    ] {
        let shown = reported(&case, folder.path(), &["images", "show", &id]);
        assert_eq!(shown["subscriptionId"], SUBSCRIPTION, "{shown}");
        assert_eq!(shown["version"], "1.0.0");
    }
}

fn a_locked_version_is_kept_and_the_others_are_deleted() {
    let case = Case::start("retire-locked-version");
    let folder = tempfile::tempdir().unwrap();
    let (goes, file) = planned(&case, folder.path(), "1");
    assert_eq!(goes, ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"]);
    for (done, before) in [(4, 0), (0, 4)] {
        let apply = ["gallery", "retire", "--apply", &file, "-o", "json"];
        let (code, stdout, stderr) = finish(&mut case.azimg(&apply));
        assert_eq!(code, 3, "{stderr}");
        let ended: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&ended["done"], &ended["doneBefore"]), (&json!(done), &json!(before)));
        let left = ended["left"].as_array().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(last(&left[0]["id"]), "1.1.0");
        assert!(left[0]["reason"].as_str().unwrap().contains("ScopeLocked"), "{left:?}");
        assert!(stderr.contains("1.1.0") && stderr.contains("ScopeLocked"), "{stderr}");
        assert_eq!(versions(&case), ["1.1.0", "1.5.0"]);
    }
}

fn a_version_whose_deletion_is_blocked_is_not_planned() {
    let mut tenant = Case::start("retire-locked-version").tenant();
    for (at, end) in
        [(0, None), (1, Some("2999-01-01T00:00:00Z")), (2, Some("2025-01-01T00:00:00Z"))]
    {
        let version = &mut tenant["versions"][at]["properties"];
        version["safetyProfile"] = json!({"blockDeletionBeforeEndOfLife": true});
        if let Some(end) = end {
            version["publishingProfile"]["endOfLifeDate"] = end.into();
        }
    }
    let case = Case::serve(tenant);
    let folder = tempfile::tempdir().unwrap();
    let (goes, file) = planned(&case, folder.path(), "1");
    assert_eq!(goes, ["1.2.0", "1.3.0", "1.4.0"]);
    let plan: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let kept = plan["definitions"][0]["kept"].as_array().unwrap();
    let reason = |version: &str| {
        let kept = kept.iter().find(|one| last(&one["id"]) == version).unwrap();
        kept["reason"].as_str().unwrap()
    };
    let blocked = "its deletion is blocked before its end of life";
    assert_eq!(reason("1.0.0"), format!("{blocked}, and it has no end of life"));
    assert_eq!(reason("1.1.0"), format!("{blocked}, which is 2999-01-01"));
}

fn failed_versions_do_not_count_among_the_newest_kept() {
    let case = Case::start("retire-failed-newest");
    let folder = tempfile::tempdir().unwrap();
    let (goes, _) = planned(&case, folder.path(), "2");
    assert_eq!(goes, ["2026.01.1", "2026.04.1", "2026.05.1", "2026.06.1"]);
}

fn two_updates_at_once_leave_both_regions() {
    for tag in [None, Some("1")] {
        let mut tenant = Case::start("update-two-at-once").tenant();
        tenant["locations"] = json!(["eastus", "westus2", "japaneast", "brazilsouth"]);
        // Both have read the version before either changes it.
        tenant["patchTogether"] = 2.into();
        if let Some(tag) = tag {
            tenant["versions"][0]["etag"] = tag.into();
        }
        let case = Case::serve(tenant);
        let ended = std::thread::scope(|scope| {
            let both = ["japaneast", "brazilsouth"].map(|region| {
                let line =
                    ["gallery", "update", "prod/win/17763.1697.210113", "--add-region", region];
                let mut command = case.azimg(&line);
                scope.spawn(move || finish(&mut command))
            });
            both.map(|one| one.join().unwrap())
        });
        for (code, _, stderr) in &ended {
            assert_eq!(*code, 0, "{stderr}");
        }
        let tenant = case.tenant();
        let regions = &tenant["versions"][0]["properties"]["publishingProfile"]["targetRegions"];
        let regions = regions.as_array().unwrap();
        let names: BTreeSet<&str> =
            regions.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, BTreeSet::from(["East US", "West US 2", "brazilsouth", "japaneast"]));
        assert!(regions.iter().any(|one| one["encryption"].is_object()));
        // Somebody was overtaken, and says so.
        let says =
            |(_, _, stderr): &(i32, String, String)| stderr.contains("on top of the current state");
        assert!(ended.iter().any(says), "{ended:?}");
    }
}

/// Azure says that it is done, and it is not.
fn an_update_that_has_no_effect_is_an_error() {
    let mut tenant = Case::start("update-safety").tenant();
    tenant["errors"] = json!([{"match": "^PATCH", "status": 200, "body": {}}]);
    let case = Case::serve(tenant);
    let line = ["gallery", "update", "prod/win/17763.1697.210113", "--exclude-from-latest", "true"];
    let (code, _, stderr) = finish(&mut case.azimg(&line));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("does not have the requested state"), "{stderr}");
}

fn removing_a_region_that_the_safety_profile_blocks_is_an_error() {
    let case = Case::start("update-safety");
    let line = ["gallery", "update", "prod/win/17763.1697.210113", "--remove-region", "eastus"];
    let (code, _, stderr) = finish(&mut case.azimg(&line));
    assert_eq!(code, 1, "{stderr}");
    let option = "--allow-replicated-location-deletion";
    assert!(stderr.contains("eastus") && stderr.contains(option), "{stderr}");
    let flags = [option, "true", "--block-deletion-before-end-of-life", "true", "-o", "json"];
    // The latest is the same one.
    let line = ["gallery", "update", "prod/win/latest", "--remove-region", "eastus"];
    let changed = json(&mut case.azimg(&[&line[..], &flags].concat()));
    let safety = &changed["properties"]["safetyProfile"];
    assert_eq!(safety["allowDeletionOfReplicatedLocations"], true);
    assert_eq!(safety["blockDeletionBeforeEndOfLife"], true);
    let regions = &changed["properties"]["publishingProfile"]["targetRegions"];
    assert_eq!(regions.as_array().unwrap().len(), 1);
}

fn latest_of_galleries_by_region_filters_and_pasted_references() {
    let mut tenant = Case::start("gallery-latest").tenant();
    let regional = |version: &Value| version["id"].as_str().unwrap().contains("/regional/");
    for version in tenant["versions"].as_array_mut().unwrap().iter_mut().filter(|v| regional(v)) {
        let number = last(&version["id"]).to_owned();
        version["tags"] = json!({"Env": if number == "1.0.0" { "prod" } else { "test" }});
    }
    let replicating = |version: &&mut Value| version["replicationStatus"].is_object();
    for version in tenant["versions"].as_array_mut().unwrap().iter_mut().filter(replicating) {
        version["replicationStatus"]["summary"][1]["state"] = "Failed".into();
    }
    let case = Case::serve(tenant);
    let folder = tempfile::tempdir().unwrap();
    crawl(&case, folder.path(), &["--source", "gallery"]);
    let latest = |line: &[&str]| {
        let rows = reported(&case, folder.path(), &[&["images", "latest"], line].concat());
        rows[0]["version"].as_str().unwrap().to_owned()
    };
    assert_eq!(latest(&["prod/ubuntu2004"]), "1.0.12");
    let containerd = "prod/2404gen2containerd";
    assert_eq!(latest(&[containerd, "--location", "westus2"]), "1.1776640000.1");
    assert_eq!(latest(&[containerd, "--location", "eastus"]), "1.1776726423.26642");
    let regional = "prod/regional";
    assert_eq!(latest(&[regional, "--location", "eastus"]), "1.0.0");
    assert_eq!(latest(&[regional, "--location", "northeurope"]), "2.0.0");
    assert_eq!(latest(&[regional, "--location", "eastus", "--location", "northeurope"]), "1.0.0");
    assert_eq!(latest(&[regional, "--tag", "env=prod"]), "1.0.0");
    assert_eq!(latest(&[regional, "--tag", "Env"]), latest(&[regional]));
    let id = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/prod/images/\
         ubuntu2004/versions/latest"
    );
    for pasted in [id.as_str(), "prod/ubuntu2004/latest"] {
        assert_eq!(latest(&[pasted]), "1.0.12");
        let shown = reported(&case, folder.path(), &["gallery", "show", pasted]);
        assert_eq!(shown["version"], "1.0.12");
    }
    assert_eq!(reported(&case, folder.path(), &["images", "show", &id])["version"], "1.0.12");
    let store = folder.path().to_str().unwrap();
    let refused = |line: &[&str]| {
        let (code, _, stderr) = finish(&mut case.azimg(&[line, &["--store", store]].concat()));
        assert_eq!(code, 4, "{stderr}");
        stderr
    };
    assert!(refused(&["images", "latest", "prod/nothing"]).contains("none of the 0 versions"));
    let tagged = ["images", "latest", regional, "--tag", "Env=nothing"];
    assert!(refused(&tagged).contains("excluded by the filters"));
    let host =
        crate::support::web::Host::of(&mut case.azimg(&["host", "--port", "0", "--store", store]));
    let tagged = get(&host, "images/latest?urn=prod/regional/latest&tag=Env%3Dprod");
    assert_eq!((tagged.0, &tagged.1["version"]), (200, &json!("1.0.0")));
    let pasted = get(&host, &format!("images{id}"));
    assert_eq!((pasted.0, &pasted.1["version"]), (200, &json!("1.0.12")));
    let pasted = get(&host, &format!("images?id={id}"));
    assert_eq!((pasted.0, &pasted.1["value"][0]["version"]), (200, &json!("1.0.12")));
    drop(host);
    // Lists take the same, and what failed in a region is not there.
    let listed = |line: &[&str]| -> Vec<String> {
        let rows = reported(&case, folder.path(), &[&["gallery", "versions"], line].concat());
        rows.as_array().unwrap().iter().map(|row| row["version"].as_str().unwrap().into()).collect()
    };
    assert_eq!(listed(&["--tag", "Env=prod"]), ["18110921.43.58", "1.0.0"]);
    assert!(listed(&["--tag", "Env=pro"]).is_empty());
    let containerd = ["--definition", "2404gen2containerd"];
    assert_eq!(listed(&containerd), ["1.1776640000.1", "1.1776726423.26642"]);
    assert_eq!(listed(&[&containerd[..], &["--location", "westus2"]].concat()), ["1.1776640000.1"]);
}

fn a_version_is_found_number_by_number() {
    let (case, folder) = crawled("gallery-leading-zero");
    let latest = reported(&case, folder.path(), &["images", "latest", "agents/ubuntu"]);
    assert_eq!(latest[0]["version"], "21.10.01");
    let rows = usage(&case, folder.path());
    assert_eq!(rows[0]["finding"], "not-latest");
    assert_eq!(last(&rows[0]["moveTo"]), "21.10.01");
    let (goes, _) = planned(&case, folder.path(), "1");
    assert_eq!(goes, ["21.9.30"], "a machine stands on 21.2.17, which is 21.02.17");
}

fn shared_images_have_a_latest_version_by_region() {
    let (case, folder) = crawled("shared-gallery-region");
    let id = "/SharedGalleries/99999999-9999-4999-8999-999999999999-PARTNER/Images/golden";
    let latest = |at: &[&str]| {
        let line = [&["images", "latest", id][..], at].concat();
        reported(&case, folder.path(), &line)[0]["version"].as_str().unwrap().to_owned()
    };
    let (asia, us) = (["--location", "southeastasia"], ["--location", "eastus"]);
    assert_eq!(latest(&asia), "1.1.0");
    assert_eq!(latest(&us), "1.2.0");
    assert_eq!(latest(&[asia, us].concat()), "1.1.0");
    let rows = usage(&case, folder.path());
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(of("vm-p")["finding"], "current");
    assert_eq!(of("vm-q")["finding"], "ahead");
    assert!(of("vm-q")["moveTo"].is_null());
}

fn the_newest_managed_image_of_a_pattern_is_found() {
    let (case, folder) = crawled("managed-newest");
    let newest = |more: &[&str]| {
        let line = [&["images", "latest", "myapp-*"][..], more].concat();
        reported(&case, folder.path(), &line)[0]["definition"].as_str().unwrap().to_owned()
    };
    assert_eq!(newest(&[]), "myapp-2017-11-20T080024");
    assert_eq!(newest(&["--tag", "RELEASE_STATUS=GA"]), "myapp-2017-11-17T013212");
    let store = folder.path().to_str().unwrap();
    let none = ["images", "latest", "other-*", "--store", store];
    let (code, _, stderr) = finish(&mut case.azimg(&none));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("other-*"), "{stderr}");
}

fn a_machine_on_an_attached_disk_has_the_image_of_its_disk() {
    let compute =
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute");
    let machine = |name: &str| {
        json!({"id": format!("{compute}/virtualMachines/{name}"), "name": name, "location": "eastus",
            "type": "microsoft.compute/virtualmachines", "image": null, "disk": format!("{compute}/disks/{name}-OS")})
    };
    let disk =
        |name: &str, made: Value| json!({"id": format!("{compute}/disks/{name}-os"), "made": made});
    let version = "/Subscriptions/x/Providers/Microsoft.Compute/Locations/eastus/Publishers/P/ArtifactTypes/VMImage/\
                   Offers/o/Skus/s/Versions/1.0.0";
    let own = format!("{compute}/galleries/g/images/d/versions/1.0.0");
    let case = Case::serve(json!({"locations": ["eastus"],
        "marketplace": {"eastus": {"p": {"o": {"s": ["1.0.0", "2.0.0"]}}}},
        "galleries": [{"id": format!("{compute}/galleries/g"), "location": "eastus", "properties": {}}],
        "machines": [machine("market"), machine("own"), machine("empty"), machine("unseen")],
        "disks": [disk("market", json!({"createOption": "FromImage", "imageReference": {"id": version}})),
            disk("own", json!({"createOption": "FromImage", "galleryImageReference": {"id": own}})),
            disk("empty", json!({"createOption": "Empty"}))]}));
    let folder = tempfile::tempdir().unwrap();
    crawl(&case, folder.path(), &[]);
    let rows = usage(&case, folder.path());
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    let market = of("market");
    assert_eq!(market["finding"], "not-latest");
    assert_eq!((&market["image"], &market["version"]), (&json!("P:o:s"), &json!("1.0.0")));
    assert_eq!(market["moveTo"], "p:o:s:2.0.0");
    let pasted = reported(&case, folder.path(), &["images", "show", "P:o:s:latest"]);
    assert_eq!(pasted["id"], "p:o:s:2.0.0");
    assert_eq!(market["reason"], "its disk was created from this image");
    assert_eq!(of("own")["finding"], "gone");
    assert_eq!(of("own")["imageKind"], "gallery-version");
    for name in ["empty", "unseen"] {
        assert_eq!(of(name)["finding"], "unknown");
        assert!(of(name)["image"].is_null());
    }
}

fn a_bad_response_of_azure_is_not_reported_as_wrong_usage() {
    let body =
        json!({"error": {"code": "InvalidWhatever", "message": "The request is odd today."}});
    let case = Case::serve(json!({"locations": ["eastus"], "marketplace": {"eastus": {}},
        "errors": [{"match": "^POST .*virtualmachines", "status": 400, "body": body}]}));
    let folder = tempfile::tempdir().unwrap();
    crawl(&case, folder.path(), &[]);
    let store = folder.path().to_str().unwrap();
    let (code, _, stderr) = finish(&mut case.azimg(&["images", "usage", "--store", store]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("InvalidWhatever The request is odd today."), "{stderr}");
    let host =
        crate::support::web::Host::of(&mut case.azimg(&["host", "--port", "0", "--store", store]));
    let (status, body) = get(&host, "images/usage");
    assert_eq!((status, &body["error"]["code"]), (502, &json!("BadGateway")));
    let said = body["error"]["message"].as_str().unwrap();
    assert!(said.contains("InvalidWhatever The request is odd today."), "{said}");
}
