//! Resource Graph: queries over all subscriptions, with paging; a result is complete or an error.
//!
//! A query projects `id` and ends with [`ORDER`]. Each page is requested as the rows after the last
//! id, so rows that are added or removed meanwhile shift no others: paging of a changing list
//! terminates, and every row that existed throughout is in the result. The service's count is
//! compared with the rows returned page by page, which detects lost rows.
//!
//! Kusto compares strings with `strcmp`; its `>` does not accept strings (Kusto.Language,
//! `Operators.cs`). Where `strcmp` is refused, or rows come in an order other than its own, the
//! service's skip token leads to the next page, which is reliable only while no rows move.

use super::Client;
use super::wire::WireRequest;
use super::{lenient, version};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Rows per page; the service returns no more.
const PAGE: usize = 1_000;
/// How many times a query whose rows change while they are paged is sent.
const ASKED_AGAIN: usize = 3;
/// Pages per query, at most. Callers split a query over more rows than that.
const MOST_PAGES: usize = 400;
/// Subscriptions per request: Microsoft advises 300 (azure-rest §5).
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

/// The end of every paged query.
const ORDER: &str = " | order by id asc";

/// The rows of one request.
enum PageRows<T> {
    Whole(Vec<T>),
    TooMany,
    /// Their count or order changed during paging.
    Changed,
}

/// Where a page begins.
#[derive(Debug, Clone)]
enum PageStart {
    Beginning,
    /// After the row with this id.
    After(String),
    /// At the service's skip token.
    Token(String),
}

/// The rows collected so far.
struct Rows<T> {
    rows: Vec<T>,
    /// Row ids in lower case.
    seen: HashSet<String>,
}

impl<T: DeserializeOwned> Rows<T> {
    /// Adds the rows of a page that are not there yet. Returns how many were new, and whether all
    /// of the page were.
    fn take(&mut self, data: &[Value]) -> Result<(usize, bool)> {
        let before = self.rows.len();
        for row in data {
            let id = row["id"].as_str().ok_or_else(|| lost("a row has no id"))?;
            if !self.seen.insert(id.to_ascii_lowercase()) {
                continue;
            }
            let (row, malformed) = lenient::of_value(row)
                .map_err(|e| Error::transient(format!("Resource Graph: unexpected row ({e})")))?;
            lenient::log_malformed("Resource Graph", &malformed);
            self.rows.push(row);
        }
        let new = self.rows.len() - before;
        Ok((new, new == data.len()))
    }
}

impl Page {
    fn is_truncated(&self) -> bool {
        match &self.result_truncated {
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            Some(Value::Bool(truncated)) => *truncated,
            _ => false,
        }
    }

    fn token(&self) -> Option<&String> {
        self.skip_token.as_ref().filter(|next| !next.is_empty())
    }

    /// The last id, if the rows are in `strcmp` order.
    fn last(&self) -> Option<&str> {
        let ids = || self.data.iter().map(|row| row["id"].as_str().unwrap_or_default());
        ids().is_sorted().then(|| ids().next_back()).flatten()
    }
}

/// The query for the rows after `id`.
fn query_after(query: &str, id: &str) -> Option<String> {
    let head = query.strip_suffix(ORDER)?;
    Some(format!("{head} | where strcmp(id, {}) > 0{ORDER}", quoted(id)))
}

fn lost(why: &str) -> Error {
    Error::bad_answer(format!("Resource Graph: incomplete result: {why}"))
}

