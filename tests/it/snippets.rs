//! Images in the languages that deploy them: what each form says, and that no name leaves its
//! literal.

use crate::support::lists::{asks, command, get, rows, text};
use crate::support::needs::{Need, folder};
use crate::support::strangers::texts;
use crate::support::{cache, finish, root};
use crate::tests;
use azimg::testing::reference::snippets::{FORMS, Snippets, snippets};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

tests![
    each_kind_of_image_has_the_forms_that_can_deploy_it,
    a_plan_stands_in_every_form,
    the_command_line_and_http_have_the_same_forms,
    readers_of_each_language_accept_what_it_says needs [Languages],
];

/// What all rows have.
fn row(kind: &str, id: &str, more: &Value) -> Value {
    let mut row = json!({
        "kind": kind, "id": id, "status": "active", "isLatest": true, "stale": false,
        "observedAt": "2026-01-01T00:00:00Z", "observedRun": "01KX0000000000000000000000",
        "firstSeenAt": "2026-01-01T00:00:00Z", "features": {}, "locations": ["eastus"],
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

fn marketplace(names: [&str; 4], more: &Value) -> Value {
    let [publisher, offer, sku, version] = names;
    let mut own = json!({"publisher": publisher, "offer": offer, "sku": sku, "version": version,
        "detailsFrom": "this", "os": "Linux", "architecture": "x64", "hyperVGeneration": "V2"});
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row("marketplace", &names.join(":"), &own)
}

fn gallery(kind: &str, id: &str, more: &Value) -> Value {
    let mut own = json!({"publicNames": [], "definition": "base", "os": "Linux",
        "osState": "Generalized", "excludedLocations": [], "replicas": {}, "replication": {},
        "storageTypes": {}, "excludeFromLatest": false, "disallowedDiskTypes": [], "tags": {}});
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row(kind, id, &own)
}

fn manifest(names: [&str; 2], more: &Value) -> Value {
    let [server, repository] = names;
    let digest = format!("sha256:{}", "0f".repeat(32));
    let mut own = json!({"loginServer": server, "repository": repository, "digest": digest,
        "tags": ["1.2", "latest"], "referrers": {}, "platforms": ["linux/amd64"], "manifests": [],
        "annotations": {}, "labels": {}, "layers": {}, "findings": {}, "isContentKnown": true});
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row("container-manifest", &format!("{server}/{repository}@{digest}"), &own)
}

const IN_GALLERY: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/images\
                          /providers/Microsoft.Compute/galleries/prod/images/base/versions/1.2.3";
const MANAGED: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/images\
                       /providers/Microsoft.Compute/images/golden";

fn plan(names: [&str; 3]) -> Value {
    json!({"planPublisher": names[0], "planProduct": names[1], "planName": names[2]})
}

/// Images with ordinary names: of each kind, and with each property that changes what is written.
fn ordinary() -> Vec<(&'static str, Value)> {
    let urn = ["Canonical", "ubuntu-24_04-lts", "server", "24.04.202610200"];
    let definition = IN_GALLERY.split("/versions").next().unwrap();
    vec![
        ("linux", marketplace(urn, &json!({}))),
        ("windows", marketplace(urn, &json!({"os": "Windows"}))),
        ("arm64", marketplace(urn, &json!({"architecture": "Arm64"}))),
        ("with-plan", marketplace(urn, &plan(["canonical", "0001-com", "pro"]))),
        ("version", gallery("gallery-version", IN_GALLERY, &plan(["a", "b", "c"]))),
        ("windows-version", gallery("gallery-version", IN_GALLERY, &json!({"os": "Windows"}))),
        ("specialized", gallery("gallery-version", IN_GALLERY, &json!({"osState": "Specialized"}))),
        ("definition", gallery("gallery-definition", definition, &json!({}))),
        ("managed", gallery("managed-image", MANAGED, &json!({}))),
        (
            "shared",
            gallery(
                "gallery-version",
                "/SharedGalleries/0001-PROD/Images/base/Versions/1.2.3",
                &json!({}),
            ),
        ),
        (
            "community",
            gallery(
                "gallery-version",
                "/CommunityGalleries/prod-0a1b/Images/base/Versions/1.2.3",
                &json!({}),
            ),
        ),
        ("container", manifest(["contoso.azurecr.io", "web/app"], &json!({}))),
        ("untagged", manifest(["localhost:5000", "app"], &json!({"tags": []}))),
        (
            "artifact",
            manifest(["contoso.azurecr.io", "sbom"], &json!({"artifactType": "application/spdx"})),
        ),
    ]
}

fn forms(all: &Snippets) -> Vec<&str> {
    all.value.iter().map(|snippet| snippet.form).collect()
}

fn form<'a>(all: &'a Snippets, name: &str) -> &'a str {
    let found = all.value.iter().find(|snippet| snippet.form == name);
    &found.unwrap_or_else(|| panic!("{name} is not among {:?}", forms(all))).text
}

fn each_kind_of_image_has_the_forms_that_can_deploy_it() {
    let machine = "az powershell bicep arm terraform packer ansible pulumi cluster-api";
    for (name, row) in ordinary() {
        let all = snippets(&row).unwrap();
        let wanted = match name {
            "specialized" => "az powershell bicep arm pulumi",
            "definition" => "az powershell bicep arm terraform packer ansible pulumi",
            "shared" => "az powershell bicep arm terraform packer pulumi",
            "community" => "az bicep arm terraform packer pulumi cluster-api",
            "container" | "untagged" => "docker kubernetes dockerfile",
            "artifact" => "oras",
            _ => machine,
        };
        assert_eq!(forms(&all).join(" "), wanted, "{name}");
        assert!(all.value.iter().all(|snippet| FORMS.names.contains(&snippet.form)));
        for snippet in &all.value {
            let lines = snippet.text.ends_with('\n') && !snippet.text.ends_with("\n\n");
            assert!(lines, "{name} {}: {:?}", snippet.form, snippet.text);
        }
    }
    let of = |name: &str| {
        let images = ordinary();
        let (_, row) = images.iter().find(|(other, _)| *other == name).unwrap();
        snippets(row).unwrap()
    };
    let reference = "image_publisher                   = \"Canonical\"";
    assert!(form(&of("linux"), "packer").contains(reference), "{}", form(&of("linux"), "packer"));
    assert!(form(&of("windows"), "terraform").contains("azurerm_windows_virtual_machine"));
    assert!(form(&of("arm64"), "az").contains("--size Standard_D2ps_v5"));
    assert!(form(&of("community"), "bicep").contains("communityGalleryImageId: '/Comm"));
    assert!(form(&of("version"), "cluster-api").contains("gallery: prod\n"));
    assert!(form(&of("managed"), "packer").contains("custom_managed_image_name"));
    let digest = "0f".repeat(32);
    let from = format!("FROM contoso.azurecr.io/web/app:1.2@sha256:{digest}\n");
    assert_eq!(form(&of("container"), "dockerfile"), from);
    let pull = format!("docker pull localhost:5000/app@sha256:{digest}\n");
    assert_eq!(form(&of("untagged"), "docker"), pull);
}

/// A deployment without the plan is refused (`ResourcePurchaseValidationFailed`), and one before
/// its terms are accepted is, too (`MarketplacePurchaseEligibilityFailed`).
fn a_plan_stands_in_every_form() {
    let names = ["plan-publisher", "plan-product", "plan-name"];
    let urn = ["publisher", "offer", "sku", "1.0.0"];
    let all = snippets(&marketplace(urn, &plan(names))).unwrap();
    for snippet in all.value.iter().filter(|snippet| snippet.form != "cluster-api") {
        let missing = names.iter().find(|name| !snippet.text.contains(*name));
        assert_eq!(missing, None, "{}: {}", snippet.form, snippet.text);
    }
    assert!(form(&all, "cluster-api").contains("thirdPartyImage: true"));
    let accept = "az vm image terms accept --urn publisher:offer:sku:1.0.0";
    assert!(all.notes.iter().any(|note| note.ends_with(accept)), "{:?}", all.notes);
    // What ends, and what is not known, is said.
    for (more, words) in [
        (
            json!({"status": "deprecated", "scheduledDeprecationAt": "2025-06-01T00:00:00Z"}),
            "was deprecated on 2025-06-01",
        ),
        (
            json!({"status": "scheduled", "scheduledDeprecationAt": "2027-06-01T00:00:00Z"}),
            "can be deployed until 2027-06-01",
        ),
        (json!({"status": "gone"}), "no longer listed"),
        (
            json!({"detailsFrom": null, "os": null}),
            "Whether the image has a purchase plan is not known",
        ),
        (json!({"os": null}), "The operating system is not known"),
        (json!({"architecture": null}), "The architecture is not known"),
        (json!({"detailsFrom": "sku"}), "those of another version of the SKU"),
        (json!({"planPublisher": "a", "planName": "b"}), "A part of the image's purchase plan"),
        (json!({"status": null}), "Whether the image can be deployed is not known"),
        (json!({"stale": true}), "it is as of 2026-01-01"),
    ] {
        let notes = snippets(&marketplace(urn, &more)).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains(words)), "{words}: {notes:?}");
    }
    // What is known needs no note. Azure deploys a gallery's image after its end of life.
    assert!(snippets(&marketplace(urn, &json!({}))).unwrap().notes.is_empty());
    let ended = json!({"architecture": "x64", "status": "end-of-life", "endOfLifeAt": "2025-06-01T00:00:00Z"});
    let notes = snippets(&gallery("gallery-version", IN_GALLERY, &ended)).unwrap().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].ends_with("for 2025-06-01; Azure deploys it all the same."), "{notes:?}");
}

