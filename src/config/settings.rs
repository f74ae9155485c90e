//! The settings: their names, and whether their values may be shown.

use crate::error::Error;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// A setting whose value may be shown: it never contains a secret, and errors include it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainSetting(&'static str);

/// A setting whose value may contain a secret: a password, a key, a URL with a SAS or userinfo. The
/// value is available only as [`HiddenValue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedSetting(&'static str);

/// Defines the settings of a kind, each as a constant, and a list of them all.
macro_rules! settings {
    ($kind:ident: $($(#[$doc:meta])* $constant:ident = $name:literal,)+) => {
        impl $kind {
            $($(#[$doc])* pub const $constant: Self = Self($name);)+
            /// All settings of this kind.
            pub const ALL: &[Self] = &[$(Self::$constant),+];

            /// Name of the variable.
            pub const fn name(self) -> &'static str {
                self.0
            }
        }
    };
}

settings! { PlainSetting:
    /// Name of the cloud.
    CLOUD = "AZIMG_CLOUD",
    /// Audience of tokens for the Resource Manager.
    ARM_AUDIENCE = "AZIMG_ARM_AUDIENCE",
    /// Sources to crawl.
    SOURCES = "AZIMG_SOURCES",
    /// Locations to crawl.
    LOCATIONS = "AZIMG_LOCATIONS",
    /// Publishers to crawl.
    PUBLISHERS = "AZIMG_PUBLISHERS",
    /// Subscriptions to query.
    SUBSCRIPTIONS = "AZIMG_SUBSCRIPTIONS",
    /// Registries to crawl.
    REGISTRIES = "AZIMG_REGISTRIES",
    /// Files that list images of registries in use.
    IN_USE = "AZIMG_IN_USE",
    /// User that signs in to the registries in `AZIMG_REGISTRIES`.
    REGISTRY_USERNAME = "AZIMG_REGISTRY_USERNAME",
    /// Origins whose pages may call the embedded host.
    CORS_ORIGINS = "AZIMG_CORS_ORIGINS",
    /// How callers of the deployed app authenticate: function keys or Entra ID.
    SIGN_IN = "AZIMG_SIGN_IN",
    /// Where the Functions host has unpacked the app.
    APP_ROOT = "FUNCTIONS_APP_ROOT_PATH",
    /// Whether App Service authentication is enabled.
    AUTH_ENABLED = "WEBSITE_AUTH_ENABLED",
    /// Community galleries to crawl.
    COMMUNITY_GALLERIES = "AZIMG_COMMUNITY_GALLERIES",
    /// Schedule of the timer.
    SCHEDULE = "AZIMG_SCHEDULE",
    /// Retention policy for snapshots.
    KEEP_SNAPSHOTS = "AZIMG_KEEP_SNAPSHOTS",
    /// When what is missing from a run is given up.
    RUN_DEADLINE = "AZIMG_RUN_DEADLINE",
    /// Maximum age of a publisher's list of offers.
    OFFERS_MAX_AGE = "AZIMG_OFFERS_MAX_AGE",
    /// Log filter.
    LOG = "AZIMG_LOG",
    /// Output format.
    OUTPUT = "AZIMG_OUTPUT",
    /// Disables colours (no-color.org).
    NO_COLOR = "NO_COLOR",
    /// The port that the Functions host assigned.
    HANDLER_PORT = "FUNCTIONS_CUSTOMHANDLER_PORT",
    /// Kind of credential.
    TOKEN_CREDENTIALS = "AZURE_TOKEN_CREDENTIALS",
    /// Tenant to sign in to.
    TENANT_ID = "AZURE_TENANT_ID",
    /// Client ids of the identities.
    CLIENT_ID = "AZURE_CLIENT_ID",
    /// File with a federated token; read by the SDK.
    FEDERATED_TOKEN_FILE = "AZURE_FEDERATED_TOKEN_FILE",
    /// File with a client certificate, which is not supported.
    CLIENT_CERTIFICATE_PATH = "AZURE_CLIENT_CERTIFICATE_PATH",
    /// Disables export of telemetry.
    OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED",
    /// Service name in exported telemetry.
    OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME",
}

settings! { GuardedSetting:
    /// Location of runs and snapshots: may contain a SAS.
    STORE = "AZIMG_STORE",
    /// Connection string of an emulator, or by mistake of a real account.
    STORAGE = "AzimgStorage",
    /// URL of the queue service: may contain a SAS by mistake.
    STORAGE_QUEUES = "AzimgStorage__queueServiceUri",
    /// Name of the storage account, or by mistake its connection string.
    STORAGE_ACCOUNT = "AzimgStorage__accountName",
    /// URL of the Resource Manager: may contain userinfo.
    ARM_ENDPOINT = "AZIMG_ARM_ENDPOINT",
    /// Password of registries.
    REGISTRY_PASSWORD = "AZIMG_REGISTRY_PASSWORD",
    /// Password of the registry that is copied from.
    FROM_REGISTRY_PASSWORD = "AZIMG_FROM_REGISTRY_PASSWORD",
    /// URL of the authority that issues tokens: may contain userinfo.
    AUTHORITY_HOST = "AZURE_AUTHORITY_HOST",
    /// Client secret of a service principal.
    CLIENT_SECRET = "AZURE_CLIENT_SECRET",
    /// Endpoint of a managed identity; read by the SDK.
    IDENTITY_ENDPOINT = "IDENTITY_ENDPOINT",
    /// Header that this endpoint requires; read by the SDK.
    IDENTITY_HEADER = "IDENTITY_HEADER",
    /// Endpoint of a machine's identity; read by the SDK.
    IMDS_ENDPOINT = "IMDS_ENDPOINT",
    /// Where spans and counts are exported to; read by the OpenTelemetry SDK.
    OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT",
    /// Headers sent with the export; read by the OpenTelemetry SDK.
    OTEL_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS",
    /// A proxy: may contain userinfo. Read by the HTTP client.
    HTTPS_PROXY = "HTTPS_PROXY",
    /// A proxy: may contain userinfo. Read by the HTTP client.
    HTTP_PROXY = "HTTP_PROXY",
    /// A proxy: may contain userinfo. Read by the HTTP client.
    ALL_PROXY = "ALL_PROXY",
}

impl PlainSetting {
    /// An error about the value.
    pub fn wrong(self, why: impl fmt::Display) -> Error {
        Error::invalid(format!("{}: {why}", self.0))
    }
}

impl GuardedSetting {
    /// An error about the value. `why` is static, so that it cannot contain the value.
    pub fn wrong(self, why: &'static str) -> Error {
        Error::invalid(format!("{}: {why}", self.0))
    }
}

/// A value that may contain a secret: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenValue(String);

impl HiddenValue {
    /// The value itself.
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
    /// A command-line flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The file in the working directory.
    Folder,
    /// The user's own file.
    Own(PathBuf),
    /// Not set.
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

/// The settings that are set and not empty: variables of a process, and after them the files.
#[derive(Clone, Default)]
pub(super) struct Environment {
    plain: HashMap<&'static str, String>,
    guarded: HashMap<&'static str, HiddenValue>,
    /// Origins of the values that do not come from variables.
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

    /// Adds a value from `origin`, unless the setting has one already.
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
    /// A setting whose value may be shown.
    Plain(PlainSetting),
    /// A setting whose value may contain a secret.
    Guarded(GuardedSetting),
}

impl Setting {
    /// Name of the variable.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain(setting) => setting.0,
            Self::Guarded(setting) => setting.0,
        }
    }
}
