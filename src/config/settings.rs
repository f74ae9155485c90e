//! The settings: what each is called, and whether what it says may be told.

use crate::error::Error;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// A setting whose value may be told: it never holds a secret, and whoever reads an error wants to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainSetting(&'static str);

/// A setting whose value may hold a secret: a password, a key, an address that may be signed or have a user in it. Its
/// value can be had as [`HiddenValue`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedSetting(&'static str);

/// The settings of a kind, each a constant, and all of them.
macro_rules! settings {
    ($kind:ident: $($(#[$doc:meta])* $constant:ident = $name:literal,)+) => {
        impl $kind {
            $($(#[$doc])* pub const $constant: Self = Self($name);)+
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$constant),+];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                self.0
            }
        }
    };
}

settings! { PlainSetting:
    /// Which Azure.
    CLOUD = "AZIMG_CLOUD",
    /// Whom tokens for the Resource Manager are made out to.
    ARM_AUDIENCE = "AZIMG_ARM_AUDIENCE",
    /// Which sources are crawled.
    SOURCES = "AZIMG_SOURCES",
    /// Which locations are crawled.
    LOCATIONS = "AZIMG_LOCATIONS",
    /// Which publishers are crawled.
    PUBLISHERS = "AZIMG_PUBLISHERS",
    /// Which subscriptions are asked through.
    SUBSCRIPTIONS = "AZIMG_SUBSCRIPTIONS",
    /// Which registries are crawled.
    REGISTRIES = "AZIMG_REGISTRIES",
    /// Files that say what runs on images of registries.
    IN_USE = "AZIMG_IN_USE",
    /// As whom those are opened.
    REGISTRY_USERNAME = "AZIMG_REGISTRY_USERNAME",
    /// Which pages of other origins may ask the embedded host.
    CORS_ORIGINS = "AZIMG_CORS_ORIGINS",
    /// Who may call what is deployed: holders of keys, or who signs in.
    SIGN_IN = "AZIMG_SIGN_IN",
    /// Where the Functions host has unpacked the app.
    APP_ROOT = "FUNCTIONS_APP_ROOT_PATH",
    /// Whether App Service authentication is on.
    AUTH_ENABLED = "WEBSITE_AUTH_ENABLED",
    /// Which community galleries are crawled.
    COMMUNITY_GALLERIES = "AZIMG_COMMUNITY_GALLERIES",
    /// When the timer starts a run.
    SCHEDULE = "AZIMG_SCHEDULE",
    /// Which snapshots are kept.
    KEEP_SNAPSHOTS = "AZIMG_KEEP_SNAPSHOTS",
    /// When what is missing from a run is given up.
    RUN_DEADLINE = "AZIMG_RUN_DEADLINE",
    /// How often a publisher's offers are listed.
    OFFERS_MAX_AGE = "AZIMG_OFFERS_MAX_AGE",
    /// What the log shows.
    LOG = "AZIMG_LOG",
    /// How results are printed.
    OUTPUT = "AZIMG_OUTPUT",
    /// Whether nothing is coloured (no-color.org).
    NO_COLOR = "NO_COLOR",
    /// The port that the Functions host gave.
    HANDLER_PORT = "FUNCTIONS_CUSTOMHANDLER_PORT",
    /// Which kind of credential is used.
    TOKEN_CREDENTIALS = "AZURE_TOKEN_CREDENTIALS",
    /// The tenant that is signed in to.
    TENANT_ID = "AZURE_TENANT_ID",
    /// The client ids of the identities.
    CLIENT_ID = "AZURE_CLIENT_ID",
    /// The file of a federated token; the SDK reads it.
    FEDERATED_TOKEN_FILE = "AZURE_FEDERATED_TOKEN_FILE",
    /// The file of a certificate, which is not taken.
    CLIENT_CERTIFICATE_PATH = "AZURE_CLIENT_CERTIFICATE_PATH",
    /// Whether nothing is exported.
    OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED",
    /// What a collector knows this process as.
    OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME",
}

settings! { GuardedSetting:
    /// Where runs and snapshots are kept: may be signed (SAS).
    STORE = "AZIMG_STORE",
    /// A connection string of an emulator, or by mistake one of a real account.
    STORAGE = "AzimgStorage",
    /// The address of the queues: may be signed by mistake.
    STORAGE_QUEUES = "AzimgStorage__queueServiceUri",
    /// The name of the storage account, or by mistake its connection string.
    STORAGE_ACCOUNT = "AzimgStorage__accountName",
    /// The address of the Resource Manager: may have a user in it.
    ARM_ENDPOINT = "AZIMG_ARM_ENDPOINT",
    /// The password of registries.
    REGISTRY_PASSWORD = "AZIMG_REGISTRY_PASSWORD",
    /// The password of the registry that is copied from.
    FROM_REGISTRY_PASSWORD = "AZIMG_FROM_REGISTRY_PASSWORD",
    /// The address that tokens are asked of: may have a user in it.
    AUTHORITY_HOST = "AZURE_AUTHORITY_HOST",
    /// The secret of a service principal.
    CLIENT_SECRET = "AZURE_CLIENT_SECRET",
    /// Where a managed identity's tokens are; the SDK reads it.
    IDENTITY_ENDPOINT = "IDENTITY_ENDPOINT",
    /// What has to be sent there; the SDK reads it.
    IDENTITY_HEADER = "IDENTITY_HEADER",
    /// Where a machine's identity is; the SDK reads it.
    IMDS_ENDPOINT = "IMDS_ENDPOINT",
    /// Where spans and counts go; the SDK of OpenTelemetry reads it.
    OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT",
    /// What is sent with them; the SDK of OpenTelemetry reads it.
    OTEL_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS",
    /// A proxy: may have a user in it. The client of HTTP reads it.
    HTTPS_PROXY = "HTTPS_PROXY",
    /// A proxy: may have a user in it. The client of HTTP reads it.
    HTTP_PROXY = "HTTP_PROXY",
    /// A proxy: may have a user in it. The client of HTTP reads it.
    ALL_PROXY = "ALL_PROXY",
}

impl PlainSetting {
    /// An error about its value.
    pub fn wrong(self, why: impl fmt::Display) -> Error {
        Error::invalid(format!("{}: {why}", self.0))
    }
}

impl GuardedSetting {
    /// An error about its value, which `why` cannot have.
    pub fn wrong(self, why: &'static str) -> Error {
        Error::invalid(format!("{}: {why}", self.0))
    }
}

/// A value that may hold a secret: there is no way to print it.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenValue(String);

impl HiddenValue {
    /// The value, for whoever uses it.
    pub(super) fn open(&self) -> &str {
        &self.0
    }
}

impl From<String> for HiddenValue {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for HiddenValue {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for HiddenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The file in the folder that azimg was started in.
    Folder,
    /// The user's own file.
    Own(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::Folder => f.write_str("./azimg.toml"),
            Self::Own(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The settings that are there and not empty: variables of a process, and behind them what files say.
#[derive(Clone, Default)]
pub(super) struct Environment {
    plain: HashMap<&'static str, String>,
    guarded: HashMap<&'static str, HiddenValue>,
    /// Where those come from that are no variables.
    from: HashMap<&'static str, Origin>,
}

impl Environment {
    pub(super) fn new(mut variables: HashMap<String, String>) -> Self {
        let mut take = |name: &str| variables.remove(name).filter(|value| !value.is_empty());
        let plain = PlainSetting::ALL.iter().filter_map(|it| Some((it.0, take(it.0)?))).collect();
        let guarded = GuardedSetting::ALL
            .iter()
            .filter_map(|it| Some((it.0, HiddenValue(take(it.0)?))))
            .collect();
        Self { plain, guarded, from: HashMap::new() }
    }

    /// What `origin` says of a setting, unless something before it did.
    pub(super) fn add(&mut self, setting: Setting, value: String, origin: &Origin) {
        let name = setting.name();
        if value.is_empty() || self.plain.contains_key(name) || self.guarded.contains_key(name) {
            return;
        }
        match setting {
            Setting::Plain(_) => drop(self.plain.insert(name, value)),
            Setting::Guarded(_) => drop(self.guarded.insert(name, HiddenValue(value))),
        }
        self.from.insert(name, origin.clone());
    }

    pub(super) fn plain(&self, setting: PlainSetting) -> Option<&str> {
        self.plain.get(setting.0).map(String::as_str)
    }

    pub(super) fn guarded(&self, setting: GuardedSetting) -> Option<&HiddenValue> {
        self.guarded.get(setting.0)
    }

    /// Where the value of a setting comes from.
    pub(super) fn origin(&self, setting: Setting) -> Origin {
        let name = setting.name();
        let is_set = self.plain.contains_key(name) || self.guarded.contains_key(name);
        let from = || self.from.get(name).cloned().unwrap_or(Origin::Environment);
        if is_set { from() } else { Origin::Default }
    }
}

/// A setting of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// One whose value may be told.
    Plain(PlainSetting),
    /// One whose value may hold a secret.
    Guarded(GuardedSetting),
}

impl Setting {
    /// What its variable is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain(setting) => setting.0,
            Self::Guarded(setting) => setting.0,
        }
    }
}