fn the_command_line_and_http_have_the_same_forms() {
    for kind in ["marketplace", "gallery-version", "gallery-definition", "container-manifest"] {
        let id = text(&rows(&["images", "list", "--kind", kind])[0], "id");
        asks(|client, at| async move {
            let path = id.trim_start_matches('/').replace('#', "%23");
            let (status, all) = get(&client, &at(&format!("images/{path}/snippets"))).await;
            assert_eq!(status, 200, "{all}");
            assert!(!all["value"].as_array().unwrap().is_empty(), "{id}: {all}");
            for name in FORMS.names {
                let url = at(&format!("images/{path}/snippets?as={name}"));
                let (status, one) = get(&client, &url).await;
                let (code, stdout, stderr) =
                    finish(&mut command(&["images", "show", &id, "--as", name]));
                let known = all["value"].as_array().unwrap().iter();
                let Some(found) = known.clone().find(|snippet| snippet["as"] == *name) else {
                    assert_eq!((status, code), (404, 4), "{name}: {one} {stderr}");
                    assert!(stderr.contains("its forms are "), "{stderr}");
                    continue;
                };
                assert_eq!((status, code), (200, 0), "{name}: {one} {stderr}");
                assert_eq!(one["value"], json!([found]));
                assert_eq!(found["text"], stdout.as_str());
                for note in all["notes"].as_array().unwrap() {
                    assert!(stderr.contains(note.as_str().unwrap()), "{note} is not in {stderr}");
                }
            }
            let (status, error) =
                get(&client, &at(&format!("images/{path}/snippets?as=chef"))).await;
            assert_eq!((status, &error["error"]["target"]), (400, &json!("as")), "{error}");
        });
    }
    let (code, _, stderr) =
        finish(&mut command(&["images", "show", "Ubuntu2404", "--as", "teraform"]));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("'terraform'") || stderr.contains("terraform"), "{stderr}");
}

