//! HTTP server with a limit on concurrent connections, and a timeout for request heads.
//!
//! `axum::serve` keeps a connection open regardless of what is sent on it. A few clients that send
//! half a request each would use up the files that a process may open.

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

/// Limits of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum number of concurrent connections; further ones wait. Lower than the default limit of
    /// open files of a process (1,024).
    pub connections: usize,
    /// Maximum time from the end of the previous response, or the start of the connection, to the
    /// end of a request's head.
    pub head_within: Duration,
}

/// Limits for callers in general.
pub const CALLERS: ConnectionLimits =
    ConnectionLimits { connections: 512, head_within: Duration::from_secs(30) };
/// Limits for the Functions host. It keeps idle connections for a minute
/// (`PooledConnectionIdleTimeout` of .NET); closing one earlier could race with a request.
pub const THE_HOST: ConnectionLimits =
    ConnectionLimits { connections: 512, head_within: Duration::from_secs(90) };

/// Delay after a failure to accept that is local to this process, such as too many open files.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Serves `routes` on `listener` until `stopping` is cancelled. Returns when all requests received
/// by then have been answered.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: ConnectionLimits,
    stopping: CancellationToken,
) -> Result<()> {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let under_way = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.head_within);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, accept(&listener).await)
        };
        let Some((permit, stream)) = stopping.run_until_cancelled(next).await else { break };
        let permit = permit.map_err(|e| Error::bug("connection permits").with_source(e))?;
        let service = TowerToHyperService::new(routes.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = under_way.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    under_way.shutdown().await;
    Ok(())
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => {
                // Responses are written in a single piece, so delaying small packets only adds
                // latency.
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
            tracing::error!(%error, "cannot accept connections");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}
