//! One change, from its request to its end.
//!
//! When the answer to the request is lost, the thing itself is looked at: it says whether the change
//! was made, is under way, or was never begun. Only in the last case is the request sent again.

use super::{Galleries, Name};
use crate::client::{Accepted, Change, Standing};
use crate::error::{Error, ErrorKind, Result};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Before the thing is looked at when an answer was lost.
    pub after_loss: Duration,
    /// A request is sent so often in all.
    pub most_requests: u32,
    /// A change that is under way is waited for so long.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            after_loss: Duration::from_secs(10),
            most_requests: 3,
            longest: Duration::from_hours(2),
        }
    }
}

/// What is to be seen when a thing is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The change was made.
    Made,
    /// It is not there.
    NotMade,
}

/// How a change goes on, for people.
#[derive(Debug, Clone)]
pub enum Step {
    /// It was accepted, and can be followed there.
    Accepted(Url),
    /// It is under way: so long, so far in percent if that is told.
    UnderWay(Duration, Option<u8>),
    /// An answer was lost; the thing itself is looked at.
    Lost(String),
}

/// How a change ended.
#[derive(Debug)]
pub enum Ended {
    /// It was made.
    Done,
    /// It was begun, and nobody waited for it: it can be followed there.
    Begun(Url),
}

impl Galleries {
    /// Makes a change of `name` and follows it to its end; `is_made` tells from the thing as it is
    /// (none: it is not there) whether the change was made. With `wait` unset it returns once the
    /// change is accepted.
    pub(super) async fn make(
        &self,
        name: &Name,
        change: &Change,
        wait: bool,
        is_made: &(dyn Fn(Option<&Value>) -> Seen + Send + Sync),
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Ended> {
        for _ in 0..self.patience.most_requests {
            match self.client.change(change).await? {
                Accepted::Done => return Ok(Ended::Done),
                Accepted::UnderWay(operation, _) => {
                    tell(Step::Accepted(operation.clone()));
                    if !wait {
                        return Ok(Ended::Begun(operation));
                    }
                    self.follow(&operation, tell).await?;
                    return Ok(Ended::Done);
                }
                Accepted::Unknown(error) => {
                    tell(Step::Lost(error.to_string()));
                    if self.look(name, is_made).await? == Seen::Made {
                        return Ok(Ended::Done);
                    }
                }
            }
        }
        Err(Error::transient(format!(
            "{}: no answer came to {} requests, and the change is not to be seen; it may still be \
             made: look at it again before you repeat it",
            name.id(),
            self.patience.most_requests
        )))
    }

    /// Looks at a thing until it is at rest.
    async fn look(
        &self,
        name: &Name,
        is_made: &(dyn Fn(Option<&Value>) -> Seen + Send + Sync),
    ) -> Result<Seen> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(self.patience.after_loss).await;
            let thing = match self.get(name).await {
                Ok(thing) => Some(thing),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) if error.is_transient() && begun.elapsed() < self.patience.longest => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let state = thing.as_ref().and_then(|t| t["properties"]["provisioningState"].as_str());
            let at_rest = state.is_none_or(|state| {
                ["Succeeded", "Failed"].iter().any(|rest| rest.eq_ignore_ascii_case(state))
            });
            if is_made(thing.as_ref()) == Seen::Made {
                return Ok(Seen::Made);
            }
            if at_rest {
                return Ok(Seen::NotMade);
            }
            if begun.elapsed() > self.patience.longest {
                return Err(still_under_way(&name.id()));
            }
        }
    }

    /// Follows an operation to its end.
    pub async fn follow(&self, operation: &Url, tell: &(dyn Fn(Step) + Send + Sync)) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.client.standing(operation).await? {
                Standing::Succeeded => return Ok(()),
                Standing::Failed(text) => {
                    let text = format!("Azure did not make the change: {text}");
                    return Err(Error::new(ErrorKind::Conflict, text));
                }
                Standing::Running(percent, pause) => {
                    tell(Step::UnderWay(begun.elapsed(), percent));
                    if begun.elapsed() > self.patience.longest {
                        return Err(still_under_way("the operation"));
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The address of an operation, as the user gives it.
    pub fn operation(&self, text: &str) -> Result<Url> {
        self.client.operation(text)
    }
}

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
                let name = value["name"].as_str().map(crate::source::locations::short_name);
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
            let short = crate::source::locations::short_name;
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