/// Writes all forms of an image.
fn write(folder: &Path, row: &Value, names: &[(String, String)]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("names.json"), json!(names).to_string()).unwrap();
    for snippet in snippets(row).unwrap().value {
        std::fs::write(folder.join(snippet.form), snippet.text).unwrap();
    }
}

/// What a language's own quotes, expressions and comments are made of.
const PIECES: [&str; 28] = [
    "'",
    "\"",
    "`",
    "${",
    "$${",
    "$$${",
    "%{",
    "%%{",
    "}",
    "{{ 7*7 }}",
    "{% raw %}",
    "{# ",
    "#{",
    "\\",
    "\\'",
    "\\${",
    "$(id)",
    "`id`",
    "\u{2019}",
    "\u{201d}",
    "<<EOF",
    "[x]",
    "-",
    " #",
    ": ",
    "\n- x",
    "'''",
    "*/",
];

/// Hostile texts: the pieces, alone and joined, and those of the corpus of strangers. NUL cannot
/// stand in a command, which is text of C.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> = PIECES.iter().map(|piece| format!("{piece}x")).collect();
    all.extend(PIECES.iter().map(|piece| format!("x{piece}")));
    let joined =
        |(at, first): (usize, &&str)| format!("{first}{}y", PIECES[(at * 11 + 5) % PIECES.len()]);
    all.extend(PIECES.iter().enumerate().map(joined));
    all.push("[concat('x')]".to_owned());
    all.extend(texts(23, 60).into_iter().filter(|text| text.len() < 2_000));
    all.into_iter().map(|text| text.replace('\0', "")).collect()
}

