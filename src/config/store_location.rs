//! Location of runs and snapshots, parsed from `--store` or `AZIMG_STORE`.

use super::settings::HiddenValue;
use crate::error::{Error, Result};
use std::fmt;
use url::Url;

/// Location of runs and snapshots. Its `Display` contains no secret.
#[derive(Clone)]
pub(super) enum StoreLocation {
    /// The Azure storage emulator on this machine.
    Emulator,
    /// A folder, as it was named.
    Folder(String),
    /// A container in a storage account; the URL may contain a SAS.
    Container(Url, String),
}

const KNOWN: &str = "give a folder, https://ACCOUNT.blob.core.windows.net/CONTAINER, or azurite";

fn bad(why: &'static str) -> Error {
    // The input may be part of a connection string, or a misspelt URL with a SAS.
    Error::invalid(format!("the value of --store or AZIMG_STORE is not a store{why}: {KNOWN}"))
}

impl StoreLocation {
    /// Parses a location. A text that may be a URL, a SAS or a connection string is never read as a
    /// folder, since errors contain the folder's name.
    pub(super) fn read(text: &HiddenValue) -> Result<Self> {
        let text = text.open();
        if text == "azurite" {
            return Ok(Self::Emulator);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if may_sign(path) { Err(bad("")) } else { Ok(Self::Folder(path.to_owned())) };
        }
        if text.contains("://") {
            return Self::address(text);
        }
        let is_path = text.starts_with(['/', '.', '~']) && !text.starts_with("//");
        let first = text.split(['/', '\\']).next().unwrap_or_default();
        let may_be_address = text.contains(['?', '&', ';', '=', '@'])
            || text.starts_with("//")
            || [".blob.", ".dfs.", ".queue."].iter().any(|part| first.contains(part));
        if may_sign(text) || (may_be_address && !is_path) {
            return Err(bad(
                " (a URL begins with https://, and the name of such a folder with ./)",
            ));
        }
        Ok(Self::Folder(text.to_owned()))
    }

    fn address(text: &str) -> Result<Self> {
        let mut url = Url::parse(text).map_err(|_| bad(""))?;
        let container = url.path().trim_matches('/').to_owned();
        // Azure's rule for container names; anything else may be a SAS that lost its question mark.
        let named =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '$');
        let is_name = (1..=63).contains(&container.len()) && container.chars().all(named);
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.scheme() != "https" || !is_name || has_user || url.fragment().is_some() {
            return Err(bad(""));
        }
        url.set_path("/");
        Ok(Self::Container(url, container))
    }
}

/// Whether a text contains a credential for storage.
pub(super) fn may_sign(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["sig=", "sig%3d", "accountkey", "sharedaccess"].iter().any(|part| text.contains(part))
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulator => f.write_str("azurite"),
            Self::Folder(path) => f.write_str(path),
            Self::Container(url, container) => {
                write!(f, "https://{}/{container}", url.host_str().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StoreLocation> {
        StoreLocation::read(&HiddenValue::from(text))
    }

    #[test]
    fn stores_are_read_and_shown_without_their_signature() {
        for (text, shown) in [
            ("azurite", "azurite"),
            ("./azimg-data", "./azimg-data"),
            ("azimg-data", "azimg-data"),
            ("/srv/a=b?c", "/srv/a=b?c"),
            ("file:///srv/data", "/srv/data"),
            (
                "https://a.blob.core.windows.net/azimg?sv=1&sig=S",
                "https://a.blob.core.windows.net/azimg",
            ),
        ] {
            assert_eq!(read(text).map(|place| place.to_string()).unwrap(), shown);
        }
    }

    #[test]
    fn what_may_hold_a_secret_is_no_folder() {
        for text in [
            "a.blob.core.windows.net/azimg?sv=1&sig=S",
            "a.blob.core.windows.net/azimg",
            "//a.blob.core.windows.net/azimg?sv=1",
            "/azimg?sv=1&sig=S",
            "?sv=1&sig=S",
            "sv=1&se=S",
            "https:/a.blob.core.windows.net/azimg?sig=S",
            "AccountName=a;AccountKey=S",
            "DefaultEndpointsProtocol=https;AccountName=a",
            "BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=sv=1&sig=S",
            "https://me:S@a.blob.core.windows.net/azimg",
            "https://a.blob.core.windows.net/azimg#S",
            "https://a.blob.core.windows.net/sv=1&sig=S",
            "http://a.blob.core.windows.net/azimg?sig=S",
            "https://[S",
            "ftp://S/y",
            "file:///x?sig=S",
        ] {
            let refusal = read(text).err().map(|error| error.to_string());
            assert!(
                refusal.as_ref().is_some_and(|refusal| refusal.contains("is not a store")),
                "{refusal:?}"
            );
            assert!(refusal.is_some_and(|refusal| !refusal.contains(text)));
        }
    }
}
