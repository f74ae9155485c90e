//! What tests share: the executable in a clean environment, a simulated Azure, real parts.

pub mod arrows;
pub mod attacker;
pub mod azurite;
pub mod case;
pub mod chain;
pub mod collector;
pub mod debian;
pub mod faulty;
pub mod fleet;
pub mod host;
pub mod needs;
pub mod oci;
pub mod python;
pub mod replay;
pub mod runs;
pub mod schema;
pub mod secrets;
pub mod seeds;
pub mod steps;
pub mod storage;
pub mod stored;
pub mod strangers;
pub mod terminal;
pub mod worlds;

use azimg::sim::{Conditions, Running, Sim, World};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A folder of this checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what tests fetch and keep; git ignores it.
pub fn cache(name: &str) -> PathBuf {
    let path = root().join(".cache").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The folder of temporary files: below the target folder, so that no test leaves this project, unless
/// `AZIMG_TEST_FOLDER` names another (in memory, where a disk is slow to say that it has what it was given).
pub fn temporary() -> PathBuf {
    std::env::var_os("AZIMG_TEST_FOLDER")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

/// Waits until `met` gives something. The limit is a number of looks, and not a time, so that a slow machine does
/// not meet it; `what` says what is waited for.
pub fn wait_for<T>(what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let mut waiting = Waiting::new(what);
    loop {
        if let Some(met) = met() {
            return met;
        }
        std::thread::sleep(waiting.next());
    }
}

/// The same for what has to be asked asynchronously.
pub async fn wait_until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let mut waiting = Waiting::new(what);
    while !met().await {
        tokio::time::sleep(waiting.next()).await;
    }
}

/// The pauses of somebody who waits, and a word now and then.
struct Waiting<'a> {
    what: &'a str,
    pauses: u32,
}

impl<'a> Waiting<'a> {
    const PAUSE: Duration = Duration::from_millis(10);
    /// So many pauses lie between two words: a minute and more.
    const SILENT: u32 = 6_000;
    /// After so many, which take half an hour and more, it will never come.
    const HOPELESS: u32 = 30 * Self::SILENT;

    fn new(what: &'a str) -> Self {
        Self { what, pauses: 0 }
    }

    fn next(&mut self) -> Duration {
        self.pauses += 1;
        assert!(self.pauses < Self::HOPELESS, "{} never came", self.what);
        if self.pauses.is_multiple_of(Self::SILENT) {
            eprintln!("still waiting for {}", self.what);
        }
        Self::PAUSE
    }
}

/// The executable with nothing of this process's environment but what it takes to run.
pub fn azimg(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azimg"));
    command.args(arguments).env_clear();
    command.env("TMPDIR", temporary());
    // Whoever runs the tests may have settings of their own.
    command.env("XDG_CONFIG_HOME", temporary().join("no-settings"));
    for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs to the end; the exit code, stdout and stderr. For what it waited, and how long, is not in there: that is
/// this machine's.
pub fn finish(command: &mut Command) -> (i32, String, String) {
    let (code, stdout, stderr) = finish_with_waits(command);
    let lines = stderr.split_inclusive('\n');
    (code, stdout, lines.filter(|line| !line.starts_with("azimg: waiting for ")).collect())
}

/// The same with what it said of waits.
pub fn finish_with_waits(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    secrets::assert_none(&String::from_utf8_lossy(&stderr), "stderr");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Runs to a good end; stdout as JSON.
pub fn json(command: &mut Command) -> Value {
    let (code, stdout, stderr) = finish(command);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}\n{stderr}"))
}

/// A simulated Azure in this process.
pub struct Azure {
    pub sim: Arc<Sim>,
    pub running: Running,
    _runtime: Runtime,
}

impl Azure {
    pub fn start(world: World) -> Self {
        Self::start_with(world, Duration::ZERO, None)
    }

    pub fn start_with(world: World, latency: Duration, tls: Option<&Path>) -> Self {
        Self::under(world, Conditions { latency, ..Conditions::default() }, tls)
    }

    /// One that keeps limits; `quota` as `azimg sim --quota` takes it.
    pub fn limited(world: World, quota: &str) -> Self {
        let quota = quota.parse().unwrap();
        Self::under(world, Conditions { quota, ..Conditions::default() }, None)
    }

    /// One under any conditions.
    pub fn under(world: World, conditions: Conditions, tls: Option<&Path>) -> Self {
        let sim = Sim::new(world, conditions);
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let running = sim.start(([127, 0, 0, 1], 0).into(), tls).unwrap();
        drop(entered);
        Self { sim, running, _runtime: runtime }
    }

    /// The variables that lead a program here.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let line = self.running.to_json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        BTreeMap::from([
            ("AZIMG_ARM_ENDPOINT".into(), text(&line["arm"])),
            ("IDENTITY_ENDPOINT".into(), text(&line["identity"]["endpoint"])),
            ("IDENTITY_HEADER".into(), text(&line["identity"]["header"])),
        ])
    }

    /// The executable, led to this Azure.
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = azimg(arguments);
        command.envs(self.variables());
        command
    }

    /// How often an operation was asked.
    pub fn asked(&self, operation: &str) -> u64 {
        let stats = self.sim.stats.to_json();
        stats["operations"][operation]
            .as_object()
            .map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    }
}

/// A peer in a clean environment that trusts the simulated authority and signs in there.
pub fn peer(azure: &Azure, folder: &Path, program: &Path) -> Command {
    let authority = folder.join("tls/ca.pem");
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder);
    command.envs(azure.variables());
    command.env("REQUESTS_CA_BUNDLE", &authority).env("SSL_CERT_FILE", &authority);
    command.env("AZURE_CONFIG_DIR", folder.join("az")).env("AZURE_CORE_COLLECT_TELEMETRY", "no");
    command
}

/// Writes rows into a file, one a line.
pub fn write_rows(path: &Path, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// All rows of the current snapshot of a local store, in the table's order.
pub fn rows(store: &Path) -> Vec<Value> {
    let current: Value = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    read_ndjson(&store.join(format!("snapshots/{run}/marketplace.ndjson.zst")))
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn read_ndjson(path: &Path) -> Vec<Value> {
    let bytes = zstd::decode_all(File::open(path).unwrap()).unwrap();
    String::from_utf8(bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Rows without what differs from run to run: the run's name and its times.
pub fn timeless(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        for name in ["observedAt", "observedRun", "firstSeenAt"] {
            assert!(row.remove(name).is_some(), "{name}");
        }
    }
    rows
}

/// The columns of a row that come from the catalog it was crawled from.
pub fn catalogued(row: &Value) -> Value {
    let names = [
        "publisher",
        "offer",
        "sku",
        "version",
        "locations",
        "architecture",
        "hyperVGeneration",
        "status",
        "scheduledDeprecationAt",
        "alternative",
        "os",
        "planPublisher",
        "planProduct",
        "planName",
        "features",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), row[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Runs `work` on threads of its own.
pub fn threads<T>(work: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(work)
}

/// Runs `work` on a clock that goes on by itself as soon as everybody waits.
pub fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

/// A span of the paused clock.
pub struct Virtual(tokio::time::Instant);

impl Virtual {
    pub fn begin() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// Whole seconds.
    pub fn seconds(&self) -> u64 {
        self.0.elapsed().as_secs()
    }
}
