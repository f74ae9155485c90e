//! One change, from its request to its end.
//!
//! When the answer to the request is lost, the thing itself is looked at, until it is at rest: it says whether
//! the change was made, failed, or was never begun. Only in the last case is the request sent again.

use super::{Galleries, Name};
use crate::client::{Accepted, Change, OperationStatus, one_line, redact};
use crate::error::{Error, ErrorKind, Result};
use crate::image::name::short_name;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimits {
    /// Before the thing is looked at when an answer was lost.
    pub after_loss: Duration,
    /// A request is sent so often in all.
    pub most_requests: u32,
    /// A change that is under way is waited for so long.
    pub longest: Duration,
    /// An operation that does not tell how far it is, is asked again for so long.
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

/// The first wait after an operation that did not tell how far it is; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is to be seen when a thing is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeSeen {
    /// The change was made.
    Made,
    /// It is not there.
    NotMade,
}

/// How a thing is, as its provisioning state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisioningState {
    /// The last change of it was made, if there ever was one.
    AtRest,
    /// A change of it is under way.
    AtWork,
    /// The last change of it failed. Its properties are what that change wanted them to be.
    Failed,
}

impl ProvisioningState {
    /// That of a gallery, definition or version.
    pub fn of(thing: &Value) -> Self {
        let state = thing["properties"]["provisioningState"].as_str().unwrap_or("Succeeded");
        match state.to_ascii_lowercase().as_str() {
            "succeeded" => Self::AtRest,
            "failed" | "canceled" => Self::Failed,
            _ => Self::AtWork,
        }
    }
}

/// How a change goes on, for people.
#[derive(Debug, Clone)]
pub enum ChangeStep {
    /// It was accepted, and can be followed there.
    Accepted(Url),
    /// It is under way: so long, so far in percent if that is told.
    UnderWay(Duration, Option<u8>),
    /// Somebody else changes the same thing, for this reason: the change is sent again on top of what stands.
    Overtaken(String),
    /// An answer was lost; the thing itself is looked at.
    Lost(String),
    /// The operation does not tell how far it is, for this reason; it is asked again.
    Silent(String),
    /// The operation is over, or is not known any more: there is nothing left to be followed.
    Over,
}

/// How a change ended.
#[derive(Debug)]
pub enum ChangeOutcome {
    /// It was made.
    Done,
    /// It was begun, and nobody waited for it: it can be followed there.
    Begun(Url),
}

/// Who hears how a change goes on.
pub type StepListener<'a> = &'a (dyn Fn(ChangeStep) + Send + Sync);

/// A change of something, and what tells that it was made.
pub(super) struct PendingChange<'a> {
    pub(super) name: &'a Name,
    pub(super) change: &'a Change,
    /// Whether the change before it had failed: then a failure that is seen need not be this one's.
    pub(super) failed_before: bool,
    /// Whether a thing at rest (none: it is not there) shows the change.
    pub(super) is_made: &'a (dyn Fn(Option<&Value>) -> bool + Send + Sync),
}

impl Galleries {
    /// Makes a change and follows it to its end. With `wait` unset it returns once the change is
    /// accepted.
    pub(super) async fn make(
        &self,
        making: &PendingChange<'_>,
        wait: bool,
        tell: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        for _ in 0..self.patience.most_requests {
            let lost = match self.client.change(making.change).await? {
                Accepted::Done => return Ok(ChangeOutcome::Done),
                Accepted::UnderWay(operation) => {
                    tell(ChangeStep::Accepted(operation.clone()));
                    if !wait {
                        return Ok(ChangeOutcome::Begun(operation));
                    }
                    self.follow(&operation, tell).await?;
                    return Ok(ChangeOutcome::Done);
                }
                Accepted::Unnamed => false,
                Accepted::Unknown(error) => {
                    tell(ChangeStep::Lost(error.to_string()));
                    true
                }
            };
            match self.look(making, tell).await? {
                ChangeSeen::Made => return Ok(ChangeOutcome::Done),
                ChangeSeen::NotMade if lost => {}
                ChangeSeen::NotMade => {
                    let text = "Azure accepted the change, and it is not to be seen";
                    return Err(Error::transient(format!("{}: {text}", making.name.id())));
                }
            }
        }
        Err(Error::transient(format!(
            "{}: no answer came to {} requests, and the change is not to be seen; it may still be \
             made: look at it again before you repeat it",
            making.name.id(),
            self.patience.most_requests
        )))
    }

