//! Contents of manifests. Each manifest is read individually, and only once ever.

use super::{CONCURRENCY, Containers, TOGETHER, end_failed_item};
use crate::error::{ErrorKind, Result};
use crate::image::name::without_repeats;
use crate::image::registry::{ManifestContent, ManifestDetail, manifest_id};
use crate::registry::{Content, Descriptor, Name, Registry, is_image_config, pull_scope};
use crate::source::{Crawled, Invocation, Rows, classify_failure};
use crate::work::{Gap, Outcome, RegistryScope, Scope, State, WorkItem};
use futures::{StreamExt, stream};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// Size limit for the annotations or labels of a manifest, in bytes.
const MOST_TEXT: usize = 64 << 10;

impl Containers {
    pub(super) async fn crawl_contents(
        &self,
        item: &WorkItem,
        login_server: &str,
        manifests: &[[String; 2]],
        effort: &Invocation,
    ) -> Result<Crawled> {
        let registry = match self.registry(login_server) {
            Ok(registry) => registry,
            Err(error) => return end_failed_item(item, error, effort),
        };
        // Manifests are sorted by repository, so a token for some repositories covers all of their
        // manifests.
        let mut names: Vec<&str> = manifests.iter().map(|[name, _]| name.as_str()).collect();
        names.dedup();
        let scopes: HashMap<&str, Arc<str>> = names
            .chunks(TOGETHER)
            .flat_map(|names| {
                let scopes: Vec<String> = names.iter().map(|name| pull_scope(name)).collect();
                let scope: Arc<str> = scopes.join(" ").into();
                names.iter().map(move |name| (*name, Arc::clone(&scope)))
            })
            .collect();
        let requests = stream::iter(manifests).map(|name| {
            let (registry, scope) = (&registry, scopes.get(name[0].as_str()).cloned());
            async move {
                let is_late = Instant::now() >= effort.until;
                let scope = scope.unwrap_or_default();
                (name, if is_late { None } else { Some(read(registry, name, &scope).await) })
            }
        });
        let mut details = Vec::new();
        let mut gaps = Vec::new();
        let mut left = Vec::new();
        let mut responses = requests.buffered(CONCURRENCY).boxed();
        while let Some((name, answer)) = responses.next().await {
            match answer {
                None => left.push(name.clone()),
                Some(Ok(contained)) => details.push(ManifestDetail::Content(Box::new(contained))),
                Some(Err(error)) if error.kind() == ErrorKind::Throttled && !details.is_empty() => {
                    left.push(name.clone());
                }
                Some(Err(error)) => {
                    let (state, reason, attempts) = classify_failure(error, effort)?;
                    let [offer, digest] = name.clone();
                    let version = Some(digest);
                    gaps.push(Gap { offer, sku: None, version, state, reason, attempts });
                }
            }
        }
        gaps.sort();
        let children = if left.is_empty() {
            Vec::new()
        } else {
            let login_server = login_server.to_owned();
            let scope = RegistryScope::Contents { login_server, manifests: left };
            vec![item.child(Scope::Registry(scope))]
        };
        let outcome = Outcome {
            rows: details.len() as u64,
            gaps,
            children,
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Details(details)))
    }
}

/// Reads one manifest and, for an image, its configuration.
async fn read(
    registry: &Registry,
    [repository, digest]: &[String; 2],
    scope: &str,
) -> Result<ManifestContent> {
    let name = Name::Digest(digest.clone());
    let content = registry.content_with(repository, &name, scope).await?;
    let mut contained = contained(&content)?;
    contained.id = manifest_id(registry.login_server(), repository, digest);
    // A configuration whose digest cannot be verified is not read, and not requested again.
    if let Ok(configs) = content.descriptors("config")
        && let Some(config) = configs.first()
        && is_image_config(&config.media_type)
    {
        let config = registry.config_with(repository, config, scope).await?;
        add_config(&mut contained, &config);
    }
    Ok(contained)
}

/// The string members of an object, up to [`MOST_TEXT`] bytes of names and values.
fn texts(found: &Value) -> BTreeMap<String, String> {
    let mut left = MOST_TEXT;
    let all = found.as_object().into_iter().flatten();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    all.filter_map(text)
        .take_while(|(name, text)| {
            let fits = left.checked_sub(name.len() + text.len());
            left = fits.unwrap_or_default();
            fits.is_some()
        })
        .collect()
}

fn platform(found: &Value) -> Option<String> {
    let part = |name: &str| found[name].as_str().filter(|text| !text.is_empty());
    let (os, architecture) = (part("os")?, part("architecture")?);
    // An index lists attestations as images of an unknown platform.
    if os == "unknown" {
        return None;
    }
    let variant = part("variant").map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{os}/{architecture}{variant}"))
}

/// Extracts the content from the manifest document itself.
pub(super) fn contained(content: &Content) -> Result<ManifestContent> {
    let document = &content.document;
    let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let parts = content.named("manifests")?;
    let blobs = ["config", "layers", "blobs"];
    let mut layers = BTreeMap::new();
    for part in blobs {
        let found: Vec<Descriptor> = content.named(part)?;
        layers.extend(found.into_iter().map(|blob| (blob.digest, blob.size)));
    }
    let platforms = without_repeats(parts.iter().filter_map(|part| platform(&part.platform)));
    let config = &document["config"]["mediaType"];
    let artifact_type = text(&document["artifactType"]).or_else(|| {
        let config = text(config).filter(|config| !is_image_config(config));
        config.filter(|_| parts.is_empty())
    });
    Ok(ManifestContent {
        artifact_type,
        subject: text(&document["subject"]["digest"]),
        platforms,
        manifests: parts.into_iter().map(|part| part.digest).collect(),
        annotations: texts(&document["annotations"]),
        layers,
        ..ManifestContent::default()
    })
}

fn add_config(contained: &mut ManifestContent, config: &Value) {
    let text = |name: &str| config[name].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    (contained.os, contained.architecture) = (text("os"), text("architecture"));
    contained.platforms = platform(config).into_iter().collect();
    contained.built_at =
        text("created").and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    contained.labels = texts(&config["config"]["Labels"]);
}
