//! Decides which versions are retired, and why the others stay: a pure function of its inputs.

use crate::error::{Error, Result};
use crate::format::plan::DeletionLimit;
use crate::image::gallery::GalleryImage;
use crate::image::machine::Machine;
use crate::image::version;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// What is done with a version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Exclude the version from latest.
    Exclude,
    /// Set its end of life to the time of the plan.
    EndOfLife,
    /// Delete the version.
    Delete,
}

/// The rules that select versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// The number of newest versions to keep.
    pub keep: usize,
    /// Versions published less than this number of days ago are kept.
    pub older_than_days: Option<u32>,
    /// What is done with the other versions.
    pub action: Action,
    /// The maximum share of a definition's versions that may be retired, in percent.
    pub max_percent: u8,
}

impl Rules {
    /// Refuses what no command line says.
    pub fn check(&self) -> Result<()> {
        if self.keep == 0 || self.max_percent > 100 {
            let text = "the rules of the plan need a 'keep' of at least 1 and a 'maxPercent' of at most 100";
            return Err(Error::invalid(text));
        }
        Ok(())
    }
}

/// A definition, its versions in order, and the machines that run from them.
#[derive(Debug, Clone)]
pub struct DefinitionState {
    /// The id of the definition.
    pub definition: String,
    /// The versions in order, with the latest marked.
    pub versions: Vec<GalleryImage>,
    /// The machines that run from it.
    pub machines: Vec<Machine>,
}

/// A version to retire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retired {
    /// The Resource Manager id of the version.
    pub id: String,
    /// What is done with the version.
    pub action: Action,
    /// Why it is retired.
    pub reason: String,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetainedVersion {
    /// The Resource Manager id of the version.
    pub id: String,
    /// Why it is kept.
    pub reason: String,
}

/// The planned changes of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The Resource Manager id of the definition.
    pub definition: String,
    /// The versions to retire, oldest first.
    pub retired: Vec<Retired>,
    /// The versions to keep, newest first.
    pub kept: Vec<RetainedVersion>,
    /// A digest of the state of its versions when the plan was made.
    pub world: String,
}

impl DefinitionState {
    /// Everything about a version that decides whether it may be retired, as text for the digest.
    fn text(row: &GalleryImage) -> String {
        format!(
            "{} excluded={} in {:?} ends={:?} at {:?} with {:?} published={:?} {:?}",
            row.id.to_ascii_lowercase(),
            row.exclude_from_latest,
            row.excluded_locations,
            row.end_of_life_at.map(OffsetDateTime::unix_timestamp),
            row.locations,
            row.replicas,
            row.published_at.map(OffsetDateTime::unix_timestamp),
            row.provisioning_state
        )
    }

    /// A digest of the versions in their current state. The machines are left out: they change all
    /// day, and matter only as far as they change the decision.
    fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for text in self.versions.iter().map(Self::text) {
            hash.update(text.as_bytes());
            hash.update([0]);
        }
        crate::format::hex(&hash.finalize()[..16])
    }

    /// Whether the versions are as they were when `planned` was made.
    pub fn is_as_planned(&self, planned: &Planned) -> bool {
        self.digest() == planned.world
    }

    /// The machines that run from exactly this version.
    fn on(&self, row: &GalleryImage) -> Vec<&Machine> {
        let name = row.version.as_deref().unwrap_or_default();
        let runs_version =
            |machine: &&Machine| machine.version().is_some_and(|on| version::is_same(on, name));
        self.machines.iter().filter(runs_version).collect()
    }

    /// The regions in which something runs from the definition.
    fn used_regions(&self) -> BTreeSet<&str> {
        self.machines.iter().map(|machine| machine.location.as_str()).collect()
    }

    /// The versions that are the latest of some region, by index.
    fn latest_somewhere(&self) -> BTreeSet<usize> {
        let regions: BTreeSet<&str> =
            self.versions.iter().flat_map(|row| &row.locations).map(String::as_str).collect();
        let newest = |region: &str| {
            let there = self.versions.iter().enumerate();
            there.filter(|(_, row)| row.may_be_latest_in(region)).map(|(at, _)| at).next_back()
        };
        regions.into_iter().filter_map(newest).collect()
    }
}

