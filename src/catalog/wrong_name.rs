//! Diagnosis of a path of names that leads to no image: which name is wrong, and which are similar.

use super::rows::{DEFINITION, Entry, GALLERY, RowTable};
use crate::format::index::{Index, Level};
use crate::image::names::{are, nearest, quoted};

/// Returns "; the nearest are a, b", or an empty string if no name is similar.
pub(super) fn near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(given, known);
    if near.is_empty() { String::new() } else { format!("; {}", are(&near)) }
}

/// Describes the first wrong name of publisher, offer and SKU, with similar ones. `None` when all
/// exist.
pub(super) fn wrong_name(index: &Index, names: [&str; 3]) -> Option<String> {
    let all_publishers = 0..index.groups(Level::Publisher);
    let mut ranges = vec![all_publishers];
    for (at, (level, name)) in Level::ALL.into_iter().zip(names).enumerate() {
        let found: Vec<u32> =
            ranges.iter().flat_map(|range| index.find(level, range.clone(), name)).collect();
        if found.is_empty() {
            let groups = ranges.into_iter().flatten();
            let known = groups.map(|group| index.names(level).get(index.group_name(level, group)));
            let what = ["publisher", "offer", "SKU"][at];
            let of = if at == 0 { "it".to_owned() } else { quoted(names[at - 1]) };
            return Some(format!("; {of} has no {what} {}{}", quoted(name), near(name, known)));
        }
        ranges = found.into_iter().map(|group| index.members(level, group)).collect();
    }
    None
}

/// Describes whether the gallery or the definition of `gallery/definition` is wrong, with similar
/// names.
pub(super) fn wrong_definition(table: &RowTable, (gallery, definition): (&str, &str)) -> String {
    let is_in = |entry: &&Entry| {
        table.name(entry, GALLERY).is_some_and(|name| name.eq_ignore_ascii_case(gallery))
    };
    let mut of_gallery = table.entries().iter().filter(is_in).peekable();
    if of_gallery.peek().is_none() {
        return format!(
            "; it has no gallery {}{}",
            quoted(gallery),
            near(gallery, table.names_in(GALLERY))
        );
    }
    let known = of_gallery.filter_map(|entry| table.name(entry, DEFINITION));
    let near = near(definition, known);
    format!("; {} has no image definition {}{near}", quoted(gallery), quoted(definition))
}
