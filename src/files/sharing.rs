//! Checks who else may write to a folder. Anyone who may write to a store decides what its catalog
//! says, and anyone who may write to the folders within it decides what the next run finds. So only
//! its owner may write to a store.
//!
//! The rules:
//! - A folder that everyone may write to is refused, even with the sticky bit (`/tmp`): that
//!   prevents others from removing existing files, and not from creating missing ones first.
//! - A folder that a group may write to is refused, unless the group is the private one of its
//!   owner, which is how the umask 002 of many distributions works: a group with the user's number,
//!   or one without other members. A group that cannot be looked up (in a directory service) counts
//!   as shared.
//! - A file system without modes (CIFS, FAT, Windows drives in WSL) reports the same mode for every
//!   folder. This is detected with a new folder that should be private; if it does not appear so,
//!   nothing is refused.
//! - In a container whose volume belongs to a group (`fsGroup`), so does a folder in the volume.
//!   azimg creates that folder so that only its owner may write to it.

use crate::error::Result;
use std::path::Path;

/// An error if anyone but its owner may write to a folder. A folder that does not exist passes,
/// since it will be created private.
#[cfg(not(unix))]
pub fn refuse_shared(_: &Path) -> Result<()> {
    Ok(())
}

/// An error if anyone but its owner may write to a folder. A folder that does not exist passes,
/// since it will be created private.
#[cfg(unix)]
pub fn refuse_shared(path: &Path) -> Result<()> {
    use crate::error::{Error, ErrorKind};
    let Ok(found) = path.metadata() else { return Ok(()) };
    let Some(who) = writers(&found) else { return Ok(()) };
    if !preserves_modes(path) {
        tracing::warn!(
            folder = %path.display(),
            "the file system does not report who can write to the folder"
        );
        return Ok(());
    }
    let path = path.display();
    let text = format!(
        "{who} can write to the store {path}, and so change the catalog: remove that access (chmod \
         -R go-w {path}), or use a folder in it with --store, which azimg creates with write \
         access only for you"
    );
    Err(Error::new(ErrorKind::Denied, text))
}

/// Who may write to a file or folder besides its owner.
#[cfg(unix)]
pub(super) fn writers(found: &std::fs::Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    if found.mode() & 0o002 != 0 {
        return Some("every user of this machine");
    }
    let is_shared = found.mode() & 0o020 != 0
        && !is_private(found.uid(), found.gid(), &read("/etc/passwd"), &read("/etc/group"));
    is_shared.then_some("its group")
}

/// Who may write to a file or folder besides its owner. Unknown here.
#[cfg(not(unix))]
pub(super) fn writers(_: &std::fs::Metadata) -> Option<&'static str> {
    None
}

/// Whether the file system of a folder keeps modes: a new private folder appears as private.
#[cfg(unix)]
pub(super) fn preserves_modes(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mut probe = tempfile::Builder::new();
    probe.prefix(".azimg-probe-").permissions(std::fs::Permissions::from_mode(0o700));
    let Ok(probe) = probe.tempdir_in(path) else { return true };
    let found = probe.path().metadata();
    found.map_or(true, |found| super::at::is_own(&found) && !super::at::is_open_to_others(&found))
}

/// Whether the file system of a folder keeps modes. Assumed here.
#[cfg(not(unix))]
pub(super) fn preserves_modes(_: &Path) -> bool {
    true
}

/// Whether a group has no members besides `user` and root, by the content of `/etc/passwd` and
/// `/etc/group`.
#[cfg(unix)]
fn is_private(user: u32, group: u32, users: &str, groups: &str) -> bool {
    // The lines are `name:x:uid:gid:…` and `name:x:gid:member,member`.
    let users: Vec<(&str, Option<u32>, Option<u32>)> = users
        .lines()
        .filter_map(|line| {
            let mut cells = line.split(':');
            let (name, number) = (cells.next()?, cells.nth(1)?.parse().ok());
            Some((name, number, cells.next()?.parse().ok()))
        })
        .collect();
    let is_allowed = |name: &str| {
        name == "root" || users.iter().any(|known| known.0 == name && known.1 == Some(user))
    };
    let members = groups.lines().find_map(|line| {
        let cells: Vec<&str> = line.split(':').collect();
        (cells.get(2)?.parse() == Ok(group)).then(|| cells.get(3).copied().unwrap_or_default())
    });
    let has_others = members
        .into_iter()
        .flat_map(|members| members.split(','))
        .any(|member| !member.trim().is_empty() && !is_allowed(member.trim()));
    // Distributions give root's own group to accounts that are not used to sign in (sync, halt).
    let is_primary_of_others = group != 0
        && users
            .iter()
            .any(|known| known.2 == Some(group) && known.1 != Some(user) && known.1 != Some(0));
    let is_known = user == group || members.is_some();
    is_known && !has_others && !is_primary_of_others
}

#[cfg(all(test, unix))]
mod tests {
    use super::is_private;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nsync:x:4:0:sync:/bin:/bin/sync\n\
        ann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1002::/home/bob:/bin/sh\n\
        cid:x:1003:100::/home/cid:/bin/sh\ndan:x:1004:100::/home/dan:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nusers:x:100:\nann:x:1000:\nbob:x:1002:bob,root\n\
        team:x:2000:ann,bob\nempty:x:2001:\n";

    #[test]
    fn group_is_private_if_it_has_no_other_member() {
        for (what, user, group, expected) in [
            ("the user's own, by its number", 1000, 1000, true),
            ("the user's own, of another number", 1001, 1002, true),
            ("root's, with accounts that nobody uses", 0, 0, true),
            ("root's group, of another's folder", 1000, 0, true),
            ("one for all users", 1003, 100, false),
            ("a team's", 1000, 2000, false),
            ("another user's own", 1000, 1002, false),
            ("an empty one", 1000, 2001, true),
            ("one that is not known here", 1000, 5000, false),
            ("a number that nobody knows, the same for both", 70_000, 70_000, true),
        ] {
            assert_eq!(is_private(user, group, USERS, GROUPS), expected, "{what}");
        }
        let shared = GROUPS.replace("ann:x:1000:", "ann:x:1000:ann,bob");
        assert!(!is_private(1000, 1000, USERS, &shared), "a second member");
        assert!(is_private(1000, 1000, "", ""), "a container without lists");
    }
}
