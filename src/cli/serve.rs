//! `azimg serve`: the custom handler.

use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::handler::{Handler, Later, Ready};
use crate::store::azure::AzureQueues;
use async_trait::async_trait;
use futures::FutureExt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg serve                          as the Functions host starts it
  azimg serve --port 8080              by hand; GET / answers at once")]
pub(super) struct ServeArgs {
    /// The port to listen at on 127.0.0.1 [default: `FUNCTIONS_CUSTOMHANDLER_PORT`]
    #[arg(long)]
    port: Option<u16>,
}

#[async_trait]
impl Later for AzureQueues {
    async fn send(&self, queue: &str, text: &str, delay: Duration) -> Result<()> {
        Self::send(self, queue, text, delay).await
    }
}

pub(super) async fn run(args: &ServeArgs, flags: Flags) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    let port = match args.port {
        Some(port) => port,
        None => config.handler_port()?.ok_or_else(|| {
            Error::invalid(
                "no port: the Functions host sets FUNCTIONS_CUSTOMHANDLER_PORT; \
                            by hand, give --port",
            )
        })?,
    };
    // The host's probe is answered before anything slow begins.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|e| Error::transient(format!("cannot listen at {address}: {e}")))?;
    let handler = Handler::new(move || {
        let config = config.clone();
        async move {
            let (app, _) = tokio::task::spawn_blocking({
                let config = config.clone();
                move || config.app()
            })
            .await
            .map_err(|e| Error::bug("starting up").with_source(e))??;
            let later: Arc<dyn Later> = Arc::new(config.queues()?);
            Ok(Ready { app, later })
        }
        .boxed()
    });
    let routes = handler.router();
    let served = async { axum::serve(listener, routes).await.map_err(|e| Error::io("serving", e)) };
    // A wrong setting must not wait for the first message to show.
    let warm = async {
        match handler.warm().await {
            Ok(()) => std::future::pending().await,
            Err(error) => Err::<(), Error>(error),
        }
    };
    let ended = tokio::select! {
        ended = served => ended,
        failed = warm => failed,
    };
    let error = ended.err().unwrap_or_else(|| Error::bug("the handler stopped listening"));
    tracing::error!(%error, "the handler cannot work");
    // Never 0: the host would not start it again.
    Err(Error::new(crate::error::ErrorKind::Bug, error.to_string()))
}
