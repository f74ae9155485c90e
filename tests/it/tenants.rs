//! A tenant with more subscriptions than a message holds: what is planned arrives, in messages that fit, and
//! what the parts find makes one table.

use crate::support::galleries::rows;
use crate::support::threads;
use crate::tests;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::config::{Config, Flags};
use azimg::testing::error::Result;
use azimg::testing::functions::{App, Event, Function, Message, PUBLISH, Trigger, WORK};
use azimg::testing::sim::SimCredential;
use azimg::testing::work::{GalleryScope, Scope, SourceName, WorkItem};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;

tests![
    five_thousand_subscriptions_are_planned_in_messages_that_fit,
    galleries_shared_with_one_subscription_are_found_once,
];

/// `subscriptions`, of which nothing is known but galleries of others that are shared with some.
#[derive(Debug, Default)]
struct Tenant {
    subscriptions: usize,
    locations: Vec<String>,
    /// The name of a shared gallery, and the subscriptions that it is shared with; with none, with the tenant.
    shared: Vec<(String, Vec<String>)>,
    /// Whoever may not be asked for what is shared with it.
    denied: Mutex<BTreeSet<String>>,
    /// How often the content of a shared gallery was asked for.
    looked: Mutex<BTreeMap<String, u32>>,
}

fn id(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

impl Tenant {
    fn answer(&self, url: &url::Url) -> (u16, Value) {
        let path: Vec<String> = url.path().split('/').skip(1).map(str::to_lowercase).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let list = |value: Vec<Value>| (200, json!({"value": value}));
        match path[..] {
            ["subscriptions"] => {
                let all = (0..self.subscriptions).map(id);
                list(all.map(|id| json!({"subscriptionId": id, "state": "Enabled"})).collect())
            }
            [_, _, "locations"] => {
                list(self.locations.iter().map(|name| json!({"name": name})).collect())
            }
            [_, _, "providers", "microsoft.compute"] => (200, json!({"resourceTypes": []})),
            [_, _, "providers", _, "galleries" | "images" | "registries"] => list(Vec::new()),
            [_, subscription, "providers", _, "locations", _, "sharedgalleries"] => {
                if self.denied.lock().unwrap().contains(subscription) {
                    let error = json!({"code": "AuthorizationFailed", "message": "no"});
                    return (403, json!({"error": error}));
                }
                let tenant = url.query_pairs().any(|(name, _)| name == "sharedTo");
                let with_it = self.shared.iter().filter(|(_, with)| {
                    let with_tenant = with.is_empty();
                    if tenant { with_tenant } else { with.iter().any(|own| own == subscription) }
                });
                list(with_it.map(|(name, _)| json!({"name": name})).collect())
            }
            [.., "sharedgalleries", name, "images"] => {
                *self.looked.lock().unwrap().entry(name.to_owned()).or_default() += 1;
                let identifier = json!({"publisher": "p", "offer": "o", "sku": "s"});
                let properties = json!({"osType": "Linux", "osState": "Generalized",
                                        "identifier": identifier});
                list(vec![json!({"name": "ubuntu", "properties": properties})])
            }
            [.., "sharedgalleries", _, "images", _, "versions"] => {
                list(vec![json!({"name": "1.0.0", "properties": {}})])
            }
            _ => (404, json!({"error": {"code": "NotFound", "message": url.path()}})),
        }
    }
}

#[async_trait]
impl Wire for Tenant {
    async fn send(&self, request: &WireRequest, _: Option<HeaderValue>) -> Result<WireResponse> {
        let (status, body) = self.answer(&request.url);
        let status = StatusCode::from_u16(status).unwrap();
        Ok(WireResponse { status, headers: HeaderMap::new(), body: body.to_string().into() })
    }
}

fn app(tenant: &Arc<Tenant>, store: &Path, sources: &[SourceName]) -> Arc<App> {
    let store = Some(store.to_str().unwrap().into());
    let flags = Flags { store, sources: sources.to_vec(), ..Flags::default() };
    let no_communities = HashMap::from([("AZIMG_COMMUNITY_GALLERIES".into(), "none".into())]);
    let arm = "http://127.0.0.1:1".parse().unwrap();
    let config = Config::from(no_communities, flags).unwrap();
    let config = config.with_resource_manager(arm, Arc::new(SimCredential));
    config.with_wire(Arc::clone(tenant) as Arc<dyn Wire>).app().unwrap().0
}

async fn call(app: &App, name: &str, trigger: Trigger) -> Vec<Message> {
    let now = OffsetDateTime::now_utc();
    let event = Event { now, invocation: now.to_string(), trigger };
    let run = Function::named(name).unwrap().run.unwrap();
    let messages = run(app, event).await.unwrap().messages;
    assert!(messages.len() <= 3_000, "{name} sends {} messages at once", messages.len());
    for message in &messages {
        assert!(message.text.len() <= 48 << 10, "a message of {} bytes", message.text.len());
    }
    messages
}

async fn start(app: &App) -> Vec<Message> {
    call(app, "start", Trigger::Http { body: String::new() }).await
}

fn delivered(message: &Message) -> Trigger {
    Trigger::Queue { text: message.text.clone(), delivery: 1 }
}

/// Delivers everything that follows from `open`, until the run is published.
async fn to_the_end(app: &App, open: Vec<Message>) {
    let (mut work, mut closing): (VecDeque<_>, VecDeque<_>) =
        open.into_iter().partition(|message| message.queue == WORK);
    while let Some(message) = work.pop_front().or_else(|| closing.pop_front()) {
        let name = if message.queue == WORK { "crawl" } else { "publish" };
        for next in call(app, name, delivered(&message)).await {
            if next.queue == WORK { work.push_back(next) } else { closing.push_back(next) }
        }
    }
}

fn five_thousand_subscriptions_are_planned_in_messages_that_fit() {
    let locations: Vec<String> = (0..60).map(|n| format!("location{n}")).collect();
    let tenant = Tenant { subscriptions: 5_000, locations: locations.clone(), ..Tenant::default() };
    let folder = tempfile::tempdir().unwrap();
    let app = app(&Arc::new(tenant), folder.path(), &[]);
    let sent = threads(async {
        let mut sent: Vec<String> = Vec::new();
        let mut open = start(&app).await;
        while let Some(message) = open.pop() {
            let goes_on = message.text.contains("\"from\"");
            if message.queue == WORK {
                sent.push(message.text);
            } else if message.queue == PUBLISH && goes_on {
                open.extend(call(&app, "publish", delivered(&message)).await);
            }
        }
        sent
    });
    let items: Vec<WorkItem> = sent.iter().map(|text| WorkItem::parse(text).unwrap()).collect();
    let names: BTreeSet<_> = items.iter().map(|item| (item.source, item.item.as_str())).collect();
    assert_eq!(names.len(), items.len(), "an item was sent twice");
    // Each subscription's galleries and registries, each location's publishers.
    let shared = items.iter().filter_map(|item| match &item.scope {
        Scope::Gallery(GalleryScope::SharedIn { location, subscriptions, .. }) => {
            Some((location, subscriptions))
        }
        _ => None,
    });
    let parts = shared.clone().count();
    assert_eq!(items.len(), 5_000 + 5_000 + 60 + parts);
    let mut asked: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (location, subscriptions) in shared {
        asked.entry(location).or_default().extend(subscriptions);
    }
    let all: Vec<String> = (0..5_000).map(id).collect();
    assert_eq!(asked.len(), locations.len());
    for (location, mut subscriptions) in asked {
        subscriptions.sort();
        assert!(
            subscriptions.iter().copied().eq(&all),
            "{location} is not asked through each once"
        );
    }
}

fn galleries_shared_with_one_subscription_are_found_once() {
    let (first, last, other) = (id(3), id(590), id(99_999));
    // Of others: shared with the tenant, with one of each part, with both; and one of ours.
    let shared = vec![
        (format!("{other}-TENANT"), Vec::new()),
        (format!("{other}-FIRST"), vec![first.clone()]),
        (format!("{other}-LAST"), vec![last.clone()]),
        (format!("{other}-BOTH"), vec![first.clone(), last.clone()]),
        (format!("{last}-OURS"), vec![first.clone()]),
    ];
    let locations = vec!["eastus".to_owned()];
    let tenant = Tenant { subscriptions: 600, locations, shared, ..Tenant::default() };
    let (tenant, folder) = (Arc::new(tenant), tempfile::tempdir().unwrap());
    let run = || {
        let app = app(&tenant, folder.path(), &[SourceName::Gallery]);
        threads(async { to_the_end(&app, start(&app).await).await });
        let found = rows(folder.path()).into_iter();
        let versions = found.filter(|row| row["kind"] == "gallery-version");
        let name =
            |row: &Value| row["gallery"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
        versions.map(|row| (name(&row), row["stale"] == true)).collect::<BTreeMap<_, _>>()
    };
    let fresh = |names: &[&str]| -> BTreeMap<String, bool> {
        names.iter().map(|name| ((*name).to_owned(), false)).collect()
    };
    assert_eq!(run(), fresh(&["BOTH", "FIRST", "LAST", "TENANT"]));
    let looked = tenant.looked.lock().unwrap().clone();
    assert!(!looked.keys().any(|name| name.ends_with("-ours")), "{looked:?}");
    assert!(
        looked.iter().all(|(name, times)| *times == 1 || name.ends_with("-both")),
        "{looked:?}"
    );
    // One of the first part may not be asked: what was seen through it alone stays, and is said to be old.
    tenant.denied.lock().unwrap().insert(first.clone());
    let mut stale = fresh(&["BOTH", "LAST", "TENANT"]);
    stale.insert("FIRST".into(), true);
    assert_eq!(run(), stale);
    tenant.denied.lock().unwrap().clear();
    assert_eq!(run(), fresh(&["BOTH", "FIRST", "LAST", "TENANT"]));
}
