//! Manifests of repositories, and the selection of those whose content is read.

use super::{Containers, TOGETHER};
use crate::error::{Error, ErrorKind, Result};
use crate::image::limits::bytes_of;
use crate::image::registry::{
    ManifestDetail, ManifestTags, RegistryImage, is_index, is_schema_1, join_tags, manifest_id,
};
use crate::registry::{Attributes, Listed, Manifest, Registry, Tag, UnreadableRows};
use crate::source::{
    Crawled, Invocation, PreviousFindings, Rows, classify_failure, end_failed_item,
};
use crate::work::{ALL_TAGS, Details, Gap, Outcome, RegistryScope, Scope, State, WorkItem};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// An item that has found this many manifests leaves the rest to further items.
const MOST_ROWS: usize = 4_000;
/// Size limits for the rows of one repository, and of all, in bytes. Each repository that is listed
/// concurrently may exceed its limit by one page.
const MOST_OF_ONE: usize = 4 << 20;
const MOST_OF_ALL: usize = 32 << 20;
/// Manifests whose content one item reads, with three requests each.
const CONTENTS: usize = 60;
/// Wait for a throttled registry if the answer has no retry delay.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// The result of listing one repository.
struct RepositoryPart {
    rows: Vec<RegistryImage>,
    /// Digest of the last listed manifest, if there are more.
    more: Option<String>,
    /// Manifests without a name.
    lost: UnreadableRows,
    tags: Tags,
}

/// The result of listing a repository's tags.
enum Tags {
    /// All tags are in the rows of their manifests.
    Joined,
    /// A separate item lists them.
    Elsewhere,
    /// Some of them have no name.
    Lost(UnreadableRows),
    /// They could not be listed.
    Unlisted(Error),
}

/// What an item has found so far.
#[derive(Default)]
struct ItemFindings {
    rows: Vec<RegistryImage>,
    gaps: Vec<Gap>,
    /// Repositories left to further items; the first of each group continues after the digest, if
    /// any.
    left: Vec<(Vec<String>, Option<String>)>,
    /// Repositories whose tags are listed by separate items.
    untagged: Vec<String>,
    listed: u64,
    /// `[repository, digest]` of manifests whose content is to be read.
    wanted: Vec<[String; 2]>,
}

impl ItemFindings {
    fn take(
        &mut self,
        repository: &str,
        part: RepositoryPart,
        (details, known): (Details, &PreviousFindings),
        effort: &Invocation,
    ) -> Result<()> {
        self.listed += 1;
        self.wanted.extend(has_readable_content(&part.rows, details, known));
        self.rows.extend(part.rows);
        self.left.extend(part.more.map(|after| (vec![repository.to_owned()], Some(after))));
        // An unreadable entry may be a manifest that the previous snapshot has.
        if let Some(why) = part.lost.why("manifests") {
            self.record_failure(repository, None, (State::Failed, why, 0));
        }
        match part.tags {
            Tags::Joined => {}
            Tags::Elsewhere => self.untagged.push(repository.to_owned()),
            Tags::Lost(lost) => self.gaps.extend(lost_tags(repository, &lost)),
            Tags::Unlisted(error) => {
                self.record_failure(repository, Some(ALL_TAGS), classify_failure(error, effort)?);
            }
        }
        Ok(())
    }

    fn record_failure(
        &mut self,
        repository: &str,
        part: Option<&str>,
        (state, reason, attempts): (State, String, u32),
    ) {
        let (offer, version) = (repository.to_owned(), part.map(str::to_owned));
        self.gaps.push(Gap { offer, sku: None, version, state, reason, attempts });
    }

    fn ends(self, item: &WorkItem, login_server: &str, details: Details) -> Crawled {
        let Self { mut rows, mut gaps, left, untagged, listed, wanted } = self;
        let login_server = || login_server.to_owned();
        let again = left.into_iter().map(|(repositories, after)| RegistryScope::Repositories {
            login_server: login_server(),
            repositories,
            after,
            details,
        });
        let tags = untagged
            .into_iter()
            .map(|repository| RegistryScope::Tags { login_server: login_server(), repository });
        let read = wanted.chunks(CONTENTS).map(|manifests| RegistryScope::Contents {
            login_server: login_server(),
            manifests: manifests.to_vec(),
        });
        let scopes = again.chain(tags).chain(read);
        let children = scopes.map(|scope| item.child(Scope::Registry(scope))).collect();
        gaps.sort();
        let state = if listed == 0 && gaps.is_empty() { State::Empty } else { State::Done };
        let outcome = Outcome {
            listed,
            rows: rows.len() as u64,
            gaps,
            children,
            ..Outcome::bare(item.scope.clone(), state, "", 0)
        };
        rows.sort_by(RegistryImage::compare);
        Crawled::Ended(outcome, Rows::Registry(rows))
    }
}

