//! A running `azimg host`.

use super::Azure;
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `azimg host`; stopped when dropped.
pub struct Host {
    pub child: Child,
    pub address: String,
    /// What it said before it listened.
    pub said: Vec<String>,
    /// The key that it printed; empty when it asks for none.
    pub key: String,
}

impl Host {
    pub fn start(azure: &Azure, store: &Path) -> Self {
        Self::of(&mut Self::command(azure, store))
    }

    /// The command that starts one, for what is to be said to it beside.
    pub fn command(azure: &Azure, store: &Path) -> Command {
        azure.azimg(&["host", "--port", "0", "--store", store.to_str().unwrap()])
    }

    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut lines, mut said) = (stderr.lines(), Vec::new());
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it never listened: {said:?}"));
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once("functions are at ") {
                break rest.split(';').next().unwrap().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        let key = said
            .iter()
            .find_map(|line| line.split_once("requests that start something need the key "));
        let key = key.map(|(_, rest)| rest.split(',').next().unwrap().to_owned());
        Self { child, address, said, key: key.unwrap_or_default() }
    }

    /// What a caller sends who shows the key.
    pub fn keyed(&self) -> HeaderMap {
        HeaderMap::from_iter([("x-functions-key".parse().unwrap(), self.key.parse().unwrap())])
    }

    /// What a caller sends who starts a run.
    pub fn starting(&self) -> HeaderMap {
        let mut headers = self.keyed();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers
    }

    /// A caller who shows the key with whatever is asked.
    pub fn caller(&self) -> Client {
        Client::builder().no_gzip().default_headers(self.keyed()).build().unwrap()
    }
}

impl Host {
    /// `HOST:PORT`.
    pub fn authority(&self) -> &str {
        self.address.trim_start_matches("http://").trim_end_matches("/api")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn get(client: &Client, url: &str) -> (u16, Value) {
    let response = client.get(url).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
}
