//! Resource Graph: one query over all subscriptions, paged, whole or known not to be.
//!
//! A query must project `id` and be ordered by it, or its pages cannot be continued. What the
//! service counts and what it hands out are compared: rows that are lost on the way are noticed.

use super::Client;
use super::wire::Outgoing;
use super::{lenient, version};
use crate::error::{Error, Result};
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Rows of a page; the service hands out no more.
const PAGE: usize = 1_000;
/// A query whose rows change while they are handed out is asked again so often.
const ASKED_AGAIN: usize = 3;
/// A query over more rows than this is split by whoever asks it.
const MOST_PAGES: usize = 400;
/// Subscriptions of one request: Microsoft advises 300 (azure-rest §5).
const SUBSCRIPTIONS: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    total_records: u64,
    data: Vec<Value>,
    /// A string: "true" or "false".
    #[serde(default)]
    result_truncated: Option<Value>,
    #[serde(rename = "$skipToken", default)]
    skip_token: Option<String>,
}

/// The pages of one request.
enum Paged<T> {
    Whole(Vec<T>),
    TooMany,
    /// Their count or their order changed on the way.
    Changed,
}

fn lost(why: &str) -> Error {
    Error::invalid(format!("Resource Graph: {why}: rows are missing"))
}

/// Text as it stands within single quotes in a query.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Client {
    /// Asks a query of `subscriptions`; of everything that the identity can read when there are none.
    /// An error when the answer is not whole.
    pub async fn graph<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: &[String],
    ) -> Result<Vec<T>> {
        let rows = self.graph_within(query, subscriptions, u64::MAX).await?;
        rows.ok_or_else(|| Error::bug("no query has that many rows"))
    }

    /// The same, unless there are more than `most` rows of one request: none then.
    pub async fn graph_within<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: &[String],
        most: u64,
    ) -> Result<Option<Vec<T>>> {
        let mut rows = Vec::new();
        let parts: Vec<Option<&[String]>> = match subscriptions {
            [] => vec![None],
            all => all.chunks(SUBSCRIPTIONS).map(Some).collect(),
        };
        for part in parts {
            match self.whole(query, part, most).await? {
                Some(mut found) => rows.append(&mut found),
                None => return Ok(None),
            }
        }
        Ok(Some(rows))
    }

    /// All pages of one request. When the count is another on a later page (recorded: 2,995, then
    /// 2,994), or a row comes twice, rows have moved between pages, and one may be lost: it is asked
    /// again.
    async fn whole<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        most: u64,
    ) -> Result<Option<Vec<T>>> {
        for _ in 0..ASKED_AGAIN {
            match self.pages(query, subscriptions, most).await? {
                Paged::Whole(rows) => return Ok(Some(rows)),
                Paged::TooMany => return Ok(None),
                Paged::Changed => tracing::debug!("the rows of Resource Graph have moved"),
            }
        }
        Err(lost("its rows change from page to page"))
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        most: u64,
    ) -> Result<Paged<T>> {
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let mut counted = None;
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = self.page(query, subscriptions, token.as_deref()).await?;
            if page.total_records > most {
                return Ok(Paged::TooMany);
            }
            if *counted.get_or_insert(page.total_records) != page.total_records {
                return Ok(Paged::Changed);
            }
            let total = usize::try_from(page.total_records).unwrap_or(usize::MAX);
            for row in page.data {
                let id = row["id"].as_str().ok_or_else(|| lost("a row has no id"))?;
                if !seen.insert(id.to_ascii_lowercase()) {
                    return Ok(Paged::Changed);
                }
                let (row, malformed) = lenient::of_value(&row).map_err(|e| {
                    Error::transient(format!("Resource Graph: not the row that was expected ({e})"))
                })?;
                lenient::tell("Resource Graph", &malformed);
                rows.push(row);
            }
            let truncated = match page.result_truncated {
                Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
                Some(Value::Bool(truncated)) => truncated,
                _ => false,
            };
            match page.skip_token.filter(|next| !next.is_empty()) {
                None if truncated => return Err(lost("an answer was cut")),
                None if rows.len() < total => return Err(lost("fewer rows came than it counts")),
                None => return Ok(Paged::Whole(rows)),
                Some(next) if token.as_ref() == Some(&next) => {
                    return Err(lost("its pages go round"));
                }
                Some(next) => token = Some(next),
            }
        }
        Err(lost("an answer goes on and on"))
    }

    async fn page(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        token: Option<&str>,
    ) -> Result<Page> {
        let path = ["providers", "Microsoft.ResourceGraph", "resources"];
        let mut options = json!({"$top": PAGE, "resultFormat": "objectArray"});
        if let Some(token) = token {
            options["$skipToken"] = token.into();
        }
        let mut body = json!({"query": query, "options": options});
        if let Some(subscriptions) = subscriptions {
            body["subscriptions"] = json!(subscriptions);
        }
        let url = self.url(&path, &[version::RESOURCE_GRAPH.parameter()])?;
        let body = Some(Bytes::from(body.to_string()));
        self.ask(&Outgoing { body, ..Outgoing::new(Method::POST, url) }).await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_stays_within_its_quotes() {
        assert_eq!(super::quoted(r"a' or '1'=='1\"), r"'a\' or \'1\'==\'1\\'");
    }
}
