//! A simulated Azure on one machine: Resource Manager, Resource Graph, container registries and
//! identity, over http or https. Real clients use it without a change.

mod acr;
mod arm;
mod demo;
mod faults;
mod foreign;
mod gallery;
mod generate;
mod graph;
mod identity;
mod ids;
mod marketplace;
mod operations;
pub mod organisation;
mod quota;
mod regions;
pub mod registries;
mod request;
mod resources;
mod response;
mod server;
mod state;
mod stats;
mod subscriptions;
mod times;
pub mod tls;
mod versions;
mod world;

pub use demo::demo_world;
pub use faults::FaultsSpec;
pub use generate::{Scale, generate};
pub use identity::SimCredential;
pub use ids::SUBSCRIPTION;
pub use organisation::{Organisation, OrganisationSize};
pub use quota::QuotaSpec;
pub use registries::BlobsLimit;
pub use server::Running;
pub use state::{Conditions, Sim};
pub use world::World;
