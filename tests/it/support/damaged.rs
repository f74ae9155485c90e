//! A small world of all kinds, for stores whose files are damaged.

use azimg::testing::sim::{OrganisationSize, Scale, World, generate};

pub fn world() -> World {
    let World { locations, mut publishers, .. } = generate(Scale::Small, 21);
    publishers.sort_by(|a, b| a.name.cmp(&b.name));
    publishers.truncate(3);
    let size = OrganisationSize { subscriptions: 1, galleries: 2, ..OrganisationSize::FEW };
    World::new(locations, publishers)
        .with_generated_organisation(size, 21)
        .with_registries(1, 2, 21)
}
