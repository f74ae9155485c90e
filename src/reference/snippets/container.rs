//! Container images and artifacts, by digest: a tag may be moved.

use super::tree::{Node, object, text, yaml};
use super::{Snippets, quote};
use crate::image::registry::RegistryImage;

/// Whether a text consists of letters, digits and the other characters.
fn is_of(name: &str, others: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// Whether the names of an image are ones that a registry can serve. A Dockerfile has no quotes, so
/// no other name can be written.
fn is_valid(image: &RegistryImage) -> bool {
    let begins = |name: &str| name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let digest = image.digest.split_once(':');
    begins(&image.login_server)
        && begins(&image.repository)
        && is_of(&image.login_server, ".:-")
        && is_of(&image.repository, "._/-")
        && digest.is_some_and(|(algorithm, hex)| is_of(algorithm, "+._-") && is_of(hex, "=_-"))
}

fn pod(reference: &str) -> String {
    let container = object([text("name", "my-app"), text("image", reference)]);
    let file = object([
        text("apiVersion", "v1"),
        text("kind", "Pod"),
        Some(("metadata", object([text("name", "my-app")]))),
        Some(("spec", object([Some(("containers", Node::List(vec![container])))]))),
    ]);
    yaml(&file, 0, quote::yaml)
}

pub(super) fn snippets(image: &RegistryImage) -> Snippets {
    let mut all = Snippets::default();
    if !is_valid(image) {
        all.notes.push("No registry can serve an image with such a name.".to_owned());
        return all;
    }
    let place = format!("{}/{}", image.login_server, image.repository);
    let reference = format!("{place}@{}", image.digest);
    let registry = image.login_server.split_once(".azurecr.").map(|(name, _)| name);
    let login = registry.map(|name| format!("az acr login --name {}\n", quote::shell(name)));
    let login = login.unwrap_or_default();
    if image.artifact_type.is_some() {
        all.notes.push("This is an artifact, which cannot be run.".to_owned());
        let text = format!("{login}oras pull {}\n", quote::shell(&reference));
        all.add("oras", ["ORAS", "shell"], Some(text));
        return all;
    }
    let pull = format!("{login}docker pull {}\n", quote::shell(&reference));
    all.add("docker", ["Docker", "shell"], Some(pull));
    all.add("kubernetes", ["Kubernetes", "yaml"], Some(pod(&reference)));
    // With the tag that the digest had, so that tools which update Dockerfiles know what to follow.
    let tag = image.tags.iter().find(|tag| is_of(tag, "._-") && tag.len() <= 128);
    let tagged = tag.map_or_else(String::new, |tag| format!(":{tag}"));
    let from = format!("FROM {place}{tagged}@{}\n", image.digest);
    all.add("dockerfile", ["Dockerfile", "dockerfile"], Some(from));
    if image.can_read == Some(false) {
        all.notes.push("The image is locked against reading.".to_owned());
    }
    all
}
