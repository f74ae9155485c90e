//! Connections of callers over HTTP: so many at once, each with a time for what it asks.
//!
//! `axum::serve` holds a connection for as long as it lives, whatever is sent on it; a few that send half a request
//! would hold everything that a process may open.

use crate::error::{Error, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How many connections there may be, and how long one may take for a request's head.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at once; further ones wait for one to end. Below what a process may open by default (1,024).
    pub connections: usize,
    /// From the end of the answer before, or the beginning of the connection, to the end of a request's head.
    pub head_within: Duration,
}

/// For callers of every kind.
pub const CALLERS: ConnectionLimits =
    ConnectionLimits { connections: 512, head_within: Duration::from_secs(30) };
/// For the Functions host, which keeps idle connections for a minute (`PooledConnectionIdleTimeout` of .NET): one
/// that is closed before may be closed under a request.
pub const THE_HOST: ConnectionLimits =
    ConnectionLimits { connections: 512, head_within: Duration::from_secs(90) };

/// Nothing is accepted for so long after a failure that is this process's own: it has too much open.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Answers callers of `listener` with `routes` until `stopping`; ends when all who had asked by then are answered.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: ConnectionLimits,
    stopping: CancellationToken,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let under_way = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.head_within);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let Some((place, stream)) = stopping.run_until_cancelled(next).await else { break };
        let place = place.map_err(|e| Error::bug("places for callers").with_source(e))?;
        let service = TowerToHyperService::new(routes.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = under_way.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    under_way.shutdown().await;
    Ok(())
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written at once as a whole.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => error,
        };
        let is_the_callers = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
        );
        if !is_the_callers {
            tracing::error!(%error, "no connection can be accepted");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}
