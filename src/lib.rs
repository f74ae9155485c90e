#![doc = include_str!("ARCHITECTURE.md")]

mod blocking;
mod catalog;
mod cli;
mod client;
mod config;
mod error;
mod files;
mod format;
mod functions;
mod gallery;
mod handler;
mod host;
mod image;
mod pipeline;
mod purge;
mod reference;
mod registry;
mod scratch;
#[cfg(feature = "sim")]
mod sim;
mod sink;
mod source;
mod span;
mod store;
mod telemetry;
mod transfer;
mod web;
mod work;

#[doc(hidden)]
pub mod testing;

pub use cli::main;
