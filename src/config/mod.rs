//! Configuration: the only module that reads the environment and builds Azure clients.
//!
//! Precedence: flags, environment variables, `azimg.toml` in the working directory, the user's own
//! `azimg.toml`, defaults. The deployed function app has the same names as app settings, and reads
//! no files.

mod cloud;
mod endpoint;
mod file;
mod identity;
mod origins;
mod registries;
mod settings;
mod shown;
mod sign_in;
mod storage;
mod store_location;
mod tools;

pub use registries::RegistryUser;
pub use settings::{GuardedSetting, HiddenValue, Origin, PlainSetting};
pub use sign_in::SignIn;

use crate::client::{Client, Tokens, Wire, http_wire};
use crate::error::{Error, Result};
use crate::functions::{App, HostSettings, Progress, RetentionPolicy, RunCache, Settings, check};
use crate::source::Source;
use crate::source::gallery::{Communities, Gallery};
use crate::source::marketplace::Marketplace;
use crate::source::registry::Containers;
use crate::span::Span;
use crate::store::Store;
use crate::store::azure::AzureStore;
use crate::store::local::LocalStore;
use crate::telemetry::Export;
use crate::work::{Details, Request, SourceName};
use azure_core::credentials::TokenCredential;
use settings::{Environment, Setting};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store_location::StoreLocation;
use url::Url;

/// A work item starts nothing new after this long: an eighth of `functionTimeout`.
const ITEM_BUDGET: Duration = Duration::from_secs(225);
/// What is missing this long after the start of a run is given up.
const RUN_DEADLINE: Duration = Duration::from_hours(24);
/// Interval at which the snapshot being served is compared with `current.json`.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Every night at 03:00.
const SCHEDULE: &str = "0 0 3 * * *";
/// The default location of runs and snapshots.
const DEFAULT_STORE: &str = "./azimg-data";
/// Default maximum age of a publisher's list of offers.
const OFFERS_MAX_AGE: Duration = Duration::from_hours(24);

/// Minimum similarity to a setting's name (Jaro and Winkler, up to 1) for a variable to be reported
/// as misspelt. Less similar names may belong to other programs.
const MISSPELT: f64 = 0.93;

/// The non-empty variables of this process whose name and value are valid UTF-8.
fn variables() -> HashMap<String, String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
    let variables = std::env::vars_os();
    let texts = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(_, value)| !value.is_empty()).collect()
}

fn span(environment: &Environment, setting: PlainSetting, default: Duration) -> Result<Duration> {
    let Some(text) = environment.plain(setting) else { return Ok(default) };
    text.parse().map(Span::length).map_err(|error: Error| error.context(setting.name()))
}

