//! `azimg crawl`: the whole function set on this machine until the run is published.

use super::output::{Format, Output};
use super::progress::{Shown, seconds};
use super::{FAILED, PARTIAL};
use crate::config::{Config, Flags};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{self, App};
use crate::host::Host;
use crate::pipeline::snapshot::{self, Completeness, Manifest};
use crate::store::SnapshotFile;
use crate::work::{Details, Request, RunId, SourceName};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg crawl --demo                                   a simulated Azure: no account needed
  azimg crawl --location eastus --location westeurope  two locations of the account in use")]
pub(super) struct CrawlArgs {
    /// A source to crawl; may be repeated [default: all, or `AZIMG_SOURCES`]
    #[arg(long, value_parser = source, value_name = "SOURCE")]
    source: Vec<SourceName>,
    /// A location to crawl; may be repeated [default: all, or `AZIMG_LOCATIONS`]
    #[arg(long, value_name = "LOCATION", conflicts_with = "all_locations")]
    location: Vec<String>,
    /// Crawl every location that has images, whatever `AZIMG_LOCATIONS` says
    #[arg(long)]
    all_locations: bool,
    /// Only publishers whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    publisher: Vec<String>,
    /// A subscription to ask through; may be repeated [default: all, or `AZIMG_SUBSCRIPTIONS`]
    #[arg(long, value_name = "ID")]
    subscription: Vec<String>,
    /// Which versions to ask for plan, OS and features: one request each, once ever
    #[arg(long, value_enum, default_value = "latest")]
    details: DetailsArg,
    /// List every publisher's offers, also those that were listed less than
    /// `AZIMG_OFFERS_MAX_AGE` ago (24h)
    #[arg(long)]
    full: bool,
    /// Crawl a simulated Azure that is started for it
    #[cfg(feature = "sim")]
    #[arg(long)]
    demo: bool,
    /// Go on with a run that was interrupted
    #[arg(long, value_name = "RUN")]
    resume: Option<RunId>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DetailsArg {
    None,
    Latest,
    All,
}

fn source(text: &str) -> Result<SourceName> {
    SourceName::ALL.iter().copied().find(|source| source.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = SourceName::ALL.iter().map(|source| source.as_str()).collect();
        Error::invalid(format!("there is no such source; there is {}", known.join(", ")))
    })
}

pub(super) async fn run(args: CrawlArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let details = match args.details {
        DetailsArg::None => Details::None,
        DetailsArg::Latest => Details::Latest,
        DetailsArg::All => Details::All,
    };
    let flags = Flags {
        sources: args.source,
        locations: args.location,
        publishers: args.publisher,
        subscriptions: args.subscription,
        details: Some(details),
        full: args.full,
        ..flags
    };
    let mut config = Config::load(flags)?;
    if args.all_locations {
        config = config.with_all_locations();
    }
    #[cfg(feature = "sim")]
    if args.demo {
        config = demo(config, output.quiet).await?;
    }
    let (app, settings) = config.app()?;
    app.store.prepare().await?;
    let _claim = app.store.claim().await?;
    let host = Host::new(&app, settings, config.schedule());
    let started = Instant::now();
    let run = match args.resume {
        Some(run) => {
            host.enqueue(functions::resume(&app, run).await?);
            run
        }
        None => begin(&host, config.request()).await?,
    };
    let shown = Shown::start(&app, run, output.quiet);
    let ended = tokio::select! {
        ended = published(&app, run) => ended,
        stopped = host.run(false) => stopped.and_then(|()| Err(Error::bug("the host stopped"))),
        _ = tokio::signal::ctrl_c() => Err(Error::transient("interrupted")),
    };
    drop(shown);
    if let Err(error) = ended {
        eprintln!("azimg: {error}");
        eprintln!(
            "What was found is kept. Go on with: azimg crawl --resume {run}{}",
            store(&config)
        );
        return Ok(ExitCode::from(FAILED));
    }
    let manifest = snapshot::manifest(app.store.as_ref(), run)
        .await?
        .ok_or_else(|| Error::bug("a published run has no manifest"))?;
    report(&app, &manifest, started.elapsed(), &config, output)
}

async fn begin(host: &Arc<Host>, request: &Request) -> Result<RunId> {
    let body = serde_json::to_string(request).map_err(|e| Error::bug(e.to_string()))?;
    let reply = host.start(&body).await?;
    let answer: Value = serde_json::from_str(&reply.body)
        .map_err(|e| Error::bug(format!("start answered no JSON: {e}")))?;
    let status = reply.status;
    if status < 300 {
        let run = answer["run"].as_str().unwrap_or_default();
        return run.parse();
    }
    let kind = match status {
        400 => ErrorKind::Invalid,
        404 => ErrorKind::NotFound,
        403 => ErrorKind::Denied,
        409 => ErrorKind::Conflict,
        502 => ErrorKind::SignedOut,
        _ => ErrorKind::Transient,
    };
    let message = answer["error"]["message"].as_str().unwrap_or("the run could not be started");
    // A subscription or location that Azure does not know is a wrong argument, not a missing image.
    let kind = if kind == ErrorKind::NotFound { ErrorKind::Denied } else { kind };
    Err(Error::new(kind, message))
}

