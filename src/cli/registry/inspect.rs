//! `azimg registry inspect`: what a manifest is made of, and what refers to it.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Content, Descriptor, Name, Registry, is_image_config};
use crate::source::registry::findings;
use futures::future::{join, join_all};
use serde_json::{Value, json};

/// An index of an index, and no deeper.
const DEPTH: u32 = 2;
/// Manifests that are asked for in all: an index may name one a thousand times, and that one the same.
const MOST: usize = 1_000;
/// A signature may be signed; that may be signed again.
const REFERRERS_DEPTH: u32 = 3;
/// The ends of the tags by which cosign finds what belongs to a digest: signatures, attestations and SBOMs.
const BESIDE: [&str; 3] = ["sig", "att", "sbom"];
/// What `BuildKit` writes on an attestation in an index.
const BUILDKIT: &str = "vnd.docker.reference.type";

/// A manifest with its configuration, layers or platforms, and referrers as a tree.
pub(super) async fn inspect(registry: &Registry, repository: &str, name: &Name) -> Result<Value> {
    let content = registry.content(repository, name).await?;
    let mut left = Left(MOST);
    let mut value = Box::pin(part(registry, repository, &content, DEPTH, &mut left)).await?;
    let below = referrers(registry, repository, &content.digest, REFERRERS_DEPTH, &mut left);
    value["referrers"] = Box::pin(below).await?;
    if registry.has_attributes() {
        add_attributes(registry, repository, name, &mut value).await;
    }
    Ok(value)
}

/// How much may still be asked for.
struct Left(usize);

impl Left {
    /// Asks once more for what belongs to `digest`.
    fn take(&mut self, digest: &str) -> Result<()> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| {
            Error::corrupt(format!(
                "{digest}: more than {MOST} manifests belong to what is inspected"
            ))
        })?;
        Ok(())
    }
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

/// What ACR alone tells: locks and quarantine of the manifest, whether the tag is signed, and whether the repository
/// is kept for fast starts. Whoever may pull may not always read these, and gets the rest.
async fn add_attributes(registry: &Registry, repository: &str, name: &Name, value: &mut Value) {
    let digest = value["digest"].as_str().unwrap_or_default().to_owned();
    let of_tag = async {
        match name {
            Name::Tag(tag) => registry.tag(repository, tag).await.ok().and_then(|tag| tag.signed),
            _ => None,
        }
    };
    let others = join(registry.manifest(repository, &digest), registry.repository(repository));
    let (signed, (manifest, whole)) = join(of_tag, others).await;
    if let Ok(manifest) = manifest {
        value["changeableAttributes"] = json!(manifest.changeable_attributes);
    }
    if let Some(signed) = signed {
        value["signed"] = signed.into();
    }
    if let Some(teleport) =
        whole.ok().and_then(|whole| whole.changeable_attributes.teleport_enabled)
    {
        value["teleportEnabled"] = teleport.into();
    }
}

async fn part(
    registry: &Registry,
    repository: &str,
    content: &Content,
    depth: u32,
    left: &mut Left,
) -> Result<Value> {
    let mut value = json!({"digest": content.digest, "mediaType": content.media_type,
        "size": content.bytes.len(), "annotations": content.document["annotations"],
        "artifactType": content.document["artifactType"], "subject": content.document["subject"]});
    if content.is_index() {
        let (members, blobs) = content.members()?;
        if depth == 0 || members.len() > MOST {
            let text = format!("{}: an index that is too deep or too long", content.digest);
            return Err(Error::corrupt(text));
        }
        let mut platforms = Vec::new();
        for member in members {
            left.take(&content.digest)?;
            platforms.push(Box::pin(platform(registry, repository, member, depth, left)).await?);
        }
        value["platforms"] = platforms.into();
        if !blobs.is_empty() {
            value["blobs"] = json!(blobs);
        }
        return Ok(value);
    }
    let layers = content.descriptors("layers")?;
    let blobs = content.descriptors("blobs")?;
    let sizes = layers.iter().chain(&blobs).map(|layer| layer.size);
    value["layersSize"] = sizes.fold(0, u64::saturating_add).into();
    value["layers"] = json!(layers);
    if !blobs.is_empty() {
        value["blobs"] = json!(blobs);
    }
    if let Some(config) = content.descriptors("config")?.first() {
        value["config"] = config_of(registry, repository, config).await?;
    }
    Ok(value)
}

