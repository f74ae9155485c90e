//! `azimg sim`: the simulated Azure. Runs until Ctrl-C.

use super::{output, stop};
use crate::error::Result;
use crate::sim::{
    BlobsLimit, Conditions, FaultsSpec, Organisation, OrganisationSize, QuotaSpec, Scale, Sim,
    World, generate,
};
use crate::sink::say;
use crate::span::Span;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    after_help = "It prints its addresses as JSON, and on stderr the lines that direct azimg in another shell to it.
The Azure CLI and the SDKs accept it with --tls. Its registries ('azimg registry list') keep pushed images until it
ends: push, pull, copy, attach, tag, set, delete and purge work as in Azure. Generated images have no layers.

Examples:
  azimg sim --scale region --quota 60x --faults all=0.01,seed=3     limits 60 times as fast, and faults
  azimg sim --catalog azimg-data/snapshots/RUN/marketplace.ndjson.zst --tls ./sim-tls
  azimg sim --organisation few --blobs-limit 4GiB                   room for large images in its registries"
)]
pub(super) struct SimArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve the rows of an NDJSON file (plain, .gz or .zst); may be repeated
    #[arg(long, value_name = "FILE")]
    catalog: Vec<PathBuf>,
    /// Serve a generated catalog of this size
    #[arg(long, value_enum, default_value = "small", conflicts_with = "catalog")]
    scale: Scale,
    /// Seed of the generated catalog
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minimum duration of each answer, such as 20ms
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    latency: Span,
    /// Enforce Azure's limits: off, real, or real with changes such as 60x (time runs 60 times
    /// faster), arm=50/100 (bucket, reads per second), offers=10/40 (both windows)
    #[arg(long, value_name = "SPEC", default_value = "off")]
    quota: QuotaSpec,
    /// Number of subscriptions that the identity sees [default: 1, or 40 with a large organisation]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    subscriptions: Option<u8>,
    /// Size of the organisation with galleries: none, few, or many (120 galleries with 60,000
    /// versions in 40 subscriptions, and 5,000 machines) [default: few, or none with --catalog]
    #[arg(long, value_enum, value_name = "SIZE")]
    organisation: Option<OrganisationPreset>,
    /// Inject faults into shares of requests, such as 429=0.02,5xx=0.01 (also timeout, slow, cut,
    /// reset, shape, or all=0.01 for each), times=3 (faults for one path), seed=7
    #[arg(long, value_name = "SPEC", default_value = "")]
    faults: FaultsSpec,
    /// Maximum size of pushed blobs that its registries keep in memory, such as 512MiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    blobs_limit: BlobsLimit,
    /// Serve HTTPS, and write the certificate of the authority to ca.pem in this folder
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OrganisationPreset {
    None,
    Few,
    Many,
}

pub(super) async fn run(args: SimArgs) -> Result<ExitCode> {
    let world = if args.catalog.is_empty() {
        generate(args.scale, args.seed)
    } else {
        World::load(&args.catalog)?
    };
    let (world, needs) = match args.organisation {
        None => (world, 1),
        Some(OrganisationPreset::None) => (world.with_organisation(Organisation::default()), 1),
        Some(OrganisationPreset::Few) => {
            (world.with_generated_organisation(OrganisationSize::FEW, args.seed), 1)
        }
        Some(OrganisationPreset::Many) => (
            world.with_generated_organisation(OrganisationSize::MANY, args.seed),
            OrganisationSize::MANY.subscriptions,
        ),
    };
    let subscriptions = args.subscriptions.unwrap_or(needs);
    tracing::info!(versions = world.versions(), "the simulated Azure is ready");
    let SimArgs { latency, quota, faults, blobs_limit: blobs, .. } = args;
    let latency = latency.length();
    let sim = Sim::new(world, Conditions { latency, quota, faults, subscriptions, blobs });
    let running = sim.start(args.listen, args.tls.as_deref())?;
    let at = running.to_json();
    say_where(&at, args.tls.as_deref());
    output::text(&format!("{at}\n"))?;
    stop::asked().await;
    Ok(stop::code().unwrap_or(ExitCode::SUCCESS))
}

/// Prints the environment variables that direct azimg to the simulation, ready to paste into
/// another shell without parsing the JSON.
fn say_where(at: &Value, tls: Option<&Path>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    say!("# In another shell, until this one ends:");
    for (name, value) in [
        ("AZIMG_ARM_ENDPOINT", &at["arm"]),
        ("IDENTITY_ENDPOINT", &at["identity"]["endpoint"]),
        ("IDENTITY_HEADER", &at["identity"]["header"]),
    ] {
        say!("export {name}='{}'", text(value));
    }
    if let Some(folder) = tls {
        let authority = folder.join("ca.pem");
        let authority = std::path::absolute(&authority).unwrap_or(authority);
        say!("export SSL_CERT_FILE='{}'", authority.display());
    }
}
