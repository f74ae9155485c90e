//! Recorded traffic: every body of galleries gives the row that it should, and regions have their names.

use crate::support::recorded::{all, form};
use crate::support::replay::{exchanges, recordings};
use crate::tests;
use azimg::testing::catalog::region;
use azimg::testing::image::gallery::{GalleryImage, Kind};
use azimg::testing::source::gallery::parse::{self, Resource};
use azimg::testing::source::locations::short_name;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

tests![
    every_recorded_body_gives_its_row needs [Recordings],
    regions_have_the_recorded_names_and_geographies needs [Recordings],
];

/// The things in a body: one, or a page of them.
fn things(body: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(body).unwrap();
    value["value"].as_array().cloned().unwrap_or_else(|| vec![value])
}

fn time(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn check_definition(row: &GalleryImage, said: &Value) {
    let properties = &said["properties"];
    assert_eq!(row.kind, Kind::GalleryDefinition);
    assert_eq!(row.definition, said["name"].as_str().unwrap());
    for (found, wanted) in [
        (&row.os, "osType"),
        (&row.os_state, "osState"),
        (&row.hyper_v_generation, "hyperVGeneration"),
        (&row.architecture, "architecture"),
        (&row.provisioning_state, "provisioningState"),
        (&row.description, "description"),
        (&row.release_notes_uri, "releaseNoteUri"),
    ] {
        assert_eq!(*found, text(&properties[wanted]), "{wanted} of {said}");
    }
    for (found, wanted) in [(&row.publisher, "publisher"), (&row.offer, "offer"), (&row.sku, "sku")]
    {
        assert_eq!(*found, text(&properties["identifier"][wanted]), "{said}");
    }
    let bound = |name: &str, at: &str| {
        properties["recommended"][name][at].as_u64().map(|n| u32::try_from(n).unwrap())
    };
    assert_eq!((row.min_vcpus, row.max_vcpus), (bound("vCPUs", "min"), bound("vCPUs", "max")));
    assert_eq!((row.min_memory, row.max_memory), (bound("memory", "min"), bound("memory", "max")));
    assert_eq!(row.end_of_life_at, time(&properties["endOfLifeDate"]));
    assert_eq!(row.features.len(), properties["features"].as_array().map_or(0, Vec::len));
}

fn check_version(row: &GalleryImage, said: &Value) {
    let properties = &said["properties"];
    let publishing = &properties["publishingProfile"];
    let of =
        |name: &str| if publishing.is_object() { &publishing[name] } else { &properties[name] };
    assert_eq!(row.kind, Kind::GalleryVersion);
    assert_eq!(row.version.as_deref(), said["name"].as_str());
    assert_eq!(row.published_at, time(of("publishedDate")), "{said}");
    assert!(row.published_at.is_some(), "every recorded version was published: {said}");
    assert_eq!(row.exclude_from_latest, of("excludeFromLatest").as_bool().unwrap_or_default());
    assert_eq!(row.end_of_life_at, time(of("endOfLifeDate")));
    assert_eq!(row.provisioning_state, text(&properties["provisioningState"]));
    if let Some(regions) = publishing["targetRegions"].as_array() {
        let names: BTreeSet<String> =
            regions.iter().map(|r| short_name(r["name"].as_str().unwrap())).collect();
        assert_eq!(row.locations, names.into_iter().collect::<Vec<_>>());
        for region in regions {
            let name = short_name(region["name"].as_str().unwrap());
            let count = region["regionalReplicaCount"].as_u64().unwrap_or(1);
            assert_eq!(u64::from(row.replicas[&name]), count);
        }
        assert_eq!(row.storage_type, text(&publishing["storageAccountType"]));
    }
    let storage = &properties["storageProfile"];
    let sources = [
        &storage["source"]["id"],
        &storage["source"]["virtualMachineId"],
        &storage["osDiskImage"]["source"]["id"],
        &storage["osDiskImage"]["source"]["uri"],
    ];
    if sources.into_iter().any(|source| text(source).is_some()) {
        assert!(row.source_id.is_some() && row.source_kind.is_some(), "{said}");
        assert_ne!(row.source_kind.as_deref(), Some("other"), "{said}");
    }
    let states = properties["replicationStatus"]["summary"].as_array();
    assert_eq!(row.replication.len(), states.map_or(0, Vec::len));
}

fn every_recorded_body_gives_its_row() {
    let folder = recordings();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for exchange in all(folder).iter().filter(|e| e.status / 100 == 2 && !e.body.is_empty()) {
        let form = form(&exchange.path);
        let what = if form.contains("capsoperations") || form.ends_with("/share") {
            continue;
        } else if form.ends_with("/versions") || form.ends_with("/versions/*") {
            "version"
        } else if form.contains("galleries")
            && (form.ends_with("/images") || form.ends_with("/images/*"))
        {
            "definition"
        } else if form.ends_with("/images") || form.ends_with("/images/*") {
            "managed image"
        } else {
            "gallery"
        };
        for said in things(&exchange.body) {
            let resource: Resource = serde_json::from_value(said.clone()).unwrap();
            *seen.entry(what).or_default() += 1;
            match what {
                "definition" => {
                    check_definition(&parse::definition("id".into(), &resource).unwrap(), &said);
                }
                "version" => {
                    let definition = GalleryImage::new(Kind::GalleryDefinition, "id");
                    check_version(&parse::version(&definition, &resource).unwrap(), &said);
                }
                "managed image" => {
                    let row = parse::managed(&resource).unwrap();
                    assert_eq!(row.id, said["id"].as_str().unwrap());
                    let disk = &said["properties"]["storageProfile"]["osDisk"];
                    assert_eq!(row.os, text(&disk["osType"]));
                    assert_eq!(row.locations, [short_name(said["location"].as_str().unwrap())]);
                    assert!(row.source_id.is_some(), "{said}");
                }
                _ if said["identifier"]["uniqueId"].is_string() => {
                    let id = said["identifier"]["uniqueId"].as_str().unwrap();
                    assert_eq!(parse::foreign_id(id.contains("Community"), &resource.name), id);
                }
                _ => {
                    let wanted = said["properties"]["sharingProfile"]["permissions"].as_str();
                    let wanted = wanted.unwrap_or("Private").to_lowercase();
                    assert_eq!(parse::sharing(&resource).unwrap().0, wanted);
                    let own = parse::own_gallery(&resource.id).unwrap();
                    assert_eq!(parse::gallery_id(&own), resource.id);
                }
            }
        }
    }
    println!("{seen:?}");
    assert!(seen["version"] >= 30 && seen["definition"] >= 30, "{seen:?}");
    assert!(seen["managed image"] >= 15 && seen["gallery"] >= 40, "{seen:?}");
}

/// Regions of Azure's own tests, where nobody deploys images: canaries, stages, and names that only
/// some lists have.
fn is_internal(name: &str) -> bool {
    let internal = ["euap", "stage", "stg", "slv", "brazilus"];
    internal.iter().any(|part| name.contains(part))
}

fn regions_have_the_recorded_names_and_geographies() {
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for exchange in exchanges(recordings(), "subscriptions.jsonl.gz") {
        let lists = exchange.path.ends_with("/locations") && exchange.status == 200;
        for place in if lists { things(&exchange.body) } else { Vec::new() } {
            let name = place["name"].as_str().unwrap();
            let data = &place["metadata"];
            let is_region = place["type"] == "Region" && data["regionType"] == "Physical";
            // A list of 2021 had Qatar in Europe.
            if !is_region || is_internal(name) || exchange.at.as_str() < "2023" {
                continue;
            }
            count += 1;
            let known = region(name).map(|known| json!([known.display_name, known.geography]));
            let recorded = json!([place["displayName"], data["geographyGroup"]]);
            if known.as_ref() != Some(&recorded) {
                wrong.insert(format!("{name}: {recorded}, not {known:?}"));
            }
        }
    }
    assert!(count > 50, "{count} regions are recorded");
    assert_eq!(wrong, BTreeSet::new());
}
