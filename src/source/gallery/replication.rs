//! Replication status of versions: one GET each, since listings and Resource Graph do not contain
//! it.
//!
//! Once replication is complete it is not requested again while the target regions are unchanged.

use super::own::path;
use super::parse::{self, Resource};
use super::{CONCURRENCY, GALLERIES, Gallery};
use crate::error::{ErrorKind, Result};
use crate::image::gallery::{GalleryImage, Kind, Replicated, mark_latest};
use crate::source::{Crawled, Invocation, PreviousFindings, Rows, classify_failure};
use crate::work::{Details, GalleryScope, Gap, Outcome, OwnGallery, Scope, State, WorkItem};
use futures::{StreamExt, stream};
use tokio::time::Instant;

/// Versions that a gallery's item requests itself (`HERE`), and versions per item for the rest
/// (`PER_ITEM`).
const HERE: usize = 64;
const PER_ITEM: usize = 200;

/// Replication status of the versions requested, gaps for the failed requests, and versions still
/// to request.
#[derive(Default)]
struct ReplicationResults {
    replicated: Vec<Replicated>,
    gaps: Vec<Gap>,
    left: Vec<[String; 2]>,
}

impl Gallery {
    /// Requests the replication status of the versions among `rows` that `details` selects. Returns
    /// gaps and child items.
    pub(super) async fn add_replication(
        &self,
        item: &WorkItem,
        own: &OwnGallery,
        rows: &mut [GalleryImage],
        details: Details,
        effort: &Invocation,
        known: &PreviousFindings,
    ) -> Result<(Vec<Gap>, Vec<WorkItem>)> {
        let chosen = match details {
            Details::None => Vec::new(),
            Details::Latest => newest(rows, effort),
            Details::All => versions(rows),
        };
        let name = |at: &usize| {
            let row = &rows[*at];
            Some([row.definition.clone(), row.version.clone()?])
        };
        let unknown = chosen.iter().filter(|at| !known.is_replicated(&rows[**at]));
        let mut wanted: Vec<[String; 2]> = unknown.filter_map(name).collect();
        let later = wanted.split_off(wanted.len().min(HERE));
        let ReplicationResults { replicated, gaps, left } = self.ask(own, wanted, effort).await?;
        for replicated in &replicated {
            if let Some(row) = rows.iter_mut().find(|row| row.id == replicated.id) {
                row.add_replication(replicated);
            }
        }
        let left: Vec<[String; 2]> = left.into_iter().chain(later).collect();
        let children = left.chunks(PER_ITEM).map(|part| follow(item, own, part.to_vec()));
        Ok((gaps, children.collect()))
    }

    pub(super) async fn crawl_replication(
        &self,
        item: &WorkItem,
        own: &OwnGallery,
        versions: &[[String; 2]],
        effort: &Invocation,
    ) -> Result<Crawled> {
        let ReplicationResults { replicated, gaps, left } =
            self.ask(own, versions.to_vec(), effort).await?;
        let children = (!left.is_empty()).then(|| follow(item, own, left));
        let outcome = Outcome {
            rows: replicated.len() as u64,
            gaps,
            children: children.into_iter().collect(),
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Replicated(replicated)))
    }

    async fn ask(
        &self,
        own: &OwnGallery,
        versions: Vec<[String; 2]>,
        effort: &Invocation,
    ) -> Result<ReplicationResults> {
        let mut results = ReplicationResults::default();
        for (index, batch) in versions.chunks(CONCURRENCY).enumerate() {
            if !results.left.is_empty() || (index > 0 && Instant::now() > effort.until) {
                results.left.extend_from_slice(&versions[index * CONCURRENCY..]);
                break;
            }
            let mut responses = stream::iter(batch.to_vec())
                .map(|name| async move {
                    let answer = self.replication(own, &name).await;
                    (name, answer)
                })
                .buffered(CONCURRENCY);
            while let Some((name, answer)) = responses.next().await {
                match answer {
                    Ok(replicated) => results.replicated.push(replicated),
                    Err(error) if error.kind() == ErrorKind::Throttled && index > 0 => {
                        results.left.push(name);
                    }
                    Err(error) => {
                        let (state, reason, attempts) = classify_failure(error, effort)?;
                        let [offer, version] = name;
                        let version = Some(version);
                        results.gaps.push(Gap {
                            offer,
                            sku: None,
                            version,
                            state,
                            reason,
                            attempts,
                        });
                    }
                }
            }
        }
        Ok(results)
    }

    async fn replication(
        &self,
        own: &OwnGallery,
        [definition, version]: &[String; 2],
    ) -> Result<Replicated> {
        let query = [("$expand", "ReplicationStatus"), GALLERIES];
        let below = ["images", definition.as_str(), "versions", version.as_str()];
        let resource: Resource = self.client.get(&path(own, &below), &query).await?;
        let gallery = parse::gallery_id(own);
        parse::replication(format!("{gallery}/images/{definition}/versions/{version}"), &resource)
    }
}

fn follow(item: &WorkItem, own: &OwnGallery, versions: Vec<[String; 2]>) -> WorkItem {
    item.child(Scope::Gallery(GalleryScope::Replication { own: own.clone(), versions }))
}

/// Indexes of the newest version of each definition.
fn newest(rows: &[GalleryImage], effort: &Invocation) -> Vec<usize> {
    let mut marked = rows.to_vec();
    for row in &mut marked {
        row.status = row.status_at(effort.now);
    }
    mark_latest(&mut marked);
    let numbered = marked.iter().enumerate();
    numbered.filter(|(_, row)| row.is_latest).map(|(at, _)| at).collect()
}

/// Indexes of all versions.
fn versions(rows: &[GalleryImage]) -> Vec<usize> {
    let numbered = rows.iter().enumerate();
    numbered.filter(|(_, row)| row.kind == Kind::GalleryVersion).map(|(at, _)| at).collect()
}
