//! A list of a million images in each format: peak memory, and the time to the first line and to
//! the end.

use super::memory::peak_of;
use crate::support::azimg;
use crate::support::runs::{listed, write_run};
use crate::{row, table};
use azimg::testing::pipeline::publish::publish;
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::work::RunId;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

const PUBLISHERS: usize = 1_000;
const VERSIONS: usize = 1_000;

/// Writes a snapshot of a million images.
fn make(folder: &Path) {
    let names: Vec<String> = (0..PUBLISHERS).map(|at| format!("publisher-{at:04}")).collect();
    let now = OffsetDateTime::now_utc();
    let run = RunId::new(now);
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(folder.to_owned()));
    let runtime = Runtime::new().unwrap();
    let rows = |_: usize, publisher: usize| {
        let version = |at: usize| format!("{}.{}.{at}", publisher % 90, publisher / 90);
        (0..VERSIONS)
            .map(|at| listed("offer", &format!("sku-{:02}", at / 50), version(at)))
            .collect()
    };
    runtime.block_on(write_run(store.as_ref(), (run, now, None), 2, &names, rows));
    runtime.block_on(publish(&store, run, now, false)).unwrap();
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let mut lines = vec![row([&"a million images as", &"peak MiB", &"first line, s", &"all, s"])];
    let asked: [&[&str]; 8] = [
        &["-o", "ndjson"],
        &["-o", "csv"],
        &["-o", "tsv"],
        &["-o", "json"],
        &["-o", "table"],
        &["-o", "tsv", "--query", "[?isLatest].id"],
        &["--query", "length(@)"],
        &["-o", "tsv", "--query", "[?contains(locations, 'location00')].id"],
    ];
    for arguments in asked {
        let mut all = vec!["images", "list", "--store", folder.path().to_str().unwrap()];
        all.extend(arguments);
        let mut child = azimg(&all).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let mib = peak_of(&mut child);
        let took = begun.elapsed();
        let begun = Instant::now();
        let mut child = azimg(&all).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let first = begun.elapsed();
        child.wait().unwrap();
        let seconds = |span: std::time::Duration| format!("{:.2}", span.as_secs_f64());
        lines.push(row([&arguments.join(" "), &mib, &seconds(first), &seconds(took)]));
    }
    table("A list on the command line", &lines);
}
