//! What a run asks through which subscription, and what becomes of those that cannot be asked, of entries without
//! a name, and of states that cannot be read.

use crate::support::fleet::{self, call};
use crate::support::paused;
use crate::tests;
use async_trait::async_trait;
use azimg::client::{Wire, WireRequest, WireResponse};
use azimg::error::{Error, ErrorKind, Result};
use azimg::functions::{self, App, PUBLISH, Trigger, WORK};
use azimg::pipeline::snapshot::{self, Completeness};
use azimg::store::Store;
use azimg::store::memory::MemoryStore;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;

tests![
    what_one_subscription_may_not_list_is_asked_through_another,
    where_nobody_has_the_provider_it_is_said_how_to_register_it,
    a_disabled_subscription_is_named_and_loses_nothing_in_silence,
    a_version_of_the_api_that_is_not_offered_is_replaced_once_for_each_kind,
    an_entry_without_a_name_costs_itself,
    a_state_that_cannot_be_read_is_unknown_and_never_the_latest,
    a_run_that_is_gone_on_with_without_a_sign_in_denies_nothing,
];

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";

/// What is answered instead of what is there, by the request's path and query.
type Instead = Box<dyn Fn(&str) -> Option<(u16, Value)> + Send + Sync>;

/// A small Azure: two locations with twelve publishers, and a gallery in each subscription.
struct Arm {
    instead: Mutex<Instead>,
    asked: Mutex<Vec<String>>,
    /// Whether nobody is signed in.
    is_signed_out: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arm")
    }
}

fn refused(code: &str, text: &str) -> Value {
    json!({"error": {"code": code, "message": text}})
}

fn publishers() -> Vec<Value> {
    (0..12).map(|number| json!({"name": format!("pub{number:02}")})).collect()
}

fn versions() -> Vec<Value> {
    let version = |name: &str| json!({"name": name, "properties": {"imageDeprecationStatus": {"imageState": "Active"}}});
    vec![version("1.0.0"), version("2.0.0")]
}

fn subscriptions(second: &str) -> Value {
    json!({"value": [{"subscriptionId": ONE, "state": "Enabled"},
                     {"subscriptionId": TWO, "state": second}]})
}

fn locations() -> Value {
    let of = |name: &str| json!({"name": name, "metadata": {"regionType": "Physical"}});
    json!({"value": [of("eastus"), of("westus")]})
}

impl Arm {
    fn new() -> Arc<Self> {
        let none: Instead = Box::new(|_| None);
        Arc::new(Self {
            instead: Mutex::new(none),
            asked: Mutex::default(),
            is_signed_out: false.into(),
        })
    }

    fn instead(&self, how: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) {
        *self.instead.lock().unwrap() = Box::new(how);
        self.asked.lock().unwrap().clear();
    }

    fn times(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }

    fn answer(path: &[&str]) -> (u16, Value) {
        let gallery = |subscription: &str| {
            format!(
                "/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g"
            )
        };
        let properties =
            json!({"osType": "Linux", "osState": "Generalized", "provisioningState": "Succeeded"});
        match path {
            ["subscriptions"] => (200, subscriptions("Enabled")),
            [_, _, "locations"] => (200, locations()),
            [_, _, "providers", "microsoft.compute"] => (200, json!({"resourceTypes": []})),
            [.., "publishers"] => (200, publishers().into()),
            [.., "offers"] => (200, json!([{"name": "o"}])),
            [.., "skus"] => (200, json!([{"name": "s"}])),
            [.., "skus", _, "versions"] => (200, versions().into()),
            [.., "skus", _, "versions", name] => {
                let disk = json!({"operatingSystem": "Linux"});
                (200, json!({"name": name, "properties": {"osDiskImage": disk}}))
            }
            [_, id, "providers", _, "galleries"] => {
                (200, json!({"value": [{"id": gallery(id), "name": "g", "properties": {}}]}))
            }
            [_, _, _, _, _, _, "galleries", _] => {
                (200, json!({"id": "g", "name": "g", "properties": {}}))
            }
            [.., "galleries", _, "images"] => {
                (200, json!({"value": [{"name": "d", "properties": properties}]}))
            }
            [.., "galleries", _, "images", _, "versions"] => {
                (200, json!({"value": [{"name": "1.0.0", "properties": properties}]}))
            }
            [.., "versions", name] => (200, json!({"name": name, "properties": properties})),
            [.., "microsoft.resourcegraph", _] => (
                200,
                json!({"totalRecords": 0, "count": 0, "data": [], "resultTruncated": "false"}),
            ),
            [.., "images" | "sharedgalleries" | "registries"] => (200, json!({"value": []})),
            _ => (404, refused("NotFound", &path.join("/"))),
        }
    }
}

