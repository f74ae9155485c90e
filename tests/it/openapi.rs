//! The `OpenAPI` document: what holds of all of it, and that answers are what it says.

use crate::support::needs::{self, Need};
use crate::support::schema::Document;
use crate::support::web::Host;
use crate::support::{Azure, finish, json, python, threads};
use crate::tests;
use azimg::testing::image::{KINDS, Status};
use azimg::testing::sim::{OrganisationSize, Scale, generate};
use regex::Regex;
use reqwest::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

tests![
    times_are_date_times_and_closed_sets_are_enums,
    references_keys_and_servers_are_complete,
    each_answer_says_which_headers_it_has,
    each_row_matches_the_schema_of_its_kind_only,
    every_answer_is_what_the_document_says,
    clients_that_are_generated_read_each_image_as_what_it_is needs [Clients],
];

fn document() -> Document {
    Document(azimg::testing::web::openapi::document())
}

/// Every object below `value`, with the path to it.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            visit(path, value);
            for (name, member) in members {
                walk(member, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{number}"), visit);
            }
        }
        _ => {}
    }
}

/// Every property of a record, and every parameter: the path, the name, the schema.
fn named(document: &Document) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    walk(&document.0, "", &mut |path, value| {
        if let (Some(name), Some(_)) = (value["name"].as_str(), value["in"].as_str())
            && value.get("schema").is_some()
        {
            found.push((path.to_owned(), name.to_owned(), value["schema"].clone()));
        }
        let properties = value["properties"].as_object().filter(|_| value["type"] == "object");
        for (name, schema) in properties.into_iter().flatten() {
            found.push((path.to_owned(), name.clone(), schema.clone()));
        }
    });
    assert!(found.len() > 150);
    found
}

/// The names that a schema allows; none when it allows any.
fn names(document: &Document, schema: &Value) -> Option<BTreeSet<String>> {
    let schema = document.resolve(schema);
    let texts = |list: &Value| {
        let list = list.as_array()?.iter().filter_map(Value::as_str);
        Some(list.map(str::to_owned).collect())
    };
    if let Some(name) = schema["const"].as_str() {
        return Some(BTreeSet::from([name.to_owned()]));
    }
    if schema["type"] == "array" {
        return names(document, &schema["items"]);
    }
    if let Some(choice) = schema["anyOf"].as_array() {
        let whole = choice.iter().filter(|one| one["type"] != "null");
        return whole
            .map(|one| names(document, one))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.into_iter().flatten().collect());
    }
    texts(&schema["enum"])
}

fn times_are_date_times_and_closed_sets_are_enums() {
    let document = document();
    let (mut moments, mut sets) = (0, BTreeMap::new());
    for (path, name, schema) in named(&document) {
        let is_moment = ["at", "since"].contains(&name.as_str())
            || name.ends_with("At")
            || name.ends_with("Since");
        if is_moment {
            assert_eq!(schema["format"], "date-time", "{path}: {name}");
            assert!(schema["type"] == "string" || schema["type"][0] == "string", "{path}: {name}");
            moments += 1;
        }
        let is_set = [
            "kind",
            "imageKind",
            "machineKind",
            "state",
            "status",
            "change",
            "finding",
            "details",
            "source",
            "sources",
        ];
        let is_filter = path.starts_with("/paths") && ["os", "architecture"].contains(&&*name);
        // Of a coverage, how many details are known; or a list of records.
        let is_record = |schema: &Value| document.resolve(schema)["type"] == "object";
        let counts = is_record(&schema) || is_record(&document.resolve(&schema)["items"]);
        // What may be suggested is not only images.
        let counts = counts || path.ends_with("/Suggestion");
        if (is_set.contains(&&*name) || is_filter) && !counts {
            let names = names(&document, &schema);
            let names = names.unwrap_or_else(|| panic!("{path}: {name} may be anything: {schema}"));
            assert!(!names.is_empty(), "{path}: {name}");
            sets.entry(name).or_insert_with(BTreeSet::new).extend(names);
        }
    }
    assert!(moments >= 18, "{moments}");
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(sets["kind"], set(&KINDS));
    assert_eq!(sets["status"], set(&Status::NAMES));
    assert_eq!(sets["details"], set(&["none", "latest", "all"]));
    for name in ["running", "complete", "partial", "failed", "carried"] {
        assert!(sets["state"].contains(name), "{name}");
    }
    assert!(sets["os"].contains("Windows") && sets["architecture"].contains("Arm64"));
}

