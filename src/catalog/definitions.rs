//! The image definitions of a catalog by what their ids name, whatever form an id has.

use crate::image::gallery::GalleryImage;
use crate::image::identity::{GalleryName, ImageName, PublicNames};
use crate::image::resource_id::part;
use crate::pipeline::answered::AskedScope;
use std::collections::HashMap;

/// The definitions of a catalog.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    published: PublicNames,
    /// Their ids by what they name, and whether each is of a gallery of ours.
    ids: HashMap<ImageName, (String, bool)>,
}

impl Definitions {
    /// What these definitions are.
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
            // What a gallery of ours says of itself is more than what others see of it.
            if is_ours || !read.ids.contains_key(&name) {
                read.ids.insert(name, (row.id, is_ours));
            }
        }
        read
    }

    /// The definition that an id names.
    fn named(&self, id: &str) -> Option<ImageName> {
        self.published.name(id).map(ImageName::without_version)
    }

    /// The id by which the catalog has the definition that `id` names, or is in.
    pub(super) fn id(&self, id: &str) -> Option<&str> {
        self.ids.get(&self.named(id)?).map(|(id, _)| id.as_str())
    }

    /// The id by which the catalog has the definition that `id` names, and the scopes that it would be found by from
    /// `location`.
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
        // Whom a role lets in need not be shared with: only this form says that it is.
        let says_shared = part(id, "sharedGalleries").is_some();
        let scopes = match (&name.gallery, known) {
            (GalleryName::Community(public), _) => {
                vec![AskedScope::Community([location.to_owned(), public.clone()])]
            }
            (_, Some((_, false))) => shared().into_iter().collect(),
            // Whose it is, is not known: ours, or shared with us.
            (_, None) if says_shared => own().into_iter().chain(shared()).collect(),
            (_, Some((_, true)) | None) => own().into_iter().collect(),
        };
        (known.map(|(id, _)| id.clone()), scopes)
    }
}
