//! The function table. A function maps an input to effects: it never accesses a queue, the clock or
//! the environment, and returns the messages to send.

mod admission;
mod app;
mod beginning;
mod crawling;
mod declared;
mod event;
mod failing;
mod message;
mod publishing;
mod sweeping;
mod traffic_report;

pub use crate::pipeline::retain::RetentionPolicy;
pub use app::{App, Progress, RunCache, Settings};
pub use beginning::resume;
pub use declared::{Binding, Declaration, HOST_JSON, HostSettings, Retry, check};
pub use event::{Effects, Event, Message, Reply, Trigger};
pub use message::{PUBLISH, WORK};

use crate::error::Result;
use futures::future::BoxFuture;
use std::sync::OnceLock;

type Run = for<'a> fn(&'a App, Event) -> BoxFuture<'a, Result<Effects>>;

/// A function: its name, its `function.json` and its implementation.
pub struct Function {
    /// The name of its folder.
    pub name: &'static str,
    /// The text of its `function.json`.
    pub json: &'static str,
    declared: OnceLock<Declaration>,
    /// The implementation. `None` for the function whose HTTP requests the host forwards unchanged.
    pub run: Option<Run>,
}

impl Function {
    /// Returns the function named `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    /// Returns the parsed `function.json`.
    pub fn declared(&self) -> Result<&Declaration> {
        if let Some(declared) = self.declared.get() {
            return Ok(declared);
        }
        let declared = Declaration::parse(self.json)?;
        Ok(self.declared.get_or_init(|| declared))
    }
}

macro_rules! function {
    ($name:literal, $run:expr) => {
        Function {
            name: $name,
            json: include_str!(concat!("../../functions/", $name, "/function.json")),
            declared: OnceLock::new(),
            run: $run,
        }
    };
}

/// All functions.
pub static FUNCTIONS: [Function; 9] = [
    function!("plan", Some(|app, event| Box::pin(beginning::plan_run(app, event)))),
    function!("start", Some(|app, event| Box::pin(beginning::start(app, event)))),
    function!("crawl", Some(|app, event| Box::pin(crawling::crawl_item(app, event)))),
    function!("poison", Some(|app, event| Box::pin(crawling::poison(app, event)))),
    function!("sweep", Some(|app, event| Box::pin(sweeping::sweep_runs(app, event)))),
    function!("publish", Some(|app, event| Box::pin(publishing::publish_run(app, event)))),
    function!("fail", Some(|app, event| Box::pin(failing::fail(app, event)))),
    function!("page", None),
    function!("web", None),
];