/// Quotes text as a string literal of a query.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Client {
    /// Runs a query over `subscriptions`, or over everything that the identity can read if there
    /// are none. An incomplete result is an error.
    pub async fn graph<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: &[String],
    ) -> Result<Vec<T>> {
        let rows = self.graph_within(query, subscriptions, u64::MAX).await?;
        rows.ok_or_else(|| Error::bug("a query without a row limit exceeded it"))
    }

    /// Like [`Client::graph`], but `None` if one request has more than `most` rows.
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
            match self.all_rows(query, part, most).await? {
                Some(mut found) => rows.append(&mut found),
                None => return Ok(None),
            }
        }
        Ok(Some(rows))
    }

    /// All rows of one request. Pages of skip tokens are cut by row number: when the count differs
    /// on a later page (recorded: 2,995, then 2,994) or a row appears twice, rows have moved
    /// between pages, and the query is sent again.
    async fn all_rows<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        most: u64,
    ) -> Result<Option<Vec<T>>> {
        for _ in 0..ASKED_AGAIN {
            match self.pages(query, subscriptions, most).await? {
                PageRows::Whole(rows) => return Ok(Some(rows)),
                PageRows::TooMany => return Ok(None),
                PageRows::Changed => tracing::debug!(
                    "Resource Graph: the rows changed between pages; the query is repeated"
                ),
            }
        }
        Err(lost("the rows keep changing between pages"))
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        most: u64,
    ) -> Result<PageRows<T>> {
        let Some((page, mut all)) = self.first_page(query, subscriptions).await? else {
            return Ok(PageRows::Changed);
        };
        if page.total_records > most {
            return Ok(PageRows::TooMany);
        }
        let is_ordered = query.ends_with(ORDER) && page.last().is_some();
        if !is_ordered || all.rows.len() as u64 == page.total_records {
            return self.by_token(query, subscriptions, page, all).await;
        }
        let token = page.token().cloned();
        match self.rows_after(query, subscriptions, page, &mut all).await {
            // The clause may be unsupported here: start over, paging by skip tokens.
            Err(error) if error.kind() == ErrorKind::BadAnswer && token.is_some() => {
                tracing::debug!(%error, "Resource Graph: falling back to skip tokens for paging");
            }
            result => return result.map(|()| PageRows::Whole(all.rows)),
        }
        match self.first_page(query, subscriptions).await? {
            Some((page, all)) => self.by_token(query, subscriptions, page, all).await,
            None => Ok(PageRows::Changed),
        }
    }

    /// The first page and its rows; `None` when it contains a row twice.
    async fn first_page<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
    ) -> Result<Option<(Page, Rows<T>)>> {
        let page = self.page(query, subscriptions, &PageStart::Beginning).await?;
        let mut all = Rows { rows: Vec::new(), seen: HashSet::new() };
        let (_, all_new) = all.take(&page.data)?;
        Ok(all_new.then_some((page, all)))
    }

    /// Pages on from the first page, each time after the last row. Each page's count is that of the
    /// rows left.
    async fn rows_after<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        mut page: Page,
        all: &mut Rows<T>,
    ) -> Result<()> {
        for _ in 1..MOST_PAGES {
            if page.data.len() as u64 >= page.total_records {
                return if page.is_truncated() {
                    Err(lost("a response was truncated"))
                } else {
                    Ok(())
                };
            }
            let Some(last) = page.last().map(str::to_owned) else {
                return Err(lost("fewer rows than totalRecords, or the rows are not sorted"));
            };
            page = self.page(query, subscriptions, &PageStart::After(last)).await?;
            let (new, _) = all.take(&page.data)?;
            if new == 0 && page.total_records > 0 {
                return Err(lost("fewer rows than totalRecords"));
            }
        }
        Err(lost("too many pages"))
    }

    /// Pages on from the first page by the service's skip tokens.
    async fn by_token<T: DeserializeOwned>(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        mut page: Page,
        mut all: Rows<T>,
    ) -> Result<PageRows<T>> {
        let counted = page.total_records;
        let mut before = None;
        for _ in 1..MOST_PAGES {
            let Some(next) = page.token().cloned() else {
                return match all.rows.len() as u64 {
                    _ if page.is_truncated() => Err(lost("a response was truncated")),
                    rows if rows < counted => Err(lost("fewer rows than totalRecords")),
                    _ => Ok(PageRows::Whole(all.rows)),
                };
            };
            if before.replace(next.clone()).is_some_and(|before| before == next) {
                return Err(lost("a skip token repeats"));
            }
            page = self.page(query, subscriptions, &PageStart::Token(next)).await?;
            if page.total_records != counted || !all.take(&page.data)?.1 {
                return Ok(PageRows::Changed);
            }
        }
        Err(lost("too many pages"))
    }

    async fn page(
        &self,
        query: &str,
        subscriptions: Option<&[String]>,
        from: &PageStart,
    ) -> Result<Page> {
        let path = ["providers", "Microsoft.ResourceGraph", "resources"];
        let mut options = json!({"$top": PAGE, "resultFormat": "objectArray"});
        if let PageStart::Token(token) = from {
            options["$skipToken"] = token.as_str().into();
        }
        let after = match from {
            PageStart::After(id) => query_after(query, id),
            PageStart::Beginning | PageStart::Token(_) => None,
        };
        let query = after.as_deref().unwrap_or(query);
        let mut body = json!({"query": query, "options": options});
        if let Some(subscriptions) = subscriptions {
            body["subscriptions"] = json!(subscriptions);
        }
        let url = self.url(&path, &[version::RESOURCE_GRAPH.parameter()])?;
        let body = Some(Bytes::from(body.to_string()));
        self.ask(&WireRequest { body, ..WireRequest::new(Method::POST, url) }).await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn query_text_is_escaped_within_its_quotes() {
        assert_eq!(super::quoted(r"a' or '1'=='1\"), r"'a\' or \'1\'==\'1\\'");
    }
}
