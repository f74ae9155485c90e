//! The manifests of some repositories, and which of them are worth reading.

use super::{Containers, TOGETHER};
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::{RegistryImage, is_index};
use crate::registry::{Attributes, Manifest, Registry};
use crate::source::{Crawled, Effort, Known, Rows, ended};
use crate::work::{Details, Gap, Outcome, RegistryScope, Scope, State, WorkItem};
use futures::future::join_all;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// An item that has found so many manifests leaves the rest to others.
const MOST_ROWS: usize = 4_000;
/// Manifests that one item reads: three requests each.
const CONTENTS: usize = 60;
/// A registry that is throttled, and does not say for how long, is left alone for so long.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// What one repository gave.
struct Part {
    rows: Vec<RegistryImage>,
    /// The last manifest of what was listed, when there are more.
    more: Option<String>,
}

/// What an item found.
#[derive(Default)]
struct Found {
    rows: Vec<RegistryImage>,
    gaps: Vec<Gap>,
    /// Repositories that are left to others, the first one behind a digest.
    left: Vec<(Vec<String>, Option<String>)>,
    listed: u64,
    /// Manifests whose content is to be read.
    wanted: Vec<[String; 2]>,
}

impl Found {
    fn take(&mut self, repository: &str, part: Part, details: Details, known: &Known) {
        self.listed += 1;
        self.wanted.extend(worth_reading(&part.rows, details, known));
        self.rows.extend(part.rows);
        self.left.extend(part.more.map(|after| (vec![repository.to_owned()], Some(after))));
    }

    fn give_up(&mut self, repository: &str, (state, reason, attempts): (State, String, u32)) {
        let offer = repository.to_owned();
        self.gaps.push(Gap { offer, sku: None, version: None, state, reason, attempts });
    }
}

impl Containers {
    pub(super) async fn crawl_repositories(
        &self,
        item: &WorkItem,
        scope: &RegistryScope,
        effort: &Effort,
        known: &Known,
    ) -> Result<Crawled> {
        let RegistryScope::Repositories { login_server, repositories, after, details } = scope
        else {
            return Err(Error::bug("not an item of repositories"));
        };
        let registry = self.registry(login_server)?;
        let mut found = Found::default();
        let mut chunks = repositories.chunks(TOGETHER);
        for (number, chunk) in chunks.by_ref().enumerate() {
            let after = |at: usize| after.as_deref().filter(|_| number == 0 && at == 0);
            let asked = chunk.iter().enumerate().map(|(at, repository)| {
                list(&registry, repository, chunk, after(at), effort.until)
            });
            for (at, part) in join_all(asked).await.into_iter().enumerate() {
                match part {
                    Ok(part) => found.take(&chunk[at], part, *details, known),
                    // Nothing was done yet: all of it again, when there is room for it.
                    Err(error) if error.kind() == ErrorKind::Throttled && found.rows.is_empty() => {
                        let wait = error.retry_after().unwrap_or(SOME_WHILE);
                        return Ok(Crawled::Later(item.clone(), wait));
                    }
                    Err(error) if error.kind() == ErrorKind::Throttled => {
                        let after = after(at).map(str::to_owned);
                        found.left.push((vec![chunk[at].clone()], after));
                    }
                    Err(error) => found.give_up(&chunk[at], ended(error, effort)?),
                }
            }
            if found.rows.len() >= MOST_ROWS || Instant::now() >= effort.until {
                break;
            }
        }
        let Found { mut rows, mut gaps, mut left, listed, wanted } = found;
        let rest: Vec<String> = chunks.flatten().cloned().collect();
        if !rest.is_empty() {
            left.push((rest, None));
        }
        let again = left.into_iter().map(|(repositories, after)| RegistryScope::Repositories {
            login_server: login_server.clone(),
            repositories,
            after,
            details: *details,
        });
        let read = wanted.chunks(CONTENTS).map(|manifests| RegistryScope::Contents {
            login_server: login_server.clone(),
            manifests: manifests.to_vec(),
        });
        let children = again.chain(read).map(|scope| item.child(Scope::Registry(scope)));
        let children: Vec<WorkItem> = children.collect();
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
        Ok(Crawled::Ended(outcome, Rows::Registry(rows)))
    }
}

/// The manifests of one repository behind `after`, as many as fit; asked with a token that is good
/// for all of `together`.
async fn list(
    registry: &Registry,
    repository: &str,
    together: &[String],
    after: Option<&str>,
    until: Instant,
) -> Result<Part> {
    let mut listing = registry.list_manifests(repository, together, after);
    let mut rows = Vec::new();
    loop {
        let Some(page) = listing.next().await? else { return Ok(Part { rows, more: None }) };
        for manifest in page {
            rows.push(row(registry.login_server(), repository, manifest));
        }
        if rows.len() >= MOST_ROWS || Instant::now() >= until {
            let last = rows.last().map(|row: &RegistryImage| row.digest.clone());
            let more = last.filter(|_| listing.has_more());
            return Ok(Part { rows, more });
        }
    }
}

fn moment(text: Option<&String>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// The row of a manifest as it is listed.
pub fn row(login_server: &str, repository: &str, listed: Manifest) -> RegistryImage {
    let mut row = RegistryImage::new(login_server, repository, &listed.digest);
    let Attributes { delete_enabled, write_enabled, list_enabled, read_enabled, quarantine_state } =
        listed.changeable_attributes;
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

/// The manifests whose content is read: what is tagged, and what may refer to something, unless it
/// was read before.
fn worth_reading<'a>(
    rows: &'a [RegistryImage],
    details: Details,
    known: &'a Known,
) -> impl Iterator<Item = [String; 2]> + 'a {
    let is_wanted = move |row: &&RegistryImage| {
        let may_refer = row.os.is_none() && !row.media_type.as_deref().is_some_and(is_index);
        let wanted = match details {
            Details::None => false,
            Details::Latest => !row.tags.is_empty() || may_refer,
            Details::All => true,
        };
        wanted && !known.has_content(&row.id)
    };
    rows.iter().filter(is_wanted).map(|row| [row.repository.clone(), row.digest.clone()])
}
