//! Details of versions, requested one by one.

use super::client::CONCURRENCY;
use super::listing_path::ListingPath;
use super::{Marketplace, classify_failure};
use crate::error::{ErrorKind, Result};
use crate::image::Urn;
use crate::image::marketplace::DetailedVersion;
use crate::source::{Invocation, Rows};
use crate::work::{Gap, Outcome, State, WorkItem};
use futures::{StreamExt, stream};
use tokio::time::Instant;

impl Marketplace {
    pub(super) async fn crawl_details(
        &self,
        item: &WorkItem,
        listing_path: ListingPath<'_>,
        images: &[[String; 3]],
        effort: &Invocation,
    ) -> Result<(Outcome, Rows)> {
        let mut rows = Vec::new();
        let mut gaps = Vec::new();
        let mut left: Vec<[String; 3]> = Vec::new();
        for (index, batch) in images.chunks(CONCURRENCY).enumerate() {
            if !left.is_empty() || (index > 0 && Instant::now() > effort.until) {
                left.extend_from_slice(&images[index * CONCURRENCY..]);
                break;
            }
            let mut responses = stream::iter(batch.to_vec())
                .map(|image| async move {
                    let [offer, sku, version] = &image;
                    let answer = self.image(listing_path, [offer, sku, version]).await;
                    (image, answer)
                })
                .buffered(CONCURRENCY);
            while let Some((image, answer)) = responses.next().await {
                let [offer, sku, version] = image;
                match answer {
                    Ok(detail) => {
                        let publisher = listing_path.publisher.to_owned();
                        rows.push(DetailedVersion {
                            urn: Urn { publisher, offer, sku, version },
                            detail,
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::Throttled && index > 0 => {
                        left.push([offer, sku, version]);
                    }
                    Err(error) => {
                        let (state, reason, attempts) = classify_failure(error, effort)?;
                        let (sku, version) = (Some(sku), Some(version));
                        gaps.push(Gap { offer, sku, version, state, reason, attempts });
                    }
                }
            }
        }
        let follow = (!left.is_empty()).then(|| listing_path.details(left));
        let outcome = Outcome {
            rows: rows.len() as u64,
            gaps,
            children: follow.into_iter().map(|scope| item.child(scope)).collect(),
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok((outcome, Rows::Detailed(rows)))
    }
}
