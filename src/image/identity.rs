//! What the id of a gallery's image names, whatever form the id has.
//!
//! One image has several ids: that of Resource Manager, in any case; `/SharedGalleries/{subscription}-{NAME}/…` for
//! whoever its gallery is shared with directly; and `/CommunityGalleries/{public name}/…` for everyone, once its
//! gallery is published. Invariant: forms of one id that can be told to be one by themselves have one identity; which
//! gallery of ours has a public name is told by [`PublicNames`].

use super::resource_id::part;
use std::collections::HashMap;

/// The length of a subscription's id.
const SUBSCRIPTION: usize = 36;

/// A gallery, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GalleryName {
    /// One of a subscription: the subscription's id, and the name, which is unique in the subscription
    /// (`identifier.uniqueName` is made of both).
    Of([String; 2]),
    /// A community, by its public name.
    Community(String),
}

/// What an id names: a gallery, or an image definition in it, or a version of that. All in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The gallery.
    pub gallery: GalleryName,
    /// The definition.
    pub definition: Option<String>,
    /// The version; none where the latest is meant.
    pub version: Option<String>,
}

impl GalleryName {
    /// That of a subscription.
    pub fn of(subscription: &str, gallery: &str) -> Self {
        Self::Of([subscription, gallery].map(str::to_ascii_lowercase))
    }

    /// The name that a gallery of a subscription has where it is shared directly: `{subscription}-{NAME}`, in lower
    /// case.
    pub fn shared(&self) -> Option<String> {
        match self {
            Self::Of([subscription, gallery]) => Some(format!("{subscription}-{gallery}")),
            Self::Community(_) => None,
        }
    }
}

impl ImageName {
    /// Reads an id; none where it is not that of a gallery or of something in one.
    pub fn parse(id: &str) -> Option<Self> {
        let gallery = if let Some(unique) = part(id, "sharedGalleries") {
            let (subscription, name) = unique.split_at_checked(SUBSCRIPTION)?;
            GalleryName::of(subscription, name.strip_prefix('-').filter(|name| !name.is_empty())?)
        } else if let Some(public) = part(id, "communityGalleries") {
            GalleryName::Community(public.to_ascii_lowercase())
        } else {
            GalleryName::of(part(id, "subscriptions")?, part(id, "galleries")?)
        };
        let version =
            part(id, "versions").filter(|version| !version.eq_ignore_ascii_case("latest"));
        let lower = |text: Option<&str>| text.map(str::to_ascii_lowercase);
        Some(Self { gallery, definition: lower(part(id, "images")), version: lower(version) })
    }

    /// The definition's name, without the version.
    #[must_use]
    pub fn without_version(self) -> Self {
        Self { version: None, ..self }
    }
}

/// The public names of galleries whose subscription and name are known.
#[derive(Debug, Clone, Default)]
pub struct PublicNames(HashMap<String, GalleryName>);

impl PublicNames {
    /// Adds the public names of a gallery.
    pub fn add(&mut self, gallery: &GalleryName, public_names: &[String]) {
        for name in public_names {
            self.0.insert(name.to_ascii_lowercase(), gallery.clone());
        }
    }

    /// The identity of what an id names; none where it is not that of a gallery or of something in one.
    pub fn name(&self, id: &str) -> Option<ImageName> {
        Some(self.resolved(ImageName::parse(id)?))
    }

    /// The same of what was read already.
    #[must_use]
    pub fn resolved(&self, named: ImageName) -> ImageName {
        let GalleryName::Community(public) = &named.gallery else { return named };
        match self.0.get(public) {
            Some(gallery) => ImageName { gallery: gallery.clone(), ..named },
            None => named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";

    #[test]
    fn all_forms_of_an_id_are_one() {
        let mut published = PublicNames::default();
        let gallery = GalleryName::of(SUBSCRIPTION, "Prod");
        published.add(&gallery, &["Contoso-0000".to_owned()]);
        let below = "providers/Microsoft.Compute";
        let own = format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/images/{below}/galleries/prod/images/api/versions/1.0.0"
        );
        let name = published.name(&own).unwrap();
        assert_eq!(name.gallery, gallery);
        assert_eq!(
            (name.definition.as_deref(), name.version.as_deref()),
            (Some("api"), Some("1.0.0"))
        );
        for other in [
            own.to_uppercase(),
            own.trim_start_matches('/').to_owned(),
            format!("/SharedGalleries/{SUBSCRIPTION}-PROD/Images/api/Versions/1.0.0"),
            format!("/sharedgalleries/{SUBSCRIPTION}-prod/images/API/versions/1.0.0"),
            "/CommunityGalleries/contoso-0000/Images/api/Versions/1.0.0".to_owned(),
            format!(
                "/subscriptions/s/{below}/locations/eastus/communityGalleries/CONTOSO-0000/images/api/versions/1.0.0"
            ),
        ] {
            assert_eq!(published.name(&other).as_ref(), Some(&name), "{other}");
        }
        let latest = format!("{}latest", own.trim_end_matches("1.0.0"));
        assert_eq!(published.name(&latest), Some(name.without_version()));
        for none in [
            "",
            "/",
            "prod/api",
            "/SharedGalleries/short/Images/x",
            &format!("/SharedGalleries/{SUBSCRIPTION}/Images/x"),
            &format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/r/{below}/images/managed"),
        ] {
            assert_eq!(published.name(none), None, "{none}");
        }
    }
}
