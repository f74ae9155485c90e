//! An update, sent on top of what stands, and looked at once it is made.
//!
//! Azure takes target regions and tags as a whole: of two who change them at once, the second takes away what the
//! first added, and both are told that it went well. So the thing is read again right before a list is sent, and once
//! more after the time in which a rival that had read it before can have ended; what is missing then is sent again, on
//! top of what stands. Where Azure gives the thing an `ETag`, it is sent with the change.

use super::operation::PendingChange;
use super::{
    ChangeOutcome, ChangeStep, Changes, Galleries, Name, PlannedChange, ProvisioningState,
    StepListener, change,
};
use crate::error::{Error, ErrorKind, Result};
use crate::source::locations;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// An update is sent so often in all while others change the same thing.
const ROUNDS: u32 = 5;
/// A rival that had read a thing before our change is given so long to end, and at most so long: twice the time that
/// our own request took, since it is about as fast.
const SHORTEST_RIVAL: Duration = Duration::from_millis(500);
const LONGEST_RIVAL: Duration = Duration::from_secs(10);

impl Galleries {
    /// The request that makes `changes` of what `name` names; none when it is so already, or is being
    /// made so. What failed is sent again.
    pub async fn plan_update(
        &self,
        name: &Name,
        changes: &Changes,
    ) -> Result<Option<PlannedChange>> {
        changes.check(name)?;
        let now = self.get(name).await?;
        let new = changes.new_regions(&now);
        if !new.is_empty() {
            let listed = locations::locations(&self.client, &name.own.subscription, &new).await;
            // Who may not read the subscription may change the gallery all the same; then Azure says it.
            if let Err(error) = listed
                && error.kind() == ErrorKind::Invalid
            {
                return Err(error);
            }
        }
        on_top_of(name, changes, &now)
    }

    /// Makes a planned update; on top of what stands, where that is no longer what it was planned for.
    pub async fn update(
        &self,
        name: &Name,
        changes: &Changes,
        planned: &PlannedChange,
        wait: bool,
        tell: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        let mut request = planned.clone();
        let mut seen = None;
        for round in 0..ROUNDS {
            if changes.replaces_lists() || round > 0 {
                let now = self.get(name).await?;
                match on_top_of(name, changes, &now)? {
                    Some(newer) => request = newer,
                    None => return Ok(ChangeOutcome::Done),
                }
            }
            let begun = Instant::now();
            match self.send(name, changes, &request, wait, tell).await {
                Ok(ChangeOutcome::Done) => {}
                Ok(begun) => return Ok(begun),
                Err(error) if self.is_overtaken(name, &request, &error, tell).await? => {
                    tell(ChangeStep::Overtaken(error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let other = self.otherwise(name, changes, &request, begun.elapsed()).await?;
            if other.is_none() {
                return Ok(ChangeOutcome::Done);
            }
            // The same once more is nobody's doing but Azure's own.
            if other == seen {
                break;
            }
            seen = other;
            tell(ChangeStep::Overtaken("somebody else changed it meanwhile".to_owned()));
        }
        let text = format!(
            "{}: it is not as it was asked for, though Azure took the change: somebody else changes it again and \
             again, or Azure makes something else of it; look at it before you repeat the change",
            name.id()
        );
        Err(Error::new(ErrorKind::Conflict, text))
    }

    async fn send(
        &self,
        name: &Name,
        changes: &Changes,
        PlannedChange { change, failed_before }: &PlannedChange,
        wait: bool,
        tell: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        let body = change.body.clone().unwrap_or_default();
        let is_made = |now: Option<&Value>| now.is_some_and(|now| changes.are_made(&body, now));
        let making =
            PendingChange { name, change, failed_before: *failed_before, is_made: &is_made };
        self.make(&making, wait, tell).await
    }

    /// Whether a refusal means that somebody else was faster: then the thing is at rest again when this returns.
    async fn is_overtaken(
        &self,
        name: &Name,
        request: &PlannedChange,
        error: &Error,
        tell: StepListener<'_>,
    ) -> Result<bool> {
        if error.kind() != ErrorKind::Conflict {
            return Ok(false);
        }
        let now = self.get(name).await?;
        if ProvisioningState::of(&now) == ProvisioningState::AtWork {
            match self.settle(name, tell).await {
                // What failed is sent again, whosever change it was.
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => return Ok(true),
            }
        }
        Ok(request.change.if_match.is_some() && etag(&now) != request.change.if_match)
    }

    /// The thing, where it is not as it was asked for once the change was made in `took`; of a list also after the
    /// time that a rival may take.
    async fn otherwise(
        &self,
        name: &Name,
        changes: &Changes,
        request: &PlannedChange,
        took: Duration,
    ) -> Result<Option<Value>> {
        let body = request.change.body.clone().unwrap_or_default();
        let is_other = |thing: &Value| !changes.are_kept(&body, thing);
        let thing = self.get(name).await?;
        if is_other(&thing) || !changes.replaces_lists() {
            return Ok(Some(thing).filter(is_other));
        }
        tokio::time::sleep((took * 2).clamp(SHORTEST_RIVAL, LONGEST_RIVAL)).await;
        Ok(Some(self.get(name).await?).filter(is_other))
    }
}

fn etag(thing: &Value) -> Option<String> {
    thing["etag"].as_str().map(str::to_owned)
}

/// The request that makes `changes` of a thing as it is now; none when it is so already.
fn on_top_of(name: &Name, changes: &Changes, now: &Value) -> Result<Option<PlannedChange>> {
    let body = changes.body(name, now)?;
    let failed_before = ProvisioningState::of(now) == ProvisioningState::Failed;
    if !failed_before && changes.are_made(&body, now) {
        return Ok(None);
    }
    let mut change = change(name, Method::PATCH, Some(body));
    change.if_match = etag(now);
    Ok(Some(PlannedChange { change, failed_before }))
}
