//! A Resource Manager of two subscriptions whose answers a test replaces, and runs over it.

use super::fleet;
use super::paused;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::error::{Error, ErrorKind, Result};
use azimg::testing::functions::App;
use azimg::testing::pipeline::snapshot::{self, Completeness};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;

pub const ONE: &str = "11111111-1111-4111-8111-111111111111";
pub const TWO: &str = "22222222-2222-4222-8222-222222222222";

/// What is answered instead of what is there, by the request's path and query.
pub type Instead = Box<dyn Fn(&str) -> Option<(u16, Value)> + Send + Sync>;

/// A small Azure: two locations with twelve publishers, and a gallery in each subscription.
pub struct Arm {
    pub instead: Mutex<Instead>,
    pub asked: Mutex<Vec<String>>,
    /// Whether no account is signed in.
    pub is_signed_out: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arm")
    }
}

pub fn refused(code: &str, text: &str) -> Value {
    json!({"error": {"code": code, "message": text}})
}

pub fn publishers() -> Vec<Value> {
    (0..12).map(|number| json!({"name": format!("pub{number:02}")})).collect()
}

pub fn versions() -> Vec<Value> {
    let version = |name: &str| json!({"name": name, "properties": {"imageDeprecationStatus": {"imageState": "Active"}}});
    vec![version("1.0.0"), version("2.0.0")]
}

pub fn subscriptions(second: &str) -> Value {
    json!({"value": [{"subscriptionId": ONE, "state": "Enabled"},
                     {"subscriptionId": TWO, "state": second}]})
}

pub fn locations() -> Value {
    let of = |name: &str| json!({"name": name, "metadata": {"regionType": "Physical"}});
    json!({"value": [of("eastus"), of("westus")]})
}

impl Arm {
    pub fn new() -> Arc<Self> {
        let none: Instead = Box::new(|_| None);
        Arc::new(Self {
            instead: Mutex::new(none),
            asked: Mutex::default(),
            is_signed_out: false.into(),
        })
    }

    pub fn instead(&self, how: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) {
        *self.instead.lock().unwrap() = Box::new(how);
        self.asked.lock().unwrap().clear();
    }

    pub fn times(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }

    pub fn answer(path: &[&str]) -> (u16, Value) {
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
            return Err(Error::new(ErrorKind::SignedOut, "no account is signed in"));
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
pub struct Tenant {
    pub arm: Arc<Arm>,
    pub store: Arc<MemoryStore>,
    pub runs: AtomicUsize,
}

/// A snapshot, as its files say it.
pub struct Found {
    pub state: Completeness,
    pub rows: Vec<Value>,
    pub lines: Vec<Value>,
}

impl Found {
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.rows.iter().filter(|row| row["kind"] == kind).collect()
    }

    pub fn stale(&self, kind: &str) -> usize {
        self.of(kind).iter().filter(|row| row["stale"] == true).count()
    }

    /// The lines that are not done, or say why.
    pub fn reported(&self) -> Vec<String> {
        let lines = self
            .lines
            .iter()
            .filter(|line| line["state"] != "done" || line["reason"] != Value::Null);
        let lines = lines.filter(|line| line["state"] != "empty" || line["reason"] != Value::Null);
        lines.map(ToString::to_string).collect()
    }
}

impl Tenant {
    pub fn new() -> Self {
        Self { arm: Arm::new(), store: Arc::default(), runs: AtomicUsize::new(0) }
    }

    pub fn app(&self) -> App {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        fleet::app(Arc::clone(&self.arm) as Arc<dyn Wire>, store, "http://127.0.0.1:1")
    }

    pub fn now(&self) -> OffsetDateTime {
        let number = i64::try_from(self.runs.fetch_add(1, Ordering::SeqCst)).unwrap();
        OffsetDateTime::from_unix_timestamp(1_795_000_000 + number * 86_400).unwrap()
    }

    /// A run of marketplace and galleries.
    pub fn run(&self) -> Found {
        paused(async {
            let (app, now) = (self.app(), self.now());
            let body = r#"{"sources": ["marketplace", "gallery"], "full": true}"#.to_owned();
            fleet::run(&app, body, now).await;
            self.found().await
        })
    }

    pub async fn found(&self) -> Found {
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
pub fn lists(path: &str, subscription: &str) -> bool {
    path.contains(subscription) && path.contains("/publishers")
}