#[async_trait]
impl Wire for Arm {
    async fn send(&self, request: &WireRequest, _: Option<HeaderValue>) -> Result<WireResponse> {
        if self.is_signed_out.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::SignedOut, "nobody is signed in"));
        }
        let url = &request.url;
        let name = format!("{}?{}", url.path(), url.query().unwrap_or_default()).to_lowercase();
        self.asked.lock().unwrap().push(name.clone());
        let instead = (self.instead.lock().unwrap())(&name);
        let path = url.path().trim_matches('/').to_lowercase();
        let (status, body) =
            instead.unwrap_or_else(|| Self::answer(&path.split('/').collect::<Vec<_>>()));
        let status = StatusCode::from_u16(status).unwrap();
        Ok(WireResponse { status, headers: HeaderMap::new(), body: body.to_string().into() })
    }
}

/// Runs of one store.
struct Tenant {
    arm: Arc<Arm>,
    store: Arc<MemoryStore>,
    runs: AtomicUsize,
}

/// A snapshot, as its files say it.
struct Found {
    state: Completeness,
    rows: Vec<Value>,
    lines: Vec<Value>,
}

impl Found {
    fn of(&self, kind: &str) -> Vec<&Value> {
        self.rows.iter().filter(|row| row["kind"] == kind).collect()
    }

    fn stale(&self, kind: &str) -> usize {
        self.of(kind).iter().filter(|row| row["stale"] == true).count()
    }

    /// The lines that are not done, or say why.
    fn told(&self) -> Vec<String> {
        let lines = self
            .lines
            .iter()
            .filter(|line| line["state"] != "done" || line["reason"] != Value::Null);
        let lines = lines.filter(|line| line["state"] != "empty" || line["reason"] != Value::Null);
        lines.map(ToString::to_string).collect()
    }
}

impl Tenant {
    fn new() -> Self {
        Self { arm: Arm::new(), store: Arc::default(), runs: AtomicUsize::new(0) }
    }

    fn app(&self) -> App {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        fleet::app(Arc::clone(&self.arm) as Arc<dyn Wire>, store, "http://127.0.0.1:1")
    }

    fn now(&self) -> OffsetDateTime {
        let number = i64::try_from(self.runs.fetch_add(1, Ordering::SeqCst)).unwrap();
        OffsetDateTime::from_unix_timestamp(1_795_000_000 + number * 86_400).unwrap()
    }

    /// A run of marketplace and galleries.
    fn run(&self) -> Found {
        paused(async {
            let (app, now) = (self.app(), self.now());
            let body = r#"{"sources": ["marketplace", "gallery"], "full": true}"#.to_owned();
            fleet::run(&app, body, now).await;
            self.found().await
        })
    }

