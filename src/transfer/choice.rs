//! Choice of one image among several: by name, digest, number or platform.

use super::annotation::{FULL_NAME, NAME};
use crate::error::{Error, Result};
use crate::registry::Platform;
use serde_json::Value;

/// The most images that an error lists.
const MOST_NAMED: usize = 8;

/// The wanted image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageChoice {
    /// A name, a tag, a digest, or `@N` for the Nth image, counted from 0 as skopeo does.
    pub name: Option<String>,
    /// Selects only the images of these platforms from an index; all if empty.
    pub platforms: Vec<Platform>,
    /// Keeps uncompressed layers of an archive as they are.
    pub keep_layers: bool,
}

/// An image that may be chosen.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) names: Vec<String>,
    pub(super) digest: String,
    pub(super) platform: Option<Platform>,
}

impl Choice {
    /// Reads an entry of a layout's index.
    pub(super) fn of_entry(entry: &Value) -> Self {
        let annotation = |name: &str| entry["annotations"][name].as_str().map(str::to_owned);
        Self {
            names: [FULL_NAME, NAME].into_iter().filter_map(annotation).collect(),
            digest: entry["digest"].as_str().unwrap_or_default().to_owned(),
            platform: Platform::of(&entry["platform"]),
        }
    }

    /// Whether `name` denotes this image: its full name, its name without Docker's defaults, its
    /// tag, or its digest.
    fn is_called(&self, name: &str) -> bool {
        let full = short(name);
        self.digest == name
            || self.names.iter().any(|own| {
                own == name || short(own) == full || tag(own).is_some_and(|tag| tag == name)
            })
    }

    fn shown(&self, number: usize) -> String {
        let platform = self.platform.as_ref().map(ToString::to_string);
        let digest: String = self.digest.chars().take("sha256:".len() + 12).collect();
        let parts =
            [Some(format!("@{number}")), platform, self.names.first().cloned(), Some(digest)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// A name without Docker's default registry and namespace, and with a tag.
fn short(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    if tag(name).is_some() { name.to_owned() } else { format!("{name}:latest") }
}

/// The tag of a name, if it has one. A port is not a tag.
fn tag(name: &str) -> Option<&str> {
    name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

impl ImageChoice {
    /// The numbers of the images with the wanted name.
    pub(super) fn fitting(&self, choices: &[Choice], at: &str) -> Result<Vec<usize>> {
        let all = 0..choices.len();
        let Some(name) = self.name.as_deref() else { return Ok(all.collect()) };
        let found: Vec<usize> = match name.strip_prefix('@').map(str::parse::<usize>) {
            Some(Ok(number)) => all.filter(|at| *at == number).collect(),
            Some(Err(_)) => {
                let text = format!("--name {name}: use @ and a number, from @0 on, or a name");
                return Err(Error::invalid(text));
            }
            None => all.filter(|at| choices[*at].is_called(name)).collect(),
        };
        if found.is_empty() {
            let text =
                format!("{at}: contains no image named {name}; it contains {}", shown(choices));
            return Err(Error::not_found(text));
        }
        Ok(found)
    }
}

/// The error for several matching images.
pub(super) fn several(choices: &[Choice], fitting: &[usize], at: &str, more: &str) -> Error {
    let some: Vec<String> =
        fitting.iter().take(MOST_NAMED).map(|number| choices[*number].shown(*number)).collect();
    let rest = fitting.len().saturating_sub(MOST_NAMED);
    let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    Error::invalid(format!(
        "{at}: {} images match: {}{rest}; select one with --name (its name, its digest or \
         @N){more}",
        fitting.len(),
        some.join(", ")
    ))
}

fn shown(choices: &[Choice]) -> String {
    let some = choices.iter().enumerate().take(MOST_NAMED);
    let some: Vec<String> = some.map(|(number, choice)| choice.shown(number)).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_found_by_each_of_its_names() {
        let choice = |names: &[&str]| Choice {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            digest: "sha256:aa".to_owned(),
            platform: None,
        };
        let docker = choice(&["docker.io/library/app:1", "1"]);
        for name in ["app:1", "docker.io/library/app:1", "1", "library/app:1", "sha256:aa"] {
            assert!(docker.is_called(name), "{name}");
        }
        for name in ["app", "app:2", "docker.io", "sha256:ab", ""] {
            assert!(!docker.is_called(name), "{name}");
        }
        assert!(choice(&["web:latest"]).is_called("web"));
        assert!(!choice(&["r.example:5000/web"]).is_called("5000/web"));
        let all = [docker, choice(&[])];
        let fitting = |name: &str| {
            let wanted = ImageChoice { name: Some(name.to_owned()), ..ImageChoice::default() };
            wanted.fitting(&all, "x").map_err(|error| error.to_string())
        };
        assert_eq!(fitting("@1"), Ok(vec![1]));
        assert_eq!(fitting("1"), Ok(vec![0]));
        assert!(fitting("@2").unwrap_err().contains("@1 sha256:aa"));
        assert!(fitting("@x").is_err());
    }
}
