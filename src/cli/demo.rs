//! `azimg crawl --demo`: a simulated Azure in this process.
//!
//! It listens on no socket, so its URLs are the same in every process and a demo can be resumed.

use crate::blocking::blocking;
use crate::client::{Wire, WireRequest, WireResponse};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Access, Folder};
use crate::sim::{Conditions, Sim, SimCredential, demo_world};
use crate::sink::say;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;

/// The largest response body, in bytes: about 100 times the list of a region's publishers.
const LARGEST_ANSWER: usize = 64 << 20;
/// The address given to the simulated Resource Manager. Nothing listens there.
const AT: &str = "http://127.0.0.1:1";

/// A [`Wire`] to a simulated Azure in this process.
struct InProcess(Arc<Sim>);

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

#[async_trait]
impl Wire for InProcess {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let name = request.name();
        let bad = |what: &str| Error::bug(format!("{name}: {what}"));
        let body = request.body.clone().map_or_else(Body::empty, Body::from);
        let mut asked = Request::builder().method(&request.method).uri(request.url.as_str());
        if let Some(authorized) = authorized {
            asked = asked.header(AUTHORIZATION, authorized);
        }
        let asked =
            asked.body(body).map_err(|e| bad("the request cannot be built").with_source(e))?;
        let (parts, body) = self.0.answer(asked).await.into_parts();
        let body = axum::body::to_bytes(body, LARGEST_ANSWER)
            .await
            .map_err(|e| bad("the answer cannot be read").with_source(e))?;
        Ok(WireResponse { status: parts.status, headers: parts.headers, body })
    }
}

/// The file that marks a folder as holding a simulated catalog.
const MARK: &str = ".azimg-demo";
/// The top-level names that a store has in its folder.
const STORED: [&str; 3] = ["current.json", "runs", "snapshots"];

/// Marks the folder that a demo is written to. An error if it holds a real catalog, which the demo
/// would replace.
fn mark(path: &Path) -> Result<()> {
    let folder = Folder::make(path, Access::Readable)?;
    if folder.kind(MARK)?.is_some() {
        return Ok(());
    }
    for name in STORED {
        if folder.kind(name)?.is_some() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} contains a real catalog, which the catalog of a demo would replace: name another \
                     folder with --store",
                    path.display()
                ),
            ));
        }
    }
    files::create(&path.join(MARK)).map(drop).map_err(|e| Error::io(path.display(), e))
}

/// Returns an error if the store holds a demo's catalog: simulated images would remain among real
/// ones.
pub(super) fn refuse_made_up(config: &Config) -> Result<()> {
    let Some(path) = config.store_folder().filter(|path| path.join(MARK).exists()) else {
        return Ok(());
    };
    let path = path.display();
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "{path} contains the catalog of a demo, whose simulated images would remain among real ones: \
             remove that folder, or name another one with --store"
        ),
    ))
}

/// Directs `config` to a simulated Azure.
pub(super) async fn demo(config: Config, quiet: bool) -> Result<Config> {
    if let Some(path) = config.store_folder() {
        mark(&path)?;
    }
    if !quiet {
        say!("Starting a simulated Azure with eight locations and a small organisation …");
    }
    simulated(config).await
}

/// Directs `config` to the simulated Azure if its store contains the catalog of a demo. Returns
/// whether it does.
pub(super) async fn of_store(config: Config) -> Result<(Config, bool)> {
    if config.store_folder().is_some_and(|path| path.join(MARK).exists()) {
        return Ok((simulated(config).await?, true));
    }
    Ok((config, false))
}

async fn simulated(config: Config) -> Result<Config> {
    let today = OffsetDateTime::now_utc().date();
    let world = blocking("generating a catalog", move || Ok(demo_world(today))).await?;
    let sim = Sim::new(world, Conditions::default());
    let at = AT.parse().map_err(|e| Error::bug("the demo's address").with_source(e))?;
    let config = config.with_resource_manager(at, Arc::new(SimCredential));
    Ok(config.with_wire(Arc::new(InProcess(sim))))
}
