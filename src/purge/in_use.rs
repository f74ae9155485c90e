//! Lists of running images that Resource Graph does not know, such as those of Kubernetes clusters.
//! Images in such a list stay. A list that names nothing of the registry, or that is outdated, is
//! refused.

use super::state::RepositoryState;
use super::uses::{RegistryNames, Usage, each_text, expression};
use crate::error::{Error, Result};
use crate::registry::Name;
use crate::span::Span;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use time::OffsetDateTime;

/// In bytes. The largest list: the output of `kubectl get pods -A -o json` for 10,000 pods.
const LARGEST: u64 = 64 << 20;
/// How far the time of a file may be ahead of this machine's clock.
const AHEAD: time::Duration = time::Duration::minutes(5);

/// The source of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUseSource<'a> {
    /// A file, which must not be older than the span.
    File(&'a Path, Span),
    /// Standard input.
    Stdin,
}

/// A list of running images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// The name of the source.
    pub source: String,
    /// The uses it contains of the registry's images. A digest may be of another registry.
    pub uses: Vec<Usage>,
    /// Whether it names an image of the registry, rather than only digests.
    is_of_registry: bool,
}

impl InUse {
    /// Reads a list of references or digests, or the output of `kubectl get … -o json`, for a
    /// registry.
    pub fn read(source: InUseSource<'_>, login_server: &str, now: OffsetDateTime) -> Result<Self> {
        let mut text = String::new();
        let name = match source {
            InUseSource::Stdin => {
                let name = "standard input".to_owned();
                let read = std::io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text);
                read.map_err(|e| Error::io(&name, e))?;
                name
            }
            InUseSource::File(path, max_age) => {
                let name = path.display().to_string();
                let io = |e| Error::io(&name, e);
                let file = std::fs::File::open(path).map_err(io)?;
                let written = file.metadata().and_then(|of| of.modified()).map_err(io)?;
                check_age(&name, written.into(), max_age, now)?;
                file.take(LARGEST + 1).read_to_string(&mut text).map_err(io)?;
                name
            }
        };
        if text.len() as u64 > LARGEST {
            let most = LARGEST >> 20;
            return Err(Error::invalid(format!(
                "{name}: exceeds {most} MiB; use a plain list of images instead"
            )));
        }
        Self::parse(&name, &text, login_server)
    }

    /// Like [`Self::read`], for the text of the list.
    pub fn parse(source: &str, text: &str, login_server: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let mut reading = ListReader::new(source, login_server)?;
        if text.starts_with(['{', '[']) {
            // The outputs of several clusters may be concatenated.
            let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            for document in documents {
                let document = document.map_err(|e| {
                    Error::invalid(format!("{source}: truncated, or not JSON ({e})"))
                })?;
                reading.document(&document)?;
            }
        } else {
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.split('#').next().unwrap_or_default();
                reading.text(&format!("{source}, line {number}"), line, true)?;
            }
        }
        let ListReader { uses, is_of_registry, .. } = reading;
        if uses.is_empty() {
            return Err(Error::invalid(format!(
                "{source}: it names no image of {login_server}, so it is not a list of the images \
                 in use"
            )));
        }
        Ok(Self { source: source.to_owned(), uses, is_of_registry })
    }

    /// Refuses a list of only digests that none of these repositories contains.
    pub fn check_digests<'a>(
        &self,
        states: impl Iterator<Item = &'a RepositoryState>,
        is_elsewhere: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let digests: BTreeSet<&str> = self
            .uses
            .iter()
            .filter_map(|used| match &used.name {
                Name::Digest(digest) => Some(digest.as_str()),
                Name::Tag(_) | Name::Whole => None,
            })
            .collect();
        let mut manifests = states.flat_map(|state| &state.manifests);
        let is_there = self.is_of_registry
            || digests.iter().any(|digest| is_elsewhere(digest))
            || manifests.any(|manifest| {
                digests.contains(manifest.digest.as_str())
                    || manifest.blobs.keys().any(|blob| digests.contains(blob.as_str()))
            });
        if is_there {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: none of its {} digests is in the repositories that the rules match; use \
             references (LOGINSERVER/REPOSITORY@DIGEST)",
            self.source,
            digests.len()
        )))
    }
}

