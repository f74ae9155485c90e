//! A command that fails, with its exit code.

use super::finish;
use std::process::Command;

/// A failure with one clear line on stderr and nothing on stdout.
pub fn refused(command: &mut Command, code: i32, says: &[&str]) {
    let (exit, stdout, stderr) = finish(command);
    assert_eq!((exit, stdout.as_str()), (code, ""), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    for words in says {
        assert!(stderr.contains(words), "'{words}' is not in: {stderr}");
    }
}
