//! Schedules of timers: six fields, as the Functions host reads them, in UTC.

use crate::error::{Error, Result};
use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::time::Duration;

/// Interval at which the clock is checked while waiting: it may be set, and the machine may be
/// suspended.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// A recurring schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule(Cron);

impl Schedule {
    /// Parses a schedule. One that is never due after `now` is invalid.
    pub(super) fn parse(text: &str, now: DateTime<Utc>) -> Result<Self> {
        let parser =
            CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|e| {
            Error::invalid(format!(
                "the schedule '{text}' is not valid: use six fields, such as 0 0 3 * * * ({e})"
            ))
        })?;
        let schedule = Self(cron);
        match schedule.next(now) {
            Some(_) => Ok(schedule),
            None => Err(Error::invalid(format!(
                "the schedule '{text}' never comes due: no such day exists. Its fields are second, \
                 minute, hour, day, month and day of the week, such as 0 0 3 * * *"
            ))),
        }
    }

    /// Returns the first time after `now` at which the schedule is due.
    fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.find_next_occurrence(&now, false).ok()
    }

    /// Waits until the schedule is due by the wall clock, even if that is set meanwhile.
    pub(super) async fn due(&self) -> Result<()> {
        let mut due: Option<DateTime<Utc>> = None;
        loop {
            let now = Utc::now();
            if due.is_some_and(|due| due <= now) {
                return Ok(());
            }
            // If the clock was set back, the earlier time applies.
            due = due.into_iter().chain(self.next(now)).min();
            let Some(due) = due else {
                return Err(Error::invalid("the schedule has no further due time"));
            };
            let left = (due - now).to_std().unwrap_or_default();
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 26, 12, 0, 0).unwrap()
    }

    #[test]
    fn schedule_that_is_never_due_is_refused() {
        for text in ["0 0 3 30 2 *", "0 0 0 31 2,4,6,9,11 *", "59 59 23 31 4 *"] {
            let error = Schedule::parse(text, now()).unwrap_err().to_string();
            assert!(error.contains("never comes due") && error.contains(text), "{error}");
        }
        for text in ["", "0 3 * * *", "0 0 25 * * *", "0 0 3 * * * 2020", "every day"] {
            let error = Schedule::parse(text, now()).unwrap_err().to_string();
            assert!(error.contains("is not valid: use six fields"), "{error}");
        }
    }

    #[test]
    fn rare_schedule_is_found() {
        let next = |text: &str| Schedule::parse(text, now()).unwrap().next(now()).unwrap();
        assert_eq!(next("0 0 3 * * *").to_rfc3339(), "2026-11-27T03:00:00+00:00");
        assert_eq!(next("0 0 3 29 2 *").to_rfc3339(), "2028-02-29T03:00:00+00:00");
        assert_eq!(next("0 */5 * * * *").to_rfc3339(), "2026-11-26T12:05:00+00:00");
    }
}
