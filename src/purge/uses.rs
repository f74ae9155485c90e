//! Users of a registry's images: container apps and jobs, container instances and web apps, from
//! Resource Graph. Resource Graph does not know what a Kubernetes cluster runs.

use super::state::RepositoryState;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::registry::{Name, Reference};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The resource types whose properties name images.
const TYPES: &str = "'microsoft.app/containerapps', 'microsoft.app/jobs', \
    'microsoft.containerinstance/containergroups', 'microsoft.web/sites', \
    'microsoft.web/sites/slots'";

/// In bytes. The size limit of a compiled regular expression.
const LARGEST: usize = 1 << 20;

/// The use of an image by something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The repository; `None` if only a digest is known, which may be in any repository.
    pub repository: Option<String>,
    /// The tag or digest.
    pub name: Name,
    /// The user of the image: a Resource Manager id, or the position in a list.
    pub user: String,
}

/// All uses of a registry's images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageUsage(pub Vec<Usage>);

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(default)]
    properties: Value,
}

impl ImageUsage {
    /// Asks Resource Graph, in all visible subscriptions.
    pub async fn ask(client: &Client, login_server: &str) -> Result<Self> {
        let query = format!(
            "resources | where type in~ ({TYPES}) | project id, type, properties | order by id asc"
        );
        let rows: Vec<Row> = client.graph(&query, &[]).await?;
        let named = RegistryNames::of(login_server)?;
        let mut uses = Vec::new();
        for row in rows {
            each_text(&row.properties, &mut |text| {
                let found = named.references(text).into_iter().flatten();
                uses.extend(found.map(|found| found.used_by(&row.id)));
            });
        }
        Ok(Self(uses))
    }

    /// The users of a repository's manifests, by digest. A digest without a repository may be that
    /// of a configuration, since some runtimes report that one.
    pub fn of(&self, state: &RepositoryState) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let tagged = |name: &str| {
            state.tags.iter().find(|tag| tag.name == name).map(|tag| tag.digest.clone())
        };
        for used in &self.0 {
            match (&used.repository, &used.name) {
                (Some(repository), _) if *repository != state.name => {}
                (Some(_), Name::Digest(digest)) => {
                    found.insert(digest.clone(), used.user.clone());
                }
                (None, Name::Digest(digest)) => {
                    let has_it = state.manifests.iter().filter(|manifest| {
                        manifest.digest == *digest || manifest.blobs.contains_key(digest)
                    });
                    found.extend(has_it.map(|m| (m.digest.clone(), used.user.clone())));
                }
                (_, Name::Tag(tag)) => {
                    found.extend(tagged(tag).map(|digest| (digest, used.user.clone())));
                }
                (_, Name::Whole) => {
                    found.extend(tagged("latest").map(|digest| (digest, used.user.clone())));
                }
            }
        }
        found
    }
}

/// A reference to an image of the registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedImage {
    repository: String,
    name: Name,
}

impl NamedImage {
    pub(super) fn used_by(self, user: &str) -> Usage {
        Usage { repository: Some(self.repository), name: self.name, user: user.to_owned() }
    }
}

/// Matches the names of a registry in texts.
pub(super) struct RegistryNames(Regex);

impl RegistryNames {
    /// Matches all names of a registry. One of ACR has several (of private endpoints, and of each
    /// replica), which denote the same images.
    pub(super) fn of(login_server: &str) -> Result<Self> {
        let acr = r"^([a-z0-9-]+)(?:\.privatelink|\.[a-z0-9]+\.geo)?\.(azurecr\.[a-z]+)$";
        let host = match expression(acr)?.captures(login_server) {
            Some(parts) => {
                let (name, suffix) = (regex::escape(&parts[1]), regex::escape(&parts[2]));
                format!(r"{name}(?:\.privatelink|\.[a-z0-9]+\.geo)?\.{suffix}(?::443)?")
            }
            None => regex::escape(login_server),
        };
        expression(&format!("{host}/([A-Za-z0-9._/@:-]*)")).map(Self)
    }

    /// All references to images of the registry in a text. An error contains the text that cannot
    /// be read as one.
    pub(super) fn references(&self, text: &str) -> Vec<Result<NamedImage, String>> {
        let mut found = Vec::new();
        let is_of_host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        for names in self.0.captures_iter(text) {
            // Not a match if it is the end of another host's name.
            let begin = names.get(0).map_or(0, |matched| matched.start());
            if text.as_bytes()[..begin].last().is_some_and(is_of_host) {
                continue;
            }
            let rest = names[1].trim_end_matches(['/', ':', '@']);
            // A full stop may end a tag, or the sentence that contains it.
            let cut = rest.trim_end_matches('.');
            let mut read: Vec<NamedImage> = [rest, cut].into_iter().filter_map(reference).collect();
            read.dedup();
            if read.is_empty() {
                found.push(Err(names[0].to_owned()));
            }
            found.extend(read.into_iter().map(Ok));
        }
        found
    }
}

/// Compiles a fixed ASCII expression, matched case-insensitively.
pub(super) fn expression(text: &str) -> Result<Regex> {
    let built =
        RegexBuilder::new(text).case_insensitive(true).unicode(false).size_limit(LARGEST).build();
    built.map_err(|e| Error::bug(e.to_string()))
}

fn reference(rest: &str) -> Option<NamedImage> {
    let read: Reference = format!("registry/{rest}").parse().ok()?;
    Some(NamedImage { repository: read.repository?, name: read.name })
}

/// Calls `see` for every string in a value at any depth: each provider names its images in another
/// member (`template.containers[].image`, `siteConfig.linuxFxVersion` as `DOCKER|…`).
pub(super) fn each_text(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(all) => all.iter().for_each(|part| each_text(part, see)),
        Value::Object(all) => all.values().for_each(|part| each_text(part, see)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn image_references_are_found_in_every_property() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let properties = json!({
            "template": {"containers": [{"image": format!("R.azurecr.io/app@{digest}")}]},
            "siteConfig": {"linuxFxVersion": "DOCKER|r.azurecr.io/web:v1"},
            "other": ["r.azurecr.io.evil/x:1", "see r.azurecr.io/job, please"],
            "more": ["docker-pullable://r.privatelink.azurecr.io/team/a:1.", "r.azurecr.io:443/b:2",
                r#"{\"image\":\"r.eastus.geo.azurecr.io/c:3\"}"#, "r.azurecr.io/D"],
        });
        let (mut found, mut bad) = (Vec::new(), Vec::new());
        let named = RegistryNames::of("r.azurecr.io").unwrap();
        each_text(&properties, &mut |text| {
            for reference in named.references(text) {
                match reference {
                    Ok(NamedImage { repository, name }) => found.push((repository, name)),
                    Err(other) => bad.push(other),
                }
            }
        });
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let tag = |repository: &str, tag: &str| (repository.to_owned(), Name::Tag(tag.to_owned()));
        assert_eq!(
            found,
            [
                ("app".to_owned(), Name::Digest(digest)),
                tag("b", "2"),
                tag("c", "3"),
                ("job".to_owned(), Name::Whole),
                tag("team/a", "1."),
                tag("team/a", "1"),
                tag("web", "v1"),
            ]
        );
        assert_eq!(bad, ["r.azurecr.io/D"]);
        // Any of the registry's names gives the same result.
        let found =
            RegistryNames::of("r.westus.geo.azurecr.io").unwrap().references("r.azurecr.io/app:1");
        assert_eq!(found.len(), 1);
        let here = RegistryNames::of("127.0.0.1:5000").unwrap();
        assert!(here.references("127.0.0.1:5000/a/b:1")[0].is_ok());
    }
}
