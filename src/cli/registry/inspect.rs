//! `azimg registry inspect`: what a manifest is made of, and what refers to it.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::registry::{Content, Descriptor, Name, Registry};
use crate::source::registry::findings;
use serde_json::{Value, json};

/// An index of an index, and no deeper.
const DEPTH: u32 = 2;
/// Manifests that one index may list.
const MOST: usize = 1_000;
/// A signature may be signed; that may be signed again.
const REFERRERS_DEPTH: u32 = 3;

/// A manifest with its configuration, layers or platforms, and referrers as a tree.
pub(super) async fn inspect(registry: &Registry, repository: &str, name: &Name) -> Result<Value> {
    let content = registry.content(repository, name).await?;
    let mut value = Box::pin(part(registry, repository, &content, DEPTH)).await?;
    value["referrers"] =
        Box::pin(referrers(registry, repository, &content.digest, REFERRERS_DEPTH)).await?;
    Ok(value)
}

/// What scanners found in an image, by severity; null when that is not known.
pub(super) async fn findings(config: &Config, registry: &Registry, image: &Value) -> Value {
    let digest = image["digest"].as_str().unwrap_or_default();
    let asked =
        async { findings::of_image(&config.client()?, registry.login_server(), digest).await };
    match asked.await {
        Ok(Some(scanned)) => json!(scanned.findings),
        Ok(None) => Value::Null,
        Err(error) => {
            tracing::warn!(%error, "what scanners found is not known");
            Value::Null
        }
    }
}

async fn part(
    registry: &Registry,
    repository: &str,
    content: &Content,
    depth: u32,
) -> Result<Value> {
    let mut value = json!({"digest": content.digest, "mediaType": content.media_type,
        "size": content.bytes.len(), "annotations": content.document["annotations"],
        "artifactType": content.document["artifactType"], "subject": content.document["subject"]});
    if content.is_index() {
        let members = content.descriptors("manifests")?;
        if depth == 0 || members.len() > MOST {
            let text = format!("{}: an index that is too deep or too long", content.digest);
            return Err(Error::corrupt(text));
        }
        let mut platforms = Vec::new();
        for member in members {
            let found = registry.content(repository, &Name::Digest(member.digest.clone())).await?;
            let mut inner = Box::pin(part(registry, repository, &found, depth - 1)).await?;
            inner["platform"] = member.platform;
            platforms.push(inner);
        }
        value["platforms"] = platforms.into();
        return Ok(value);
    }
    let layers = content.descriptors("layers")?;
    value["layersSize"] = layers.iter().map(|layer| layer.size).sum::<u64>().into();
    value["layers"] = json!(layers);
    if let Some(config) = content.descriptors("config")?.first() {
        value["config"] = config_of(registry, repository, config).await?;
    }
    Ok(value)
}

/// The configuration of an image; that of an artifact may be anything, and is only named.
async fn config_of(registry: &Registry, repository: &str, config: &Descriptor) -> Result<Value> {
    let is_image = config.media_type.ends_with("image.config.v1+json")
        || config.media_type == "application/vnd.docker.container.image.v1+json";
    if !is_image {
        return Ok(json!(config));
    }
    let found = registry.config(repository, config).await?;
    Ok(json!({"digest": config.digest, "architecture": found["architecture"], "os": found["os"],
        "osVersion": found["os.version"], "variant": found["variant"], "created": found["created"],
        "labels": found["config"]["Labels"], "user": found["config"]["User"],
        "entrypoint": found["config"]["Entrypoint"], "cmd": found["config"]["Cmd"],
        "exposedPorts": found["config"]["ExposedPorts"]}))
}

async fn referrers(
    registry: &Registry,
    repository: &str,
    digest: &str,
    depth: u32,
) -> Result<Value> {
    let mut tree = Vec::new();
    for referrer in registry.referrers(repository, digest).await? {
        let mut value = json!(referrer);
        if depth > 1 {
            let below = Box::pin(referrers(registry, repository, &referrer.digest, depth - 1));
            value["referrers"] = below.await?;
        }
        tree.push(value);
    }
    Ok(tree.into())
}
