//! Recorded requests, each with the operation of the specifications that it is of.

use super::{Call, examples};
use crate::support::replay::Exchange;
use serde_json::Value;

/// The placeholder of a name by the part of a path that stands before it.
const PLACES: [(&str, &str); 16] = [
    ("subscriptions", "subscription"),
    ("resourcegroups", "group"),
    ("locations", "location"),
    ("galleries", "gallery"),
    ("images", "image"),
    ("versions", "version"),
    ("sharedgalleries", "shared"),
    ("communitygalleries", "community"),
    ("publishers", "publisher"),
    ("offers", "offer"),
    ("skus", "sku"),
    ("registries", "registry"),
    ("capsoperations", "operation"),
    ("operationstatuses", "id"),
    ("operationresults", "id"),
    ("edgezones", "zone"),
];

/// A recorded path (in lower case) with placeholders for its names.
fn template(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if let Some(path) = path.strip_prefix("https://") {
        return data_plane(path.split_once('/').map_or("", |(_, path)| path));
    }
    let parts: Vec<&str> = path.split('/').collect();
    let part = |at: usize| {
        let before = if at == 0 { "" } else { parts[at - 1] };
        let is_managed = before == "images" && parts[at - 2] == "microsoft.compute";
        let known = PLACES.iter().find(|(place, _)| *place == before);
        match known {
            Some(_) if is_managed => "{managed}".to_owned(),
            Some((_, name)) => format!("{{{name}}}"),
            None => parts[at].to_owned(),
        }
    };
    (0..parts.len()).map(part).collect::<Vec<_>>().join("/")
}

/// The same for what registries are asked; names of repositories have slashes.
fn data_plane(path: &str) -> String {
    let fixed = ["acr/v1/_catalog", "v2/_catalog", "v2/", "oauth2/exchange", "oauth2/token"];
    if fixed.contains(&path) {
        return path.to_owned();
    }
    let start = if path.starts_with("acr/v1/") { "acr/v1" } else { "v2" };
    for (part, name) in [
        ("/_tags/", "{tag}"),
        ("/_manifests/", "{digest}"),
        ("/manifests/", "{reference}"),
        ("/blobs/", "{digest}"),
    ] {
        if path.contains("/blobs/uploads/") {
            return format!("{start}/{{repository}}/blobs/uploads");
        }
        if path.contains(part) {
            return format!("{start}/{{repository}}{part}{name}");
        }
    }
    for part in ["/_tags", "/_manifests", "/tags/list"] {
        if path.ends_with(part) {
            return format!("{start}/{{repository}}{part}");
        }
    }
    format!("{start}/{{repository}}")
}

/// A recorded request; none where it only has a meaning in its own time (a page in the middle of a list).
pub(super) fn recorded(exchange: &Exchange) -> Option<Call> {
    let mut version = String::new();
    let mut query = Vec::new();
    for (name, value) in url::form_urlencoded::parse(exchange.query.as_bytes()) {
        match name.to_lowercase().as_str() {
            "api-version" => version = value.into_owned(),
            "$skiptoken" | "last" => return None,
            "t" | "c" | "s" | "h" | "_" | "monitor" | "n" => {}
            name => query.push(format!("{name}={value}").replace(' ', "%20")),
        }
    }
    query.sort();
    let is_refused = exchange.status == 401 && exchange.path.starts_with("https://");
    if exchange.status >= 300 && !is_refused {
        return None;
    }
    let path = template(&exchange.path);
    let mut body: Value = serde_json::from_str(&exchange.request).unwrap_or_default();
    if exchange.method == "GET" || exchange.method == "PUT" {
        body = Value::Null;
    }
    if let Some(subscriptions) = body.get_mut("subscriptions") {
        *subscriptions = serde_json::json!(["{subscription}"]);
    }
    let method = exchange.method.clone();
    let mut call = Call {
        model: None,
        version: if path.starts_with("acr/") { String::new() } else { version },
        answer: serde_json::from_str(&exchange.body).unwrap_or_default(),
        query: query.join("&"),
        status: vec![exchange.status],
        method,
        path,
        body,
    };
    call.model = examples().into_iter().find_map(|example| {
        let same = example.path.eq_ignore_ascii_case(&call.path) && example.method == call.method;
        example.model.filter(|_| same)
    });
    Some(call)
}