    /// Looks at a thing until it is at rest, and whether it shows the change then.
    async fn look(&self, making: &PendingChange<'_>, tell: StepListener<'_>) -> Result<ChangeSeen> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(self.patience.after_loss).await;
            let thing = match self.get(making.name).await {
                Ok(thing) => Some(thing),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) if error.is_transient() && begun.elapsed() < self.patience.longest => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match thing.as_ref().map_or(ProvisioningState::AtRest, ProvisioningState::of) {
                ProvisioningState::AtRest if (making.is_made)(thing.as_ref()) => {
                    return Ok(ChangeSeen::Made);
                }
                ProvisioningState::AtRest => return Ok(ChangeSeen::NotMade),
                // It had failed before, and shows what is wanted if that is asked for once more: nothing tells
                // whether the request came. Sent again, it does the same.
                ProvisioningState::Failed if making.failed_before => {
                    return Ok(ChangeSeen::NotMade);
                }
                ProvisioningState::Failed => return Err(self.failure(making.name).await),
                ProvisioningState::AtWork => tell(ChangeStep::UnderWay(begun.elapsed(), None)),
            }
            if begun.elapsed() > self.patience.longest {
                return Err(still_under_way(&making.name.id()));
            }
        }
    }

    /// Waits until a thing is at rest; an error when the change that was under way fails.
    pub async fn settle(&self, name: &Name, tell: StepListener<'_>) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let thing = self.get(name).await?;
            match ProvisioningState::of(&thing) {
                ProvisioningState::AtRest => return Ok(thing),
                ProvisioningState::Failed => return Err(self.failure(name).await),
                ProvisioningState::AtWork if begun.elapsed() > self.patience.longest => {
                    return Err(still_under_way(&name.id()));
                }
                ProvisioningState::AtWork => tell(ChangeStep::UnderWay(begun.elapsed(), None)),
            }
            tokio::time::sleep(self.patience.after_loss).await;
        }
    }

    /// The error of a change that failed, with the reasons that a version's replication gives.
    async fn failure(&self, name: &Name) -> Error {
        let mut text =
            format!("{}: Azure did not make the change: its provisioning failed", name.id());
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

    /// Follows an operation to its end, also when it does not answer for a while.
    pub async fn follow(&self, operation: &Url, tell: StepListener<'_>) -> Result<()> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut wait = FIRST_WAIT;
        loop {
            let silent = match self.client.standing(operation).await {
                Ok(OperationStatus::Succeeded) => {
                    tell(ChangeStep::Over);
                    return Ok(());
                }
                Ok(OperationStatus::Failed(text)) => {
                    tell(ChangeStep::Over);
                    let text = format!("Azure did not make the change: {text}");
                    return Err(Error::new(ErrorKind::Conflict, text));
                }
                Ok(OperationStatus::Running(percent, pause)) => {
                    tell(ChangeStep::UnderWay(begun.elapsed(), percent));
                    (heard, wait) = (Instant::now(), FIRST_WAIT);
                    tokio::time::sleep(pause).await;
                    None
                }
                Ok(OperationStatus::Untold) => Some(Error::transient("its answer has no status")),
                Err(error) if error.is_transient() => Some(error),
                Err(error) => {
                    if error.kind() == ErrorKind::NotFound {
                        tell(ChangeStep::Over);
                    }
                    return Err(error.context(WHETHER_MADE));
                }
            };
            if let Some(error) = silent {
                if heard.elapsed() > self.patience.silence {
                    return Err(error.context(WHETHER_MADE));
                }
                tell(ChangeStep::Silent(error.to_string()));
                let asked = error.retry_after().unwrap_or_default().min(LONGEST_WAIT);
                tokio::time::sleep(wait.max(asked)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            if begun.elapsed() > self.patience.longest {
                return Err(still_under_way("the operation"));
            }
        }
    }

    /// The address of an operation, as the user gives it.
    pub fn operation(&self, text: &str) -> Result<Url> {
        self.client.operation(text)
    }
}

const WHETHER_MADE: &str = "nothing tells whether the change was made";

fn still_under_way(what: &str) -> Error {
    Error::transient(format!("{what} is still under way; it goes on without us"))
}

/// Whether what is there agrees with what was wanted, in all that was wanted: times as times, names of
/// regions in both their forms, regions in any order.
pub(super) fn agrees(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (_, Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| agrees(&have[name.as_str()], wanted))
        }
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
    fn what_is_there_agrees_in_azures_own_spelling() {
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
