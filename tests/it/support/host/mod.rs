//! A Functions host for tests that follows the source of the real one strictly. It starts the
//! packaged handler with the five variables, waits for `GET /`, posts doubly encoded envelopes,
//! accepts only outputs that the real host would not mangle, and serves the queues of Azurite with
//! visibility, dequeue counts and poison queues. It requires a key from callers, proxies lookups
//! unchanged, drops chunked bodies, cuts off callers that wait too long, kills a handler that
//! exceeds its time limit, retries timers as declared, and restarts a handler that ended.

pub mod envelope;
pub mod flex;
mod invocations;
pub mod outputs;
pub mod process;
mod queues;

use azimg::testing::config::{Config, Flags};
use azimg::testing::store::azure::AzureQueues;
use outputs::HttpAnswer;
use process::Process;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Azure cuts off an HTTP caller after 230 seconds: the number of checks for an answer in that
/// time.
const MOST_LOOKS: u32 = 23_000;
const LOOK: Duration = Duration::from_millis(10);

/// The key with which a caller invokes functions of the level `function`.
pub const KEY: &str = "a-function-key";

/// What happens to a message between a function's output and its queue.
type OnTheWay = Box<dyn Fn(&str, &str) -> Vec<String> + Send + Sync>;

/// A host of a packaged app: one instance.
pub struct TestHost {
    app: PathBuf,
    /// The group of functions that it runs. `None` for all.
    group: Option<String>,
    variables: BTreeMap<String, String>,
    pub process: Process,
    client: reqwest::Client,
    queues: AzureQueues,
    /// Drops, duplicates or changes messages.
    pub on_the_way: OnTheWay,
    /// The ids of the messages being handled.
    under_way: Mutex<BTreeSet<String>>,
    /// Read by each last delivery of a message, and written while the handler is killed on purpose.
    last_deliveries: tokio::sync::RwLock<()>,
    /// The handler was killed on purpose, and does not answer yet.
    is_killed: AtomicBool,
    /// The number of invocations of each function.
    pub invocations: Mutex<BTreeMap<String, u32>>,
    /// The failed deliveries.
    pub failed: Mutex<Vec<String>>,
    /// Deliveries of messages that had been received before.
    pub redelivered: AtomicU32,
    /// The content type that callers declare for their bodies.
    pub content_type: &'static str,
    /// A caller without an answer after this many checks is cut off.
    pub most_looks: u32,
    /// The number of checks made.
    pub looks: AtomicU32,
}

/// A request from outside.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a str,
    key: Option<&'a str>,
    in_chunks: bool,
}

/// Parses `hh:mm:ss`.
fn seconds(span: &Value) -> Duration {
    let parts = span.as_str().unwrap().split(':').map(|part| part.parse::<u64>().unwrap());
    Duration::from_secs(parts.fold(0, |all, part| all * 60 + part))
}

impl TestHost {
    /// A host of the app in `folder`, with the queues that `connection` names. The `settings` are
    /// passed to the handler, too.
    pub fn new(folder: &Path, connection: &str, settings: BTreeMap<String, String>) -> Self {
        let environment = HashMap::from([("AzimgStorage".to_owned(), connection.to_owned())]);
        let flags = Flags { store: Some("azurite".into()), ..Flags::default() };
        let queues = Config::from(environment, flags).unwrap().queues().unwrap();
        let mut variables = settings;
        let mut or = |name: &str, value: &str| {
            variables.entry(name.into()).or_insert_with(|| value.into());
        };
        or("AzimgStorage", connection);
        or("AZIMG_STORE", "azurite");
        // The most verbose log, so that a secret in any message is noticed.
        or("AZIMG_LOG", "debug");
        // The delay of `host.json` is too long for a test.
        or("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:00:01");
        Self {
            app: folder.to_owned(),
            group: None,
            process: Process::new(folder, variables.clone()),
            variables,
            client: reqwest::Client::builder().build().unwrap(),
            queues,
            on_the_way: Box::new(|_, text| vec![text.to_owned()]),
            under_way: Mutex::default(),
            last_deliveries: tokio::sync::RwLock::default(),
            is_killed: AtomicBool::new(false),
            invocations: Mutex::default(),
            failed: Mutex::new(Vec::new()),
            content_type: "application/json",
            most_looks: MOST_LOOKS,
            redelivered: AtomicU32::new(0),
            looks: AtomicU32::new(0),
        }
    }

    /// The same host for a single group of functions, as in Flex Consumption
    /// (`FunctionMetadataExtensions.GetFunctionGroup` in the host's source): all HTTP functions
    /// form one group, every other function its own.
    pub fn of_group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Whether it runs a function. The triggers of other groups are ignored.
    fn runs(&self, name: &str) -> bool {
        self.group.as_ref().is_none_or(|group| *group == flex::group(&self.function(name), name))
    }

    /// A value of `host.json`. A setting `AzureFunctionsJobHost__a__b` overrides it.
    fn setting(&self, path: &str) -> Value {
        let name = format!("AzureFunctionsJobHost__{}", path.replace('.', "__"));
        if let Some(text) = self.variables.get(&name) {
            return serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
        }
        let host = super::read_json(&self.app.join("host.json"));
        host.pointer(&format!("/{}", path.replace('.', "/"))).unwrap().clone()
    }

    fn function(&self, name: &str) -> Value {
        super::read_json(&self.app.join(name).join("function.json"))
    }

    /// Starts the handler.
    pub async fn start(&self) {
        self.process.start(&self.client).await;
    }

    /// Kills the handler without warning, as the host does.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Whether an invocation is under way.
    pub fn is_at_work(&self) -> bool {
        !self.under_way.lock().unwrap().is_empty()
    }

