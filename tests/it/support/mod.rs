//! Shared parts of the tests: the executable in a clean environment, a simulated Azure, and real
//! components.

pub mod answering;
pub mod archives;
pub mod arm;
pub mod arrows;
pub mod asking;
pub mod attacker;
pub mod azurite;
pub mod bent;
pub mod blocks;
pub mod browser;
pub mod callers;
pub mod case;
pub mod catalog_model;
pub mod chain;
pub mod changes;
pub mod changing;
pub mod collector;
pub mod commands;
pub mod crawled;
pub mod damaged;
pub mod dated;
pub mod debian;
pub mod deliveries;
pub mod faulty;
pub mod filled;
pub mod fleet;
pub mod folders;
pub mod galleries;
pub mod host;
pub mod http;
pub mod images;
pub mod infra;
pub mod inventory;
pub mod layout;
pub mod listed;
pub mod lists;
pub mod malformed;
pub mod memory;
pub mod mutated;
pub mod needs;
pub mod oci;
pub mod overlap;
pub mod overlapping;
pub mod packages;
pub mod plans;
pub mod pulls;
pub mod purge_oracle;
pub mod python;
pub mod recorded;
pub mod refusals;
pub mod registries;
pub mod replay;
pub mod runs;
pub mod scenes;
pub mod schema;
pub mod secrets;
pub mod seeds;
pub mod serving;
pub mod shop;
pub mod steps;
pub mod storage;
pub mod stored;
pub mod strangers;
pub mod tables;
pub mod terminal;
pub mod uploads;
pub mod web;
pub mod worlds;

use azimg::testing::sim::{Conditions, Running, Sim, World};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The root folder of this checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for downloads and other kept files. Ignored by git.
pub fn cache(name: &str) -> PathBuf {
    let path = root().join(".cache").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The folder of temporary files. It is below the target folder, so that no test writes outside
/// this project, unless `AZIMG_TEST_FOLDER` names another one (in memory, if a disk is slow to
/// sync).
pub fn temporary() -> PathBuf {
    std::env::var_os("AZIMG_TEST_FOLDER")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

/// Waits until `met` returns a value. The limit is a number of attempts instead of a duration, so
/// that a slow machine does not reach it. `what` names the condition.
pub fn wait_for<T>(what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let mut waiting = Waiting::new(what);
    loop {
        if let Some(met) = met() {
            return met;
        }
        std::thread::sleep(waiting.next());
    }
}

/// The same for an asynchronous condition.
pub async fn wait_until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let mut waiting = Waiting::new(what);
    while !met().await {
        tokio::time::sleep(waiting.next()).await;
    }
}

/// The pauses between attempts, with a message now and then.
struct Waiting<'a> {
    what: &'a str,
    pauses: u32,
}

impl<'a> Waiting<'a> {
    const PAUSE: Duration = Duration::from_millis(10);
    /// The number of pauses between two messages: at least a minute.
    const SILENT: u32 = 6_000;
    /// The number of pauses after which a wait fails: at least half an hour.
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

/// The executable, with only the environment variables that it needs to run.
pub fn azimg(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azimg"));
    command.args(arguments).env_clear();
    command.env("TMPDIR", temporary());
    // The settings of the user who runs the tests must not apply.
    command.env("XDG_CONFIG_HOME", temporary().join("no-settings"));
    for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a command to its end, and returns the exit code, stdout and stderr. Messages about waits
/// are removed, because they depend on the machine.
pub fn finish(command: &mut Command) -> (i32, String, String) {
    let (code, stdout, stderr) = finish_with_waits(command);
    let lines = stderr.split_inclusive('\n');
    (code, stdout, lines.filter(|line| !line.starts_with("azimg: waiting for ")).collect())
}

/// The same with the messages about waits.
pub fn finish_with_waits(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    secrets::assert_none(&String::from_utf8_lossy(&stderr), "stderr");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Runs a command that must succeed, and returns its stdout as JSON.
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

    /// An Azure with limits, which `quota` specifies as `azimg sim --quota` does.
    pub fn limited(world: World, quota: &str) -> Self {
        let quota = quota.parse().unwrap();
        Self::under(world, Conditions { quota, ..Conditions::default() }, None)
    }

    /// An Azure under any conditions.
    pub fn under(world: World, conditions: Conditions, tls: Option<&Path>) -> Self {
        let sim = Sim::new(world, conditions);
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let running = sim.start(([127, 0, 0, 1], 0).into(), tls).unwrap();
        drop(entered);
        Self { sim, running, _runtime: runtime }
    }

    /// The environment variables that direct a program to this Azure.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let line = self.running.to_json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        BTreeMap::from([
            ("AZIMG_ARM_ENDPOINT".into(), text(&line["arm"])),
            ("IDENTITY_ENDPOINT".into(), text(&line["identity"]["endpoint"])),
            ("IDENTITY_HEADER".into(), text(&line["identity"]["header"])),
        ])
    }

    /// The executable, directed to this Azure.
    pub fn azimg(&self, arguments: &[&str]) -> Command {
        let mut command = azimg(arguments);
        command.envs(self.variables());
        command
    }

    /// The number of requests for an operation.
    pub fn asked(&self, operation: &str) -> u64 {
        let stats = self.sim.stats.to_json();
        stats["operations"][operation]
            .as_object()
            .map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    }
}

/// A peer in a clean environment, which trusts the simulated certificate authority and signs in to
/// the simulation.
pub fn peer(azure: &Azure, folder: &Path, program: &Path) -> Command {
    let authority = folder.join("tls/ca.pem");
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder);
    command.envs(azure.variables());
    command.env("REQUESTS_CA_BUNDLE", &authority).env("SSL_CERT_FILE", &authority);
    command.env("AZURE_CONFIG_DIR", folder.join("az")).env("AZURE_CORE_COLLECT_TELEMETRY", "no");
    command
}

/// Writes rows to a file, one per line.
pub fn write_rows(path: &Path, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// All marketplace rows of the current snapshot of a local store, in the table's order.
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

/// Removes the members that differ from run to run: the id of the run and its times.
pub fn timeless(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        for name in ["observedAt", "observedRun", "firstSeenAt"] {
            assert!(row.remove(name).is_some(), "{name}");
        }
    }
    rows
}

/// The columns of a row that come from the simulated catalog.
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

/// Runs `work` on a multi-threaded runtime of its own.
pub fn threads<T>(work: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(work)
}

/// Runs `work` under a paused clock, which advances as soon as all tasks wait.
pub fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

/// A duration on the paused clock.
pub struct Virtual(tokio::time::Instant);

impl Virtual {
    pub fn begin() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// Elapsed time in whole seconds.
    pub fn seconds(&self) -> u64 {
        self.0.elapsed().as_secs()
    }
}
