//! Applies a plan: exactly what it says, while everything is as it was.

use super::plan::{Action, DefinitionState, Planned, Retired, Rules, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ledger::{Ledger, PartState};
use crate::format::plan::Plan;
use crate::gallery::operation::{PendingChange, agrees};
use crate::gallery::{ChangeStep, Galleries, Name, StepListener, change};
use crate::image::gallery::GalleryImage;
use crate::image::machine::Machine;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A stored plan for retiring gallery versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetirePlan {
    /// The schema version of the plan.
    pub schema_version: u32,
    /// The name of the plan.
    pub plan: String,
    /// When the plan was made.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub made_at: OffsetDateTime,
    /// When the plan expires; it cannot be applied after that.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires_at: OffsetDateTime,
    /// The rules that the plan was made with.
    pub rules: Rules,
    /// The planned changes of each definition.
    pub definitions: Vec<Planned>,
    /// Galleries with soft delete, by id: the number of days in which a deletion can be undone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restorable_days: BTreeMap<String, u32>,
}

/// A version that was to be retired and is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemainingVersion {
    /// The id.
    pub id: String,
    /// The reason, in Azure's words.
    pub reason: String,
}

/// The result of applying a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The number of versions that were retired now.
    pub done: usize,
    /// The number of versions that had been retired before.
    pub before: usize,
    /// The versions that Azure refused to retire.
    pub left: Vec<RemainingVersion>,
}

/// The state of a plan's versions, by their ids in lower case.
#[derive(Debug, Default)]
pub struct FoundVersions {
    /// Already retired, without a record of it in the ledger.
    gone: HashSet<String>,
    /// Versions whose last change failed.
    failed: HashSet<String>,
}

/// Reports the progress: the number of the version, the total, the version, and the step.
pub type Progress<'a> = &'a (dyn Fn(usize, usize, &Retired, Option<ChangeStep>) + Send + Sync);

/// Whether a failure concerns only one version, and says nothing about others.
fn concerns_one_version(error: &Error) -> bool {
    use ErrorKind::{BadAnswer, Conflict, Denied, Invalid, NotFound};
    matches!(error.kind(), BadAnswer | Conflict | Denied | Invalid | NotFound)
}

/// Resets the properties that a failed change of ours has left: the change was not made, and is due
/// again.
fn undo_failed(world: &mut DefinitionState, ledger: &Ledger) {
    let is_due = |row: &&mut GalleryImage| {
        row.has_failed() && ledger.state(&row.id) == Some(PartState::Failed)
    };
    for row in world.versions.iter_mut().filter(is_due) {
        row.exclude_from_latest = false;
        row.end_of_life_at = None;
    }
}

impl Plan for RetirePlan {
    const VERSION: u32 = 1;
    const COMMAND: &'static str = "azimg gallery retire";

    fn schema_version(&self) -> u32 {
        self.schema_version
    }

    fn valid(&self) -> (OffsetDateTime, OffsetDateTime) {
        (self.made_at, self.expires_at)
    }

    fn check_rules(&self) -> Result<()> {
        self.rules.check()
    }
}

impl RetirePlan {
    /// The versions to retire.
    pub fn retired(&self) -> impl Iterator<Item = &Retired> {
        self.definitions.iter().flat_map(|planned| &planned.retired)
    }
}

impl Galleries {
    /// Applies the rest of a plan at `now`. Nothing is done if the plan has expired, or if a
    /// definition or its use is no longer as planned. What Azure refuses for one version (because
    /// of a lock, say) says nothing about the others: it is skipped and reported. Any other failure
    /// stops the plan.
    pub async fn apply(
        &self,
        plan: &RetirePlan,
        ledger: &mut Ledger,
        now: OffsetDateTime,
        progress: Progress<'_>,
    ) -> Result<Applied> {
        let found = self.check_plan(plan, ledger, now).await?;
        let mut applied = Applied::default();
        let all = plan.retired().count();
        for (number, retired) in plan.retired().enumerate() {
            if ledger.state(&retired.id) == Some(PartState::Done) {
                applied.before += 1;
                continue;
            }
            if found.gone.contains(&retired.id.to_ascii_lowercase()) {
                // It was begun, and its end was not recorded.
                ledger.write(&retired.id, PartState::Done, "found done")?;
                applied.before += 1;
                continue;
            }
            progress(number + 1, all, retired, None);
            ledger.write(&retired.id, PartState::Begun, "")?;
            let report_step = |step: ChangeStep| progress(number + 1, all, retired, Some(step));
            let failed_before = found.failed.contains(&retired.id.to_ascii_lowercase());
            match self.retire(retired, plan.made_at, failed_before, &report_step).await {
                Ok(()) => ledger.write(&retired.id, PartState::Done, "")?,
                Err(error) => {
                    let reason = error.to_string();
                    ledger.write(&retired.id, PartState::Failed, &reason)?;
                    if concerns_one_version(&error) {
                        applied.left.push(RemainingVersion { id: retired.id.clone(), reason });
                        continue;
                    }
                    return Err(error.context(format!(
                        "{} of {all} done before {}; apply the plan again to continue",
                        applied.done + applied.before,
                        retired.id
                    )));
                }
            }
            applied.done += 1;
        }
        Ok(applied)
    }

    /// Refuses a plan that has expired or is outdated. Returns the state of its versions.
    pub async fn check_plan(
        &self,
        plan: &RetirePlan,
        ledger: &Ledger,
        now: OffsetDateTime,
    ) -> Result<FoundVersions> {
        plan.check_time(now)?;
        let machines = self.machines().await?;
        let mut found = FoundVersions::default();
        for planned in plan.definitions.iter().filter(|planned| !planned.retired.is_empty()) {
            self.check(plan, planned, ledger, &machines, &mut found).await?;
        }
        Ok(found)
    }