impl Containers {
    pub(super) async fn crawl_repositories(
        &self,
        item: &WorkItem,
        scope: &RegistryScope,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<Crawled> {
        let RegistryScope::Repositories { login_server, repositories, after, details } = scope
        else {
            return Err(Error::bug("not an item of repositories"));
        };
        let registry = match self.registry(login_server) {
            Ok(registry) => registry,
            Err(error) => return end_failed_item(item, error, effort),
        };
        let mut found = ItemFindings::default();
        let mut chunks = repositories.chunks(TOGETHER);
        for (number, chunk) in chunks.by_ref().enumerate() {
            let after = |at: usize| after.as_deref().filter(|_| number == 0 && at == 0);
            let requests = chunk.iter().enumerate().map(|(at, repository)| {
                list(&registry, repository, chunk, after(at), effort.until)
            });
            for (at, part) in join_all(requests).await.into_iter().enumerate() {
                match part {
                    Ok(part) => found.take(&chunk[at], part, (*details, known), effort)?,
                    // Nothing has been found yet: deliver the whole item again when the quota
                    // permits.
                    Err(error) if error.kind() == ErrorKind::Throttled && found.rows.is_empty() => {
                        let wait = error.retry_after().unwrap_or(SOME_WHILE);
                        return Ok(Crawled::Later(item.clone(), wait));
                    }
                    Err(error) if error.kind() == ErrorKind::Throttled => {
                        let after = after(at).map(str::to_owned);
                        found.left.push((vec![chunk[at].clone()], after));
                    }
                    Err(error) => {
                        found.record_failure(&chunk[at], None, classify_failure(error, effort)?);
                    }
                }
            }
            let is_enough = found.rows.len() >= MOST_ROWS || bytes_of(&found.rows) >= MOST_OF_ALL;
            if is_enough || Instant::now() >= effort.until {
                break;
            }
        }
        let rest: Vec<String> = chunks.flatten().cloned().collect();
        if !rest.is_empty() {
            found.left.push((rest, None));
        }
        Ok(found.ends(item, login_server, *details))
    }

    /// Lists the tags of a repository whose manifests are split over several items.
    pub(super) async fn crawl_tags(
        &self,
        item: &WorkItem,
        login_server: &str,
        repository: &str,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let registry = match self.registry(login_server) {
            Ok(registry) => registry,
            Err(error) => return end_failed_item(item, error, effort),
        };
        let Listed { rows, lost } = match registry.list_tags(repository, &[], None).await {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::Throttled => {
                let wait = error.retry_after().unwrap_or(SOME_WHILE);
                return Ok(Crawled::Later(item.clone(), wait));
            }
            Err(error) => return end_failed_item(item, error, effort),
        };
        let mut by_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for tag in rows {
            by_digest.entry(tag.digest).or_default().push(tag.name);
        }
        let of_one = |(digest, tags): (String, Vec<String>)| {
            let id = manifest_id(registry.login_server(), repository, &digest);
            ManifestDetail::Tags(ManifestTags { id, tags })
        };
        let manifest_details: Vec<ManifestDetail> = by_digest.into_iter().map(of_one).collect();
        let outcome = Outcome {
            rows: manifest_details.len() as u64,
            gaps: lost_tags(repository, &lost).into_iter().collect(),
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Details(manifest_details)))
    }
}

/// The gap for tags without a name.
fn lost_tags(repository: &str, lost: &UnreadableRows) -> Option<Gap> {
    let reason = lost.why("tags")?;
    let (offer, version) = (repository.to_owned(), Some(ALL_TAGS.to_owned()));
    Some(Gap { offer, sku: None, version, state: State::Failed, reason, attempts: 0 })
}

