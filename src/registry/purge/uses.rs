//! What stands on a registry's images: container apps and jobs, container instances, web apps, as
//! Resource Graph has them. What a Kubernetes cluster runs is not known there.

use super::plan::RepositoryState;
use crate::client::Client;
use crate::error::Result;
use crate::registry::{Name, Reference};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Whose properties name images.
const TYPES: &str = "'microsoft.app/containerapps', 'microsoft.app/jobs', \
    'microsoft.containerinstance/containergroups', 'microsoft.web/sites', \
    'microsoft.web/sites/slots'";

/// Something that stands on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The repository.
    pub repository: String,
    /// The tag or digest.
    pub name: Name,
    /// What stands on it, by Resource Manager id.
    pub user: String,
}

/// Everything that stands on a registry's images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses(pub Vec<Use>);

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(default)]
    properties: Value,
}

impl Uses {
    /// Asks Resource Graph, in all subscriptions that can be seen.
    pub async fn ask(client: &Client, login_server: &str) -> Result<Self> {
        let query = format!(
            "resources | where type in~ ({TYPES}) | project id, type, properties | order by id asc"
        );
        let rows: Vec<Row> = client.graph(&query, &[]).await?;
        let mut uses = Vec::new();
        for row in rows {
            collect(&row.properties, login_server, &row.id, &mut uses);
        }
        Ok(Self(uses))
    }

    /// What stands on the manifests of a repository, by digest.
    pub fn of(&self, state: &RepositoryState) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for used in self.0.iter().filter(|used| used.repository == state.name) {
            let digest = match &used.name {
                Name::Digest(digest) => Some(digest.clone()),
                Name::Tag(tag) => {
                    state.tags.iter().find(|t| t.name == *tag).map(|t| t.digest.clone())
                }
                Name::Whole => {
                    state.tags.iter().find(|t| t.name == "latest").map(|t| t.digest.clone())
                }
            };
            found.extend(digest.map(|digest| (digest, used.user.clone())));
        }
        found
    }
}

/// Every text that names an image of the registry, wherever it stands: each provider keeps its own in
/// another place (`template.containers[].image`, `siteConfig.linuxFxVersion` as `DOCKER|…`).
fn collect(value: &Value, login_server: &str, user: &str, found: &mut Vec<Use>) {
    match value {
        Value::String(text) => {
            let lower = text.to_ascii_lowercase();
            let start = format!("{login_server}/");
            for (at, _) in lower.match_indices(&start) {
                let image = text[at..].split([' ', ',', ';', '"', '\'', '\n', '|']).next();
                let Ok(image) = image.unwrap_or_default().parse::<Reference>() else { continue };
                if let Some(repository) = image.repository {
                    found.push(Use { repository, name: image.name, user: user.to_owned() });
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|part| collect(part, login_server, user, found)),
        Value::Object(all) => {
            all.values().for_each(|part| collect(part, login_server, user, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_are_found_wherever_they_are_named() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let properties = json!({
            "template": {"containers": [{"image": format!("R.azurecr.io/app@{digest}")}]},
            "siteConfig": {"linuxFxVersion": "DOCKER|r.azurecr.io/web:v1"},
            "other": ["r.azurecr.io.evil/x:1", "see r.azurecr.io/job, please"],
        });
        let mut uses = Vec::new();
        collect(&properties, "r.azurecr.io", "me", &mut uses);
        let found: Vec<(&str, &Name)> =
            uses.iter().map(|used| (used.repository.as_str(), &used.name)).collect();
        assert_eq!(
            found,
            [
                ("app", &Name::Digest(digest)),
                ("web", &Name::Tag("v1".into())),
                ("job", &Name::Whole),
            ]
        );
    }
}