/// Splits names separated by commas, semicolons or spaces.
fn words(text: &str) -> Vec<String> {
    text.split([',', ';', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Parses a URL without userinfo and fragment. It may contain a SAS.
fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(Url::has_host)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    (!has_user && url.fragment().is_none()).then_some(url)
}

/// Parses a URL that cannot contain a secret, so that it may be passed to an SDK, which logs it.
fn plain_address(text: &str) -> Option<Url> {
    address(text).filter(|url| url.query().is_none())
}

fn offers_max_age(environment: &Environment) -> Result<u64> {
    span(environment, PlainSetting::OFFERS_MAX_AGE, OFFERS_MAX_AGE).map(|age| age.as_secs())
}

/// Values of command-line flags; they take precedence over the environment.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--store`.
    pub store: Option<HiddenValue>,
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

/// The configuration as given; nothing is contacted until it is used.
#[derive(Clone)]
pub struct Config {
    environment: Environment,
    /// The store as it was named.
    store: HiddenValue,
    /// Where that name comes from.
    store_from: Origin,
    request: Request,
    arm: Option<(Url, Tokens)>,
    wire: Option<Arc<dyn Wire>>,
    /// The identities, created on first use.
    identities: Arc<OnceLock<Vec<Tokens>>>,
}

impl Config {
    /// Reads the environment of this process and the configuration files.
    pub fn load(flags: Flags) -> Result<Self> {
        let variables = variables();
        let own = file::own(&variables);
        let mut environment = Environment::new(variables);
        for (setting, value) in file::read_folders(own.as_deref())? {
            environment.add(setting, value, &Origin::Folder);
        }
        if let Some(own) = own {
            let origin = Origin::Own(own.clone());
            for (setting, value) in file::read_own(&own)? {
                environment.add(setting, value, &origin);
            }
        }
        Self::of(environment, flags)
    }

    /// Reads only the environment of this process: a deployed app is configured by its app
    /// settings.
    pub fn of_environment(flags: Flags) -> Result<Self> {
        Self::from(variables(), flags)
    }

    /// Creates the configuration from the given variables.
    pub fn from(environment: HashMap<String, String>, flags: Flags) -> Result<Self> {
        Self::of(Environment::new(environment), flags)
    }

    /// Variables whose names nearly match a setting's, each with the likely intended name.
    pub fn doubtful_variables() -> Vec<(String, String)> {
        const OURS: &str = "AZIMG_";
        let plain = PlainSetting::ALL.iter().map(|setting| setting.name());
        let all = plain.chain(GuardedSetting::ALL.iter().map(|setting| setting.name()));
        let known: Vec<&str> = all.filter_map(|name| name.strip_prefix(OURS)).collect();
        let near = |name: &str| {
            let own = name.strip_prefix(OURS).filter(|own| !known.contains(own))?;
            let meant = file::nearest(own, known.iter().copied(), MISSPELT)?;
            Some((name.to_owned(), format!("{OURS}{meant}")))
        };
        variables().keys().filter_map(|name| near(name)).collect()
    }

    fn of(environment: Environment, flags: Flags) -> Result<Self> {
        let list = |flag: Vec<String>, setting: PlainSetting| -> Vec<String> {
            if !flag.is_empty() {
                return flag;
            }
            words(environment.plain(setting).unwrap_or_default())
        };
        let sources = if flags.sources.is_empty() {
            list(Vec::new(), PlainSetting::SOURCES)
                .iter()
                .map(|name| {
                    SourceName::ALL.iter().copied().find(|s| s.as_str() == name).ok_or_else(|| {
                        PlainSetting::SOURCES.wrong(format!("there is no source '{name}'"))
                    })
                })
                .collect::<Result<_>>()?
        } else {
            flags.sources
        };
        let request = Request {
            sources,
            locations: list(flags.locations, PlainSetting::LOCATIONS),
            publishers: list(flags.publishers, PlainSetting::PUBLISHERS),
            subscriptions: list(flags.subscriptions, PlainSetting::SUBSCRIPTIONS),
            details: flags.details,
            full: flags.full,
            offers_max_age: Some(offers_max_age(&environment)?),
            force: false,
        };
        let store_from = match &flags.store {
            Some(_) => Origin::Flag,
            None => environment.origin(Setting::Guarded(GuardedSetting::STORE)),
        };
        let store = flags
            .store
            .or_else(|| environment.guarded(GuardedSetting::STORE).cloned())
            .unwrap_or_else(|| HiddenValue::from(DEFAULT_STORE));
        let identities = Arc::default();
        Ok(Self { environment, store, store_from, request, arm: None, wire: None, identities })
    }

    /// Uses the given Resource Manager and credential instead of the configured ones.
    #[must_use]
    pub fn with_resource_manager(mut self, arm: Url, credential: Arc<dyn TokenCredential>) -> Self {
        self.arm = Some((arm, credential.into()));
        self
    }

    /// Sends requests over `wire` instead of the network.
    #[must_use]
    pub fn with_wire(mut self, wire: Arc<dyn Wire>) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Crawls all locations, whatever is configured.
    #[must_use]
    pub fn with_all_locations(mut self) -> Self {
        self.request.locations.clear();
        self
    }

    /// The name of the store without possible secrets; `None` for the default store.
    pub fn store_name(&self) -> Option<String> {
        let is_default = self.store.open() == DEFAULT_STORE;
        self.store_location().ok().filter(|_| !is_default).map(|place| place.to_string())
    }

    fn store_location(&self) -> Result<StoreLocation> {
        StoreLocation::read(&self.store)
    }

    /// The value of a setting, if set and not empty.
    pub fn variable(&self, setting: PlainSetting) -> Option<&str> {
        self.environment.plain(setting)
    }

    /// The same for a setting that may contain a secret.
    fn guarded(&self, setting: GuardedSetting) -> Option<&str> {
        self.environment.guarded(setting).map(HiddenValue::open)
    }

    /// The retention policy for snapshots.
    fn keep(&self) -> Result<RetentionPolicy> {
        let setting = PlainSetting::KEEP_SNAPSHOTS;
        match self.variable(setting) {
            Some(text) => text.parse().map_err(|error: Error| error.context(setting.name())),
            None => Ok(RetentionPolicy::default()),
        }
    }

    /// What runs crawl by default; a request may narrow it.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The timer's schedule: six fields.
    pub fn schedule(&self) -> &str {
        self.variable(PlainSetting::SCHEDULE).unwrap_or(SCHEDULE)
    }

    /// The configured output format. A file sets only what people see: the output that programs
    /// read must be selected by those who start them, with a flag or a variable.
    pub fn output(&self, is_for_people: bool) -> Option<&str> {
        let setting = PlainSetting::OUTPUT;
        let said = self.variable(setting)?;
        let is_said = self.environment.origin(Setting::Plain(setting)) == Origin::Environment;
        (is_said || is_for_people).then_some(said)
    }

    /// Whether colours are disabled (no-color.org).
    pub fn is_plain(&self) -> bool {
        self.variable(PlainSetting::NO_COLOR).is_some()
    }

    /// The log filter, in the syntax of `tracing`.
    pub fn log(&self) -> Option<&str> {
        self.variable(PlainSetting::LOG)
    }

    /// Where spans and counts are exported to. The OpenTelemetry SDK reads its other variables
    /// itself.
    pub fn export(&self) -> Result<Export> {
        let off = self.variable(PlainSetting::OTEL_SDK_DISABLED).is_some_and(|text| text == "true");
        let collector = self.guarded(GuardedSetting::OTEL_ENDPOINT).filter(|_| !off);
        if collector.is_some_and(|text| plain_address(text).is_none()) {
            return Err(GuardedSetting::OTEL_ENDPOINT.wrong(
                "it is not a URL, or it has a user or a query in it; set credentials of a collector in \
                 OTEL_EXPORTER_OTLP_HEADERS",
            ));
        }
        let named = self.variable(PlainSetting::OTEL_SERVICE_NAME).is_some();
        Ok(Export { on: collector.is_some(), named })
    }

    /// The port that the Functions host assigned.
    pub fn handler_port(&self) -> Result<Option<u16>> {
        self.variable(PlainSetting::HANDLER_PORT)
            .map(|text| {
                let wrong = || PlainSetting::HANDLER_PORT.wrong(format!("'{text}' is not a port"));
                text.parse().map_err(|_| wrong())
            })
            .transpose()
    }

    fn run_deadline(&self) -> Result<Duration> {
        span(&self.environment, PlainSetting::RUN_DEADLINE, RUN_DEADLINE)
    }

    /// The application, and the settings of `host.json`.
    pub fn app(&self) -> Result<(Arc<App>, HostSettings)> {
        let host = check(ITEM_BUDGET)?;
        let client = self.client()?;
        let traffic = Arc::clone(client.traffic());
        let communities = match self.variable(PlainSetting::COMMUNITY_GALLERIES) {
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
            memory: RunCache::default(),
        };
        Ok((Arc::new(app), host))
    }

    /// A client for the cloud's Resource Manager.
    pub fn client(&self) -> Result<Client> {
        let cloud = self.cloud()?;
        let scope = format!("{}/.default", cloud.audience.trim_end_matches('/'));
        // Before the credentials: the SDK panics if the machine has no trusted certificates.
        let wire = self.wire.clone().map_or_else(http_wire, Ok)?;
        let identities = self.identities()?;
        let endpoint = self.arm.as_ref().map_or(cloud.endpoint, |(arm, _)| arm.clone());
        Client::over(wire, endpoint, scope, identities)
    }

    /// Opens the configured store.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        Ok(match self.store_location()? {
            StoreLocation::Emulator => Arc::new(AzureStore::new(&self.emulator()?.0, "azimg")?),
            StoreLocation::Folder(path) => Arc::new(LocalStore::new(absolute(&path))),
            StoreLocation::Container(url, container) => {
                Arc::new(AzureStore::new(&self.storage_endpoint(url)?, &container)?)
            }
        })
    }

    /// The absolute path of the store, if it is a folder.
    pub fn store_folder(&self) -> Option<PathBuf> {
        match self.store_location() {
            Ok(StoreLocation::Folder(path)) => Some(absolute(&path)),
            _ => None,
        }
    }
}

/// Makes a path absolute, so that it is recognizable as a path wherever it is shown.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}
