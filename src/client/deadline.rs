//! Bounds how long a request waits for its permit: by the deadline of the work item it is sent for,
//! and never without limit.

use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for the permit of one request outside a work item.
const LONGEST: Duration = Duration::from_mins(10);
/// A single wait ends this long after the work item's deadline, or after the wait began if the
/// deadline has passed already. Without this grace the next wait of a late batch would fail, and
/// the whole batch would be requested anew, under a small quota again and again. With the time that
/// a work item has, it is less than the 30 minutes after which the Functions host ends an
/// invocation, and with it the process; longer than most quota windows.
const GRACE: Duration = Duration::from_mins(25);
/// Retry delay of a request that got no permit in time.
const COMES_BACK: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Deadline of the work that this task does.
    static UNTIL: Instant;
}

/// Runs `work`, in which each wait for a permit is bounded by `deadline` and [`GRACE`].
pub(crate) async fn until<T>(deadline: Instant, work: impl Future<Output = T>) -> T {
    UNTIL.scope(deadline, work).await
}

/// Waits for `turn` to request `what`; an error of kind `Throttled` when it does not come in time.
pub(crate) async fn within<T>(what: &str, turn: impl Future<Output = T>) -> Result<T> {
    let now = Instant::now();
    let deadline = UNTIL.try_with(|until| now.max(*until) + GRACE).unwrap_or(now + LONGEST);
    tokio::time::timeout_at(deadline, turn).await.map_err(|_| {
        let text = format!("{what}: no permit before the deadline; the request is retried later");
        Error::new(ErrorKind::Throttled, text).with_retry_after(Some(COMES_BACK))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wait_for_a_permit_ends_at_the_deadline_of_the_item() {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(5);
        let never = std::future::pending::<()>();
        let error = until(deadline, within("x", never)).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(5) + GRACE);
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(COMES_BACK)));
        let work = async {
            tokio::time::sleep(GRACE * 3).await;
            let began = Instant::now();
            within("x", tokio::time::sleep(GRACE / 2)).await.unwrap();
            within("x", std::future::pending::<()>()).await.unwrap_err();
            began.elapsed()
        };
        let took = until(deadline, work).await;
        assert_eq!(took, GRACE / 2 + GRACE, "a batch that is late is not lost to a wait that ends");
        let began = Instant::now();
        within("x", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(began.elapsed(), LONGEST, "without an item, not for ever either");
        let is_there = until(deadline, within("x", std::future::ready(7))).await;
        assert_eq!(is_there.unwrap(), 7, "what need not wait is never late");
    }
}
