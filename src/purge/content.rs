//! The parts of a manifest's content that matter to a purge: what it refers to, and its kind.
//!
//! Read leniently: what cannot be read is reported, and what can be read is used, since it may have
//! to stay.

use super::state::Kind;
use crate::image::registry::{RegistryImage, is_schema_1};
use serde_json::Value;
use std::collections::BTreeMap;

/// The media type prefix of `BuildKit`'s cache configurations (moby/buildkit, docs of
/// `cache-to type=registry`).
const CACHE: &str = "application/vnd.buildkit.cacheconfig.";

/// Media type prefixes of signatures, attestations and SBOMs: of cosign (sigstore/cosign,
/// `specs/SIGNATURE_SPEC.md` and `SBOM_SPEC.md`), sigstore's bundles, notation, in-toto, SPDX,
/// `CycloneDX` and syft.
const ATTACHMENTS: [&str; 12] = [
    "application/vnd.dev.cosign.",
    "application/vnd.dev.sigstore.",
    "application/vnd.cncf.notary.",
    "application/vnd.dsse.envelope.",
    "application/vnd.in-toto",
    "application/vnd.cyclonedx",
    "application/vnd.syft",
    "application/spdx",
    "application/sarif",
    "text/spdx",
    "spdx+",
    "application/vnd.sbom",
];

/// Media types of configurations that do not identify the kind of the artifact.
const PLAIN_CONFIGS: [&str; 4] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.empty.v1+json",
    "",
];

/// The content of a manifest, as far as a purge needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownContent {
    /// The kind; `None` if the recorded data does not determine it.
    pub kind: Option<Kind>,
    /// The manifests that it lists.
    pub parts: Vec<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// The sizes of its blobs in bytes, by digest.
    pub blobs: BTreeMap<String, u64>,
    /// Why a part of it cannot be read, although what it refers to can.
    pub malformed: Option<String>,
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn is_attachment(media_type: &str) -> bool {
    ATTACHMENTS.iter().any(|start| media_type.starts_with(start))
}

/// Whether a media type is that of a manifest that lists no others: an image or an artifact.
pub(super) fn lists_no_manifests(media_type: &str) -> bool {
    ["image.manifest.v1+json", "distribution.manifest.v2+json", "artifact.manifest.v1+json"]
        .iter()
        .any(|end| media_type.ends_with(end))
        || is_schema_1(media_type)
}

impl KnownContent {
    /// Reads a manifest. The error says why it is unknown what the manifest needs.
    pub(super) fn of(document: &Value) -> Result<Self, String> {
        let mut known = Self { kind: Some(kind(document)), ..Self::default() };
        match &document["subject"] {
            Value::Null => {}
            subject => {
                let digest = text(&subject["digest"]).ok_or("its subject cannot be read")?;
                known.subject = Some(digest.to_owned());
            }
        }
        for part in ["config", "layers", "blobs"] {
            let found: Vec<&Value> = match &document[part] {
                Value::Null => Vec::new(),
                Value::Array(list) => list.iter().collect(),
                one => vec![one],
            };
            for blob in found {
                match text(&blob["digest"]) {
                    Some(digest) => known.add(digest, &blob["size"]),
                    None => known.malformed = Some(format!("its {part} cannot be read")),
                }
            }
        }
        let listed = match &document["manifests"] {
            Value::Null => [].iter(),
            Value::Array(list) => list.iter(),
            _ => return Err("its list of manifests cannot be read".to_owned()),
        };
        for part in listed {
            let digest = text(&part["digest"]).ok_or("its list of manifests cannot be read")?;
            // A build cache lists its layers like manifests.
            let media_type = text(&part["mediaType"]).unwrap_or_default();
            if media_type.contains(".layer.") || media_type.contains(".rootfs.") {
                known.add(digest, &part["size"]);
            }
            known.parts.push(digest.to_owned());
        }
        if let Some(other) = known.others() {
            known.malformed = Some(format!(
                "it refers to {} by a digest other than SHA-256, which is not supported",
                other.chars().take(16).collect::<String>()
            ));
        }
        Ok(known)
    }

    fn add(&mut self, digest: &str, size: &Value) {
        self.blobs.insert(digest.to_owned(), size.as_u64().unwrap_or_default());
    }

    fn others(&self) -> Option<&String> {
        let all = self.blobs.keys().chain(&self.parts).chain(&self.subject);
        all.into_iter().find(|digest| !digest.starts_with("sha256:"))
    }

