//! A Functions host for tests, strict to what the real one's source says: it starts the packaged
//! handler with the five variables, waits for `GET /`, posts doubly encoded envelopes, takes
//! outputs only in the form that the real host does not mangle, serves the queues of Azurite with
//! visibility, dequeue counts and poison, forwards lookups raw, and stops the handler with SIGKILL.

use super::azurite::Azurite;
use azimg::config::{Config, Flags};
use azimg::store::azure::AzureQueues;
use azure_storage_queue::models::{QueueClientReceiveMessagesOptions, ReceivedMessage};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Messages that are worked on at once: `batchSize` + `newBatchThreshold`.
const AT_ONCE: usize = 32;

/// A host of one packaged app.
pub struct TestHost {
    app: PathBuf,
    variables: BTreeMap<String, String>,
    handler: Mutex<Option<(Child, u16)>>,
    client: reqwest::Client,
    queues: AzureQueues,
    /// Deliveries that failed.
    pub failed: Mutex<Vec<String>>,
}

impl TestHost {
    /// A host of the app in `folder`, with its storage in `azurite` and app settings.
    pub fn new(folder: &Path, azurite: &Azurite, settings: BTreeMap<String, String>) -> Self {
        let connection = azurite.connection();
        let environment = HashMap::from([("AzimgStorage".to_owned(), connection.clone())]);
        let flags = Flags { store: Some("azurite".into()), ..Flags::default() };
        let queues = Config::from(environment, flags).unwrap().queues().unwrap();
        let mut variables = settings;
        variables.insert("AzimgStorage".into(), connection);
        variables.insert("AZIMG_STORE".into(), "azurite".into());
        Self {
            app: folder.to_owned(),
            variables,
            handler: Mutex::new(None),
            client: reqwest::Client::builder().build().unwrap(),
            queues,
            failed: Mutex::new(Vec::new()),
        }
    }

    fn host_json(&self) -> Value {
        super::read_json(&self.app.join("host.json"))
    }

    fn function(&self, name: &str) -> Value {
        super::read_json(&self.app.join(name).join("function.json"))
    }

