//! Resource Graph: whole, or known not to be.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::galleries::{TENANT, crawl, rows, start, tenant};
use crate::support::{finish, paused, timeless};
use crate::tests;
use azimg::testing::client::{Client, Tokens, Wire, WireRequest, WireResponse};
use azimg::testing::error::{Error, Result};
use azimg::testing::sim::{Conditions, OrganisationSize, Sim, SimCredential};
use azimg::testing::source::gallery::{Communities, Gallery};
use azimg::testing::source::{Crawled, Invocation, PreviousFindings, Source};
use azimg::testing::work::{Details, GalleryScope, RunId, Scope, SourceName, State, WorkItem};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

tests![
    the_provider_is_queried_where_resource_graph_falls_short,
    at_the_last_delivery_the_provider_stands_in_for_resource_graph,
    a_repeated_row_does_not_hide_a_missing_one,
    a_list_that_keeps_changing_includes_every_row_that_stayed,
    skip_tokens_page_where_text_comparison_is_refused,
];

/// Resource Graph that is cut, short of rows, empty or refused: the provider is asked.
fn the_provider_is_queried_where_resource_graph_falls_short() {
    let size = OrganisationSize { communities: 0, ..TENANT };
    let whole = tempfile::tempdir().unwrap();
    crawl(&start(tenant(size), 6), whole.path(), &[]);
    let whole = timeless(rows(whole.path()));
    assert!(whole.len() > 1_600);
    for lie in [
        r#"{"totalRecords":0,"count":0,"data":[],"facets":[],"resultTruncated":"false"}"#,
        r#"{"totalRecords":9,"count":0,"data":[],"facets":[],"resultTruncated":"false"}"#,
        r#"{"totalRecords":0,"count":0,"data":[],"facets":[],"resultTruncated":"true"}"#,
        r#"{"totalRecords":9,"count":0,"data":[],"facets":[],"resultTruncated":"true","$skipToken":"x"}"#,
    ] {
        let azure = start(tenant(size), 6);
        let faults = vec![Fault::new("resourcegraph", usize::MAX, How::Answer(200, &[], lie))];
        let faulty = Faulty::start(azure, faults);
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let arguments = ["crawl", "--source", "gallery", "--store", store, "-o", "json"];
        let (_, _, stderr) = finish(&mut faulty.azimg(&arguments));
        assert!(faulty.met(0) > 0);
        assert_eq!(timeless(rows(folder.path())), whole, "{lie} {stderr}");
    }
}

/// A wire on which Resource Graph never answers.
#[derive(Debug)]
struct NoGraph(crate::support::fleet::Direct);

#[async_trait::async_trait]
impl Wire for NoGraph {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        if request.url.path().contains("ResourceGraph") {
            return Err(Error::transient("the connection broke"));
        }
        self.0.send(request, authorized).await
    }
}

fn at_the_last_delivery_the_provider_stands_in_for_resource_graph() {
    let sim = Sim::new(tenant(OrganisationSize::FEW), Conditions::default());
    let gallery = sim.organisation().galleries.values().next().unwrap().clone();
    let count = gallery.definitions.values().map(|d| 1 + d.versions.len()).sum::<usize>();
    let own = azimg::testing::source::gallery::parse::own_gallery(&gallery.id()).unwrap();
    let latency = Duration::from_millis(10);
    let wire = NoGraph(crate::support::fleet::Direct { sim, latency, random: None });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let credential = Tokens::of(SimCredential);
    let client = Client::over(Arc::new(wire), endpoint, "s".into(), vec![credential]).unwrap();
    let source = Gallery::new(client, Communities::Named(Vec::new()));
    let scope = GalleryScope::Gallery {
        own,
        definitions: Vec::new(),
        details: Details::None,
        provider: false,
        sharing: None,
        public_names: Vec::new(),
    };
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let item = WorkItem::new(RunId::new(now), SourceName::Gallery, Scope::Gallery(scope));
    paused(async {
        let until = tokio::time::Instant::now() + Duration::from_mins(5);
        let effort = |last| Invocation { until, last, delivery: 1, now };
        let first = source.crawl(&item, &effort(false), &PreviousFindings::default()).await;
        assert!(first.unwrap_err().is_transient());
        let last = source.crawl(&item, &effort(true), &PreviousFindings::default()).await.unwrap();
        let Crawled::Ended(outcome, rows) = last else { panic!("put off") };
        assert_eq!((outcome.state, rows.len()), (State::Done, count));
    });
}

/// A Resource Graph that hands out these pages in turn, over and over.
#[derive(Debug)]
struct Pages(Vec<Value>, AtomicUsize);

#[async_trait::async_trait]
impl Wire for Pages {
    async fn send(&self, _: &WireRequest, _: Option<HeaderValue>) -> Result<WireResponse> {
        let number = self.1.fetch_add(1, Ordering::SeqCst);
        let body = self.0[number % self.0.len()].to_string().into();
        Ok(WireResponse { status: reqwest::StatusCode::OK, headers: HeaderMap::new(), body })
    }
}

