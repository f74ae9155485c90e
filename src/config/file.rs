//! `azimg.toml`: settings in files.
//!
//! Invariant: the file in the working directory selects which images are shown and how, and nothing
//! else. It may come with anything that was checked out or unpacked there, so it is untrusted: it
//! cannot name a server to contact or trust, an identity, a path to read, write or delete, a
//! program, or how much of a quota to spend. All of that belongs in the user's own file, which
//! nobody else can write. Secrets belong in neither.

use super::settings::{GuardedSetting, PlainSetting, Setting};
use super::store_location::may_sign;
use crate::error::{Error, Result};
use crate::files;
use crate::format::toml_error;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Name of both files.
pub(super) const NAME: &str = "azimg.toml";
/// The longest file, in bytes: a hundred times what all settings take.
const LONGEST: u64 = 64 << 10;
/// Minimum similarity (Jaro and Winkler, up to 1) for a name to be suggested.
const ALIKE: f64 = 0.75;

/// Which files may contain a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileScope {
    /// Both files.
    Both,
    /// Only the user's own.
    Own,
    /// Neither: the setting is a secret, or belongs to a deployed app.
    Neither,
}

/// A key of a file.
pub(super) struct FileKey {
    /// Name of the key.
    pub(super) name: &'static str,
    /// The setting.
    pub(super) setting: Setting,
    /// Whether the value is a list of names.
    is_list: bool,
    by: FileScope,
}

const fn plain(name: &'static str, setting: PlainSetting, is_list: bool, by: FileScope) -> FileKey {
    FileKey { name, setting: Setting::Plain(setting), is_list, by }
}

const fn guarded(name: &'static str, setting: GuardedSetting, by: FileScope) -> FileKey {
    FileKey { name, setting: Setting::Guarded(setting), is_list: false, by }
}

/// All keys: azimg's settings, named as their variables without the prefix, in lower case.
pub(super) const KEYS: &[FileKey] = &[
    plain("output", PlainSetting::OUTPUT, false, FileScope::Both),
    plain("sources", PlainSetting::SOURCES, true, FileScope::Both),
    plain("locations", PlainSetting::LOCATIONS, true, FileScope::Both),
    plain("publishers", PlainSetting::PUBLISHERS, true, FileScope::Both),
    // The store decides which snapshots are trusted, and these decide what is deployed.
    guarded("store", GuardedSetting::STORE, FileScope::Own),
    // They also decide in which subscriptions resources are changed.
    plain("subscriptions", PlainSetting::SUBSCRIPTIONS, true, FileScope::Own),
    plain("community-galleries", PlainSetting::COMMUNITY_GALLERIES, true, FileScope::Own),
    // The hosts named here are sent a token.
    plain("registries", PlainSetting::REGISTRIES, true, FileScope::Own),
    plain("registry-username", PlainSetting::REGISTRY_USERNAME, false, FileScope::Own),
    plain("cloud", PlainSetting::CLOUD, false, FileScope::Own),
    guarded("arm-endpoint", GuardedSetting::ARM_ENDPOINT, FileScope::Own),
    plain("arm-audience", PlainSetting::ARM_AUDIENCE, false, FileScope::Own),
    plain("cors-origins", PlainSetting::CORS_ORIGINS, true, FileScope::Own),
    // These spend quota, or delete what is kept.
    plain("schedule", PlainSetting::SCHEDULE, false, FileScope::Own),
    plain("offers-max-age", PlainSetting::OFFERS_MAX_AGE, false, FileScope::Own),
    plain("keep-snapshots", PlainSetting::KEEP_SNAPSHOTS, false, FileScope::Own),
    plain("run-deadline", PlainSetting::RUN_DEADLINE, false, FileScope::Own),
    // The log of a library may contain what azimg's own never does.
    plain("log", PlainSetting::LOG, false, FileScope::Own),
    guarded("registry-password", GuardedSetting::REGISTRY_PASSWORD, FileScope::Neither),
    plain("sign-in", PlainSetting::SIGN_IN, false, FileScope::Neither),
];

/// The settings in a file.
pub(super) type FileValues = Vec<(Setting, String)>;

/// Path of the user's own file, from the variables of a process; `None` if they name no absolute
/// path.
pub(super) fn own(variables: &HashMap<String, String>) -> Option<PathBuf> {
    let of = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = if cfg!(windows) {
        of("APPDATA")
    } else {
        of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")))
    };
    folder.map(|folder| folder.join("azimg").join(NAME))
}

/// Reads the user's own file, if it exists.
pub(super) fn read_own(path: &Path) -> Result<FileValues> {
    let bytes = files::read_own(path, LONGEST)?;
    bytes.map_or_else(
        || Ok(FileValues::new()),
        |bytes| said(&bytes, &path.display().to_string(), None),
    )
}

/// Reads the file in the working directory, if it exists and is not the user's own.
pub(super) fn read_folders(own: Option<&Path>) -> Result<FileValues> {
    let path = Path::new(NAME);
    let is_own = || {
        let own = own.and_then(|own| own.canonicalize().ok());
        own.is_some() && own == path.canonicalize().ok()
    };
    if is_own() {
        return Ok(FileValues::new());
    }
    let bytes = files::read_plain(path, LONGEST)?;
    let elsewhere = own.map_or_else(|| "your own file".to_owned(), |own| own.display().to_string());
    bytes.map_or_else(
        || Ok(FileValues::new()),
        |bytes| said(&bytes, "./azimg.toml", Some(&elsewhere)),
    )
}

