//! Plans that people review before they are applied: one document for each plan, with a schema
//! version, a time limit, and a ledger beside it that records what was done.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// How far the clock of the machine that made a plan may be ahead of the one that applies it.
const CLOCK_DIFFERENCE: time::Duration = time::Duration::minutes(5);

/// A document that says what is to be deleted or changed.
pub trait Plan: Serialize + DeserializeOwned {
    /// The schema version that is written and read.
    const VERSION: u32;
    /// The command that makes and applies it.
    const COMMAND: &'static str;

    /// The schema version of this document.
    fn schema_version(&self) -> u32;

    /// The time from which and until which it can be applied.
    fn valid(&self) -> (OffsetDateTime, OffsetDateTime);

    /// Checks what its shape does not: people edit plans.
    fn check_rules(&self) -> Result<()>;

    /// Parses a plan. [`ErrorKind::Invalid`] for another document, for one of another version, and
    /// for rules that cannot be applied.
    fn parse(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("this is not a plan of {}: {e}", Self::COMMAND)))?;
        if plan.schema_version() != Self::VERSION {
            return Err(Error::invalid(format!(
                "the plan has the schema version {}; this azimg reads version {}",
                plan.schema_version(),
                Self::VERSION
            )));
        }
        plan.check_rules()?;
        Ok(plan)
    }

    /// Reads a plan from a file.
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error::invalid(format!("{}: cannot be read ({e})", file.display())))?;
        Self::parse(&text).map_err(|e| e.context(file.display().to_string()))
    }

    /// Writes the plan into the file that `--plan` names. An existing file is replaced only if it
    /// is a plan of the same command.
    fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::bug(e.to_string()))?;
        let is_plan = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|t| Self::parse(t).is_ok());
        files::write_document(file, &text, "--plan", is_plan)
    }

    /// Refuses to apply the plan at `now` if it has expired, or was made in the future.
    fn check_time(&self, now: OffsetDateTime) -> Result<()> {
        let (made_at, expires_at) = self.valid();
        if now > expires_at {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the plan expired at {expires_at}: create a new plan and review it"),
            ));
        }
        if now < made_at - CLOCK_DIFFERENCE {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the plan was made at {made_at}, and it is {now}: check the clocks"),
            ));
        }
        Ok(())
    }
}

/// The ledger of a plan: the file that `--ledger` names, or the plan's with `.ledger` appended.
pub fn ledger_path(named: Option<&PathBuf>, plan: &Path) -> PathBuf {
    named.cloned().unwrap_or_else(|| {
        let mut name = plan.as_os_str().to_owned();
        name.push(".ledger");
        name.into()
    })
}

/// The most that a plan may delete or change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionLimit {
    /// A number of manifests or versions.
    Count(usize),
    /// A percentage of those that the plan looked at, 0 to 100.
    Percent(u8),
}

impl std::str::FromStr for DeletionLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("'{text}' is neither a number nor a percentage"));
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(bad)
            }
            None => text.parse().map(Self::Count).map_err(|_| bad()),
        }
    }
}

impl DeletionLimit {
    /// Refuses a plan that deletes or changes `count` of `all`, if that is more than the limit.
    /// `message` is given the largest allowed number. A conflict, not invalid input: the command
    /// was well formed.
    pub fn check(
        self,
        count: usize,
        all: usize,
        message: impl FnOnce(usize) -> String,
    ) -> Result<()> {
        let most = match self {
            Self::Count(most) => most,
            Self::Percent(percent) => all * usize::from(percent) / 100,
        };
        if count <= most {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, message(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use time::OffsetDateTime as Moment;

    #[derive(Debug, Serialize, Deserialize)]
    struct Sample {
        version: u32,
        keep: u32,
    }

    impl Plan for Sample {
        const VERSION: u32 = 1;
        const COMMAND: &'static str = "azimg sample";

        fn schema_version(&self) -> u32 {
            self.version
        }

        fn valid(&self) -> (Moment, Moment) {
            (Moment::UNIX_EPOCH, Moment::UNIX_EPOCH + time::Duration::days(1))
        }

        fn check_rules(&self) -> Result<()> {
            if self.keep == 0 { Err(Error::invalid("keep must be positive")) } else { Ok(()) }
        }
    }

    #[test]
    fn other_documents_versions_and_rules_are_refused() {
        Sample::parse(r#"{"version": 1, "keep": 1}"#).unwrap();
        for (text, words) in [
            ("{}", "not a plan of azimg sample"),
            (r#"{"version": 2, "keep": 1}"#, "the schema version 2"),
            (r#"{"version": 1, "keep": 0}"#, "keep must be positive"),
        ] {
            let error = Sample::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_plan_is_valid_from_its_creation_until_it_expires() {
        let plan = Sample { version: 1, keep: 1 };
        let (made_at, expires_at) = plan.valid();
        for now in [made_at - CLOCK_DIFFERENCE, made_at, expires_at] {
            plan.check_time(now).unwrap();
        }
        let second = time::Duration::seconds(1);
        for (now, words) in [
            (made_at - CLOCK_DIFFERENCE - second, "check the clocks"),
            (expires_at + second, "expired"),
        ] {
            let error = plan.check_time(now).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_limit_refuses_one_more_than_it_allows() {
        for (limit, all, most) in [("3", 10, 3), ("50%", 5, 2), ("0%", 5, 0), ("100%", 5, 5)] {
            let limit: DeletionLimit = limit.parse().unwrap();
            let message = |most: usize| format!("at most {most}");
            limit.check(most, all, message).unwrap();
            let error = limit.check(most + 1, all, message).unwrap_err().to_string();
            assert_eq!(error, format!("at most {most}"));
        }
    }
}
