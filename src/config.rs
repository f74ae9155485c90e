//! Configuration: the only reader of the environment, the only builder of Azure clients.
//!
//! Flags come before environment variables, these before defaults; the same names are app settings
//! of the deployed function app.

mod cloud;
mod endpoint;
mod identity;
mod tools;

use crate::client::{Client, Tokens, Wire, http_wire};
use crate::error::{Error, Result};
use crate::functions::{App, HostSettings, Keep, Memory, Progress, Settings, check};
use crate::registry::Registry;
use crate::source::Source;
use crate::source::gallery::{Communities, Gallery};
use crate::source::marketplace::Marketplace;
use crate::source::registry::{Containers, Open};
use crate::store::Store;
use crate::store::azure::{Access, AzureQueues, AzureStore, Endpoint};
use crate::store::local::LocalStore;
use crate::telemetry::Export;
use crate::work::{Details, Request, SourceName};
use azure_core::credentials::{Secret, TokenCredential};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use url::Url;

/// An item begins nothing new after this long: an eighth of `functionTimeout`.
const ITEM_BUDGET: Duration = Duration::from_secs(225);
/// What is missing a day after a run's start is given up.
const RUN_DEADLINE: Duration = Duration::from_hours(24);
/// A snapshot that is being served is compared with `current.json` this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Every night at three.
const SCHEDULE: &str = "0 0 3 * * *";
/// The development account of Azurite and of the emulators before it; a public constant.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A publisher's offers are listed at least this often.
const OFFERS_MAX_AGE: Duration = Duration::from_hours(24);

fn span(environment: &HashMap<String, String>, name: &str, default: Duration) -> Result<Duration> {
    let Some(text) = environment.get(name) else { return Ok(default) };
    humantime::parse_duration(text)
        .map_err(|_| Error::invalid(format!("{name}: '{text}' is no span of time, such as 24h")))
}