    async fn found(&self) -> Found {
        let manifest = snapshot::current(self.store.as_ref()).await.unwrap().unwrap();
        let contents = self.store.contents();
        let file = |name: &str| contents[&format!("snapshots/{}/{name}", manifest.run)].clone();
        let rows = |table: &str| {
            let text = zstd::decode_all(file(&format!("{table}.ndjson.zst")).as_ref()).unwrap();
            let text = String::from_utf8(text).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        let coverage: Value = serde_json::from_slice(&file("coverage.json")).unwrap();
        let lines = coverage["scopes"].as_array().unwrap().clone();
        Found {
            state: manifest.state,
            rows: [rows("marketplace"), rows("gallery")].concat(),
            lines,
        }
    }
}

/// Whether a request lists what a subscription's marketplace has.
fn lists(path: &str, subscription: &str) -> bool {
    path.contains(subscription) && path.contains("/publishers")
}

fn what_one_subscription_may_not_list_is_asked_through_another() {
    let whole = Tenant::new().run();
    assert_eq!((whole.state, whole.of("marketplace").len()), (Completeness::Complete, 24));
    let codes = [
        (403, "AuthorizationFailed"),
        (409, "MissingSubscriptionRegistration"),
        (409, "ReadOnlyDisabledSubscription"),
        (404, "SubscriptionNotFound"),
    ];
    for (status, code) in codes {
        for (closed, from) in
            [(ONE, ""), (TWO, ""), (TWO, "/offers"), (ONE, "/skus"), (TWO, "/westus/publishers")]
        {
            let tenant = Tenant::new();
            tenant.arm.instead(move |path| {
                let is_refused = lists(path, closed) && path.contains(from);
                is_refused.then(|| (status, refused(code, "no")))
            });
            let found = tenant.run();
            let about = format!("{status} {code} {closed} {from}: {:?}", found.told());
            assert_eq!(found.state, Completeness::Complete, "{about}");
            assert_eq!(found.of("marketplace").len(), 24, "{about}");
            let with_details =
                found.of("marketplace").iter().filter(|row| row["detailsFrom"] == "this").count();
            assert_eq!(with_details, 12, "{about}");
            // One that is closed from the beginning is asked once, and nothing is spread over it.
            if from.is_empty() {
                assert_eq!(
                    tenant.arm.times(&format!(
                        "{closed}/providers/microsoft.compute/locations/eastus/publishers"
                    )),
                    1
                );
            }
        }
    }
}

fn where_nobody_has_the_provider_it_is_said_how_to_register_it() {
    let tenant = Tenant::new();
    tenant.arm.instead(|path| {
        let text = "The subscription is not registered to use namespace 'Microsoft.Compute'.";
        let is_compute =
            path.contains("/publishers") || path.contains("/galleries") || path.contains("/images");
        match path {
            _ if path.starts_with("/subscriptions?") => {
                Some((200, json!({"value": [{"subscriptionId": ONE, "state": "Enabled"}]})))
            }
            _ => is_compute.then(|| (409, refused("MissingSubscriptionRegistration", text))),
        }
    });
    let found = tenant.run();
    assert_eq!(found.state, Completeness::Partial);
    let denied: Vec<&Value> = found.lines.iter().filter(|line| line["state"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{:?}", found.told());
    let words = format!("az provider register --namespace Microsoft.Compute --subscription {ONE}");
    assert!(
        denied.iter().all(|line| line["reason"].as_str().unwrap().contains(&words)),
        "{denied:?}"
    );
    let galleries = found
        .lines
        .iter()
        .filter(|line| line["source"] == "gallery" && line["subscription"] == ONE);
    assert!(
        galleries.clone().count() > 0 && galleries.clone().all(|line| line["state"] == "empty")
    );
}

fn a_disabled_subscription_is_named_and_loses_nothing_in_silence() {
    let tenant = Tenant::new();
    let own = |found: &Found| {
        let rows = found
            .of("gallery-version")
            .into_iter()
            .map(|row| (row["subscriptionId"].as_str().unwrap().to_owned(), row["stale"] == true));
        rows.collect::<BTreeMap<_, _>>()
    };
    let line = |found: &Found| {
        let mut lines = found.lines.iter().filter(|line| {
            line["source"] == "gallery" && line["subscription"] == TWO && line["gallery"].is_null()
        });
        let line = lines.next().unwrap();
        (
            line["state"].as_str().unwrap().to_owned(),
            line["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let both = |stale| BTreeMap::from([(ONE.to_owned(), false), (TWO.to_owned(), stale)]);
    assert_eq!(own(&tenant.run()), both(false));
    // Azure still says what is there.
    for state in ["Warned", "PastDue", "Disabled"] {
        tenant.arm.instead(move |path| {
            path.starts_with("/subscriptions?").then(|| (200, subscriptions(state)))
        });
        let found = tenant.run();
        assert_eq!((found.state, own(&found)), (Completeness::Complete, both(false)), "{state}");
        assert_eq!(line(&found), ("done".into(), format!("the subscription is {state}")));
        let asked = tenant.arm.times(&format!("{TWO}/providers/microsoft.compute/locations"));
        assert_eq!(
            asked > 2,
            state != "Disabled",
            "{state}: marketplace images are asked through it"
        );
    }
    // It says nothing any more.
    for (status, code) in [(403, "AuthorizationFailed"), (409, "ReadOnlyDisabledSubscription")] {
        tenant.arm.instead(move |path| match path {
            _ if path.starts_with("/subscriptions?") => Some((200, subscriptions("Disabled"))),
            _ => path.contains(TWO).then(|| (status, refused(code, "no"))),
        });
        let found = tenant.run();
        assert_eq!((found.state, own(&found)), (Completeness::Partial, both(true)), "{code}");
        let (state, reason) = line(&found);
        assert_eq!(state, "denied");
        assert!(reason.contains("the subscription is Disabled"), "{reason}");
    }
    tenant.arm.instead(|path| match path {
        _ if path.starts_with("/subscriptions?") => Some((200, subscriptions("Deleted"))),
        _ => path.contains(TWO).then(|| (404, refused("SubscriptionNotFound", "no"))),
    });
    let found = tenant.run();
    assert_eq!(own(&found), BTreeMap::from([(ONE.to_owned(), false)]));
    assert_eq!(line(&found), ("gone".into(), "the subscription is Deleted".into()));
    assert_eq!(found.state, Completeness::Complete, "{:?}", found.told());
}

fn a_version_of_the_api_that_is_not_offered_is_replaced_once_for_each_kind() {
    let tenant = Tenant::new();
    tenant.arm.instead(|path| {
        let is_old = ["2015-06-15", "2022-08-01", "2023-03-01"].iter().any(|old| path.contains(old));
        let is_compute = path.contains("microsoft.compute/");
        let text = "could not be found. The supported api-versions are '2015-06-15,2022-08-01,2023-03-01'.";
        (is_compute && !is_old).then(|| (404, refused("InvalidResourceType", text)))
    });
    let found = tenant.run();
    assert_eq!(found.state, Completeness::Complete, "{:?}", found.told());
    assert_eq!((found.of("marketplace").len(), found.of("gallery-version").len()), (24, 2));
    let refused = tenant.arm.times("/offers?api-version=2024-07-01");
    // Those that were under way together.
    assert!((1..=12).contains(&refused), "{refused}");
    assert!(tenant.arm.times("/offers?api-version=2023-03-01") >= 24);
}
/// A case: what it is called, what is answered, and what is said.
type Case = (&'static str, fn() -> Value, &'static str);

fn an_entry_without_a_name_costs_itself() {
    let whole = Tenant::new().run();
    let count = |found: &Found| (found.of("marketplace").len(), found.of("gallery-version").len());
    assert_eq!(count(&whole), (24, 2));
    // What answers with the entry, the entry, and what its line is about.
    let cases: [Case; 6] = [
        ("/subscriptions?", || json!({"state": "Enabled"}), "@unnamed"),
        ("/subscriptions?", || json!(7), "@unnamed"),
        ("/locations?", || json!({"name": null}), "@unnamed"),
        ("/locations?", || json!("westus"), "@unnamed"),
        ("/eastus/publishers?", || json!({"name": ""}), "no name"),
        ("/eastus/publishers?", || json!(null), "no name"),
    ];
    for (part, entry, about) in cases {
        let tenant = Tenant::new();
        tenant.run();
        tenant.arm.instead(move |path| {
            if !path.contains(part) {
                return None;
            }
            let body = match part {
                "/subscriptions?" if !path.starts_with(part) => return None,
                "/subscriptions?" => {
                    json!({"value": [{"subscriptionId": ONE, "state": "Enabled"}, entry()]})
                }
                "/locations?" => json!({"value": [locations()["value"][0], entry()]}),
                _ => publishers().into_iter().skip(1).chain([entry()]).collect(),
            };
            Some((200, body))
        });
        let found = tenant.run();
        let told = found.told();
        assert_eq!(count(&found), (24, 2), "nothing is gone: {part} {} {told:?}", entry());
        assert_eq!(found.state, Completeness::Partial, "{part} {}", entry());
        assert!(told.iter().any(|line| line.contains(about)), "{part} {}: {told:?}", entry());
        if part.contains("publishers") {
            // Those of the one that is not named any more, and no others.
            assert_eq!(found.stale("marketplace"), 2, "{part} {}: {told:?}", entry());
        }
    }
}

fn a_state_that_cannot_be_read_is_unknown_and_never_the_latest() {
    let odd: [fn() -> Value; 6] = [
        || json!({"imageDeprecationStatus": "x"}),
        || json!({"imageDeprecationStatus": {"imageState": 7}}),
        || json!({"imageDeprecationStatus": {"imageState": "Frozen"}}),
        || json!({"imageDeprecationStatus": {}}),
        || json!({"imageDeprecationStatus": []}),
        || json!("x"),
    ];
    for (number, properties) in odd.into_iter().enumerate() {
        let tenant = Tenant::new();
        let everywhere = number % 2 == 0;
        tenant.arm.instead(move |path| {
            let is_it = path.contains("/pub00/") && path.contains("/versions?");
            (is_it && (everywhere || path.contains("/eastus/"))).then(|| {
                let newest = json!({"name": "2.0.0", "properties": properties()});
                (200, json!([versions()[0], newest]))
            })
        });
        let found = tenant.run();
        let row = |version: &str| {
            let id = format!("pub00:o:s:{version}");
            found.rows.iter().find(|row| row["id"] == *id).unwrap_or_else(|| panic!("{id}"))
        };
        let (old, new) = (row("1.0.0"), row("2.0.0"));
        let about = format!("{}: {new}", properties());
        assert_eq!(
            new["status"],
            if everywhere { json!(null) } else { json!("active") },
            "{about}"
        );
        assert_eq!(
            (old["isLatest"] == true, new["isLatest"] == true),
            (everywhere, !everywhere),
            "{about}"
        );
        let odd: Vec<&Value> =
            found.lines.iter().filter(|line| !line["malformed"].is_null()).collect();
        assert!(
            !odd.is_empty() && odd.iter().all(|line| line["publisher"] == "pub00"),
            "{about} {odd:?}"
        );
        assert_eq!(found.state, Completeness::Complete, "{:?}", found.told());
    }
    // Nothing is said of it: that is no state.
    for properties in [json!(null), json!({}), json!({"imageDeprecationStatus": null})] {
        let tenant = Tenant::new();
        tenant.arm.instead(move |path| {
            let is_it = path.contains("/pub00/") && path.contains("/versions?");
            is_it.then(|| (200, json!([{"name": "2.0.0", "properties": properties}])))
        });
        let found = tenant.run();
        let row = found.rows.iter().find(|row| row["id"] == "pub00:o:s:2.0.0").unwrap();
        assert_eq!((&row["status"], &row["isLatest"]), (&json!("active"), &json!(true)));
    }
}

fn a_run_that_is_gone_on_with_without_a_sign_in_denies_nothing() {
    let tenant = Tenant::new();
    paused(async {
        let (app, now) = (tenant.app(), tenant.now());
        let body = r#"{"sources": ["marketplace", "gallery", "registry"]}"#.to_owned();
        let begun = call(&app, "start", Trigger::Http { body }, now).await.unwrap();
        let items = begun.iter().filter(|message| message.queue == WORK).count();
        let text = &begun.iter().find(|message| message.queue == PUBLISH).unwrap().text;
        let run =
            serde_json::from_str::<Value>(text).unwrap()["run"].as_str().unwrap().parse().unwrap();
        tenant.arm.is_signed_out.store(true, Ordering::SeqCst);
        let app = tenant.app();
        let mut open = functions::resume(&app, run).await.unwrap().messages;
        open.retain(|message| message.queue == WORK);
        assert_eq!(open.len(), items);
        // Whatever delivery it is, the items stay.
        for delivery in [1, 4, 4, 4, 4, 4, 4] {
            let mut again = Vec::new();
            for message in open {
                let trigger = Trigger::Queue { text: message.text, delivery };
                again.extend(call(&app, "crawl", trigger, now).await.unwrap());
            }
            open = again;
            assert_eq!(open.len(), items);
            tokio::time::advance(std::time::Duration::from_secs(15)).await;
        }
        let ended = tenant.store.contents();
        assert!(!ended.keys().any(|name| name.contains("/outcomes/")), "{:?}", ended.keys());
        let failure = app.progress.of(run).unwrap().failure.unwrap();
        assert_eq!(failure.0, ErrorKind::SignedOut, "{failure:?}");
    });
    // With a sign-in it goes on as if nothing had been.
    tenant.arm.is_signed_out.store(false, Ordering::SeqCst);
    assert_eq!(tenant.run().state, Completeness::Complete);
}
