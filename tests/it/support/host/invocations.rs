//! Invocations: timers that fire, requests to the handler, and the outputs that are bound.

use super::process::ProcessState;
use super::{TestHost, envelope, seconds};
use serde_json::{Map, Value, json};

impl TestHost {
    /// Fires a timer.
    pub async fn fire(&self, name: &str) {
        self.try_fire(name).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Fires a timer, which may fail. It is retried as its `retry` declares (without the delay),
    /// and then not until its next time.
    pub async fn try_fire(&self, name: &str) -> Result<(), String> {
        let function = self.function(name);
        let monitored = function["bindings"][0]["useMonitor"] == true;
        let most = function["retry"]["maxRetryCount"].as_u64().unwrap_or(0);
        let mut ended = Ok(());
        for retry in 0..=most {
            let mut envelope =
                envelope::timer(name, &trigger(&function, "timerTrigger"), monitored);
            if retry > 0 {
                envelope["Metadata"]["RetryContext"] =
                    json!({"RetryCount": retry, "MaxRetryCount": most, "Exception": {}});
            }
            ended = self.invoke(name, &envelope).await.map(drop);
            if ended.is_ok() {
                break;
            }
        }
        ended
    }

    /// Posts an invocation and binds its outputs. After an error, a message is delivered again.
    pub(super) async fn invoke(
        &self,
        name: &str,
        envelope: &Value,
    ) -> Result<Map<String, Value>, String> {
        assert!(self.runs(name), "{name} has hosts of its own");
        *self.invocations.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        match self.process.look_after(&self.client).await {
            ProcessState::Running => {}
            process_state => return Err(format!("connection refused: {process_state:?}")),
        }
        let port = self.process.port().ok_or("connection refused")?;
        let limit = seconds(&self.setting("functionTimeout"));
        let Ok(answer) = tokio::time::timeout(limit, self.post(name, port, envelope)).await else {
            // All other invocations of this instance end with it.
            if self.process.port() == Some(port) {
                self.kill();
                self.start().await;
            }
            return Err(format!("{name} ran into functionTimeout"));
        };
        let outputs = answer?;
        self.bind(name, &outputs).await?;
        Ok(outputs)
    }

    async fn post(
        &self,
        name: &str,
        port: u16,
        envelope: &Value,
    ) -> Result<Map<String, Value>, String> {
        let response = self
            .client
            .post(format!("http://127.0.0.1:{port}/{name}"))
            .header("X-Azure-Functions-InvocationId", envelope::uuid())
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
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
        let kind = kind.unwrap_or_default();
        let json = ["application/json", "text/json"].iter().any(|json| kind.starts_with(json));
        assert!(json, "{name}: '{kind}' is no media type that the host reads");
        assert!(!body.is_empty(), "{name}: the host would wait for ever on an empty answer");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let Value::Object(answer) = answer else {
            panic!("{name}: the host would wait for ever on {answer}")
        };
        // Names are compared ignoring case. Unknown ones are ignored.
        let member = |name: &str| answer.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some((_, logs)) = member("logs") {
            assert!(
                logs.as_array().unwrap().iter().all(Value::is_string),
                "{name}: logs are strings"
            );
        }
        assert!(
            member("returnValue").is_none_or(|(_, value)| value.is_null()),
            "{name}: merged by name"
        );
        Ok(member("outputs")
            .and_then(|(_, outputs)| outputs.as_object().cloned())
            .unwrap_or_default())
    }

    async fn bind(&self, name: &str, outputs: &Map<String, Value>) -> Result<(), String> {
        let function = self.function(name);
        let bindings = function["bindings"].as_array().unwrap();
        for (output, value) in outputs {
            let binding = bindings
                .iter()
                .find(|binding| binding["name"] == *output && binding["direction"] == "out")
                .unwrap_or_else(|| panic!("{name}: the host drops output {output} in silence"));
            if binding["type"] == "queue" {
                self.put_out(name, binding["queueName"].as_str().unwrap(), value).await?;
            }
        }
        Ok(())
    }
}

/// The name of a function's only trigger.
pub(super) fn trigger(function: &Value, kind: &str) -> String {
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
