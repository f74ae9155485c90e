//! `azimg host`: the embedded Functions host, until Ctrl-C.

use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::host::Host;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg host                                   then: curl http://127.0.0.1:7071/api/images?top=3
  AZIMG_SCHEDULE='0 0 */6 * * *' azimg host    crawl every six hours")]
pub(super) struct HostArgs {
    /// The port of the HTTP functions
    #[arg(long, default_value_t = 7071)]
    port: u16,
}

pub(super) async fn run(args: HostArgs, flags: Flags) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    let (app, settings) = config.app()?;
    app.store.prepare().await?;
    let _claim = app.store.claim().await?;
    let host = Host::new(&app, settings, config.schedule());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|e| Error::transient(format!("cannot listen at {address}: {e}")))?;
    let address = listener.local_addr().map_err(|e| Error::io("the listener", e))?;
    host.recover(&app).await?;
    tracing::info!("functions are at http://{address}/api; crawls at '{}'", config.schedule());
    let routes = host.router();
    tokio::select! {
        ended = async { axum::serve(listener, routes).await } => {
            ended.map_err(|e| Error::io("serving", e))?;
        }
        ended = host.run(true) => ended?,
        _ = tokio::signal::ctrl_c() => {
            tracing::info!("stopped; what was under way is done again next time");
        }
    }
    Ok(ExitCode::SUCCESS)
}
