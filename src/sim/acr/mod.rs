//! Simulated container registries: the token service, ACR's own API, manifests, and blobs on their way in and out. Strict:
//! a token of another scope, a method or path that is none, and a name that cannot be are refused as ACR does.

mod blobs;
mod body;
mod claims;
mod manifests;
mod repositories;
mod response;
mod routes;
mod server;
mod target;
mod tokens;
mod uploads;

pub(super) use routes::{answer_directly, blob_routes, registry_routes};
