//! Lists of `{value, nextLink}`: followed verbatim, within the origin, to a bound.

use super::Client;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use url::Url;

/// More pages than any real list has; a server that goes on for ever is stopped here.
const MOST_PAGES: usize = 2_000;

#[derive(Deserialize)]
struct Page<T> {
    // Required: an answer of another shape must not pass for an empty list.
    value: Vec<T>,
    #[serde(rename = "nextLink", default)]
    next_link: Option<String>,
}

impl Client {
    /// GETs a paged list to its end. A link to another origin, a link that came before and a list
    /// without end are errors: a list is whole or it is none.
    pub async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let mut url = self.url(segments, query)?;
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..MOST_PAGES {
            let page: Page<T> = self.get_url(&url).await?;
            all.extend(page.value);
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else {
                return Ok(all);
            };
            if !seen.insert(link.clone()) {
                return Err(Error::invalid(format!("GET {}: its pages go round", url.path())));
            }
            url = Url::parse(&link)
                .map_err(|_| Error::invalid(format!("GET {}: a bad nextLink", url.path())))?;
        }
        Err(Error::invalid(format!("GET {}: more than {MOST_PAGES} pages", url.path())))
    }
}
