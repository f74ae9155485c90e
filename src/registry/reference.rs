//! References to registries and what is in them: `login server/repository:tag` or `…@digest`.

use crate::client::is_loopback;
use crate::error::{Error, Result};
use std::fmt;
use url::Url;

/// A reference to a registry, a repository, a tag or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The login server of the registry.
    pub login_server: String,
    /// The repository; `None` if the whole registry is meant.
    pub repository: Option<String>,
    /// The part of the repository.
    pub name: Name,
}

/// A part of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The repository as a whole.
    Whole,
    /// A tag.
    Tag(String),
    /// A manifest, by its digest.
    Digest(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.login_server)?;
        if let Some(repository) = &self.repository {
            write!(f, "/{repository}")?;
        }
        match &self.name {
            Name::Whole => Ok(()),
            Name::Tag(tag) => write!(f, ":{tag}"),
            Name::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The address of a registry: https, or http if the login server is on this machine.
pub(super) fn origin_of(login_server: &str) -> Result<Url> {
    let bad = || {
        let text = format!(
            "'{login_server}' is not a login server: use a name such as example.azurecr.io"
        );
        Error::invalid(text)
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if login_server.is_empty() || !login_server.chars().all(plain) {
        return Err(bad());
    }
    let local = Url::parse(&format!("http://{login_server}")).map_err(|_| bad())?;
    if is_loopback(&local) {
        return Ok(local);
    }
    Url::parse(&format!("https://{login_server}")).map_err(|_| bad())
}

/// Whether a text is a digest whose bytes can be verified: `sha256:` and 64 lower-case hexadecimal
/// digits. Any other text could be a path that leads elsewhere in a URL or a file name.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|rest| rest.len() == 64 && rest.bytes().all(hex))
}

/// Whether a text is a repository name (distribution-spec: lower-case parts, at most 255
/// characters).
pub(super) fn is_repository(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        let ends = part.starts_with(inner) && part.ends_with(inner);
        ends && part.chars().all(|c| inner(c) || matches!(c, '.' | '_' | '-'))
    };
    !text.is_empty() && text.len() <= 255 && text.split('/').all(part)
}

/// Whether a text is a tag: at most 128 characters.
pub fn is_tag(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(inner)
        && text.chars().all(|c| inner(c) || matches!(c, '.' | '-'))
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!(
                "'{text}': {why}; use LOGINSERVER/REPOSITORY, followed by :TAG or @sha256:DIGEST"
            ))
        };
        let text_of = text.trim().trim_start_matches("https://");
        let Some((login_server, rest)) = text_of.split_once('/') else {
            if text_of.is_empty() {
                return Err(bad("the reference is empty"));
            }
            let login_server = text_of.to_owned();
            return Ok(Self { login_server, repository: None, name: Name::Whole });
        };
        let (repository, name) = if let Some((repository, digest)) = rest.split_once('@') {
            if !is_digest(digest) {
                return Err(bad("a digest is sha256: and 64 hexadecimal digits"));
            }
            // `repository:tag@digest` means the digest; the tag is ignored.
            let repository = repository.split(':').next().unwrap_or_default();
            (repository, Name::Digest(digest.to_owned()))
        } else if let Some((repository, tag)) = rest.rsplit_once(':') {
            if !is_tag(tag) {
                return Err(bad("the tag is not valid"));
            }
            (repository, Name::Tag(tag.to_owned()))
        } else {
            (rest, Name::Whole)
        };
        if login_server.is_empty() || !is_repository(repository) {
            return Err(bad(
                "a repository name consists of lower-case letters, digits and . _ - /",
            ));
        }
        Ok(Self {
            login_server: login_server.to_owned(),
            repository: Some(repository.to_owned()),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_in_every_usual_form() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (text, repository, name) in [
            ("r.azurecr.io/a", "a", Name::Whole),
            ("r.azurecr.io/a/b-c:1.0", "a/b-c", Name::Tag("1.0".into())),
            ("127.0.0.1:5000/a:x", "a", Name::Tag("x".into())),
            (&format!("r.azurecr.io/a@{digest}"), "a", Name::Digest(digest.clone())),
            (&format!("https://r.azurecr.io/a:t@{digest}"), "a", Name::Digest(digest.clone())),
        ] {
            let read: Reference = text.parse().unwrap();
            assert_eq!((read.repository.as_deref(), read.name), (Some(repository), name), "{text}");
        }
        assert_eq!("r.azurecr.io".parse::<Reference>().unwrap().repository, None);
        for bad in [
            "",
            "r.azurecr.io/",
            "r.azurecr.io/A",
            "r.azurecr.io/../x",
            "r.azurecr.io/a/",
            "r.azurecr.io/a:..",
            "r.azurecr.io/a@sha256:../../x",
            "r.azurecr.io/a@sha512:aa",
            "/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
