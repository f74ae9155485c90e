//! What is known from other sources than the registry: the catalog, and the images in use.

use super::args::PurgeArgs;
use crate::catalog::{Catalog, Filter};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::{KIND, RegistryImage};
use crate::purge::{ImageUsage, InUse, InUseSource, KnownContent, LiveRegistry, RepositoryState};
use crate::registry::Registry;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The name of standard input.
const STDIN: &str = "-";

/// What the catalog contains about a registry, so that it need not be read again.
#[derive(Default)]
pub(super) struct FromCatalog {
    pub(super) run: Option<String>,
    known: HashMap<String, KnownContent>,
    /// The blobs of each repository.
    blobs: HashMap<String, BTreeSet<String>>,
    /// The repositories that contain each digest.
    repositories: HashMap<String, BTreeSet<String>>,
}

impl FromCatalog {
    pub(super) async fn read(config: &Config, login_server: &str) -> Result<Self> {
        let mut found = Self::default();
        let store = config.store()?;
        let catalog = match Catalog::open_with_others(store.as_ref()).await {
            Ok(catalog) => catalog,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        let table = catalog.others(store.as_ref()).await?;
        let filter = Filter {
            kinds: vec![KIND.to_owned()],
            registry: Some(login_server.to_owned()),
            exact: true,
            ..Filter::default()
        };
        for row in table.list(&filter, 0, usize::MAX, OffsetDateTime::now_utc()).0 {
            let row: RegistryImage = table.row(row)?;
            found.run = Some(catalog.manifest.run.to_string());
            let blobs = found.blobs.entry(row.repository.clone()).or_default();
            blobs.extend(row.layers.keys().cloned());
            let holders = found.repositories.entry(row.digest.clone()).or_default();
            holders.insert(row.repository.clone());
            // Content is read again if the row contains only a part of it: the missing part may be
            // what must be kept.
            let is_whole = row.manifests_total.is_none() && row.layers_total.is_none();
            if row.is_content_known && is_whole {
                let id = format!("{}@{}", row.repository, row.digest);
                found.known.insert(id, KnownContent::of_row(row));
            }
        }
        Ok(found)
    }

    /// The registry with the known content, which moves into the result.
    pub(super) fn live<'a>(&mut self, registry: &'a Registry) -> LiveRegistry<'a> {
        let known = std::mem::take(&mut self.known);
        LiveRegistry::knowing(registry, known, self.repositories.clone())
    }

    /// The blobs of all repositories except these.
    pub(super) fn blobs_beside(&self, names: &[String]) -> BTreeSet<String> {
        let names: BTreeSet<&String> = names.iter().collect();
        let others = self.blobs.iter().filter(|(name, _)| !names.contains(name));
        others.flat_map(|(_, blobs)| blobs.iter().cloned()).collect()
    }

    /// Whether any repository contains the digest.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.repositories.contains_key(digest)
    }
}

/// The images in use, from Resource Graph and from lists.
pub(super) struct InUseNow {
    pub(super) uses: ImageUsage,
    pub(super) lists: Vec<InUse>,
}

/// The lists named by the options and by the setting.
fn sources(config: &Config, args: &PurgeArgs) -> Vec<PathBuf> {
    let set = config.in_use().into_iter().map(PathBuf::from);
    args.in_use.iter().cloned().chain(set).collect()
}

/// The images in use now. Lists are read first: an invalid one is an error before any request.
pub(super) async fn in_use(
    config: &Config,
    registry: &Registry,
    args: &PurgeArgs,
) -> Result<InUseNow> {
    let (server, now) = (registry.login_server(), OffsetDateTime::now_utc());
    let sources = sources(config, args);
    if sources.iter().filter(|source| *source == Path::new(STDIN)).count() > 1 {
        return Err(Error::invalid("--in-use -: standard input can be read only once"));
    }
    let mut lists = Vec::new();
    for source in &sources {
        let source = match source.as_path() {
            path if path == Path::new(STDIN) => InUseSource::Stdin,
            path => InUseSource::File(path, args.in_use_max_age),
        };
        lists.push(InUse::read(source, server, now)?);
    }
    let mut uses = asked(config, server, args).await?;
    uses.0.extend(lists.iter().flat_map(|list| list.uses.iter().cloned()));
    Ok(InUseNow { uses, lists })
}

async fn asked(config: &Config, login_server: &str, args: &PurgeArgs) -> Result<ImageUsage> {
    if args.ignore_use {
        return Ok(ImageUsage::default());
    }
    let asked = async { ImageUsage::ask(&config.client()?, login_server).await };
    asked.await.map_err(|error| {
        error.context(
            "cannot determine which images are in use; --ignore-use skips this check (what runs on a \
             deleted image cannot be started again)",
        )
    })
}

impl InUseNow {
    /// Refuses a list that consists of digests only, none of which is in this registry.
    pub(super) fn check(&self, states: &[RepositoryState], catalog: &FromCatalog) -> Result<()> {
        self.lists
            .iter()
            .try_for_each(|list| list.check_digests(states.iter(), |digest| catalog.has(digest)))
    }
}

/// Records the subjects that are missing from their own repository but are in another of these.
pub(super) fn add_elsewhere(states: &mut [RepositoryState]) {
    let mut at: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    for (number, state) in states.iter().enumerate() {
        for manifest in &state.manifests {
            at.entry(&manifest.digest).or_default().insert(number);
        }
    }
    let found: Vec<Vec<String>> = states
        .iter()
        .enumerate()
        .map(|(number, state)| {
            let is_elsewhere = |subject: &String| {
                at.get(subject.as_str()).is_some_and(|all| all.iter().any(|other| *other != number))
            };
            state.subjects().into_iter().filter(is_elsewhere).collect()
        })
        .collect();
    for (state, found) in states.iter_mut().zip(found) {
        state.elsewhere.extend(found);
    }
}
