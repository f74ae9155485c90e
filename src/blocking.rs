//! CPU-bound and blocking work, on threads reserved for it.
//!
//! Invariant: no thread that serves requests waits for such work.

use crate::error::{Error, Result};
use std::sync::LazyLock;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Runs `work` on a blocking thread, in the caller's span. `what` names the work in the error that
/// a panic is converted to, such as `writing an archive`. Work that has started continues when its
/// caller is dropped.
pub async fn blocking<T, W>(what: &'static str, work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => {
            Err(Error::bug(format!("{what} panicked")).with_source(error))
        }
        Err(error) => Err(Error::transient(format!("{what}: cancelled, because the process ends"))
            .with_source(error)),
    }
}

/// Runs `work` on the current thread, while the runtime moves the thread's other tasks to another
/// one: for work that borrows from its surroundings. On a single-threaded runtime, which has no
/// other thread, it just runs.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Like [`in_place`], with at most as many calls in parallel as there are processors, which bounds
/// the memory they use.
pub async fn in_place_bounded<T>(work: impl FnOnce() -> T) -> T {
    static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
        Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))
    });
    // On a single-threaded runtime nothing else runs meanwhile anyway, and a clock driven by a
    // simulation must not wait for another runtime's work. The semaphore is never closed.
    let _turn = match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => TURNS.acquire().await.ok(),
        _ => None,
    };
    in_place(work)
}

#[cfg(test)]
#[expect(clippy::panic, reason = "what it is about")]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn panic_is_reported_as_a_bug_and_result_is_returned() {
        let error = blocking::<(), _>("counting", || panic!("a secret")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Bug, "counting panicked")
        );
        assert_eq!(blocking("counting", || Ok(3)).await.unwrap(), 3);
        let refused =
            blocking::<(), _>("counting", || Err(Error::invalid("no"))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn work_in_place_does_not_block_other_worker_threads() {
        let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(one.block_on(async { in_place(|| 3) }), 3);
        assert_eq!(in_place(|| 4), 4);
        let several =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (say, hear) = std::sync::mpsc::channel();
        // With one worker, the other task can send only if it gets another thread.
        let waits = several.spawn(async move { in_place(|| hear.recv().unwrap()) });
        several.spawn(async move { say.send(5).unwrap() });
        assert_eq!(several.block_on(waits).unwrap(), 5);
    }
}
