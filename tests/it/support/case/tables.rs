//! Lists of one tenant: the marketplace, galleries, and queries of Resource Graph.

use super::{Reply, all, id, named, refused, reply, shown};
use serde_json::{Value, json};

/// The galleries shared with the caller in one location.
pub(super) fn shared(galleries: &Value, rest: &[&str]) -> Reply {
    let list = |all: &Value| reply(json!({"value": all.as_array().cloned().unwrap_or_default()}));
    match rest {
        [] => {
            let names = galleries.as_object().into_iter().flat_map(|all| all.keys());
            let row = |name| {
                json!({"name": name, "location": "x", "properties": {},
                                    "identifier": {"uniqueId": format!("/SharedGalleries/{name}")}})
            };
            reply(json!({"value": names.map(row).collect::<Vec<_>>()}))
        }
        [gallery, "images"] => match named(galleries, gallery) {
            Some(gallery) => list(&gallery["definitions"]),
            None => refused("GalleryNotFound"),
        },
        [gallery, "images", definition, "versions"] => match named(galleries, gallery) {
            Some(gallery) => list(named(&gallery["versions"], definition).unwrap_or(&Value::Null)),
            None => refused("GalleryNotFound"),
        },
        _ => refused("NotFound"),
    }
}

pub(super) fn marketplace(publishers: &Value, rest: &[&str]) -> Reply {
    let names = |tree: Option<&Value>| match tree.and_then(Value::as_object) {
        Some(tree) => {
            let names: Vec<Value> = tree.keys().map(|name| json!({"name": name})).collect();
            reply(names.into())
        }
        None => refused("NotFound"),
    };
    let at = |path: &[&str]| path.iter().try_fold(publishers, |tree, name| named(tree, name));
    match rest {
        [] => names(Some(publishers)),
        [publisher, "artifacttypes", "vmimage", "offers"] => names(at(&[publisher])),
        [publisher, _, _, _, offer, "skus"] => names(at(&[publisher, offer])),
        [publisher, _, _, _, offer, _, sku, "versions", version @ ..] => {
            let Some(versions) = at(&[publisher, offer, sku]).and_then(Value::as_array) else {
                return refused("NotFound");
            };
            let active = json!({"imageDeprecationStatus": {"imageState": "Active"}});
            let listed = |version: &Value| match version.as_str() {
                Some(name) => json!({"name": name, "properties": active}),
                None => version.clone(),
            };
            match version {
                [] => reply(versions.iter().map(listed).collect::<Vec<_>>().into()),
                [name, ..] => {
                    let found = versions.iter().map(listed).find(|one| one["name"] == *name);
                    let linux = json!({"osDiskImage": {"operatingSystem": "Linux"},
                                       "hyperVGeneration": "V2", "architecture": "x64"});
                    match found {
                        Some(one) if one["image"].is_object() => {
                            reply(json!({"name": name, "properties": one["image"]}))
                        }
                        Some(_) => reply(json!({"name": name, "properties": linux})),
                        None => refused("ImageNotFound"),
                    }
                }
            }
        }
        _ => refused("NotFound"),
    }
}

pub(super) fn gallery(tenant: &Value, path: &str, rest: &[&str], query: &str) -> Reply {
    let kinds = ["galleries", "definitions", "versions"];
    let mut everything = kinds.iter().flat_map(|kind| all(tenant, kind));
    if let Some(found) = everything.find(|one| id(one) == path) {
        let mut one = shown(found);
        if query.to_lowercase().contains("replicationstatus")
            && !found["replicationStatus"].is_null()
        {
            one["properties"]["replicationStatus"] = found["replicationStatus"].clone();
        }
        return reply(one);
    }
    let pool = match rest {
        ["images"] => all(tenant, "definitions"),
        ["images", _, "versions"] => all(tenant, "versions"),
        _ => return refused("ResourceNotFound"),
    };
    let is_below = |one: &&Value| id(one).rsplit_once('/').is_some_and(|(head, _)| head == path);
    reply(json!({"value": pool.iter().filter(is_below).map(shown).collect::<Vec<_>>()}))
}

/// Resource Graph, for the queries used by the crawl and the machines of such a tenant.
pub(super) fn graph(tenant: &Value, question: &Value) -> Reply {
    let query = question["query"].as_str().unwrap().to_lowercase();
    let quoted = |head: &str| {
        let (_, rest) = query.split_once(head)?;
        rest.split('\'').nth(1).map(str::to_owned)
    };
    let typed = |kind: &str, one: &Value| {
        let mut row = shown(one);
        row["type"] = kind.into();
        row
    };
    let mut rows: Vec<Value> = if query.starts_with("communitygalleryresources") {
        let place = quoted("location =~");
        let wants_images = query.contains("/images");
        let rows = all(tenant, "community").iter().filter(|row| {
            let is_there = place.as_deref().is_none_or(|place| row["location"] == place);
            is_there
                && row["type"].as_str().unwrap().to_lowercase().contains("/images") == wants_images
        });
        rows.cloned().collect()
    } else if query.contains("'microsoft.compute/disks'") {
        let is_asked = |disk: &&Value| query.contains(&format!("'{}'", id(disk)));
        all(tenant, "disks").iter().filter(is_asked).cloned().collect()
    } else if query.contains("virtualmachines") {
        all(tenant, "machines").to_vec()
    } else if query.contains("galleries/images") {
        let head = quoted("id startswith").unwrap();
        let mut kinds = vec![("microsoft.compute/galleries/images", "definitions")];
        if query.contains("galleries/images/versions") {
            kinds.push(("microsoft.compute/galleries/images/versions", "versions"));
        }
        let of = |(kind, member)| all(tenant, member).iter().map(move |one| typed(kind, one));
        kinds.into_iter().flat_map(of).filter(|row| id(row).starts_with(&head)).collect()
    } else if query.contains("'microsoft.compute/galleries'") {
        all(tenant, "galleries").iter().map(shown).collect()
    } else {
        Vec::new()
    };
    rows.sort_by_key(id);
    if let Some(last) = quoted("strcmp(id,") {
        rows.retain(|row| id(row) > last);
    }
    let count = rows.len();
    reply(json!({"totalRecords": count, "count": count, "data": rows, "facets": [],
                       "resultTruncated": "false"}))
}
