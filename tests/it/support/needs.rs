//! What tests need besides the executable: real components and peers, which are downloaded into
//! `.cache` if `AZIMG_PEERS` names them, and recorded traffic in the folder that `AZIMG_RECORDINGS`
//! names.

use super::{cache, debian, python};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

/// A requirement that not every machine meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Azurite,
    Registry,
    Containers,
    Azure,
    Browser,
    Readers,
    Spark,
    Schemathesis,
    Clients,
    Checkov,
    Languages,
    Faketime,
    Terminal,
    Operations,
    Recordings,
}

/// The generator of TypeScript clients, and the compiler.
const CLIENTS: &[&str] = &["openapi-typescript@7.13.0", "typescript@5.9.3"];

/// The parser of HCL that Terraform uses, compiled for Node.js, the compiler of TypeScript, and a
/// linter.
const LANGUAGES: &[&str] = &["@cdktf/hcl2json@0.21.0", "typescript@5.9.3", "oxlint@1.94.0"];

/// The driver of the browser, and what inspects pages; this Lighthouse is the last for Node.js 20.
const DRIVER: &[&str] = &["playwright-core@1.65.1", "axe-core@4.14.1", "lighthouse@12.8.2"];

/// How to run the tests that were skipped.
pub const HOW: &str = "  AZIMG_PEERS=1 cargo test                 runs them against the real parts, which it fetches into .cache first
  AZIMG_PEERS=azurite,registry cargo test  those of some
  AZIMG_RECORDINGS=DIR cargo test          replays recorded traffic";

impl Need {
    const ALL: [Self; 15] = [
        Self::Azurite,
        Self::Registry,
        Self::Containers,
        Self::Azure,
        Self::Browser,
        Self::Readers,
        Self::Spark,
        Self::Schemathesis,
        Self::Clients,
        Self::Checkov,
        Self::Languages,
        Self::Faketime,
        Self::Terminal,
        Self::Operations,
        Self::Recordings,
    ];

    /// Its name in `AZIMG_PEERS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Azurite => "azurite",
            Self::Registry => "registry",
            Self::Containers => "containers",
            Self::Azure => "azure",
            Self::Browser => "browser",
            Self::Readers => "readers",
            Self::Spark => "spark",
            Self::Schemathesis => "schemathesis",
            Self::Clients => "clients",
            Self::Checkov => "checkov",
            Self::Languages => "languages",
            Self::Faketime => "faketime",
            Self::Terminal => "terminal",
            Self::Operations => "operations",
            Self::Recordings => "recordings",
        }
    }

    pub fn what(self) -> &'static str {
        match self {
            Self::Azurite => "blobs and queues behind a strict Functions host",
            Self::Registry => "docker-registry and skopeo",
            Self::Containers => {
                "what makes images and artifacts: podman, buildah, umoci, skopeo and oras"
            }
            Self::Azure => "the Azure CLI, and the SDKs for Python",
            Self::Browser => "Chromium, and what drives it",
            Self::Readers => {
                "DuckDB, pandas, polars, pyarrow, jsonschema, CycloneDX, and the shell with jq and zstd"
            }
            Self::Spark => "Spark, which needs a Java runtime",
            Self::Schemathesis => "a fuzzer of HTTP APIs",
            Self::Clients => "what generates clients of HTTP APIs, for Python and TypeScript",
            Self::Checkov => "what reads Bicep and PowerShell, and checks Bicep",
            Self::Languages => {
                "what reads the languages of deployments: Packer, Ansible, HCL, YAML and TypeScript"
            }
            Self::Faketime => "clocks that are wrong",
            Self::Terminal => "a terminal (tmux), and what Python reads CSV with",
            Self::Operations => "the commands of docs/operations.md, with a build of their own",
            Self::Recordings => "recorded traffic of Azure",
        }
    }

    /// Whether `AZIMG_PEERS` can name it. Otherwise it is a folder that exists or not.
    fn is_peer(self) -> bool {
        self != Self::Recordings
    }

    /// Downloads it, and returns its folder.
    fn prepare(self) -> Result<PathBuf, String> {
        match self {
            Self::Azurite => super::azurite::install(),
            Self::Registry | Self::Faketime => debian::install(),
            Self::Terminal => programs(&["python3"]).and_then(|_| debian::install()),
            Self::Containers => python::oras().and_then(|_| debian::containers()),
            Self::Azure => python::azure(),
            Self::Browser => debian::browser().and_then(|_| npm("browser", DRIVER)),
            Self::Readers => debian::install().and_then(|_| python::readers()),
            Self::Spark => python::spark(),
            Self::Schemathesis => python::schemathesis(),
            Self::Clients => python::clients().and_then(|_| npm("clients", CLIENTS)),
            Self::Checkov => python::infrastructure(),
            Self::Languages => debian::packer()
                .and_then(|_| npm("languages", LANGUAGES))
                .and_then(|_| python::languages()),
            Self::Operations => programs(&["bash", "curl", "jq", "npm", "tar"]),
            Self::Recordings => {
                let folder = PathBuf::from(recordings().unwrap_or_default());
                let missing =
                    || format!("AZIMG_RECORDINGS: there is no folder {}", folder.display());
                if folder.is_dir() { Ok(folder) } else { Err(missing()) }
            }
        }
    }
}

