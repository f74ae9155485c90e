//! One change of a gallery resource, from its request to its end.
//!
//! If the answer to the request is lost, the resource itself is polled until no change of it is in
//! progress. It shows whether the change was made, failed, or was never begun. Only in the last
//! case is the request sent again.

use super::{Galleries, Name};
use crate::client::{Accepted, Change, OperationStatus, one_line, redact};
use crate::error::{Error, ErrorKind, Result};
use crate::image::name::short_name;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// Limits of waits and retries.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimits {
    /// The wait before each poll of a resource.
    pub after_loss: Duration,
    /// The most times that a request is sent.
    pub most_requests: u32,
    /// The longest wait for a change in progress.
    pub longest: Duration,
    /// The longest time that an operation without a status is polled.
    pub silence: Duration,
}

impl Default for WaitLimits {
    fn default() -> Self {
        Self {
            after_loss: Duration::from_secs(10),
            most_requests: 3,
            longest: Duration::from_hours(2),
            silence: Duration::from_mins(10),
        }
    }
}

/// The backoff after an operation did not report its status: the first wait, doubled each time, up
/// to `LONGEST_WAIT`.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The state of a change, as the resource shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeSeen {
    /// The change was made.
    Made,
    /// The change is not visible.
    NotMade,
}

/// The state of a resource, from its provisioning state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisioningState {
    /// No change is in progress, and the last one, if any, succeeded.
    AtRest,
    /// A change is in progress.
    AtWork,
    /// The last change failed. The properties are those that it requested.
    Failed,
}

impl ProvisioningState {
    /// The state of a gallery, definition or version.
    pub fn of(thing: &Value) -> Self {
        let state = thing["properties"]["provisioningState"].as_str().unwrap_or("Succeeded");
        match state.to_ascii_lowercase().as_str() {
            "succeeded" => Self::AtRest,
            "failed" | "canceled" => Self::Failed,
            _ => Self::AtWork,
        }
    }
}

/// A step of a change, reported to the user.
#[derive(Debug, Clone)]
pub enum ChangeStep {
    /// The change was accepted. The operation has this URL.
    Accepted(Url),
    /// The change is in progress: the elapsed time, and the percentage if it is known.
    UnderWay(Duration, Option<u8>),
    /// Someone else changes the same resource, for this reason. The change is sent again, based on
    /// the current state.
    Overtaken(String),
    /// An answer was lost. The resource itself is polled.
    Lost(String),
    /// The operation does not report its status, for this reason. It is polled again.
    Silent(String),
    /// The operation has ended, or is no longer known. Nothing is left to follow.
    Over,
}

/// The outcome of a change.
#[derive(Debug)]
pub enum ChangeOutcome {
    /// The change was made.
    Done,
    /// The change was accepted and not waited for. The operation has this URL.
    Begun(Url),
}

/// Receives the steps of a change.
pub type StepListener<'a> = &'a (dyn Fn(ChangeStep) + Send + Sync);

/// A change of a resource, and how to recognize that it was made.
pub(super) struct PendingChange<'a> {
    pub(super) name: &'a Name,
    pub(super) change: &'a Change,
    /// Whether the previous change had failed. A failure of the resource may then be that one's.
    pub(super) failed_before: bool,
    /// Whether a resource without a change in progress (`None` if it does not exist) shows this
    /// change.
    pub(super) is_made: &'a (dyn Fn(Option<&Value>) -> bool + Send + Sync),
}

impl Galleries {
    /// Makes a change and follows it to its end. Without `wait`, it returns once the change is
    /// accepted.
    pub(super) async fn make(
        &self,
        making: &PendingChange<'_>,
        wait: bool,
        report_step: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        for _ in 0..self.wait_limits.most_requests {
            let lost = match self.client.change(making.change).await? {
                Accepted::Done => return Ok(ChangeOutcome::Done),
                Accepted::UnderWay(operation) => {
                    report_step(ChangeStep::Accepted(operation.clone()));
                    if !wait {
                        return Ok(ChangeOutcome::Begun(operation));
                    }
                    self.follow(&operation, report_step).await?;
                    return Ok(ChangeOutcome::Done);
                }
                Accepted::Unnamed => false,
                Accepted::Unknown(error) => {
                    report_step(ChangeStep::Lost(error.to_string()));
                    true
                }
            };
            match self.look(making, report_step).await? {
                ChangeSeen::Made => return Ok(ChangeOutcome::Done),
                ChangeSeen::NotMade if lost => {}
                ChangeSeen::NotMade => {
                    let text = "Azure accepted the change, but the resource does not show it";
                    return Err(Error::transient(format!("{}: {text}", making.name.id())));
                }
            }
        }
        Err(Error::transient(format!(
            "{}: {} requests got no response, and the resource does not show the change; Azure may \
             still make it: check the resource before you repeat the change",
            making.name.id(),
            self.wait_limits.most_requests
        )))
    }

