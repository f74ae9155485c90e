//! A run whose messages a test delivers one by one.

use super::Azure;
use azimg::testing::config::{Config, Flags};
use azimg::testing::functions::{App, Event, FUNCTIONS, Message, Trigger};
use azimg::testing::sim::SimCredential;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;

pub fn app(azure: &Azure, store: &Path) -> Arc<App> {
    let store = Some(store.to_str().unwrap().into());
    let flags = Flags { store, ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let config = config.with_resource_manager(azure.running.arm.clone(), Arc::new(SimCredential));
    config.app().unwrap().0
}

/// Calls a function as a host would; its messages, or none when it failed.
pub async fn call(app: &App, name: &str, trigger: Trigger) -> Vec<Message> {
    call_at(app, name, trigger, OffsetDateTime::now_utc()).await
}

pub async fn call_at(app: &App, name: &str, trigger: Trigger, now: OffsetDateTime) -> Vec<Message> {
    let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
    let event = Event { now, invocation: now.to_string(), trigger };
    function.run.unwrap()(app, event).await.map(|effects| effects.messages).unwrap_or_default()
}

/// How a queue treats its messages, by a seed.
pub struct Queue {
    pub random: StdRng,
    pub messages: Vec<Message>,
}

impl Queue {
    pub fn add(&mut self, messages: Vec<Message>, copies: usize) {
        for message in messages {
            for _ in 0..copies {
                let at = self.random.random_range(0..=self.messages.len());
                self.messages.insert(at, message.clone());
            }
        }
    }
}

/// Items of a run that have ended without children, as the beginnings of paths.
pub fn ended(store: &Path, run: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(locations) = std::fs::read_dir(store.join(format!("runs/{run}/outcomes/marketplace")))
    else {
        return found;
    };
    for location in locations {
        let location = location.unwrap();
        for file in std::fs::read_dir(location.path()).unwrap() {
            let (file, location) = (file.unwrap().file_name(), location.file_name());
            let (name, location) = (file.to_str().unwrap(), location.to_str().unwrap());
            if let Some(publisher) =
                name.strip_suffix(".json").filter(|name| !name.contains(['@', '%']))
                && !name.ends_with(".parent.json")
            {
                found.push(format!("/locations/{location}/publishers/{publisher}/"));
            }
        }
    }
    found
}
