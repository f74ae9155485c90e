//! The effective configuration, for display: each setting with its value and origin. Values that
//! may contain a secret are never shown.

use super::file::{FileKey, KEYS};
use super::settings::{GuardedSetting, PlainSetting, Setting};
use super::{Config, OFFERS_MAX_AGE, RUN_DEADLINE, SCHEDULE};
use serde::Serialize;

/// Shown in place of a value that may contain a secret.
const NOT_SHOWN: &str = "(set, not shown)";

/// A setting for display.
#[derive(Debug, Serialize)]
pub struct ShownSetting {
    /// Key in a file.
    pub setting: &'static str,
    /// The value; `None` if not set and without a default, so that nothing is filtered.
    pub value: Option<String>,
    /// Origin of the value: `flag`, `environment`, a file's path, or `default`.
    pub from: String,
    /// The variable that sets it.
    pub variable: &'static str,
}

impl Config {
    /// All settings, in the order of the documentation.
    pub fn shown(&self) -> Vec<ShownSetting> {
        KEYS.iter().map(|key| self.shown_one(key)).collect()
    }

    fn shown_one(&self, key: &FileKey) -> ShownSetting {
        let (value, from) = match key.setting {
            Setting::Guarded(GuardedSetting::STORE) => {
                // Without its SAS. An invalid store name may be anything, so it is not shown at
                // all.
                let shown = self
                    .store_location()
                    .map_or_else(|_| NOT_SHOWN.to_owned(), |place| place.to_string());
                (Some(shown), self.store_from.clone())
            }
            Setting::Guarded(setting) => {
                let value = self.guarded(setting).map(|_| NOT_SHOWN.to_owned());
                (value, self.environment.origin(key.setting))
            }
            Setting::Plain(setting) => {
                let value = self.variable(setting).map(str::to_owned);
                (value.or_else(|| default(setting)), self.environment.origin(key.setting))
            }
        };
        let from = from.to_string();
        ShownSetting { setting: key.name, value, from, variable: key.setting.name() }
    }
}

/// The default value, if the setting has one.
fn default(setting: PlainSetting) -> Option<String> {
    let span = |span| humantime::format_duration(span).to_string();
    let text = match setting {
        PlainSetting::CLOUD => "AzureCloud".to_owned(),
        PlainSetting::COMMUNITY_GALLERIES => "all".to_owned(),
        PlainSetting::SCHEDULE => SCHEDULE.to_owned(),
        PlainSetting::OFFERS_MAX_AGE => span(OFFERS_MAX_AGE),
        PlainSetting::RUN_DEADLINE => span(RUN_DEADLINE),
        PlainSetting::KEEP_SNAPSHOTS => "10,30d".to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_STORE, Flags};

    #[test]
    fn defaults_are_shown_as_they_apply() {
        let config = Config::from(std::collections::HashMap::new(), Flags::default()).unwrap();
        let keep: crate::functions::RetentionPolicy = "10,30d".parse().unwrap();
        assert_eq!(config.keep().unwrap(), keep);
        let store = config.shown().into_iter().find(|shown| shown.setting == "store").unwrap();
        assert_eq!((store.value.as_deref(), &*store.from), (Some(DEFAULT_STORE), "default"));
    }
}
