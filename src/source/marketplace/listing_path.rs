//! The path of one listing, and the scopes of its continuations.

use crate::work::{Details, Scope};

/// The path of one listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListingPath<'a> {
    pub(super) subscription: &'a str,
    /// Subscriptions to fall back to if `subscription` is unusable.
    pub(super) otherwise: &'a [String],
    pub(super) location: &'a str,
    pub(super) publisher: &'a str,
}

impl<'a> ListingPath<'a> {
    pub(super) fn path<'b>(self, below: &[&'b str]) -> Vec<&'b str>
    where
        'a: 'b,
    {
        let mut path = vec![
            "subscriptions",
            self.subscription,
            "providers",
            "Microsoft.Compute",
            "locations",
            self.location,
            "publishers",
        ];
        if !self.publisher.is_empty() {
            path.push(self.publisher);
        }
        path.extend_from_slice(below);
        path
    }

    pub(super) fn offers(self, offers: &[String], details: Details) -> Scope {
        Scope::Offers {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            otherwise: self.otherwise.to_vec(),
            publisher: self.publisher.to_owned(),
            offers: offers.to_vec(),
            details,
        }
    }

    pub(super) fn details(self, images: Vec<[String; 3]>) -> Scope {
        Scope::Details {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            otherwise: self.otherwise.to_vec(),
            publisher: self.publisher.to_owned(),
            images,
        }
    }
}
