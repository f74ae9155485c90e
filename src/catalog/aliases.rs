//! Image aliases, as `az vm create --image` accepts them, resolved against a snapshot.

pub use super::alias::{ALIASES, Alias};

use super::{Catalog, LatestQuestion};
use crate::error::Result;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Returns each alias whose SKU has a version deployable at `now`, with that version's row.
pub fn resolve(catalog: &Catalog, now: OffsetDateTime) -> Result<Vec<(&'static Alias, Value)>> {
    let mut resolved = Vec::new();
    for alias in ALIASES {
        let question = LatestQuestion::parse(alias.name, &[], None)?;
        let Ok(row) = question.answer(&catalog.index, now) else { continue };
        resolved.push((alias, catalog.read(catalog.at(row), now)?));
    }
    Ok(resolved)
}

/// Builds the document that `az` reads its aliases from
/// (`az cloud register --endpoint-vm-image-alias-doc`), with the versions in the catalog. Aliases
/// without a deployable image are omitted.
pub fn document(catalog: &Catalog, now: OffsetDateTime) -> Result<Value> {
    let mut groups = json!({});
    for (alias, row) in resolve(catalog, now)? {
        groups[alias.os][alias.name] = json!({
            "publisher": row["publisher"], "offer": row["offer"], "sku": row["sku"],
            "version": row["version"],
            "architecture": row["architecture"].as_str().unwrap_or("x64"),
        });
    }
    Ok(json!({
        "$schema": "http://schema.management.azure.com/schemas/2015-01-01/deploymentTemplate.json",
        "contentVersion": "1.0.0.0", "parameters": {}, "variables": {}, "resources": [],
        "outputs": {"aliases": {"type": "object", "value": groups}},
    }))
}
