//! Worlds with simulated registries, and an identity that signs in at one of them.

use azimg::testing::client::Tokens;
use azimg::testing::registry::{Login, Trust, TrustSource};
use azimg::testing::sim::{Scale, SimCredential, World, generate};

pub fn world(repositories: usize) -> World {
    let World { locations, .. } = generate(Scale::Small, 1);
    World::new(locations, Vec::new()).with_registries(2, repositories, 7)
}

/// An identity that signs in at a registry which was named.
pub fn entra(login_server: &str) -> Login {
    let trust = Trust::of_cloud(None).naming(&[login_server.to_owned()]).unwrap();
    let identity = Tokens::of(SimCredential);
    Login::Entra(trust.recipient(identity, login_server, TrustSource::Unconfirmed).unwrap())
}
