//! Programs from Debian packages, unpacked into the cache folder: nothing is installed, and no root
//! rights are needed. Without `apt-get`, the programs on the `PATH` are used.

use super::needs::{self, Need};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A real registry, a registry client, a library for wrong clocks, the tools with which a shell
/// reads snapshots, and a terminal. Dependencies that the system lacks are unpacked, too.
const PACKAGES: [&str; 6] = ["docker-registry", "skopeo", "libfaketime", "jq", "zstd", "tmux"];

/// A browser. It is separate because it accounts for up to half of all downloads.
const BROWSER: [&str; 1] = ["chromium"];

/// Programs that build images and layouts, and load archives of them. They are separate so that a
/// change of one list does not download the other again.
const CONTAINERS: [&str; 4] = ["podman", "buildah", "umoci", "skopeo"];

/// A builder of images of machines, with the plugin for Azure.
const PACKER: [&str; 1] = ["packer"];

/// Downloads and unpacks the packages. Returns the folder that takes the place of `/`.
pub fn install() -> Result<PathBuf, String> {
    unpacked("debian", &PACKAGES)
}

/// The same for the programs that build images.
pub fn containers() -> Result<PathBuf, String> {
    unpacked("containers", &CONTAINERS)
}

/// The same for the browser.
pub fn browser() -> Result<PathBuf, String> {
    unpacked("chromium", &BROWSER)
}

/// The same for Packer.
pub fn packer() -> Result<PathBuf, String> {
    unpacked("packer", &PACKER)
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
        // Installed packages are downloaded, too, but only dependencies that are not installed.
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

/// An `apt-get` that keeps its lists and archives in `folder`.
fn apt(folder: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    for (name, path) in [("Dir::State", "state"), ("Dir::Cache", "cache")] {
        apt.arg("-o").arg(format!("{name}={}", folder.join(path).display()));
    }
    apt.args(["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Debug::NoLocking=true"]);
    apt.args(["-o", "APT::Sandbox::User=", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// The library folders below `root`.
fn libraries(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path());
    folders.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).collect()
}

/// Adds these programs and their libraries to the environment of a command for the peer `need`. The
/// folders in `before` take precedence.
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

/// Passes the browser to a command: its executable in `CHROMIUM`, and the path of its libraries.
pub fn with_browser(command: &mut Command) {
    let root = browser().expect("it is there, since the peer is ready");
    if root == Path::new("/") {
        command.env("CHROMIUM", "/usr/bin/chromium");
        return;
    }
    // `/usr/bin/chromium` is a script that starts this executable only where it is installed.
    command.env("CHROMIUM", root.join("usr/lib/chromium/chromium"));
    let folders = libraries(&root).into_iter();
    let folders = folders.flat_map(|folder| [folder.join("pulseaudio"), folder]);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
}

/// The library that changes a program's clock when it is preloaded.
pub fn faketime() -> PathBuf {
    let root = needs::folder(Need::Faketime);
    let named = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    let mut found = libraries(root).into_iter().map(named).filter(|path| path.exists());
    found.next().expect("faketime is where Debian has it")
}