    /// Refuses if a definition is not as it was planned for, except for what this plan did itself.
    /// A version that was begun and turns out to be done is added to `gone`.
    async fn check(
        &self,
        retire_plan: &RetirePlan,
        planned: &Planned,
        ledger: &Ledger,
        machines: &[Machine],
        found: &mut FoundVersions,
    ) -> Result<()> {
        let name = Name::from_id(&planned.definition).ok_or_else(|| {
            Error::invalid(format!("'{}' is not an image definition", planned.definition))
        })?;
        let definition = name.definition.clone().unwrap_or_default();
        let changed = |why: &str| {
            let text = format!(
                "{} changed since the plan was made ({why}): nothing was done; create a new plan",
                planned.definition
            );
            Error::new(ErrorKind::Conflict, text)
        };
        // The versions as of the time of the plan: one whose end of life has passed since is a
        // change.
        let look = || self.world(&name.own, &definition, machines, retire_plan.made_at);
        let mut world = match look().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(changed("it does not exist"));
            }
            world => world?,
        };
        if self.settle_begun(&world, ledger).await? {
            world = look().await?;
        }
        undo_failed(&mut world, ledger);
        let failed = world.versions.iter().filter(|row| row.has_failed());
        found.failed.extend(failed.map(|row| row.id.to_ascii_lowercase()));
        let touched: Vec<&Retired> =
            planned.retired.iter().filter(|retired| ledger.state(&retired.id).is_some()).collect();
        for retired in &touched {
            let row = world.versions.iter().find(|row| row.id.eq_ignore_ascii_case(&retired.id));
            let made = match retired.action {
                Action::Delete => row.is_none(),
                Action::Exclude => row.is_some_and(|row| row.exclude_from_latest),
                Action::EndOfLife => row.is_some_and(|row| {
                    row.end_of_life_at.is_some_and(|end| end <= retire_plan.made_at)
                }),
            };
            if made {
                found.gone.insert(retired.id.to_ascii_lowercase());
            }
        }
        if touched.is_empty() && !world.is_as_planned(planned) {
            return Err(changed("its versions differ from the plan"));
        }
        // The use may have changed, a part may be done, and people edit plans: the rules must still
        // retire each remaining version, with the action in the plan.
        let rules = Rules { max_percent: 100, ..retire_plan.rules.clone() };
        let again = plan(&world, &rules, retire_plan.made_at)?;
        let still_retired: HashMap<String, Action> =
            again.retired.iter().map(|r| (r.id.to_ascii_lowercase(), r.action)).collect();
        for retired in &planned.retired {
            let id = retired.id.to_ascii_lowercase();
            let is_over =
                ledger.state(&retired.id) == Some(PartState::Done) || found.gone.contains(&id);
            if !is_over && still_retired.get(&id) != Some(&retired.action) {
                return Err(changed(&format!("{} would now be kept", retired.id)));
            }
        }
        Ok(())
    }

    /// Waits for changes that an interrupted application began and that are in progress. Returns
    /// whether there were any.
    async fn settle_begun(&self, world: &DefinitionState, ledger: &Ledger) -> Result<bool> {
        let is_begun = |row: &&GalleryImage| {
            row.is_at_work() && ledger.state(&row.id) == Some(PartState::Begun)
        };
        let mut any = false;
        for name in world.versions.iter().filter(is_begun).filter_map(|row| Name::from_id(&row.id))
        {
            any = true;
            match self.settle(&name, &|_| {}).await {
                Ok(_) => {}
                // Deleted, or failed: the next look at the definition shows which.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    async fn retire(
        &self,
        retired: &Retired,
        at: OffsetDateTime,
        failed_before: bool,
        report_step: StepListener<'_>,
    ) -> Result<()> {
        let name = Name::from_id(&retired.id)
            .filter(|name| name.version.is_some())
            .ok_or_else(|| Error::invalid(format!("'{}' is not an image version", retired.id)))?;
        let end = at.format(&Rfc3339).map_err(|e| Error::bug(e.to_string()))?;
        let publishing = match retired.action {
            Action::Delete => None,
            Action::Exclude => Some(json!({"excludeFromLatest": true})),
            Action::EndOfLife => Some(json!({"endOfLifeDate": end})),
        };
        // The schema of the body requires a storage profile
        // (GalleryImageVersion_Update_WithoutSourceId.json).
        let body = publishing
            .map(|part| json!({"properties": {"publishingProfile": part, "storageProfile": {}}}));
        let method = if body.is_some() { Method::PATCH } else { Method::DELETE };
        let request = change(&name, method, body.clone());
        let is_made = |now: Option<&Value>| match (&body, now) {
            // A soft-deleted version may still be shown for a while.
            (None, now) => now.is_none_or(|now| now["properties"]["imageState"] == "SoftDeleted"),
            (Some(_), None) => false,
            (Some(body), Some(now)) => agrees(&now["properties"], &body["properties"]),
        };
        let making =
            PendingChange { name: &name, change: &request, failed_before, is_made: &is_made };
        match self.make(&making, true, report_step).await {
            // Someone else deleted it first.
            Err(error)
                if error.kind() == ErrorKind::NotFound && retired.action == Action::Delete =>
            {
                Ok(())
            }
            ended => ended.map(|_| ()),
        }
    }
}
