//! The options that say which images are wanted, the same for every list.

use crate::catalog::Filter;

#[derive(clap::Args, Clone)]
pub(super) struct FilterArgs {
    /// Part of the publisher's name
    #[arg(long)]
    publisher: Option<String>,
    /// Part of the offer's name
    #[arg(long)]
    offer: Option<String>,
    /// Part of the SKU's name
    #[arg(long)]
    sku: Option<String>,
    /// Part of the version
    #[arg(long)]
    version: Option<String>,
    /// A location that has it, as a whole name; may be repeated
    #[arg(long)]
    location: Vec<String>,
    /// x64 or Arm64
    #[arg(long)]
    architecture: Option<String>,
    /// Linux or Windows
    #[arg(long)]
    os: Option<String>,
    /// active, scheduled, deprecated or end-of-life
    #[arg(long)]
    status: Option<String>,
    /// Part of a gallery's name
    #[arg(long)]
    gallery: Option<String>,
    /// Part of an image definition's name
    #[arg(long)]
    definition: Option<String>,
    /// Part of the id of the subscription that owns it
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Part of a registry's login server
    #[arg(long)]
    registry: Option<String>,
    /// Part of a repository's name
    #[arg(long)]
    repository: Option<String>,
    /// Part of a container image's tag
    #[arg(long)]
    tag: Option<String>,
    /// Words that all occur in the names; the best fit comes first
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Compare whole names instead of parts
    #[arg(long)]
    exact: bool,
}

impl FilterArgs {
    /// What is wanted, of that kind of image if one is named.
    pub(super) fn of_kind(self, kind: Option<String>) -> Filter {
        Filter {
            publisher: self.publisher,
            offer: self.offer,
            sku: self.sku,
            version: self.version,
            locations: self.location,
            architecture: self.architecture,
            os: self.os,
            status: self.status,
            kind,
            search: self.search,
            gallery: self.gallery,
            definition: self.definition,
            subscription: self.subscription,
            registry: self.registry,
            repository: self.repository,
            tag: self.tag,
            exact: self.exact,
        }
    }
}
