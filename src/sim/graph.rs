//! The simulated Resource Graph: the forms of queries that azimg sends, and the recorded ones. It
//! is strict: it refuses a query of another form as Azure refuses one that it cannot parse.

use super::foreign::community_rows;
use super::ids::TENANT;
use super::organisation::Organisation;
use super::registries::SimRegistry;
use super::request::SimRequest;
use super::response::{SimResponse, error_response, json_response};
use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The step of a query that adds the image of a machine or scale set, as azimg sends it.
pub(super) const IMAGE: &str = "extend image = iff(type =~ \
    'microsoft.compute/virtualmachinescalesets', \
    properties.virtualMachineProfile.storageProfile.imageReference, \
    properties.storageProfile.imageReference)";

/// One step of a query.
#[derive(Debug)]
enum QueryStep {
    Types(Vec<String>),
    Location(String),
    IdStartsWith(String),
    Ids(Vec<String>),
    /// The id is greater than this one, as `strcmp` compares.
    IdAfter(String),
    /// The value at the path is the text.
    Equals(Vec<String>, String),
    /// The part of the id with this index is one of the texts.
    IdPart(usize, Vec<String>),
    Image,
    /// Columns: the name, and the path of the value.
    Project(Vec<(String, Vec<String>)>),
    Limit(usize),
}

/// Answers a query.
pub(super) fn serve(request: &SimRequest<'_>) -> SimResponse {
    if let Some(refused) = request.refusal(&[]) {
        return refused;
    }
    if request.method != Method::POST {
        return request.no_method();
    }
    if let Some(refused) = options_refused(&request.body).or_else(|| no_known_subscription(request))
    {
        return refused;
    }
    let query = request.body["query"].as_str().unwrap_or_default();
    let Some((table, steps)) = parse(query) else { return invalid(query) };
    let organisation = request.sim.organisation();
    let rows = match table.as_str() {
        "securityresources" => findings(request, &organisation),
        "resources" => resources(request, &organisation),
        "communitygalleryresources" => community_rows(&organisation, &request.sim.world.locations),
        _ => return invalid(query),
    };
    drop(organisation);
    let rows = apply(rows, &steps);
    page(request, rows, &steps)
}

/// The refusal of a query that cannot be parsed.
fn invalid(query: &str) -> SimResponse {
    refused(&json!([
        {"code": "InvalidQuery", "message": "Query is invalid. Please refer to the \
            documentation for the Azure Resource Graph service and fix the error before \
            retrying."},
        {"code": "ParserFailure", "message": "ParserFailure", "line": 1,
            "characterPositionInLine": query.len(), "token": "<EOF>", "expectedToken": "Ǐ"}]))
}

/// A refusal with these details.
fn refused(details: &Value) -> SimResponse {
    let body = json!({"error": {"code": "BadRequest",
        "message": "Please provide below info when asking for support: timestamp = \
                    2026-11-21T00:00:00.0000000Z, correlationId = \
                    00000000-0000-0000-0000-000000000000.",
        "details": details}});
    json_response(StatusCode::BAD_REQUEST, &body)
}

/// Refuses invalid options, and options that would change the response and are not simulated.
fn options_refused(body: &Value) -> Option<SimResponse> {
    let invalid = |what: String| {
        let details = json!([{"code": "InvalidPayload", "message": what}]);
        Some(refused(&details))
    };
    // The limit of the service: Microsoft.ResourceGraph 2024-04-01, ResourcesQueryOptions.
    let is_top = |top: &Value| top.as_u64().is_some_and(|top| (1..=1_000).contains(&top));
    let options = &body["options"];
    if let Some(top) = options.get("$top").filter(|top| !is_top(top)) {
        return invalid(format!("$top {top} is not between 1 and 1000."));
    }
    let form = &options["resultFormat"];
    if !form.is_null() && form != "objectArray" {
        return invalid(format!("The result format {form} is not simulated."));
    }
    for (object, name) in [(body, "managementGroups"), (body, "facets"), (options, "$skip")] {
        let is_set = match &object[name] {
            Value::Null => false,
            Value::Array(all) => !all.is_empty(),
            Value::Number(number) => number.as_u64() != Some(0),
            _ => true,
        };
        if is_set {
            return invalid(format!("{name} is not simulated."));
        }
    }
    None
}

/// Refuses a list of subscriptions of which none exists (Azure/aztfexport#475).
fn no_known_subscription(request: &SimRequest<'_>) -> Option<SimResponse> {
    let given = request.body["subscriptions"].as_array()?;
    let given: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
    let known =
        |id: &&str| request.sim.subscriptions.iter().any(|ours| ours.eq_ignore_ascii_case(id));
    if given.iter().any(known) {
        return None;
    }
    let text = format!(
        "There must be at least one subscription that is eligible to contain resources. \
         Given: '{}'.",
        given.join(", ")
    );
    let code = "NoValidSubscriptionsInQueryRequest";
    Some(refused(&json!([{"code": code, "message": text}])))
}