    /// Polls a resource until no change is in progress, and checks whether it shows this one.
    async fn look(
        &self,
        making: &PendingChange<'_>,
        report_step: StepListener<'_>,
    ) -> Result<ChangeSeen> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(self.wait_limits.after_loss).await;
            let thing = match self.get(making.name).await {
                Ok(thing) => Some(thing),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error)
                    if error.is_transient() && begun.elapsed() < self.wait_limits.longest =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match thing.as_ref().map_or(ProvisioningState::AtRest, ProvisioningState::of) {
                ProvisioningState::AtRest if (making.is_made)(thing.as_ref()) => {
                    return Ok(ChangeSeen::Made);
                }
                ProvisioningState::AtRest => return Ok(ChangeSeen::NotMade),
                // It had failed before, and the same change may be requested again: nothing shows
                // whether the request arrived. Sending it again has the same effect.
                ProvisioningState::Failed if making.failed_before => {
                    return Ok(ChangeSeen::NotMade);
                }
                ProvisioningState::Failed => return Err(self.failure(making.name).await),
                ProvisioningState::AtWork => {
                    report_step(ChangeStep::UnderWay(begun.elapsed(), None));
                }
            }
            if begun.elapsed() > self.wait_limits.longest {
                return Err(still_under_way(&making.name.id()));
            }
        }
    }

    /// Waits until no change of a resource is in progress. An error if the change fails.
    pub async fn settle(&self, name: &Name, report_step: StepListener<'_>) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let thing = self.get(name).await?;
            match ProvisioningState::of(&thing) {
                ProvisioningState::AtRest => return Ok(thing),
                ProvisioningState::Failed => return Err(self.failure(name).await),
                ProvisioningState::AtWork if begun.elapsed() > self.wait_limits.longest => {
                    return Err(still_under_way(&name.id()));
                }
                ProvisioningState::AtWork => {
                    report_step(ChangeStep::UnderWay(begun.elapsed(), None));
                }
            }
            tokio::time::sleep(self.wait_limits.after_loss).await;
        }
    }

    /// The error for a failed change, with the reasons from a version's replication status.
    async fn failure(&self, name: &Name) -> Error {
        let mut text = format!("{}: Azure did not make the change: provisioning failed", name.id());
        let version = self.look_up(name, &[("$expand", "ReplicationStatus")]).await;
        let version = version.unwrap_or_default();
        let regions = version["properties"]["replicationStatus"]["summary"].as_array();
        for region in regions.into_iter().flatten() {
            let part = |name: &str| one_line(region[name].as_str().unwrap_or_default());
            if part("state").eq_ignore_ascii_case("Failed") {
                text = format!("{text}; {}: {}", part("region"), redact(&part("details")).trim());
            }
        }
        Error::new(ErrorKind::Conflict, text)
    }

    /// Follows an operation to its end, even if it does not answer for a while.
    pub async fn follow(&self, operation: &Url, report_step: StepListener<'_>) -> Result<()> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut wait = FIRST_WAIT;
        loop {
            let silent = match self.client.operation_status(operation).await {
                Ok(OperationStatus::Succeeded) => {
                    report_step(ChangeStep::Over);
                    return Ok(());
                }
                Ok(OperationStatus::Failed(text)) => {
                    report_step(ChangeStep::Over);
                    let text = format!("Azure did not make the change: {text}");
                    return Err(Error::new(ErrorKind::Conflict, text));
                }
                Ok(OperationStatus::Running(percent, pause)) => {
                    report_step(ChangeStep::UnderWay(begun.elapsed(), percent));
                    (heard, wait) = (Instant::now(), FIRST_WAIT);
                    tokio::time::sleep(pause).await;
                    None
                }
                Ok(OperationStatus::Missing) => {
                    Some(Error::transient("the response has no status"))
                }
                Err(error) if error.is_transient() => Some(error),
                Err(error) => {
                    if error.kind() == ErrorKind::NotFound {
                        report_step(ChangeStep::Over);
                    }
                    return Err(error.context(WHETHER_MADE));
                }
            };
            if let Some(error) = silent {
                if heard.elapsed() > self.wait_limits.silence {
                    return Err(error.context(WHETHER_MADE));
                }
                report_step(ChangeStep::Silent(error.to_string()));
                let retry_after = error.retry_after().unwrap_or_default().min(LONGEST_WAIT);
                tokio::time::sleep(wait.max(retry_after)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            if begun.elapsed() > self.wait_limits.longest {
                return Err(still_under_way("the operation"));
            }
        }
    }

    /// The URL of an operation, as the user gives it.
    pub fn operation(&self, text: &str) -> Result<Url> {
        self.client.operation(text)
    }
}

const WHETHER_MADE: &str = "it is unknown whether the change was made";

fn still_under_way(what: &str) -> Error {
    Error::transient(format!("{what} is still in progress; it continues in Azure"))
}

/// Members that people write: their letters count, while names of Azure's have no case.
const FREE_TEXTS: [&str; 5] =
    ["description", "eula", "privacyStatementUri", "releaseNoteUri", "releaseNotes"];

/// Whether `have` agrees with all that is in `wanted`: times are compared as times, region names in
/// both their forms, and regions in any order.
pub(super) fn agrees(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (_, Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            let have = &have[name.as_str()];
            match (name.as_str(), wanted) {
                ("tags", Value::Object(tags)) => {
                    tags.iter().all(|(tag, value)| have[tag.as_str()] == *value)
                }
                (name, _) if FREE_TEXTS.contains(&name) => have == wanted,
                _ => agrees(have, wanted),
            }
        }),
        (Value::Array(have), Value::Array(wanted)) => {
            let named = |value: &Value| {
                let name = value["name"].as_str().map(short_name);
                name.unwrap_or_default()
            };
            have.len() == wanted.len()
                && wanted.iter().all(|wanted| {
                    have.iter().any(|have| named(have) == named(wanted) && agrees(have, wanted))
                })
        }
        (Value::String(have), Value::String(wanted)) => {
            let time = |text: &str| {
                let format = &time::format_description::well_known::Rfc3339;
                time::OffsetDateTime::parse(text, format).ok()
            };
            let short = short_name;
            match (time(have), time(wanted)) {
                (Some(have), Some(wanted)) => have == wanted,
                _ => have == wanted || short(have) == short(wanted),
            }
        }
        (have, wanted) => have == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn case_matters_only_in_free_text() {
        let have = json!({"tags": {"env": "Prod"}, "properties": {"description": "For web"}});
        assert!(agrees(&have, &json!({"tags": {"env": "Prod"}})));
        assert!(!agrees(&have, &json!({"tags": {"env": "prod"}})));
        assert!(!agrees(&have, &json!({"properties": {"description": "for web"}})));
    }

    #[test]
    fn values_agree_in_the_spelling_that_azure_returns() {
        let have = json!({"publishingProfile": {"endOfLifeDate": "2027-01-01T01:00:00+01:00",
            "targetRegions": [{"name": "West US", "regionalReplicaCount": 1, "encryption": {}},
                {"name": "East US", "regionalReplicaCount": 2}]}});
        let regions = json!([{"name": "eastus", "regionalReplicaCount": 2}, {"name": "westus"}]);
        let wanted = json!({"publishingProfile": {"endOfLifeDate": "2027-01-01T00:00:00Z",
            "targetRegions": regions}});
        assert!(agrees(&have, &wanted));
        assert!(!agrees(&have, &json!({"publishingProfile": {"endOfLifeDate": null}})));
        assert!(agrees(&json!({}), &json!({"endOfLifeDate": null})));
        let more = json!({"publishingProfile": {"targetRegions": [{"name": "westus"}]}});
        assert!(!agrees(&have, &more));
    }
}
