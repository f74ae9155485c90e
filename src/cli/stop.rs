//! Requests to stop a command: Ctrl-C, or SIGTERM from the process that started it. A command whose
//! work continues without it, or can be resumed, says so and ends with the exit code of the signal.

use crate::error::{Error, Result};
use crate::host::Host;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Exit codes as a shell reports them for a program that a signal ended.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// The exit code for the last request to stop. Zero if there was none.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// The exit code if the command was requested to stop.
pub(super) fn code() -> Option<ExitCode> {
    let code = ASKED.load(Ordering::Relaxed);
    (code != 0).then(|| ExitCode::from(code))
}

/// Waits for a request to stop.
pub(super) async fn asked() {
    let code = tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => INTERRUPTED,
        () = terminated() => TERMINATED,
    };
    ASKED.store(code, Ordering::Relaxed);
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut signals) = signal(SignalKind::terminate())
        && signals.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}

/// Waits for `change`. On a request to stop before it ends, returns an error whose text is `how()`,
/// the state that the change has reached.
pub(super) async fn unless_stopped<T>(
    change: impl Future<Output = Result<T>>,
    how: impl FnOnce() -> String,
) -> Result<T> {
    tokio::select! {
        ended = change => ended,
        () = asked() => Err(Error::transient(how())),
    }
}

/// Waits for a request to stop, then stops `host` and gives work under way the time `within` to
/// end. A second request ends the wait.
pub(super) async fn requested(host: &Host, within: Duration) {
    asked().await;
    host.stop();
    let _ = tokio::time::timeout(within, asked()).await;
}
