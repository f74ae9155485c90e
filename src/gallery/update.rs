//! What Azure lets one change of a gallery, a definition and a version (azure-rest §4), and nothing
//! else.

use super::operation::agrees;
use super::{Ended, Galleries, Name, Seen, Step, change};
use crate::client::Change;
use crate::error::{Error, Result};
use crate::source::locations::short_name;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A target region as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name, in any form.
    pub name: String,
    /// How many replicas; as many as there are, or one, when it is not said.
    pub replicas: Option<u32>,
    /// The kind of storage.
    pub storage: Option<String>,
}

impl std::str::FromStr for Region {
    type Err = Error;

    /// `REGION[=REPLICAS[/STORAGE]]`, such as `westeurope=2/Standard_ZRS`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{text}' is no target region: give REGION, REGION=REPLICAS or \
                 REGION=REPLICAS/STORAGE, such as westeurope=2/Standard_ZRS"
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
        if name.trim().is_empty() || replicas == Some(0) || !storage_known {
            return Err(bad());
        }
        Ok(Self { name: name.trim().to_owned(), replicas, storage })
    }
}

/// The kinds of storage that replicas can have.
const STORAGE: [&str; 4] = ["Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"];

/// What is to be changed; what is none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Description of a gallery or definition.
    pub description: Option<String>,
    /// End of life of a definition or version; `Some(None)` takes it away.
    pub end_of_life: Option<Option<OffsetDateTime>>,
    /// Release notes of a definition.
    pub release_notes: Option<String>,
    /// Least and most vCPUs of a definition.
    pub vcpus: (Option<u32>, Option<u32>),
    /// Least and most memory of a definition, in GB.
    pub memory: (Option<u32>, Option<u32>),
    /// All target regions of a version.
    pub regions: Vec<Region>,
    /// Target regions to be added to a version, or changed.
    pub add_regions: Vec<Region>,
    /// Target regions to be taken from a version.
    pub remove_regions: Vec<String>,
    /// Whether a version is excluded from latest.
    pub exclude_from_latest: Option<bool>,
    /// Tags to be set; an empty value takes a tag away.
    pub tags: BTreeMap<String, String>,
}

impl Changes {
    /// Which changes are asked for, by the name of their option.
    fn asked(&self) -> Vec<&'static str> {
        let asked = [
            ("--description", self.description.is_some()),
            ("--end-of-life", self.end_of_life.is_some()),
            ("--release-notes", self.release_notes.is_some()),
            ("--min-vcpus/--max-vcpus", self.vcpus != (None, None)),
            ("--min-memory/--max-memory", self.memory != (None, None)),
            ("--target-region", !self.regions.is_empty()),
            ("--add-region", !self.add_regions.is_empty()),
            ("--remove-region", !self.remove_regions.is_empty()),
            ("--exclude-from-latest", self.exclude_from_latest.is_some()),
            ("--tag", !self.tags.is_empty()),
        ];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect()
    }

    /// Refuses what Azure does not let one change of what `name` names.
    fn check(&self, name: &Name) -> Result<()> {
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
                    "--tag",
                ],
            ),
        };
        let asked = self.asked();
        if asked.is_empty() {
            return Err(Error::invalid(format!(
                "there is nothing to change: of {what}, {} can be given",
                may.join(", ")
            )));
        }
        match asked.iter().find(|asked| !may.contains(asked)) {
            Some(other) => Err(Error::invalid(format!(
                "{other} cannot be changed on {what} ({}); what can be is {}",
                name.id(),
                may.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// The body of the PATCH, given the thing as it is now.
    fn body(&self, name: &Name, now: &Value) -> Result<Value> {
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
        if let Some(regions) = self.target_regions(known.map_or(&[], Vec::as_slice))? {
            publishing.insert("targetRegions".to_owned(), regions.into());
        }
        if !publishing.is_empty() {
            properties.insert("publishingProfile".to_owned(), publishing.into());
        }
        let mut body = json!({});
        if !properties.is_empty() {
            body["properties"] = properties.into();
        }
        if !self.tags.is_empty() {
            // Tags are replaced as a whole, too.
            let mut tags = now["tags"].as_object().cloned().unwrap_or_default();
            for (name, value) in &self.tags {
                if value.is_empty() {
                    tags.shift_remove(name);
                } else {
                    tags.insert(name.clone(), value.clone().into());
                }
            }
            body["tags"] = tags.into();
        }
        Ok(body)
    }

    /// What is recommended, with what is not named as it is.
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
                let text = format!("{name}: at least {min} and at most {max} cannot be");
                return Err(Error::invalid(text));
            }
            Ok(json!({"min": min, "max": max}))
        };
        let recommended = json!({"vCPUs": bounds("vCPUs", self.vcpus)?, "memory": bounds("memory", self.memory)?});
        Ok(Some(recommended))
    }

    /// All target regions, since a PATCH replaces them as a whole: what is known of a region that
    /// stays (its encryption, say) stays with it. None when nothing is asked of them.
    fn target_regions(&self, known: &[Value]) -> Result<Option<Vec<Value>>> {
        if self.regions.is_empty() && self.add_regions.is_empty() && self.remove_regions.is_empty()
        {
            return Ok(None);
        }
        let named = |region: &Value| short_name(region["name"].as_str().unwrap_or_default());
        let mut regions = known.to_vec();
        if !self.regions.is_empty() {
            let stays = |region: &Value| {
                self.regions.iter().any(|wanted| short_name(&wanted.name) == named(region))
            };
            regions.retain(stays);
        }
        for removed in &self.remove_regions {
            let before = regions.len();
            regions.retain(|region| named(region) != short_name(removed));
            if regions.len() == before {
                let there: Vec<String> = known.iter().map(named).collect();
                return Err(Error::invalid(format!(
                    "it is not in '{removed}'; its target regions are {}",
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
                regions[at]["storageAccountType"] = storage.clone().into();
            }
        }
        if regions.is_empty() {
            return Err(Error::invalid("a version needs at least one target region"));
        }
        Ok(Some(regions))
    }
}

impl Galleries {
    /// The request that makes `changes` of what `name` names; none when it is so already.
    pub async fn plan_update(&self, name: &Name, changes: &Changes) -> Result<Option<Change>> {
        changes.check(name)?;
        let now = self.get(name).await?;
        let body = changes.body(name, &now)?;
        // Regions that are taken away are not told by what is left of them.
        let same_tags = body["tags"].is_null() || body["tags"] == now["tags"];
        if same_tags && agrees(&now["properties"], &body["properties"]) {
            return Ok(None);
        }
        Ok(Some(change(name, Method::PATCH, Some(body))))
    }

    /// Makes a planned update.
    pub async fn update(
        &self,
        name: &Name,
        change: &Change,
        wait: bool,
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Ended> {
        let body = change.body.clone().unwrap_or_default();
        let is_made = move |now: Option<&Value>| {
            let made = now.is_some_and(|now| {
                agrees(&now["properties"], &body["properties"])
                    && (body["tags"].is_null() || body["tags"] == now["tags"])
            });
            if made { Seen::Made } else { Seen::NotMade }
        };
        self.make(name, change, wait, &is_made, tell).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_keep_what_was_known_of_them() {
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
        for bad in ["", "=2", "eastus=0", "eastus=x", "eastus=1/Floppy"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}