    /// Reads a row of the catalog whose manifest was fetched and recorded completely.
    pub fn of_row(row: RegistryImage) -> Self {
        let is_index = row.is_index();
        let kind = match &row.artifact_type {
            Some(of) if !is_index => Some(kind_by(of, row.subject.is_some())),
            _ if is_index && row.manifests.is_empty() => Some(Kind::Nothing),
            // A build cache may be an index, but lists no platform.
            _ if is_index => (!row.platforms.is_empty()).then_some(Kind::Image),
            // An artifact of cosign has an image's configuration without an operating system.
            _ => row.os.is_some().then_some(Kind::Image),
        };
        let mut known = Self {
            kind,
            parts: row.manifests,
            subject: row.subject,
            blobs: row.layers,
            malformed: None,
        };
        if known.others().is_some() {
            known.kind = None;
        }
        known
    }
}

/// The kind that an artifact type denotes.
fn kind_by(named: &str, refers: bool) -> Kind {
    if named.starts_with(CACHE) {
        Kind::Cache
    } else if refers || is_attachment(named) {
        Kind::Attachment
    } else {
        Kind::Image
    }
}

fn kind(document: &Value) -> Kind {
    let config = text(&document["config"]["mediaType"]).unwrap_or_default();
    let refers = !document["subject"].is_null();
    let named = text(&document["artifactType"]).unwrap_or(config);
    let types = |part: &str| -> Vec<&str> {
        let all = document[part].as_array().into_iter().flatten();
        all.map(|one| text(&one["mediaType"]).unwrap_or_default()).collect()
    };
    if let Value::Array(listed) = &document["manifests"] {
        let is_cache = types("manifests").iter().any(|of| of.starts_with(CACHE));
        return match (is_cache || named.starts_with(CACHE), listed.is_empty()) {
            (true, _) => Kind::Cache,
            (false, true) => Kind::Nothing,
            (false, false) => Kind::Image,
        };
    }
    if config.starts_with(CACHE) {
        return Kind::Cache;
    }
    if !PLAIN_CONFIGS.contains(&named) {
        return kind_by(named, refers);
    }
    let layers = [types("layers"), types("blobs")].concat();
    let are_attached = !layers.is_empty() && layers.iter().all(|of| is_attachment(of));
    let is_image = config.ends_with("image.config.v1+json") || config.contains("container.image");
    if are_attached || (refers && !is_image) { Kind::Attachment } else { Kind::Image }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const EMPTY: &str = "application/vnd.oci.empty.v1+json";

    fn one(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", "a1".repeat(32)), "size": 3})
    }

    #[test]
    fn manifest_kind_follows_from_its_media_types() {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let cosign = "application/vnd.dev.cosign.simplesigning.v1+json";
        let cache = "application/vnd.buildkit.cacheconfig.v0";
        let helm = "application/vnd.cncf.helm.config.v1+json";
        let subject = one("x");
        for (expected, document) in [
            (Kind::Image, json!({"config": one(CONFIG), "layers": [one(layer)]})),
            (
                Kind::Image,
                json!({"config": one(CONFIG), "layers": [one(layer)], "subject": subject}),
            ),
            (Kind::Image, json!({"config": one(helm), "layers": [one("x")]})),
            (Kind::Image, json!({"manifests": [one("x")]})),
            (Kind::Nothing, json!({"manifests": []})),
            (Kind::Cache, json!({"manifests": [one(layer), one(cache)]})),
            (Kind::Cache, json!({"config": one(cache), "layers": [one(layer)]})),
            (Kind::Attachment, json!({"config": one(CONFIG), "layers": [one(cosign)]})),
            (Kind::Attachment, json!({"config": one(EMPTY), "layers": [], "subject": subject})),
            (
                Kind::Attachment,
                json!({"artifactType": "application/spdx+json", "config": one(EMPTY)}),
            ),
            (
                Kind::Attachment,
                json!({"config": one(CONFIG), "layers": [one("application/vnd.in-toto+json")]}),
            ),
        ] {
            assert_eq!(KnownContent::of(&document).unwrap().kind, Some(expected), "{document}");
        }
    }

    #[test]
    fn unreadable_parts_are_reported_and_readable_parts_used() {
        let other = json!({"digest": format!("sha512:{}", "a".repeat(128)), "size": 1});
        let known = KnownContent::of(&json!({"config": one(CONFIG), "layers": [other, one("x")],
            "subject": one("x")}));
        let known = known.unwrap();
        assert!(known.malformed.unwrap().contains("sha512:"), "what it is said of");
        assert_eq!((known.subject.is_some(), known.blobs.len()), (true, 2));
        for unknown in [
            json!({"manifests": {}}),
            json!({"manifests": [{"digest": 7}]}),
            json!({"subject": {"digest": ""}}),
        ] {
            assert!(KnownContent::of(&unknown).is_err(), "{unknown}");
        }
    }
}
