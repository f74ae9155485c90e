//! What azimg says of itself: spans and counts to a collector, lines for the Functions host, and
//! secrets to nobody.

use crate::support::collector::{Collector, Heard, texts};
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json, root, secrets, wait_for};
use crate::tests;
use azimg::testing::config::{Config, Flags};
use azimg::testing::functions::{Event, Function, Trigger, WORK};
use azimg::testing::sim::{Scale, SimCredential, generate};
use azimg::testing::work::SourceName;
use opentelemetry_proto::tonic::trace::v1::Span;
use regex::Regex;
use serde_json::{Value, json as value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use time::OffsetDateTime;

tests![
    a_crawl_exports_its_requests_and_outcomes,
    an_unreachable_collector_is_reported_and_harms_nothing,
    an_invocation_and_its_log_lines_join_the_trace_of_the_host,
    a_throttled_crawl_logs_the_lines_that_the_alert_counts
        slow "each refused request is waited for",
];

/// The variables that name a collector; nothing of a short life is to be dropped.
fn exporting(command: &mut Command, collector: &Collector) {
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address);
    command.env("OTEL_BSP_MAX_QUEUE_SIZE", "100000").env("OTEL_BSP_SCHEDULE_DELAY", "100");
}

fn named<'a>(heard: &'a Heard, name: &str) -> Vec<&'a Span> {
    heard.spans.iter().filter(|span| span.name == name).collect()
}

fn a_crawl_exports_its_requests_and_outcomes() {
    let azure = Azure::start(generate(Scale::Small, 91));
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let mut command =
        azure.azimg(&["crawl", "--source", "marketplace", "--store", store, "-o", "json"]);
    exporting(&mut command, &collector);
    let result = json(&mut command);

    let heard = collector.heard.lock().unwrap();
    assert!(heard.services.iter().all(|name| name == "azimg"), "{:?}", heard.services);
    // Each item is an invocation; each request is a part of one.
    let crawls = named(&heard, "crawl");
    let shards: u64 = heard.last("azimg.shards", "state").values().sum();
    assert_eq!(crawls.len() as u64, shards);
    let run = result["run"].as_str().unwrap();
    for span in &crawls {
        let about = texts(&span.attributes);
        assert_eq!(about["run"], run);
        assert!(!about["item"].is_empty() && !about["invocation"].is_empty(), "{about:?}");
    }
    let offers = "GET subscriptions/{}/providers/Microsoft.Compute/locations/{}/publishers/{}\
                  /artifacttypes/{}/offers";
    let listed = named(&heard, offers);
    assert!(!listed.is_empty());
    for span in &listed {
        assert!(crawls.iter().any(|crawl| crawl.span_id == span.parent_span_id), "{span:?}");
        assert!(texts(&span.attributes).contains_key("http.response.status_code"), "{span:?}");
    }
    let asked: u64 = heard.last("azimg.requests", "status").values().sum();
    assert_eq!(asked, result["requests"].as_u64().unwrap());
    let operations = heard.last("azimg.requests", "operation");
    assert!(operations.len() < 20, "an operation names somebody: {operations:?}");
    assert_eq!(
        heard.last("azimg.coverage", "state")["done"],
        result["coverage"]["done"].as_u64().unwrap()
    );
    assert!(heard.last("azimg.rows", "source")["marketplace"] > 0);
    secrets::assert_none(&String::from_utf8_lossy(&heard.bytes), "what is exported");
}

fn an_unreachable_collector_is_reported_and_harms_nothing() {
    let azure = Azure::start(generate(Scale::Small, 92));
    let folder = tempfile::tempdir().unwrap();
    let mut command = azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap()]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("opentelemetry") || stderr.contains("Export"), "{stderr}");
}

