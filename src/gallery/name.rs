//! The resource that an operation works on: a gallery, a definition in it, or a version of that.

use crate::image::resource_id::part;
use crate::source::gallery::parse::{gallery_id, own_gallery};
use crate::work::OwnGallery;

/// A gallery, a definition or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The gallery.
    pub own: OwnGallery,
    /// The definition; `None` for a gallery.
    pub definition: Option<String>,
    /// The version; `None` for a gallery or a definition.
    pub version: Option<String>,
}

impl Name {
    /// Reads a Resource Manager id; `None` if it is that of another kind of resource.
    pub fn from_id(id: &str) -> Option<Self> {
        let id = id.trim().trim_end_matches('/');
        let name = Self {
            own: own_gallery(id)?,
            definition: part(id, "images").map(str::to_owned),
            version: part(id, "versions").map(str::to_owned),
        };
        // Any other part of the id would be dropped silently.
        name.id().eq_ignore_ascii_case(id).then_some(name)
    }

    /// The Resource Manager id.
    pub fn id(&self) -> String {
        format!("/{}", self.path().join("/"))
    }

    /// The path, in segments.
    pub fn path(&self) -> Vec<String> {
        let id = gallery_id(&self.own);
        let mut path: Vec<String> = id.split('/').skip(1).map(str::to_owned).collect();
        if let Some(definition) = &self.definition {
            path.extend(["images".to_owned(), definition.clone()]);
            if let Some(version) = &self.version {
                path.extend(["versions".to_owned(), version.clone()]);
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_gallery_ids_are_parsed() {
        let id =
            "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/galleries/g/images/i";
        assert_eq!(Name::from_id(id).unwrap().id(), id);
        let version = format!("{id}/versions/1.0.0");
        assert_eq!(Name::from_id(&version).unwrap().version.as_deref(), Some("1.0.0"));
        for other in [
            "g/i",
            "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/images/i",
            &format!("{id}/else/x"),
            &format!("{id}/.."),
        ] {
            assert_eq!(Name::from_id(other), None, "{other}");
        }
    }
}
