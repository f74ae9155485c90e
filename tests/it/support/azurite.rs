//! Azurite, which serves real blobs and queues. From npm, pinned, kept in the cache folder.

use super::needs::{self, Need};
use super::{cache, wait_for};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The newest version for Node 20. It refuses the SDK's API version unless the check is disabled.
const VERSION: &str = "3.35.0";

/// Installs it, unless it is in the cache.
pub fn install() -> Result<PathBuf, String> {
    needs::npm("azurite", &[&format!("azurite@{VERSION}")])
}

/// A running Azurite. Stops when dropped.
pub struct Azurite {
    child: Child,
    blob: u16,
    queue: u16,
}

/// A free port. It is below the ephemeral range of the system, so that no other socket of the tests
/// gets it before it is used.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| rand::random_range(PORTS).into());
    loop {
        let port = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
            Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start })
        });
        let port = port.unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Azurite {
    pub fn start() -> Self {
        let folder = needs::folder(Need::Azurite);
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
        for port in [blob, queue] {
            wait_for("Azurite", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        }
        this
    }

    /// The value of the setting `AzimgStorage` for this Azurite.
    pub fn connection(&self) -> String {
        connection(self.blob, self.queue)
    }

    /// The ports of blobs and queues.
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
