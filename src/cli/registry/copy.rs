//! `azimg registry copy` and `tag`.

use super::{LoginArgs, open, open_reference, open_source};
use crate::cli::output::{Output, as_json};
use crate::cli::progress::Bytes;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::name::without_repeats;
use crate::registry::{Name, Platform, Reference, is_tag};
use crate::transfer::{CopyFrom, TransferProgress};
use serde_json::Value;
use std::sync::Arc;

#[derive(clap::Args)]
pub(in crate::cli) struct CopyArgs {
    /// Image to copy: LOGINSERVER/REPOSITORY:TAG or @DIGEST
    from: String,
    /// Target: LOGINSERVER/REPOSITORY or LOGINSERVER/REPOSITORY:TAG [default tag: that of the source]
    to: String,
    /// Additional tags; comma-separated or repeated
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Platforms to copy, such as linux/amd64; comma-separated or repeated [default: all of an
    /// index]
    ///
    /// With one platform its image is copied, with several a new index of them.
    #[arg(long, value_name = "OS/ARCHITECTURE", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Copy the referrers of the image and of each of its platforms: signatures, SBOMs,
    /// attestations
    #[arg(long)]
    with_referrers: bool,
    /// Print what would be copied and copy nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    login: LoginArgs,
}

/// The user at the source registry of a copy, if it is another registry.
#[derive(clap::Args, Clone)]
pub(super) struct SourceArgs {
    /// User name at the source registry, if it is another registry; the password is read from
    /// `AZIMG_FROM_REGISTRY_PASSWORD`
    #[arg(long, value_name = "NAME", conflicts_with = "from_anonymous")]
    pub(super) from_username: Option<String>,
    /// Do not sign in to the source registry, which allows anonymous pull
    #[arg(long)]
    pub(super) from_anonymous: bool,
}

impl CopyArgs {
    /// The target, as given.
    pub(super) fn to(&self) -> &str {
        &self.to
    }
}

#[derive(clap::Args)]
pub(in crate::cli) struct TagArgs {
    /// LOGINSERVER/REPOSITORY:TAG or @DIGEST
    reference: String,
    /// Tags to set; a tag that points elsewhere is moved
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
    /// Print what the tags point at and would point at, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    login: LoginArgs,
}

impl TagArgs {
    /// The reference to tag, as given.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }
}

/// The tags without repetitions. Refuses invalid ones before any request.
pub(super) fn checked_tags(tags: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let tags = without_repeats(tags);
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(bad) => Err(Error::invalid(format!(
            "'{bad}' is not a tag: a tag has letters, digits, '_', '.' and '-', at most 128 characters"
        ))),
        None => Ok(tags),
    }
}

/// The tags of a copy: the tag of the target, or else of the source, and the additional ones.
fn tags_of(to: &Reference, from: &Name, more: &[String]) -> Result<Vec<String>> {
    let first = match (&to.name, from) {
        (Name::Tag(tag), _) | (Name::Whole, Name::Tag(tag)) => Some(tag),
        (Name::Digest(_), _) => {
            return Err(Error::invalid("the digest follows from what is copied: name a tag"));
        }
        (Name::Whole, _) => None,
    };
    checked_tags(first.into_iter().chain(more).cloned())
}

pub(super) async fn copy(config: &Config, args: &CopyArgs, output: &Output) -> Result<()> {
    let (from, to): (Reference, Reference) = (args.from.parse()?, args.to.parse()?);
    let (Some(source), Some(repository)) = (&from.repository, &to.repository) else {
        let text = "name a repository as source and as target: LOGINSERVER/REPOSITORY";
        return Err(Error::invalid(text));
    };
    if from.name == Name::Whole {
        let text = format!("'{}' names no image: add :TAG or @DIGEST", args.from);
        return Err(Error::invalid(text));
    }
    let tags = tags_of(&to, &from.name, &args.tag)?;
    let target = Arc::new(Box::pin(open(config, &to.login_server, &args.login)).await?);
    let is_one = from.login_server.eq_ignore_ascii_case(&to.login_server);
    let other = if is_one {
        if args.source.from_username.is_some() || args.source.from_anonymous {
            let text = "--from-username, --from-anonymous: the copy is within one registry, for which \
                        --username and --anonymous select the user";
            return Err(Error::invalid(text));
        }
        Arc::clone(&target)
    } else {
        let opened = open_source(config, &from.login_server, &args.source, &args.login.trust);
        Arc::new(Box::pin(opened).await?)
    };
    let from = CopyFrom {
        registry: &other,
        repository: source,
        name: &from.name,
        platforms: &args.platform,
        with_referrers: args.with_referrers,
    };
    if args.dry_run {
        return output.one(as_json(&from.measure(&tags).await?)?);
    }
    let moved = TransferProgress::default();
    let shown = Bytes::show(&moved, output.quiet);
    let copied = target.copy(repository, from, &tags, &moved).await;
    drop(shown);
    output.one(as_json(&copied?)?)
}

pub(super) async fn tag(config: &Config, args: &TagArgs, output: &Output) -> Result<()> {
    let tags = checked_tags(args.tags.iter().cloned())?;
    let (registry, repository, name) = open_reference(config, &args.reference, &args.login).await?;
    if name == Name::Whole {
        let text = format!("'{}' names no image: add :TAG or @DIGEST", args.reference);
        return Err(Error::invalid(text));
    }
    let tagged = registry.tag_as(&repository, &name, &tags, args.dry_run).await?;
    let rows = tagged.iter().map(as_json).collect::<Result<Vec<Value>>>()?;
    if rows.iter().all(|row| row["was"] == row["digest"]) && !args.dry_run {
        tracing::info!("the tags already pointed to this digest");
    }
    output.list(rows, &["tag", "digest", "was"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_tag_unless_it_gets_another() {
        let to = |text: &str| text.parse::<Reference>().unwrap();
        let (tag, digest) = (Name::Tag("v1".into()), Name::Digest("sha256:0".into()));
        let more = ["latest".to_owned(), "v1".to_owned()];
        assert_eq!(tags_of(&to("r.io/a"), &tag, &more).unwrap(), ["v1", "latest"]);
        assert_eq!(tags_of(&to("r.io/a:v2"), &tag, &[]).unwrap(), ["v2"]);
        assert_eq!(tags_of(&to("r.io/a"), &digest, &[]).unwrap(), [""; 0]);
        assert!(tags_of(&to("r.io/a"), &tag, &["not/a/tag".to_owned()]).is_err());
        let by_digest = format!("r.io/a@sha256:{}", "0".repeat(64));
        assert!(tags_of(&to(&by_digest), &tag, &[]).is_err());
    }
}
