//! `azimg host`: the embedded Functions host. Runs until Ctrl-C or SIGTERM.

use super::stop;
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::host::callers::{Callers, HostName};
use crate::host::{Host, check_schedule, key, listen};
use crate::sink::say;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long work under way may take to end after a request to stop.
const LAST: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(
    after_help = "Requests that start a run or query Azure (live=true, images/usage) need the key: in the header
x-functions-key, or as ?code=, as in Azure. All other lookups from this machine, and the page at /, need none. Pages of
other origins are refused, except those that AZIMG_CORS_ORIGINS names. Requests for a host other than
127.0.0.1 or localhost with the port are refused, except for names given with --name.

Examples:
  azimg host                                   then: curl 'http://127.0.0.1:7071/api/images?top=3'
  curl -X POST -H \"x-functions-key: $(cat azimg-data/host.key)\" -H 'Content-Type: application/json' \\
    -d '{\"locations\":[\"westeurope\"]}' http://127.0.0.1:7071/api/runs
  AZIMG_SCHEDULE='0 0 */6 * * *' azimg host    crawl every six hours
  azimg host --name catalog.example.com        behind a proxy of that name"
)]
pub(super) struct HostArgs {
    /// Port of the HTTP functions on 127.0.0.1
    #[arg(long, default_value_t = 7071)]
    port: u16,
    /// Additional host name that requests may be for, such as that of a proxy; may be repeated
    ///
    /// Include the port unless it is 80 or 443.
    #[arg(long = "name", value_delimiter = ',', value_name = "NAME")]
    names: Vec<HostName>,
    /// File with the key [default: host.key in the folder of the store; with another store, a new
    /// key at each start]
    ///
    /// The file is created if it does not exist. Only its owner can read it.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Require no key
    ///
    /// Every program and every user of this machine can then start runs and query Azure with your
    /// identity and your quota. Pages in browsers still cannot.
    #[arg(long, conflicts_with = "key_file")]
    no_key: bool,
}

pub(super) async fn run(args: HostArgs, flags: Flags) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    // Checked before anything is announced.
    check_schedule(config.schedule())?;
    let origins = config.cors_origins()?;
    let (app, settings) = config.app()?;
    app.store.prepare().await?;
    let _claim = app.store.claim().await?;
    let key = key_of(&args, &config)?;
    let host = Host::new(&app, settings, config.schedule());
    let (listener, address) = listener(args.port).await?;
    host.recover(&app).await?;
    tracing::info!("functions are at http://{address}/api; crawls at '{}'", config.schedule());
    say!("azimg: the catalog is at http://{address}/");
    let routes = host.router(Callers { port: address.port(), names: args.names, origins, key });
    let served = listen::serve(listener, routes, listen::CALLERS, host.stopping());
    tokio::select! {
        ended = async { tokio::try_join!(served, host.run(true)) } => {
            ended?;
        }
        () = stop::requested(&host, LAST) => {}
    }
    tracing::info!("stopped; unfinished work is repeated at the next start");
    Ok(stop::code().unwrap_or(ExitCode::SUCCESS))
}

/// Listens on a port of 127.0.0.1; on a free one if `port` is 0.
pub(super) async fn listener(port: u16) -> Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::transient(format!("cannot listen on {address}: {e}; --port names another one"))
    })?;
    let address = listener.local_addr().map_err(|e| Error::io("the listener", e))?;
    Ok((listener, address))
}

/// The key that callers must present. It is printed to stderr and bypasses the log, which may be
/// kept and sent elsewhere.
fn key_of(args: &HostArgs, config: &Config) -> Result<Option<key::HostKey>> {
    if args.no_key {
        say!(
            "azimg: --no-key: every program and every user of this machine can start runs here and query \
             Azure with your identity and your quota"
        );
        return Ok(None);
    }
    let file = args.key_file.clone();
    let file = file.or_else(|| config.store_folder().map(|folder| folder.join(key::FILE)));
    let (key, kept) = match file {
        Some(file) => (
            key::HostKey::kept(&file)?,
            format!("it is kept in {}", file.to_string_lossy().escape_debug()),
        ),
        None => (
            key::HostKey::random()?,
            "each start generates a new one, unless --key-file names a file for it".into(),
        ),
    };
    say!(
        "azimg: requests that start something need the key {}, in the header x-functions-key or as ?code=; {kept}",
        key.text()
    );
    Ok(Some(key))
}