fn recordings() -> Option<OsString> {
    std::env::var_os("AZIMG_RECORDINGS").filter(|folder| !folder.is_empty())
}

/// The needs requested.
pub struct Asked(Vec<Need>);

impl Asked {
    /// Reads `AZIMG_PEERS` (`1` for all, or names) and `AZIMG_RECORDINGS`.
    pub fn from_environment() -> Result<Self, String> {
        let names = std::env::var("AZIMG_PEERS").unwrap_or_default();
        let peers = || Need::ALL.into_iter().filter(|need| need.is_peer());
        let mut asked: Vec<Need> = match names.trim() {
            "" | "0" => Vec::new(),
            "1" | "all" => peers().collect(),
            some => some.split(',').map(named).collect::<Result<_, _>>()?,
        };
        asked.extend(recordings().map(|_| Need::Recordings));
        Ok(Self(asked))
    }

    pub fn has(&self, need: Need) -> bool {
        self.0.contains(&need)
    }
}

fn named(name: &str) -> Result<Need, String> {
    let peers = || Need::ALL.into_iter().filter(|need| need.is_peer());
    peers().find(|need| need.name() == name.trim()).ok_or_else(|| {
        let names: Vec<_> = peers().map(Need::name).collect();
        format!("AZIMG_PEERS: there is no peer '{name}': 1 for all, or some of {}", names.join(","))
    })
}

/// The result of the preparation of each need.
static READY: OnceLock<BTreeMap<Need, Result<PathBuf, String>>> = OnceLock::new();

/// Prepares the needs of tests concurrently. A failure fails the tests with that need.
pub fn prepare<'a>(needs: impl Iterator<Item = &'a Need>) {
    let mut needs: Vec<Need> = needs.copied().collect();
    needs.sort_unstable();
    needs.dedup();
    let ready = std::thread::scope(|scope| {
        let threads: Vec<_> =
            needs.iter().map(|need| (*need, scope.spawn(|| need.prepare()))).collect();
        threads.into_iter().map(|(need, thread)| (need, thread.join().unwrap())).collect()
    });
    READY.set(ready).expect("it is made ready once");
}

/// Fails if one of these could not be prepared.
pub fn assert_ready(needs: &[Need]) -> Result<(), String> {
    needs.iter().try_for_each(|need| match READY.get().and_then(|ready| ready.get(need)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(format!("{}: {why}", need.name())),
        None => Err(format!("{} was not asked for (AZIMG_PEERS, AZIMG_RECORDINGS)", need.name())),
    })
}

/// The folder of a need that the running test declares.
pub fn folder(need: Need) -> &'static Path {
    let ready = READY.get().and_then(|ready| ready.get(&need));
    let ready = ready.unwrap_or_else(|| panic!("tests! does not say 'needs [{need:?}]'"));
    ready.as_ref().unwrap_or_else(|why| panic!("{why}"))
}

/// Lets `make` fill the folder `name` of the cache, once for all processes. It is filled again,
/// after it was emptied, only if `stamp` changes. `says` describes the download, and is printed
/// before it.
pub fn once(
    name: &str,
    stamp: &str,
    says: &str,
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let folder = cache(name);
    let lock = std::fs::File::create(cache("locks").join(name)).unwrap();
    lock.lock().unwrap();
    let done = folder.join(".ready");
    if std::fs::read_to_string(&done).ok().as_deref() != Some(stamp) {
        eprintln!("into {}: {says}", folder.display());
        let began = Instant::now();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        make(&folder)?;
        std::fs::write(&done, stamp).unwrap();
        eprintln!("{name} is there after {} s", began.elapsed().as_secs());
    }
    Ok(folder)
}

/// Runs a step of the preparation. If it fails, the error contains its stderr.
pub fn step(command: &mut Command, hint: &str) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}; {hint}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}: {}; {hint}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Installs npm packages into the folder `name` of the cache.
pub fn npm(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let wanted = packages.join(" ");
    once(name, &wanted, &format!("from npm: {wanted}"), |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
        npm.arg(folder).args(packages);
        step(&mut npm, "it needs npm, of Node.js 20 or later")
    })
}

/// Fails unless these programs are available.
fn programs(names: &[&str]) -> Result<PathBuf, String> {
    names.iter().try_for_each(|name| {
        step(Command::new(name).arg("--version"), &format!("it needs {}", names.join(", ")))
    })?;
    Ok(PathBuf::new())
}