/// Lists the manifests of one repository after the digest `after`, up to the size limits, with a
/// token for all repositories in `together`.
async fn list(
    registry: &Registry,
    repository: &str,
    together: &[String],
    after: Option<&str>,
    until: Instant,
) -> Result<RepositoryPart> {
    let mut listing = registry.list_manifests(repository, together, after);
    let mut rows: Vec<RegistryImage> = Vec::new();
    let mut lost = UnreadableRows::default();
    let mut more = None;
    let mut bytes = 0;
    while let Some(page) = listing.next().await? {
        lost.join(page.lost);
        for manifest in page.rows {
            let row = row(registry.login_server(), repository, manifest);
            bytes += bytes_of(&row);
            rows.push(row);
        }
        let is_full = rows.len() >= MOST_ROWS || bytes >= MOST_OF_ONE;
        let is_enough = is_full || Instant::now() >= until;
        if let (Some(last), true, true) = (rows.last(), is_enough, listing.has_more()) {
            more = Some(last.digest.clone());
            break;
        }
    }
    let tags = match (after, &more) {
        // The item that lists the first manifests of a repository also handles its tags.
        (Some(_), _) => Tags::Joined,
        (None, Some(_)) => Tags::Elsewhere,
        (None, None) => tagged(registry, repository, together, &mut rows).await?,
    };
    Ok(RepositoryPart { rows, more, lost, tags })
}

/// Adds all tags of a repository to its manifests. The list of manifests may omit tags
/// ([`Manifest::tags`]), and its limit is undocumented, so the tags are always listed.
async fn tagged(
    registry: &Registry,
    repository: &str,
    together: &[String],
    rows: &mut [RegistryImage],
) -> Result<Tags> {
    if rows.is_empty() {
        return Ok(Tags::Joined);
    }
    let Listed { rows: tags, lost } = match registry.list_tags(repository, together, None).await {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::Throttled => return Err(error),
        Err(error) => return Ok(Tags::Unlisted(error)),
    };
    let pair = |Tag { name, digest, .. }| (name, digest);
    let tags: Vec<(String, String)> = tags.into_iter().map(pair).collect();
    let tags_by_digest = rows.iter_mut().map(|row| (row.digest.as_str(), &mut row.tags));
    join_tags(tags_by_digest.collect(), &tags);
    Ok(if lost == UnreadableRows::default() { Tags::Joined } else { Tags::Lost(lost) })
}

fn moment(text: Option<&String>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// Converts a listed manifest to a row.
pub fn row(login_server: &str, repository: &str, listed: Manifest) -> RegistryImage {
    let mut row = RegistryImage::new(login_server, repository, &listed.digest);
    let Attributes {
        delete_enabled,
        write_enabled,
        list_enabled,
        read_enabled,
        quarantine_state,
        ..
    } = listed.changeable_attributes;
    row.tags = listed.tags;
    row.tags.sort_unstable();
    row.tags.dedup();
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    row.media_type = text(listed.media_type);
    row.config_media_type = text(listed.config_media_type);
    row.os = text(listed.os);
    row.architecture = text(listed.architecture);
    row.created_at = moment(listed.created_time.as_ref());
    row.updated_at = moment(listed.last_update_time.as_ref());
    row.bytes = listed.image_size;
    (row.can_delete, row.can_write) = (delete_enabled, write_enabled);
    (row.can_list, row.can_read) = (list_enabled, read_enabled);
    row.scan_status = quarantine_state;
    let platform = |os: &str, architecture: &str| format!("{os}/{architecture}");
    let of_parts = listed
        .references
        .iter()
        .filter_map(|part| Some(platform(part.os.as_deref()?, part.architecture.as_deref()?)));
    row.platforms = of_parts.collect();
    row.manifests = listed.references.iter().map(|part| part.digest.clone()).collect();
    if let (Some(os), Some(architecture), true) =
        (&row.os, &row.architecture, row.platforms.is_empty())
    {
        row.platforms = vec![platform(os, architecture)];
    }
    row
}

/// Selects the manifests whose content is read: for `Latest`, those that are tagged or may refer to
/// another manifest; always without those that were read before.
fn has_readable_content<'a>(
    rows: &'a [RegistryImage],
    details: Details,
    known: &'a PreviousFindings,
) -> impl Iterator<Item = [String; 2]> + 'a {
    let is_wanted = move |row: &&RegistryImage| {
        let may_refer = row.os.is_none() && !row.media_type.as_deref().is_some_and(is_index);
        let wanted = match details {
            Details::None => false,
            Details::Latest => !row.tags.is_empty() || may_refer,
            Details::All => true,
        };
        // Content that can never be verified is not requested; the row shows its media type.
        let can_be_read = !row.media_type.as_deref().is_some_and(is_schema_1);
        wanted && can_be_read && !known.has_content(&row.id)
    };
    rows.iter().filter(is_wanted).map(|row| [row.repository.clone(), row.digest.clone()])
}
