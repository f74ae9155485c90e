//! `azimg serve`: the custom handler.

use super::{front, stop};
use crate::blocking::blocking;
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::handler::{Handler, MessageSender, Ready};
use crate::host::listen;
use crate::store::azure::AzureQueues;
use async_trait::async_trait;
use futures::FutureExt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long invocations under way may take to end after a request to stop.
const LAST: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg serve                          as the Functions host starts it
  azimg serve --port 8080              by hand; GET / answers immediately")]
pub(super) struct ServeArgs {
    /// Port to listen on, on 127.0.0.1 [default: `FUNCTIONS_CUSTOMHANDLER_PORT`]
    #[arg(long)]
    port: Option<u16>,
}

#[async_trait]
impl MessageSender for AzureQueues {
    async fn send(&self, queue: &str, text: &str, delay: Duration) -> Result<()> {
        Self::send(self, queue, text, delay).await
    }
}

pub(super) async fn run(args: &ServeArgs, flags: Flags) -> Result<ExitCode> {
    let config = Config::of_environment(flags)?;
    let gate = config.clone();
    let port = match args.port {
        Some(port) => port,
        None => config.handler_port()?.ok_or_else(|| {
            Error::invalid(
                "no port: the Functions host sets FUNCTIONS_CUSTOMHANDLER_PORT; \
                 by hand, add --port",
            )
        })?,
    };
    // The listener comes first: the host's probe must be answered before anything slow begins.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|e| Error::transient(format!("cannot listen on {address}: {e}")))?;
    let handler = Handler::new(move || {
        let config = config.clone();
        async move {
            let making = config.clone();
            let (app, _) = blocking("starting up", move || making.app()).await?;
            let later: Arc<dyn MessageSender> = Arc::new(config.queues()?);
            Ok(Ready { app, later })
        }
        .boxed()
    });
    let routes = front::checked(handler.router(), &gate)?;
    let stopping = CancellationToken::new();
    let served = listen::serve(listener, routes, listen::THE_HOST, stopping.clone());
    // Starts up now: a wrong setting must show before the first message arrives.
    let warm = async {
        match handler.warm().await {
            Ok(()) => std::future::pending().await,
            Err(error) => Err::<(), Error>(error),
        }
    };
    let stopped = async {
        stop::asked().await;
        stopping.cancel();
        let _ = tokio::time::timeout(LAST, stop::asked()).await;
    };
    let ended = tokio::select! {
        ended = served => ended,
        failed = warm => failed,
        () = stopped => Ok(()),
    };
    if let (Ok(()), Some(code)) = (&ended, stop::code()) {
        tracing::info!("stopped; the host delivers unfinished messages again");
        return Ok(code);
    }
    let error = ended.err().unwrap_or_else(|| Error::bug("the handler stopped listening"));
    tracing::error!(%error, "the handler cannot work");
    // Never exits with 0: the host would not start it again.
    Err(Error::new(crate::error::ErrorKind::Bug, error.to_string()))
}