/// Waits until the run's snapshot is there, or cannot be.
async fn published(app: &App, run: RunId) -> Result<()> {
    let mut changes = app.progress.changes();
    loop {
        if let Some(progress) = app.progress.of(run) {
            if progress.published {
                return Ok(());
            }
            if let Some((kind, text)) = progress.failure {
                return Err(Error::new(kind, text));
            }
        }
        if tokio::time::timeout(Duration::from_secs(1), changes.changed())
            .await
            .is_ok_and(|c| c.is_err())
        {
            return Err(Error::bug("nobody reports progress"));
        }
    }
}

/// A simulated Azure of one region in this process.
#[cfg(feature = "sim")]
async fn demo(config: Config, quiet: bool) -> Result<Config> {
    use crate::sim::{Conditions, Scale, Sim, SimCredential, generate};
    if !quiet {
        eprintln!("Starting a simulated Azure with one region's catalog …");
    }
    let world = tokio::task::spawn_blocking(|| generate(Scale::Region, 1))
        .await
        .map_err(|e| Error::bug("generating a catalog").with_source(e))?;
    let sim = Sim::new(world, Conditions::default());
    let running = sim.start(([127, 0, 0, 1], 0).into(), None)?;
    Ok(config.with_resource_manager(running.arm, Arc::new(SimCredential)))
}

/// The flag that names the store, unless it is the default one.
fn store(config: &Config) -> String {
    match config.store_name() {
        "./azimg-data" => String::new(),
        name => format!(" --store {}", name.split('?').next().unwrap_or_default()),
    }
}

/// Says what may be typed next: what there is to look at.
fn try_next(manifest: &Manifest, at: &str) {
    eprintln!("Try next:");
    if manifest.state == Completeness::Partial {
        eprintln!("  azimg runs show {}{at}", manifest.run);
    }
    let has = |source| manifest.file(SnapshotFile::Ndjson(source)).is_some_and(|f| f.rows > 0);
    if has(SourceName::Marketplace) {
        eprintln!("  azimg images list --publisher canonical{at}");
        eprintln!("  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus{at}");
    }
    if has(SourceName::Gallery) {
        eprintln!("  azimg gallery list -o table{at}");
    }
    if has(SourceName::Registry) {
        eprintln!("  azimg images list --kind container-manifest --tag latest -o table{at}");
    }
}

fn report(
    app: &App,
    manifest: &Manifest,
    elapsed: Duration,
    config: &Config,
    output: &Output,
) -> Result<ExitCode> {
    let count = |ending: &str| -> u64 {
        let files = manifest.files.iter().filter(|file| file.name.ends_with(ending));
        files.map(|file| file.rows).sum()
    };
    let images: serde_json::Map<String, Value> = manifest
        .files
        .iter()
        .filter_map(|file| Some((file.name.strip_suffix(".parquet")?.to_owned(), file.rows.into())))
        .collect();
    let changes = count("changes.ndjson.zst");
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let requests = load(&app.traffic.requests);
    if !output.quiet {
        let coverage = &manifest.coverage;
        let state = match manifest.state {
            Completeness::Complete => "complete",
            Completeness::Partial => "partial",
        };
        eprintln!(
            "Published run {} ({state}): {} images, {changes} changes, {requests} requests in {}.",
            manifest.run,
            count(".parquet"),
            if elapsed.as_secs() == 0 { "under a second".to_owned() } else { seconds(elapsed) },
        );
        eprintln!(
            "Coverage: {} listings done, {} empty, {} gone, {} denied, {} failed, {} carried over.",
            coverage.done,
            coverage.empty,
            coverage.gone,
            coverage.denied,
            coverage.failed,
            coverage.carried,
        );
        try_next(manifest, &store(config));
    }
    if output.format != Format::Table {
        let address = app.store.address();
        output.one(json!({
            "run": manifest.run,
            "state": manifest.state,
            "snapshot": format!("{}/snapshots/{}", address.trim_end_matches('/'), manifest.run),
            "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            "requests": requests,
            "throttled": load(&app.traffic.throttled),
            "retried": load(&app.traffic.retried),
            "images": images,
            "changes": changes,
            "coverage": manifest.coverage,
        }))?;
    }
    Ok(match manifest.state {
        Completeness::Complete => ExitCode::SUCCESS,
        Completeness::Partial => ExitCode::from(PARTIAL),
    })
}