    /// Kills the handler during an invocation, and starts it again. No message's last delivery
    /// meets this: the kill waits for those under way, and others wait until the handler answers.
    /// Until then nothing more is received: what is refused stays invisible for longer than a start
    /// takes, with the visibility timeout of `host.json`, but not with that of a test.
    pub async fn kill_at_work(&self) {
        loop {
            {
                let _no_last_delivery = self.last_deliveries.write().await;
                if self.is_at_work() {
                    self.is_killed.store(true, Ordering::Relaxed);
                    self.kill();
                    self.start().await;
                    self.is_killed.store(false, Ordering::Relaxed);
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A lookup with the key in the URL. Returns status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.request("GET", &with_key(path), "", None).await;
        (answer.status, answer.json())
    }

    /// Starts a run, with the key in the URL.
    pub async fn start_run(&self, body: &str) -> HttpAnswer {
        self.request("POST", &with_key("/api/runs"), body, None).await
    }

    /// The same with a chunked body.
    pub async fn start_run_in_chunks(&self, body: &str) -> HttpAnswer {
        let path = with_key("/api/runs");
        let (method, path) = ("POST", path.as_str());
        self.answer(Request { method, path, body, key: None, in_chunks: true }).await
    }

    /// A request from outside. It is routed by the routes and methods of the functions, and refused
    /// unless `key` (the header) or `code` in the query is the key. The query is passed on
    /// unchanged. A function of one input and one output gets the request itself, any other an
    /// envelope.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: &str,
        key: Option<&str>,
    ) -> HttpAnswer {
        self.answer(Request { method, path, body, key, in_chunks: false }).await
    }

    /// Answers a caller, who is cut off after too long a time. The invocation then continues.
    async fn answer(&self, request: Request<'_>) -> HttpAnswer {
        let answer = self.route(request);
        tokio::pin!(answer);
        let mut looks = 0;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return if looks < self.most_looks { answer } else { plain(504) };
                }
                () = tokio::time::sleep(LOOK) => {
                    looks += 1;
                    self.looks.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn route(&self, request: Request<'_>) -> HttpAnswer {
        let Request { method, path, body, key, in_chunks } = request;
        let Some((name, function)) = self.routed(method, path) else { return plain(404) };
        let bindings = function["bindings"].as_array().unwrap();
        let trigger = bindings.iter().find(|binding| binding["type"] == "httpTrigger").unwrap();
        let url: url::Url = format!("https://app.example{path}").parse().unwrap();
        let mut query = url.query_pairs();
        let shown = query.find(|(name, _)| name.eq_ignore_ascii_case("code"));
        let key = key.map(str::to_owned).or(shown.map(|(_, code)| code.into_owned()));
        if trigger["authLevel"] != "anonymous" && key.as_deref() != Some(KEY) {
            return plain(401);
        }
        let Some(port) = self.process.port() else { return plain(502) };
        if bindings.len() == 2 {
            let sent = self
                .client
                .request(method.parse().unwrap(), format!("http://127.0.0.1:{port}{path}"))
                .header("X-Azure-Functions-InvocationId", envelope::uuid())
                .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
                // All headers of the caller are passed on, including the host that it addressed and
                // its page's origin.
                .header("Host", "app.example")
                .header("Origin", "https://portal.example")
                .header("Sec-Fetch-Site", "cross-site")
                .body(body.to_owned());
            let Ok(answer) = sent.send().await else { return plain(502) };
            let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
            let headers =
                answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
            let (status, headers) = (answer.status().as_u16(), headers.collect());
            return HttpAnswer { status, headers, body: answer.bytes().await.unwrap().to_vec() };
        }
        let binding = trigger["name"].as_str().unwrap();
        let sent = (body, self.content_type, in_chunks);
        let envelope = envelope::http(&name, binding, method, &url, sent);
        // A failed invocation is a 500 without a body to the caller.
        match self.invoke(&name, &envelope).await {
            Ok(outputs) => outputs::http(&outputs, "res").unwrap(),
            Err(_) => plain(500),
        }
    }

    /// The function that serves a request. Literal routes precede catch-alls.
    fn routed(&self, method: &str, path: &str) -> Option<(String, Value)> {
        let prefix = format!("/{}/", self.setting("extensions.http.routePrefix").as_str().unwrap());
        let path = path.split('?').next().unwrap().strip_prefix(&prefix)?;
        let mut found: Vec<(bool, String, Value)> = Vec::new();
        for name in self.functions() {
            let function = self.function(&name);
            for binding in function["bindings"].as_array().unwrap() {
                let methods = binding["methods"].as_array().cloned().unwrap_or_default();
                let takes =
                    methods.iter().any(|m| m.as_str().unwrap().eq_ignore_ascii_case(method));
                let Some(route) = binding["route"].as_str().filter(|_| takes) else { continue };
                let all = route.starts_with("{*");
                if all || route == path {
                    found.push((all, name.clone(), function.clone()));
                }
            }
        }
        found.sort_by_key(|(all, ..)| *all);
        found.into_iter().next().map(|(_, name, function)| (name, function))
    }

    /// The folders next to `host.json` that contain a `function.json`.
    pub fn functions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.app).unwrap().map(|entry| entry.unwrap());
        let functions = entries.filter(|entry| entry.path().join("function.json").is_file());
        functions.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.kill()));
        } else {
            self.kill();
            self.process.lines();
        }
    }
}

/// A response from the host itself.
fn plain(status: u16) -> HttpAnswer {
    HttpAnswer { status, headers: BTreeMap::new(), body: Vec::new() }
}

/// A path with the key in its query.
fn with_key(path: &str) -> String {
    format!("{path}{}code={KEY}", if path.contains('?') { '&' } else { '?' })
}
