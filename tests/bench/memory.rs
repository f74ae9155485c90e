//! Peak memory of a crawl: catalogs with the same publishers, offers and SKUs but more versions,
//! and with more of everything.

use crate::support::Azure;
use crate::{row, table, tenth};
use azimg::testing::sim::World;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A catalog with every publisher `times` times.
fn wider(times: usize) -> World {
    let World { locations, publishers, .. } = tenth();
    let copies = (0..times).flat_map(|copy| {
        publishers.iter().cloned().map(move |mut publisher| {
            publisher.name = format!("{}-{copy}", publisher.name);
            publisher
        })
    });
    World::new(locations, copies.collect())
}

/// A catalog with every version `times` times.
fn deeper(times: usize) -> World {
    let World { locations, mut publishers, .. } = tenth();
    for sku in publishers.iter_mut().flat_map(|p| &mut p.offers).flat_map(|o| &mut o.skus) {
        let versions = std::mem::take(&mut sku.versions);
        sku.versions = versions
            .into_iter()
            .flat_map(|image| {
                (0..times).map(move |copy| {
                    let mut image = image.clone();
                    image.version = format!("{}{copy:04}", image.version);
                    image
                })
            })
            .collect();
        sku.versions.sort_by(|a, b| a.version.cmp(&b.version));
    }
    World::new(locations, publishers)
}

/// The peak memory of a crawl in MiB, and the number of versions in the catalog.
fn peak(world: World) -> (u64, usize) {
    let versions = world.versions();
    let azure = Azure::start(world);
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        azure.azimg(&["crawl", "--quiet", "--store", folder.path().to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    (peak_of(&mut child), versions)
}

/// The peak memory of a program in MiB. The program must succeed.
pub fn peak_of(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    most >> 10
}

pub fn run() {
    let mut lines = vec![row([&"catalog", &"versions", &"peak MiB"])];
    let mut line = |what: &str, world: World| {
        let (mib, versions) = peak(world);
        lines.push(row([&what, &versions, &mib]));
    };
    line("a tenth of a region", tenth());
    line("a hundred times the versions of each SKU", deeper(100));
    line("a hundred times the publishers", wider(100));
    table("Peak memory of a crawl", &lines);
}