/// The table of a query and its steps; `None` when it has another form.
fn parse(query: &str) -> Option<(String, Vec<QueryStep>)> {
    let mut parts = query.split('|').map(str::trim).peekable();
    let first = parts.peek()?.split_whitespace().next()?.to_ascii_lowercase();
    // A query without a table is of the resources.
    let table = if matches!(first.as_str(), "project" | "where" | "limit") {
        "resources".to_owned()
    } else {
        parts.next()?.to_ascii_lowercase()
    };
    let steps = parts.map(step).collect::<Option<Vec<QueryStep>>>()?;
    Some((table, steps))
}

/// One step of a query; `None` when it has another form.
fn step(text: &str) -> Option<QueryStep> {
    let one = |text: &str| texts(&format!("({})", text.trim())).filter(|texts| texts.len() == 1);
    if text == IMAGE {
        return Some(QueryStep::Image);
    }
    if let Some(rest) = text.strip_prefix("where ") {
        let rest = rest.trim();
        if let Some(list) = rest.strip_prefix("type in~") {
            return texts(list.trim()).map(QueryStep::Types);
        }
        for operator in ["type =~", "type =="] {
            if let Some(name) = rest.strip_prefix(operator) {
                return one(name).map(QueryStep::Types);
            }
        }
        for operator in ["location =~", "location =="] {
            if let Some(name) = rest.strip_prefix(operator) {
                return one(name)?.pop().map(QueryStep::Location);
            }
        }
        if let Some(prefix) = rest.strip_prefix("id startswith") {
            return one(prefix)?.pop().map(QueryStep::IdStartsWith);
        }
        if let Some(list) = rest.strip_prefix("id in~") {
            return texts(list.trim()).map(QueryStep::Ids);
        }
        if let Some(rest) = rest.strip_prefix("strcmp(id,") {
            let text = rest.trim_end().strip_suffix("> 0")?.trim_end().strip_suffix(')')?;
            return one(text)?.pop().map(QueryStep::IdAfter);
        }
        if let Some((column, text)) = rest.split_once(" =~ ")
            && column.starts_with("properties.")
        {
            return Some(QueryStep::Equals(path(column)?, one(text)?.pop()?));
        }
        let (number, list) =
            rest.strip_prefix("tostring(split(id, '/')[")?.split_once("]) in~ ")?;
        return Some(QueryStep::IdPart(number.parse().ok()?, texts(list.trim())?));
    }
    if let Some(columns) = text.strip_prefix("project ") {
        let column = |text: &str| {
            let (name, from) = text.split_once('=').unwrap_or((text, text));
            let from = from
                .trim()
                .strip_prefix("tostring(")
                .map_or(from.trim(), |from| from.strip_suffix(')').unwrap_or_default());
            Some((path(name.trim()).filter(|name| name.len() == 1)?.pop()?, path(from)?))
        };
        return columns.split(',').map(column).collect::<Option<_>>().map(QueryStep::Project);
    }
    if let Some(count) = text.strip_prefix("limit ") {
        return count.trim().parse().ok().map(QueryStep::Limit);
    }
    // Rows are always in this order.
    (text == "order by id asc").then_some(QueryStep::Limit(usize::MAX))
}

/// The parts of a path such as `a.b.c`.
fn path(text: &str) -> Option<Vec<String>> {
    let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
    let plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    parts.iter().all(plain).then_some(parts)
}

/// The value at a path; null where there is none.
fn member<'a>(row: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(row, |value, name| &value[name.as_str()])
}

/// The texts of a list such as `('a', 'b')`, unescaped.
fn texts(list: &str) -> Option<Vec<String>> {
    let inner = list.strip_prefix('(')?.strip_suffix(')')?;
    let mut all = Vec::new();
    let mut characters = inner.trim().chars().peekable();
    loop {
        if characters.next()? != '\'' {
            return None;
        }
        let mut text = String::new();
        loop {
            match characters.next()? {
                '\\' => text.push(characters.next()?),
                '\'' => break,
                other => text.push(other),
            }
        }
        all.push(text);
        while characters.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        if characters.peek().is_none() {
            return Some(all);
        }
    }
}

/// All resources of the requested subscriptions; a subscription that the identity may not read has
/// none.
fn resources(request: &SimRequest<'_>, all: &Organisation) -> Vec<Value> {
    let wanted: Vec<String> = request.body["subscriptions"].as_array().map_or_else(
        || request.sim.subscriptions.clone(),
        |list| list.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect(),
    );
    let readable = |subscription: &str| {
        wanted.iter().any(|id| id.eq_ignore_ascii_case(subscription))
            && request.sim.subscriptions.iter().any(|id| id.eq_ignore_ascii_case(subscription))
            && !all.denied.contains(subscription)
    };
    let mut rows = Vec::new();
    for gallery in all.galleries.values().filter(|gallery| readable(&gallery.subscription)) {
        let row = |mut value: Value| {
            value["type"] = value["type"].as_str().unwrap_or_default().to_ascii_lowercase().into();
            value["tenantId"] = TENANT.into();
            value["subscriptionId"] = gallery.subscription.clone().into();
            value["resourceGroup"] = gallery.group.to_ascii_lowercase().into();
            value
        };
        rows.push(row(gallery.to_json(false)));
        for definition in gallery.definitions.values() {
            rows.push(row(definition.to_json(gallery)));
            let versions = definition.versions.values();
            rows.extend(versions.map(|version| row(version.to_json(gallery, definition))));
        }
    }
    for registry in request.sim.registries().iter().filter(|r| readable(&r.subscription)) {
        rows.push(registry.to_graph());
    }
    let machines = all.machines.values();
    let visible = |row: &&Value| readable(row["subscriptionId"].as_str().unwrap_or_default());
    rows.extend(machines.filter(visible).cloned());
    rows.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    rows
}