/// A handler that answers; killed when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let port = crate::support::azurite::free_port();
        let command = command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let this = Self { child, address: format!("http://127.0.0.1:{port}") };
        wait_for("the handler", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        this
    }

    /// What it wrote until it was stopped: stdout and stderr.
    fn stop(mut self) -> (String, String) {
        self.child.kill().unwrap();
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn post(address: &str, name: &str, envelope: &Value) -> u16 {
    let client = reqwest::blocking::Client::new();
    let answer = client
        .post(format!("{address}/{name}"))
        .header("content-type", "application/json")
        .header("x-azure-functions-invocationid", "11111111-2222")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .body(envelope.to_string())
        .send();
    answer.unwrap().status().as_u16()
}

fn an_invocation_and_its_log_lines_join_the_trace_of_the_host() {
    let azure = Azure::start(generate(Scale::Small, 93));
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = azure.azimg(&["serve", "--store", folder.path().to_str().unwrap()]);
    exporting(&mut command, &collector);
    let serving = Serving::start(command.env("AZIMG_LOG", "azimg=debug"));
    let timer = value!({"Data": {"timer": {"IsPastDue": false}}, "Metadata": {}});
    assert_eq!(post(&serving.address, "sweep", &timer), 200);
    // No queues are there to send to.
    let message = value!({"Data": {"message": "{\"v\":1,\"run\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"}"},
                          "Metadata": {"DequeueCount": "1"}});
    assert_eq!(post(&serving.address, "publish", &message), 200);
    let client = reqwest::blocking::Client::new();
    let lookup = client
        .get(format!("{}/api/health", serving.address))
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .send();
    assert_eq!(lookup.unwrap().status().as_u16(), 503);
    let names = ["sweep", "publish", "GET /api/health"];
    let all = |heard: &Heard| names.iter().all(|name| !named(heard, name).is_empty());
    wait_for("the spans", || all(&collector.heard.lock().unwrap()).then_some(()));
    for name in names {
        let heard = collector.heard.lock().unwrap();
        let trace: String =
            named(&heard, name)[0].trace_id.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(trace, TRACE, "{name}");
    }
    let (stdout, stderr) = serving.stop();
    assert_eq!(stderr, "", "the host takes it for errors");
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |message: &str| {
        let found = lines.iter().find(|line| line["fields"]["message"] == message);
        found.unwrap_or_else(|| panic!("nobody says '{message}': {stdout}")).clone()
    };
    let stands = line("snapshot age");
    assert_eq!(stands["spans"][0]["invocation"], "11111111-2222", "{stands}");
    assert_eq!(stands["spans"][0]["function"], "sweep");
    let failed = line("the run cannot be published");
    assert_eq!(failed["spans"][0]["run"], "01ARZ3NDEKTSV4RRFFQ69G5FAV", "{failed}");
    secrets::assert_none(&stdout, "the handler's log");
}

/// The messages that a run of the marketplace begins with; its plan is in `store`.
fn planned(faulty: &Faulty, store: &Path) -> Vec<String> {
    let store = Some(store.to_str().unwrap().into());
    let flags = Flags { store, sources: vec![SourceName::Marketplace], ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let arm = faulty.address.parse().unwrap();
    let (app, _) = config.with_resource_manager(arm, Arc::new(SimCredential)).app().unwrap();
    let trigger = Trigger::Http { body: String::new() };
    let event = Event { now: OffsetDateTime::now_utc(), invocation: "test".into(), trigger };
    let start = Function::named("start").unwrap().run.unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let messages = runtime.block_on(start(&app, event)).unwrap().messages;
    messages.into_iter().filter(|message| message.queue == WORK).map(|m| m.text).collect()
}

/// The alert on throttling: what its lines say, what it sums of them, and what these sums must be for it to
/// fire: more requests than the first number, and the refused ones times the second more than that.
fn alert_on_throttling() -> (String, BTreeMap<String, String>, [u64; 2]) {
    let alerts = std::fs::read_to_string(root().join("infra/modules/alerts.bicep")).unwrap();
    let rule = alerts.split_once("name: 'throttled'").unwrap().1.split_once("  }").unwrap().0;
    let find = |pattern: &str| {
        let found = Regex::new(pattern).unwrap();
        let found = found.captures(rule).unwrap_or_else(|| panic!("{pattern}: {rule}"));
        found.iter().skip(1).map(|part| part.unwrap().as_str().to_owned()).collect::<Vec<_>>()
    };
    let said =
        find(r#"\$\{logLines\} \| where fields\.message == "([^"]+)" \| summarize"#).remove(0);
    let sum = Regex::new(r"(\w+) = sum\(tolong\(fields\.(\w+)\)\)").unwrap();
    let sums = sum.captures_iter(rule).map(|found| {
        let [name, field] = found.extract().1;
        (name.to_owned(), field.to_owned())
    });
    let limits = find(r"\| where requests > (\d+) and throttled \* (\d+) > requests'");
    let limits = [limits[0].parse().unwrap(), limits[1].parse().unwrap()];
    (said, sums.collect(), limits)
}

fn a_throttled_crawl_logs_the_lines_that_the_alert_counts() {
    const REFUSED: &str = "{\"error\":{\"code\":\"TooManyRequests\",\"message\":\"slow down\"}}";
    let refused = How::Answer(429, &[("retry-after", "0")], REFUSED);
    let azure = Azure::start(generate(Scale::Small, 94));
    let faulty = Faulty::start(azure, vec![Fault::new("/skus", 120, refused)]);
    let folder = tempfile::tempdir().unwrap();
    let begun = planned(&faulty, folder.path());
    let store = folder.path().to_str().unwrap();
    let serving = Serving::start(&mut faulty.azimg(&["serve", "--store", store]));
    let (client, address) = (reqwest::blocking::Client::new(), serving.address.clone());
    let crawl = |text: &str| -> Vec<String> {
        let envelope = value!({"Data": {"message": text}, "Metadata": {"DequeueCount": "1"}});
        let posted = client.post(format!("{address}/crawl"));
        let posted = posted.header("content-type", "application/json; charset=utf-8");
        let posted = posted.header("x-azure-functions-invocationid", "11111111-2222");
        let posted = posted.body(envelope.to_string());
        let answer: Value = serde_json::from_str(&posted.send().unwrap().text().unwrap()).unwrap();
        let work = answer["Outputs"]["work"].as_array().cloned().unwrap_or_default();
        work.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let asked = || faulty.seen.lock().unwrap().len();
    // Delivered again, until an hour's worth was asked.
    while asked() < 1_500 {
        let mut open = begun.clone();
        while let Some(text) = open.pop() {
            open.extend(crawl(&text));
        }
    }
    let (stdout, _) = serving.stop();

    let (said, sums, [most, share]) = alert_on_throttling();
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let reported: Vec<Value> =
        lines.filter(|line| line["fields"]["message"] == said.as_str()).collect();
    assert!(reported.len() > 3, "{stdout}");
    assert!(stdout.lines().all(|line| line.starts_with('{')), "the alert takes no other line");
    for line in &reported {
        assert_eq!(line["spans"][0]["function"], "crawl", "{line}");
        assert!(line["spans"][0]["item"].is_string(), "{line}");
    }
    let sum = |name: &str| -> u64 {
        let field = sums[name].as_str();
        reported.iter().map(|line| line["fields"][field].as_u64().unwrap()).sum()
    };
    let (requests, throttled) = (sum("requests"), sum("throttled"));
    assert!(requests > most && throttled * share > requests, "{throttled} of {requests}: no alert");
    // Each is told once; what was asked last is told with what is asked next.
    assert!((90..=120).contains(&throttled), "{throttled}");
    assert!(requests <= asked() as u64 && requests + 250 > asked() as u64, "{requests}");
}
