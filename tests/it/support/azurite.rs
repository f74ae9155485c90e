//! Azurite: real blobs and queues, from npm, pinned, kept in the cache folder.

use super::{cache, prepare_once};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The newest that runs on Node 20; it refuses the SDK's API version unless told not to check.
const VERSION: &str = "3.35.0";

fn install() -> PathBuf {
    prepare_once("azurite", VERSION, |folder| {
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder)
            .arg(format!("azurite@{VERSION}"))
            .output()
            .expect("these tests need npm: install Node.js 20 or later");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "npm could not fetch azurite {VERSION}: {text}");
    })
}

/// A running Azurite; stopped when dropped.
pub struct Azurite {
    child: Child,
    blob: u16,
    queue: u16,
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Azurite {
    pub fn start() -> Self {
        let folder = install();
        let (blob, queue, table) = (free_port(), free_port(), free_port());
        let log = std::fs::File::create(cache("logs").join(format!("azurite-{blob}.log"))).unwrap();
        let child = Command::new("node")
            .arg(folder.join("node_modules/azurite/dist/src/azurite.js"))
            .args(["--inMemoryPersistence", "--silent", "--disableTelemetry"])
            .args(["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--queueHost", "127.0.0.1"])
            .args(["--tableHost", "127.0.0.1"])
            .args(["--blobPort", &blob.to_string(), "--queuePort", &queue.to_string()])
            .args(["--tablePort", &table.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("these tests need node: install Node.js 20 or later");
        let this = Self { child, blob, queue };
        let started = Instant::now();
        for port in [blob, queue] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(started.elapsed() < Duration::from_mins(1), "Azurite does not start");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        this
    }

    /// What the setting `AzimgStorage` says to reach it.
    pub fn connection(&self) -> String {
        connection(self.blob, self.queue)
    }

    /// The ports of its blobs and its queues.
    pub fn ports(&self) -> [u16; 2] {
        [self.blob, self.queue]
    }
}

/// A connection string of the development account at these ports.
pub fn connection(blob: u16, queue: u16) -> String {
    format!(
        "AccountName=devstoreaccount1;\
         BlobEndpoint=http://127.0.0.1:{blob}/devstoreaccount1;\
         QueueEndpoint=http://127.0.0.1:{queue}/devstoreaccount1"
    )
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