/// Findings of scanners in the requested subscriptions that the identity may read.
fn findings(request: &SimRequest<'_>, all: &Organisation) -> Vec<Value> {
    let wanted = &request.body["subscriptions"];
    let is_wanted = |id: &str| {
        let named = |list: &Vec<Value>| list.iter().any(|name| name == id);
        wanted.as_array().is_none_or(named) && !all.denied.contains(id)
    };
    let registries = request.sim.registries();
    let readable = registries.iter().filter(|registry| is_wanted(&registry.subscription));
    let mut rows: Vec<Value> = readable.flat_map(SimRegistry::findings_rows).collect();
    rows.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    rows
}

/// The rows after all steps.
fn apply(mut rows: Vec<Value>, steps: &[QueryStep]) -> Vec<Value> {
    let text =
        |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_ascii_lowercase();
    let same = |names: &[String], found: &str| names.iter().any(|n| n.eq_ignore_ascii_case(found));
    for step in steps {
        match step {
            QueryStep::Types(types) => rows.retain(|row| same(types, &text(row, "type"))),
            QueryStep::Location(name) => {
                rows.retain(|row| name.eq_ignore_ascii_case(&text(row, "location")));
            }
            QueryStep::IdStartsWith(prefix) => {
                let prefix = prefix.to_ascii_lowercase();
                rows.retain(|row| text(row, "id").starts_with(&prefix));
            }
            QueryStep::Ids(ids) => rows.retain(|row| same(ids, &text(row, "id"))),
            QueryStep::IdAfter(last) => {
                rows.retain(|row| row["id"].as_str().is_some_and(|id| id > last.as_str()));
            }
            QueryStep::Equals(path, text) => rows.retain(|row| {
                member(row, path).as_str().is_some_and(|found| found.eq_ignore_ascii_case(text))
            }),
            QueryStep::IdPart(at, names) => rows.retain(|row| {
                text(row, "id").split('/').nth(*at).is_some_and(|part| same(names, part))
            }),
            QueryStep::Image => {
                for row in &mut rows {
                    let set = row["properties"].get("virtualMachineProfile").is_some();
                    let at = if set {
                        &row["properties"]["virtualMachineProfile"]
                    } else {
                        &row["properties"]
                    };
                    row["image"] = at["storageProfile"]["imageReference"].clone();
                }
            }
            QueryStep::Project(names) => {
                for row in &mut rows {
                    let columns =
                        names.iter().map(|(name, path)| (name.clone(), member(row, path).clone()));
                    *row = Value::Object(columns.collect());
                }
            }
            QueryStep::Limit(count) => rows.truncate(*count),
        }
    }
    rows
}

/// A page, and the token of the next one; only queries that project the id and have no limit have a
/// token.
fn page(request: &SimRequest<'_>, rows: Vec<Value>, steps: &[QueryStep]) -> SimResponse {
    let options = &request.body["options"];
    let top = options["$top"].as_u64().unwrap_or(100).clamp(1, 1_000);
    let top = usize::try_from(top).unwrap_or(1_000);
    let offset_of = |token: &str| -> Option<usize> {
        let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
        text.strip_prefix("kusto:")?.parse().ok()
    };
    let Some(from) = options["$skipToken"].as_str().map_or(Some(0), offset_of) else {
        return error_response(StatusCode::BAD_REQUEST, "BadRequest", "The skip token is invalid.");
    };
    let has_id = steps.iter().any(|step| match step {
        QueryStep::Project(names) => names.iter().any(|(name, _)| name == "id"),
        _ => false,
    });
    let has_limit =
        steps.iter().any(|step| matches!(step, QueryStep::Limit(count) if *count < usize::MAX));
    let pageable = has_id && !has_limit;
    let total = rows.len();
    let more = total > from + top;
    let data: Vec<Value> = rows.into_iter().skip(from).take(top).collect();
    let mut body = json!({"totalRecords": total, "count": data.len(), "data": data, "facets": [],
        "resultTruncated": if more && !pageable { "true" } else { "false" }});
    if more && pageable {
        body["$skipToken"] = STANDARD.encode(format!("kusto:{}", from + top)).into();
    }
    json_response(StatusCode::OK, &body)
}
