//! Columns of image lists, by the kinds of image requested.

use super::output::{Columns, NAME};
use crate::image::{marketplace, registry};
use crate::pipeline::schema::schema;

/// Columns displayed for marketplace images.
pub(super) const MARKETPLACE: &[&str] = &[
    "publisher",
    "offer",
    "sku",
    "version",
    "status",
    "isLatest",
    "architecture",
    "hyperVGeneration",
    "os",
    "locations",
];

/// Columns displayed for gallery images.
pub(super) const GALLERY: &[&str] = &[
    "kind",
    "gallery",
    "definition",
    "version",
    "status",
    "isLatest",
    "os",
    "architecture",
    "locations",
    "endOfLifeAt",
];

/// Columns displayed for registry images.
const CONTAINERS: &[&str] = &[
    "loginServer",
    "repository",
    "tags",
    "digest",
    "isLatest",
    "platforms",
    "bytes",
    "createdAt",
    "findings",
];

/// Columns displayed for a list of several kinds.
const MIXED: &[&str] = &["kind", NAME, "status", "isLatest", "os", "architecture", "locations"];

/// A table of a snapshot: the name of its record, and the columns displayed.
type Table = (&'static str, &'static [&'static str]);

const TABLES: [Table; 3] =
    [("marketplace", MARKETPLACE), ("gallery", GALLERY), ("registry", CONTAINERS)];

fn table(kind: &str) -> Table {
    TABLES[match kind {
        marketplace::KIND => 0,
        registry::KIND => 2,
        _ => 1,
    }]
}

/// The members of a record, in the order of its schema.
fn members(record: &str) -> Vec<String> {
    let schema = schema(record).map(schemars::Schema::to_value).unwrap_or_default();
    let members = schema["properties"].as_object().map(|properties| properties.keys().cloned());
    members.into_iter().flatten().collect()
}

/// The columns of a list of these kinds. For several kinds, the union.
pub(super) fn of_kinds(kinds: &[&str]) -> Columns {
    let mut tables: Vec<Table> = kinds.iter().map(|kind| table(kind)).collect();
    tables.dedup();
    let mut columns = Columns::default();
    for (record, _) in &tables {
        for name in members(record) {
            if !columns.all.contains(&name) {
                columns.all.push(name);
            }
        }
    }
    for (record, _) in TABLES {
        for name in members(record) {
            if !columns.all.contains(&name) && !columns.elsewhere.contains(&name) {
                columns.elsewhere.push(name);
            }
        }
    }
    let short = match tables[..] {
        [(_, short)] => short,
        _ => MIXED,
    };
    columns.short = short.iter().map(|name| (*name).to_owned()).collect();
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_from_the_kinds() {
        let of = |kinds: &[&str]| of_kinds(kinds);
        let marketplace = of(&["marketplace"]);
        assert_eq!(marketplace.short, MARKETPLACE);
        assert_eq!(marketplace.all[..3], ["kind", "id", "status"]);
        assert!(!marketplace.all.contains(&"digest".to_owned()));
        assert!(marketplace.elsewhere.contains(&"digest".to_owned()));
        assert_eq!(of(&["gallery-version", "managed-image"]).short, GALLERY);
        let mixed = of(&["marketplace", "gallery-version", "container-manifest"]);
        for name in ["publisher", "gallery", "digest"] {
            assert_eq!(mixed.all.iter().filter(|known| *known == name).count(), 1, "{name}");
        }
        assert!(mixed.elsewhere.is_empty());
        // Every displayed column is a member of its record, except `NAME`, which all kinds have.
        for (record, short) in TABLES {
            let members = members(record);
            assert!(short.iter().all(|name| members.iter().any(|known| known == name)), "{record}");
        }
    }
}
