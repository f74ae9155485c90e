//! The changes of a gallery, a definition and a version that Azure allows (azure-rest §4), and no
//! others.

use super::Name;
use super::operation::agrees;
use crate::error::{Error, ErrorKind, Result};
use crate::image::name::short_name;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The wanted state of a target region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The name of the region, in any form.
    pub name: String,
    /// The number of replicas. If not given, the current number, or one for a new region.
    pub replicas: Option<u32>,
    /// The storage account type.
    pub storage: Option<String>,
}

impl std::str::FromStr for Region {
    type Err = Error;

    /// Parses `REGION[=REPLICAS[/STORAGE]]`, such as `westeurope=2/Standard_ZRS`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{text}' is not a target region: use REGION, REGION=REPLICAS or \
                 REGION=REPLICAS/STORAGE, such as westeurope=2/Standard_ZRS, with 1 to {MOST_REPLICAS} \
                 replicas and a storage of {}",
                STORAGE.join(", ")
            ))
        };
        let (name, rest) = text.split_once('=').map_or((text, None), |(n, rest)| (n, Some(rest)));
        let (replicas, storage) = match rest {
            None => (None, None),
            Some(rest) => {
                let (count, storage) =
                    rest.split_once('/').map_or((rest, None), |(c, s)| (c, Some(s)));
                (Some(count.trim().parse().map_err(|_| bad())?), storage.map(str::to_owned))
            }
        };
        let storage_known = storage.as_deref().is_none_or(|storage| STORAGE.contains(&storage));
        let count_fits = replicas.is_none_or(|count| (1..=MOST_REPLICAS).contains(&count));
        if name.trim().is_empty() || !count_fits || !storage_known {
            return Err(bad());
        }
        Ok(Self { name: name.trim().to_owned(), replicas, storage })
    }
}

/// The storage account types of replicas.
const STORAGE: [&str; 4] = ["Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"];

/// Members of a version's safety profile: whether its replicas may be removed from target regions,
/// and whether its deletion is blocked before its end of life (`GalleryImageVersionSafetyProfile`).
const ALLOW: &str = "allowDeletionOfReplicatedLocations";
const BLOCK: &str = "blockDeletionBeforeEndOfLife";

/// The most replicas of a version, in all its regions
/// (learn.microsoft.com/azure/virtual-machines/azure-compute-gallery, limits).
const MOST_REPLICAS: u32 = 100;

/// The requested changes. Whatever is `None` or empty stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The description of a gallery or definition.
    pub description: Option<String>,
    /// The end of life of a definition or version; `Some(None)` removes it.
    pub end_of_life: Option<Option<OffsetDateTime>>,
    /// The URI of the release notes of a definition.
    pub release_notes: Option<String>,
    /// The least and most vCPUs of a definition.
    pub vcpus: (Option<u32>, Option<u32>),
    /// The least and most memory of a definition, in GB.
    pub memory: (Option<u32>, Option<u32>),
    /// All target regions of a version.
    pub regions: Vec<Region>,
    /// Target regions of a version to add or change.
    pub add_regions: Vec<Region>,
    /// Target regions of a version to remove.
    pub remove_regions: Vec<String>,
    /// Whether a version is excluded from latest.
    pub exclude_from_latest: Option<bool>,
    /// Whether replicas of a version may be removed from target regions.
    pub allow_location_deletion: Option<bool>,
    /// Whether the deletion of a version is blocked before its end of life.
    pub block_deletion: Option<bool>,
    /// Tags to set. An empty value removes a tag.
    pub tags: BTreeMap<String, String>,
}

