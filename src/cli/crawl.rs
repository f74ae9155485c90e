//! `azimg crawl`: runs all functions on this machine until the run is published.

use super::choice::OneOf;
#[cfg(feature = "sim")]
use super::demo::{demo, refuse_made_up};
use super::output::Output;
use super::progress::{RunProgressBar, seconds};
use super::{FAILED, PARTIAL, stop};
use crate::catalog::{Catalog, Filter};
use crate::config::{Config, Flags};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{self, App};
use crate::host::Host;
use crate::image::names::ClosedSet;
use crate::pipeline::coverage::{Coverage, CoverageLine};
use crate::pipeline::snapshot::{self, Completeness, Manifest};
use crate::sink::{self, say};
use crate::store::{SnapshotFile, Store};
use crate::work::{Details, Request, RunId, SourceName, WorkItem};
use clap::builder::TypedValueParser;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long work items under way may take to end after a request to stop.
const LAST: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg crawl --demo                                   a simulated Azure; no account is needed
  azimg crawl --location eastus,westeurope             two locations, with the account in use
  azimg crawl --location -francesouth                  all except one that the subscription may not use")]
pub(super) struct CrawlArgs {
    /// Sources to crawl: marketplace, gallery or registry [default: `AZIMG_SOURCES`, else all]
    #[arg(long, value_delimiter = ',', value_parser = source(), hide_possible_values = true, value_name = "SOURCE")]
    source: Vec<SourceName>,
    /// Locations to crawl; a leading '-' excludes a location [default: `AZIMG_LOCATIONS`, else all]
    #[arg(
        short,
        long,
        value_delimiter = ',',
        value_name = "LOCATION",
        conflicts_with = "all_locations",
        allow_hyphen_values = true
    )]
    location: Vec<String>,
    /// Crawl every location that has images, and ignore `AZIMG_LOCATIONS`
    #[arg(long)]
    all_locations: bool,
    /// Crawl only publishers whose name contains one of these texts [default: `AZIMG_PUBLISHERS`,
    /// else all]
    #[arg(short, long, value_delimiter = ',', value_name = "TEXT")]
    publisher: Vec<String>,
    /// Subscriptions to query [default: `AZIMG_SUBSCRIPTIONS`, else all]
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    subscription: Vec<String>,
    /// Versions whose details (plan, OS, features) are requested
    ///
    /// This is one request for each version. Later crawls do not repeat it.
    #[arg(long, value_enum, default_value = "latest")]
    details: DetailsArg,
    /// List the offers of every publisher, including lists younger than `AZIMG_OFFERS_MAX_AGE`
    /// (24h)
    #[arg(long)]
    full: bool,
    /// Crawl a simulated Azure, which runs in this process; no account is needed
    #[cfg(feature = "sim")]
    #[arg(long)]
    demo: bool,
    /// Resume an interrupted run
    #[arg(long, value_name = "RUN")]
    resume: Option<RunId>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DetailsArg {
    /// Only what listings contain
    None,
    /// Also the newest version of each SKU and definition, and tagged manifests
    Latest,
    /// Every version
    All,
}

const SOURCES: ClosedSet = ClosedSet {
    what: "source",
    names: &[
        SourceName::Marketplace.as_str(),
        SourceName::Gallery.as_str(),
        SourceName::Registry.as_str(),
    ],
};

/// Parses a source name.
fn source() -> impl TypedValueParser<Value = SourceName> {
    OneOf(SOURCES).try_map(|name| {
        let known = SourceName::ALL.iter().copied().find(|source| source.as_str() == name);
        known.ok_or_else(|| Error::bug("a source without its name"))
    })
}

pub(super) async fn run(args: CrawlArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    #[cfg(feature = "sim")]
    let is_demo = args.demo;
    #[cfg(not(feature = "sim"))]
    let is_demo = false;
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
    if is_demo {
        config = demo(config, output.quiet).await?;
    } else {
        refuse_made_up(&config)?;
    }
    let (app, settings) = config.app()?;
    app.store.prepare().await?;
    let _claim = app.store.claim().await?;
    let host = Host::new(&app, settings, config.schedule());
    let started = Instant::now();
    let run = match args.resume {
        Some(run) => {
            let rest = functions::resume(&app, run).await?;
            // The remaining work items of sources other than registries need a sign-in. It is
            // checked before they are enqueued, so that nothing of the run is lost for lack of one.
            let items = rest.messages.iter().filter(|message| message.queue == functions::WORK);
            let mut items = items.filter_map(|message| WorkItem::parse(&message.text).ok());
            if items.any(|item| item.source != SourceName::Registry) {
                config.client()?.signed_in().await?;
            }
            host.enqueue(rest);
            run
        }
        None => begin(&host, config.request()).await?,
    };
    let shown = RunProgressBar::start(&app, run, output.quiet);
    let ended = tokio::select! {
        ended = published(&app, run) => ended,
        stopped = host.run(false) => stopped.and_then(|()| Err(Error::transient("interrupted"))),
        () = stop::requested(&host, LAST) => Err(Error::transient("interrupted")),
    };
    drop(shown);
    if let Err(error) = ended {
        say!("azimg: {error}");
        say!(
            "The results so far are kept. Resume with: azimg crawl{} --resume {run}{}",
            if is_demo { " --demo" } else { "" },
            store(&config)
        );
        return Ok(stop::code().unwrap_or(ExitCode::from(FAILED)));
    }
    let manifest = snapshot::manifest(app.store.as_ref(), run)
        .await?
        .ok_or_else(|| Error::bug("a published run has no manifest"))?;
    unknown_publishers(app.store.as_ref(), &manifest, config.request(), output).await?;
    report(&app, &manifest, started.elapsed(), &config, output)
}

