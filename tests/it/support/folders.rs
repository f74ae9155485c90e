//! The files of a folder with their modes and contents, and commands under a mask of modes.

use super::finish;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What lies below a folder, by its name there: what it is, its mode, and its bytes or where it leads.
pub type Lying = BTreeMap<String, (char, u32, Vec<u8>)>;

/// Everything below a folder.
pub fn everything(root: &Path) -> Lying {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mode = meta.permissions().mode() & 0o7777;
            let (kind, bytes) = if meta.is_symlink() {
                ('l', std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
            } else if meta.is_dir() {
                folders.push(path);
                ('d', Vec::new())
            } else {
                ('f', std::fs::read(&path).unwrap())
            };
            found.insert(name, (kind, mode, bytes));
        }
    }
    found
}

pub fn hidden(root: &Path) -> Vec<String> {
    everything(root)
        .into_keys()
        .filter(|name| name.split('/').any(|part| part.starts_with('.')))
        .collect()
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command under a umask.
pub fn under(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

pub fn refused(command: &mut Command, words: &[&str]) {
    let (code, _, err) = finish(command);
    assert_ne!(code, 0, "{words:?}");
    for word in words {
        assert!(err.contains(word), "'{word}' is not in: {err}");
    }
}