/// Machines of which one vanishes and one comes with each request.
#[derive(Debug)]
struct Moving {
    ids: Mutex<Vec<String>>,
    requests: AtomicUsize,
    /// Whether a comparison of texts is refused.
    is_old: bool,
    /// Whether anything moves.
    moves: bool,
}

impl Moving {
    fn new(count: usize) -> Self {
        let ids = (0..count).map(|number| format!("/m/{number:05}")).collect();
        Self { ids: Mutex::new(ids), requests: AtomicUsize::new(0), is_old: false, moves: true }
    }
}

#[async_trait::async_trait]
impl Wire for Moving {
    async fn send(&self, request: &WireRequest, _: Option<HeaderValue>) -> Result<WireResponse> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let body: Value = serde_json::from_slice(request.body.as_ref().unwrap()).unwrap();
        let query = body["query"].as_str().unwrap();
        let behind =
            query.split_once("strcmp(id, '").map(|(_, rest)| rest.split_once('\'').unwrap().0);
        let answer = |status, body: Value| WireResponse {
            status: reqwest::StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
        };
        if behind.is_some() && self.is_old {
            return Ok(answer(400, json!({"error": {"code": "BadRequest", "message": "no"}})));
        }
        let mut ids = self.ids.lock().unwrap();
        if self.moves {
            // One of the first page, so that whoever counts pages by number loses another one.
            ids.remove(10);
            ids.push(format!("/n/{number:05}"));
        }
        let token = body["options"]["$skipToken"].as_str().map_or(0, |at| at.parse().unwrap());
        let left = ids.iter().filter(|id| behind.is_none_or(|behind| id.as_str() > behind));
        let left: Vec<&String> = left.collect();
        let page = left.iter().skip(token).take(1_000).map(|id| json!({"id": id}));
        let data: Vec<Value> = page.collect();
        let next = (token + 1_000 < left.len()).then(|| (token + 1_000).to_string());
        Ok(answer(
            200,
            json!({"totalRecords": left.len(), "count": data.len(), "data": data,
            "resultTruncated": "false", "$skipToken": next}),
        ))
    }
}

fn ask_moving(moving: &Arc<Moving>) -> Vec<String> {
    let over = Arc::clone(moving) as Arc<dyn Wire>;
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::over(over, endpoint, "s".into(), vec![Tokens::of(SimCredential)]).unwrap();
    let query = "resources | project id | order by id asc";
    let rows = paused(async { client.graph::<Value>(query, &[]).await }).unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn a_list_that_keeps_changing_includes_every_row_that_stayed() {
    let moving = Arc::new(Moving::new(9_000));
    let before = moving.ids.lock().unwrap().clone();
    let rows = ask_moving(&moving);
    assert_eq!(moving.requests.load(Ordering::SeqCst), 10, "nothing is asked again");
    let found: std::collections::HashSet<&String> = rows.iter().collect();
    assert_eq!(found.len(), rows.len(), "none comes twice");
    let after = moving.ids.lock().unwrap().clone();
    let stayed = before.iter().filter(|id| after.contains(id));
    let lost: Vec<&String> = stayed.filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

fn skip_tokens_page_where_text_comparison_is_refused() {
    let moving = Moving { is_old: true, moves: false, ..Moving::new(2_500) };
    let moving = Arc::new(moving);
    assert_eq!(ask_moving(&moving), *moving.ids.lock().unwrap());
    // The first page, a clause that is refused, and three pages by token.
    assert_eq!(moving.requests.load(Ordering::SeqCst), 5);
}

fn page(total: usize, names: &[&str], next: Option<&str>) -> Value {
    let data: Vec<Value> = names.iter().map(|name| json!({"id": name, "name": name})).collect();
    json!({"totalRecords": total, "count": data.len(), "data": data, "resultTruncated": "false",
        "$skipToken": next})
}

/// Asks for all rows of `pages`: what came of it, and the requests that it took.
fn ask(pages: Vec<Value>) -> (Result<Vec<Value>>, usize) {
    let wire = Arc::new(Pages(pages, AtomicUsize::new(0)));
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let over = Arc::clone(&wire) as Arc<dyn Wire>;
    let client = Client::over(over, endpoint, "s".into(), vec![Tokens::of(SimCredential)]).unwrap();
    let rows = paused(async { client.graph::<Value>("resources", &[]).await });
    (rows, wire.1.load(Ordering::SeqCst))
}

/// The count is right, and yet a row is missing: one that moved over the edge of a page comes twice.
fn a_repeated_row_does_not_hide_a_missing_one() {
    let moved = || vec![page(3, &["/a", "/b"], Some("2")), page(3, &["/B"], None)];
    let whole = || vec![page(3, &["/a", "/b"], Some("2")), page(3, &["/c"], None)];
    let (rows, requests) = ask([moved(), whole()].concat());
    assert_eq!(rows.unwrap().len(), 3, "the second time it is whole");
    assert_eq!(requests, 4);
    let (rows, requests) = ask(moved());
    assert!(rows.unwrap_err().to_string().contains("incomplete result"));
    assert_eq!(requests, 6, "it is asked three times");
    let (rows, _) = ask(vec![json!({"totalRecords": 1, "data": [{"name": "no id"}]})]);
    assert!(rows.unwrap_err().to_string().contains("no id"));
}
