//! The target of a request to a simulated registry, from its method and path, and the scopes that a
//! token must grant for it.

use super::claims::{Scope, is_expired};
use axum::http::Method;
use serde_json::Value;

/// The target of a request.
pub(super) enum RegistryTarget {
    /// The root of Docker's API, version 2.
    Version,
    /// The list of repositories in ACR's API.
    Catalog,
    /// The list of repositories in Docker's API.
    Names,
    /// The list of a repository's tags in Docker's API.
    TagNames(String),
    /// The description of a repository.
    Repository(String),
    /// The list of a repository's tags in ACR's API.
    Tags(String),
    /// The description of a tag, by repository and tag.
    Tag(String, String),
    /// The list of a repository's manifests.
    Manifests(String),
    /// The description of a manifest, by repository and digest.
    Manifest(String, String),
    /// A manifest itself, by repository and tag or digest.
    Content(String, String),
    /// A blob, by repository and digest.
    Blob(String, String),
    /// The list of referrers, by repository and digest.
    Referrers(String, String),
    /// The uploads of a repository: one to begin, or a blob to mount.
    Uploads(String),
    /// An upload in progress, by repository and id.
    Upload(String, String),
}

/// Whether a text is a valid name of a repository (distribution-spec).
fn is_repository(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        let ends = part.starts_with(inner) && part.ends_with(inner);
        ends && part.chars().all(|c| inner(c) || matches!(c, '.' | '_' | '-'))
    };
    !text.is_empty() && text.len() <= 255 && text.split('/').all(part)
}

/// Whether a text is a valid tag.
fn is_tag(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let all = |c: char| inner(c) || matches!(c, '.' | '-');
    text.len() <= 128 && text.starts_with(inner) && text.chars().all(all)
}

/// Whether a text is a digest of an algorithm that ACR supports.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|rest| rest.len() == 64 && rest.bytes().all(hex))
}

impl RegistryTarget {
    /// The target of a method and a path; `None` if there is no such operation.
    pub(super) fn parse(method: &Method, path: &str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("/v2/") {
            return Self::parse_docker(method, rest);
        }
        let reads = *method == Method::GET;
        let changes = *method == Method::PATCH;
        let deletes = *method == Method::DELETE;
        let rest = path.strip_prefix("/acr/v1/")?;
        if rest == "_catalog" {
            return reads.then_some(Self::Catalog);
        }
        if rest.chars().any(|c| c.is_ascii_uppercase() && !rest.contains("/_tags/")) {
            return None;
        }
        if let Some(name) = rest.strip_suffix("/_tags") {
            return reads.then(|| Self::Tags(name.to_owned()));
        }
        if let Some(name) = rest.strip_suffix("/_manifests") {
            return reads.then(|| Self::Manifests(name.to_owned()));
        }
        if let Some((name, tag)) = rest.split_once("/_tags/") {
            let known = reads || changes || deletes;
            return known.then(|| Self::Tag(name.to_owned(), tag.to_owned()));
        }
        if let Some((name, digest)) = rest.split_once("/_manifests/") {
            let known = reads || changes;
            return known.then(|| Self::Manifest(name.to_owned(), digest.to_owned()));
        }
        (reads || changes || deletes).then(|| Self::Repository(rest.to_owned()))
    }