/// Names, with commas, semicolons or spaces between them.
fn words(text: &str) -> Vec<String> {
    text.split([',', ';', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn offers_max_age(environment: &HashMap<String, String>) -> Result<u64> {
    span(environment, "AZIMG_OFFERS_MAX_AGE", OFFERS_MAX_AGE).map(|age| age.as_secs())
}

/// What flags said, before the environment is asked.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--store`.
    pub store: Option<String>,
    /// `--source`.
    pub sources: Vec<SourceName>,
    /// `--location`.
    pub locations: Vec<String>,
    /// `--publisher`.
    pub publishers: Vec<String>,
    /// `--subscription`.
    pub subscriptions: Vec<String>,
    /// `--details`.
    pub details: Option<Details>,
    /// `--full`.
    pub full: bool,
}

/// Configuration, as it was given; nothing is contacted before it is used.
#[derive(Clone)]
pub struct Config {
    environment: HashMap<String, String>,
    store: String,
    request: Request,
    arm: Option<(Url, Tokens)>,
    wire: Option<Arc<dyn Wire>>,
    /// Who azimg is, made when it is first asked for.
    identities: Arc<OnceLock<Vec<Tokens>>>,
}

impl Config {
    /// Reads the environment of this process.
    pub fn load(flags: Flags) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self::from(environment, flags)
    }

    /// The same from given variables.
    pub fn from(environment: HashMap<String, String>, flags: Flags) -> Result<Self> {
        let list = |flag: Vec<String>, name: &str| -> Vec<String> {
            if !flag.is_empty() {
                return flag;
            }
            words(environment.get(name).map_or("", String::as_str))
        };
        let sources = if flags.sources.is_empty() {
            list(Vec::new(), "AZIMG_SOURCES")
                .iter()
                .map(|name| {
                    SourceName::ALL.iter().copied().find(|s| s.as_str() == name).ok_or_else(|| {
                        Error::invalid(format!("AZIMG_SOURCES: there is no source '{name}'"))
                    })
                })
                .collect::<Result<_>>()?
        } else {
            flags.sources
        };
        let request = Request {
            sources,
            locations: list(flags.locations, "AZIMG_LOCATIONS"),
            publishers: list(flags.publishers, "AZIMG_PUBLISHERS"),
            subscriptions: list(flags.subscriptions, "AZIMG_SUBSCRIPTIONS"),
            details: flags.details,
            full: flags.full,
            offers_max_age: Some(offers_max_age(&environment)?),
        };
        let store = flags
            .store
            .or_else(|| environment.get("AZIMG_STORE").cloned())
            .unwrap_or_else(|| "./azimg-data".to_owned());
        let identities = Arc::default();
        Ok(Self { environment, store, request, arm: None, wire: None, identities })
    }

    /// Uses a Resource Manager and a credential of this process instead of the configured ones.
    #[must_use]
    pub fn with_resource_manager(mut self, arm: Url, credential: Arc<dyn TokenCredential>) -> Self {
        self.arm = Some((arm, credential.into()));
        self
    }

    /// Speaks to the Resource Manager over `wire` instead of the network.
    #[must_use]
    pub fn with_wire(mut self, wire: Arc<dyn Wire>) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Crawls every location, whatever the environment names.
    #[must_use]
    pub fn with_all_locations(mut self) -> Self {
        self.request.locations.clear();
        self
    }

    /// The store as it was named.
    pub fn store_name(&self) -> &str {
        &self.store
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Which snapshots are kept.
    fn keep(&self) -> Result<Keep> {
        match self.variable("AZIMG_KEEP_SNAPSHOTS") {
            Some(text) => {
                text.parse().map_err(|error: Error| error.context("AZIMG_KEEP_SNAPSHOTS"))
            }
            None => Ok(Keep::default()),
        }
    }

    /// What runs crawl unless a narrower request is made.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// When the timer starts a run: six fields.
    pub fn schedule(&self) -> &str {
        self.variable("AZIMG_SCHEDULE").unwrap_or(SCHEDULE)
    }

    /// What the log shows: a filter of `tracing`.
    pub fn log(&self) -> Option<&str> {
        self.variable("AZIMG_LOG")
    }

    /// Where spans and counts go: the OpenTelemetry SDK reads the rest of its variables itself.
    pub fn export(&self) -> Export {
        let set = |name| self.variable(name).is_some();
        let off = self.variable("OTEL_SDK_DISABLED").is_some_and(|text| text == "true");
        let on = set("OTEL_EXPORTER_OTLP_ENDPOINT") && !off;
        Export { on, named: set("OTEL_SERVICE_NAME") }
    }

    /// The port that the Functions host gave.
    pub fn handler_port(&self) -> Result<Option<u16>> {
        self.variable("FUNCTIONS_CUSTOMHANDLER_PORT")
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::invalid(format!("FUNCTIONS_CUSTOMHANDLER_PORT: '{text}' is no port"))
                })
            })
            .transpose()
    }

    /// The login servers of the registries that are crawled; none for all that can be seen.
    pub fn named(&self) -> Result<Vec<String>> {
        let named = words(self.variable("AZIMG_REGISTRIES").unwrap_or_default());
        match named.iter().find(|name| !name.contains(['.', ':'])) {
            // A login server may have more in it than the registry's name.
            Some(name) => Err(Error::invalid(format!(
                "AZIMG_REGISTRIES: '{name}' is no login server: give one such as {name}.azurecr.io"
            ))),
            None => Ok(named),
        }
    }

    /// How the registries of a crawl are opened: with the identity; those that are named also as
    /// `AZIMG_REGISTRY_USERNAME`, if that is set.
    fn registries(&self) -> Open {
        let config = self.clone();
        Arc::new(move |login_server| config.crawled_registry(login_server))
    }

    /// A registry as a crawl opens it.
    pub fn crawled_registry(&self, login_server: &str) -> Result<Registry> {
        let is_named = self.named()?.iter().any(|named| named.eq_ignore_ascii_case(login_server));
        let username = self.variable("AZIMG_REGISTRY_USERNAME").filter(|_| is_named);
        self.registry(login_server, username, false)
    }

    fn run_deadline(&self) -> Result<Duration> {
        span(&self.environment, "AZIMG_RUN_DEADLINE", RUN_DEADLINE)
    }

    /// The application, and what `host.json` says.
    pub fn app(&self) -> Result<(Arc<App>, HostSettings)> {
        let host = check(ITEM_BUDGET)?;
        let client = self.client()?;
        let traffic = Arc::clone(client.traffic());
        let communities = match self.variable("AZIMG_COMMUNITY_GALLERIES") {
            Some(text) => text.parse()?,
            None => Communities::default(),
        };
        let gallery = Gallery::new(client.clone(), communities);
        let named = self.named()?;
        let containers = Containers::new(client.clone(), self.registries(), named);
        let sources: Vec<Arc<dyn Source>> =
            vec![Arc::new(Marketplace::new(client)), Arc::new(gallery), Arc::new(containers)];
        let app = App {
            store: self.store()?,
            sources,
            traffic,
            settings: Settings {
                request: self.request.clone(),
                run_deadline: self.run_deadline()?,
                item_budget: ITEM_BUDGET,
                most_deliveries: host.most_deliveries,
                keep: self.keep()?,
                look_every: LOOK_EVERY,
            },
            progress: Progress::default(),
            memory: Memory::default(),
        };
        Ok((Arc::new(app), host))
    }

    /// A client of the cloud's Resource Manager.
    pub fn client(&self) -> Result<Client> {
        let cloud = self.cloud()?;
        let scope = format!("{}/.default", cloud.audience.trim_end_matches('/'));
        // Before the credentials: the SDK panics where there are no certificates to trust.
        let wire = self.wire.clone().map_or_else(http_wire, Ok)?;
        let identities = self.identities()?;
        let endpoint = self.arm.as_ref().map_or(cloud.endpoint, |(arm, _)| arm.clone());
        Client::over(wire, endpoint, scope, identities)
    }

    /// The store.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        let text = self.store.as_str();
        if text == "azurite" {
            let storage = self.emulator()?;
            return Ok(Arc::new(AzureStore::new(&storage.0, "azimg")?));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Arc::new(LocalStore::new(PathBuf::from(path))));
        }
        if !text.contains("://") {
            return Ok(Arc::new(LocalStore::new(PathBuf::from(text))));
        }
        let bad = || {
            Error::invalid(format!(
                "'{}' is no store: give a folder, https://ACCOUNT.blob.core.windows.net/CONTAINER, \
                 or azurite",
                text.split('?').next().unwrap_or_default()
            ))
        };
        let mut url = Url::parse(text).map_err(|_| bad())?;
        let container = url.path().trim_matches('/').to_owned();
        if url.scheme() != "https" || container.is_empty() || container.contains('/') {
            return Err(bad());
        }
        url.set_path("/");
        let endpoint = self.storage_endpoint(url)?;
        Ok(Arc::new(AzureStore::new(&endpoint, &container)?))
    }

    /// An endpoint of a real account: with the SAS in its URL, or with the credential.
    fn storage_endpoint(&self, url: Url) -> Result<Endpoint> {
        let access = if url.query_pairs().any(|(name, _)| name == "sig") {
            Access::Sas
        } else {
            Access::Entra(Arc::new(self.identity()?))
        };
        Ok(Endpoint { url, access })
    }

    /// Whether there are queues outside of this process.
    pub fn has_queues(&self) -> bool {
        let set = |name| self.variable(name).is_some();
        let named = ["AzimgStorage", "AzimgStorage__queueServiceUri", "AzimgStorage__accountName"];
        self.store == "azurite" || self.store.contains(".blob.") || named.into_iter().any(set)
    }

    /// The queues that the Functions host serves, for messages that must wait.
    pub fn queues(&self) -> Result<AzureQueues> {
        if self.variable("AzimgStorage").is_some() || self.store == "azurite" {
            return Ok(AzureQueues::new(self.emulator()?.1));
        }
        let url = match self.variable("AzimgStorage__queueServiceUri") {
            Some(uri) => uri.to_owned(),
            None => match self.variable("AzimgStorage__accountName") {
                Some(account) => {
                    let suffix = self.cloud()?.storage.ok_or_else(|| {
                        Error::invalid(
                            "AzimgStorage__accountName: of a custom cloud nobody knows what its addresses \
                             end with; set AzimgStorage__queueServiceUri",
                        )
                    })?;
                    format!("https://{account}.queue.{suffix}")
                }
                None if self.store.contains(".blob.") => {
                    let store = Url::parse(&self.store)
                        .map_err(|_| Error::invalid("the store's address cannot be read"))?;
                    let host =
                        store.host_str().unwrap_or_default().replacen(".blob.", ".queue.", 1);
                    format!("https://{host}")
                }
                // A folder as store means a host on this machine, whose queues are an emulator's.
                None if !self.store.contains("://") => {
                    return Ok(AzureQueues::new(self.emulator()?.1));
                }
                None => {
                    return Err(Error::invalid(
                        "where are the queues? Set AzimgStorage__queueServiceUri (in Azure) or \
                         AzimgStorage (a connection string of Azurite)",
                    ));
                }
            },
        };
        let url = Url::parse(&url)
            .map_err(|_| Error::invalid(format!("'{url}' is no address of a queue service")))?;
        Ok(AzureQueues::new(self.storage_endpoint(url)?))
    }

    /// Blobs and queues of the emulator that the connection string `AzimgStorage` names.
    fn emulator(&self) -> Result<(Endpoint, Endpoint)> {
        let text = self.variable("AzimgStorage").unwrap_or("UseDevelopmentStorage=true");
        let parts: HashMap<&str, &str> =
            text.split(';').filter_map(|part| part.trim().split_once('=')).collect();
        let account = parts.get("AccountName").copied().unwrap_or(EMULATOR_ACCOUNT);
        let key = parts.get("AccountKey").copied().unwrap_or(EMULATOR_KEY);
        let endpoint = |name: &str, port: u16| {
            let default = format!("http://127.0.0.1:{port}/{account}");
            let text = parts.get(name).map_or(default.as_str(), |text| *text);
            let url = Url::parse(text)
                .map_err(|_| Error::invalid(format!("AzimgStorage: its {name} is no address")))?;
            let local = crate::client::is_loopback(&url);
            if !local || (parts.is_empty() && text != default) {
                return Err(Error::invalid(
                    "AzimgStorage: account keys are taken for an emulator on this machine only; \
                     for a real account set AzimgStorage__queueServiceUri and use its identity",
                ));
            }
            let access = Access::Emulator(account.to_owned(), Secret::new(key.to_owned()));
            Ok(Endpoint { url, access })
        };
        Ok((endpoint("BlobEndpoint", 10_000)?, endpoint("QueueEndpoint", 10_001)?))
    }
}