fn check_age(
    name: &str,
    written: OffsetDateTime,
    max_age: Span,
    now: OffsetDateTime,
) -> Result<()> {
    let why = if written > now.saturating_add(AHEAD) {
        "its time is in the future".to_owned()
    } else if written < max_age.before(now) {
        format!("it was written at {written}, longer ago than {max_age} (--in-use-max-age)")
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{name}: {why}, so it may be outdated: create it again")))
}

/// Reads a list.
struct ListReader<'a> {
    source: &'a str,
    named: RegistryNames,
    digest: Regex,
    uses: Vec<Usage>,
    is_of_registry: bool,
}

impl<'a> ListReader<'a> {
    fn new(source: &'a str, login_server: &str) -> Result<Self> {
        let digest = expression("sha256:[0-9a-f]{64}")?;
        let named = RegistryNames::of(login_server)?;
        Ok(Self { source, named, digest, uses: Vec::new(), is_of_registry: false })
    }

    /// Adds the images that a text names. A digest counts whatever precedes it: a node may pull
    /// through a mirror, under another registry's name.
    fn text(&mut self, user: &str, text: &str, is_strict: bool) -> Result<()> {
        for found in self.named.references(text) {
            match found {
                Ok(found) => {
                    self.is_of_registry = true;
                    self.uses.push(found.used_by(user));
                }
                Err(other) if is_strict => {
                    return Err(Error::invalid(format!(
                        "{user}: '{other}' cannot be read as an image, but may be an image in use"
                    )));
                }
                Err(_) => {}
            }
        }
        for digest in self.digest.find_iter(text) {
            let name = Name::Digest(digest.as_str().to_ascii_lowercase());
            self.uses.push(Usage { repository: None, name, user: user.to_owned() });
        }
        Ok(())
    }

    /// Adds the images that a document of Kubernetes, or any other, names. A list with a
    /// continuation is incomplete, and is refused.
    fn document(&mut self, document: &Value) -> Result<()> {
        let source = self.source;
        if document["metadata"]["continue"].as_str().is_some_and(|more| !more.is_empty()) {
            return Err(Error::invalid(format!(
                "{source}: the list is incomplete (metadata.continue)"
            )));
        }
        match &document["items"] {
            Value::Array(items) => items.iter().try_for_each(|item| self.item(item)),
            _ => match document {
                Value::Array(items) => items.iter().try_for_each(|item| self.item(item)),
                one => self.item(one),
            },
        }
    }

    /// Adds the images of an item: those in its containers of all kinds, their states, templates,
    /// and the last applied configuration.
    fn item(&mut self, item: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let called: Vec<String> =
            [&item["kind"], &item["metadata"]["namespace"], &item["metadata"]["name"]]
                .into_iter()
                .filter_map(text)
                .collect();
        let user = if called.is_empty() {
            self.source.to_owned()
        } else {
            format!("{} ({})", called.join(" "), self.source)
        };
        let mut seen: BTreeMap<String, bool> = BTreeMap::new();
        each_text(item, &mut |text| {
            seen.insert(text.to_owned(), false);
        });
        images(item, &mut |image| {
            seen.insert(image.to_owned(), true);
        });
        seen.iter().try_for_each(|(text, is_image)| self.text(&user, text, *is_image))
    }
}

