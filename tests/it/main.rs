//! The tests that go through the public walls: the command line, HTTP, the stores, the hosts.

#![allow(unreachable_pub, reason = "one crate, many modules: pub says what they share")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "tests say what environment a program gets")]
#![allow(clippy::similar_names, clippy::format_collect, clippy::single_match_else)]

use std::process::ExitCode;

mod abuse;
mod architecture;
mod catalog;
mod changes;
mod cli;
mod consuming;
mod crashes;
mod crawl;
mod deliveries;
mod doctor;
mod escapes;
mod faults;
mod galleries;
mod graph;
mod handler;
mod harness;
mod hostile;
mod http;
mod incremental;
mod infrastructure;
mod inventory;
mod mutations;
mod odd_members;
mod openapi;
mod operating;
mod operations;
mod outcomes;
mod pacing;
mod package;
mod peers;
mod purges;
mod quota;
mod recorded;
mod recordings;
mod registries;
mod registry_peers;
mod retirements;
mod scenarios;
mod signin;
mod simulation;
mod snapshots;
mod stores;
mod strict;
mod support;
mod telemetry;
mod tenants;
mod tokens;
mod transfers;
mod usage;
mod versions;
mod web;

fn main() -> ExitCode {
    harness::run(&[
        abuse::TESTS,
        architecture::TESTS,
        catalog::TESTS,
        changes::TESTS,
        cli::TESTS,
        consuming::TESTS,
        crashes::TESTS,
        crawl::TESTS,
        deliveries::TESTS,
        doctor::TESTS,
        escapes::TESTS,
        faults::TESTS,
        galleries::TESTS,
        graph::TESTS,
        handler::TESTS,
        hostile::TESTS,
        http::TESTS,
        incremental::TESTS,
        infrastructure::TESTS,
        inventory::TESTS,
        odd_members::TESTS,
        openapi::TESTS,
        mutations::TESTS,
        operating::TESTS,
        operations::TESTS,
        outcomes::TESTS,
        pacing::TESTS,
        package::TESTS,
        peers::TESTS,
        purges::TESTS,
        quota::TESTS,
        recorded::TESTS,
        recordings::TESTS,
        registries::TESTS,
        registry_peers::TESTS,
        retirements::TESTS,
        scenarios::TESTS,
        signin::TESTS,
        simulation::TESTS,
        snapshots::TESTS,
        stores::TESTS,
        strict::TESTS,
        telemetry::TESTS,
        tokens::TESTS,
        tenants::TESTS,
        transfers::TESTS,
        usage::TESTS,
        versions::TESTS,
        web::TESTS,
    ])
}
