//! Checks of the store of runs and snapshots, and of the queues.

use super::{CheckReport, CheckState};
use crate::config::Config;
use crate::error::Result;
use crate::functions::{PUBLISH, WORK};
use crate::pipeline::snapshot;
use crate::store::{Key, Store};
use crate::work::RunId;
use bytes::Bytes;
use time::OffsetDateTime;

/// A queue that no function is triggered by.
const TRIED: &str = "azimg-doctor";
/// A current snapshot that is older is reported.
const OLD: time::Duration = time::Duration::hours(48);

/// A current snapshot published later than this in the future is reported.
const AHEAD: time::Duration = time::Duration::minutes(5);

const BLOBS: &str = "The identity needs Storage Blob Data Contributor on the container (that of a function app: Storage Blob Data Owner on the account)";
const QUEUES: &str = "The identity of a function app needs Storage Queue Data Contributor on the account; users need no access to its queues";

pub(super) async fn look(config: &Config, now: OffsetDateTime, findings: &mut CheckReport) {
    let (mut in_blobs, mut in_queues) = (CheckReport::default(), CheckReport::default());
    tokio::join!(blobs(config, now, &mut in_blobs), async {
        if config.has_queues() {
            queues(config, &mut in_queues).await;
        } else {
            let says = "in memory; set AzimgStorage… to check the queues of a function app";
            in_queues.add("queues", "this process", CheckState::Note, says);
        }
    });
    findings.0.extend(in_blobs.0.into_iter().chain(in_queues.0));
}

async fn blobs(config: &Config, now: OffsetDateTime, findings: &mut CheckReport) {
    let store = match config.store() {
        Ok(store) => store,
        Err(error) => return findings.failed(("storage", ""), &error, (CheckState::Failed, "")),
    };
    let address = store.address();
    let written =
        written(store.as_ref()).await.map(|()| "can be written, read and deleted".to_owned());
    let works = written.is_ok();
    let remote = address.contains("://");
    let advice = if remote { BLOBS } else { "" };
    findings.tried(("storage", &address), written, (CheckState::Failed, advice));
    if works {
        catalog(store.as_ref(), now, findings).await;
    }
}

/// Writes an object, reads it and deletes it.
async fn written(store: &dyn Store) -> Result<()> {
    store.prepare().await?;
    let key = Key::Tried(RunId::new(OffsetDateTime::now_utc()));
    store.create(&key, Bytes::from_static(b"{}")).await?;
    let read = store.get(&key).await;
    store.delete(&key.to_string()).await?;
    read.map(|_| ())
}

async fn catalog(store: &dyn Store, now: OffsetDateTime, findings: &mut CheckReport) {
    let about = "the current snapshot";
    match snapshot::catalog_age(store).await {
        Ok(age) => {
            let hours = |at: OffsetDateTime| (now - at).whole_hours();
            let (state, says) = match (age.published, age.complete) {
                (Some(at), _) if at - now > AHEAD => {
                    let ahead = (at - now).whole_hours();
                    let says = format!(
                        "published {ahead} hours in the future: a clock was ahead then, or is behind now. New \
                         snapshots get ids that sort after it; nothing is lost"
                    );
                    (CheckState::Note, says)
                }
                (None, _) => (CheckState::Note, "none yet; azimg crawl publishes one".to_owned()),
                (Some(at), None) => (
                    CheckState::Note,
                    format!("{} hours old; no complete snapshot is kept", hours(at)),
                ),
                (Some(at), Some(complete)) => {
                    let state =
                        if now - complete > OLD { CheckState::Note } else { CheckState::Ok };
                    let (age, whole) = (hours(at), hours(complete));
                    (state, format!("{age} hours old; the last complete one is {whole} hours old"))
                }
            };
            findings.add("catalog", about, state, says);
        }
        Err(error) => findings.failed(("catalog", about), &error, (CheckState::Failed, "")),
    }
}

async fn queues(config: &Config, findings: &mut CheckReport) {
    let queues = match config.queues() {
        Ok(queues) => queues,
        Err(error) => return findings.failed(("queues", ""), &error, (CheckState::Failed, "")),
    };
    let result = queues
        .try_out(TRIED)
        .await
        .map(|()| "can be created, sent to, read and deleted".to_owned());
    let works = result.is_ok();
    findings.tried(("queues", TRIED), result, (CheckState::Failed, QUEUES));
    if !works {
        return;
    }
    for queue in [WORK, PUBLISH] {
        let waiting = queues.waiting(queue).await.map(|count| format!("{count} messages waiting"));
        findings.tried(("queues", queue), waiting, (CheckState::Failed, QUEUES));
        let poison = format!("{queue}-poison");
        match queues.waiting(&poison).await {
            Ok(0) => findings.add("queues", poison, CheckState::Ok, "empty"),
            Ok(count) => {
                let says =
                    format!("{count} messages were given up; azimg runs show lists their scopes");
                findings.add("queues", poison, CheckState::Note, says);
            }
            Err(error) => {
                findings.failed(("queues", &poison), &error, (CheckState::Failed, QUEUES));
            }
        }
    }
}