/// Parses a file. `called` is its name in errors. For a file that is not the user's own, `own` is
/// the path of the user's file.
fn said(bytes: &[u8], called: &str, own: Option<&str>) -> Result<FileValues> {
    let wrong = |why: String| Error::invalid(format!("{called}: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
    let table: Table =
        toml::from_str(text).map_err(|error| wrong(toml_error::message(text, &error)))?;
    let mut said = FileValues::new();
    for (name, value) in table {
        let key = KEYS.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| wrong(unknown(&name)))?;
        let variable = key.setting.name();
        match (key.by, own) {
            (FileScope::Neither, _) => {
                return Err(wrong(format!("'{name}' is not kept in a file: set {variable}")));
            }
            (FileScope::Own, Some(own)) => {
                return Err(wrong(format!(
                    "'{name}' is not accepted in the working directory, where others may have written the file: \
                     put it into {own}, or set {variable}"
                )));
            }
            _ => {}
        }
        let value = text_of(key, &value).map_err(|why| wrong(format!("'{name}' {why}")))?;
        if matches!(key.setting, Setting::Guarded(_)) && opens(&value) {
            return Err(wrong(format!(
                "'{name}' contains a secret, which is not kept in a file: set {variable}"
            )));
        }
        said.push((key.setting, value));
    }
    Ok(said)
}

/// Converts a value to the text that its variable would have.
fn text_of(key: &FileKey, value: &Value) -> Result<String, String> {
    let split = [',', ';', ' '];
    match value {
        Value::Array(names) if key.is_list => {
            let one = |name: &Value| match name.as_str() {
                Some(name) if name.is_empty() || name.contains(split) => {
                    Err(format!("contains '{name}': a name has no comma, semicolon or space"))
                }
                Some(name) => Ok(name.to_owned()),
                None => Err("is not a list of strings".to_owned()),
            };
            Ok(names.iter().map(one).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) if !key.is_list => Ok(number.to_string()),
        _ if key.is_list => Err("is neither a string nor a list of strings".to_owned()),
        _ => Err("is not a string".to_owned()),
    }
}

/// Whether a value contains a secret.
fn opens(value: &str) -> bool {
    let address = url::Url::parse(value).ok();
    let has_user = |url: url::Url| !url.username().is_empty() || url.password().is_some();
    may_sign(value) || address.is_some_and(has_user)
}

fn unknown(name: &str) -> String {
    let known = KEYS.iter().map(|key| key.name);
    if let Some(near) = nearest(name, known.clone(), ALIKE) {
        format!("there is no setting '{name}'; the nearest is '{near}'")
    } else {
        let all: Vec<&str> = known.collect();
        format!("there is no setting '{name}'; there are {}", all.join(", "))
    }
}

/// The known name most similar to `name`, if the similarity is at least `least` (Jaro and Winkler,
/// up to 1).
pub(super) fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    let alike = known.map(|other| (strsim::jaro_winkler(name, other), other));
    let nearest = alike.max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.filter(|(alike, _)| *alike >= least).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, own: Option<&str>) -> Result<HashMap<&'static str, String>> {
        let said = said(text.as_bytes(), "f", own)?;
        Ok(said.into_iter().map(|(setting, value)| (setting.name(), value)).collect())
    }

    #[test]
    fn values_are_what_their_variables_would_have() {
        let text = "locations = ['eastus', 'westus2']\nkeep-snapshots = 5\nstore = './x'\npublishers = 'canonical'";
        let said = of(text, None).unwrap();
        assert_eq!(said["AZIMG_LOCATIONS"], "eastus,westus2");
        assert_eq!(said["AZIMG_KEEP_SNAPSHOTS"], "5");
        assert_eq!((&*said["AZIMG_STORE"], &*said["AZIMG_PUBLISHERS"]), ("./x", "canonical"));
    }

    #[test]
    fn errors_name_the_setting_and_contain_no_value() {
        for (text, own, says) in [
            (
                "location = 'Xq7'",
                None,
                "f: there is no setting 'location'; the nearest is 'locations'",
            ),
            ("wibble = 1", None, "there are output, sources"),
            ("locations = [1]", None, "'locations' is not a list of strings"),
            ("output = true", None, "'output' is not a string"),
            ("a = 'Xq7\n", None, "line 1: "),
            (
                "registry-password = 'Xq7'",
                None,
                "is not kept in a file: set AZIMG_REGISTRY_PASSWORD",
            ),
            ("store = 'https://a.blob.core.windows.net/c?sig=Xq7'", None, "set AZIMG_STORE"),
            ("arm-endpoint = 'https://u:Xq7@a.example'", None, "set AZIMG_ARM_ENDPOINT"),
            ("store = './Xq7'", Some("/home/me/f"), "put it into /home/me/f, or set AZIMG_STORE"),
        ] {
            let error = of(text, own).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("Xq7"), "{error}");
        }
    }

    /// Adding a key means deciding whether an untrusted file may set it.
    #[test]
    fn a_folders_file_sets_what_is_looked_at_and_how_it_is_shown() {
        let both: Vec<&str> =
            KEYS.iter().filter(|key| key.by == FileScope::Both).map(|key| key.name).collect();
        assert_eq!(both, ["output", "sources", "locations", "publishers"]);
        for key in KEYS {
            let is_accepted = of(&format!("{} = 'x'", key.name), Some("own")).is_ok();
            assert_eq!(is_accepted, key.by == FileScope::Both, "{}", key.name);
        }
    }
}
