//! The index of a layout that an image is added to.

use super::annotation::{FULL_NAME, NAME};
use super::layout::INDEX;
use crate::error::{Error, Result};
use crate::files::Folder;
use serde_json::{Value, json};
use std::io::Read;

/// In bytes. The largest index that is read, and so the largest that is written.
pub(super) const LARGEST: u64 = 4 << 20;

/// A folder that an image is added to.
#[derive(Debug)]
pub(super) struct TargetFolder {
    /// Whether it is a layout.
    pub(super) is_layout: bool,
    /// The index of the layout, if it has one.
    pub(super) index: Option<Value>,
}

/// Reads whether a folder is a layout, and its index. An index that is cut off, or too large to be
/// read, is an error: replacing it would lose the images that it lists.
pub(super) fn index_of(folder: &Folder) -> Result<TargetFolder> {
    let document = |name: &str| -> Result<Option<Result<Value, String>>> {
        let Some(file) = folder.read(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(folder.path(name).display(), e))?;
        if bytes.len() as u64 > LARGEST {
            return Ok(Some(Err(format!("more than {} MiB", LARGEST >> 20))));
        }
        Ok(Some(serde_json::from_slice(&bytes).map_err(|e| e.to_string())))
    };
    let refused = |name: &str, why: &str| {
        Error::corrupt(format!(
            "{} is not part of a valid OCI image layout ({why}) and is not replaced: the images \
             that it names would be lost. Pull into another folder, or move it away and pull again \
             (existing blobs are reused)",
            folder.path(name).display()
        ))
    };
    let is_layout = match document("oci-layout")? {
        None => false,
        Some(Ok(version)) if version["imageLayoutVersion"].is_string() => true,
        Some(Ok(_)) => return Err(refused("oci-layout", "it has no version")),
        Some(Err(why)) => return Err(refused("oci-layout", &why)),
    };
    match document("index.json")? {
        None => Ok(TargetFolder { is_layout, index: None }),
        Some(_) if !is_layout => Err(refused("index.json", "oci-layout is missing")),
        Some(Ok(index)) if index["manifests"].is_array() => {
            Ok(TargetFolder { is_layout, index: Some(index) })
        }
        Some(Ok(_)) => Err(refused("index.json", "it lists no manifests")),
        Some(Err(why)) => Err(refused("index.json", &why)),
    }
}

/// Adds an image to an index. An entry with the same full name is replaced; all others stay. If an
/// image of another repository already has the short name (the tag), it keeps it, and the new entry
/// uses its full name as its short name: the tag still selects the earlier image.
pub(super) fn index_with(before: Option<Value>, mut entry: Value) -> Value {
    let mut index = before
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let of = |entry: &Value, name: &str| entry["annotations"][name].clone();
    let (full, short) = (of(&entry, FULL_NAME), of(&entry, NAME));
    if short.is_null() {
        if !entries.iter().any(|other| other["digest"] == entry["digest"]) {
            entries.push(entry);
        }
        index["manifests"] = entries.into();
        return index;
    }
    entries.retain(|other| {
        let is_unnamed = of(other, NAME).is_null() && of(other, FULL_NAME).is_null();
        let is_same = of(other, FULL_NAME) == full
            || (of(other, NAME) == short
                && of(other, FULL_NAME).is_null()
                && other["digest"] == entry["digest"]);
        !(is_same || is_unnamed && other["digest"] == entry["digest"])
    });
    if entries.iter().any(|other| of(other, NAME) == short) {
        entry["annotations"][NAME] = full;
    }
    entries.push(entry);
    index["manifests"] = entries.into();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(repository: &str, tag: &str, digest: &str) -> Value {
        json!({"digest": digest, "annotations": {NAME: tag, FULL_NAME: format!("r/{repository}:{tag}")}})
    }

    fn names(index: &Value) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let entries = index["manifests"].as_array().unwrap().iter();
        entries.map(|entry| (text(&entry["digest"]), text(&entry["annotations"][NAME]))).collect()
    }

    fn pair(digest: &str, name: &str) -> (String, String) {
        (digest.to_owned(), name.to_owned())
    }

    #[test]
    fn tag_of_another_repository_or_program_is_not_overwritten() {
        let index = index_with(None, named("a", "v1", "1"));
        let index = index_with(Some(index), named("b", "v1", "2"));
        assert_eq!(names(&index), [pair("1", "v1"), pair("2", "r/b:v1")]);
        // The tag has moved, in either repository.
        let index = index_with(Some(index), named("b", "v1", "3"));
        let index = index_with(Some(index), named("a", "v1", "4"));
        assert_eq!(names(&index), [pair("3", "r/b:v1"), pair("4", "v1")]);
        // An image that another program named stays, too.
        let theirs = json!({"manifests": [{"digest": "9", "annotations": {NAME: "v1"}}]});
        let index = index_with(Some(theirs), named("a", "v1", "1"));
        assert_eq!(names(&index), [pair("9", "v1"), pair("1", "r/a:v1")]);
        // An image without a name is listed once by its digest, and replaces no other.
        let bare = |digest: &str| json!({"digest": digest});
        let index = index_with(None, bare("1"));
        let index = index_with(Some(index), bare("2"));
        let index = index_with(Some(index), bare("1"));
        assert_eq!(names(&index), [pair("1", "-"), pair("2", "-")]);
        let index = index_with(Some(index), named("a", "v1", "1"));
        assert_eq!(names(&index), [pair("2", "-"), pair("1", "v1")]);
    }
}