/// Reports requested publishers that are not in the catalog, with similar names in one of the
/// crawled locations.
async fn unknown_publishers(
    store: &dyn Store,
    manifest: &Manifest,
    request: &Request,
    output: &Output,
) -> Result<()> {
    if request.publishers.is_empty() || output.quiet {
        return Ok(());
    }
    let Some(catalog) = Catalog::open_run(store, manifest.run).await? else { return Ok(()) };
    let filter = |part: &String| Filter { publisher: Some(part.clone()), ..Filter::default() };
    let unknown = request.publishers.iter().map(|part| catalog.unknown_names(&filter(part)));
    let unknown: Vec<String> = unknown.flatten().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let coverage = snapshot::verified(store, manifest, SnapshotFile::Coverage).await?;
    let coverage = coverage.map(|bytes| serde_json::from_slice::<Coverage>(&bytes)).transpose();
    let coverage = coverage.map_err(|e| Error::corrupt(format!("coverage.json: {e}")))?;
    let mut lines = coverage.iter().flat_map(|coverage| &coverage.scopes);
    let of_list = |line: &&CoverageLine| !line.only.is_empty() && line.state.is_complete();
    match lines.find(|line| of_list(line) && !line.reason.is_empty()) {
        Some(CoverageLine { location, reason, .. }) => say!("In {location} {reason}."),
        None => unknown.iter().for_each(|sentence| say!("{sentence}")),
    }
    Ok(())
}

async fn begin(host: &Arc<Host>, request: &Request) -> Result<RunId> {
    // `force`: nothing in this process works on a run that another process left behind.
    let request = Request { force: true, ..request.clone() };
    let body = serde_json::to_string(&request).map_err(|e| Error::bug(e.to_string()))?;
    let reply = host.start(&body).await?;
    let answer: Value = serde_json::from_str(&reply.body)
        .map_err(|e| Error::bug(format!("the answer to start is not JSON: {e}")))?;
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
        502 if answer["error"]["code"] == "NoCredential" => ErrorKind::SignedOut,
        502 => ErrorKind::BadAnswer,
        _ => ErrorKind::Transient,
    };
    let message = answer["error"]["message"].as_str().unwrap_or("the run could not be started");
    // An unknown subscription or location is a wrong argument, not a missing image.
    let kind = if kind == ErrorKind::NotFound { ErrorKind::Denied } else { kind };
    Err(Error::new(kind, message))
}

/// Waits until the snapshot of the run is published or has failed.
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
            return Err(Error::bug("the source of progress reports has closed"));
        }
    }
}

/// The `--store` flag to repeat in a suggested command. Empty for the default store.
fn store(config: &Config) -> String {
    config.store_name().map_or_else(String::new, |name| format!(" --store {name}"))
}

/// Suggests the next commands. Without a terminal, and except after a first run, only for a partial
/// snapshot: a nightly crawl has no reader who would type them.
fn try_next(manifest: &Manifest, changes: u64, at: &str) {
    let is_partial = manifest.state == Completeness::Partial;
    let is_new = sink::stderr_is_terminal() || manifest.previous_run.is_none();
    if !is_new && !is_partial {
        return;
    }
    say!("Try next:");
    if is_partial {
        say!("  azimg runs show {}{at}", manifest.run);
    }
    if !is_new {
        return;
    }
    if changes > 0 {
        say!("  azimg changes -o table{at}");
    }
    say!("  azimg page{at}");
    let has = |source| manifest.file(SnapshotFile::Ndjson(source)).is_some_and(|f| f.rows > 0);
    if has(SourceName::Marketplace) {
        say!("  azimg images list --publisher canonical{at}");
        say!("  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus{at}");
    }
    if has(SourceName::Gallery) {
        say!("  azimg gallery list -o table{at}");
    }
    if has(SourceName::Registry) {
        say!("  azimg images list --kind container-manifest --tag latest -o table{at}");
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
        say!(
            "Published run {} ({state}): {} images, {changes} changes, {requests} requests in {}.",
            manifest.run,
            count(".parquet"),
            if elapsed.as_secs() == 0 { "under a second".to_owned() } else { seconds(elapsed) },
        );
        say!(
            "Coverage: {} listings done, {} empty, {} gone, {} denied, {} failed, {} carried over.",
            coverage.done,
            coverage.empty,
            coverage.gone,
            coverage.denied,
            coverage.failed,
            coverage.carried,
        );
        try_next(manifest, changes, &store(config));
    }
    if !output.is_table() {
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
