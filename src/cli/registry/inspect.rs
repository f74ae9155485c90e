//! `azimg registry inspect`: the parts of a manifest, and its referrers.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Content, Descriptor, Name, Registry, is_image_config};
use crate::source::registry::findings;
use futures::future::{join, join_all};
use serde_json::{Value, json};

/// The maximum nesting: an index in an index.
const DEPTH: u32 = 2;
/// The maximum number of manifests requested: an index may list a manifest a thousand times, and
/// that manifest may do the same.
const MOST: usize = 1_000;
/// The maximum depth of referrers: a signature may be signed, and that signature again.
const REFERRERS_DEPTH: u32 = 3;
/// The suffixes of the tags by which cosign finds what belongs to a digest: signatures,
/// attestations and SBOMs.
const BESIDE: [&str; 3] = ["sig", "att", "sbom"];
/// The annotation by which `BuildKit` marks an attestation in an index.
const BUILDKIT: &str = "vnd.docker.reference.type";

/// A manifest with its configuration, its layers or platforms, and the tree of its referrers.
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

/// The number of manifests that may still be requested.
struct Left(usize);

impl Left {
    /// Counts one more request for something that belongs to `digest`.
    fn take(&mut self, digest: &str) -> Result<()> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| {
            Error::corrupt(format!(
                "{digest}: more than {MOST} manifests belong to the inspected image"
            ))
        })?;
        Ok(())
    }
}

/// The findings of scanners in an image, by severity. Null if they are unknown.
pub(super) async fn findings(config: &Config, registry: &Registry, image: &Value) -> Value {
    let digest = image["digest"].as_str().unwrap_or_default();
    let asked =
        async { findings::of_image(&config.client()?, registry.login_server(), digest).await };
    match asked.await {
        Ok(Some(scanned)) => json!(scanned.findings),
        Ok(None) => Value::Null,
        Err(error) => {
            tracing::warn!(%error, "the findings of scanners are not known");
            Value::Null
        }
    }
}

/// Adds what only ACR reports: locks and quarantine of the manifest, whether the tag is signed, and
/// whether the repository is kept for fast starts. A user who may pull may not be allowed to read
/// these, and then gets the rest.
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
            let text = format!("{}: the index is nested too deeply or too long", content.digest);
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

/// A manifest listed in an index, with its referrers. If it is missing or unreadable, an entry with
/// the error takes its place.
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

/// The configuration of an image. For an artifact it may be anything, so only its descriptor is
/// returned.
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

/// The manifests that refer to a manifest by their subject or by one of cosign's tags.
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

/// The manifest that a cosign tag associates with a digest, if there is one.
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
    // cosign's manifests have the configuration of an image. The media type of the layer tells what
    // they are.
    let document = &content.document;
    let config = document["config"]["mediaType"].as_str().filter(|config| !is_image_config(config));
    let of = document["artifactType"].as_str().or(config);
    let of = of.or_else(|| document["layers"][0]["mediaType"].as_str());
    Ok(Some(json!({"mediaType": content.media_type, "digest": content.digest,
        "size": content.bytes.len(), "artifactType": of, "tag": tag})))
}