    /// The target of the rest of a path below `/v2/`.
    fn parse_docker(method: &Method, rest: &str) -> Option<Self> {
        let reads = *method == Method::GET;
        let is_read = reads || *method == Method::HEAD;
        let deletes = *method == Method::DELETE;
        let puts = *method == Method::PUT;
        match (rest, rest.strip_suffix("/tags/list")) {
            ("", _) => return is_read.then_some(Self::Version),
            ("_catalog", _) => return reads.then_some(Self::Names),
            (_, Some(name)) => return reads.then(|| Self::TagNames(name.to_owned())),
            _ => {}
        }
        let part = |(name, digest): (&str, &str)| (name.to_owned(), digest.to_owned());
        if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/").map(part) {
            let known = if id.is_empty() {
                *method == Method::POST
            } else {
                reads || deletes || puts || *method == Method::PATCH
            };
            let known = known && is_repository(&name) && !id.contains('/');
            let is_new = id.is_empty();
            return known.then_some(if is_new {
                Self::Uploads(name)
            } else {
                Self::Upload(name, id)
            });
        }
        if let Some((name, digest)) = rest.rsplit_once("/blobs/").map(part) {
            return (is_read || deletes).then_some(Self::Blob(name, digest));
        }
        if let Some((name, digest)) = rest.rsplit_once("/referrers/").map(part) {
            return reads.then_some(Self::Referrers(name, digest));
        }
        let (name, reference) = rest.rsplit_once("/manifests/").map(part)?;
        // A pushed manifest gets the name and the tag, which must be valid.
        let is_valid = || is_repository(&name) && (is_tag(&reference) || reference.contains(':'));
        let known = is_read || deletes || (puts && is_valid());
        known.then_some(Self::Content(name, reference))
    }

    /// The name of the operation in the statistics.
    pub(super) fn operation(&self, method: &Method) -> &'static str {
        let deletes = *method == Method::DELETE;
        match self {
            Self::Version => "ApiVersion",
            Self::Catalog | Self::Names => "ListRepositories",
            Self::Repository(_) if deletes => "DeleteRepository",
            Self::Repository(_) => "Repository",
            Self::Tags(_) | Self::TagNames(_) => "ListTags",
            Self::Tag(..) if deletes => "DeleteTag",
            Self::Tag(..) => "Tag",
            Self::Manifests(_) => "ListManifests",
            Self::Manifest(..) => "Manifest",
            Self::Content(..) if deletes => "DeleteManifest",
            Self::Content(..) if *method == Method::PUT => "PutManifest",
            Self::Content(..) => "GetManifest",
            Self::Blob(..) if deletes => "DeleteBlob",
            Self::Blob(..) => "GetBlob",
            Self::Referrers(..) => "ListReferrers",
            Self::Uploads(_) => "BeginUpload",
            Self::Upload(..) => match *method {
                Method::PATCH => "SendChunk",
                Method::PUT => "FinishUpload",
                Method::DELETE => "CancelUpload",
                _ => "UploadStatus",
            },
        }
    }

    /// The name of its repository.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Version | Self::Catalog | Self::Names => None,
            Self::TagNames(name)
            | Self::Repository(name)
            | Self::Tags(name)
            | Self::Tag(name, _)
            | Self::Manifests(name)
            | Self::Manifest(name, _)
            | Self::Content(name, _)
            | Self::Blob(name, _)
            | Self::Referrers(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    /// The scopes that a token must grant; none where any token is enough. A mount reads the other
    /// repository too.
    pub(super) fn scopes(&self, method: &Method, query: &[(String, String)]) -> Vec<Scope> {
        let name = match self {
            Self::Version => return Vec::new(),
            Self::Catalog | Self::Names => return vec![("registry", "catalog".to_owned(), "*")],
            _ => self.repository().unwrap_or_default().to_owned(),
        };
        let action = match self {
            Self::Uploads(_) | Self::Upload(..) => "pull,push",
            _ if *method == Method::PUT => "pull,push",
            _ if *method == Method::DELETE => "delete",
            _ if *method == Method::PATCH => "metadata_write",
            Self::Content(..) | Self::Blob(..) | Self::Referrers(..) | Self::TagNames(_) => "pull",
            _ => "metadata_read",
        };
        let mut scopes = vec![("repository", name, action)];
        if let (Self::Uploads(_), Some((_, from))) = (self, mounted(query)) {
            scopes.push(("repository", from.to_owned(), "pull"));
        }
        scopes
    }

    /// Whether the claims of a token grant its scopes at the registry `service`.
    pub(super) fn is_granted(
        &self,
        method: &Method,
        query: &[(String, String)],
        claims: &Value,
        service: &str,
    ) -> bool {
        if is_expired(claims) || claims["aud"] != service {
            return false;
        }
        let granted = |kind: &str, name: &str, action: &str| {
            claims["access"].as_array().into_iter().flatten().any(|access| {
                let mut actions = access["actions"].as_array().into_iter().flatten();
                access["type"] == kind
                    && access["name"] == name
                    && actions.any(|granted| *granted == action)
            })
        };
        let scopes = self.scopes(method, query);
        scopes.iter().all(|(kind, name, actions)| {
            actions.split(',').all(|action| granted(kind, name, action))
        })
    }
}

/// The blob to mount, and the repository that has it.
pub(super) fn mounted(query: &[(String, String)]) -> Option<(&str, &str)> {
    let of = |wanted: &str| query.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.as_str());
    Some((of("mount")?, of("from")?))
}