/// Calls `see` for the members `image` and `imageID` at any depth, which are always images.
fn images(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::Array(all) => all.iter().for_each(|part| images(part, see)),
        Value::Object(all) => {
            for (name, part) in all {
                match part {
                    Value::String(text) if matches!(name.as_str(), "image" | "imageID") => {
                        see(text);
                    }
                    part => images(part, see),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SERVER: &str = "r.azurecr.io";

    fn digest(of: &str) -> String {
        format!("sha256:{}", of.repeat(32))
    }

    fn names(list: &InUse) -> Vec<(Option<&str>, Name)> {
        list.uses.iter().map(|used| (used.repository.as_deref(), used.name.clone())).collect()
    }

    #[test]
    fn in_use_lists_are_read_in_every_supported_format() {
        let text = format!(
            "# what runs\nr.azurecr.io/app:1 docker.io/library/nginx:1\nr.azurecr.io/b@{}\n{}\n",
            digest("a1"),
            digest("b2").to_uppercase().replace("SHA", "sha")
        );
        let list = InUse::parse("list", &text, SERVER).unwrap();
        let by_digest = |of: &str| Name::Digest(digest(of));
        let expected = [
            (Some("app"), Name::Tag("1".into())),
            (Some("b"), by_digest("a1")),
            (None, by_digest("a1")),
            (None, by_digest("b2")),
        ];
        assert_eq!(names(&list), expected);
        assert_eq!(list.uses[0].user, "list, line 2");
        // The output of `kubectl get pods,replicasets -A -o json`, of two clusters.
        let pod = json!({"kind": "List", "items": [{"kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-1"},
            "spec": {"initContainers": [{"image": "r.azurecr.io/init:1"}],
                "ephemeralContainers": [{"image": "r.azurecr.io/debug"}],
                "containers": [{"image": "r.azurecr.io/web:2"}]},
            "status": {"containerStatuses": [{"image": "r.azurecr.io/web:2",
                "imageID": format!("r.azurecr.io/web@{}", digest("c3"))}]}}]});
        let replicas = json!({"kind": "ReplicaSet", "metadata": {"name": "web"},
            "spec": {"template": {"spec": {"containers": [{"image": "r.azurecr.io/web:1"}]}}}});
        let text = format!("{pod}\n{replicas}");
        let list = InUse::parse("pods.json", &text, SERVER).unwrap();
        let all = names(&list);
        for wanted in [
            (Some("init"), Name::Tag("1".into())),
            (Some("debug"), Name::Whole),
            (Some("web"), Name::Tag("2".into())),
            (Some("web"), by_digest("c3")),
            (Some("web"), Name::Tag("1".into())),
        ] {
            assert!(all.contains(&wanted), "{wanted:?} in {all:?}");
        }
        assert_eq!(list.uses[0].user, "Pod shop web-1 (pods.json)");
    }

    #[test]
    fn invalid_in_use_list_is_refused() {
        let pods = json!({"items": [{"image": "r.azurecr.io/a:1"}], "metadata": {"continue": "x"}});
        for (text, why) in [
            ("", "names no image"),
            ("# nothing\n", "names no image"),
            ("{\"items\": []}", "names no image"),
            ("NAMESPACE NAME READY\ndefault web-1 1/1", "names no image"),
            ("other.azurecr.io/app:1", "names no image"),
            ("r.azurecr.io/App:1", "cannot be read as an image"),
            ("r.azurecr.io/app@sha512:aa", "cannot be read as an image"),
            ("{\"items\": [{\"image\": \"r.azurecr.io/app:1\"}", "truncated"),
            (&pods.to_string(), "is incomplete"),
        ] {
            let error = InUse::parse("list", text, SERVER).unwrap_err().to_string();
            assert!(error.contains(why) && error.starts_with("list"), "{text}: {error}");
        }
    }

    #[test]
    fn in_use_list_that_is_too_old_or_in_the_future_is_refused() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
        let day: Span = "24h".parse().unwrap();
        let check = |hours: i64| check_age("list", now - time::Duration::hours(hours), day, now);
        assert!(check(0).is_ok() && check(23).is_ok());
        assert!(check(25).unwrap_err().to_string().contains("longer ago than 1d"));
        assert!(check(-1).unwrap_err().to_string().contains("future"));
    }
}
