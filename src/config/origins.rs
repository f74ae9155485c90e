//! The CORS origins that may call the embedded host from a browser.

use super::{Config, PlainSetting};
use crate::error::{Error, Result};
use url::{Origin, Url};

impl Config {
    /// The origins in `AZIMG_CORS_ORIGINS`; empty if it is not set.
    pub fn cors_origins(&self) -> Result<Vec<Origin>> {
        super::words(self.variable(PlainSetting::CORS_ORIGINS).unwrap_or_default())
            .iter()
            .map(|text| origin(text))
            .collect()
    }
}

/// Parses an origin as a browser writes it: scheme, host and port, and nothing after them. `*`
/// (everybody) and `null` (an opaque origin, which any page can have) are refused.
fn origin(text: &str) -> Result<Origin> {
    let bad = || {
        Error::invalid(format!(
            "AZIMG_CORS_ORIGINS: '{}' is not an origin: write it as a browser does, such as \
             https://portal.example.com or http://localhost:8080",
            text.escape_debug()
        ))
    };
    let url = Url::parse(text).map_err(|_| bad())?;
    let origin = url.origin();
    let is_web = matches!(url.scheme(), "http" | "https") && !text.contains('*');
    // Anything beyond an origin, such as a path, would be ignored silently.
    let written = text.to_ascii_lowercase();
    let is_all = written == origin.ascii_serialization()
        || Some(written.as_str()) == with_port(&url).as_deref();
    if is_web && is_all { Ok(origin) } else { Err(bad()) }
}

/// The origin with the default port, which browsers omit.
fn with_port(url: &Url) -> Option<String> {
    Some(format!("{}://{}:{}", url.scheme(), url.host_str()?, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_says() {
        for (text, is) in [
            ("https://portal.example.com", "https://portal.example.com"),
            ("HTTPS://Portal.example.com:443", "https://portal.example.com"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            let origin = origin(text).map(|origin| origin.ascii_serialization());
            assert_eq!(origin.ok().as_deref(), Some(is), "{text}");
        }
        for text in [
            "*",
            "null",
            "https://*.example.com",
            "https://portal.example.com/",
            "https://portal.example.com/path",
            "https://user@portal.example.com",
            "https://portal.example.com?x",
            "https://portal.example.com#x",
            "portal.example.com",
            "file:///etc",
            "data:text/html,x",
            "ftp://portal.example.com",
            "https://",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
