//! `azimg doctor`: tries once each thing that a crawl needs.

mod azure;
mod storage;

use super::output::Output;
use super::{FAILED, PARTIAL};
use crate::config::{Config, Flags};
use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg doctor                                         with the settings of this shell
  azimg doctor --store https://ACCOUNT.blob.core.windows.net/azimg -o json

Exit codes: 0 no problem was found, 1 a crawl would fail, 3 a crawl would be incomplete.")]
pub(super) struct DoctorArgs {
    /// Location used to check the marketplace [default: the first one that is crawled]
    #[arg(long, value_name = "LOCATION")]
    location: Option<String>,
}

/// The result of a check, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckState {
    /// As it should be.
    Ok,
    /// Worth a look. Nothing will be missing.
    Note,
    /// Something will be missing from every crawl.
    Gap,
    /// A crawl cannot work.
    Failed,
}

/// A check and its result.
#[derive(Debug, Serialize)]
struct CheckResult {
    check: &'static str,
    about: String,
    state: CheckState,
    says: String,
}

/// All checks made.
#[derive(Default)]
struct CheckReport(Vec<CheckResult>);

impl CheckReport {
    fn add(
        &mut self,
        check: &'static str,
        about: impl Into<String>,
        state: CheckState,
        says: impl Into<String>,
    ) {
        self.0.push(CheckResult { check, about: about.into(), state, says: says.into() });
    }

    /// Adds the result of an attempt. A failure has the state `failure`; if access was denied,
    /// `advice` is appended to its text.
    fn tried(
        &mut self,
        (check, about): (&'static str, &str),
        result: Result<String>,
        (failure, advice): (CheckState, &str),
    ) {
        match result {
            Ok(says) => self.add(check, about, CheckState::Ok, says),
            Err(error) => self.failed((check, about), &error, (failure, advice)),
        }
    }

    fn failed(
        &mut self,
        (check, about): (&'static str, &str),
        error: &Error,
        (state, advice): (CheckState, &str),
    ) {
        let advice = match error.kind() {
            ErrorKind::Denied if !advice.is_empty() => format!(". {advice}"),
            _ => String::new(),
        };
        self.add(check, about, state, format!("{error}{advice}"));
    }
}

pub(super) async fn run(args: &DoctorArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let mut findings = CheckReport::default();
    let version = format!(
        "azimg {}, work item version {}, snapshot schema version {}",
        env!("CARGO_PKG_VERSION"),
        crate::work::WORK_VERSION,
        crate::pipeline::snapshot::SCHEMA_VERSION
    );
    findings.add("version", "azimg", CheckState::Ok, version);
    match Config::load(flags) {
        Ok(config) => {
            settings(&config, &mut findings);
            // Concurrently: each may wait for a timeout.
            let (mut in_azure, mut in_storage) = (CheckReport::default(), CheckReport::default());
            tokio::join!(
                azure::look(&config, args.location.as_deref(), &mut in_azure),
                storage::look(&config, OffsetDateTime::now_utc(), &mut in_storage),
            );
            findings.0.extend(in_azure.0.into_iter().chain(in_storage.0));
        }
        Err(error) => findings.failed(("settings", ""), &error, (CheckState::Failed, "")),
    }
    let worst = findings.0.iter().map(|finding| finding.state).max();
    let rows = findings.0.iter().map(|finding| json!(finding)).collect();
    output.list(rows, &["state", "check", "about", "says"])?;
    Ok(match worst {
        Some(CheckState::Failed) => ExitCode::from(FAILED),
        Some(CheckState::Gap) => ExitCode::from(PARTIAL),
        _ => ExitCode::SUCCESS,
    })
}

/// Checks whether an app can be built from the settings, without any request.
fn settings(config: &Config, findings: &mut CheckReport) {
    let made = config.app().map(|(app, _)| {
        let request = &app.settings.request;
        let all = |names: &[String], what: &str| match names {
            [] => format!("all {what}"),
            names => names.join(", "),
        };
        format!(
            "{}; {}; schedule '{}'",
            all(&request.locations, "locations"),
            all(&request.subscriptions, "subscriptions"),
            config.schedule()
        )
    });
    let scheduled = crate::host::check_schedule(config.schedule());
    let made = scheduled.and(made);
    findings.tried(("settings", "what is crawled, and when"), made, (CheckState::Failed, ""));
}
