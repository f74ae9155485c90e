//! The app as run by Flex Consumption: functions of different groups share no memory.

use super::TestHost;
use futures::future::join_all;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The group in which a function scales.
pub fn group(function: &Value, name: &str) -> String {
    let bindings = function["bindings"].as_array().unwrap();
    let is_http = bindings.iter().any(|binding| binding["type"] == "httpTrigger");
    if is_http { "http".to_owned() } else { name.to_owned() }
}

/// A host for each group of functions, with its own process.
pub struct Flex(BTreeMap<String, TestHost>);

impl Flex {
    pub fn new(folder: &Path, connection: &str, settings: &BTreeMap<String, String>) -> Self {
        let host = || TestHost::new(folder, connection, settings.clone());
        let all = host();
        let groups = all.functions().into_iter().map(|name| group(&all.function(&name), &name));
        let hosts = groups.map(|group| {
            let host = host().of_group(&group);
            (group, host)
        });
        Self(hosts.collect())
    }

    /// The names of the groups.
    pub fn groups(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The host of a group.
    pub fn of(&self, group: &str) -> &TestHost {
        &self.0[group]
    }

    pub async fn start(&self) {
        join_all(self.0.values().map(TestHost::start)).await;
    }

    /// Lets all hosts serve their queues until `done` returns true.
    pub async fn serve_until(&self, done: impl AsyncFn() -> bool) {
        join_all(self.0.values().map(|host| host.serve_until(&done))).await;
    }
}