impl Changes {
    /// The requested changes, by the names of their options.
    fn requested(&self) -> Vec<&'static str> {
        let requested = [
            ("--description", self.description.is_some()),
            ("--end-of-life", self.end_of_life.is_some()),
            ("--release-notes", self.release_notes.is_some()),
            ("--min-vcpus/--max-vcpus", self.vcpus != (None, None)),
            ("--min-memory/--max-memory", self.memory != (None, None)),
            ("--target-region", !self.regions.is_empty()),
            ("--add-region", !self.add_regions.is_empty()),
            ("--remove-region", !self.remove_regions.is_empty()),
            ("--exclude-from-latest", self.exclude_from_latest.is_some()),
            ("--allow-replicated-location-deletion", self.allow_location_deletion.is_some()),
            ("--block-deletion-before-end-of-life", self.block_deletion.is_some()),
            ("--tag", !self.tags.is_empty()),
        ];
        requested.into_iter().filter(|(_, requested)| *requested).map(|(name, _)| name).collect()
    }

    /// Refuses changes that Azure does not allow for the resource `name`.
    pub(super) fn check(&self, name: &Name) -> Result<()> {
        let (what, may): (&str, &[&str]) = match (&name.definition, &name.version) {
            (None, _) => ("a gallery", &["--description", "--tag"]),
            (Some(_), None) => (
                "an image definition",
                &[
                    "--description",
                    "--end-of-life",
                    "--release-notes",
                    "--min-vcpus/--max-vcpus",
                    "--min-memory/--max-memory",
                    "--tag",
                ],
            ),
            (Some(_), Some(_)) => (
                "an image version",
                &[
                    "--end-of-life",
                    "--target-region",
                    "--add-region",
                    "--remove-region",
                    "--exclude-from-latest",
                    "--allow-replicated-location-deletion",
                    "--block-deletion-before-end-of-life",
                    "--tag",
                ],
            ),
        };
        let requested = self.requested();
        if requested.is_empty() {
            return Err(Error::invalid(format!(
                "nothing to change: the options for {what} are {}",
                may.join(", ")
            )));
        }
        match requested.iter().find(|requested| !may.contains(requested)) {
            Some(other) => Err(Error::invalid(format!(
                "{other} does not apply to {what} ({}); the options are {}",
                name.id(),
                may.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// The body of the PATCH, for a resource in the state `now`.
    pub(super) fn body(&self, name: &Name, now: &Value) -> Result<Value> {
        let mut properties = Map::new();
        let mut publishing = Map::new();
        if let Some(description) = &self.description {
            properties.insert("description".to_owned(), description.clone().into());
        }
        if let Some(uri) = &self.release_notes {
            properties.insert("releaseNoteUri".to_owned(), uri.clone().into());
        }
        let recommended = self.recommended(&now["properties"]["recommended"])?;
        if let Some(recommended) = recommended {
            properties.insert("recommended".to_owned(), recommended);
        }
        if let Some(end) = self.end_of_life {
            let end = end.and_then(|end| end.format(&Rfc3339).ok()).map_or(Value::Null, Into::into);
            let into = if name.version.is_some() { &mut publishing } else { &mut properties };
            into.insert("endOfLifeDate".to_owned(), end);
        }
        if let Some(exclude) = self.exclude_from_latest {
            publishing.insert("excludeFromLatest".to_owned(), exclude.into());
        }
        let known = now["properties"]["publishingProfile"]["targetRegions"].as_array();
        let known = known.map_or(&[][..], Vec::as_slice);
        if let Some(regions) = self.target_regions(known)? {
            self.check_lost(known, &regions, &now["properties"]["safetyProfile"])?;
            publishing.insert("targetRegions".to_owned(), regions.into());
        }
        if !publishing.is_empty() {
            properties.insert("publishingProfile".to_owned(), publishing.into());
        }
        let mut body = json!({});
        let safety = self.safety();
        if !safety.is_empty() {
            properties.insert("safetyProfile".to_owned(), safety.into());
        }
        if !properties.is_empty() {
            keep(name, &now["properties"], &mut properties);
            body["properties"] = properties.into();
        }
        if !self.tags.is_empty() {
            body["tags"] = self.tagged(&now["tags"]).into();
        }
        Ok(body)
    }

    /// The requested members of a version's safety profile.
    fn safety(&self) -> Map<String, Value> {
        let flags = [(ALLOW, self.allow_location_deletion), (BLOCK, self.block_deletion)];
        let wanted = flags.into_iter().filter_map(|(name, flag)| Some((name, flag?)));
        wanted.map(|(name, flag)| (name.to_owned(), flag.into())).collect()
    }

    /// Refuses to remove a version from regions if its safety profile forbids it, as Azure would.
    fn check_lost(&self, known: &[Value], regions: &[Value], safety: &Value) -> Result<()> {
        let named = |region: &Value| short_name(region["name"].as_str().unwrap_or_default());
        let is_kept = |name: &String| regions.iter().any(|region| named(region) == *name);
        let lost: Vec<String> = known.iter().map(named).filter(|name| !is_kept(name)).collect();
        let is_allowed = self.allow_location_deletion.or(safety[ALLOW].as_bool());
        if lost.is_empty() || is_allowed != Some(false) {
            return Ok(());
        }
        let text = format!(
            "it cannot be removed from {}: its safetyProfile.{ALLOW} is false; to remove it \
             anyway, add --allow-replicated-location-deletion true",
            lost.join(", ")
        );
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// Whether the changes include a list that Azure replaces as a whole.
    pub(super) fn replaces_lists(&self) -> bool {
        let regions = [self.regions.is_empty(), self.add_regions.is_empty()];
        regions.contains(&false) || !self.remove_regions.is_empty() || !self.tags.is_empty()
    }

    /// Whether a resource still has what was requested, whatever others have changed since: of
    /// target regions and tags, only those that were named.
    pub(super) fn are_kept(&self, body: &Value, thing: &Value) -> bool {
        let mut wanted = body["properties"].clone();
        let there = thing["properties"]["publishingProfile"]["targetRegions"].as_array();
        let there = || there.into_iter().flatten();
        let is = |region: &&Value, name: &str| {
            short_name(region["name"].as_str().unwrap_or_default()) == short_name(name)
        };
        let mut are_there = true;
        if self.regions.is_empty()
            && let Some(publishing) = wanted["publishingProfile"].as_object_mut()
            && let Some(sent) = publishing.remove("targetRegions")
        {
            let sent = sent.as_array().cloned().unwrap_or_default();
            are_there = self.add_regions.iter().all(|wanted| {
                let sent = sent.iter().find(|region| is(region, &wanted.name));
                let found = there().find(|region| is(region, &wanted.name));
                sent.zip(found).is_some_and(|(sent, found)| agrees(found, sent))
            }) && self
                .remove_regions
                .iter()
                .all(|name| !there().any(|region| is(&region, name)));
        }
        are_there
            && (wanted.is_null() || agrees(&thing["properties"], &wanted))
            && self.has_tags(thing)
    }

    /// All tags, since Azure replaces them as a whole, too. Tag names are case-insensitive
    /// (learn.microsoft.com/azure/azure-resource-manager/management/tag-resources), and keep their
    /// present spelling.
    fn tagged(&self, now: &Value) -> Map<String, Value> {
        let mut tags = now.as_object().cloned().unwrap_or_default();
        for (name, value) in &self.tags {
            let known = tags.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
            let spelled = known.unwrap_or_else(|| name.clone());
            if value.is_empty() {
                tags.shift_remove(&spelled);
            } else {
                tags.insert(spelled, value.clone().into());
            }
        }
        tags
    }

    /// Whether a resource has the tags that were set, and none of those that were removed. Other
    /// tags are ignored.
    fn has_tags(&self, thing: &Value) -> bool {
        let tags = thing["tags"].as_object();
        self.tags.iter().all(|(name, value)| {
            let mut known = tags.into_iter().flatten();
            let known = known.find(|(known, _)| known.eq_ignore_ascii_case(name));
            match known {
                None => value.is_empty(),
                Some((_, known)) => !value.is_empty() && known == value,
            }
        })
    }

    /// The short names of the regions to be added.
    pub(super) fn new_regions(&self, now: &Value) -> Vec<String> {
        let known = now["properties"]["publishingProfile"]["targetRegions"].as_array();
        let is_known = |name: &String| {
            let mut known =
                known.into_iter().flatten().filter_map(|region| region["name"].as_str());
            known.any(|known| short_name(known) == *name)
        };
        let wanted = self.regions.iter().chain(&self.add_regions);
        wanted.map(|region| short_name(&region.name)).filter(|name| !is_known(name)).collect()
    }

    /// Whether a resource shows what `body` requests. Target regions are compared as a whole, since
    /// the remaining ones do not show which were removed.
    pub(super) fn are_made(&self, body: &Value, thing: &Value) -> bool {
        let wanted = &body["properties"];
        (wanted.is_null() || agrees(&thing["properties"], wanted)) && self.has_tags(thing)
    }

    /// The recommended configuration, with the current values of members that are not named.
    fn recommended(&self, now: &Value) -> Result<Option<Value>> {
        if self.vcpus == (None, None) && self.memory == (None, None) {
            return Ok(None);
        }
        let bounds = |name: &str, (min, max): (Option<u32>, Option<u32>)| {
            let at = |bound: &str| now[name][bound].as_u64().and_then(|n| u32::try_from(n).ok());
            let (min, max) = (min.or(at("min")), max.or(at("max")));
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                let text = format!("{name}: the minimum {min} exceeds the maximum {max}");
                return Err(Error::invalid(text));
            }
            Ok(json!({"min": min, "max": max}))
        };
        let recommended = json!({"vCPUs": bounds("vCPUs", self.vcpus)?, "memory": bounds("memory", self.memory)?});
        Ok(Some(recommended))
    }

    /// All target regions, since a PATCH replaces them as a whole. A region that stays keeps its
    /// other properties (its encryption, say). `None` if no region is to be changed.
    fn target_regions(&self, known: &[Value]) -> Result<Option<Vec<Value>>> {
        if self.regions.is_empty() && self.add_regions.is_empty() && self.remove_regions.is_empty()
        {
            return Ok(None);
        }
        let named = |region: &Value| short_name(region["name"].as_str().unwrap_or_default());
        let mut regions = known.to_vec();
        if !self.regions.is_empty() {
            let is_kept = |region: &Value| {
                self.regions.iter().any(|wanted| short_name(&wanted.name) == named(region))
            };
            regions.retain(is_kept);
        }
        for removed in &self.remove_regions {
            let before = regions.len();
            regions.retain(|region| named(region) != short_name(removed));
            if regions.len() == before {
                let there: Vec<String> = known.iter().map(named).collect();
                return Err(Error::invalid(format!(
                    "'{removed}' is not one of its target regions, which are {}",
                    there.join(", ")
                )));
            }
        }
        for wanted in self.regions.iter().chain(&self.add_regions) {
            let at = regions.iter().position(|region| named(region) == short_name(&wanted.name));
            let at = at.unwrap_or_else(|| {
                regions.push(json!({"name": wanted.name, "regionalReplicaCount": 1}));
                regions.len() - 1
            });
            if let Some(replicas) = wanted.replicas {
                regions[at]["regionalReplicaCount"] = replicas.into();
            }
            if let Some(storage) = &wanted.storage {
                let kept = regions[at]["storageAccountType"].as_str().unwrap_or(storage);
                if !kept.eq_ignore_ascii_case(storage) {
                    return Err(Error::invalid(format!(
                        "its replicas in '{}' use {kept}, which Azure fixes when the region is \
                         added: remove the region first, then add it again",
                        wanted.name
                    )));
                }
                regions[at]["storageAccountType"] = storage.clone().into();
            }
        }
        if regions.is_empty() {
            return Err(Error::invalid("a version needs at least one target region"));
        }
        let replicas: u64 = regions.iter().map(replicas).sum();
        if replicas > u64::from(MOST_REPLICAS) {
            return Err(Error::invalid(format!(
                "{replicas} replicas exceed the limit of {MOST_REPLICAS} per version"
            )));
        }
        Ok(Some(regions))
    }
}

/// The number of replicas in a region, including those of its additional sets.
fn replicas(region: &Value) -> u64 {
    let sets = region["additionalReplicaSets"].as_array().into_iter().flatten();
    let counts = std::iter::once(region).chain(sets);
    counts.map(|set| set["regionalReplicaCount"].as_u64().unwrap_or(1)).sum()
}

/// Adds the members that the schema of a body requires, and those that a change must not remove,
/// with their current values.
fn keep(name: &Name, now: &Value, properties: &mut Map<String, Value>) {
    let members: &[&str] = match (&name.definition, &name.version) {
        (None, _) => &[],
        (Some(_), None) => &["osType", "osState", "identifier"],
        (Some(_), Some(_)) => {
            // As in the specification's GalleryImageVersion_Update_WithoutSourceId.json.
            properties.insert("storageProfile".to_owned(), json!({}));
            // Members that Azure sets itself are not sent back.
            let kept = [ALLOW, BLOCK].into_iter().filter_map(|member| {
                let value = now["safetyProfile"].get(member).filter(|value| value.is_boolean());
                Some((member.to_owned(), value?.clone()))
            });
            let mut safety: Map<String, Value> = kept.collect();
            if let Some(Value::Object(wanted)) = properties.remove("safetyProfile") {
                safety.extend(wanted);
            }
            if !safety.is_empty() {
                properties.insert("safetyProfile".to_owned(), safety.into());
            }
            &[]
        }
    };
    for member in members {
        if let Some(value) = now.get(member) {
            properties.insert((*member).to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_keep_their_known_properties() {
        let known = [
            json!({"name": "East US", "regionalReplicaCount": 3, "encryption": {"x": 1}}),
            json!({"name": "West US", "regionalReplicaCount": 1}),
        ];
        let changes = Changes {
            add_regions: vec!["japaneast=2/Standard_ZRS".parse().unwrap()],
            remove_regions: vec!["westus".to_owned()],
            ..Changes::default()
        };
        let regions = changes.target_regions(&known).unwrap().unwrap();
        assert_eq!(regions[0], known[0]);
        assert_eq!(regions[1]["storageAccountType"], "Standard_ZRS");
        assert_eq!(regions.len(), 2);
        let all = Changes { regions: vec!["eastus=1".parse().unwrap()], ..Changes::default() };
        let regions = all.target_regions(&known).unwrap().unwrap();
        assert_eq!(regions.len(), 1);
        assert_eq!(regions[0]["regionalReplicaCount"], 1);
        assert_eq!(regions[0]["encryption"], json!({"x": 1}));
        let none = Changes { remove_regions: vec!["eastus2".to_owned()], ..Changes::default() };
        assert!(none.target_regions(&known).unwrap_err().to_string().contains("eastus, westus"));
        let fixed = ["eastus=3/Premium_LRS", "japaneast=100"].map(|region| Changes {
            add_regions: vec![region.parse().unwrap()],
            ..Changes::default()
        });
        let known = [json!({"name": "East US", "regionalReplicaCount": 3,
            "storageAccountType": "Standard_LRS", "additionalReplicaSets": []})];
        for (changes, part) in fixed.iter().zip(["which Azure fixes", "103 replicas"]) {
            let refused = changes.target_regions(&known).unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
        }
        for bad in ["", "=2", "eastus=0", "eastus=101", "eastus=x", "eastus=1/Floppy"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}
