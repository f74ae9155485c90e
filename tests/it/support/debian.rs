//! Programs of Debian's packages, unpacked into the cache folder: nothing is installed, nobody has to be
//! root. Where there is no `apt-get`, they are taken from the path.

use super::needs::{self, Need};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A real registry, a client of registries, wrong clocks, what the shell reads snapshots with, and a terminal. What
/// these depend on comes with them where the system does not have it.
const PACKAGES: [&str; 6] = ["docker-registry", "skopeo", "libfaketime", "jq", "zstd", "tmux"];

/// A browser: as much as half of all that is fetched, and so apart.
const BROWSER: [&str; 1] = ["chromium"];

/// What makes images and layouts, and loads archives of them. Apart from the rest, so that neither is fetched anew when
/// the other changes.
const CONTAINERS: [&str; 4] = ["podman", "buildah", "umoci", "skopeo"];

/// Fetches and unpacks; the folder that stands for `/`.
pub fn install() -> Result<PathBuf, String> {
    unpacked("debian", &PACKAGES)
}

/// The same of what makes images.
pub fn containers() -> Result<PathBuf, String> {
    unpacked("containers", &CONTAINERS)
}

/// The same of a browser.
pub fn browser() -> Result<PathBuf, String> {
    unpacked("chromium", &BROWSER)
}

fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        let hint = format!("it needs {}, on the path", packages.join(", "));
        for name in packages.iter().filter(|name| !name.starts_with("lib")) {
            let version = if *name == "tmux" { "-V" } else { "--version" };
            needs::step(Command::new(name).arg(version), &hint)?;
        }
        return Ok(PathBuf::from("/"));
    }
    let wanted = packages.join(" ");
    let says = format!("from Debian, unpacked and not installed: {wanted}");
    let folder = needs::once(name, &wanted, &says, |folder| {
        let archives = folder.join("cache/archives");
        for made in ["state/lists/partial", "cache/archives/partial", "root"] {
            std::fs::create_dir_all(folder.join(made)).map_err(|error| error.to_string())?;
        }
        let hint = "it needs Debian's packages";
        needs::step(apt(folder).arg("update"), hint)?;
        // What is installed is fetched all the same; only what these need beyond it comes with them.
        let options =
            ["--reinstall", "--download-only", "--no-install-recommends", "-y", "install"];
        needs::step(apt(folder).args(options).args(packages), hint)?;
        for entry in std::fs::read_dir(&archives).map_err(|error| error.to_string())?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("-x").arg(entry.path()).arg(folder.join("root"));
                needs::step(&mut unpack, hint)?;
            }
        }
        Ok(())
    })?;
    Ok(folder.join("root"))
}

/// An apt that keeps its lists and archives in `folder`.
fn apt(folder: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    for (name, path) in [("Dir::State", "state"), ("Dir::Cache", "cache")] {
        apt.arg("-o").arg(format!("{name}={}", folder.join(path).display()));
    }
    apt.args(["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Debug::NoLocking=true"]);
    apt.args(["-o", "APT::Sandbox::User=", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// The folders of libraries below `root`.
fn libraries(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path());
    folders.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).collect()
}

/// Lets a command of the peer `need` find these programs and their libraries, behind those in `before`.
pub fn on_path(command: &mut Command, need: Need, before: &[&Path]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = before.iter().map(|folder| (*folder).to_owned()).collect();
    if matches!(need, Need::Registry | Need::Readers | Need::Terminal) {
        let root = install().expect("it is there, since the peer is ready");
        folders.push(root.join("usr/bin"));
        if root != Path::new("/") {
            command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries(&root)).unwrap());
        }
    }
    if need == Need::Containers {
        let root = containers().expect("it is there, since the peer is ready");
        folders.extend(["usr/bin", "usr/sbin"].map(|folder| root.join(folder)));
        if root != Path::new("/") {
            command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries(&root)).unwrap());
        }
    }
    folders.extend(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
}

/// A command that has the browser in its variables: its program in `CHROMIUM`, and where its libraries are.
pub fn with_browser(command: &mut Command) {
    let root = browser().expect("it is there, since the peer is ready");
    if root == Path::new("/") {
        command.env("CHROMIUM", "/usr/bin/chromium");
        return;
    }
    // What /usr/bin/chromium starts; that is a script, which looks for it where it would be installed.
    command.env("CHROMIUM", root.join("usr/lib/chromium/chromium"));
    let folders = libraries(&root).into_iter();
    let folders = folders.flat_map(|folder| [folder.join("pulseaudio"), folder]);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
}

/// The library that makes a program's clock wrong, when it is loaded before all others.
pub fn faketime() -> PathBuf {
    let root = needs::folder(Need::Faketime);
    let named = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    let mut found = libraries(root).into_iter().map(named).filter(|path| path.exists());
    found.next().expect("faketime is where Debian has it")
}