/// A manifest of an index, with what refers to it. One that is not there, or cannot be read, says so in its place.
async fn platform(
    registry: &Registry,
    repository: &str,
    member: Descriptor,
    depth: u32,
    left: &mut Left,
) -> Result<Value> {
    let name = Name::Digest(member.digest.clone());
    let is_attestation = member.annotations[BUILDKIT].is_string();
    let inner = match registry.content(repository, &name).await {
        Ok(found) => Box::pin(part(registry, repository, &found, depth - 1, left)).await,
        Err(error) => Err(error),
    };
    let mut value = match inner {
        Ok(mut value) => {
            if !is_attestation {
                let below = referrers(registry, repository, &member.digest, REFERRERS_DEPTH, left);
                value["referrers"] = Box::pin(below).await?;
            }
            value
        }
        Err(error) => {
            let is_its_own = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Corrupt
            );
            if !is_its_own {
                return Err(error);
            }
            json!({"digest": member.digest, "mediaType": member.media_type,
                "size": member.size, "error": error.to_string()})
        }
    };
    value["platform"] = member.platform;
    if !member.annotations.is_null() {
        value["listedWith"] = member.annotations;
    }
    Ok(value)
}

/// The configuration of an image; that of an artifact may be anything, and is only named.
async fn config_of(registry: &Registry, repository: &str, config: &Descriptor) -> Result<Value> {
    if !is_image_config(&config.media_type) {
        return Ok(json!(config));
    }
    let found = registry.config(repository, config).await?;
    Ok(json!({"digest": config.digest, "architecture": found["architecture"], "os": found["os"],
        "osVersion": found["os.version"], "variant": found["variant"], "created": found["created"],
        "labels": found["config"]["Labels"], "user": found["config"]["User"],
        "entrypoint": found["config"]["Entrypoint"], "cmd": found["config"]["Cmd"],
        "exposedPorts": found["config"]["ExposedPorts"]}))
}

/// What refers to a manifest by its subject, or stands beside it by one of cosign's tags.
async fn referrers(
    registry: &Registry,
    repository: &str,
    digest: &str,
    depth: u32,
    left: &mut Left,
) -> Result<Value> {
    let tags = BESIDE.map(|end| beside(registry, repository, digest, end));
    let (by_subject, by_tag) = join(registry.referrers(repository, digest), join_all(tags)).await;
    let mut tree: Vec<Value> = by_subject?.into_iter().map(|referrer| json!(referrer)).collect();
    for found in by_tag {
        let Some(found) = found? else { continue };
        match tree.iter_mut().find(|other| other["digest"] == found["digest"]) {
            Some(known) => known["tag"] = found["tag"].clone(),
            None => tree.push(found),
        }
    }
    if depth > 1 {
        for value in &mut tree {
            left.take(digest)?;
            let own = value["digest"].as_str().unwrap_or_default().to_owned();
            let below = referrers(registry, repository, &own, depth - 1, left);
            value["referrers"] = Box::pin(below).await?;
        }
    }
    Ok(tree.into())
}

/// What stands beside a digest by a tag, if anything does.
async fn beside(
    registry: &Registry,
    repository: &str,
    digest: &str,
    end: &str,
) -> Result<Option<Value>> {
    let tag = format!("{}.{end}", digest.replacen(':', "-", 1));
    let content = match registry.content(repository, &Name::Tag(tag.clone())).await {
        Ok(content) if content.digest == digest => return Ok(None),
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // cosign's manifests are images by their configuration; what they are tells their layer.
    let document = &content.document;
    let config = document["config"]["mediaType"].as_str().filter(|config| !is_image_config(config));
    let of = document["artifactType"].as_str().or(config);
    let of = of.or_else(|| document["layers"][0]["mediaType"].as_str());
    Ok(Some(json!({"mediaType": content.media_type, "digest": content.digest,
        "size": content.bytes.len(), "artifactType": of, "tag": tag})))
}
