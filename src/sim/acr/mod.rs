//! The servers of simulated container registries: the token service, ACR's own API, manifests,
//! uploads and downloads of blobs. They are strict: they refuse a token of another scope, an
//! unknown method or path and an invalid name as ACR does.

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
