//! How long something waits for its turn: as long as the item has that it is done for, and never for ever.

use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::Instant;

/// Who has no deadline waits this long for the turn of one request.
const LONGEST: Duration = Duration::from_mins(10);
/// One wait ends so long after its item's time, or after it began where that is over: what is under way then is a
/// batch that would be asked for anew, and under a small quota again and again, if the next wait of it were refused.
/// No window of a quota is longer.
const GRACE: Duration = Duration::from_mins(30);
/// What had no turn comes back after this long.
const COMES_BACK: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// When the work of this task is to be over.
    static UNTIL: Instant;
}

/// Does `work`, in which nothing waits for its turn beyond `deadline`, but for what is under way then.
pub(crate) async fn until<T>(deadline: Instant, work: impl Future<Output = T>) -> T {
    UNTIL.scope(deadline, work).await
}

/// Waits for a turn at `what`; an error of kind `Throttled` when it does not come in time.
pub(crate) async fn within<T>(what: &str, turn: impl Future<Output = T>) -> Result<T> {
    let now = Instant::now();
    let deadline = UNTIL.try_with(|until| now.max(*until) + GRACE).unwrap_or(now + LONGEST);
    tokio::time::timeout_at(deadline, turn).await.map_err(|_| {
        let text = format!("{what}: its turn did not come in time; it is asked for again later");
        Error::new(ErrorKind::Throttled, text).with_retry_after(Some(COMES_BACK))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_waited_for_as_long_as_its_item_has() {
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
