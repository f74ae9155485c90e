//! What asks a command to stop: Ctrl-C, and SIGTERM from whoever started it. A command that begins something that
//! goes on without it, or that can be gone on with, says so and ends with the signal's exit code.

use crate::error::{Error, Result};
use crate::host::Host;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Exit codes as a shell has them of a program that a signal ended.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// The exit code of what asked last; zero while nothing has.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// The exit code, when the command was asked to stop.
pub(super) fn code() -> Option<ExitCode> {
    let code = ASKED.load(Ordering::Relaxed);
    (code != 0).then(|| ExitCode::from(code))
}

/// Waits until the command is asked to stop.
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

/// Waits for `change`, unless the command is asked to stop in the middle of it: then `how` says how it stands.
pub(super) async fn unless_asked<T>(
    change: impl Future<Output = Result<T>>,
    how: impl FnOnce() -> String,
) -> Result<T> {
    tokio::select! {
        ended = change => ended,
        () = asked() => Err(Error::transient(how())),
    }
}

/// Waits until the command is asked to stop, stops `host`, and gives what is under way so long to end, unless it
/// is asked once more.
pub(super) async fn asked_of(host: &Host, within: Duration) {
    asked().await;
    host.stop();
    let _ = tokio::time::timeout(within, asked()).await;
}
