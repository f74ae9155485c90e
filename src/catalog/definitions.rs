//! Index of a catalog's image definitions by identity, independent of the form of the id.

use crate::image::gallery::GalleryImage;
use crate::image::identity::{GalleryName, ImageName, PublicNames};
use crate::image::resource_id::part;
use crate::pipeline::answered::AskedScope;
use std::collections::HashMap;

/// The image definitions of a catalog.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    published: PublicNames,
    /// Id of each definition by its identity, and whether it was read from the subscription that
    /// owns it rather than as shared.
    ids: HashMap<ImageName, (String, bool)>,
}

impl Definitions {
    /// Indexes the definition rows `all`.
    pub(super) fn of(all: Vec<GalleryImage>) -> Self {
        let mut read = Self::default();
        for row in &all {
            if let (Some(subscription), Some(gallery)) = (&row.subscription_id, &row.gallery) {
                let gallery = GalleryName::of(subscription, gallery);
                read.published.add(&gallery, &row.public_names);
            }
        }
        for row in all {
            let Some(name) = read.named(&row.id) else { continue };
            let is_ours = row.subscription_id.is_some();
            // A definition read from the subscription that owns it has more data than the same one
            // seen as shared.
            if is_ours || !read.ids.contains_key(&name) {
                read.ids.insert(name, (row.id, is_ours));
            }
        }
        read
    }

    /// Returns the identity of the definition that `id` names or belongs to.
    fn named(&self, id: &str) -> Option<ImageName> {
        self.published.name(id).map(ImageName::without_version)
    }

    /// Returns the catalog's id of the definition that `id` names or belongs to.
    pub(super) fn id(&self, id: &str) -> Option<&str> {
        self.ids.get(&self.named(id)?).map(|(id, _)| id.as_str())
    }

    /// Returns the catalog's id of the definition that `id` names, and the scopes in which a crawl
    /// would find it from `location`.
    pub(super) fn found(&self, id: &str, location: &str) -> (Option<String>, Vec<AskedScope>) {
        let Some(name) = &self.named(id) else { return (None, Vec::new()) };
        let known = self.ids.get(name);
        let definition = || name.definition.clone().unwrap_or_default();
        let own = || match &name.gallery {
            GalleryName::Of([subscription, gallery]) => {
                Some(AskedScope::Definition([subscription.clone(), gallery.clone(), definition()]))
            }
            GalleryName::Community(_) => None,
        };
        let shared = || {
            name.gallery.shared().map(|shared| AskedScope::Shared([location.to_owned(), shared]))
        };
        // Access granted by a role assignment does not imply that the gallery is shared. Only the
        // `sharedGalleries` form of an id states that.
        let says_shared = part(id, "sharedGalleries").is_some();
        let scopes = match (&name.gallery, known) {
            (GalleryName::Community(public), _) => {
                vec![AskedScope::Community([location.to_owned(), public.clone()])]
            }
            (_, Some((_, false))) => shared().into_iter().collect(),
            // The owner is unknown: the gallery may be ours, or shared with us.
            (_, None) if says_shared => own().into_iter().chain(shared()).collect(),
            (_, Some((_, true)) | None) => own().into_iter().collect(),
        };
        (known.map(|(id, _)| id.clone()), scopes)
    }
}
