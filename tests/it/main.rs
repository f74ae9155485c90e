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
mod archive_choices;
mod archive_layers;
mod archives;
mod attacker;
mod both_hosts;
mod browser;
mod callers;
mod cases;
mod catalog;
mod chain;
mod change_bodies;
mod changes;
mod cli;
mod cli_stores;
mod configured;
mod consuming;
mod copies;
mod crashes;
mod crawl;
mod damage;
mod damage_verified;
mod deliveries;
mod demo;
mod doctor;
mod documents;
mod escapes;
mod examples;
mod faults;
mod file_packages;
mod file_pulls;
mod files;
mod galleries;
mod graph;
mod handler;
mod hangups;
mod harness;
mod hooks;
mod hostile;
mod http;
mod http_pages;
mod incremental;
mod infrastructure;
mod inventory;
mod invocations;
mod keys;
mod kills;
mod limits;
mod list_names;
mod listening;
mod lists;
mod long_lists;
mod lookup_filters;
mod lookups;
mod malformed_members;
mod moments;
mod mutations;
mod openapi;
mod operating;
mod operations;
mod outcomes;
mod output;
mod overlaps;
mod pacing;
mod package;
mod package_contents;
mod page;
mod page_lookups;
mod page_sources;
mod peers;
mod proxies;
mod pull_listings;
mod pulls;
mod purge_cases;
mod purge_commands;
mod purge_reads;
mod purge_simulated;
mod purges;
mod quota;
mod recorded;
mod recorded_shapes;
mod recordings;
mod refused_tokens;
mod registries;
mod registry_peers;
mod retirement_outcomes;
mod retirements;
mod roles;
mod scenarios;
mod settings;
mod shells;
mod signin;
mod sim_registries;
mod sim_uploads;
mod simulation;
mod sinks;
mod snapshots;
mod snippets;
mod specification;
mod stores;
mod strict;
mod subscriptions;
mod support;
mod telemetry;
mod tenants;
mod tokens;
mod transfers;
mod unattended;
mod usage;
mod usage_model;
mod versions;
mod waits;
mod web;

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn main() -> ExitCode {
    harness::run(&[
        abuse::TESTS,
        architecture::TESTS,
        archive_choices::TESTS,
        archive_layers::TESTS,
        archives::TESTS,
        attacker::TESTS,
        both_hosts::TESTS,
        browser::TESTS,
        callers::TESTS,
        cases::TESTS,
        catalog::TESTS,
        chain::TESTS,
        change_bodies::TESTS,
        changes::TESTS,
        cli::TESTS,
        cli_stores::TESTS,
        configured::TESTS,
        consuming::TESTS,
        copies::TESTS,
        crashes::TESTS,
        crawl::TESTS,
        damage::TESTS,
        damage_verified::TESTS,
        deliveries::TESTS,
        demo::TESTS,
        doctor::TESTS,
        documents::TESTS,
        escapes::TESTS,
        examples::TESTS,
        faults::TESTS,
        file_packages::TESTS,
        file_pulls::TESTS,
        files::TESTS,
        galleries::TESTS,
        graph::TESTS,
        handler::TESTS,
        hangups::TESTS,
        hooks::TESTS,
        hostile::TESTS,
        http::TESTS,
        http_pages::TESTS,
        incremental::TESTS,
        infrastructure::TESTS,
        inventory::TESTS,
        invocations::TESTS,
        keys::TESTS,
        kills::TESTS,
        limits::TESTS,
        list_names::TESTS,
        listening::TESTS,
        lists::TESTS,
        long_lists::TESTS,
        lookup_filters::TESTS,
        lookups::TESTS,
        moments::TESTS,
        mutations::TESTS,
        malformed_members::TESTS,
        openapi::TESTS,
        operating::TESTS,
        operations::TESTS,
        outcomes::TESTS,
        output::TESTS,
        overlaps::TESTS,
        pacing::TESTS,
        package::TESTS,
        package_contents::TESTS,
        page::TESTS,
        page_lookups::TESTS,
        page_sources::TESTS,
        peers::TESTS,
        proxies::TESTS,
        pull_listings::TESTS,
        pulls::TESTS,
        purge_cases::TESTS,
        purge_commands::TESTS,
        purge_reads::TESTS,
        purge_simulated::TESTS,
        purges::TESTS,
        quota::TESTS,
        recorded::TESTS,
        recorded_shapes::TESTS,
        recordings::TESTS,
        refused_tokens::TESTS,
        registries::TESTS,
        registry_peers::TESTS,
        retirement_outcomes::TESTS,
        retirements::TESTS,
        roles::TESTS,
        scenarios::TESTS,
        settings::TESTS,
        shells::TESTS,
        signin::TESTS,
        sim_registries::TESTS,
        sim_uploads::TESTS,
        simulation::TESTS,
        sinks::TESTS,
        snippets::TESTS,
        snapshots::TESTS,
        specification::TESTS,
        stores::TESTS,
        strict::TESTS,
        subscriptions::TESTS,
        telemetry::TESTS,
        tenants::TESTS,
        tokens::TESTS,
        transfers::TESTS,
        unattended::TESTS,
        usage::TESTS,
        usage_model::TESTS,
        versions::TESTS,
        waits::TESTS,
        web::TESTS,
    ])
}