/// Plans the retirement of a definition's versions at `now`. An error if more would be retired than
/// the rules allow.
pub fn plan(world: &DefinitionState, rules: &Rules, now: OffsetDateTime) -> Result<Planned> {
    let mut rows: Vec<(usize, &GalleryImage)> = world.versions.iter().enumerate().collect();
    let number = |row: &GalleryImage| row.version.clone().unwrap_or_default();
    rows.sort_by(|a, b| version::compare(&number(b.1), &number(a.1)));
    let latest = world.latest_somewhere();
    let mut newest = 0;
    let mut kept = Vec::new();
    let mut candidates = Vec::new();
    for (at, row) in rows {
        let provisioned =
            row.provisioning_state.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("Succeeded"));
        let counts = provisioned && newest < rules.keep;
        newest += usize::from(counts);
        let reason = if counts {
            Some(format!("one of the {} newest", rules.keep))
        } else if row.is_latest || latest.contains(&at) {
            Some("the latest version, overall or in one of its regions".to_owned())
        } else {
            kept_reason(world, row, rules, now)
        };
        match reason {
            Some(reason) => kept.push(RetainedVersion { id: row.id.clone(), reason }),
            None => candidates.push(row),
        }
    }
    // The oldest are retired first. Each retirement makes the remaining versions more important.
    let mut left: Vec<&GalleryImage> = world.versions.iter().collect();
    let mut retired = Vec::new();
    for row in candidates.into_iter().rev() {
        let only = only_in_use(world, row, &left, rules.action);
        if let Some(region) = only {
            let reason = format!("the only version in {region}, where machines use the definition");
            kept.push(RetainedVersion { id: row.id.clone(), reason });
            continue;
        }
        left.retain(|other| other.id != row.id);
        retired.push(Retired {
            id: row.id.clone(),
            action: rules.action,
            reason: retirement_reason(row, rules, now),
        });
    }
    let all = world.versions.len();
    DeletionLimit::Percent(rules.max_percent).check(retired.len(), all, |most| {
        format!(
            "{}: the plan retires {} of {all} versions, and --max-percent {} allows {most}: nothing was \
             changed",
            world.definition,
            retired.len(),
            rules.max_percent
        )
    })?;
    let definition = world.definition.clone();
    Ok(Planned { definition, retired, kept, world: world.digest() })
}

/// Why a version that is not among the newest stays.
fn kept_reason(
    world: &DefinitionState,
    row: &GalleryImage,
    rules: &Rules,
    now: OffsetDateTime,
) -> Option<String> {
    if row.is_at_work() {
        let state = row.provisioning_state.as_deref().unwrap_or_default();
        return Some(format!("an operation is in progress: {state}"));
    }
    if row.provisioning_state.as_deref() == Some("SoftDeleted") {
        return Some("already soft-deleted: another deletion would be permanent".to_owned());
    }
    if let Some(days) = rules.older_than_days {
        match row.published_at {
            None => return Some("its publishing date is unknown".to_owned()),
            Some(at) if now - at < time::Duration::days(i64::from(days)) => {
                return Some(format!("published less than {days} days ago"));
            }
            Some(_) => {}
        }
    }
    match rules.action {
        Action::Exclude if row.exclude_from_latest => {
            Some("already excluded from latest".to_owned())
        }
        Action::EndOfLife if row.end_of_life_at.is_some_and(|end| end <= now) => {
            Some("already past its end of life".to_owned())
        }
        Action::Delete => match world.on(row).len() {
            0 => blocked(row, now),
            count => Some(format!("{count} machines or scale sets use it")),
        },
        Action::Exclude | Action::EndOfLife => None,
    }
}

/// Why Azure would refuse to delete a version: its owner has blocked deletion before its end of
/// life.
fn blocked(row: &GalleryImage, now: OffsetDateTime) -> Option<String> {
    let blocked = "its deletion is blocked before its end of life";
    match row.end_of_life_at {
        _ if !row.block_deletion_before_end_of_life => None,
        None => Some(format!("{blocked}, and it has no end of life")),
        Some(end) if end <= now => None,
        Some(end) => Some(format!("{blocked}, which is {}", end.date())),
    }
}

/// A region in which something runs from the definition, and where no version would be left.
fn only_in_use<'a>(
    world: &'a DefinitionState,
    row: &GalleryImage,
    left: &[&GalleryImage],
    action: Action,
) -> Option<&'a str> {
    let serves = |other: &GalleryImage, region: &str| match action {
        // Users of `latest` need a version that may be the latest.
        Action::Exclude | Action::EndOfLife => other.may_be_latest_in(region),
        Action::Delete => other.locations.iter().any(|name| name == region),
    };
    world.used_regions().into_iter().find(|region| {
        serves(row, region) && !left.iter().any(|other| other.id != row.id && serves(other, region))
    })
}

fn retirement_reason(row: &GalleryImage, rules: &Rules, now: OffsetDateTime) -> String {
    let newest = format!("not one of the {} newest", rules.keep);
    match row.published_at {
        Some(at) => format!("{newest}; published {} days ago", (now - at).whole_days()),
        None => newest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_rules_that_no_command_line_gives_are_refused() {
        let rules =
            Rules { keep: 1, older_than_days: None, action: Action::Delete, max_percent: 100 };
        rules.check().unwrap();
        for edited in [Rules { keep: 0, ..rules.clone() }, Rules { max_percent: 101, ..rules }] {
            let error = edited.check().unwrap_err().to_string();
            assert!(error.contains("'keep'") && error.contains("'maxPercent'"), "{error}");
        }
    }
}
