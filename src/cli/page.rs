//! `azimg page`: the catalog in a browser. It answers lookups only: it crawls nothing, so it can run
//! beside a crawl or a host on the same store. Runs until Ctrl-C or SIGTERM.

use super::{browser, host, stop};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::host::callers::Callers;
use crate::host::{Host, key, listen};
use crate::pipeline::snapshot;
use crate::sink::{say, stdout_is_terminal};
use std::process::ExitCode;
use std::time::Duration;

/// How long requests under way may take to end after a request to stop.
const LAST: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(
    after_help = "The page shows the current snapshot of the store, and a newer one as soon as it is published. It
needs no Azure account, except for Usage, which queries Azure and asks for the key that is printed.

Examples:
  azimg page                                opens the browser; Ctrl-C ends it
  azimg page --port 8080 --no-open"
)]
pub(super) struct PageArgs {
    /// Port of the page on 127.0.0.1
    #[arg(long, default_value_t = 7072)]
    port: u16,
    /// Only print the address
    ///
    /// Without a terminal, no browser is opened either.
    #[arg(long)]
    no_open: bool,
}

pub(super) async fn run(args: PageArgs, flags: Flags) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    #[cfg(feature = "sim")]
    let (config, is_demo) = super::demo::of_store(config).await?;
    #[cfg(not(feature = "sim"))]
    let is_demo = false;
    let (app, settings) = config.app()?;
    if snapshot::head(app.store.as_ref()).await?.is_none() {
        return Err(Error::not_found(
            "there is no catalog in this store: create one with 'azimg crawl', or with 'azimg crawl \
             --demo', which needs no account; or name another store with --store",
        ));
    }
    let (listener, address) = host::listener(args.port).await?;
    // Nobody's quota is at stake in a simulated Azure.
    let key = if is_demo { None } else { Some(key::HostKey::random()?) };
    say!("azimg: the catalog is at http://{address}/; Ctrl-C ends it");
    match &key {
        Some(key) => say!("azimg: what queries Azure needs the key {}", key.text()),
        None => say!("azimg: this is the catalog of a demo; no key is needed"),
    }
    let lookups = Host::new(&app, settings, config.schedule());
    let origins = config.cors_origins()?;
    let callers = Callers { port: address.port(), names: Vec::new(), origins, key };
    if !args.no_open && stdout_is_terminal() {
        browser::open(&format!("http://{address}/"));
    }
    let routes = lookups.lookups(callers);
    tokio::select! {
        ended = listen::serve(listener, routes, listen::CALLERS, lookups.stopping()) => ended?,
        () = stop::requested(&lookups, LAST) => {}
    }
    Ok(stop::code().unwrap_or(ExitCode::SUCCESS))
}
