//! Sends an update based on the current state, and verifies it afterwards.
//!
//! Azure replaces target regions and tags as a whole. If two clients change them concurrently, the
//! second removes what the first added, and both get a success. So the resource is read again right
//! before a list is sent, and once more after the time in which a concurrent change based on the
//! earlier state can have ended. What is missing then is sent again, based on the current state. If
//! Azure returns an `ETag` for the resource, it is sent with the change.

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

/// The most times that an update is sent while others change the same resource.
const ROUNDS: u32 = 5;
/// The bounds of the time that a concurrent change based on the earlier state is given to end.
/// Within them it is twice the time of our own request, since the other is about as fast.
const SHORTEST_RIVAL: Duration = Duration::from_millis(500);
const LONGEST_RIVAL: Duration = Duration::from_secs(10);

impl Galleries {
    /// Plans the request for `changes` of the resource `name`; `None` if it is already so, or is
    /// being changed to it. A failed change is sent again.
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
            // A user who may not read the subscription may still change the gallery. Azure then
            // reports an unknown region itself.
            if let Err(error) = listed
                && error.kind() == ErrorKind::Invalid
            {
                return Err(error);
            }
        }
        plan_changes(name, changes, &now)
    }

    /// Makes a planned update, based on the current state if that is no longer the one of the plan.
    pub async fn update(
        &self,
        name: &Name,
        changes: &Changes,
        planned: &PlannedChange,
        wait: bool,
        report_step: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        let mut request = planned.clone();
        let mut seen = None;
        for round in 0..ROUNDS {
            if changes.replaces_lists() || round > 0 {
                let now = self.get(name).await?;
                match plan_changes(name, changes, &now)? {
                    Some(newer) => request = newer,
                    None => return Ok(ChangeOutcome::Done),
                }
            }
            let begun = Instant::now();
            match self.send(name, changes, &request, wait, report_step).await {
                Ok(ChangeOutcome::Done) => {}
                Ok(begun) => return Ok(begun),
                Err(error) if self.is_overtaken(name, &request, &error, report_step).await? => {
                    report_step(ChangeStep::Overtaken(error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let other = self.otherwise(name, changes, &request, begun.elapsed()).await?;
            if other.is_none() {
                return Ok(ChangeOutcome::Done);
            }
            // The same deviation twice is Azure's own doing, not that of another client.
            if other == seen {
                break;
            }
            seen = other;
            report_step(ChangeStep::Overtaken(
                "another client changed the resource in the meantime".to_owned(),
            ));
        }
        let text = format!(
            "{}: Azure accepted the change, but the resource does not have the requested state: \
             another client keeps changing it, or Azure applies the change differently; check the \
             resource before you repeat the change",
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
        report_step: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        let body = change.body.clone().unwrap_or_default();
        let is_made = |now: Option<&Value>| now.is_some_and(|now| changes.are_made(&body, now));
        let making =
            PendingChange { name, change, failed_before: *failed_before, is_made: &is_made };
        self.make(&making, wait, report_step).await
    }

    /// Whether a refusal means that someone else was faster. If so, no change of the resource is in
    /// progress when this returns.
    async fn is_overtaken(
        &self,
        name: &Name,
        request: &PlannedChange,
        error: &Error,
        report_step: StepListener<'_>,
    ) -> Result<bool> {
        if error.kind() != ErrorKind::Conflict {
            return Ok(false);
        }
        let now = self.get(name).await?;
        if ProvisioningState::of(&now) == ProvisioningState::AtWork {
            match self.settle(name, report_step).await {
                // A failed change is sent again, no matter whose it was.
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => return Ok(true),
            }
        }
        Ok(request.change.if_match.is_some() && etag(&now) != request.change.if_match)
    }

    /// Returns the resource if it differs from the request after the change, which was made in
    /// `took`. For lists, also checks after the time that a concurrent change may take.
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

/// Builds the request for `changes` of a resource in the state `now`; `None` if it is already so.
fn plan_changes(name: &Name, changes: &Changes, now: &Value) -> Result<Option<PlannedChange>> {
    let body = changes.body(name, now)?;
    let failed_before = ProvisioningState::of(now) == ProvisioningState::Failed;
    if !failed_before && changes.are_made(&body, now) {
        return Ok(None);
    }
    let mut change = change(name, Method::PATCH, Some(body));
    change.if_match = etag(now);
    Ok(Some(PlannedChange { change, failed_before }))
}