    /// Starts the handler as `customHandler` says, and waits until it answers `GET /`.
    pub async fn start(&self) {
        let host = self.host_json();
        let description = &host["customHandler"]["description"];
        let executable = self.app.join(description["defaultExecutablePath"].as_str().unwrap());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(self.app.join("../handler.log")).unwrap();
        let arguments = description["arguments"].as_array().unwrap();
        let child = Command::new(executable)
            .args(arguments.iter().map(|argument| argument.as_str().unwrap()))
            .current_dir(&self.app)
            .env_clear()
            .envs(&self.variables)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "worker")
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_ID", "worker")
            .env("FUNCTIONS_APP_ROOT_PATH", &self.app)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.handler.lock().unwrap() = Some((child, port));
        let started = Instant::now();
        while self.client.get(format!("http://127.0.0.1:{port}/")).send().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "the handler does not answer");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Stops the handler as the host does: without a word.
    pub fn kill(&self) {
        if let Some((mut child, _)) = self.handler.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn port(&self) -> Option<u16> {
        self.handler.lock().unwrap().as_ref().map(|(_, port)| *port)
    }

    /// A lookup, forwarded raw with its whole path; status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.port().unwrap());
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Fires a timer.
    pub async fn fire(&self, name: &str) {
        let trigger = trigger(&self.function(name), "timerTrigger");
        let data = json!({trigger: {
            "Schedule": {"AdjustForDST": true}, "ScheduleStatus": null, "IsPastDue": false,
        }});
        let metadata = json!({"sys": {"MethodName": name, "UtcNow": "2026-03-02T03:00:00.0123Z",
                                      "RandGuid": "6f"}});
        let envelope = json!({"Data": data, "Metadata": metadata});
        self.invoke(name, &envelope).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Posts an invocation and binds its outputs; an error is what makes a message come back.
    async fn invoke(&self, name: &str, envelope: &Value) -> Result<(), String> {
        let port = self.port().ok_or("the handler is not there")?;
        let response = self
            .client
            .post(format!("http://127.0.0.1:{port}/{name}"))
            .header("X-Azure-Functions-InvocationId", ulid::Ulid::generate().to_string())
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(envelope.to_string())
            .send()
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status();
        let kind =
            response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let body = response.bytes().await.map_err(|e| e.to_string())?;
        assert!(!status.is_redirection(), "{name}: the host would follow a redirect");
        if !status.is_success() {
            return Err(format!("{name} answered {status}"));
        }
        assert!(kind.unwrap().starts_with("application/json"), "{name}: not JSON");
        assert!(!body.is_empty(), "{name}: the host would wait for ever on an empty answer");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer.is_object(), "{name}: the host would wait for ever on {answer}");
        let logs = answer["Logs"].as_array().unwrap();
        assert!(logs.iter().all(Value::is_string), "{name}: logs are strings");
        self.bind(name, answer["Outputs"].as_object().unwrap()).await
    }

    async fn bind(&self, name: &str, outputs: &Map<String, Value>) -> Result<(), String> {
        let function = self.function(name);
        let bindings = function["bindings"].as_array().unwrap();
        for (output, value) in outputs {
            let binding = bindings
                .iter()
                .find(|binding| binding["name"] == *output && binding["direction"] == "out")
                .unwrap_or_else(|| panic!("{name}: the host drops output {output} in silence"));
            if binding["type"] != "queue" {
                continue;
            }
            let queue = binding["queueName"].as_str().unwrap();
            let texts = value.as_array().unwrap_or_else(|| panic!("{name}: {output} is no array"));
            assert!(texts.len() <= 3_000, "{name}: {} messages at once", texts.len());
            let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
            for batch in texts.chunks(16) {
                let sends = batch.iter().map(|text| {
                    let object: Result<Map<String, Value>, _> = serde_json::from_str(text);
                    assert!(object.is_ok(), "{name}: a message that is no JSON object: {text}");
                    assert!(text.len() <= 48 << 10, "{name}: a message of {} bytes", text.len());
                    self.queues.send(queue, text, Duration::ZERO)
                });
                futures::future::try_join_all(sends).await.map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// Serves all queues until `done` says so.
    pub async fn serve_until(&self, done: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !done().await {
            assert!(started.elapsed() < Duration::from_mins(5), "it does not come to an end");
            let mut served = 0;
            for name in ["crawl", "poison", "publish"] {
                served += self.serve(name).await;
            }
            if served == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// One batch of a function's queue; how many messages there were.
    pub async fn serve(&self, name: &str) -> usize {
        let function = self.function(name);
        let binding = trigger(&function, "queueTrigger");
        let queue = function["bindings"][0]["queueName"].as_str().unwrap().to_owned();
        let client = self.queues.queue(&queue).unwrap();
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(i32::try_from(AT_ONCE).unwrap()),
            visibility_timeout: Some(600),
            ..Default::default()
        };
        let messages = match client.receive_messages(Some(options)).await {
            Ok(response) => response.into_model().unwrap().items.unwrap_or_default(),
            // The queue is made by the first message.
            Err(_) => return 0,
        };
        let count = messages.len();
        let deliveries = messages.into_iter().map(|m| self.deliver(name, &binding, &queue, m));
        futures::future::join_all(deliveries).await;
        count
    }

    async fn deliver(&self, name: &str, binding: &str, queue: &str, message: ReceivedMessage) {
        let (id, receipt) = (message.message_id.unwrap(), message.pop_receipt.unwrap());
        let count = message.dequeue_count.unwrap();
        let encoded = message.message_text.unwrap();
        let text = String::from_utf8(azure_core::base64::decode(&encoded).unwrap()).unwrap();
        let envelope = queue_envelope(name, binding, &text, count, &id, &receipt);
        let client = self.queues.queue(queue).unwrap();
        match self.invoke(name, &envelope).await {
            Ok(()) => drop(client.delete_message(&id, &receipt, None).await.unwrap()),
            Err(error) => {
                self.failed.lock().unwrap().push(error);
                let most = self.host_json()["extensions"]["queues"]["maxDequeueCount"].as_i64();
                if count >= most.unwrap() && !queue.ends_with("-poison") {
                    self.queues
                        .send(&format!("{queue}-poison"), &text, Duration::ZERO)
                        .await
                        .unwrap();
                    client.delete_message(&id, &receipt, None).await.unwrap();
                } else {
                    // The delay of host.json is for people's patience; a test has less.
                    client.update_message(&id, &receipt, 1, None).await.unwrap();
                }
            }
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The name of a function's one trigger.
fn trigger(function: &Value, kind: &str) -> String {
    let triggers: Vec<&Value> = function["bindings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|binding| binding["type"].as_str().unwrap().ends_with("Trigger"))
        .collect();
    assert_eq!(triggers.len(), 1);
    assert_eq!(triggers[0]["type"], kind);
    triggers[0]["name"].as_str().unwrap().to_owned()
}

fn queue_envelope(
    name: &str,
    binding: &str,
    text: &str,
    count: i64,
    id: &str,
    receipt: &str,
) -> Value {
    let twice = |text: &str| json!(json!(text).to_string());
    let mut metadata = json!({
        "DequeueCount": count.to_string(), "Id": twice(id), "PopReceipt": twice(receipt),
        "InsertionTime": "2026-03-02T03:00:05+00:00", "NextVisibleTime": "2026-03-02T03:10:05+00:00",
        "ExpirationTime": "2026-03-09T03:00:05+00:00",
        "sys": {"MethodName": name, "UtcNow": "2026-03-02T03:00:05.1Z", "RandGuid": "6f"},
    });
    // Members of an object message override built-ins of the same name, whatever their case.
    let members: Map<String, Value> = serde_json::from_str(text).unwrap();
    for (member, value) in members {
        let clash = metadata.as_object().unwrap().keys().any(|k| k.eq_ignore_ascii_case(&member));
        assert!(!clash, "a message's member {member} overrides the host's own");
        metadata[member] = match value {
            Value::Array(_) => continue,
            Value::Object(object) => object.into(),
            Value::String(text) => twice(&text),
            Value::Bool(flag) => twice(if flag { "True" } else { "False" }),
            other => twice(&other.to_string()),
        };
    }
    json!({"Data": {binding: twice(text)}, "Metadata": metadata})
}
