//! Paged lists, `{value, nextLink}`: links are followed verbatim, within the origin, up to a bound.

use super::{Client, WireRequest};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use url::Url;

/// More pages than any real list has; bounds a server that sends links without end.
const MOST_PAGES: usize = 2_000;
/// Bounds of one list: more rows, or more response bytes, are an error.
const MOST_ROWS: usize = 500_000;
const MOST_BYTES: usize = 256 << 20;

#[derive(Deserialize)]
struct Page<T> {
    // Required: a response of another form must not be read as an empty list.
    value: Vec<T>,
    #[serde(rename = "nextLink", default)]
    next_link: Option<String>,
}

impl Client {
    /// GETs all pages of a list. A link to another origin, a repeated link and a list without end
    /// are errors: a partial list is never returned.
    pub async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let mut url = self.url(segments, query)?;
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for _ in 0..MOST_PAGES {
            let (page, size) = self.ask_sized::<Page<T>>(&WireRequest::get(url.clone())).await?;
            bytes += size;
            if all.len() + page.value.len() > MOST_ROWS || bytes > MOST_BYTES {
                let (path, most) = (url.path(), MOST_BYTES >> 20);
                let text = format!("GET {path}: the list exceeds {MOST_ROWS} rows or {most} MiB");
                return Err(Error::bad_answer(text));
            }
            all.extend(page.value);
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else {
                return Ok(all);
            };
            if !seen.insert(link.clone()) {
                return Err(Error::bad_answer(format!("GET {}: a nextLink repeats", url.path())));
            }
            url = Url::parse(&link)
                .map_err(|_| Error::bad_answer(format!("GET {}: invalid nextLink", url.path())))?;
        }
        Err(Error::bad_answer(format!("GET {}: the list exceeds {MOST_PAGES} pages", url.path())))
    }
}
