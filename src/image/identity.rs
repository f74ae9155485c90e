//! The identity of a gallery image, whatever form its id has.
//!
//! One image has several ids: the Resource Manager id, in any case;
//! `/SharedGalleries/{subscription}-{NAME}/…` where its gallery is shared directly; and
//! `/CommunityGalleries/{public name}/…` for everyone, once its gallery is published. Invariant:
//! forms of an id that can be recognized as equal without further data have the same identity.
//! Which of our galleries has a public name is known to [`PublicNames`].

use super::resource_id::part;
use std::collections::HashMap;

/// The length of a subscription id.
const SUBSCRIPTION: usize = 36;

/// The name of a gallery, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GalleryName {
    /// A gallery of a subscription: the subscription id, and the gallery's name, which is unique in
    /// the subscription (`identifier.uniqueName` is made of both).
    Of([String; 2]),
    /// A community gallery, by its public name.
    Community(String),
}

/// The gallery, image definition or image version that an id names, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The gallery.
    pub gallery: GalleryName,
    /// The definition; `None` if the id names the gallery.
    pub definition: Option<String>,
    /// The version; `None` if the id has none or means the latest.
    pub version: Option<String>,
}

impl GalleryName {
    /// The name of a gallery in a subscription.
    pub fn of(subscription: &str, gallery: &str) -> Self {
        Self::Of([subscription, gallery].map(str::to_ascii_lowercase))
    }

    /// The name under which a subscription's gallery is shared directly: `{subscription}-{NAME}`,
    /// in lower case.
    pub fn shared(&self) -> Option<String> {
        match self {
            Self::Of([subscription, gallery]) => Some(format!("{subscription}-{gallery}")),
            Self::Community(_) => None,
        }
    }
}

impl ImageName {
    /// Parses an id; `None` if it names neither a gallery nor something in one.
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

    /// Returns the name of the definition, without the version.
    #[must_use]
    pub fn without_version(self) -> Self {
        Self { version: None, ..self }
    }
}

/// Maps the public names of galleries to their subscription and name.
#[derive(Debug, Clone, Default)]
pub struct PublicNames(HashMap<String, GalleryName>);

impl PublicNames {
    /// Adds the public names of a gallery.
    pub fn add(&mut self, gallery: &GalleryName, public_names: &[String]) {
        for name in public_names {
            self.0.insert(name.to_ascii_lowercase(), gallery.clone());
        }
    }

    /// Returns the identity of an id; `None` if it names neither a gallery nor something in one.
    pub fn name(&self, id: &str) -> Option<ImageName> {
        Some(self.resolved(ImageName::parse(id)?))
    }

    /// Resolves the public name in a parsed id.
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
    fn every_form_of_an_id_resolves_to_one_name() {
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