fn readers_of_each_language_accept_what_it_says() {
    let python = folder(Need::Languages);
    let out = tempfile::tempdir().unwrap();
    for (name, row) in ordinary() {
        write(&out.path().join(name), &row, &[]);
    }
    let placeholders = ["aN0z", "aN1z", "aN2z", "aN3z", "aN4z", "aN5z", "aN6z"];
    let with = |names: [&str; 7]| {
        let [publisher, offer, sku, version, plan @ ..] = names;
        marketplace([publisher, offer, sku, version], &self::plan(plan))
    };
    write(&out.path().join("plain"), &with(placeholders), &[]);
    let in_gallery = |names: [&str; 7]| {
        let [group, gallery, definition, version, plan @ ..] = names;
        let id = format!(
            "/subscriptions/s/resourceGroups/{group}/providers/Microsoft.Compute/galleries/\
             {gallery}/images/{definition}/versions/{version}"
        );
        self::gallery("gallery-version", &id, &self::plan(plan))
    };
    write(&out.path().join("plain-gallery"), &in_gallery(placeholders), &[]);
    let texts = hostile();
    for (at, _) in texts.iter().enumerate() {
        let names = std::array::from_fn(|place| texts[(at + place * 13) % texts.len()].as_str());
        let pairs: Vec<_> = std::iter::zip(placeholders, names)
            .map(|(placeholder, text)| (placeholder.to_owned(), text.to_owned()))
            .collect();
        write(&out.path().join(format!("hostile-{at}")), &with(names), &pairs);
        // A name in an id cannot contain the slash that ends it. A few are enough here: what
        // writes a text is the same.
        if at % 5 == 0 && names.iter().all(|name| !name.is_empty() && !name.contains('/')) {
            let name = format!("hostile-{at}-gallery");
            write(&out.path().join(name), &in_gallery(names), &pairs);
        }
    }
    let mut check = Command::new(python.join("python"));
    check.arg(root().join("tests/it/snippets.py")).arg(out.path()).arg(cache("languages"));
    check.arg(cache("packer").join("root/usr/bin/packer")).arg(python.join("ansible-playbook"));
    let (code, stdout, stderr) = finish(&mut check);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let written = (texts.len() + 1) * 9;
    assert!(stdout.ends_with(", 0 wrong\n"), "{stdout}");
    let read: usize = stdout.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(read > written, "{stdout}");
}
