//! A second run compared with the first, under quota.

use crate::{crawl, limited, region, row, table};

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let azure = limited(region());
    let results = [(); 2].map(|()| crawl(&azure, folder.path(), &[]));
    let [first, second] = &results;
    let mut lines = vec![row([&"", &"first run", &"second run", &"second ÷ first"])];
    for name in ["requests", "seconds"] {
        let of = |result: &serde_json::Value| result[name].as_f64().unwrap();
        let ratio = format!("{:.3}", of(second) / of(first));
        lines.push(row([&name, &of(first), &of(second), &ratio]));
    }
    assert_eq!(first["images"], second["images"]);
    assert_eq!(second["changes"], 0);
    table("A region crawled again, real limits sixty times as fast", &lines);
}
