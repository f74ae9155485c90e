//! What is configured, as somebody is told who asks: each setting with its value and where that comes from. No value
//! that may hold a secret is told.

use super::file::{FileKey, KEYS};
use super::settings::{GuardedSetting, PlainSetting, Setting};
use super::{Config, OFFERS_MAX_AGE, RUN_DEADLINE, SCHEDULE};
use serde::Serialize;

/// What is told of a value that is not.
const NOT_SHOWN: &str = "(set, and not shown)";

/// A setting.
#[derive(Debug, Serialize)]
pub struct ShownSetting {
    /// What it is called in a file.
    pub setting: &'static str,
    /// Its value; none where nothing narrows what is looked at.
    pub value: Option<String>,
    /// Where that comes from: `flag`, `environment`, a file's path, or `default`.
    pub from: String,
    /// The variable that sets it.
    pub variable: &'static str,
}

impl Config {
    /// Every setting, in the order of the documentation.
    pub fn shown(&self) -> Vec<ShownSetting> {
        KEYS.iter().map(|key| self.shown_one(key)).collect()
    }

    fn shown_one(&self, key: &FileKey) -> ShownSetting {
        let (value, from) = match key.setting {
            Setting::Guarded(GuardedSetting::STORE) => {
                // Without what signs it; what is no store may be anything.
                let told =
                    self.place().map_or_else(|_| NOT_SHOWN.to_owned(), |place| place.to_string());
                (Some(told), self.store_from.clone())
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

/// What holds where nobody says anything; none where nothing does.
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
    fn what_holds_by_default_is_what_is_told() {
        let config = Config::from(std::collections::HashMap::new(), Flags::default()).unwrap();
        let keep: crate::functions::RetentionPolicy = "10,30d".parse().unwrap();
        assert_eq!(config.keep().unwrap(), keep);
        let store = config.shown().into_iter().find(|shown| shown.setting == "store").unwrap();
        assert_eq!((store.value.as_deref(), &*store.from), (Some(DEFAULT_STORE), "default"));
    }
}