fn references_keys_and_servers_are_complete() {
    let document = document();
    walk(&document.0, "", &mut |_, value| {
        document.resolve(value);
    });
    assert_eq!(document.0["servers"][0]["url"], "/");
    let schemes = document.0["components"]["securitySchemes"].as_object().unwrap();
    let asked: BTreeSet<&String> = document.0["security"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one.as_object().unwrap().keys())
        .collect();
    assert_eq!(asked, schemes.keys().collect());
    let at = |name: &str| {
        let scheme = &schemes[name];
        [&scheme["type"], &scheme["in"], &scheme["name"]].map(|text| text.as_str().unwrap())
    };
    assert_eq!(at("keyInHeader"), ["apiKey", "header", "x-functions-key"]);
    assert_eq!(at("keyInQuery"), ["apiKey", "query", "code"]);
    let mut ids = BTreeSet::new();
    for operations in document.0["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
        }
    }
    // The choice between tables: by all kinds, each of which its table has.
    let image = document.schema("Image");
    assert_eq!(image["discriminator"]["propertyName"], "kind");
    let mapping = image["discriminator"]["mapping"].as_object().unwrap();
    assert_eq!(mapping.keys().collect::<BTreeSet<_>>().len(), KINDS.len());
    let choice: BTreeSet<Option<&str>> =
        image["oneOf"].as_array().unwrap().iter().map(|one| one["$ref"].as_str()).collect();
    assert_eq!(choice, mapping.values().map(Value::as_str).collect());
    for (kind, table) in mapping {
        let table = document.resolve(&serde_json::json!({"$ref": table})).clone();
        let kinds = names(&document, &table["properties"]["kind"]).unwrap();
        assert!(kinds.contains(kind), "{kind} is none of {kinds:?}");
        assert!(table["required"].as_array().unwrap().contains(&"kind".into()), "{kind}");
    }
}

fn each_answer_says_which_headers_it_has() {
    let document = document();
    for (path, operations) in document.0["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let at = format!("{method} {path} {status}");
                let described = answer["headers"].as_object().unwrap_or_else(|| panic!("{at}"));
                let names: BTreeSet<&str> = described.keys().map(String::as_str).collect();
                let cached = operation["responses"].get("304").is_some();
                let mut expected = BTreeSet::from(["x-ms-request-id"]);
                match status.as_str() {
                    "200" | "304" if cached => {
                        expected.extend(["ETag", "Last-Modified", "Cache-Control"]);
                    }
                    "202" => expected.extend(["Location"]),
                    "405" => expected.extend(["x-ms-error-code", "Allow"]),
                    "429" | "503" => expected.extend(["x-ms-error-code", "Retry-After"]),
                    "200" => {}
                    _ => expected.extend(["x-ms-error-code"]),
                }
                assert_eq!(names, expected, "{at}");
                for header in described.values() {
                    let header = document.resolve(header);
                    assert!(
                        header["schema"].is_object() && header["description"].is_string(),
                        "{at}"
                    );
                }
            }
        }
    }
}

/// A host of a store that has every kind of image, and its document.
fn stage(seed: u64) -> (Azure, tempfile::TempDir, Host, Document) {
    let world = generate(Scale::Small, seed).with_generated_organisation(
        OrganisationSize { machines: 30, ..OrganisationSize::FEW },
        seed,
    );
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, folder.path());
    (azure, folder, host, document())
}

async fn get(client: &Client, url: &str) -> (u16, Value, bool) {
    let answer = client.get(url).send().await.unwrap();
    let (status, tagged) = (answer.status().as_u16(), answer.headers().contains_key("etag"));
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{url}: {e}")), tagged)
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn each_row_matches_the_schema_of_its_kind_only() {
    let (_azure, _folder, host, document) = stage(81);
    let image = document.schema("Image");
    let mapping = image["discriminator"]["mapping"].as_object().unwrap();
    let show = &document.0["paths"]["/api/images/{urn}"]["get"]["parameters"][0]["schema"];
    let pattern = Regex::new(show["pattern"].as_str().unwrap()).unwrap();
    threads(async {
        let client = Client::new();
        for kind in KINDS {
            let url = format!("{}/images?kind={kind}&top=1000", host.address);
            let (status, page, _) = get(&client, &url).await;
            assert_eq!(status, 200);
            let rows = page["value"].as_array().unwrap();
            assert!(!rows.is_empty(), "there is no {kind}");
            for row in rows {
                assert_eq!(row["kind"], kind);
                for table in mapping.values().filter_map(Value::as_str).collect::<BTreeSet<_>>() {
                    let schema = serde_json::json!({"$ref": table});
                    let fits = document.fits(&schema, row);
                    assert_eq!(fits.is_ok(), mapping[kind] == table, "{table}: {fits:?}: {row}");
                }
                document.fits(image, row).unwrap();
                let id = row["id"].as_str().unwrap();
                assert!(pattern.is_match(id), "{id}");
            }
            let id = rows[0]["id"].as_str().unwrap();
            for url in [format!("images/{}", segment(id)), format!("images?id={}", segment(id))] {
                let (status, found, _) = get(&client, &format!("{}/{url}", host.address)).await;
                let found = found.get("value").map_or(&found, |list| &list[0]);
                assert_eq!((status, found), (200, &rows[0]), "{url}");
            }
        }
    });
}

fn every_answer_is_what_the_document_says() {
    let (_azure, _folder, host, document) = stage(82);
    threads(async {
        let client = host.caller();
        let (_, runs, _) = get(&client, &format!("{}/runs", host.address)).await;
        let run = runs["value"][0]["run"].as_str().unwrap();
        let (_, images, _) = get(&client, &format!("{}/images?top=1", host.address)).await;
        let id = images["value"][0]["id"].as_str().unwrap();
        for (path, operations) in document.0["paths"].as_object().unwrap() {
            let Some(operation) = operations.get("get") else { continue };
            let answers = &operation["responses"];
            let schema = |status: &str| &answers[status]["content"]["application/json"]["schema"];
            let route = path.replace("{urn}", id).replace("{run}", run);
            let route = route.strip_prefix("/api").unwrap();
            let query = if path.ends_with("latest") { "?urn=Ubuntu2404" } else { "?" };
            let url = format!("{}{route}{query}", host.address);
            let (status, answer, tagged) = get(&client, &url).await;
            assert_eq!(status, 200, "{url}: {answer}");
            document.fits(schema("200"), &answer).unwrap_or_else(|why| panic!("{url}: {why}"));
            // What cannot be had already is not said to be.
            assert_eq!(answers.get("304").is_some(), tagged, "{url}");
            let (status, answer, _) = get(&client, &format!("{url}&colour=red")).await;
            assert_eq!(status, 400, "{url}");
            document.fits(schema("400"), &answer).unwrap_or_else(|why| panic!("{url}: {why}"));
        }
        let start = format!("{}/runs", host.address);
        let answer = client.post(start).headers(host.starting()).body("{\"details\":\"none\"}");
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let started: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let answers = &document.0["paths"]["/api/runs"]["post"]["responses"];
        document.fits(&answers["202"]["content"]["application/json"]["schema"], &started).unwrap();
        // A run that is under way, or just was.
        let url = format!("{}/runs/{}", host.address, started["run"].as_str().unwrap());
        let (_, report, _) = get(&client, &url).await;
        document.fits(document.schema("RunReport"), &report).unwrap();
    });
}

/// A program of a peer in a folder.
fn program(path: &Path, folder: &Path) -> Command {
    let mut command = Command::new(path);
    let bin = path.parent().unwrap().to_owned();
    let paths = std::env::var_os("PATH").unwrap();
    let paths = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&paths)));
    command.current_dir(folder).env_clear().env("HOME", folder).env("PATH", paths.unwrap());
    command
}

