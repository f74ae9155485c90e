//! Without latency: requests per second, compared with `wrk` on the same server and paths.

use crate::support::finish;
use crate::{Azure, crawl, region, row, table};
use azimg::testing::sim::{SUBSCRIPTION, SimCredential, World};
use azure_core::credentials::TokenCredential;
use std::fmt::Write;
use std::process::Command;

/// The paths of a whole crawl, in the order of the catalog.
fn paths(world: &World) -> Vec<String> {
    let base = format!(
        "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/publishers"
    );
    let mut paths = Vec::new();
    for publisher in &world.publishers {
        let offers = format!("{base}/{}/artifacttypes/vmimage/offers", publisher.name);
        paths.push(format!("{offers}?api-version=2024-07-01"));
        for offer in &publisher.offers {
            let skus = format!("{offers}/{}/skus", offer.name);
            paths.push(format!("{skus}?api-version=2024-07-01"));
            for sku in &offer.skus {
                let versions = format!("{skus}/{}/versions", sku.name);
                paths.push(format!("{versions}?%24expand=properties&api-version=2024-07-01"));
                if let Some(newest) = sku.versions.last() {
                    paths.push(format!("{versions}/{}?api-version=2024-07-01", newest.version));
                }
            }
        }
    }
    paths
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths(&region());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let token = runtime.block_on(SimCredential.get_token(&["azimg/.default"], None)).unwrap();
    let mut script = format!(
        "wrk.headers['Authorization'] = 'Bearer {}'\nlocal paths = {{\n",
        token.token.secret()
    );
    for path in &paths {
        writeln!(script, "'{path}',").unwrap();
    }
    script += "}\nlocal at = 0\nfunction request()\n  at = at % #paths + 1\n  \
               return wrk.format('GET', paths[at])\nend\n";
    let file = folder.path().join("paths.lua");
    std::fs::write(&file, script).unwrap();

    let azure = Azure::start(region());
    let arm = azure.running.arm.to_string();
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", "64", "--duration", "10s", "--script"]);
    wrk.arg(&file).arg(&arm);
    assert!(
        Command::new("wrk").arg("--version").output().is_ok(),
        "this bench needs wrk (apt-get install wrk)"
    );
    let (_, printed, errors) = finish(&mut wrk);
    let rate = printed.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate: f64 = rate.unwrap_or_else(|| panic!("{printed}{errors}")).trim().parse().unwrap();

    let result = crawl(&azure, &folder.path().join("store"), &[]);
    let of = |name: &str| result[name].as_f64().unwrap();
    let ours = of("requests") / of("seconds");
    table(
        "No latency, no quota: a region, store and publishing included (limit: ≥ 50 %)",
        &[
            row([&"who", &"requests a second", &"÷ wrk"]),
            row([&"wrk, 64 connections", &format!("{rate:.0}"), &"100 %"]),
            row([&"azimg crawl", &format!("{ours:.0}"), &format!("{:.0} %", 100.0 * ours / rate)]),
        ],
    );
}
