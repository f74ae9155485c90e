//! The page on a catalog of 400,000 images, in Chromium.

use crate::large::write_large;
use crate::support::needs::{self, Need};
use crate::support::{azimg, browser};
use crate::{row, table};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Measured loads of the page.
const LOADS: usize = 40;
/// Words to type, of as many letters at most.
const WORDS: usize = 40;
const LETTERS: usize = 6;

pub fn run() {
    needs::prepare([Need::Browser].iter());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let names = write_large(&store);
    let words = names.iter().step_by(names.len() / WORDS).map(|[publisher, offer, sku, _]| {
        let name = [publisher, offer, sku][publisher.len() % 3];
        let word = name.split(['-', '_', '.']).find(|word| word.len() > 2).unwrap_or("server");
        word.chars().take(LETTERS).collect::<String>()
    });
    let words: Vec<String> = words.collect();
    let mut command = azimg(&["page", "--port", "0", "--no-open", "--store"]);
    let mut child = command.arg(&store).stderr(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    let base = line.split_once("is at ").unwrap().1.split(';').next().unwrap();
    let task = json!({"base": base, "loads": LOADS, "words": words});
    let found = browser::drive("page-bench.mjs", include_str!("page.mjs"), &task);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut lines =
        vec![row([&"in Chromium, 1440 × 900", &"count", &"p50 ms", &"p95 ms", &"limit"])];
    for (what, name, limit) in
        [("navigation → first rows, empty cache", "first", 150), ("key → its results", "keys", 60)]
    {
        let times = found[name].as_array().unwrap().iter().map(Value::as_f64);
        let mut times: Vec<f64> = times.map(Option::unwrap).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: usize| format!("{:.0}", times[(times.len() - 1) * share / 100]);
        lines.push(row([&what, &times.len(), &at(50), &at(95), &limit]));
    }
    table(&format!("The page on {} images", names.len()), &lines);
}