/// What a client in Python reads of each kind.
const READS: &str = r#"
import datetime, sys
from azimg_client import Client
from azimg_client.api.default import list_images, list_runs
from azimg_client.models import ListImagesKindItem

client = Client(base_url=sys.argv[1])
for kind in ListImagesKindItem:
    rows = list_images.sync(client=client, kind=[kind], top=5, exact=True).value
    assert rows, kind
    assert all(isinstance(row.observed_at, datetime.datetime) for row in rows)
    print(kind.value, *sorted({type(row).__name__ for row in rows}))
assert list_runs.sync(client=client).value[0].state == "complete"
"#;

/// What a client in TypeScript may write, and what it may not.
const WRITES: &str = r#"
import type { components, operations } from "./types";
type Query = operations["listImages"]["parameters"]["query"];
export function place(image: components["schemas"]["Image"]): string {
  if (image.kind === "marketplace") return image.publisher;
  if (image.kind === "container-manifest") return image.digest;
  const gallery: string | null | undefined = image.gallery;
  if (image.kind === "gallery-version") return gallery + image.definition;
  // @ts-expect-error: a gallery's image has no digest
  return image.digest;
}
export const right: Query = { status: ["active"], kind: ["managed-image"], top: 5 };
// @ts-expect-error: there is no such status
export const wrong: Query = { status: ["actve"] };
"#;

fn clients_that_are_generated_read_each_image_as_what_it_is() {
    let (_azure, _store, host, document) = stage(83);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("openapi.json"), document.0.to_string()).unwrap();
    let run = |command: &mut Command| {
        let (code, stdout, stderr) = finish(command);
        assert_eq!(code, 0, "{command:?}\n{stdout}\n{stderr}");
        stdout
    };
    let bin = python::clients().unwrap();
    std::fs::write(folder.join("plain.yml"), "post_hooks: []\n").unwrap();
    run(program(&bin.join("openapi-python-client"), folder)
        .args(["generate", "--path", "openapi.json", "--config", "plain.yml", "--meta", "none"])
        .args(["--output-path", "azimg_client", "--fail-on-warning"]));
    let origin = host.address.trim_end_matches("/api");
    let read = run(program(&bin.join("python"), folder).args(["-c", READS, origin]));
    let read: BTreeSet<&str> = read.lines().collect();
    let expected = [
        "container-manifest RegistryImage",
        "gallery-definition GalleryImage",
        "gallery-version GalleryImage",
        "managed-image GalleryImage",
        "marketplace MarketplaceImage",
    ];
    assert_eq!(read, BTreeSet::from(expected));

    let bin = needs::folder(Need::Clients).join("node_modules/.bin");
    run(program(&bin.join("openapi-typescript"), folder).args(["openapi.json", "-o", "types.ts"]));
    std::fs::write(folder.join("use.ts"), WRITES).unwrap();
    run(program(&bin.join("tsc"), folder).args(["--strict", "--noEmit", "use.ts"]));
}
